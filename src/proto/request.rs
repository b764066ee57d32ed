//! The request, 96 bytes: one encoding only.

use super::{Malformed, REQUEST, TIME_LIMIT, VERSION, WIDEST, field};
use crate::access::{
    Action, MAX_SERVICES, Ports, Prefix, Protocol, Request, ServiceId, Services, Wanted,
};
use crate::time::Unix;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FLAG_REPLY: u16 = 1;
const FLAG_REPLACE: u16 = 2;
const FROM_SOURCE: u8 = 1;
const HAS_V4: u8 = 2;
const HAS_V6: u8 = 4;
const NAMED: u8 = 1;
/// Addresses and services take this many bytes, here and in a reply.
pub(super) const TARGET: usize = 72;

/// The bytes of a request.
#[must_use]
pub fn encode(request: &Request) -> [u8; REQUEST] {
    let mut out = [0; REQUEST];
    let action = match request.action {
        Action::Open => 1,
        Action::Close => 2,
    };
    let flags =
        if request.reply { FLAG_REPLY } else { 0 } | if request.replace { FLAG_REPLACE } else { 0 };
    let target = encode_target(request.source, request.v4, request.v6, &request.services);
    out[0] = VERSION;
    out[1] = action;
    out[2..4].copy_from_slice(&flags.to_be_bytes());
    out[4..8].copy_from_slice(&target[..4]);
    out[8..16].copy_from_slice(&request.time.0.to_be_bytes());
    out[16..20].copy_from_slice(&request.ttl.to_be_bytes());
    out[24..92].copy_from_slice(&target[4..]);
    out
}

/// The meaning of 96 bytes.
///
/// # Errors
/// Everything that [`encode`] would not have written, and addresses that can hold no lease.
pub fn decode(bytes: &[u8; REQUEST]) -> Result<Request, Malformed> {
    if bytes[0] != VERSION {
        return Err(Malformed::Version);
    }
    let action = match bytes[1] {
        1 => Action::Open,
        2 => Action::Close,
        _ => return Err(Malformed::Action),
    };
    let flags = u16::from_be_bytes(field(bytes, 2));
    let mut target = [0; TARGET];
    target[..4].copy_from_slice(&bytes[4..8]);
    target[4..].copy_from_slice(&bytes[24..92]);
    let (source, v4, v6, services) = decode_target(&target)?;
    let time = u64::from_be_bytes(field(bytes, 8));
    let ttl = u32::from_be_bytes(field(bytes, 16));
    if time >= TIME_LIMIT {
        return Err(Malformed::Time);
    }
    if action == Action::Close && ttl != 0 {
        return Err(Malformed::Ttl);
    }
    let request = Request {
        action,
        reply: flags & FLAG_REPLY != 0,
        replace: flags & FLAG_REPLACE != 0,
        source,
        v4,
        v6,
        services,
        time: Unix(time),
        ttl,
    };
    // Unknown bits, reserved bytes, order and repetition: all that is not written is not read.
    match encode(&request) == *bytes {
        true => Ok(request),
        false => Err(Malformed::NotCanonical),
    }
}

/// Addresses and services: four bytes of counts, then IPv4, IPv6 and eight services.
pub(super) fn encode_target(
    source: bool,
    v4: Option<Prefix>,
    v6: Option<Prefix>,
    services: &Services,
) -> [u8; TARGET] {
    let mut out = [0; TARGET];
    out[0] = if source { FROM_SOURCE } else { 0 };
    for prefix in v4.into_iter().chain(v6) {
        match prefix.address() {
            IpAddr::V4(a) => {
                out[0] |= HAS_V4;
                out[1] = prefix.length();
                out[4..8].copy_from_slice(&a.octets());
            }
            IpAddr::V6(a) => {
                out[0] |= HAS_V6;
                out[2] = prefix.length();
                out[8..24].copy_from_slice(&a.octets());
            }
        }
    }
    // At most eight, by the type.
    out[3] = services.len() as u8;
    for (wanted, place) in services.iter().zip(out[24..].as_chunks_mut::<6>().0) {
        match wanted {
            Wanted::Named(ServiceId(id)) => {
                place[0] = NAMED;
                place[2..].copy_from_slice(&id);
            }
            Wanted::Ports(ports) => {
                place[0] = ports.protocol().number();
                place[2..4].copy_from_slice(&ports.first().to_be_bytes());
                place[4..].copy_from_slice(&ports.last().to_be_bytes());
            }
        }
    }
    out
}

type Target = (bool, Option<Prefix>, Option<Prefix>, Services);

/// What [`encode_target`] wrote; that every byte is as it would write it, the caller checks.
pub(super) fn decode_target(bytes: &[u8; TARGET]) -> Result<Target, Malformed> {
    let kinds = bytes[0];
    let (source, has_v4, has_v6) =
        (kinds & FROM_SOURCE != 0, kinds & HAS_V4 != 0, kinds & HAS_V6 != 0);
    // The source is of one of the two families: beside both explicit ones it can add nothing.
    if !(source || has_v4 || has_v6) || (source && has_v4 && has_v6) {
        return Err(Malformed::Addresses);
    }
    let v4 = Ipv4Addr::from(field::<4>(bytes, 4));
    let v6 = Ipv6Addr::from(field::<16>(bytes, 8));
    let v4 = has_v4.then(|| prefix(v4.into(), bytes[1], WIDEST.0)).transpose()?;
    let v6 = has_v6.then(|| prefix(v6.into(), bytes[2], WIDEST.1)).transpose()?;
    let count = usize::from(bytes[3]);
    if count > MAX_SERVICES {
        return Err(Malformed::Services);
    }
    let list = bytes[24..].as_chunks::<6>().0[..count].iter().map(service);
    let list = list.collect::<Result<Vec<Wanted>, Malformed>>()?;
    let services = Services::new(&list).ok_or(Malformed::Services)?;
    Ok((source, v4, v6, services))
}

fn prefix(address: IpAddr, length: u8, widest: u8) -> Result<Prefix, Malformed> {
    match Prefix::new(address, length) {
        Ok(p) if length >= widest && !p.is_unusable() => Ok(p),
        Ok(_) | Err(_) => Err(Malformed::Prefix),
    }
}

fn service(bytes: &[u8; 6]) -> Result<Wanted, Malformed> {
    let [kind, _, a, b, c, d] = *bytes;
    if kind == NAMED {
        return Ok(Wanted::Named(ServiceId([a, b, c, d])));
    }
    let protocol = Protocol::from_number(kind).ok_or(Malformed::Services)?;
    let (first, last) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ports::new(protocol, first, last).map(Wanted::Ports).ok_or(Malformed::Services)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Request {
        Request {
            action: Action::Open,
            reply: false,
            replace: false,
            source: true,
            v4: None,
            v6: Some("2001:db8::/64".parse().unwrap()),
            services: Services::new(&[Wanted::Ports("tcp/22".parse().unwrap())]).unwrap(),
            time: Unix(1_700_000_000_000),
            ttl: 30,
        }
    }

    #[test]
    fn a_request_goes_both_ways() {
        assert_eq!(decode(&encode(&base())), Ok(base()));
    }

    /// Whatever single byte is changed, either it is refused or it says something else.
    #[test]
    fn no_two_encodings_mean_the_same() {
        let bytes = encode(&base());
        for at in 0..REQUEST {
            for value in 0..=255u8 {
                let mut other = bytes;
                other[at] = value;
                match decode(&other) {
                    Ok(request) if other != bytes => assert_ne!(request, base(), "byte {at}"),
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }
}
