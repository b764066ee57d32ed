//! The whole program measured from outside, side by side with others of its kind in the same run:
//! `scripts/bench`, or `cargo bench --bench whole -- [--only NAME] [--seconds N] [--server BINARY]
//! [--peers DIRECTORY]`. Needs root and Linux; everything happens in network namespaces of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, unreachable_pub)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: needs Linux");
}

#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod crowd;
#[cfg(target_os = "linux")]
mod door;
#[cfg(target_os = "linux")]
mod flood;
#[cfg(target_os = "linux")]
mod fwknop;
#[cfg(target_os = "linux")]
mod letmein;
#[cfg(target_os = "linux")]
mod ours;
#[cfg(target_os = "linux")]
mod packets;
#[cfg(target_os = "linux")]
mod peers;
#[cfg(target_os = "linux")]
mod queue;
#[cfg(target_os = "linux")]
mod space;
#[cfg(target_os = "linux")]
mod speed;
#[cfg(target_os = "linux")]
mod storm;
#[cfg(target_os = "linux")]
mod table;

#[cfg(target_os = "linux")]
fn main() {
    run::main();
}

#[cfg(target_os = "linux")]
pub use run::Bench;

#[cfg(target_os = "linux")]
mod run {
    use crate::letmein::Letmein;
    use crate::table::Row;
    use crate::{crowd, flood, fwknop, letmein, space, speed, storm, table};
    use std::io::Read;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::time::{Duration, Instant};

    /// What the run was told.
    pub struct Bench {
        /// The program.
        pub server: String,
        /// How long a flood lasts.
        pub time: Duration,
        /// The directory of the peers' programs that are in no package.
        peers: String,
    }

    impl Bench {
        pub fn letmein(&self) -> Option<Letmein> {
            letmein::obstacle(&self.peers).is_none().then(|| Letmein::new(&self.peers))
        }
    }

    type Measurement = fn(&Bench) -> Vec<Row>;

    /// In this order; the names are those of `--only`.
    const ALL: [(&str, Measurement); 8] = [
        ("open", speed::openings_side_by_side),
        ("garbage", storm::garbage_flood),
        ("forged", storm::forged_flood),
        ("crowd", crowd::crowd),
        ("rate", crowd::opens),
        ("leases", speed::with_leases),
        ("client", speed::clients),
        ("idle", crowd::idle),
    ];

    pub fn main() {
        let args: Vec<String> = std::env::args().skip(1).collect();
        if let Some(at) = args.iter().position(|a| a == flood::ROLE) {
            return flood::run(&args[at + 1..]);
        }
        if !nix::unistd::geteuid().is_root() {
            return println!("SKIPPED: needs root");
        }
        if let Some(tool) = ["ip", "nft", "unshare"].into_iter().find(|t| !crate::peers::has(t)) {
            return println!("SKIPPED: needs the program `{tool}`");
        }
        let value = |name: &str| {
            let at = args.iter().position(|a| a == name)?;
            args.get(at + 1).cloned()
        };
        let program = env!("CARGO_BIN_EXE_opensesame-spa").to_string();
        let bench = Bench {
            server: value("--server").unwrap_or(program),
            time: Duration::from_secs(
                value("--seconds").map_or(10, |s| s.parse().unwrap()).clamp(1, 50),
            ),
            peers: value("--peers").unwrap_or_default(),
        };
        end_on_signals();
        space::sweep();
        machine(&bench);
        let only = value("--only");
        let mut rows = Vec::new();
        for (name, measure) in ALL.iter().filter(|(n, _)| only.as_ref().is_none_or(|o| o == n)) {
            println!("\n{name}");
            let begin = Instant::now();
            match catch_unwind(AssertUnwindSafe(|| measure(&bench))) {
                Ok(some) => rows.extend(some),
                Err(_) => rows.push(Row::failed(name)),
            }
            println!("  ({:.0} s)", begin.elapsed().as_secs_f64());
        }
        space::sweep();
        table::print(&rows);
    }

    /// An interrupted run leaves nothing behind either.
    fn end_on_signals() {
        let (mut signals, end) = std::os::unix::net::UnixStream::pair().unwrap();
        for signal in [nix::libc::SIGINT, nix::libc::SIGTERM, nix::libc::SIGHUP] {
            signal_hook::low_level::pipe::register(signal, end.try_clone().unwrap()).unwrap();
        }
        std::thread::spawn(move || {
            let _ = signals.read(&mut [0]);
            space::sweep();
            std::process::exit(130);
        });
    }

    fn machine(bench: &Bench) {
        let field = |path: &str, name: &str| {
            let text = space::read(path);
            let line = text.lines().find_map(|l| l.strip_prefix(name)).map(str::to_string);
            line.unwrap_or_default().trim_matches([' ', '\t', ':']).to_string()
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let load = space::read("/proc/loadavg");
        println!("machine   {cores} cores, {}", field("/proc/cpuinfo", "model name"));
        println!("kernel    {}", space::read("/proc/sys/kernel/osrelease").trim());
        println!("load      {} when it began", load.split(' ').next().unwrap_or_default());
        println!("server    {}", space::output(&[&bench.server, "--version"]).trim());
        println!("nft       {}", space::output(&["nft", "--version"]).trim());
        match fwknop::obstacle() {
            None => println!(
                "fwknopd   {}, {}",
                fwknop::version(),
                space::output(&["iptables", "--version"]).trim()
            ),
            Some(why) => println!("fwknopd   SKIPPED: {why}"),
        }
        match letmein::obstacle(&bench.peers) {
            None => println!("letmein   {}", letmein::version(&bench.peers)),
            Some(why) => println!("letmein   SKIPPED: {why}"),
        }
    }
}
