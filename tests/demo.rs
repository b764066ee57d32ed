//! The demo as people run it: it must show what it says, and it must notice when that is not so.
#![cfg(target_os = "linux")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

const BIN: &str = env!("CARGO_BIN_EXE_opensesame-spa");
const NOBODY: u32 = 65_534;

/// Whether the machine forbade it; in CI that is a failure.
fn forbidden(out: &Output) -> bool {
    let said = String::from_utf8_lossy(&out.stderr);
    skipped(said.contains("namespaces are forbidden here").then(|| said.trim_end().into()))
}

fn skipped(why: Option<String>) -> bool {
    if let Some(why) = &why {
        println!("SKIPPED {}: {why}", std::thread::current().name().unwrap_or("?"));
        assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: {why}");
    }
    why.is_some()
}

fn installed(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|d| Path::new(d).join(program).exists())
}

fn missing(programs: &[&str]) -> bool {
    let absent = programs.iter().find(|p| !installed(p));
    skipped(absent.map(|p| format!("needs the program `{p}`")))
}

/// Every step is there, on both families, and every verdict is good.
fn assert_shown(out: &Output) {
    let (text, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{}\n{text}\n{said}", out.status);
    assert!(!text.contains("FAILED"), "{text}");
    assert!(!text.contains('\x1b'), "colours although nobody looks: {text}");
    assert!(text.contains("24 checks, all as they should be"), "{text}");
    let (four, six) = text.split_once("\nIPv6\n").expect("a part for IPv6");
    for step in 2..=8 {
        for part in [four, six] {
            let start = format!("  {step}  ");
            let found = part.lines().filter(|l| l.starts_with(&start) && l.ends_with(" ok"));
            assert!(found.count() > 0, "step {step} is missing:\n{part}");
        }
    }
    let shut = |l: &&str| l.contains("tcp/2222 shut");
    assert_eq!(text.lines().filter(shut).count(), 12, "{text}");
}

#[test]
fn shows_every_step() {
    let out = Command::new(BIN).arg("demo").output().expect("demo");
    if !forbidden(&out) {
        assert_shown(&out);
    }
}

#[test]
fn shows_every_step_with_iptables() {
    if missing(&["iptables", "ip6tables"]) {
        return;
    }
    let out = Command::new(BIN).args(["demo", "--backend", "iptables"]).output().expect("demo");
    if !forbidden(&out) {
        assert_shown(&out);
    }
}

#[test]
fn needs_no_root() {
    // Where the tests do not run as root, this is what every other test does anyway.
    let dir = tempfile::tempdir().expect("directory");
    let copy = dir.path().join("opensesame-spa");
    fs::copy(BIN, &copy).expect("copy");
    for path in [dir.path(), &copy] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("mode");
    }
    let mut command = Command::new(&copy);
    if geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let out = command.arg("demo").current_dir("/").output().expect("demo");
    if !forbidden(&out) {
        assert_shown(&out);
        assert!(String::from_utf8_lossy(&out.stdout).contains("without root"));
    }
}

/// A demo on its way, killed at the latest when the test ends.
struct Running(Child);

impl Running {
    fn start() -> Running {
        let mut command = Command::new(BIN);
        command.arg("demo").stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("demo"))
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads lines until one starts like that; all that was read, `None` when it never came.
fn read_until(lines: &mut impl BufRead, start: &str) -> Option<String> {
    let mut read = String::new();
    loop {
        let from = read.len();
        if lines.read_line(&mut read).expect("standard output") == 0 {
            return None;
        }
        if read[from..].starts_with(start) {
            return Some(read);
        }
    }
}

/// The parent and the state (proc_pid_stat(5)) of a process.
fn stat(pid: i32) -> Option<(i32, char)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// A process is over when it is gone, or waits only to be asked how it ended.
fn over(pid: i32) -> bool {
    stat(pid).is_none_or(|(_, state)| matches!(state, 'Z' | 'X'))
}

fn wait_until_over(pids: &[i32]) {
    for _ in 0..300 {
        if pids.iter().all(|p| over(*p)) {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    panic!("still alive after 30 s: {pids:?}");
}

/// Children, their children and so on.
fn descendants(of: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids: Vec<i32> = all.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
    let parents: Vec<_> = pids.iter().filter_map(|p| Some((*p, stat(*p)?.0))).collect();
    let mut found = BTreeSet::from([of]);
    loop {
        let more = parents.iter().filter(|(_, parent)| found.contains(parent)).map(|(p, _)| *p);
        let more: BTreeSet<i32> = more.chain([of]).collect();
        if more.is_subset(&found) {
            found.remove(&of);
            return found.into_iter().collect();
        }
        found.extend(more);
    }
}

fn runs(pid: i32, word: &str) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|b| *b == 0).any(|arg| arg == word.as_bytes())
}

/// Deletes our table where the demo's server lives, and kills whoever would put it back.
fn take_the_shield_away(demo: i32) {
    let servers: Vec<i32> = descendants(demo).into_iter().filter(|p| runs(*p, "serve")).collect();
    assert!(!servers.is_empty(), "no server under {demo}");
    for server in &servers {
        // One may have died of another's end.
        let _ = kill(Pid::from_raw(*server), Signal::SIGKILL);
    }
    wait_until_over(&servers);
    let mut enter = Command::new("nsenter");
    enter.args(["-t", &demo.to_string(), "-n"]);
    if !geteuid().is_root() {
        enter.args(["-U", "--preserve-credentials"]);
    }
    let out =
        enter.args(["nft", "delete", "table", "inet", "opensesame"]).output().expect("nsenter");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn notices_that_the_shield_is_gone() {
    if missing(&["nft", "nsenter"]) {
        return;
    }
    let mut demo = Running::start();
    let mut lines = BufReader::new(demo.0.stdout.take().expect("pipe"));
    let Some(before) = read_until(&mut lines, "  4  ") else {
        let out = Command::new(BIN).arg("demo").output().expect("demo");
        assert!(forbidden(&out), "no step 4: {}", String::from_utf8_lossy(&out.stderr));
        return;
    };
    take_the_shield_away(demo.pid());
    let (mut after, mut said) = (String::new(), String::new());
    lines.read_to_string(&mut after).expect("the rest");
    demo.0.stderr.take().expect("pipe").read_to_string(&mut said).expect("errors");
    let status = demo.0.wait().expect("status");

    assert!(!before.contains("FAILED"), "{before}");
    assert!(after.contains("tcp/2222 open       FAILED: should be shut"), "{after}");
    assert!(!after.contains("all as they should be"), "{after}");
    assert!(said.contains("checks are not as they should be: step "), "{said}");
    assert_eq!(status.code(), Some(1), "{after}\n{said}");
}

#[test]
fn takes_everything_with_it_when_it_is_killed() {
    let mut demo = Running::start();
    let mut lines = BufReader::new(demo.0.stdout.take().expect("pipe"));
    if read_until(&mut lines, "  3  ").is_none() {
        let out = Command::new(BIN).arg("demo").output().expect("demo");
        assert!(forbidden(&out), "no step 3: {}", String::from_utf8_lossy(&out.stderr));
        return;
    }
    let family = descendants(demo.pid());
    assert!(family.len() >= 3, "two guests and a server: {family:?}");
    demo.0.kill().expect("kill");
    demo.0.wait().expect("status");
    wait_until_over(&family);
}

#[test]
fn says_what_forbids_namespaces_and_what_to_run_instead() {
    if missing(&["unshare", "setpriv"]) {
        return;
    }
    // A world without namespaces: the limit holds inside this user namespace only.
    let script = "echo 0 > /proc/sys/user/max_user_namespaces && \
                  exec setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin \"$0\" demo";
    let mut command = Command::new("unshare");
    let out = command.args(["-U", "-r", "sh", "-c", script, BIN]).output().expect("unshare");
    let said = String::from_utf8_lossy(&out.stderr);
    if skipped(said.starts_with("unshare: ").then(|| said.trim_end().into())) {
        return;
    }
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("user.max_user_namespaces is 0"), "{said}");
    assert!(said.contains("docker run --privileged"), "{said}");
    assert!(out.stdout.is_empty(), "{}", String::from_utf8_lossy(&out.stdout));
}
