//! What the parts of a packet's way cost, one core: `cargo bench --bench parts`. Prints the table of
//! `docs/performance.md`.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use opensesame_spa::access::{Action, ClientId, Request, Services};
use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, DoorKey, ServerId, halfsiphash};
use opensesame_spa::proto::{Packet, seal};
use opensesame_spa::time::Unix;
use std::hint::black_box;
use std::net::UdpSocket;
use std::time::Instant;

/// Rounds, of which the median counts.
const ROUNDS: usize = 11;
/// Datagrams of one call.
const BATCH: usize = 64;

/// The median of what one of `count` runs takes, in nanoseconds.
fn time(count: u32, mut work: impl FnMut()) -> f64 {
    let mut all: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            (0..count).for_each(|_| work());
            start.elapsed().as_secs_f64() * 1e9 / f64::from(count)
        })
        .collect();
    all.sort_by(f64::total_cmp);
    all[ROUNDS / 2]
}

fn row(what: &str, ns: f64) {
    println!("| {what} | {ns:.0} | {:.2} |", 1e3 / ns);
}

fn main() {
    let (server, id) = (ServerId([7; 16]), ClientId([1; 8]));
    let door = Door::derive(server, &DoorKey::new([2; 32]));
    let key = ClientKey::new([3; 32]);
    let keys = ClientKeys::derive(server, &key, id.0);
    let request = Request {
        action: Action::Open,
        reply: false,
        replace: false,
        source: true,
        v4: None,
        v6: None,
        services: Services::EMPTY,
        time: Unix(1_800_000_000_000),
        ttl: 30,
    };
    let bytes = seal(&request, id, server, &door, &keys, &[9; 24]);
    let packet = Packet::parse(&bytes).unwrap();
    println!("| part | ns | millions a second |\n|---|---|---|");
    row(
        "HalfSipHash-2-4 of a token",
        time(1 << 18, || {
            black_box(halfsiphash(black_box(&[5; 8]), black_box(&[6; 8])));
        }),
    );
    row(
        "admission and unmasking of the id",
        time(1 << 17, || {
            let packet = black_box(&packet);
            assert!(packet.is_admitted(&door) && packet.client(&door) == id);
        }),
    );
    row(
        "HMAC-SHA-256 of 256 bytes, prepared key",
        time(1 << 16, || {
            assert!(black_box(&packet).is_proven(&keys.mac));
        }),
    );
    row(
        "opening the seal, reading the request",
        time(1 << 15, || {
            assert!(black_box(&packet).open(&keys.seal, server).is_ok());
        }),
    );
    row(
        "deriving a client's keys",
        time(1 << 13, || {
            black_box(ClientKeys::derive(server, black_box(&key), id.0));
        }),
    );
    row(
        "sealing a request",
        time(1 << 14, || {
            black_box(seal(black_box(&request), id, server, &door, &keys, &[9; 24]));
        }),
    );
    #[cfg(any(target_os = "linux", target_os = "freebsd"))]
    receiving(&bytes);
}

/// Taking 64 datagrams that wait, by one call each and by one call for all.
#[cfg(any(target_os = "linux", target_os = "freebsd"))]
fn receiving(bytes: &[u8; 288]) {
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
    use std::io::IoSliceMut;
    use std::os::fd::AsRawFd;

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    let mut buffers = vec![[0u8; 2_048]; BATCH];
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None);
    let mut spent = [Vec::new(), Vec::new()];
    for round in 0..2_000 {
        (0..BATCH).for_each(|_| assert_eq!(sender.send(bytes).unwrap(), bytes.len()));
        let (many, mut taken) = (round % 2 == 1, 0);
        let start = Instant::now();
        if many {
            let mut slices: Vec<_> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
            let flags = MsgFlags::MSG_DONTWAIT;
            let all = recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None);
            taken += all.unwrap().filter(|m| m.bytes == bytes.len() && m.address.is_some()).count();
        } else {
            while socket.recv_from(&mut buffers[0]).is_ok() {
                taken += 1;
            }
        }
        spent[usize::from(many)].push(start.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
        assert_eq!(taken, BATCH);
    }
    for (what, mut all) in ["recv_from", "recvmmsg"].into_iter().zip(spent) {
        all.sort_by(f64::total_cmp);
        row(&format!("receiving a datagram, 64 by {what}"), all[all.len() / 2]);
    }
}
