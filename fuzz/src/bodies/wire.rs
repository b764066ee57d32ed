//! Bytes from the network, and from the other process.

use super::{KEYS, padded};
use opensesame_spa::daemon::frame;
use opensesame_spa::proto::{self, BODY, COVERED, HEADER, NONCE, Packet, REPLY_BODY, REQUEST};

/// A datagram as it came; the same with its tag and HMAC put right; and, where the length is that
/// of a request and its zeros (96 to 204) or of a reply (216), what it says once it is sealed.
///
/// # Panics
/// When something is read that would be written in another way.
pub fn spa_packet(data: &[u8]) {
    raw(data);
    reply(data, &[7; 32]);
    if let Ok(mut bytes) = <[u8; proto::DATAGRAM]>::try_from(data) {
        prove(&mut bytes);
        assert!(raw(&bytes), "a right tag and a right HMAC are taken");
    }
    if (REQUEST..=BODY).contains(&data.len()) {
        sealed_request(data);
    }
    if data.len() == REPLY_BODY {
        sealed_reply(data);
    }
}

/// Whether it is proven; what opens is sealed again and must be the same.
fn raw(data: &[u8]) -> bool {
    let (profile, door, own) = (&KEYS.profile, &KEYS.door, &KEYS.own);
    let Ok(packet) = Packet::parse(data) else { return false };
    let proven =
        packet.is_admitted(door) && packet.client(door) == profile.id && packet.is_proven(&own.mac);
    if let Ok(request) = packet.open(&own.seal, profile.server) {
        let again = proto::seal(&request, profile.id, profile.server, door, own, &packet.nonce());
        if proven {
            assert_eq!(again[..], data[..], "one request, two datagrams");
        }
    }
    proven
}

/// Puts in the tag, the masked id and the HMAC that belong to the nonce and the body.
fn prove(bytes: &mut [u8; proto::DATAGRAM]) {
    let nonce: [u8; NONCE] = padded(bytes);
    bytes[NONCE..NONCE + 4].copy_from_slice(&KEYS.door.tag(&padded(&nonce)));
    bytes[NONCE + 4..HEADER]
        .copy_from_slice(&KEYS.door.mask(&padded(&nonce[12..]), KEYS.profile.id.0));
    let hmac = KEYS.own.mac.tag(&[&bytes[..COVERED]]);
    bytes[COVERED..].copy_from_slice(&hmac);
}

fn sealed_request(plain: &[u8]) {
    let mut bytes = [0; proto::DATAGRAM];
    bytes[..NONCE].fill(plain[plain.len() - 1]);
    prove(&mut bytes);
    let mut body: [u8; BODY] = padded(plain);
    let data = [&KEYS.profile.server.0[..], &bytes[..HEADER]].concat();
    let tag = KEYS.own.seal.seal(&padded(&bytes), &data, &mut body);
    bytes[HEADER..HEADER + BODY].copy_from_slice(&body);
    bytes[HEADER + BODY..COVERED].copy_from_slice(&tag);
    prove(&mut bytes);
    assert!(raw(&bytes), "what is sealed with the right keys is proven");
    let read = Packet::parse(&bytes).and_then(|p| p.open(&KEYS.own.seal, KEYS.profile.server));
    let zeros = plain[REQUEST..].iter().all(|b| *b == 0);
    match proto::decode(&padded(plain)) {
        Ok(request) if zeros => assert_eq!(read, Ok(request)),
        Ok(_) => assert_eq!(read, Err(proto::Malformed::NotCanonical)),
        Err(why) => assert_eq!(read, Err(why)),
    }
}

fn reply(data: &[u8], asked: &[u8; 32]) -> bool {
    let (server, own) = (KEYS.profile.server, &KEYS.own);
    let Ok(reply) = proto::open_reply(data, asked, server, own) else { return false };
    let again = proto::seal_reply(&reply, asked, server, own, &padded(data));
    assert_eq!(again[..], data[..], "one reply, two datagrams");
    true
}

fn sealed_reply(plain: &[u8]) {
    let (asked, server, own) = ([7; 32], KEYS.profile.server, &KEYS.own);
    let mut bytes = [0; proto::DATAGRAM];
    let mut body: [u8; REPLY_BODY] = padded(plain);
    let data = [&server.0[..], &asked].concat();
    let tag = own.reply_seal.seal(&[0; NONCE], &data, &mut body);
    bytes[NONCE..NONCE + REPLY_BODY].copy_from_slice(&body);
    bytes[NONCE + REPLY_BODY..COVERED].copy_from_slice(&tag);
    let hmac = own.reply_mac.tag(&[&asked, &bytes[..COVERED]]);
    bytes[COVERED..].copy_from_slice(&hmac);
    if reply(&bytes, &asked) {
        assert!(!reply(&bytes, &[8; 32]), "an answer to another request");
    }
}

/// The 96 bytes of a request, zeros where the input is shorter.
///
/// # Panics
/// When two encodings mean the same, or what cannot be granted is read.
pub fn request(data: &[u8]) {
    let bytes: [u8; REQUEST] = padded(data);
    let Ok(request) = proto::decode(&bytes) else { return };
    assert_eq!(proto::encode(&request), bytes, "one request, two encodings");
    assert!(request.time.0 < proto::TIME_LIMIT);
    assert!(request.source || request.v4.is_some() || request.v6.is_some());
    for prefix in request.v4.into_iter().chain(request.v6) {
        assert!(!prefix.is_unusable(), "{prefix} can hold no lease");
    }
    assert!(request.v4.is_none_or(|p| p.address().is_ipv4() && p.length() >= 8));
    assert!(request.v6.is_none_or(|p| p.address().is_ipv6() && p.length() >= 32));
}

/// A frame between the processes, zeros where the input is shorter.
///
/// # Panics
/// When two frames mean the same.
pub fn frame(data: &[u8]) {
    let bytes: [u8; frame::FRAME] = padded(data);
    let Some((message, generation)) = frame::decode(&bytes) else { return };
    assert_eq!(*frame::encode(&message, generation), bytes, "one message, two frames");
    assert_eq!(generation.to_be_bytes(), bytes[4..8]);
}
