//! A captured packet, from the IP header on, read strictly: pure.

use super::Family;
use crate::access::{Ports, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet that came to a port that is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::daemon) struct Captured<'a> {
    /// Where it says that it comes from.
    pub(in crate::daemon) from: IpAddr,
    /// Which address it is for.
    pub(in crate::daemon) to: IpAddr,
    /// UDP; or TCP, and then it is a first SYN.
    pub(in crate::daemon) protocol: Protocol,
    /// Which port it is for.
    pub(in crate::daemon) port: u16,
    /// What it carries.
    pub(in crate::daemon) payload: &'a [u8],
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Whether a packet of somebody else can come from there.
fn is_source(from: IpAddr) -> bool {
    match from {
        IpAddr::V4(a) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast()),
        // On the wire a mapped address is a forgery.
        IpAddr::V6(a) => !(a.is_unspecified() || a.is_multicast() || a.to_ipv4_mapped().is_some()),
    }
}

/// The packet, if it is whole, of that family, and UDP or a first SYN of TCP.
///
/// Lengths are those of the headers, never the frame's: a short frame is padded on the wire. Checksums
/// are not looked at, because a packet that never left the machine has none yet (virtio, veth).
pub(super) fn parse(family: Family, packet: &[u8]) -> Option<Captured<'_>> {
    let (from, to, number, body) = match family {
        Family::V4 => v4(packet)?,
        Family::V6 => v6(packet)?,
    };
    if !is_source(from) {
        return None;
    }
    let protocol = Protocol::from_number(number)?;
    let payload = match protocol {
        Protocol::Udp => {
            let length = usize::from(half(body, 4)?);
            body.get(8..length)?
        }
        Protocol::Tcp => {
            let (offset, flags) = (body.get(12)? >> 4, body.get(13)?);
            if offset < 5 || flags & 0x17 != 0x02 {
                return None;
            }
            body.get(usize::from(offset) * 4..)?
        }
    };
    Some(Captured { from, to, protocol, port: half(body, 2)?, payload })
}

type Read<'a> = Option<(IpAddr, IpAddr, u8, &'a [u8])>;

fn v4(packet: &[u8]) -> Read<'_> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let total = usize::from(half(packet, 2)?);
    let whole = half(packet, 6)? & 0x3fff == 0;
    if packet[0] >> 4 != 4 || header < 20 || !whole {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    Some((address(12)?, address(16)?, *packet.get(9)?, packet.get(header..total)?))
}

fn v6(packet: &[u8]) -> Read<'_> {
    if packet.first()? >> 4 != 6 {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = packet.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let end = 40 + usize::from(half(packet, 4)?);
    Some((address(8)?, address(24)?, *packet.get(6)?, packet.get(40..end)?))
}

/// Whether it came to one of those ports.
pub(super) fn is_wanted(captured: &Captured<'_>, wanted: &[Ports]) -> bool {
    let port = Ports::new(captured.protocol, captured.port, captured.port);
    port.is_some_and(|port| wanted.iter().any(|p| p.contains(&port)))
}
