//! Clients come and go while the server runs.

use super::server::*;

/// Alice on the client's host and bob for the stranger's address, both open.
fn two(server: &Server) {
    server.invite("bob", &[]);
    server.says("reloaded: 2 clients");
    server.open("alice", &["--for", "10m", "--wait=20s"]);
    server.open("bob", &["--for", "10m", "--ip", STRANGER_V4]);
    server.becomes_open(STRANGER);
    assert_eq!(server.leases().len(), 2);
}

fn revoked_is_out_at_once(backend: &str) {
    let Some(server) = Server::running(backend) else { return };
    two(&server);
    let said = server.order(&["revoke", "alice"]);
    assert!(said.contains("its leases have ended"), "{said}");
    assert_eq!(server.tries(CLIENT), Tried::Silence, "the order is done when it is answered");
    assert_eq!(server.tries(STRANGER), Tried::Open);
    server.says_all(&["revoked client=alice", CLIENT_V4]);
    server.open("alice", &[]);
    eventually("unknown", || server.refused("unknown-client") == 1);
    assert_eq!(server.leases().len(), 1);
    // The same name is another client.
    std::fs::remove_file(server.path("alice.toml")).unwrap();
    server.invite("alice", &[]);
    eventually("known", || server.log().matches("reloaded: 2 clients").count() >= 2);
    server.open("alice", &["--wait=20s"]);
}

#[test]
fn revoked_is_out_at_once_with_nftables() {
    revoked_is_out_at_once("nftables");
}

#[test]
fn revoked_is_out_at_once_with_iptables() {
    revoked_is_out_at_once("iptables");
}

#[test]
fn a_file_removed_by_hand_is_a_client_revoked() {
    let Some(mut server) = Server::running("nftables") else { return };
    two(&server);
    std::fs::remove_file(server.path("s/clients/alice.toml")).unwrap();
    server.becomes_shut(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Open);
    assert_eq!(server.leases().len(), 1);
    // And it stays so.
    server.crash();
    server.start();
    assert_eq!(server.leases().len(), 1);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
}

#[test]
fn a_mistake_in_server_toml_keeps_nobody_from_being_revoked() {
    let Some(server) = Server::running("nftables") else { return };
    two(&server);
    let good = server.read("s/server.toml");
    server.write("s/server.toml", "[server\n");
    let out = server.run(SERVER, &["revoke", "alice", "--config", "s/server.toml"]);
    let why = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.code() == Some(1) && why.contains("alice is removed"), "{why}");
    server.becomes_shut(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Open);
    server.write("s/server.toml", &good);
    assert_eq!(server.leases().len(), 1);
}

#[test]
fn a_file_that_breaks_leaves_its_client_as_it_was() {
    let Some(mut server) = Server::running("nftables") else { return };
    two(&server);
    let name = "s/clients/alice.toml";
    let good = server.read(name);
    for bad in ["", "garbage\n", "id = \"zz\"\n", &good.replace("key = \"", "key = \"AAAA")] {
        let before = server.log().matches("client=alice stays as it was").count();
        server.write(name, bad);
        eventually("said so", || {
            server.log().matches("client=alice stays as it was").count() > before
        });
        server.says("clients/alice.toml");
    }
    assert_eq!(server.leases().len(), 2);
    server.open("alice", &["--ip", "10.88.0.1"]);
    server.knows_leases(3);
    // Others can still be added and revoked.
    server.order(&["revoke", "bob"]);
    server.knows_leases(2);
    // A new [engine] has no key for it, but the leases stand, and the file's return is enough.
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    assert_eq!(server.tries(CLIENT), Tried::Open);
    server.write(name, &good);
    server.says_all(&["reloaded: 1 clients"]);
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.knows_leases(1);
}

#[test]
fn an_invitation_needs_no_reload() {
    let Some(server) = Server::running("nftables") else { return };
    server.invite("carol", &["--service", "https", "--ttl", "2m"]);
    server.says("reloaded: 2 clients");
    server.open("carol", &[]);
    server.says_all(&["open client=carol", "service=https", CLIENT_V4, "tcp/443", "ttl=2m"]);
    assert_eq!(server.tries(CLIENT), Tried::Silence, "tcp/22 is not hers");
}

#[test]
fn a_guest_pass_counts_once_and_ends() {
    let Some(mut server) = Server::running("nftables") else { return };
    server.invite("guest", &["--uses", "1"]);
    server.says("reloaded: 2 clients");
    server.open("guest", &["--for", "10m", "--wait=20s"]);
    server.crash();
    server.start();
    server.open("guest", &["--ip", "10.88.0.1"]);
    server.says_all(&["refused client=guest", "used up"]);
    assert_eq!(server.leases().len(), 1);
    // Its end is the end of its leases.
    server.invite("late", &["--expires", "5s"]);
    server.says("reloaded: 3 clients");
    server.open("late", &["--for", "30m", "--ip", STRANGER_V4]);
    server.says_all(&["client=late", "open "]);
    let log = server.log();
    let line = log.lines().find(|l| l.contains("open client=late")).unwrap();
    let ttl = line.rsplit("ttl=").next().unwrap();
    assert!(["5s", "4s", "3s", "2s", "1s"].contains(&ttl), "{line}");
    server.says("expired client=late");
    server.becomes_shut(STRANGER);
    server.open("late", &["--ip", "10.88.0.2"]);
    server.says_all(&["refused client=late", "expired"]);
}

#[test]
fn reloading_does_not_cut_the_lease_of_a_pass_that_ends() {
    let Some(server) = Server::running("nftables") else { return };
    server.invite("guest", &["--expires", "1h"]);
    server.says("reloaded: 2 clients");
    // Longer than the pass: they end with it.
    for n in 1..=9 {
        server.open("guest", &["--for", "8h", "--ip", &format!("10.88.0.{n}")]);
        std::thread::sleep(std::time::Duration::from_micros(1_300));
    }
    server.knows_leases(9);
    for _ in 0..40 {
        server.order(&["reload"]);
    }
    assert_eq!(server.leases().len(), 9);
    // An end that is moved forward counts, and moved back it cuts nobody's.
    let ends = ["2099-01-01T00:00:00Z", "2020-01-01T00:00:00Z"];
    for (end, left) in ends.iter().zip([9, 0]) {
        server.edit("s/clients/guest.toml", |text| {
            let lines = text.lines().filter(|l| !l.starts_with("expires"));
            lines.map(|l| format!("{l}\n")).collect::<String>() + &format!("expires = \"{end}\"\n")
        });
        server.order(&["reload"]);
        assert_eq!(server.leases().len(), left, "{end}");
    }
}
