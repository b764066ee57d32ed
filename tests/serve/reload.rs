//! The configuration changes while the server runs.

use super::server::*;
use std::net::UdpSocket;

fn new_ports_are_shut_and_leases_stay(backend: &str) {
    let Some(mut server) = Server::running(backend) else { return };
    server.listen(8080);
    server.open("alice", &["--for", "10m", "--wait=20s"]);
    assert_eq!(server.world.connect(STRANGER, SERVER_OF_STRANGER, 8080), Tried::Open);
    let good = server.read("s/server.toml");
    let more = "[service.web]\nports = [\"tcp/8080\"]\n[policy]";
    server.write("s/server.toml", &good.replace("[policy]", more));
    let (parent, _) = server.pids();
    kill("HUP", &[parent]);
    eventually("shut", || {
        server.world.connect(STRANGER, SERVER_OF_STRANGER, 8080) == Tried::Silence
    });
    assert_eq!(server.tries(CLIENT), Tried::Open);
    // And back, by the other way.
    server.write("s/server.toml", &good);
    server.order(&["reload"]);
    assert_eq!(server.world.connect(STRANGER, SERVER_OF_STRANGER, 8080), Tried::Open);
    assert_eq!(server.tries(CLIENT), Tried::Open);
    assert_eq!(server.tries(STRANGER), Tried::Silence);

    // What is wrong changes nothing.
    let wrong = [
        good.replace("[policy]", "[service.web]\nports = [\"tcp/0\"]\n[policy]"),
        good.replace("tcp/22", "tcp/9").replace("[policy]", "[polcy]"),
        String::new(),
    ];
    for text in wrong {
        server.write("s/server.toml", &text);
        let before = server.log().matches("not reloaded").count();
        kill("HUP", &[parent]);
        eventually("said so", || server.log().matches("not reloaded").count() > before);
        assert_eq!(server.tries(CLIENT), Tried::Open);
        assert_eq!(server.tries(STRANGER), Tried::Silence);
        server.at(CLIENT, &["open", "--key", "alice.toml", "--ip", "10.88.0.1"]);
    }
    // Not even while [engine] has to be started anew.
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    server.write("s/server.toml", &good);
    server.knows_leases(2);
    assert_eq!(server.tries(CLIENT), Tried::Open);
}

#[test]
fn new_ports_are_shut_and_leases_stay_with_nftables() {
    new_ports_are_shut_and_leases_stay("nftables");
}

#[test]
fn new_ports_are_shut_and_leases_stay_with_iptables() {
    new_ports_are_shut_and_leases_stay("iptables");
}

#[test]
fn no_packet_is_lost_while_files_are_read() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.amend("alice", "max-leases = 1000");
    server.start();
    let (parent, _) = server.pids();
    let alice = server.profile("alice");
    let packets: Vec<_> =
        (0..200).map(|n| open_for(&alice, &format!("10.88.0.{}", n + 1))).collect();
    server.world.enter(CLIENT, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for (n, packet) in packets.iter().enumerate() {
            if n % 10 == 0 {
                kill("HUP", &[parent]);
            }
            socket.send_to(packet, (SERVER_V4, UDP)).unwrap();
        }
    });
    server.knows_leases(200);
    assert_eq!(server.status()["accepted"], 200);
    assert!(server.log().contains("reloaded: 1 clients"));
}

#[test]
fn what_takes_a_restart_is_said_and_changes_nothing() {
    let Some(server) = Server::running("nftables") else { return };
    let (parent, _) = server.pids();
    server.edit("s/server.toml", |t| t.replace("[::]:41841", "[::]:41842"));
    kill("HUP", &[parent]);
    server.says("takes a restart");
    server.open("alice", &["--wait=20s"]);
    // The port on which it still listens cannot be protected.
    let shut = "[service.web]\nports = [\"udp/41841\"]\n[policy]";
    server.edit("s/server.toml", |t| t.replace("[policy]", shut));
    let out = server.run(SERVER, &["reload", "--config", "s/server.toml"]);
    assert_eq!(out.status.code(), Some(1));
    server.says("where this server listens");
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.knows_leases(0);
    let table = server.world.run(SERVER, &["nft", "list", "table", "inet", "opensesame"]);
    assert!(table.contains("41841") && !table.contains("41842"), "{table}");
}
