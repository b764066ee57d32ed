//! A flood that the sieve lets through, and quiet: who goes on, and who sleeps.

use super::plain::PLAIN;
use super::server::*;
use nix::sched::{CloneFlags, setns};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The most packets of the flood: some seconds.
const MOST: usize = 3_000_000;

#[test]
fn while_forged_packets_pour_in_everything_else_goes_on() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.edit("s/server.toml", |text| format!("{text}{PLAIN}"));
    server.listen(22);
    server.start();
    let alice = server.profile("alice");
    // With alice's token and id, and without her key.
    let mut forged = open_for(&alice, "192.0.2.1");
    forged[287] ^= 1;
    let (server, over) = (&server, &AtomicBool::new(false));
    let place = std::fs::File::open(format!("/run/netns/{}", server.world.name(STRANGER))).unwrap();
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            setns(place, CloneFlags::CLONE_NEWNET).unwrap();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            let to = (SERVER_OF_STRANGER, UDP);
            let sends = (0..MOST).take_while(|_| !over.load(Ordering::Relaxed));
            sends.filter(|_| socket.send_to(&forged, to).is_ok()).count()
        });
        eventually("it pours", || server.refused("unauthentic") > 10_000);
        // The same listener, by a lease that ends in time.
        assert_eq!(server.tries(CLIENT), Tried::Silence);
        eventually("let in", || {
            server.open("alice", &["--for=1s"]);
            server.tries(CLIENT) == Tried::Open
        });
        server.becomes_shut(CLIENT);
        // Another listener.
        eventually("heard", || {
            let line = format!("printf open_sesame | nc -u -w 0 {SERVER_V4} 12345");
            server.world.run(CLIENT, &["sh", "-c", &line]);
            server.leases().iter().any(|l| l["ports"] == "tcp/2222")
        });
        // Orders.
        server.invite("bob", &[]);
        server.says("reloaded: 3 clients");
        over.store(true, Ordering::Relaxed);
        flood.join().unwrap()
    });
    assert!(sent > 10_000 && sent < MOST, "the flood lasted as long as the rest: {sent}");
    let lines = server.log().lines().filter(|l| l.contains("refused")).count();
    assert!(lines < 60, "{lines} lines about {sent} packets, and debug was asked for");
}

/// How often each process of the server has begun to run again.
fn switches(server: &Server) -> Vec<(u32, u64)> {
    let (parent, engine) = server.pids();
    let of = |pid: u32| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let files = tasks.map(|t| std::fs::read_to_string(t.unwrap().path().join("status")));
        let lines = files.map(Result::unwrap);
        let counts = lines.flat_map(|text| {
            let counts = text.lines().filter_map(|l| l.split_once("ctxt_switches:"));
            counts.map(|(_, n)| n.trim().parse::<u64>().unwrap()).collect::<Vec<_>>()
        });
        counts.sum()
    };
    vec![(parent, of(parent)), (engine, of(engine))]
}

#[test]
fn a_server_with_nothing_to_do_sleeps() {
    let Some(server) = Server::running("nftables") else { return };
    // Not one that has never had anything to do.
    server.open("alice", &["--for=1s"]);
    server.becomes_open(CLIENT);
    server.becomes_shut(CLIENT);
    server.knows_leases(0);
    // What follows a lease is over within moments.
    let mut before = switches(&server);
    eventually("quiet", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = switches(&server);
        std::mem::replace(&mut before, now.clone()) == now
    });
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(switches(&server), before, "nobody runs without a reason");
}
