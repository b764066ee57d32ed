//! Knock sequences, with clients that were not written here: `knock` (knockd) and `nmap`.

use super::server::*;
use crate::netns::obstacle;

const SEED: [&str; 3] = ["1560", "6580", "8153"];

/// A running server that opens tcp/2222 to the sequence, with these lines in the entry.
fn knocking(backend: &str, lines: &str) -> Option<Server> {
    if obstacle(&["knock", "nmap"]).is_some() {
        return None;
    }
    let mut server = Server::new(backend)?;
    server
        .edit("s/server.toml", |text| format!("{text}\n[knock]\nopens = [\"tcp/2222\"]\n{lines}"));
    server.listen(2222);
    server.start();
    Some(server)
}

const CAPTURE: &str = "\n[[listen]]\ncapture = \"any\"\nmode = \"knock\"\n";

fn tries(server: &Server, host: &str, to: &str) -> Tried {
    server.world.connect(host, to, 2222)
}

/// Debian's `knock`.
fn knockd(server: &Server, host: &str, to: &str, steps: &[&str]) {
    let head = ["knock", "-d", "100", if to.contains(':') { "-6" } else { "-4" }, to];
    server.world.run(host, &[&head[..], steps].concat());
}

fn nmap(server: &Server, to: &str, ports: &[&str], kind: &str) {
    for port in ports {
        let p = format!("-p{port}");
        let args =
            ["nmap", "-n", "-Pn", "--max-retries", "0", "--host-timeout", "5s", kind, &p, to];
        server.world.run(CLIENT, &args);
    }
}

fn ours(server: &Server, to: &str, more: &[&str]) -> String {
    let out = server.world.try_run(CLIENT, &[&[BIN, "knock", to][..], more].concat());
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn opened(server: &Server, to: &str) {
    eventually("open to the one who knocked", || tries(server, CLIENT, to) == Tried::Open);
    assert_eq!(tries(server, STRANGER, SERVER_OF_STRANGER), Tried::Silence);
}

fn shut(server: &Server) {
    server.order(&["evict", "10.77.1.0/24"]);
    server.order(&["evict", "fd77:1::/64"]);
    server.knows_leases(0);
    assert_eq!(tries(server, CLIENT, SERVER_V4), Tried::Silence);
    assert_eq!(tries(server, CLIENT, SERVER_V6), Tried::Silence);
}

fn life(backend: &str) {
    let Some(server) = knocking(backend, "") else { return };
    shut(&server);
    // Out of order, incomplete, and half of it from somebody else.
    knockd(&server, CLIENT, SERVER_V4, &["6580:udp", "1560:udp", "8153:udp"]);
    knockd(&server, CLIENT, SERVER_V4, &["1560:udp", "6580:udp"]);
    knockd(&server, STRANGER, SERVER_OF_STRANGER, &["8153:udp"]);
    knockd(
        &server,
        STRANGER,
        SERVER_OF_STRANGER,
        &["1560:udp", "8153:udp", "6580:udp", "8153:udp"],
    );
    knockd(&server, CLIENT, SERVER_V4, &["1560:udp"]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    assert_eq!(server.leases().len(), 0);
    // `knock`, nmap, and our own.
    knockd(
        &server,
        CLIENT,
        SERVER_V4,
        &SEED.map(|p| format!("{p}:udp")).each_ref().map(String::as_str),
    );
    opened(&server, SERVER_V4);
    server.says_all(&["open client=[knock]", "address=10.77.1.2", "ports=tcp/2222", "ttl=30s"]);
    shut(&server);
    knockd(&server, CLIENT, SERVER_V6, &["1560:udp", "6580:udp", "8153:udp"]);
    opened(&server, SERVER_V6);
    shut(&server);
    nmap(&server, SERVER_V4, &SEED, "-sU");
    opened(&server, SERVER_V4);
    shut(&server);
    let text = ours(
        &server,
        SERVER_V4,
        &["1560", "6580", "8153", "--delay", "50ms", "--check", "tcp/2222"],
    );
    assert_eq!(
        text,
        "[*] Sending knock sequence: [1560, 6580, 8153]\n\
         [*] Knocking on port 1560\n\
         [*] Knocking on port 6580\n\
         [*] Knocking on port 8153\n\
         [+] Knock sequence complete\n\
         [*] Checking access to protected port 2222...\n\
         [+] Connected to protected port 2222\n"
    );
    opened(&server, SERVER_V4);
    assert!(server.status()["accepted-by"]["knock"].as_u64().unwrap() >= 4);
    server.says_all(&["[knock] is on"]);
    // A wrong sequence does not open, and our client says so.
    shut(&server);
    let wrong = ["1560", "8153", "6580", "--delay", "50ms", "--check", "tcp/2222"];
    let out = server.world.try_run(CLIENT, &[&[BIN, "knock", SERVER_V4][..], &wrong].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&out.stdout).ends_with("[-] No access to protected port 2222\n")
    );
}

#[test]
fn knocks_on_nftables() {
    life("nftables");
}

#[test]
fn knocks_on_iptables() {
    life("iptables");
}

#[test]
fn knocks_with_syns_are_captured_and_no_port_is_open() {
    let lines = format!(
        "sequence = [\"tcp/1560\", 6580, \"tcp/8153\"]\nclose = [\"tcp/8153\", 6580, \"tcp/1560\"]\n{CAPTURE}"
    );
    let Some(server) = knocking("nftables", &lines) else { return };
    shut(&server);
    knockd(&server, CLIENT, SERVER_V4, &["1560:udp", "6580:udp", "8153:udp"]);
    knockd(&server, CLIENT, SERVER_V4, &["1560:tcp", "6580:tcp", "8153:tcp"]);
    assert_eq!(tries(&server, CLIENT, SERVER_V4), Tried::Silence);
    for to in [SERVER_V4, SERVER_V6] {
        knockd(&server, CLIENT, to, &["1560:tcp", "6580:udp", "8153:tcp"]);
        opened(&server, to);
        ours(&server, to, &["tcp/8153", "6580", "tcp/1560", "--delay", "50ms"]);
        eventually("closed", || tries(&server, CLIENT, to) == Tried::Silence);
    }
    // Through a firewall that drops every knock.
    let drops = "add table inet other; add chain inet other in { type filter hook input priority -200; }; \
                 add rule inet other in tcp dport { 1560, 8153 } drop; add rule inet other in udp dport 6580 drop";
    server.world.run(SERVER, &["nft", drops]);
    nmap(&server, SERVER_V4, &["1560"], "-sS");
    nmap(&server, SERVER_V4, &["6580"], "-sU");
    nmap(&server, SERVER_V4, &["8153"], "-sS");
    opened(&server, SERVER_V4);
    let sockets = server.world.run(SERVER, &["cat", "/proc/net/udp", "/proc/net/udp6"]);
    assert!(!sockets.contains(&format!(":{:04X} ", 6580)), "{sockets}");
}

/// Every port of the sequence looks like its neighbours, whatever the server does.
#[test]
fn captured_knock_ports_look_like_their_neighbours() {
    let lines = format!("sequence = [\"tcp/1560\", 6580, \"tcp/8153\"]\n{CAPTURE}");
    let Some(mut server) = knocking("nftables", &lines) else { return };
    let scan = |server: &Server| {
        let list = ["1559,1560,1561", "6579,6580,6581", "8152,8153,8154"].join(",");
        for kind in ["-sU", "-sS"] {
            let args = ["nmap", "-n", "-Pn", kind, "-p", &list, "-oG", "-", SERVER_OF_STRANGER];
            let text = server.world.run(STRANGER, &args);
            let ports = text.split("Ports: ").nth(1).map(|p| p.split('\t').next().unwrap());
            // All in one state, or each of the nine in the same.
            let states: std::collections::BTreeSet<&str> = match ports {
                Some(list) => list.split(", ").filter_map(|p| p.split('/').nth(1)).collect(),
                None => [text.split("Ignored State: ").nth(1).unwrap()].into(),
            };
            assert_eq!(states.len(), 1, "{text}");
        }
    };
    // Or some of the answers are left out, at random.
    let unlimited = "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit";
    server.world.run(SERVER, &["sh", "-c", unlimited]);
    scan(&server);
    server.stop();
    scan(&server);
    server.start();
    server.crash();
    scan(&server);
}
