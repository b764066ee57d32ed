//! Each packet counts once, whoever sends it and whatever has died in between.

use super::server::*;

/// Sends the packet from a place and sees it refused: nobody new gets in.
fn refused_from(server: &Server, host: &str, packet: &[u8], leases: usize) {
    let count = || {
        let counters = ["replayed", "duplicate", "floor", "stale"];
        counters.map(|reason| server.refused(reason)).iter().sum::<u64>()
    };
    let before = count();
    server.send(host, packet);
    eventually("refused", || count() > before);
    assert_eq!(server.leases().len(), leases);
    if host == STRANGER {
        assert_eq!(server.tries(STRANGER), Tried::Silence);
    }
}

fn each_packet_counts_once(backend: &str) {
    let Some(mut server) = Server::running(backend) else { return };
    server.open("alice", &["--for", "10m", "--port", "tcp/22", "--save", "p", "--wait=20s"]);
    let packet = std::fs::read(server.path("p")).unwrap();
    assert_eq!(packet.len(), 288);
    assert_eq!(server.leases().len(), 1);
    refused_from(&server, STRANGER, &packet, 1);
    refused_from(&server, CLIENT, &packet, 1);

    server.stop();
    server.start();
    refused_from(&server, STRANGER, &packet, 1);

    server.crash();
    server.start();
    refused_from(&server, STRANGER, &packet, 1);

    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    refused_from(&server, STRANGER, &packet, 1);

    // All of that has cost the client nothing.
    assert_eq!(server.tries(CLIENT), Tried::Open);
    server.open("alice", &["--ip", "10.88.0.1"]);
    server.knows_leases(2);
}

#[test]
fn each_packet_counts_once_with_nftables() {
    each_packet_counts_once("nftables");
}

#[test]
fn each_packet_counts_once_with_iptables() {
    each_packet_counts_once("iptables");
}

#[test]
fn a_packet_that_was_stopped_on_its_way_opens_for_nobody_after_a_close() {
    let Some(server) = Server::running("nftables") else { return };
    let alice = server.profile("alice");
    let early = packet(&alice, &wish(wall()));
    std::thread::sleep(std::time::Duration::from_millis(5));
    server.open("alice", &["--wait=20s"]);
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.knows_leases(0);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.send(CLIENT, &early);
    eventually("superseded", || server.refused("superseded") == 1);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
}
