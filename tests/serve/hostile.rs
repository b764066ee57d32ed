//! Bytes that no client of ours sends.

use super::server::*;
use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{ClientKeys, Door, random};
use opensesame_spa::proto::encode;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

/// A packet with a true seal and a true HMAC around a body of our own making.
fn crafted(profile: &Profile, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let door = Door::derive(profile.server, &profile.door);
    let keys = ClientKeys::derive(profile.server, &profile.key, profile.id.0);
    let nonce: [u8; 24] = random().unwrap();
    let mut out = nonce.to_vec();
    out.extend(door.tag(nonce[..8].try_into().unwrap()));
    out.extend(door.mask(nonce[12..].try_into().unwrap(), profile.id.0));
    let mut body = [0; 204];
    body[..96].copy_from_slice(&encode(&wish(wall())));
    change(&mut body);
    let data = [&profile.server.0[..], &out].concat();
    let tag = keys.seal.seal(&nonce, &data, &mut body);
    out.extend(body);
    out.extend(tag);
    out.extend(keys.mac.tag(&[&out]));
    out
}

#[test]
fn what_is_authentic_and_makes_no_sense_opens_nothing() {
    let Some(server) = Server::running("nftables") else { return };
    let alice = server.profile("alice");
    type Change = fn(&mut [u8]);
    let changes: [(Change, &str); 8] = [
        (|b| b[0] = 2, "unknown version"),
        (|b| b[1] = 9, "unknown action"),
        (|b| b[3] = 0x80, "not the one encoding"),
        (|b| b[4] = 0, "impossible set of addresses"),
        (|b| (b[4], b[5], b[24]) = (2, 8, 127), "impossible address"),
        (|b| b[7] = 9, "impossible services"),
        (|b| b[8] = 0xff, "impossible time"),
        (|b| b[203] = 1, "not the one encoding"),
    ];
    for (change, why) in changes {
        server.send(CLIENT, &crafted(&alice, change));
        server.says_all(&["refused client=alice", "malformed", why]);
    }
    assert_eq!(server.refused("malformed"), 8);
    // The lease of a thousand years is shortened to what is allowed.
    server.send(CLIENT, &crafted(&alice, |b| b[16..20].fill(0xff)));
    server.says_all(&["open client=alice", "ttl=8h"]);
    // Somebody else's HMAC.
    let mut bytes = crafted(&alice, |_| ());
    bytes[287] ^= 1;
    server.send(STRANGER, &bytes);
    eventually("counted", || server.refused("unauthentic") == 1);
    assert_eq!(server.leases().len(), 1);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
}

#[test]
fn garbage_of_every_length_gets_no_answer() {
    let Some(server) = Server::running("nftables") else { return };
    let before = server.log();
    for (to, any) in [(SERVER_OF_STRANGER, "0.0.0.0:0"), ("fd77:2::1", "[::]:0")] {
        let socket = server.world.enter(STRANGER, || UdpSocket::bind(any).unwrap());
        socket.connect((to, UDP)).unwrap();
        socket.set_nonblocking(true).unwrap();
        for length in 0..=1_500 {
            let mut bytes: Vec<u8> = random::<1_500>().unwrap()[..length].to_vec();
            if length % 3 == 0 {
                bytes.fill(0);
            }
            socket.send(&bytes).unwrap_or_else(|e| panic!("{length} bytes to {to}: {e}"));
            let answer = socket.recv(&mut [0; 2_048]).unwrap_err();
            assert_eq!(answer.kind(), ErrorKind::WouldBlock, "{length} bytes to {to}");
        }
        socket.set_nonblocking(false).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(socket.recv(&mut [0; 2_048]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    // All of it ended in the kernel, and nobody has anything to say about it.
    assert_eq!(server.status()["dropped-by-kernel"].as_u64(), Some(2 * 1_501));
    assert_eq!(server.log(), before);
    server.open("alice", &["--wait=20s"]);
}
