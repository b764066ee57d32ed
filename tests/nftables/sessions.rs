//! TCP sessions: older than the shield, forgotten, and closed.

use super::common::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

fn listener(world: &World) -> TcpListener {
    world.enter(SERVER, || TcpListener::bind("[::]:22")).expect("bind")
}

/// A session between the client and the server: his end and ours.
fn session(world: &World, listener: &TcpListener, to: &str) -> (TcpStream, TcpStream) {
    let theirs = world.enter(CLIENT, || TcpStream::connect((to, 22))).expect("connect");
    let (ours, _) = listener.accept().expect("accept");
    for stream in [&theirs, &ours] {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
    }
    (theirs, ours)
}

/// Whether what the one says reaches the other within `wait`.
fn speaks(from: &mut TcpStream, to: &mut TcpStream, wait: Duration) -> bool {
    to.set_read_timeout(Some(wait)).expect("timeout");
    from.write_all(b"x").expect("write");
    uninterrupted(|| to.read(&mut [0])).is_ok_and(|n| n == 1)
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(900);

#[test]
fn a_session_older_than_the_shield_survives_and_only_because_of_the_seed() {
    let Some(world) = world(&[]) else { return };
    let listener = listener(&world);
    let mut sessions = [SERVER_V4, SERVER_V6].map(|to| session(&world, &listener, to));
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    assert_eq!(elements(&world, "older4").len(), 1);
    assert_eq!(elements(&world, "older6").len(), 1);
    for (theirs, ours) in &mut sessions {
        assert!(speaks(theirs, ours, LONG), "with the seed");
        assert!(speaks(ours, theirs, LONG), "and back");
    }
    assert_shut(&world, CLIENT, SERVER_V4, 22);
    // Connection tracking knows them by now; another pair is unknown to it and has no seed.
    firewall.uninstall().expect("uninstall");
    let mut more = [SERVER_V4, SERVER_V6].map(|to| session(&world, &listener, to));
    firewall.sync(&[], now()).expect("sync");
    assert_eq!(elements(&world, "older4").len(), 2);
    world.try_run(SERVER, &["conntrack", "-F"]);
    nft(&world, "flush set inet opensesame older4; flush set inet opensesame older6");
    for (theirs, ours) in &mut more {
        assert!(!speaks(theirs, ours, SHORT), "without the seed");
    }
    // The next sync seeds them again, and TCP sends again what was dropped.
    firewall.sync(&[], now()).expect("sync");
    for (theirs, ours) in &mut more {
        assert!(speaks(theirs, ours, LONG), "seeded again");
    }
    // The client closes first, so that nothing of ours lingers in TIME-WAIT.
    for (theirs, mut ours) in sessions.into_iter().chain(more) {
        drop(theirs);
        ours.set_read_timeout(Some(LONG)).expect("timeout");
        while uninterrupted(|| ours.read(&mut [0; 16])).expect("the end") > 0 {}
    }
    eventually("entries go with their sessions", || {
        firewall.sync(&[], now()).expect("sync");
        elements(&world, "older4").is_empty() && elements(&world, "older6").is_empty()
    });
}

#[test]
fn a_session_outlives_its_lease() {
    let Some(world) = world(&[]) else { return };
    let listener = listener(&world);
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &leases);
    let (mut theirs, mut ours) = session(&world, &listener, SERVER_V4);
    firewall.close(&[leases[0].element], now()).expect("close");
    assert!(speaks(&mut theirs, &mut ours, LONG));
    assert!(speaks(&mut ours, &mut theirs, LONG));
    assert_shut(&world, CLIENT, SERVER_V4, 22);
}

/// A connection from a port that the caller chooses.
fn connect_from(world: &World, port: u16) -> std::io::Result<Socket> {
    world.enter(CLIENT, || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        let from: SocketAddr = format!("{CLIENT_V4}:{port}").parse().expect("address");
        socket.bind(&SockAddr::from(from))?;
        let to: SocketAddr = format!("{SERVER_V4}:22").parse().expect("address");
        socket.connect_timeout(&SockAddr::from(to), SHORT)?;
        Ok(socket)
    })
}

#[test]
fn an_old_entry_opens_nothing() {
    let Some(world) = world(&[]) else { return };
    let _listener = listener(&world);
    let _firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    let entry = format!("{CLIENT_V4} . 40000 . 22");
    nft(&world, &format!("add element inet opensesame older4 {{ {entry} }}"));
    let refused = connect_from(&world, 40000).expect_err("no lease");
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn what_tracking_remembers_of_a_session_opens_nothing() {
    let Some(world) = world(&["conntrack"]) else { return };
    let listener = listener(&world);
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &leases);
    let theirs = connect_from(&world, 40001).expect("with a lease");
    let (ours, _) = listener.accept().expect("accept");
    // The server resets: the entry stays for ten seconds, and a SYN in it counts as established.
    let ours = Socket::from(ours);
    ours.set_linger(Some(Duration::ZERO)).expect("linger");
    drop(ours);
    theirs.set_read_timeout(Some(LONG)).expect("timeout");
    let reset = uninterrupted(|| (&theirs).read(&mut [0])).expect_err("a reset");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
    let entries = world.run(SERVER, &["conntrack", "-L", "-p", "tcp"]);
    assert!(entries.contains("CLOSE") && entries.contains("sport=40001"), "{entries}");
    drop(theirs);
    firewall.close(&[leases[0].element], now()).expect("close");
    let refused = connect_from(&world, 40001).expect_err("no lease");
    assert_eq!(refused.kind(), std::io::ErrorKind::TimedOut);
}
