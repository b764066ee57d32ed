//! Hosts behind the server: those it routes to, those behind its own ports, and links it trusts.

use super::common::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

fn routed(at: &[&str], ports: &[&str], refuse: Refuse) -> Vec<Routed> {
    let one = |at: &str, ports: &str| Routed {
        at: at.parse().expect("prefix"),
        ports: ports.parse().expect("ports"),
        refuse,
    };
    at.iter().flat_map(|at| ports.iter().map(move |ports| one(at, ports))).collect()
}

fn forward(from: &str, to: &str) -> Forward {
    Forward { from: from.parse().expect("ports"), to: to.parse().expect("address") }
}

#[test]
fn a_host_behind_is_shut_and_opens_with_the_lease() {
    let Some(world) = world(&[]) else { return };
    world.behind();
    let _inner = [22, 23].map(|port| world.listen_at(INNER, port));
    let _own = world.listen(22);
    // A network that holds the host as well: the two overlap.
    let hosts = ["10.77.3.0/24", INNER_V4, INNER_V6, "fd77:3::/64"];
    let shield = Shield { routed: routed(&hosts, &["tcp/22"], Refuse::Drop), ..shield(&["udp/9"]) };
    let mut firewall = backend(&world, &shield);
    for at in [INNER_V4, INNER_V6] {
        assert_open(&world, STRANGER, at, 22);
    }
    firewall.sync(&[], now()).expect("sync");
    for at in [INNER_V4, INNER_V6] {
        assert_shut(&world, STRANGER, at, 22);
        assert_shut(&world, CLIENT, at, 22);
        assert_open(&world, STRANGER, at, 23);
    }
    // The same number on the server itself is not meant, nor one on another host.
    assert_open(&world, STRANGER, "10.77.2.1", 22);
    assert_open(&world, INNER, SERVER_V4, 22);
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000), opening(CLIENT_V6, "tcp/22", 10_000)];
    firewall.open(&leases, now()).expect("open");
    for at in [INNER_V4, INNER_V6] {
        assert_open(&world, CLIENT, at, 22);
        assert_shut(&world, STRANGER, at, 22);
    }
    eventually("the lease ends", || world.connect(CLIENT, INNER_V6, 22) == Tried::Silence);
    firewall.close(&[leases[0].element], now()).expect("close");
    assert_shut(&world, CLIENT, INNER_V4, 22);
    // What is there already is left as it is, and what is gone comes back.
    let before = table(&world);
    firewall.sync(&[], now()).expect("sync");
    assert_eq!(table(&world), before);
    nft(&world, "flush set inet opensesame routed4; flush chain inet opensesame shield");
    assert_open(&world, STRANGER, INNER_V4, 22);
    firewall.sync(&[], now()).expect("sync");
    assert_eq!(table(&world), before);
    firewall.uninstall().expect("uninstall");
    assert_open(&world, STRANGER, INNER_V6, 22);
}

/// Nothing ends a socket of another host: it goes on to send, and so makes a new entry of connection
/// tracking when what was cut is forgotten. By that one the client does not come in again.
#[test]
fn a_cut_session_with_a_host_behind_does_not_come_back() {
    let Some(world) = world(&["conntrack"]) else { return };
    world.behind();
    let listener = world.enter(INNER, || TcpListener::bind((INNER_V4, 22))).expect("inner");
    let cuts = vec!["tcp/22".parse().expect("ports")];
    let routed = routed(&[INNER_V4], &["tcp/22"], Refuse::Drop);
    let lease = opening(CLIENT_V4, "tcp/22", 600_000);
    let mut firewall = installed(&world, &Shield { routed, cuts, ..shield(&["udp/9"]) }, &[lease]);
    let to = (INNER_V4, 22);
    let mut client = world.enter(CLIENT, || TcpStream::connect(to)).expect("with a lease");
    let (mut inner, _) = listener.accept().expect("accepted");
    inner.set_read_timeout(Some(Duration::from_secs(3))).expect("timeout");
    let mut byte = [0];
    client.write_all(b"1").expect("written");
    inner.read_exact(&mut byte).expect("it runs");
    let known = || world.run(SERVER, &["conntrack", "-L", "-p", "tcp", "--dport", "22"]);
    assert!(known().contains(CLIENT_V4));
    firewall.cut(&[lease.element], &|_| false, now()).expect("cut");
    assert!(!known().contains(CLIENT_V4));
    nft(&world, "flush set inet opensesame cut4");
    inner.write_all(b"2").expect("written");
    let speaks = ["conntrack", "-L", "-p", "tcp", "--sport", "22"];
    eventually("a new entry", || world.run(SERVER, &speaks).contains(INNER_V4));
    client.write_all(b"3").expect("written");
    assert!(inner.read(&mut byte).is_err(), "the session goes on");
}

#[test]
fn a_host_behind_refuses_as_its_service_says() {
    let Some(world) = world(&[]) else { return };
    world.behind();
    let _inner = world.listen_at(INNER, 22);
    let routed = routed(&[INNER_V4, INNER_V6], &["tcp/22-30"], Refuse::Reset);
    let _firewall = installed(&world, &Shield { routed, ..shield(&["tcp/80"]) }, &[]);
    for at in [INNER_V4, INNER_V6] {
        assert_eq!(world.connect(STRANGER, at, 22), Tried::Refused, "{at}\n{}", table(&world));
    }
    assert_shut(&world, STRANGER, "10.77.2.1", 80);
}

const LONG: Duration = Duration::from_secs(20);

/// Whether what the one says reaches the other within `wait`.
fn speaks(from: &mut TcpStream, to: &mut TcpStream, wait: Duration) -> bool {
    to.set_read_timeout(Some(wait)).expect("timeout");
    from.write_all(b"x").expect("write");
    uninterrupted(|| to.read(&mut [0])).is_ok_and(|n| n == 1)
}

/// Nobody lists the sessions of other hosts, and connection tracking may have been idle before.
#[test]
fn an_older_session_goes_on_as_soon_as_the_inner_host_speaks() {
    let Some(world) = world(&[]) else { return };
    world.behind();
    let listener = world.enter(INNER, || TcpListener::bind("[::]:22")).expect("bind");
    let session = |at: &str| {
        let theirs = world.enter(CLIENT, || TcpStream::connect((at, 22))).expect("connect");
        (theirs, listener.accept().expect("accept").0)
    };
    let mut sessions = [INNER_V4, INNER_V6].map(session);
    let routed = routed(&[INNER_V4, INNER_V6], &["tcp/22"], Refuse::Drop);
    let _firewall = installed(&world, &Shield { routed, ..shield(&["tcp/80"]) }, &[]);
    for (theirs, inner) in &mut sessions {
        assert!(!speaks(theirs, inner, Duration::from_millis(900)), "unknown to tracking");
        assert!(speaks(inner, theirs, LONG), "from inside");
        // TCP sends again what was dropped.
        inner.set_read_timeout(Some(LONG)).expect("timeout");
        assert_eq!(uninterrupted(|| inner.read(&mut [0])).expect("what was said before"), 1);
        assert!(speaks(theirs, inner, LONG), "and on");
    }
}

#[test]
fn a_port_leads_on_to_the_inner_host_for_who_holds_a_lease() {
    let Some(world) = world(&[]) else { return };
    world.behind();
    let listener = world.enter(INNER, || TcpListener::bind("[::]:22")).expect("bind");
    let forwards = vec![
        forward("tcp/2222", "10.77.3.2:22"),
        forward("tcp/2222", "[fd77:3::2]:22"),
        forward("tcp/2223", "10.77.3.2:22"),
    ];
    let shield = Shield { forwards, ..shield(&["tcp/2222", "tcp/2223"]) };
    let mut firewall = installed(&world, &shield, &[]);
    for at in [SERVER_V4, SERVER_V6] {
        assert_shut(&world, CLIENT, at, 2222);
    }
    let leases = [
        opening(CLIENT_V4, "tcp/2222", 600_000),
        opening(CLIENT_V6, "tcp/2222", 600_000),
        opening("10.77.1.0/24", "tcp/2223", 600_000),
    ];
    firewall.open(&leases, now()).expect("open");
    for (at, port) in [(SERVER_V4, 2222), (SERVER_V6, 2222), (SERVER_V4, 2223)] {
        let mut theirs = world.enter(CLIENT, || TcpStream::connect((at, port))).expect("connect");
        let (mut inner, from) = listener.accept().expect("accept");
        // The inner host sees who it is: nothing but the destination is translated.
        let client = if at == SERVER_V6 { CLIENT_V6 } else { CLIENT_V4 };
        let seen = opensesame_spa::access::canonical(from.ip());
        assert_eq!(seen.to_string(), client);
        assert!(speaks(&mut theirs, &mut inner, LONG) && speaks(&mut inner, &mut theirs, LONG));
        // A connection outlives the lease, as everywhere.
        firewall.close(&leases.map(|l| l.element), now()).expect("close");
        assert!(speaks(&mut theirs, &mut inner, LONG) && speaks(&mut inner, &mut theirs, LONG));
        assert_shut(&world, CLIENT, at, port);
        firewall.open(&leases, now()).expect("open");
        assert_open(&world, CLIENT, at, port);
        listener.accept().expect("accept");
    }
    for (at, port) in [("10.77.2.1", 2222), ("fd77:2::1", 2222), ("10.77.2.1", 2223)] {
        assert_shut(&world, STRANGER, at, port);
    }
    let before = chains(&world);
    firewall.sync(&leases, now()).expect("sync");
    assert_eq!(chains(&world), before);
}

#[test]
fn nft_can_load_what_it_lists_of_a_gateway() {
    let Some(world) = world(&[]) else { return };
    let shield = Shield {
        routed: routed(&["10.77.3.0/24", INNER_V6], &["tcp/22", "udp/1-9"], Refuse::Reset),
        forwards: vec![forward("udp/53", "10.77.3.2:5353"), forward("udp/53", "[fd77:3::2]:53")],
        trusted: vec!["to-inner".into(), "wg-0.x".into()],
        ..shield(&["udp/53"])
    };
    let _firewall = installed(&world, &shield, &[]);
    let text = table(&world);
    for piece in ["dnat ip to 10.77.3.2:5353", "dnat ip6 to [fd77:3::2]:53", "iifname \"wg-0.x\""] {
        assert!(text.contains(piece), "{piece}\n{text}");
    }
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), &text).expect("write");
    world.run(CLIENT, &["nft", "-f", file.path().to_str().expect("path")]);
    let again = world.run(CLIENT, &["nft", "-s", "list", "table", "inet", "opensesame"]);
    assert_eq!(again, text);
}

/// A server with two uplinks and one link of its own people.
#[test]
fn a_trusted_link_needs_no_lease() {
    let Some(world) = world(&[]) else { return };
    world.behind();
    let _own = world.listen(22);
    let open = shield(&["tcp/22"]);
    installed(&world, &open, &[]);
    assert_shut(&world, INNER, "10.77.3.1", 22);
    let trusted = vec!["to-inner".into()];
    let mut firewall = installed(&world, &Shield { trusted, ..open }, &[]);
    for at in ["10.77.3.1", "fd77:3::1", SERVER_V4] {
        assert_open(&world, INNER, at, 22);
    }
    // Both uplinks are shut, whichever of the server's addresses is asked.
    for (host, at) in [(CLIENT, SERVER_V4), (CLIENT, "10.77.3.1"), (STRANGER, "10.77.3.1")] {
        assert_shut(&world, host, at, 22);
    }
    assert_shut(&world, STRANGER, "fd77:3::1", 22);
    firewall.open(&[opening(CLIENT_V4, "tcp/22", 600_000)], now()).expect("open");
    assert_open(&world, CLIENT, SERVER_V4, 22);
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
}
