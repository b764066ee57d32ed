//! A firewall that takes its time: [engine] goes on receiving, and what was granted comes to be.

use super::server::*;
use opensesame_spa::access::{Action, Request};
use opensesame_spa::client::Profile;
use opensesame_spa::engine::{MOST_BEHIND, MOST_CLIENT};
use serde_json::Value;
use std::fs::File;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

/// Sends packets from a host, no faster than the server's socket has room for them.
pub fn send_all(server: &Server, host: &str, packets: &[[u8; 288]]) {
    server.world.enter(host, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = if host == STRANGER { SERVER_OF_STRANGER } else { SERVER_V4 };
        for some in packets.chunks(32) {
            for packet in some {
                socket.send_to(packet, (to, UDP)).unwrap();
            }
            drained(server);
        }
    });
}

/// Waits until [engine] has read all that came.
fn drained(server: &Server) {
    let path = format!("/proc/{}/net/udp6", server.pids().0);
    let port = format!(":{UDP:04X} ");
    eventually("the socket is read", || {
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find(|l| l.contains(&port)).expect("the server's socket");
        let queues = line.split_whitespace().nth(4).unwrap();
        queues.ends_with(":00000000")
    });
}

fn lost(server: &Server) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/net/udp6", server.pids().0)).unwrap();
    let line = text.lines().find(|l| l.contains(&format!(":{UDP:04X} "))).unwrap();
    line.split_whitespace().nth(12).unwrap().parse().unwrap()
}

/// An open or a close for that address and ten minutes.
fn say(profile: &Profile, action: Action, address: &str) -> [u8; 288] {
    let v4 = Some(address.parse().unwrap());
    // A close lasts for no time.
    let ttl = if action == Action::Open { 600 } else { 0 };
    packet(profile, &Request { action, source: false, v4, ttl, ..wish(wall()) })
}

fn addresses(leases: &[Value]) -> Vec<String> {
    let mut all: Vec<String> =
        leases.iter().map(|l| l["address"].as_str().unwrap().to_string()).collect();
    all.sort();
    all
}

/// A server with the legacy iptables and without ipset, whose lock is a file of this test alone: in a
/// mount namespace of its own it stands where the tools look for the machine's.
fn with_own_lock() -> Option<Server> {
    with_own_lock_and("")
}

/// The same with more lines in server.toml.
fn with_own_lock_and(lines: &str) -> Option<Server> {
    let mut server = Server::new("iptables")?;
    server.edit("s/server.toml", |text| text + lines);
    for n in 0..8 {
        server.invite(&format!("guest{n}"), &[]);
    }
    server.write("lock", "");
    server.write("nothing", "");
    server.listen(22);
    let mounts = "touch /run/xtables.lock; \
                  mount --bind lock /run/xtables.lock && \
                  mount --bind nothing /usr/sbin/ipset && \
                  mount --bind /usr/sbin/xtables-legacy-multi /usr/sbin/xtables-nft-multi && \
                  exec \"$0\" serve --config s/server.toml";
    let mut command = server.world.command(SERVER, "sh");
    command.args(["-c", mounts, BIN]);
    let command = server.logged(command);
    server.start_as(command);
    let firewall = server.status()["firewall"].to_string();
    assert!(firewall.contains("legacy") && firewall.contains("without ipset"), "{firewall}");
    Some(server)
}

/// Somebody holds the lock of iptables as long as this lives.
fn hold(server: &Server) -> Guard {
    let lock = server.path("lock");
    let mut command = Command::new("flock");
    command.arg("--no-fork").arg(&lock).args(["sleep", "1000"]).stdin(Stdio::null());
    let guard = Guard(command.spawn().unwrap());
    eventually("it is held", || {
        let free = Command::new("flock").arg("-n").arg(&lock).arg("true").status();
        !free.unwrap().success()
    });
    guard
}

#[test]
fn who_asks_while_somebody_holds_the_lock_of_iptables_is_in_afterwards() {
    let Some(server) = with_own_lock() else { return };
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    let lock = hold(&server);
    let began = moment();

    // The first keeps [priv] waiting for the lock; what comes meanwhile is read all the same.
    server.open("alice", &["--for", "10m"]);
    let guests: Vec<Profile> = (0..8).map(|n| server.profile(&format!("guest{n}"))).collect();
    let mut asked = Vec::new();
    for (n, guest) in guests.iter().enumerate() {
        for m in 1..=10 {
            asked.push((guest, format!("10.88.{n}.{m}")));
        }
    }
    let packets: Vec<[u8; 288]> = asked.iter().map(|(g, a)| say(g, Action::Open, a)).collect();
    send_all(&server, CLIENT, &packets);
    send_all(&server, STRANGER, &vec![[7; 288]; 500]);
    // The last word counts: open, close; and open, close, open.
    for (guest, words) in [
        (&guests[0], &[Action::Open, Action::Close][..]),
        (&guests[1], &[Action::Open, Action::Close, Action::Open]),
    ] {
        for word in words {
            std::thread::sleep(std::time::Duration::from_millis(3));
            send_all(&server, CLIENT, &[say(guest, *word, "10.99.0.1")]);
        }
    }
    // All that is counted while nothing can be opened, and [priv] answers whoever asks.
    let status = server.status();
    assert_eq!(status["accepted"], 1 + 80 + 5, "{status}");
    assert_eq!(status["dropped-by-kernel"], 500, "{status}");
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    // Longer than iptables waits for the lock.
    while began.elapsed() < std::time::Duration::from_secs(12) {
        server.status();
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    assert_eq!(server.status()["healthy"], false);

    drop(lock);
    server.becomes_open(CLIENT);
    let mut wanted: Vec<String> = asked.into_iter().map(|(_, address)| address).collect();
    wanted.extend([CLIENT_V4.to_string(), "10.99.0.1".to_string()]);
    wanted.sort();
    assert_eq!(addresses(&server.leases()), wanted);
    eventually("all are in the kernel, and nobody else", || {
        let rules = server.world.run(SERVER, &["iptables-legacy", "-t", "mangle", "-S"]);
        let lets = |a: &String| rules.contains(&format!("-s {a}/32 "));
        let chain = rules.lines().filter(|l| l.starts_with("-A OPENSESAME-LEASE -s")).count();
        chain == wanted.len() && wanted.iter().all(lets)
    });
    // The one that was opened again is guest1's.
    let leases = server.leases();
    let last = leases.iter().find(|l| l["address"] == "10.99.0.1").unwrap();
    assert_eq!(last["client"], "guest1");
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    assert_eq!(server.status()["healthy"], true);
}

#[test]
fn who_asks_meanwhile_for_all_that_he_may_have_gets_it() {
    let plain =
        "\n[[listen]]\nudp = \"0.0.0.0\"\nmode = \"plain\"\n\n[plain]\nopens = [\"tcp/22\"]\n";
    let Some(server) = with_own_lock_and(plain) else { return };
    let alice = server.profile("alice");
    let lock = hold(&server);
    // The first keeps [priv] waiting for the lock, again and again; the others come before it, within
    // it and behind it.
    server.open("alice", &["--for", "10m"]);
    let longest = |n: usize| {
        let v4 = Some(format!("10.88.0.{n}").parse().unwrap());
        packet(&alice, &Request { source: false, v4, ttl: 86_400, ..wish(wall()) })
    };
    for n in 1..=12 {
        std::thread::sleep(std::time::Duration::from_millis(500));
        server.send(CLIENT, &longest(n));
        server.world.enter(STRANGER, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.send_to(b"open_sesame", (SERVER_OF_STRANGER, 12_345)).unwrap();
        });
    }
    assert_eq!(server.status()["accepted"], 1 + 12 + 12);
    drop(lock);
    server.becomes_open(CLIENT);
    server.becomes_open(STRANGER);
    server.knows_leases(1 + 12 + 1);
    assert!(!server.log().contains("[priv] refused"), "{}", server.log());
}

#[test]
fn a_server_whose_firewall_is_locked_ends_when_it_is_told_to() {
    let Some(mut server) = with_own_lock() else { return };
    let _lock = hold(&server);
    server.open("alice", &[]);
    server.says("busy: /usr/sbin/iptables");
    let began = moment();
    server.stop();
    let spent = began.elapsed();
    assert!(spent < std::time::Duration::from_secs(20), "{spent:?}");
}

#[test]
fn what_a_stopped_priv_cannot_be_told_is_bounded_and_can_be_asked_for_again() {
    let Some(mut server) = Server::new("nftables") else { return };
    let clients = MOST_BEHIND as u32 / MOST_CLIENT + 1;
    for n in 0..clients {
        server.invite(&format!("guest{n}"), &[]);
        server.amend(&format!("guest{n}"), &format!("max-leases = {MOST_CLIENT}"));
    }
    server.start();
    let (parent, _) = server.pids();
    let guests: Vec<Profile> = (0..clients).map(|n| server.profile(&format!("guest{n}"))).collect();
    // Each for many addresses; a few packets of each client stay unused.
    let each = MOST_CLIENT - 16;
    kill("STOP", &[parent]);
    let mut sent = 0u64;
    let mut last = Vec::new();
    for (guest, n) in guests.iter().zip(0..) {
        let packets: Vec<[u8; 288]> = (0..each)
            .map(|m| say(guest, Action::Open, &format!("10.{n}.{}.{}", m / 250, m % 250 + 1)))
            .collect();
        send_all(&server, CLIENT, &packets);
        sent += u64::from(each);
        last = packets;
    }
    // Of strangers nothing is read, and of nobody else anything lost.
    send_all(&server, STRANGER, &[[7; 288]; 10]);
    assert_eq!(lost(&server), 10);
    kill("CONT", &[parent]);
    let status = server.status();
    let (accepted, busy) = (status["accepted"].as_u64(), status["refused"]["busy"].as_u64());
    let (accepted, busy) = (accepted.unwrap(), busy.unwrap());
    assert_eq!(accepted + busy, sent, "{status}");
    assert!(accepted >= MOST_BEHIND as u64 && busy > 0, "{status}");
    assert_eq!(status["dropped-by-kernel"], 10);
    server.says("busy: too many packets, or the firewall is behind");
    // Whoever was accepted is in, and nobody else.
    eventually("all leases", || server.status()["leases"] == accepted);
    let count = || {
        let set = ["nft", "list", "set", "inet", "opensesame", "lease4"];
        server.world.run(SERVER, &set).matches(" expires ").count() as u64
    };
    eventually("all elements", || count() == accepted);
    // The packet that was refused last is as good as ever.
    let refused = *last.last().unwrap();
    server.send(CLIENT, &refused);
    eventually("one more", || server.status()["leases"] == accepted + 1);
    assert_eq!(server.status()["refused"]["replayed"], 0);
}

#[test]
fn what_arrives_together_goes_to_the_kernel_together() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.amend("alice", "max-leases = 100");
    server.start();
    let alice = server.profile("alice");
    let monitor = |out: File| {
        let mut command = server.world.command(SERVER, "nft");
        command.arg("monitor").stdout(out).stderr(Stdio::null());
        Guard(command.spawn().unwrap())
    };
    let _monitor = monitor(File::create(server.path("monitor")).unwrap());
    let commits = || server.read("monitor").matches("# new generation").count();
    // What the monitor has heard shows that it listens.
    eventually("it listens", || {
        server.world.run(SERVER, &["nft", "add", "table", "inet", "other"]);
        server.world.run(SERVER, &["nft", "delete", "table", "inet", "other"]);
        commits() > 0
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let before = commits();
    let (parent, engine) = server.pids();
    kill("STOP", &[parent, engine]);
    for n in 1..=50 {
        server.send(CLIENT, &say(&alice, Action::Open, &format!("10.88.0.{n}")));
    }
    kill("CONT", &[engine]);
    drained(&server);
    std::thread::sleep(std::time::Duration::from_millis(300));
    kill("CONT", &[parent]);
    server.knows_leases(50);
    eventually("the last one", || server.read("monitor").contains("10.88.0.50 . tcp . 22"));
    let commits = commits() - before;
    assert!(commits <= 2, "{commits} transactions for 50 opens");
}
