//! Processes die, leases do not outlive their time, and nothing answers a stranger meanwhile.

use super::server::*;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

/// After 3 s of lease and a second of grace a new connection must fail.
fn no_later(server: &Server, opened: std::time::Instant) {
    let end = Duration::from_millis(4_200);
    std::thread::sleep(end.saturating_sub(opened.elapsed()));
    assert_eq!(server.tries(CLIENT), Tried::Silence, "{:?} after the open", opened.elapsed());
}

/// A lease of 3 s, seen open, and a moment at which it had begun.
fn short_lease(server: &Server) -> std::time::Instant {
    // A machine that is held up for the whole 3 s has not seen it: the next one counts.
    for _ in 0..5 {
        server.open("alice", &["--for", "3s"]);
        let sent = moment();
        while sent.elapsed() < Duration::from_secs(3) {
            if server.tries(CLIENT) == Tried::Open {
                return moment();
            }
        }
    }
    panic!("never open");
}

fn the_kernel_ends_leases(backend: &str) {
    let Some(mut server) = Server::running(backend) else { return };
    // [priv]: the kernel alone is left.
    let opened = short_lease(&server);
    let (parent, _) = server.pids();
    kill("KILL", &[parent]);
    server.bury();
    no_later(&server, opened);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // [engine]: the other goes on and starts it again.
    server.start();
    let opened = short_lease(&server);
    let (parent, engine) = server.pids();
    kill("KILL", &[engine]);
    no_later(&server, opened);
    server.wait_engine();
    assert_eq!(server.pids().0, parent);
    server.knows_leases(0);
    // Both.
    let opened = short_lease(&server);
    server.crash();
    no_later(&server, opened);
    server.start();
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    assert_eq!(server.leases().len(), 0);
    server.open("alice", &["--wait=20s"]);
}

#[test]
fn the_kernel_ends_leases_of_nftables() {
    the_kernel_ends_leases("nftables");
}

#[test]
fn the_kernel_ends_leases_of_iptables() {
    the_kernel_ends_leases("iptables");
}

#[test]
fn while_engine_is_away_leases_go_on_and_no_answer_goes_out() {
    let Some(mut server) = Server::running("nftables") else { return };
    server.open("alice", &["--for", "10m", "--wait=20s"]);
    let socket = server.world.enter(STRANGER, || UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.connect((SERVER_OF_STRANGER, UDP)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    for _ in 0..3 {
        let (_, engine) = server.pids();
        kill("KILL", &[engine]);
        let ready = server.log().matches(" ready: ").count();
        assert_eq!(server.tries(CLIENT), Tried::Open);
        eventually("ready again", || {
            socket.send(&[0; 288]).unwrap();
            let answer = socket.recv(&mut [0; 2_048]).unwrap_err();
            assert_eq!(answer.kind(), ErrorKind::WouldBlock, "no reply, no ICMP");
            server.log().matches(" ready: ").count() > ready
        });
        server.wait_engine();
    }
    // A packet that comes while nobody reads waits in the socket.
    let (_, engine) = server.pids();
    kill("STOP", &[engine]);
    server.open("alice", &["--ip", "10.88.0.1"]);
    kill("KILL", &[engine]);
    server.wait_engine();
    server.knows_leases(2);
    assert_eq!(server.tries(CLIENT), Tried::Open);
}

fn a_restart_keeps_leases(backend: &str) {
    let Some(mut server) = Server::running(backend) else { return };
    server.open("alice", &["--for", "10m", "--wait=20s"]);
    server.open("alice", &["--for", "10m", "--ip", "10.88.0.1"]);
    server.knows_leases(2);
    let left = |server: &Server| server.leases()[0]["seconds"].as_u64().unwrap();
    let before = left(&server);
    server.stop();
    assert_eq!(server.tries(CLIENT), Tried::Open, "the kernel still has it");
    server.start();
    assert_eq!(server.tries(CLIENT), Tried::Open);
    assert_eq!(server.leases().len(), 2);
    assert!(left(&server) <= before, "its end has not moved");
    if backend == "nftables" {
        let set = ["nft", "list", "set", "inet", "opensesame", "lease4"];
        let text = server.world.run(SERVER, &set);
        assert_eq!(text.matches(CLIENT_V4).count(), 1, "{text}");
    }
    assert!(!server.log().contains("telling it everything anew"));
    // A lease that runs across a restart ends at its time.
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.knows_leases(1);
    server.open("alice", &["--for", "3s"]);
    server.says_all(&["open client=alice", CLIENT_V4, "ttl=3s"]);
    server.stop();
    server.start();
    server.becomes_shut(CLIENT);
    server.knows_leases(1);
}

#[test]
fn a_restart_keeps_leases_of_nftables() {
    a_restart_keeps_leases("nftables");
}

#[test]
fn a_restart_keeps_leases_of_iptables() {
    a_restart_keeps_leases("iptables");
}

#[test]
fn what_was_refused_or_ended_does_not_come_back_with_a_restart() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.invite("few", &[]);
    server.amend("few", "max-leases = 2");
    server.start();
    // The third is one too many, and stays so when the first has ended.
    server.open("few", &["--for", "10s", "--ip", "10.88.0.1"]);
    server.open("few", &["--for", "10m", "--ip", "10.88.0.2"]);
    server.open("few", &["--for", "10m", "--ip", "10.88.0.3"]);
    server.says_all(&["client=few", "too many leases"]);
    server.says_all(&["expired client=few", "10.88.0.1"]);
    server.crash();
    server.start();
    assert_eq!(server.leases().len(), 1, "what was refused");
    // Evicted while [engine] cannot be started.
    server.open("alice", &["--for", "10m"]);
    server.knows_leases(2);
    let mode = |mode| {
        let key = server.path("s/server.key");
        std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(0o644);
    kill("KILL", &[server.pids().1]);
    server.says("can be read by others");
    server.order(&["evict", CLIENT_V4]);
    assert_eq!(server.leases().len(), 1);
    mode(0o600);
    server.wait_engine();
    assert_eq!(server.leases().len(), 1, "what was evicted");
    server.crash();
    server.start();
    assert_eq!(server.leases().len(), 1, "what was evicted, and a restart");
    // A shorter open does not shorten what is there, today or after a restart.
    server.open("alice", &["--for", "10m"]);
    server.open("alice", &["--for", "5s"]);
    eventually("both", || server.log().matches("open client=alice").count() >= 3);
    server.crash();
    server.start();
    let list = server.leases();
    let lease = list.iter().find(|l| l["client"] == "alice").unwrap();
    assert!(lease["seconds"].as_u64().unwrap() > 60, "{lease}");
}

#[test]
fn a_restart_with_many_leases_is_one_step() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.amend("alice", "max-leases = 1000");
    server.start();
    let alice = server.profile("alice");
    for n in 0..300 {
        server.send(CLIENT, &open_for(&alice, &format!("10.88.{}.{}", n / 200, n % 200 + 1)));
    }
    server.knows_leases(300);
    server.crash();
    server.start();
    assert_eq!(server.leases().len(), 300);
    let log = server.log();
    assert!(!log.contains("telling it everything anew"), "told the kernel before it was ready");
}
