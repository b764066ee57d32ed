//! What a refused packet costs.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::daemon::store::histories::world::{Sender, setup};
use crate::engine::Mode;
use allocation_counter::measure;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode as Rights;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

/// Packets of one batch.
const MANY: usize = 60;

fn process(directory: &std::path::Path) -> (Process, Channel, UnixStream) {
    let fd = open(directory, OFlag::O_DIRECTORY, Rights::empty()).unwrap();
    let (mut journal, history) = Journal::open(Directory::new(fd)).unwrap();
    let now = clock::now();
    let setup = setup(1);
    let server = setup.server;
    let mut engine = Engine::start(setup, &history, now);
    journal.mend(&mut engine).unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let process = Process {
        engine,
        journal,
        server,
        sockets: vec![Inbox::new(socket, Mode::Spa).unwrap()],
        captures: Vec::new(),
        outbox: Outbox::default(),
        talks: false,
        answers: Vec::new(),
        syncer: Syncer::start().unwrap(),
        incoming: Incoming::default(),
        generation: 1,
        counters: [0; COUNTERS],
        summary: Summary::new(),
        said: false,
        dropped_before: 0,
        proven: Limit::default(),
        strangers: Limit::default(),
        tried: now.mono,
    };
    (process, Channel::new(near, true).unwrap(), far)
}

#[test]
fn a_refused_packet_takes_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let (mut process, mut channel, _far) = process(directory.path());
    let mut batch = Batch::new();
    let to = process.sockets[0].socket.local_addr().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let packet = |n: usize| {
        let nonce = std::array::from_fn(|i| (i * 7 + n) as u8);
        Sender::new().packet(1, clock::now().unix, &nonce).bytes
    };
    let of = |change: fn(&mut [u8])| {
        move |n: usize| {
            let mut bytes = packet(n).to_vec();
            change(&mut bytes);
            bytes
        }
    };
    let mut refused = 0;
    type Kind<'a> = &'a dyn Fn(usize) -> Vec<u8>;
    let kinds: [Kind<'_>; 4] = [
        &|n| vec![7; n * 7],
        &of(|bytes| bytes[24] ^= 1),
        &of(|bytes| bytes[30] ^= 1),
        &of(|bytes| bytes[287] ^= 1),
    ];
    for kind in kinds {
        (0..MANY).for_each(|n| assert!(stranger.send_to(&kind(n), to).is_ok()));
        let taken = measure(|| assert!(!process.step(&mut channel, &mut batch).unwrap()));
        assert_eq!(taken.count_total, 0);
        refused += MANY as u64;
        assert_eq!(process.counters.iter().sum::<u64>(), refused, "all in one step");
    }
    // Each kind for its own reason.
    let counts = process.counters.iter().filter(|n| **n == MANY as u64).count();
    assert_eq!(counts, 4, "{:?}", process.counters);
    // And the counter counts: one that is let in takes some.
    assert_eq!(stranger.send_to(&packet(200), to).unwrap(), 288);
    let taken = measure(|| assert!(!process.step(&mut channel, &mut batch).unwrap()));
    assert!(taken.count_total > 0);
}
