//! Orders of the administrator, start and end.

use super::server::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

fn shut_before_open_after(backend: &str) {
    let Some(mut server) = Server::new(backend) else { return };
    server.listen(22);
    let both = |server: &Server, wanted: Tried| {
        for (host, address) in
            [(STRANGER, SERVER_OF_STRANGER), (STRANGER, "fd77:2::1"), (CLIENT, SERVER_V6)]
        {
            assert_eq!(server.world.connect(host, address, 22), wanted, "{host} {address}");
        }
    };
    both(&server, Tried::Open);
    server.order(&["serve", "--shield-only"]);
    both(&server, Tried::Silence);
    assert_eq!(server.processes().len(), 1, "the listener alone");
    server.start();
    both(&server, Tried::Silence);
    for order in [&["uninstall"][..], &["serve", "--shield-only"]] {
        let out = server.run(SERVER, &[order, &["--config", "s/server.toml"]].concat());
        let why = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(1) && why.contains("a server is running"), "{why}");
    }
    server.stop();
    both(&server, Tried::Silence);
    assert_eq!(server.processes().len(), 1, "the listener alone");
    assert!(!server.path("s/control.sock").exists());
    let sockets = server.world.run(SERVER, &["cat", "/proc/net/udp", "/proc/net/udp6"]);
    assert!(!sockets.contains(&format!(":{UDP:04X}")), "{sockets}");
    server.order(&["uninstall"]);
    both(&server, Tried::Open);
    server.order(&["uninstall"]);
}

#[test]
fn shut_before_open_after_with_nftables() {
    shut_before_open_after("nftables");
}

#[test]
fn shut_before_open_after_with_iptables() {
    shut_before_open_after("iptables");
}

#[test]
fn status_leases_and_evict_say_and_do() {
    let Some(mut server) = Server::running("nftables") else { return };
    server.open("alice", &["--for", "10m", "--port", "tcp/22", "--wait=20s"]);
    server.says_all(&["open client=alice", "service=ssh", CLIENT_V4, "tcp/22", "ttl=10m"]);
    let status = server.status();
    assert_eq!((&status["ready"], &status["healthy"]), (&true.into(), &true.into()));
    assert_eq!((&status["clients"], &status["leases"]), (&1.into(), &1.into()));
    assert_eq!(status["accepted"], 1);
    let text = server.order(&["status"]);
    assert!(text.contains("state     ready") && text.contains("nftables"), "{text}");
    let lease = server.leases()[0].clone();
    assert_eq!(lease["client"], "alice");
    assert_eq!(lease["service"], "ssh");
    assert!(lease["address"].as_str().unwrap().starts_with(CLIENT_V4));
    assert!((500..=600).contains(&lease["seconds"].as_u64().unwrap()), "{lease}");
    let text = server.order(&["leases"]);
    assert!(text.lines().count() == 2 && text.contains("alice"), "{text}");

    server.order(&["evict", "10.99.0.0/16"]);
    assert_eq!(server.leases().len(), 1);
    server.order(&["evict", CLIENT_V4]);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    assert_eq!(server.leases().len(), 0);
    server.says_all(&["evicted client=alice", CLIENT_V4]);
    // It does not come back by itself, and does by a new packet.
    server.crash();
    server.start();
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.open("alice", &["--wait=20s"]);
    // The same by the socket's name; others cannot use it.
    let socket = server.path("s/control.sock");
    server.at(SERVER, &["evict", CLIENT_V4, "--control", socket.to_str().unwrap()]);
    assert_eq!(server.leases().len(), 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&socket.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn proxy_opens_and_joins() {
    let Some(server) = Server::running("nftables") else { return };
    let mut command = server.world.command(CLIENT, BIN);
    command.args(["proxy", SERVER_V4, "22", "--key", "alice.toml"]);
    let child = command.current_dir(server.path(".")).stdout(Stdio::piped()).spawn().unwrap();
    let mut proxy = Guard(child);
    let mut line = String::new();
    BufReader::new(proxy.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "hello\n");
    assert_eq!(server.leases().len(), 1);
}

#[test]
fn engine_has_no_rights() {
    let Some(server) = Server::running("nftables") else { return };
    let (_, engine) = server.pids();
    let text = std::fs::read_to_string(format!("/proc/{engine}/status")).unwrap();
    let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    assert!(field("Uid:").split_whitespace().all(|uid| uid != "0"));
    assert!(field("Gid:").split_whitespace().all(|gid| gid != "0"));
    assert_eq!(field("Groups:"), "");
}

/// The sum of the proportional set sizes of both processes: kB.
fn pss(server: &Server) -> u64 {
    let (parent, engine) = server.pids();
    [parent, engine]
        .iter()
        .map(|pid| {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
            let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
        })
        .sum()
}

#[test]
fn an_idle_server_is_small() {
    let Some(mut server) = Server::running("nftables") else { return };
    println!("idle, this build: {} kB", pss(&server));
    let release = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/opensesame-spa");
    if release.exists() {
        server.stop();
        let mut command = server.world.command(SERVER, release.to_str().unwrap());
        command.args(["serve", "--config", "s/server.toml"]);
        let command = server.logged(command);
        server.start_as(command);
        let size = pss(&server);
        println!("idle, release build: {size} kB");
        assert!(size < 8 << 10, "{size} kB");
    }
}
