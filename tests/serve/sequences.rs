//! Knock sequences that are good once, and a flood of forged knocks, with clients that were not
//! written here: `knock` (knockd), openssl and a shell.

use super::server::*;
use crate::netns::obstacle;
use opensesame_spa::daemon::config;
use opensesame_spa::proto::TimedKnock;
use std::os::unix::fs::PermissionsExt;

const CAPTURE: &str = "\n[[listen]]\ncapture = \"any\"\nmode = \"knock\"\n";

fn tries(server: &Server, host: &str, to: &str) -> Tried {
    server.world.connect(host, to, 2222)
}

/// Debian's `knock`.
fn knockd(server: &Server, host: &str, to: &str, ports: &[u16]) {
    let mut words: Vec<String> = ["knock", "-d", "50", "-4", to].map(String::from).to_vec();
    words.extend(ports.iter().map(|port| format!("{port}:udp")));
    server.world.run(host, &words.iter().map(String::as_str).collect::<Vec<_>>());
}

fn secret(server: &Server, name: &str, text: &str) {
    server.write(name, text);
    let only_mine = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(server.path(name), only_mine).unwrap();
}

fn evict(server: &Server) {
    server.order(&["evict", "0.0.0.0/0"]);
    eventually("shut", || tries(server, CLIENT, SERVER_V4) == Tried::Silence);
}

fn is_open(server: &Server) {
    eventually("open to the one who knocked", || tries(server, CLIENT, SERVER_V4) == Tried::Open);
    assert_eq!(tries(server, STRANGER, SERVER_OF_STRANGER), Tried::Silence);
}

#[test]
fn one_time_sequences_open_once_each_whatever_happens_to_the_server() {
    if obstacle(&["knock"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    secret(
        &server,
        "s/list",
        "# three of them\n4011 4012 4013\n4013,4012,4011\n\n4012 4011 4012\n",
    );
    server.edit("s/server.toml", |text| {
        text + "\n[[knock]]\nlabel = \"list\"\none-time = \"list\"\nopens = [\"tcp/2222\"]\n"
    });
    server.listen(2222);
    server.start();
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    // The second one does not count while the first has not been used.
    knockd(&server, CLIENT, SERVER_V4, &[4013, 4012, 4011]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    knockd(&server, CLIENT, SERVER_V4, &[4011, 4012, 4013]);
    is_open(&server);
    server.says("[knock list]: 2 one-time sequences are left");
    evict(&server);
    knockd(&server, CLIENT, SERVER_V4, &[4011, 4012, 4013]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    server.crash();
    server.start();
    knockd(&server, CLIENT, SERVER_V4, &[4011, 4012, 4013]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    knockd(&server, CLIENT, SERVER_V4, &[4013, 4012, 4011]);
    is_open(&server);
    evict(&server);
    knockd(&server, CLIENT, SERVER_V4, &[4012, 4011, 4012]);
    is_open(&server);
    server.says("[knock list]: no one-time sequence is left");
    // New lines: at once where their ports are heard, and refused where they are not.
    secret(&server, "s/list", "4011 4012 4013\n4012 4013 4012\n");
    server.order(&["reload"]);
    server.says("[knock list]: 1 one-time sequences are left");
    evict(&server);
    secret(&server, "s/list", "4012 4013 4012\n4021 4022 4023\n");
    let out = server.run(SERVER, &["reload", "--config", "s/server.toml"]);
    assert_eq!(out.status.code(), Some(1));
    server.says("take a restart");
    // Under another name what is struck out stays so.
    secret(&server, "s/list", "4011 4012 4013\n4012 4013 4012\n");
    server.edit("s/server.toml", |text| text.replace("label = \"list\"", "label = \"other\""));
    server.order(&["reload"]);
    knockd(&server, CLIENT, SERVER_V4, &[4011, 4012, 4013]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    knockd(&server, CLIENT, SERVER_V4, &[4012, 4013, 4012]);
    is_open(&server);
    server.says("open client=[knock other]");
}

/// The lines of docs/knock.md that need nothing but a shell.
fn shell_lines(host: &str) -> String {
    let page = include_str!("../../docs/knock.md");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    block.expect("lines of shell").replace("HOST", host)
}

#[test]
fn timed_sequences_by_our_client_by_knockd_and_by_a_shell() {
    if obstacle(&["knock", "openssl", "awk", "od", "base64"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    let entry = |label: &str, file: &str| {
        format!("\n[[knock]]\nlabel = \"{label}\"\nsecret = \"{file}\"\nopens = [\"tcp/2222\"]\n")
    };
    let strict = "\n[service.strict]\nports = [\"tcp/2222\"]\nrequire = \"timed-knock\"\n";
    let more = [strict, CAPTURE, &entry("one", "one.key"), &entry("two", "knock.key")].concat();
    server.edit("s/server.toml", |text| text + &more);
    let key = |byte: &str| format!("secret = \"{}=\"\navoid = [41841]\n", byte.repeat(43));
    secret(&server, "s/one.key", &key("A"));
    secret(&server, "s/knock.key", &key("Q"));
    server.listen(2222);
    server.start();
    server.says("[knock one] is on: a sequence opens once");
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    let timed = config::timed(&server.path("s/one.key")).unwrap();
    let period = || TimedKnock::period(wall());
    let begin = period();
    // What was over before the server began does not count, nor does what is not yet.
    for other in [begin - 2, begin - 1, begin + 2] {
        knockd(&server, CLIENT, SERVER_V4, &timed.ports(other));
    }
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    let ports = timed.ports(period());
    knockd(&server, CLIENT, SERVER_V4, &ports);
    is_open(&server);
    server.says("open client=[knock one]");
    evict(&server);
    // Once, from wherever, and after the worst end of the server.
    knockd(&server, CLIENT, SERVER_V4, &ports);
    knockd(&server, STRANGER, SERVER_OF_STRANGER, &ports);
    assert_eq!(tries(&server, STRANGER, SERVER_OF_STRANGER), Tried::Silence);
    eventually("refused", || server.refused("replayed") >= 1);
    server.crash();
    server.start();
    knockd(&server, CLIENT, SERVER_V4, &ports);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    // The next half minute is another one: our own client.
    let used = TimedKnock::period(wall());
    let next = (used + 1) * 30_000;
    std::thread::sleep(std::time::Duration::from_millis(next.saturating_sub(wall().0) + 50));
    let file = server.path("s/one.key").display().to_string();
    let ours = ["--secret", &file, "--delay", "50ms", "--check", "tcp/2222"];
    let text = server.world.run(CLIENT, &[&[BIN, "knock", SERVER_V4][..], &ours].concat());
    assert!(text.contains("[+] Connected to protected port 2222"), "{text}");
    is_open(&server);
    evict(&server);
    // And a shell, with the other secret.
    let lines = format!("cd '{}'\n{}", server.path("s").display(), shell_lines(SERVER_V4));
    server.world.run(CLIENT, &["sh", "-ec", &lines]);
    is_open(&server);
    server.says("open client=[knock two]");
    assert!(
        !server.log().contains("QQQQ") && !server.log().contains("AAAA"),
        "a secret in the log"
    );
}

#[test]
fn what_timed_sequences_need_is_said() {
    let Some(server) = Server::new("nftables") else { return };
    let key = format!("secret = \"{}=\"\n", "A".repeat(43));
    secret(&server, "s/one.key", &key);
    let begin = server.read("s/server.toml");
    let entry = "\n[knock]\nsecret = \"one.key\"\nopens = [\"tcp/2222\"]\n";
    let check = |more: &str| {
        server.write("s/server.toml", &format!("{begin}{more}"));
        let path = server.path("s/server.toml").display().to_string();
        let out = server.run(SERVER, &["serve", "--check", "--config", &path]);
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let both = format!("{entry}{CAPTURE}");
    for (more, piece) in [
        (entry.to_string(), "knocks that change with the time can only be captured"),
        (both.clone(), "put that port into `avoid` of the knock's secret"),
        (both.replace("secret =", "close = [1, 2, 3]\nsecret ="), "one of them"),
        (both.replace("secret =", "one-time = \"x\"\nsecret ="), "one of them"),
        (both.replace("one.key", "none.key"), "none.key: "),
    ] {
        let said = check(&more);
        assert!(said.contains(piece), "{piece}: {said}");
    }
    secret(&server, "s/one.key", &format!("{key}avoid = [41841]\n"));
    assert_eq!(check(&both), "");
    let twice = both.replace("[knock]", "[[knock]]")
        + &entry.replace("[knock]", "[[knock]]\nlabel = \"x\"");
    assert!(check(&twice).contains("the same secret"));
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(server.path("s/one.key"), readable).unwrap();
    assert!(check(&both).contains("one.key: can be read by others"));
}

/// First knocks from a million forged addresses: so many a second, in bursts.
const FLOOD: &str = r#"
import random, socket, struct, sys, time
to = socket.inet_aton(sys.argv[1])
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
udp = struct.pack("!4H", 4444, 1560, 9, 0) + b"x"
begin, sent, rate = time.monotonic(), 0, 60000
while sent < 1000000:
    for _ in range(600):
        source = struct.pack("!I", random.randrange(0x0b000000, 0x7e000000))
        s.sendto(struct.pack("!BBHHHBBH", 0x45, 0, 29, 0, 0, 64, 17, 0) + source + to + udp, (sys.argv[1], 0))
    sent += 600
    time.sleep(max(0, begin + sent / rate - time.monotonic()))
print(sent, "in", round(time.monotonic() - begin, 1), "s")
"#;

#[test]
fn a_million_forged_first_knocks_keep_nobody_out() {
    if obstacle(&["python3"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    server.edit("s/server.toml", |text| text + "\n[knock]\nopens = [\"tcp/2222\"]\n");
    server.listen(2222);
    server.start();
    server.world.run(SERVER, &["sh", "-c", "echo 0 | tee /proc/sys/net/ipv4/conf/*/rp_filter"]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    let memory = |server: &Server| {
        let (_, engine) = server.pids();
        let text = std::fs::read_to_string(format!("/proc/{engine}/smaps_rollup")).unwrap();
        let line = text.lines().find(|l| l.starts_with("Pss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let arrived = || {
        let text = server.world.run(SERVER, &["cat", "/proc/net/snmp"]);
        let line = text.lines().filter(|l| l.starts_with("Udp:")).nth(1).unwrap();
        let number = |n: usize| line.split_whitespace().nth(n).unwrap().parse::<u64>().unwrap();
        // Taken by the server, and dropped because its buffer was full.
        (number(1), number(5))
    };
    let before = memory(&server);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| server.world.run(CLIENT, &["python3", "-c", FLOOD, SERVER_V4]));
        eventually("the flood has begun", || arrived().0 > 100_000);
        let slow = ["1560", "6580", "8153", "--delay", "4s", "--check", "tcp/2222"];
        let text = server.world.run(CLIENT, &[&[BIN, "knock", SERVER_V4][..], &slow].concat());
        assert!(text.contains("[+] Connected to protected port 2222"), "{text}");
        assert!(!flood.is_finished(), "the flood was over before the client was in");
        println!("{}", flood.join().unwrap().trim());
    });
    let (taken, dropped) = arrived();
    println!("{taken} first knocks taken, {dropped} dropped by the kernel");
    assert!(taken + dropped >= 1_000_000 && taken > 500_000);
    let after = memory(&server);
    println!("[engine]: {before} kB before, {after} kB after");
    assert!(after < before + 6_000, "{before} {after}");
}
