//! A record as 128 bytes on disk.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | CRC-32C of bytes 4..128 |
//! | 4 | 1 | format version |
//! | 5 | 1 | kind |
//! | 6 | 2 | zero |
//! | 8 | 8 | sequence: one more than the record before it, across segments |
//! | 16 | 112 | what the kind says, zeros behind it |
//!
//! All integers are big-endian. A slot of zeros was never written.

use crate::access::{Action, ClientId, Ports, Prefix, Protocol, ServiceId};
use crate::daemon::claim::{CLAIM, decode_claim, encode_claim, take};
use crate::engine::suspicion::Ban;
use crate::engine::{Moment, Name, Note, Record, Subject};
use crate::time::{Mono, Unix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The size of a record.
pub const SLOT: usize = 128;
const VERSION: u8 = 1;
const PAYLOAD: usize = 16;
/// What a slot holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing was ever written here.
    Empty,
    /// Torn or damaged.
    Damaged,
    /// A sound record of a kind or version that this program does not know: bytes 4 and 5.
    Unknown(u8, u8),
    /// A record and its sequence number.
    Valid(u64, Record),
}

/// The bytes of a record.
#[must_use]
pub fn encode(record: &Record, sequence: u64) -> [u8; SLOT] {
    let mut out = [0; SLOT];
    let payload = &mut out[PAYLOAD..];
    let kind = match record {
        Record::Boot { id, started, whole, more } => {
            payload[..16].copy_from_slice(id);
            payload[16..24].copy_from_slice(&started.0.to_be_bytes());
            payload[24] = u8::from(*whole);
            payload[28..32].copy_from_slice(&more.to_be_bytes());
            1
        }
        Record::Clean => 2,
        Record::Horizon(time) => {
            payload[..8].copy_from_slice(&time.0.to_be_bytes());
            3
        }
        Record::Floor(time) => {
            payload[..8].copy_from_slice(&time.0.to_be_bytes());
            4
        }
        Record::Seen { client, time, proof } => {
            payload[..8].copy_from_slice(&client.0);
            payload[8..16].copy_from_slice(&time.0.to_be_bytes());
            payload[16..32].copy_from_slice(proof);
            5
        }
        Record::Granted(claim) => {
            payload[..CLAIM].copy_from_slice(&encode_claim(claim));
            6
        }
        Record::Closed(claim) => {
            payload[..CLAIM].copy_from_slice(&encode_claim(claim));
            7
        }
        Record::Used { client, count } => {
            payload[..8].copy_from_slice(&client.0);
            payload[8..12].copy_from_slice(&count.to_be_bytes());
            8
        }
        Record::Banned(ban) => {
            payload[..18].copy_from_slice(&encode_prefix(&ban.prefix));
            payload[18] = ban.times;
            payload[24..32].copy_from_slice(&ban.until.0.to_be_bytes());
            16
        }
        Record::Pardoned(prefix) => {
            payload[..18].copy_from_slice(&encode_prefix(prefix));
            17
        }
        Record::Hook(note) => {
            payload[..NOTE].copy_from_slice(&encode_note(note));
            24
        }
    };
    out[4] = VERSION;
    out[5] = kind;
    out[8..16].copy_from_slice(&sequence.to_be_bytes());
    let crc = crc32c::crc32c(&out[4..]);
    out[..4].copy_from_slice(&crc.to_be_bytes());
    out
}

/// A prefix: family 1 (4 or 6), length 1, address 16 (an IPv4 address first, zeros behind it).
fn encode_prefix(prefix: &Prefix) -> [u8; 18] {
    let mut out = [0; 18];
    out[1] = prefix.length();
    match prefix.address() {
        IpAddr::V4(a) => {
            out[0] = 4;
            out[2..6].copy_from_slice(&a.octets());
        }
        IpAddr::V6(a) => {
            out[0] = 6;
            out[2..].copy_from_slice(&a.octets());
        }
    }
    out
}

fn decode_prefix(bytes: &[u8; 18]) -> Option<Prefix> {
    let address = match bytes[0] {
        4 => IpAddr::from(Ipv4Addr::from(take::<4>(bytes, 2))),
        6 => IpAddr::from(Ipv6Addr::from(take::<16>(bytes, 2))),
        _ => return None,
    };
    Prefix::new(address, bytes[1]).ok()
}

/// The size of a moment of a hook.
pub const NOTE: usize = 100;

/// A moment of a hook: moment 1, service 4, client 8, prefix 18, protocol 1, ports 2 + 2, name 64.
#[must_use]
pub fn encode_note(note: &Note) -> [u8; NOTE] {
    let mut out = [0; NOTE];
    let Subject { service, client, from, to } = &note.subject;
    out[0] = match note.moment {
        Moment::Opening => 1,
        Moment::Opened => 2,
        Moment::Closing => 3,
        Moment::Closed => 4,
    };
    out[1..5].copy_from_slice(&service.0);
    out[5..13].copy_from_slice(&client.0);
    out[13..31].copy_from_slice(&encode_prefix(from));
    out[31] = to.protocol().number();
    out[32..34].copy_from_slice(&to.first().to_be_bytes());
    out[34..36].copy_from_slice(&to.last().to_be_bytes());
    out[36..].copy_from_slice(&note.name.0);
    out
}

/// The meaning of such bytes.
#[must_use]
pub fn decode_note(bytes: &[u8; NOTE]) -> Option<Note> {
    let moment = match bytes[0] {
        1 => Moment::Opening,
        2 => Moment::Opened,
        3 => Moment::Closing,
        4 => Moment::Closed,
        _ => return None,
    };
    let port = |at| u16::from_be_bytes(take(bytes, at));
    let to = Ports::new(Protocol::from_number(bytes[31])?, port(32), port(34))?;
    let (service, client) = (ServiceId(take(bytes, 1)), ClientId(take(bytes, 5)));
    let subject = Subject { service, client, from: decode_prefix(&take(bytes, 13))?, to };
    Some(Note { moment, subject, name: Name(take(bytes, 36)) })
}

/// The meaning of a slot.
#[must_use]
pub fn decode(slot: &[u8; SLOT]) -> Slot {
    if slot.iter().all(|b| *b == 0) {
        return Slot::Empty;
    }
    if crc32c::crc32c(&slot[4..]).to_be_bytes() != slot[..4] {
        return Slot::Damaged;
    }
    let unknown = Slot::Unknown(slot[4], slot[5]);
    let payload = &slot[PAYLOAD..];
    let client = ClientId(take(payload, 0));
    let record = match (slot[4], slot[5]) {
        (VERSION, 1) => Record::Boot {
            id: take(payload, 0),
            started: Mono(u64::from_be_bytes(take(payload, 16))),
            whole: payload[24] == 1,
            more: u32::from_be_bytes(take(payload, 28)),
        },
        (VERSION, 2) => Record::Clean,
        (VERSION, 3) => Record::Horizon(Unix(u64::from_be_bytes(take(payload, 0)))),
        (VERSION, 4) => Record::Floor(Unix(u64::from_be_bytes(take(payload, 0)))),
        (VERSION, 5) => Record::Seen {
            client,
            time: Unix(u64::from_be_bytes(take(payload, 8))),
            proof: take(payload, 16),
        },
        (VERSION, kind @ (6 | 7)) => match decode_claim(&take(payload, 0)) {
            Some(claim) if kind == 6 && claim.action == Action::Open => Record::Granted(claim),
            Some(claim) if kind == 7 && claim.action == Action::Close => Record::Closed(claim),
            Some(_) | None => return unknown,
        },
        (VERSION, 8) => Record::Used { client, count: u32::from_be_bytes(take(payload, 8)) },
        (VERSION, kind @ (16 | 17)) => match decode_prefix(&take(payload, 0)) {
            Some(prefix) if kind == 16 => {
                let until = Unix(u64::from_be_bytes(take(payload, 24)));
                Record::Banned(Ban { prefix, until, times: payload[18] })
            }
            Some(prefix) => Record::Pardoned(prefix),
            None => return unknown,
        },
        (VERSION, 24) => match decode_note(&take(payload, 0)) {
            Some(note) => Record::Hook(note),
            None => return unknown,
        },
        _ => return unknown,
    };
    let sequence = u64::from_be_bytes(take(slot, 8));
    // A record has one encoding; anything else with a good sum was written by something else.
    match encode(&record, sequence) == *slot {
        true => Slot::Valid(sequence, record),
        false => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_and_pardons_have_one_encoding() {
        for prefix in ["192.0.2.1", "2001:db8:1:2::/64", "2001:db8::5", "10.0.0.0/8"] {
            let prefix = prefix.parse().unwrap();
            let ban = Ban { prefix, until: Unix(u64::MAX - 1), times: 7 };
            for record in [Record::Banned(ban), Record::Pardoned(prefix)] {
                let slot = encode(&record, 42);
                assert_eq!(decode(&slot), Slot::Valid(42, record));
                // A byte that no such record has, with a good sum.
                let mut other = slot;
                other[PAYLOAD + 20] = 1;
                let crc = crc32c::crc32c(&other[4..]);
                other[..4].copy_from_slice(&crc.to_be_bytes());
                assert_eq!(decode(&other), Slot::Unknown(VERSION, slot[5]));
            }
        }
    }

    #[test]
    fn moments_of_hooks_have_one_encoding() {
        let subject = Subject {
            service: ServiceId([1; 4]),
            client: ClientId([2; 8]),
            from: "2001:db8:1:2::/64".parse().unwrap(),
            to: "tcp/8000-8010".parse().unwrap(),
        };
        for moment in [Moment::Opening, Moment::Opened, Moment::Closing, Moment::Closed] {
            let record = Record::Hook(Note { moment, subject, name: Name([b'-'; 64]) });
            let slot = encode(&record, 42);
            assert_eq!(decode(&slot), Slot::Valid(42, record));
            // No such moment, no such family, no such protocol, nothing behind it.
            for (at, value) in [(0, 0), (0, 5), (13, 5), (31, 1), (101, 1)] {
                let mut other = slot;
                other[PAYLOAD + at] = value;
                let crc = crc32c::crc32c(&other[4..]);
                other[..4].copy_from_slice(&crc.to_be_bytes());
                assert_eq!(decode(&other), Slot::Unknown(VERSION, 24), "{at}");
            }
        }
    }

    #[test]
    fn a_ban_of_no_address_is_unknown() {
        let ban = Ban { prefix: "192.0.2.1".parse().unwrap(), until: Unix(1), times: 1 };
        for (at, value) in [(0, 5), (1, 33)] {
            let mut slot = encode(&Record::Banned(ban), 1);
            slot[PAYLOAD + at] = value;
            let crc = crc32c::crc32c(&slot[4..]);
            slot[..4].copy_from_slice(&crc.to_be_bytes());
            assert_eq!(decode(&slot), Slot::Unknown(VERSION, 16));
        }
    }
}
