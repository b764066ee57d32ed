//! What a packet costs that is refused, with one client and with 100,000: `cargo bench --bench
//! refusals`. One core, no socket; prints the table of `docs/performance.md`.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "../tests/packets/mod.rs"]
mod packets;

use opensesame_spa::access::{Access, ClientId};
use opensesame_spa::crypto::{ClientKey, Mac, digest};
use opensesame_spa::engine::{Arrival, Client, Engine, History, Mode, Reject};
use opensesame_spa::proto::{COVERED, DATAGRAM};
use packets::{HOME, SERVER, START, access, door, ip, nonce, setup};
use std::hint::black_box;
use std::time::Instant;

const MANY: u64 = 100_000;
/// Packets of one run; more than there are clients, so that all of them are asked about.
const PACKETS: usize = 200_000;
const ROUNDS: usize = 7;

/// Ids as random as real ones.
fn id(n: u64) -> ClientId {
    let [a, b, c, d, e, f, g, h, ..] = digest(&n.to_be_bytes());
    ClientId([a, b, c, d, e, f, g, h])
}

fn engine(clients: u64) -> Engine {
    let terms = access(1).terms;
    let client = |n: u64| {
        let name = format!("client-{n:05}").into();
        let access = Access { client: id(n), name, terms: terms.clone() };
        Client::new(access, SERVER, &ClientKey::new(digest(&n.to_le_bytes())))
    };
    let mut setup = setup(vec![]);
    setup.clients = (0..clients).map(client).collect();
    let mut engine = Engine::start(setup, &History::default(), START);
    engine.handle_store_mended();
    engine
}

/// A packet that the door admits, of that client, with a random rest.
fn forged(client: ClientId) -> [u8; DATAGRAM] {
    let (door, nonce) = (door(0), nonce());
    let mut out: [u8; DATAGRAM] = opensesame_spa::crypto::random().unwrap();
    out[..24].copy_from_slice(&nonce);
    out[24..28].copy_from_slice(&door.tag(nonce[..8].try_into().unwrap()));
    out[28..36].copy_from_slice(&door.mask(nonce[12..].try_into().unwrap(), client.0));
    out
}

/// Packets of clients in a random order.
fn packets(client: impl Fn(u64) -> ClientId) -> Vec<[u8; DATAGRAM]> {
    let random = || u64::from_be_bytes(opensesame_spa::crypto::random().unwrap());
    (0..PACKETS).map(|_| forged(client(random()))).collect()
}

/// The best of some runs: ns for each.
fn measure(count: usize, mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e9 / count as f64
    };
    (0..ROUNDS).map(time).fold(f64::MAX, f64::min)
}

fn refused(engine: &mut Engine, packets: &[[u8; DATAGRAM]], why: Reject) -> f64 {
    let from = ip(HOME);
    measure(packets.len(), || {
        for bytes in packets {
            let arrival = Arrival { bytes, from, mode: Mode::Spa };
            let refusal = engine.handle_arrival(&arrival, START).unwrap_err();
            assert_eq!(refusal.reason, why);
        }
    })
}

fn main() {
    let mac = Mac::new(&[7; 32]);
    let known = packets(|n| id(n % MANY));
    let one = packets(|_| id(0));
    let unknown = packets(|n| ClientId(n.to_be_bytes()));
    let bare = measure(PACKETS, || {
        for bytes in &one {
            let tag = bytes[COVERED..].try_into().unwrap();
            assert!(!black_box(mac.verify(&[&bytes[..COVERED]], tag)));
        }
    });
    let (mut single, mut many) = (engine(1), engine(MANY));
    let bad = refused(&mut single, &one, Reject::Unauthentic);
    let nobody = refused(&mut single, &unknown, Reject::UnknownClient);
    let nobody_of_many = refused(&mut many, &unknown, Reject::UnknownClient);
    let bad_of_many = refused(&mut many, &known, Reject::Unauthentic);
    println!(
        "| refused | clients | ns a packet | packets a second | against |\n|---|---|---|---|---|"
    );
    let row = |what: &str, clients: u64, ns: f64, against: String| {
        println!("| {what} | {clients} | {ns:.0} | {:.0} | {against} |", 1e9 / ns);
    };
    let times = |ns: f64, of: f64, what: &str| format!("{:.2} times {what}", ns / of);
    row("(the bare HMAC over 256 bytes, key prepared)", 1, bare, String::new());
    row("bad HMAC", 1, bad, times(bad, bare, "the bare HMAC"));
    row("bad HMAC, known ids at random", MANY, bad_of_many, times(bad_of_many, bad, "one client"));
    row("unknown id", 1, nobody, String::new());
    let against = times(nobody_of_many, nobody, "one client");
    row("unknown id", MANY, nobody_of_many, against);
}
