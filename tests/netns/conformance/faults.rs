//! Crashes and failures between two calls. While they go on a stranger tries the door without pause;
//! it is protected before and after, so he must never come in.

use super::backend::Backend;
use super::site::*;
use super::tools::Tools;
use crate::netns::{CLIENT_V4, SERVER, STRANGER};
use opensesame_spa::firewall::{DryRun, Firewall, Opening};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What was protected before.
const OLD: [&str; 1] = ["tcp/22"];
/// Set in the process that is to fail: the backend, and where its tools are.
const INSIDE: &str = "OPENSESAME_TEST_INSIDE";
const BIN: &str = env!("CARGO_BIN_EXE_opensesame-spa");

/// Does something while the stranger tries tcp/22: how often he tried, and how often he came in.
fn watched(site: &Site, work: impl FnOnce()) -> (usize, usize) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            site.world.enter(STRANGER, || {
                let (mut tries, mut came, mut open) = (0, 0, VecDeque::new());
                loop {
                    let last = over.load(Ordering::Relaxed);
                    for to in ["10.77.2.1:22", "[fd77:2::1]:22"] {
                        open.push_back(begin(to.parse().unwrap()));
                        tries += 1;
                    }
                    std::thread::sleep(Duration::from_millis(2));
                    // Each has some time to come in.
                    let keep = if last { 0 } else { 40 };
                    while open.len() > keep {
                        came += usize::from(open.pop_front().unwrap().peer_addr().is_ok());
                    }
                    if last {
                        return (tries, came);
                    }
                }
            })
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let counted = stranger.join().unwrap();
        println!("{} attempts of the stranger, {} came in", counted.0, counted.1);
        done.unwrap_or_else(|e| std::panic::resume_unwind(e));
        counted
    })
}

/// The steps that are interrupted: a sync with live leases, one more, one less.
fn steps(firewall: &mut dyn Firewall, mut after: impl FnMut()) -> Result<(), String> {
    let text = |e: opensesame_spa::firewall::Error| e.to_string();
    firewall.sync(&both("tcp/22", 900), now()).map_err(text)?;
    after();
    firewall.open(&both("tcp/80", 900), now()).map_err(text)?;
    after();
    firewall.close(&[element(CLIENT_V4, "tcp/22")], now()).map_err(text)?;
    after();
    Ok(())
}

/// What is open after all steps.
fn wanted() -> Vec<Opening> {
    [&both("tcp/22", 900)[1..], &both("tcp/80", 900)].concat()
}

/// The process that is to fail. In an ordinary run: that these are the steps.
pub fn inside() {
    let Ok(what) = std::env::var(INSIDE) else {
        let (mut dry, mut done) = (DryRun::new(&shield(&PROTECTED)), 0);
        steps(&mut dry, || done += 1).unwrap();
        let elements = |list: Vec<Opening>| list.iter().map(|o| o.element).collect::<BTreeSet<_>>();
        assert_eq!((done, elements(dry.openings(now()))), (3, elements(wanted())));
        return;
    };
    let (name, directory) = what.split_once(' ').unwrap();
    let backend = Backend::named(name);
    let directories = match directory {
        "" => opensesame_spa::firewall::iptables::Options::default().directories,
        other => vec![PathBuf::from(other)],
    };
    let made = backend.firewall_with(&shield(&PROTECTED), directories);
    let done = made.map_err(|e| e.to_string()).and_then(|mut f| steps(f.as_mut(), || {}));
    match done {
        Ok(()) => println!("all steps done"),
        Err(e) => panic!("{e}"),
    }
}

fn inside_argv() -> Vec<String> {
    let own = std::env::current_exe().unwrap().display().to_string();
    [own.as_str(), "--exact", "inside", "--nocapture"].map(String::from).to_vec()
}

/// The states before, after each step, and after a fresh sync of what is wanted; each exactly.
struct States {
    old: String,
    between: Vec<String>,
    healed: String,
}

impl States {
    fn find(site: &Site, wanted: &[Opening]) -> States {
        site.wall(&OLD).with(|f, _| f.uninstall()).unwrap();
        let (_, came) = watched(site, || std::thread::sleep(Duration::from_millis(100)));
        assert!(came > 0, "it is open without us");
        let state = || site.reader().state(&site.world);
        let mut wall = site.shielded(wanted);
        assert_eq!(site.count(), wanted.len());
        let healed = state();
        wall.with(|f, _| f.uninstall()).unwrap();
        reset(site);
        let old = state();
        let mut between = Vec::new();
        let mut wall = site.wall(&PROTECTED);
        wall.with(|f, _| steps(f, || between.push(state()))).unwrap();
        assert_eq!(between.len(), 3);
        reset(site);
        assert_eq!(state(), old);
        States { old, between, healed }
    }

    /// Heals, sees that it is whole, and goes back to the start.
    fn heal(&self, site: &Site, wanted: &[Opening], what: &str) {
        site.shielded(wanted);
        assert_eq!(site.reader().state(&site.world), self.healed, "{what}");
        reset(site);
    }
}

fn reset(site: &Site) {
    site.wall(&OLD).sync(&both("tcp/22", 600)).unwrap();
}

/// Runs it under strace(1).
fn traced(site: &Site, argv: &[String], options: &[&str]) -> Output {
    let mut command = site.world.command(SERVER, "strace");
    command.args(["-f", "-qq"]).args(options).args(argv);
    command.env(INSIDE, "nftables ").output().unwrap()
}

/// How often it makes this call.
fn calls(site: &Site, argv: &[String], call: &str) -> usize {
    let file = tempfile::NamedTempFile::new().unwrap();
    let trace = format!("trace={call}");
    let options = ["-o", file.path().to_str().unwrap(), "-e", trace.as_str()];
    let out = traced(site, argv, &options);
    assert!(out.status.success(), "{out:?}");
    let text = std::fs::read_to_string(file.path()).unwrap();
    text.lines().filter(|l| l.contains(&format!("{call}("))).count()
}

/// nftables: each netlink call fails, or the process is killed before it; the steps from inside, and
/// the program itself.
fn netlink(site: &Site, injections: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("s/server.toml").display().to_string();
    let s = dir.path().join("s").display().to_string();
    let listen = ["--listen", "[::]:62201", "--backend", "nftables"];
    site.world.run(SERVER, &[&[BIN, "init", "--dir", &s][..], &listen].concat());
    let text = std::fs::read_to_string(&config).unwrap();
    let ports = format!("[\"{}\"]", PROTECTED.join("\", \""));
    std::fs::write(&config, text.replace("[\"tcp/22\"]", &ports)).unwrap();
    let shield_only = [BIN, "serve", "--shield-only", "--config", &config].map(String::from);
    for (argv, wanted) in [(inside_argv(), wanted()), (shield_only.to_vec(), vec![])] {
        let states = States::find(site, &wanted);
        // The program takes the same steps for its sync.
        let some = if wanted.is_empty() { &injections[..1] } else { injections };
        never_open(site, || {
            for (call, how) in some {
                inject(site, &argv, &states, &wanted, call, how);
            }
        });
    }
}

fn inject(
    site: &Site,
    argv: &[String],
    states: &States,
    wanted: &[Opening],
    call: &str,
    how: &str,
) {
    let most = calls(site, argv, call);
    assert!(most > 15, "{most} times {call}");
    states.heal(site, wanted, "without faults");
    let mut failed = 0;
    for n in 1..=most {
        let what = format!("{} {call} {how} {n}", argv[1]);
        let inject = format!("inject={call}:{how}:when={n}");
        let trace = format!("trace={call}");
        let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
        let out = traced(site, argv, &options);
        failed += usize::from(!out.status.success());
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).to_string();
        let says = ["busy: ", "refused: ", "missing: ", "no right"];
        let clear = says.iter().any(|s| said.contains(s)) || how.starts_with("signal");
        assert!(out.status.success() || clear, "{what}: {said}");
        let state = site.reader().state(&site.world);
        let known =
            state == states.old || state == states.healed || states.between.contains(&state);
        assert!(known, "{what}: neither old nor new: {state}");
        states.heal(site, wanted, &what);
    }
    println!("{} {call} {how}: {failed} of {most} runs failed", argv[1]);
    // What can pass by itself is tried again at once.
    let passes = how.contains("EINTR") || call == "recvfrom";
    assert!(failed == most || !how.starts_with("signal"), "{failed} of {most} were killed");
    assert!(failed > 0 || passes, "{how}");
}

/// iptables: the tool number `at` of a run does what these lines of shell say. What a run says if
/// it fails must have `says` in it.
fn tools(site: &Site, lines: &str, says: &str, mut last: impl FnMut(usize, usize, bool) -> bool) {
    let tools = Tools::new(lines);
    let states = States::find(site, &wanted());
    let run = |n: usize| {
        tools.set("at", n);
        tools.set("calls", 0);
        let argv = inside_argv();
        let mut command = site.world.command(SERVER, &argv[0]);
        let environment = format!("{} {}", site.backend.name(), tools.path().display());
        command.args(&argv[1..]).env(INSIDE, &environment).output().unwrap()
    };
    let out = run(99_999);
    assert!(out.status.success(), "{out:?}");
    let most = tools.get("calls");
    assert!(most > 15, "{most} tools");
    states.heal(site, &wanted(), "without faults");
    let mut failed = 0;
    never_open(site, || {
        for n in 1..200 {
            let out = run(n);
            failed += usize::from(!out.status.success());
            let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).to_string();
            assert!(out.status.success() || said.contains(says), "{n}: {said}");
            states.heal(site, &wanted(), &format!("{n} of {most}"));
            if last(n, most, out.status.success()) {
                println!("{failed} of {n} runs failed");
                // Without what can be done without, the rest goes on.
                assert!(failed * 3 > n, "{failed} of {n}");
                return;
            }
        }
        panic!("no end");
    });
}

/// From a state in which it is shut, to others in which it is.
fn never_open(site: &Site, work: impl FnOnce()) {
    let (tries, came) = watched(site, work);
    assert!(tries > 100, "{tries}");
    assert_eq!(came, 0, "of {tries}");
}

/// Killed before each call to the kernel, or each tool; or ipset before each of its own calls.
pub fn killed(site: &Site) {
    match site.backend {
        Backend::Nftables => netlink(site, &[("sendto", "signal=SIGKILL")]),
        Backend::Iptables { ipset, legacy } => {
            let kill = "if [ $n = $at ]; then kill -9 $PPID; exit 1; fi";
            tools(site, kill, "", |n, most, _| n == most);
            let within = "if [ $me = ipset ]; then exec strace -qq -o /dev/null \
                -e inject=sendto:signal=SIGKILL:when=$at /usr/sbin/ipset \"$@\"; fi";
            // It is the same program with both variants.
            if ipset && legacy {
                tools(site, within, "ended with a signal", |n, _, done| n > 20 && done);
            }
        }
    }
}

/// Each call fails once, and is answered by an error that is clear or by another try.
pub fn refused(site: &Site) {
    let broken = "if [ $n = $at ]; then echo it is broken >&2; exit 1; fi";
    match site.backend {
        Backend::Nftables => {
            let injections = [
                ("sendto", "error=EPERM"),
                ("sendto", "error=ENOBUFS"),
                ("sendto", "error=EINTR"),
                ("recvfrom", "error=ENOBUFS"),
            ];
            netlink(site, &injections);
        }
        Backend::Iptables { .. } => tools(site, broken, "it is broken", |n, most, _| n == most),
    }
}
