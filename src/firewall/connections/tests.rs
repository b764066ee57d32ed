//! Entries of connection tracking, byte by byte.

use super::*;

fn put(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
    out.extend(kind.to_ne_bytes());
    out.extend(payload);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn direction(kind: u16, from: [u8; 4], to: [u8; 4], protocol: u8, ports: (u16, u16)) -> Vec<u8> {
    let ip = [put(1, &from), put(2, &to)].concat();
    let (sport, dport) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    let proto = [put(1, &[protocol]), put(2, &sport), put(3, &dport)].concat();
    // Nested attributes carry a flag.
    put(0x8000 | kind, &[put(0x8001, &ip), put(0x8002, &proto)].concat())
}

const PEER: [u8; 4] = [192, 0, 2, 9];
const OWN: [u8; 4] = [192, 0, 2, 1];

fn read(parts: &[Vec<u8>]) -> Option<Live> {
    let payload = [vec![2, 0, 0, 0], parts.concat()].concat();
    entry(&payload, |at, _| at == IpAddr::from(OWN))
}

#[test]
fn an_entry_is_seen_from_the_strangers_end() {
    let parts = [
        direction(ORIGINAL, PEER, OWN, 6, (4000, 22)),
        direction(REPLY, OWN, PEER, 6, (22, 4000)),
        put(0x8000 | PROTOINFO, &put(0x8001, &put(1, &[ESTABLISHED]))),
        put(ID, &[1, 2, 3, 4]),
    ];
    let live = read(&parts).unwrap();
    let expected = element(PEER.into(), Protocol::Tcp, 22).unwrap();
    assert_eq!((live.through, live.established), (expected, true));
    let Handle::Entry(request) = live.handle else { panic!("no entry") };
    assert_eq!(request, [vec![2, 0, 0, 0], parts[0].clone(), parts[3].clone()].concat());
    // To somebody else, or without its second half: not ours.
    let other = [198, 51, 100, 1];
    let foreign = [
        direction(ORIGINAL, PEER, other, 6, (4000, 22)),
        direction(REPLY, other, PEER, 6, (22, 4000)),
    ];
    assert!(read(&foreign).is_none() && read(&parts[..1]).is_none());
}

#[test]
fn datagrams_that_we_began_to_send_belong_to_the_peer_all_the_same() {
    let parts = [
        direction(ORIGINAL, OWN, PEER, 17, (51820, 4000)),
        direction(REPLY, PEER, OWN, 17, (4000, 51820)),
    ];
    let live = read(&parts).unwrap();
    assert_eq!(live.through, element(PEER.into(), Protocol::Udp, 51820).unwrap());
    // A TCP connection of our own is nobody's lease.
    let parts =
        [direction(ORIGINAL, OWN, PEER, 6, (22, 443)), direction(REPLY, PEER, OWN, 6, (443, 22))];
    assert!(read(&parts).is_none());
}

#[test]
fn attributes_that_are_cut_short_end_the_list() {
    let bytes = [put(1, b"abc"), put(2, b"")].concat();
    let kinds = |bytes: &[u8]| attributes(bytes).map(|(k, ..)| k).collect::<Vec<_>>();
    assert_eq!(kinds(&bytes), [1, 2]);
    assert_eq!(kinds(&bytes[..10]), [1]);
    assert!(kinds(&[3, 0, 1, 0]).is_empty() && kinds(&[]).is_empty());
}
