//! Two programs, one wire: this library and `tests/interop/spa.py`, written without it, read what
//! the other writes. And what no datagram may be, whoever wrote it.
#![allow(clippy::unwrap_used)]

mod wire;

use opensesame_spa::access::{
    Action, ClientId, Ports, Prefix, Protocol, Request, ServiceId, Services, Wanted,
};
use opensesame_spa::crypto::random;
use opensesame_spa::proto::{
    CLIENT, COVERED, DATAGRAM, HEADER, HMAC, Malformed, NONCE, Packet, Reply, Status, TAG,
    TIME_LIMIT, TOKEN, open_reply,
};
use opensesame_spa::time::Unix;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::{Keys, Message, has_python, hex, python, unhex};

const REQUESTS: usize = 100;
const REPLIES: usize = 20;

/// A random number below `n`.
fn below(n: u64) -> u64 {
    u64::from_be_bytes(random().unwrap()) % n
}

fn coin() -> bool {
    below(2) == 1
}

fn prefix(shortest: u64, width: u64) -> Prefix {
    // Mostly usable, so this ends soon.
    loop {
        let length = if coin() { width } else { shortest + below(width - shortest + 1) };
        let cut = |bits: u128| bits >> (width - length) << (width - length);
        let address = match width {
            32 => IpAddr::V4(Ipv4Addr::from_bits(
                cut(u32::from_be_bytes(random().unwrap()).into()) as u32,
            )),
            _ => IpAddr::V6(Ipv6Addr::from_bits(cut(u128::from_be_bytes(random().unwrap())))),
        };
        if let Ok(prefix) = Prefix::new(address, length as u8)
            && !prefix.is_unusable()
        {
            return prefix;
        }
    }
}

fn wanted() -> Wanted {
    let protocol = match below(3) {
        0 => return Wanted::Named(ServiceId(random().unwrap())),
        1 => Protocol::Tcp,
        _ => Protocol::Udp,
    };
    let first = 1 + below(65_535);
    let last = if coin() { first } else { first + below(65_536 - first) };
    Wanted::Ports(Ports::new(protocol, first as u16, last as u16).unwrap())
}

fn services() -> Services {
    Services::new(&(0..below(9)).map(|_| wanted()).collect::<Vec<_>>()).unwrap()
}

/// The source, IPv4 and IPv6: a set that the wire can say, as three bits.
fn addresses(bits: u64) -> (bool, Option<Prefix>, Option<Prefix>) {
    let v4 = (bits & 2 != 0).then(|| prefix(8, 32));
    let v6 = (bits & 4 != 0).then(|| prefix(32, 128));
    (bits & 1 != 0, v4, v6)
}

fn request() -> Request {
    let (source, v4, v6) = addresses(1 + below(6));
    let action = if coin() { Action::Open } else { Action::Close };
    let ttl = match action {
        Action::Open => u32::from_be_bytes(random().unwrap()),
        Action::Close => 0,
    };
    Request {
        action,
        reply: coin(),
        replace: coin(),
        source,
        v4,
        v6,
        services: services(),
        time: Unix(below(TIME_LIMIT)),
        ttl,
    }
}

fn reply() -> Reply {
    let (_, v4, v6) = addresses(2 * (1 + below(3)));
    let all = [Status::Open, Status::Closed, Status::Refused, Status::Failed, Status::Busy];
    Reply {
        status: all[below(5) as usize],
        time: Unix(below(TIME_LIMIT)),
        until: Unix(below(TIME_LIMIT)),
        v4,
        v6,
        services: services(),
    }
}

/// A hundred requests and twenty replies, each between a client and a server of its own.
fn conversation() -> Vec<(Keys, Message)> {
    let requests = (0..REQUESTS).map(|_| Message::Request(request()));
    let replies = (0..REPLIES).map(|_| Message::Reply(reply(), random().unwrap()));
    requests.chain(replies).map(|message| (Keys::random(), message)).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn with(mut line: Value, name: &str, value: Value) -> Value {
    line[name] = value;
    line
}

#[test]
fn the_other_decoder_is_right_by_itself() {
    if !has_python() {
        return;
    }
    let said = python(["selftest"], &[]);
    assert!(said.contains("82 of 82"), "{said}");
    let mut arguments = vec!["check".to_string()];
    for kind in ["accept", "reject"] {
        let directory = format!("{}/tests/vectors/{kind}", env!("CARGO_MANIFEST_DIR"));
        let entries = std::fs::read_dir(&directory).unwrap();
        arguments.extend(entries.map(|e| e.unwrap().path().to_str().unwrap().to_string()));
    }
    assert!(arguments.len() > 200, "there are {} vectors only", arguments.len() - 1);
    python(arguments.iter().map(String::as_str), &[]);
}

#[test]
fn the_other_decoder_reads_what_is_written_here() {
    if !has_python() {
        return;
    }
    let said = conversation();
    let line = |(keys, message): &(Keys, Message)| {
        let datagram = keys.seal(message, &random().unwrap());
        with(keys.line(message), "datagram", json!(hex(&datagram)))
    };
    let input: Vec<Value> = said.iter().map(line).collect();
    let heard = lines(&python(["decode"], &input));
    assert_eq!(heard.len(), said.len());
    for ((item, (_, message)), heard) in input.iter().zip(&said).zip(heard) {
        assert_eq!(heard, message.meaning(), "{item}");
    }
}

#[test]
fn what_the_other_encoder_writes_is_read_here() {
    if !has_python() {
        return;
    }
    let said = conversation();
    let line = |(keys, message): &(Keys, Message)| {
        let line = with(keys.line(message), "meaning", message.meaning());
        with(line, "nonce", json!(hex(&random::<NONCE>().unwrap())))
    };
    let input: Vec<Value> = said.iter().map(line).collect();
    let heard = lines(&python(["encode"], &input));
    assert_eq!(heard.len(), said.len());
    for ((item, (keys, message)), heard) in input.iter().zip(&said).zip(heard) {
        let datagram = unhex(heard["datagram"].as_str().unwrap());
        let read = match message {
            Message::Request(_) => keys.request(&datagram),
            Message::Reply(_, asked) => keys.reply(&datagram, *asked),
        };
        assert_eq!(read, Ok(*message), "{item}");
    }
}

fn keys() -> Keys {
    Keys::new([1; 16], [2; 32], [3; 8], [4; 32])
}

fn fixed() -> Message {
    Message::Request(Request {
        action: Action::Open,
        reply: true,
        replace: true,
        source: true,
        v4: None,
        v6: Some("2001:db8:77::/48".parse().unwrap()),
        services: Services::new(&[Wanted::Ports("tcp/22".parse().unwrap())]).unwrap(),
        time: Unix(1_790_000_000_000),
        ttl: 60,
    })
}

/// All 2,304 of them, each refused by the check that covers its byte.
#[test]
fn every_flipped_bit_is_refused() {
    let keys = keys();
    let datagram = keys.seal(&fixed(), &[5; NONCE]);
    assert_eq!(keys.request(&datagram), Ok(fixed()));
    for bit in 0..DATAGRAM * 8 {
        let mut bent = datagram;
        bent[bit / 8] ^= 1 << (bit % 8);
        let check = match bit / 8 {
            0..TOKEN | NONCE..28 => "admission",
            12..NONCE | 28..HEADER => "client",
            _ => "hmac",
        };
        assert_eq!(keys.request(&bent), Err(check), "bit {bit}");
        // And with an HMAC that fits: the seal covers the rest by itself.
        let tag: [u8; HMAC] = keys.own.mac.tag(&[&bent[..COVERED]]);
        bent[COVERED..].copy_from_slice(&tag);
        match bit / 8 {
            COVERED..DATAGRAM => assert_eq!(bent, datagram),
            _ if check == "hmac" => assert_eq!(keys.request(&bent), Err("seal"), "bit {bit}"),
            _ => assert_eq!(keys.request(&bent), Err(check), "bit {bit}"),
        }
    }
    assert_eq!(NONCE + TAG + CLIENT, HEADER);
}

#[test]
fn every_other_length_is_refused() {
    let keys = keys();
    let mut datagram = keys.seal(&fixed(), &[5; NONCE]).to_vec();
    datagram.resize(1500, 0);
    for length in 0..=1500 {
        let (part, right) = (&datagram[..length], length == DATAGRAM);
        let parsed = Packet::parse(part).map(|packet| packet.client(&keys.door));
        let wanted = if right { Ok(ClientId([3; 8])) } else { Err(Malformed::Length) };
        assert_eq!(parsed, wanted, "{length} bytes");
        assert_eq!(keys.request(part).is_ok(), right, "{length} bytes");
        let read = open_reply(part, &[6; 32], keys.server, &keys.own);
        let wanted = if right { Malformed::Seal } else { Malformed::Length };
        assert_eq!(read, Err(wanted), "{length} bytes");
    }
}

/// One client, one request, ten thousand times: no eight bytes that two packets have in common,
/// so nothing to recognise the client by. By chance it happens once in about five million runs.
#[test]
fn ten_thousand_packets_have_nothing_in_common() {
    const PACKETS: usize = 10_000;
    let (keys, message) = (keys(), fixed());
    let mut windows = Vec::with_capacity(PACKETS * (DATAGRAM - 7));
    for packet in 0..PACKETS as u32 {
        let datagram = keys.seal(&message, &random().unwrap());
        let window = |w: &[u8]| (u64::from_be_bytes(w.try_into().unwrap()), packet);
        windows.extend(datagram.windows(8).map(window));
    }
    windows.sort_unstable();
    let shared = windows.windows(2).find(|w| w[0].0 == w[1].0 && w[0].1 != w[1].1);
    assert_eq!(shared, None, "two packets share eight bytes");
}
