//! Who gets in and who does not, where nftables has its own way; the rest is in the conformance suite.

use super::common::*;
use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

const GUESTS: [(&str, &str, &str); 2] =
    [(CLIENT, SERVER_V4, SERVER_V6), (STRANGER, "10.77.2.1", "fd77:2::1")];

/// A bound socket on the server.
fn socket(world: &World, host: &str, at: &str) -> UdpSocket {
    world.enter(host, || UdpSocket::bind(at)).expect("bind")
}

/// The next datagram and whose it is; what is expected is waited for much longer.
fn next(socket: &UdpSocket, expected: bool) -> std::io::Result<SocketAddr> {
    let wait = if expected { 20_000 } else { 500 };
    socket.set_read_timeout(Some(Duration::from_millis(wait))).expect("timeout");
    uninterrupted(|| socket.recv_from(&mut [0; 16])).map(|(_, from)| from)
}

#[test]
fn datagrams_are_judged_alike() {
    let Some(world) = world(&[]) else { return };
    let server = socket(&world, SERVER, "[::]:5300");
    let leases = [opening(CLIENT_V4, "udp/5300", 600_000), opening(CLIENT_V4, "tcp/22", 600_000)];
    let mut firewall = installed(&world, &shield(&["udp/5300", "tcp/22"]), &leases);
    for (host, v4, v6) in GUESTS {
        for (at, to) in [("0.0.0.0:0", v4), ("[::]:0", v6)] {
            let guest = socket(&world, host, at);
            guest.send_to(b"hello", (to, 5300)).expect("send");
            let leased = host == CLIENT && to == v4;
            let came = next(&server, leased);
            assert_eq!(came.is_ok(), leased, "{host} {to}: {came:?}");
            let Ok(from) = came else { continue };
            // A flow that has been answered outlives its lease.
            server.send_to(b"hello", from).expect("answer");
            next(&guest, true).expect("the answer");
            firewall.close(&[element(CLIENT_V4, "udp/5300")], now()).expect("close");
            guest.send_to(b"more", (to, 5300)).expect("send");
            next(&server, true).expect("established");
            let other = socket(&world, host, at);
            other.send_to(b"new", (to, 5300)).expect("send");
            assert!(next(&server, false).is_err(), "a new flow without a lease");
        }
    }
}

#[test]
fn broadcast_and_multicast_are_no_way_in() {
    let Some(world) = world(&[]) else { return };
    let server = socket(&world, SERVER, "[::]:5300");
    let mut firewall = backend(&world, &shield(&["udp/5300"]));
    for shut in [false, true] {
        if shut {
            firewall.sync(&[], now()).expect("sync");
        }
        for (at, to) in [("0.0.0.0:0", "10.77.2.255"), ("[::]:0", "ff02::1%eth0")] {
            let guest = socket(&world, STRANGER, at);
            guest.set_broadcast(true).expect("broadcast");
            let index = world.run(STRANGER, &["cat", "/sys/class/net/eth0/ifindex"]);
            let to = match to.split_once('%') {
                Some((to, _)) => SocketAddr::V6(SocketAddrV6::new(
                    to.parse().unwrap(),
                    5300,
                    0,
                    index.trim().parse().unwrap(),
                )),
                None => SocketAddr::new(to.parse().unwrap(), 5300),
            };
            guest.send_to(b"hello", to).expect("send");
            assert_eq!(next(&server, !shut).is_err(), shut, "{to}");
        }
    }
}

#[test]
fn our_own_port_is_not_tracked() {
    let Some(world) = world(&["conntrack"]) else { return };
    let (own, other) = (socket(&world, SERVER, "[::]:62201"), socket(&world, SERVER, "[::]:5301"));
    let _firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    for (at, to) in [("0.0.0.0:0", SERVER_V4), ("[::]:0", SERVER_V6)] {
        let guest = socket(&world, CLIENT, at);
        for (server, port) in [(&own, 62201), (&other, 5301)] {
            guest.send_to(b"hello", (to, port)).expect("send");
            let from = next(server, true).expect("datagram");
            server.send_to(b"hello", from).expect("answer");
            next(&guest, true).expect("the answer");
        }
    }
    let list: String = ["ipv4", "ipv6"]
        .map(|family| world.run(SERVER, &["conntrack", "-L", "-f", family, "-p", "udp"]))
        .concat();
    assert_eq!(list.matches("dport=5301").count(), 2, "{list}");
    assert!(!list.contains("62201"), "{list}");
}

#[test]
fn nobody_is_kept_out_of_tracking_without_a_listening_port() {
    let Some(world) = world(&[]) else { return };
    let quiet = Shield { listening: vec![], ..shield(&["tcp/22"]) };
    let _firewall = installed(&world, &quiet, &[]);
    assert!(!table(&world).contains("notrack"));
}

#[test]
fn a_port_that_resets_looks_like_a_closed_one() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let server = socket(&world, SERVER, "[::]:5300");
    let protected = ["tcp/22", "udp/5300", "tcp/8000-8010"]
        .map(|p| (p.parse().unwrap(), Refuse::Reset))
        .into_iter()
        .chain([("tcp/23".parse().unwrap(), Refuse::Drop)]);
    let shield = Shield { protected: protected.collect(), listening: vec![], ..Shield::default() };
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let _firewall = installed(&world, &shield, &leases);
    assert_open(&world, CLIENT, SERVER_V4, 22);
    for (v4, port) in [("10.77.2.1", 22), ("fd77:2::1", 22), ("10.77.2.1", 8005)] {
        assert_eq!(world.connect(STRANGER, v4, port), Tried::Refused, "{v4} {port}");
    }
    assert_shut(&world, STRANGER, "10.77.2.1", 23);
    for (at, to) in [("0.0.0.0:0", "10.77.2.1"), ("[::]:0", "fd77:2::1")] {
        let guest = socket(&world, STRANGER, at);
        guest.connect((to, 5300)).expect("connect");
        guest.send(b"hello").expect("send");
        let refused = next(&guest, true).expect_err("an answer");
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{to}");
    }
    assert!(next(&server, false).is_err());
}

#[test]
fn without_the_right_it_says_so() {
    use caps::{CapSet, Capability};
    let Some(world) = world(&[]) else { return };
    let made = world.enter(SERVER, || {
        caps::drop(None, CapSet::Effective, Capability::CAP_NET_ADMIN).expect("drop");
        Nftables::new(&shield(&["tcp/22"])).map(|_| ())
    });
    assert_eq!(made, Err(Error::Rights));
}

#[test]
fn nft_can_load_what_it_lists() {
    let Some(world) = world(&[]) else { return };
    let protected = vec![
        ("tcp/22".parse().unwrap(), Refuse::Reset),
        ("udp/1-9".parse().unwrap(), Refuse::Drop),
    ];
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000), opening("192.0.2.0/24", "udp/3", 600_000)];
    let _firewall =
        installed(&world, &Shield { protected, listening: vec![1], ..Shield::default() }, &leases);
    let text = table(&world);
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), &text).expect("write");
    world.run(CLIENT, &["nft", "-f", file.path().to_str().expect("path")]);
    let again = world.run(CLIENT, &["nft", "-s", "list", "table", "inet", "opensesame"]);
    assert_eq!(again, text);
}
