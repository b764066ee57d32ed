//! Commands that run when leases begin and end.

use super::server::*;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use opensesame_spa::daemon::store::{Directory, Journal};
use opensesame_spa::engine::{Moment, Record};
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

const WORDS: &str = "\"--\", \"{client}\", \"{service}\", \"{address}\", \"{ports}\", \"{seconds}\", \"$(id); a b\"";

/// Each run appends its words, zeros behind them, and a line's end as the last, in one write.
const WRITE: &str = "printf '%s\\0' \"$OPENSESAME_EVENT\" \"$@\" '\n' >>\"$out/argv\"";

/// A server whose ssh has this script as its hooks; `$out` is where it can write. Timeout: seconds.
fn with(script: &str, timeout: u32) -> Option<Server> {
    let mut server = Server::new("nftables")?;
    let mode = |name: &str, mode| {
        std::fs::set_permissions(server.path(name), Permissions::from_mode(mode)).unwrap();
    };
    std::fs::create_dir(server.path("out")).unwrap();
    mode("out", 0o1777);
    mode("", 0o711);
    let out = server.path("out");
    std::fs::write(server.path("hook"), format!("#!/bin/sh\nout={}\n{script}\n", out.display()))
        .unwrap();
    mode("hook", 0o755);
    let command = format!("[\"{}\", {WORDS}]", server.path("hook").display());
    server.edit("s/server.toml", |text| {
        let hooks = format!("on-open = {command}\non-close = {command}\n[service.https]");
        text.replace("[service.https]", &hooks)
            + &format!("\n[hook]\nuser = \"daemon\"\ntimeout = \"{timeout}s\"\n")
    });
    server.listen(22);
    server.start();
    Some(server)
}

/// The words of each run so far, its event first.
fn argv(server: &Server) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(server.path("out/argv")).unwrap_or_default();
    let words = |line: &str| line.split_terminator('\0').map(str::to_string).collect();
    text.split_terminator("\0\n\0").map(words).collect()
}

fn events(server: &Server) -> Vec<String> {
    argv(server).iter().map(|words| words[0].clone()).collect()
}

fn is_there(server: &Server, name: &str) -> bool {
    server.path(&format!("out/{name}")).exists()
}

fn touch(server: &Server, name: &str) {
    File::create(server.path(&format!("out/{name}"))).unwrap();
}

fn close(server: &Server) {
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
}

/// The processes of the server's host that have this word in their command line.
fn processes(server: &Server, word: &str) -> Vec<u32> {
    let has = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|w| w == word.as_bytes())
    };
    server.processes().into_iter().filter(has).collect()
}

fn user(name: &str) -> String {
    let out = Command::new("id").args(["-u", name]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().into()
}

#[test]
fn open_and_close_run_with_exact_words_and_no_rights() {
    let look = format!(
        "cat /proc/$$/environ >\"$out/environ-$OPENSESAME_EVENT\"\n\
         cat /proc/$$/status >\"$out/status\"\n\
         ls -l /proc/$$/fd /proc/$$/cwd >\"$out/places\"\n\
         umask >\"$out/umask\"; cat /proc/$$/stat >\"$out/stat\"; cat >\"$out/stdin\"\n\
         printf 'a\\nb\\033[2J'; echo no >&2\n{WRITE}"
    );
    // A descriptor that whoever starts the server has left open.
    let kept = File::open("/etc/hostname").unwrap();
    fcntl(&kept, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let Some(mut server) = with(&look, 10) else { return };
    assert!(!server.run(SERVER, &["invite", "-x", "--config", "s/server.toml"]).status.success());
    assert!(!server.run(SERVER, &["invite", "a'b", "--config", "s/server.toml"]).status.success());
    // A service without hooks runs none.
    server.invite("web", &["--service", "https"]);
    server.says("reloaded: 2 clients");
    server.open("web", &["--port", "tcp/443"]);
    server.knows_leases(1);
    server.open("alice", &["--for=300s"]);
    eventually("on-open", || argv(&server).len() == 1);
    // An extension is no event.
    server.open("alice", &["--for=600s"]);
    eventually("extended", || server.leases().iter().any(|l| l["seconds"].as_u64().unwrap() > 300));
    close(&server);
    eventually("on-close", || argv(&server).len() == 2);
    server.says_all(&["on-close client=alice", "exit status 0"]);
    let mut seen = argv(&server);
    let seconds: u64 = seen[0][6].parse().unwrap();
    assert!((270..=300).contains(&seconds), "{seconds}");
    seen[0][6] = "300".into();
    let words =
        |event, seconds| [event, "--", "alice", "ssh", CLIENT_V4, "tcp/22", seconds, "$(id); a b"];
    assert_eq!(seen, [words("open", "300"), words("close", "0")]);
    // The environment is all of these, and nothing else.
    let environ = server.read("out/environ-close");
    let mut environ: Vec<&str> = environ.split_terminator('\0').collect();
    environ.sort_unstable();
    let address = format!("OPENSESAME_ADDRESS={CLIENT_V4}");
    let all = [
        address.as_str(),
        "OPENSESAME_CLIENT=alice",
        "OPENSESAME_EVENT=close",
        "OPENSESAME_PORTS=tcp/22",
        "OPENSESAME_SECONDS=0",
        "OPENSESAME_SERVICE=ssh",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    assert_eq!(environ, all);
    let status = server.read("out/status");
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().skip(1).map(str::to_string).collect::<Vec<_>>()
    };
    let daemon = user("daemon");
    assert_eq!(field("Uid:"), vec![daemon; 4]);
    assert!(!field("Gid:").contains(&"0".to_string()));
    assert_eq!(field("Groups:"), Vec::<String>::new());
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), ["1"]);
    let places = server.read("out/places");
    assert!(places.lines().any(|l| l.ends_with("0 -> /dev/null")), "{places}");
    assert!(places.lines().any(|l| l.ends_with("/cwd -> /")), "{places}");
    assert!(!places.contains("/etc/hostname") && !places.contains("socket:"), "{places}");
    assert_eq!((server.read("out/umask").trim(), server.read("out/stdin").as_str()), ("0077", ""));
    // pid, group and session are one (proc(5): fields 1, 5, 6).
    let stat = server.read("out/stat");
    let stat: Vec<&str> = stat.split_whitespace().collect();
    assert!(stat[0] == stat[4] && stat[0] == stat[5], "{stat:?}");
    // Told before and after, in the log, where no byte of it moves a cursor, and in the journal.
    server.says_all(&["hook: on-close client=alice", ": runs /"]);
    server.says_all(&["exit status 0", "it said: a\\nb\\u{1b}[2Jno"]);
    server.stop();
    let state = server.read("s/server.toml");
    let state = state.lines().find_map(|l| l.strip_prefix("state-dir = ")).unwrap();
    let disk = Directory::new(File::open(server.path(state.trim_matches('"'))).unwrap().into());
    let (_, history) = Journal::open(disk).unwrap();
    let moments: Vec<Moment> = history
        .records
        .iter()
        .filter_map(|r| if let Record::Hook(note) = r { Some(note.moment) } else { None })
        .collect();
    assert_eq!(moments, [Moment::Opening, Moment::Opened, Moment::Closing, Moment::Closed]);
}

#[test]
fn one_that_hangs_stops_nobody() {
    // By address: one sleeps, one leaves a child behind that holds its output, one leaves one in a
    // session of its own, one says too much.
    let script = format!(
        "case $4 in\n\
         10.88.0.1) sleep 611;;\n\
         10.88.0.2) sleep 612 & ;;\n\
         10.88.0.3) setsid sh -c 'touch '$out'/free; exec sleep 613' &\n\
         until [ -e $out/free ]; do sleep 0.05; done;;\n\
         10.88.0.4) head -c 10000000 /dev/zero | tr '\\0' x;;\n\
         esac\n{WRITE}"
    );
    let Some(server) = with(&script, 15) else { return };
    for n in 1..=5 {
        server.open("alice", &["--ip", &format!("10.88.0.{n}"), "--for=600s"]);
    }
    let on = |n: u8| format!("on-open client=alice service=ssh address=10.88.0.{n} ");
    server.says_all(&[&on(5), "exit status 0"]);
    server.says_all(&[&on(2), "exit status 0"]);
    server.says_all(&[&on(3), "exit status 0"]);
    server.says_all(&[&on(4), "exit status 0"]);
    // All this while the first sleeps.
    assert!(!server.log().contains("killed after its"));
    let log = server.log();
    let long = log.lines().find(|l| l.contains(&on(4)) && l.contains("it said: ")).unwrap();
    assert_eq!(long.split("it said: ").nth(1).unwrap(), "x".repeat(64 << 10));
    let hook = processes(&server, "hook-process");
    let status = std::fs::read_to_string(format!("/proc/{}/status", hook[0])).unwrap();
    let peak = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
    assert!(peak < 32 << 10, "{peak} kB");
    // What was left behind in the group is gone; what has left the group is its own affair.
    eventually("612 is gone", || processes(&server, "612").is_empty());
    assert_eq!(processes(&server, "613").len(), 1);
    assert_eq!(processes(&server, "611").len(), 1);
    server.says_all(&[&on(1), "killed after its 15 s"]);
    eventually("611 is gone", || processes(&server, "611").is_empty());
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    assert_eq!(processes(&server, "hook-process"), hook);
}

#[test]
fn eight_at_once() {
    let script =
        format!("touch \"$out/$4\"; until [ -e \"$out/go\" ]; do sleep 0.05; done; {WRITE}");
    let Some(server) = with(&script, 120) else { return };
    for n in 1..=10 {
        server.open("alice", &["--ip", &format!("10.88.0.{n}")]);
    }
    let begun = || (1..=10).filter(|n| is_there(&server, &format!("10.88.0.{n}"))).count();
    server.knows_leases(10);
    eventually("eight", || begun() >= 8);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(begun(), 8);
    touch(&server, "go");
    eventually("all", || events(&server).iter().filter(|e| *e == "open").count() == 10);
}

#[test]
fn a_close_is_run_after_a_crash_and_an_open_is_not_run_again() {
    // A close waits until it may end.
    let wait = "[ $OPENSESAME_EVENT = open ] || until [ -e \"$out/go\" ]; do sleep 0.05; done";
    let Some(mut server) = with(&format!("{WRITE}; {wait}"), 120) else { return };
    server.open("alice", &["--for=4s"]);
    server.open("alice", &["--ip=10.88.0.1", "--for=600s"]);
    eventually("opens", || argv(&server).len() == 2);
    server.says_all(&["address=10.88.0.1 ", "exit status 0"]);
    let ends = wall().plus(4_500);
    server.crash();
    std::thread::sleep(std::time::Duration::from_millis(ends.since(wall())));
    server.start();
    // It has ended while nobody was there; the other one lives.
    eventually("a close", || events(&server) == ["open", "open", "close"]);
    assert_eq!(argv(&server)[2][4], CLIENT_V4);
    assert_eq!(server.leases().len(), 1);
    // Killed while it runs, so nobody knows whether it has done its work: once more.
    server.crash();
    server.start();
    eventually("again", || events(&server) == ["open", "open", "close", "close"]);
    touch(&server, "go");
    server.says_all(&["on-close", CLIENT_V4, "exit status 0"]);
    // A clean stop and a start: nothing is owed but for the lease that lives.
    server.stop();
    server.start();
    server.order(&["evict", "10.88.0.1"]);
    eventually("the last", || argv(&server).len() == 5);
    assert_eq!(argv(&server)[4][..5], ["close", "--", "alice", "ssh", "10.88.0.1"]);
}

#[test]
fn a_hook_process_that_is_killed_is_started_again_and_the_close_still_runs() {
    let script =
        format!("{WRITE}\n[ $OPENSESAME_EVENT = open ] || [ -e \"$out/go\" ] || exec sleep 614");
    let Some(server) = with(&script, 120) else { return };
    server.open("alice", &[]);
    eventually("on-open", || argv(&server).len() == 1);
    let hook = processes(&server, "hook-process");
    // Revoked: told with the name that nobody has any more.
    server.order(&["revoke", "alice"]);
    eventually("it sleeps", || processes(&server, "614").len() == 1);
    touch(&server, "go");
    kill("KILL", &hook);
    eventually("again", || events(&server) == ["open", "close", "close"]);
    assert!(argv(&server).iter().all(|words| words[2] == "alice"));
    server.says_all(&["on-close client=alice", "exit status 0"]);
    // Its commands went with it.
    assert!(processes(&server, "614").is_empty());
    assert_ne!(processes(&server, "hook-process"), hook);
    server.says("[hook]: it is gone; starting it again");
}
