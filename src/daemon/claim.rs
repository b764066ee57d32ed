//! A claim as 104 bytes: in the journal and in the frames between the processes.

use super::codes::{assurance_number, assurance_of};
use crate::access::{
    Action, Claim, ClientId, Ports, Prefix, Protocol, ServiceId, Services, Wanted,
};
use crate::time::{Mono, Unix};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A claim takes so many bytes.
pub const CLAIM: usize = 104;

/// The `N` bytes at `at`, which the caller knows to be there.
pub(super) fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// A claim: client 8, time 8, until 8, assurance 1, action 1, flags 1, zero 1, IPv4 length and
/// IPv6 length 2, number of services 1, zero 1, IPv4 4, IPv6 16, eight services of 6, zero 4.
/// A length of 255 means that the address is absent.
#[must_use]
pub fn encode_claim(claim: &Claim) -> [u8; CLAIM] {
    let mut out = [0; CLAIM];
    out[..8].copy_from_slice(&claim.client.0);
    out[8..16].copy_from_slice(&claim.time.0.to_be_bytes());
    out[16..24].copy_from_slice(&claim.until.0.to_be_bytes());
    out[24] = assurance_number(claim.assurance);
    out[25] = match claim.action {
        Action::Open => 1,
        Action::Close => 2,
    };
    out[26] = u8::from(claim.replace);
    (out[28], out[29]) = (255, 255);
    for prefix in claim.addresses() {
        match prefix.address() {
            IpAddr::V4(a) => {
                out[28] = prefix.length();
                out[32..36].copy_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                out[29] = prefix.length();
                out[36..52].copy_from_slice(&a.octets());
            }
        }
    }
    out[30] = claim.services.len() as u8;
    for (wanted, place) in claim.services.iter().zip(out[52..100].as_chunks_mut::<6>().0) {
        let (kind, number) = match wanted {
            Wanted::Named(ServiceId(id)) => (1, id),
            Wanted::Ports(p) => {
                let ([a, b], [c, d]) = (p.first().to_be_bytes(), p.last().to_be_bytes());
                (p.protocol().number(), [a, b, c, d])
            }
        };
        place[0] = kind;
        place[2..].copy_from_slice(&number);
    }
    out
}

/// The meaning of a claim's bytes, in their one encoding.
#[must_use]
pub fn decode_claim(bytes: &[u8; CLAIM]) -> Option<Claim> {
    let assurance = assurance_of(bytes[24])?;
    let action = match bytes[25] {
        1 => Action::Open,
        2 => Action::Close,
        _ => return None,
    };
    let address = |length: u8, address: IpAddr| match length {
        255 => Some(None),
        _ => Prefix::new(address, length).ok().map(Some),
    };
    let v4 = address(bytes[28], Ipv4Addr::from(take::<4>(bytes, 32)).into())?;
    let v6 = address(bytes[29], Ipv6Addr::from(take::<16>(bytes, 36)).into())?;
    let count = usize::from(bytes[30]);
    let places = bytes[52..100].as_chunks::<6>().0;
    let list: Option<Vec<Wanted>> = places.get(..count)?.iter().map(wanted).collect();
    let claim = Claim {
        client: ClientId(take(bytes, 0)),
        time: Unix(u64::from_be_bytes(take(bytes, 8))),
        until: Mono(u64::from_be_bytes(take(bytes, 16))),
        assurance,
        action,
        replace: bytes[26] == 1,
        addresses: [v4, v6],
        services: Services::new(&list?)?,
    };
    (encode_claim(&claim) == *bytes).then_some(claim)
}

fn wanted(place: &[u8; 6]) -> Option<Wanted> {
    let [kind, _, a, b, c, d] = *place;
    if kind == 1 {
        return Some(Wanted::Named(ServiceId([a, b, c, d])));
    }
    let (first, last) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ports::new(Protocol::from_number(kind)?, first, last).map(Wanted::Ports)
}
