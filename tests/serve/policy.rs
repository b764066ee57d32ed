//! What the administrator allows, seen from the wire.

use super::server::*;

/// Sends an open that the log must say is refused, and why.
fn refused(server: &Server, name: &str, args: &[&str], why: &str) {
    server.open(name, args);
    server.says_all(&[&format!("refused client={name}"), why]);
}

#[test]
fn services_and_ports_and_how_many() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.invite("web", &["--service", "https"]);
    server.invite("few", &[]);
    server.amend("few", "max-leases = 2");
    server.start();
    refused(&server, "web", &["--service", "ssh"], "no such service");
    refused(&server, "web", &["--port", "tcp/22", "--ip", "10.88.0.1"], "no such service");
    refused(&server, "web", &["--port", "udp/443"], "no such service");
    refused(&server, "web", &["--port", "tcp/443-444"], "no such service");
    assert_eq!(server.leases().len(), 0);
    server.open("web", &["--port", "tcp/443"]);
    server.knows_leases(1);
    for n in 1..=4 {
        server.open("few", &["--ip", &format!("10.88.0.{n}")]);
    }
    server.says_all(&["client=few", "too many leases"]);
    server.knows_leases(3);
    let names = server.leases().iter().filter(|l| l["client"] == "few").count();
    assert_eq!(names, 2);
}

#[test]
fn addresses_and_widths() {
    let Some(mut server) = Server::new("nftables") else { return };
    for name in ["office", "named", "wide"] {
        server.invite(name, &[]);
    }
    server.amend("office", "sources = [\"10.99.0.0/16\", \"2001:db8::/32\"]");
    server.amend("named", "source-address = false");
    server.amend("wide", "max-prefix-v4 = 24\nmax-prefix-v6 = 64");
    server.start();
    refused(&server, "office", &[], "outside the client's networks");
    refused(&server, "office", &["--ip", "10.98.0.1"], "outside the client's networks");
    server.open("office", &["--ip", "10.99.3.4", "--ip", "2001:db8::1"]);
    server.knows_leases(2);
    refused(&server, "named", &[], "source address may not be used");
    server.open("named", &["--ip", CLIENT_V4]);
    server.knows_leases(3);
    refused(&server, "alice", &["--ip", "10.88.0.0/31"], "too wide");
    refused(&server, "wide", &["--ip", "10.88.0.0/23"], "too wide");
    refused(&server, "wide", &["--ip", "fd77:1::/63"], "too wide");
    server.open("wide", &["--ip", "10.88.0.0/24", "--ip", "fd77:1::/64"]);
    server.knows_leases(5);
    refused(&server, "alice", &["--ip", SERVER_V4], "can hold no lease");
    assert_eq!(server.leases().len(), 5);
}

#[test]
fn how_long_and_until_when() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.invite("past", &[]);
    server.amend("past", "expires = \"2020-01-01T00:00:00Z\"");
    server.invite("short", &["--ttl", "90s"]);
    server.amend("short", "max-ttl = \"2m\"");
    server.start();
    refused(&server, "past", &[], "expired");
    server.open("short", &["--for", "8h"]);
    server.says_all(&["open client=short", "ttl=2m"]);
    server.open("short", &["--ip", "10.88.0.1"]);
    server.says_all(&["open client=short", "10.88.0.1", "ttl=90s"]);
    server.open("alice", &["--for", "2d"]);
    server.says_all(&["open client=alice", "ttl=8h"]);
}

#[test]
fn a_clock_that_is_wrong_is_named_with_its_seconds() {
    let Some(server) = Server::running("nftables") else { return };
    let alice = server.profile("alice");
    server.send(CLIENT, &packet(&alice, &wish(wall().plus(90_000))));
    server.says_all(&["refused client=alice", "early", " ahead "]);
    let behind = opensesame_spa::time::Unix(wall().0 - 90_000);
    server.send(CLIENT, &packet(&alice, &wish(behind)));
    server.says_all(&["refused client=alice", "stale", " behind "]);
    for line in server.log().lines().filter(|l| l.contains("refused client=alice")) {
        let seconds = line.split(" s ").next().unwrap().rsplit(' ').next().unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        assert!((89.0..=120.0).contains(&seconds) || (60.0..=90.1).contains(&seconds), "{line}");
    }
    assert_eq!(server.leases().len(), 0);
    server.open("alice", &["--wait=20s"]);
}
