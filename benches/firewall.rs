//! What a grant costs in the kernel, and what 10,000 live leases do: `cargo bench --bench firewall`,
//! as root. In a network namespace of its own; prints the tables of `docs/performance.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: needs Linux");
}

#[cfg(target_os = "linux")]
fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    bench::run();
}

#[cfg(target_os = "linux")]
mod bench {
    use nix::sched::{CloneFlags, unshare};
    use nix::time::{ClockId, clock_gettime};
    use opensesame_spa::access::Refuse;
    use opensesame_spa::firewall::iptables::Options;
    use opensesame_spa::firewall::{Element, Firewall, Iptables, Nftables, Opening, Shield};
    use opensesame_spa::time::{Mono, Now, Unix};
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;
    use std::process::Command;
    use std::time::{Duration, Instant, SystemTime};

    /// Live leases.
    const MANY: u32 = 10_000;
    const ROUNDS: u32 = 60;
    /// Grants of one call.
    const TURN: usize = 100;

    fn now() -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
        Now { unix: Unix(wall.as_millis() as u64), mono: Mono(boot.as_millis() as u64) }
    }

    fn shield() -> Shield {
        let protected = vec![("tcp/22".parse().unwrap(), Refuse::Drop)];
        Shield { protected, listening: vec![62201], ..Shield::default() }
    }

    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0001 + n)
    }

    fn opening(n: u32, ms: u64) -> Opening {
        let from = address(n).to_string().parse().unwrap();
        let element = Element { from, to: "tcp/22".parse().unwrap() };
        Opening { element, until: now().mono.plus(ms) }
    }

    fn output(argv: &[&str]) -> String {
        let out = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
        assert!(out.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn has(program: &str) -> bool {
        Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
    }

    /// Median, least and most of many runs, in milliseconds.
    fn measure(mut work: impl FnMut(u32)) -> [f64; 3] {
        let mut all: Vec<f64> = (0..ROUNDS)
            .map(|n| {
                let start = Instant::now();
                work(n);
                start.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        all.sort_by(f64::total_cmp);
        [all[all.len() / 2], all[0], all[all.len() - 1]]
    }

    fn row(name: &str, [median, least, most]: [f64; 3]) {
        println!("| {name} | {median:.2} | {least:.2} | {most:.2} |");
    }

    fn iptables(legacy: bool, ipset: bool) -> Box<dyn Firewall> {
        let options = Options { legacy: Some(legacy), ipset, ..Options::default() };
        Box::new(Iptables::with(&shield(), options).unwrap())
    }

    /// One grant by the backend.
    fn grants(name: &str, firewall: &mut dyn Firewall) {
        firewall.sync(&[], now()).unwrap();
        row(name, measure(|n| firewall.open(&[opening(n, 600_000)], now()).unwrap()));
        firewall.uninstall().unwrap();
    }

    /// One grant by one process of the system's tool, into our own rules.
    fn process(name: &str, firewall: &mut dyn Firewall, argv: impl Fn(String) -> Vec<String>) {
        firewall.sync(&[], now()).unwrap();
        let run = |n: u32| {
            let argv = argv(address(n).to_string());
            output(&argv.iter().map(String::as_str).collect::<Vec<_>>());
        };
        row(name, measure(run));
        firewall.uninstall().unwrap();
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_string).collect()
    }

    fn latency() {
        println!("| one grant by | median ms | least ms | most ms |\n|---|---|---|---|");
        grants("nftables backend (netlink)", &mut Nftables::new(&shield()).unwrap());
        process("one `nft` process", &mut Nftables::new(&shield()).unwrap(), |from| {
            let set = "nft add element inet opensesame lease4";
            let mut argv = words(set);
            argv.push(format!("{{ {from} . tcp . 22 timeout 10m }}"));
            argv
        });
        for (legacy, variant) in [(false, "nft"), (true, "legacy")] {
            let name = format!("one `iptables-{variant}` process");
            process(&name, iptables(legacy, false).as_mut(), |from| {
                let rule = format!("-I OPENSESAME-LEASE 1 -s {from} -p tcp --dport 22 -j RETURN");
                words(&format!("iptables-{variant} -w 5 -t mangle {rule}"))
            });
            let with = |how| format!("iptables backend ({variant}), {how}");
            grants(&with("ipset"), iptables(legacy, true).as_mut());
            grants(&with("rules with a time"), iptables(legacy, false).as_mut());
        }
    }

    /// Which of our leases the system's tool lists.
    fn listed(nft: bool) -> BTreeSet<Ipv4Addr> {
        let text = match nft {
            true => output(&["nft", "list", "set", "inet", "opensesame", "lease4"]),
            false => output(&["ipset", "save", "opensesame4"]),
        };
        let words = text.split([' ', ',', '\t', '\n']);
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// 10,000 leases that end one after the other: how long after its end one was still seen, and how
    /// long before it one had gone for good. (A listing can leave out what is there while the kernel
    /// shrinks its table.)
    fn endings(name: &str, nft: bool, firewall: &mut dyn Firewall) {
        let empty = cost(firewall, 0);
        let all: Vec<Opening> = (0..MANY).map(|n| opening(n, 25_000 + u64::from(n))).collect();
        let start = Instant::now();
        for turn in all.chunks(TURN) {
            firewall.open(turn, now()).unwrap();
        }
        let filled = start.elapsed().as_secs_f64() * 1e3;
        let full = cost(firewall, MANY);
        let mut ends: Vec<(u64, u64)> = vec![(0, 0); all.len()];
        let (mut looks, limit) = (0, now().mono.plus(60_000));
        loop {
            let before = now().mono;
            let there = listed(nft);
            let after = now().mono;
            looks += 1;
            assert!(looks > 1 || there.len() == all.len(), "they end before the first look");
            for (n, (seen, gone)) in ends.iter_mut().enumerate() {
                match there.contains(&address(n as u32)) {
                    true => (*seen, *gone) = (before.0, 0),
                    false if *gone == 0 => *gone = after.0,
                    false => {}
                }
            }
            if there.is_empty() || after > limit {
                break;
            }
        }
        let pairs = || all.iter().map(|o| o.until.0).zip(&ends);
        let late = pairs().map(|(until, (seen, _))| seen.saturating_sub(until)).max();
        let early = pairs().map(|(until, (_, gone))| until.saturating_sub(*gone)).max();
        let (late, early, ratio) = (late.unwrap(), early.unwrap(), full / empty);
        println!(
            "| {name} | {empty:.2} | {full:.2} | {ratio:.2} | {filled:.0} | {late} | {early} | {looks} |"
        );
        firewall.uninstall().unwrap();
    }

    /// One more lease with so many there, in milliseconds: the median.
    fn cost(firewall: &mut dyn Firewall, there: u32) -> f64 {
        let mut all: Vec<f64> = (0..ROUNDS)
            .map(|n| {
                let one = opening(there + 1 + n, 600_000);
                let start = Instant::now();
                firewall.open(&[one], now()).unwrap();
                let spent = start.elapsed().as_secs_f64() * 1e3;
                firewall.close(&[one.element], now()).unwrap();
                spent
            })
            .collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    }

    pub(super) fn run() {
        if !["nft", "iptables-nft", "iptables-legacy", "ipset"].into_iter().all(has) {
            println!("SKIPPED: needs nft, iptables-nft, iptables-legacy and ipset");
            return;
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        output(&["ip", "link", "set", "lo", "up"]);
        latency();
        println!(
            "\n| 10,000 live leases | 1st, ms | 10,001st, ms | ratio | all in calls of 100, ms | latest seen after its end, ms | gone before its end, ms | looks |\n|{}",
            "---|".repeat(8)
        );
        let mut nftables = Nftables::new(&shield()).unwrap();
        nftables.sync(&[], now()).unwrap();
        endings("nftables", true, &mut nftables);
        let mut ipset = iptables(false, true);
        ipset.sync(&[], now()).unwrap();
        endings("ipset", false, ipset.as_mut());
    }
}
