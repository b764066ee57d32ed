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

/// Five hours ahead of UTC, without summer time (POSIX TZ has the sign the other way round).
const ZONE: &str = "XXX-5";

/// A span of the zone's day that begins so many minutes from now.
fn span(begins: i64, minutes: i64) -> String {
    let now = (wall().0 / 60_000) as i64 + 5 * 60;
    let at = |minute: i64| {
        let minute = minute.rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    format!("hours = [\"{}-{}\"]", at(now + begins), at(now + begins + minutes))
}

#[test]
fn who_comes_outside_his_hours_is_refused_and_keeps_what_he_has() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    let mut command = server.command();
    command.env("TZ", ZONE);
    server.start_as(command);
    let file = server.read("s/clients/alice.toml");
    let hours = |line: &str| {
        server.write("s/clients/alice.toml", &format!("{file}{line}\n"));
        server.order(&["reload"]);
    };
    hours(&span(60, 120));
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.open("alice", &[]);
    server.says("not permitted: not at this hour");
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    // Five hours earlier the same words would be right.
    hours(&span(-5 * 60 - 30, 60));
    server.open("alice", &[]);
    eventually("refused", || server.refused("not-permitted") == 2);
    hours(&span(-30, 60));
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    // A lease that he has is his, over a restart too; and closing is always possible.
    hours(&span(60, 120));
    server.crash();
    let mut command = server.command();
    command.env("TZ", ZONE);
    server.start_as(command);
    server.knows_leases(1);
    assert_eq!(server.tries(CLIENT), Tried::Open);
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.becomes_shut(CLIENT);
}
