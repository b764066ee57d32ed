//! Wide openings made disjoint: a kernel's interval set takes no two elements that overlap, and
//! leases on prefixes and port ranges do.

use crate::access::Protocol;
use crate::time::Mono;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Opening;

/// A rectangle of addresses and ports, open until a moment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rectangle {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// First and last address, of one family.
    pub addresses: (IpAddr, IpAddr),
    /// First and last port.
    pub ports: (u16, u16),
}

/// The same openings as rectangles of which no two overlap; where several did, the latest end
/// holds. Cost: port boundaries times openings; neighbours in one stripe are only sorted.
#[must_use]
pub fn disjoint(openings: &[Opening]) -> Vec<(Rectangle, Mono)> {
    let mut out = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for v4 in [true, false] {
            let some: Vec<&Opening> = openings
                .iter()
                .filter(|o| o.element.to.protocol() == protocol)
                .filter(|o| o.element.from.address().is_ipv4() == v4)
                .collect();
            let edges = |o: &&Opening| {
                [u128::from(o.element.to.first()), u128::from(o.element.to.last()) + 1]
            };
            for (first, last) in pieces(some.iter().flat_map(edges)) {
                let within = |o: &&&Opening| {
                    u128::from(o.element.to.first()) <= first
                        && last <= u128::from(o.element.to.last())
                };
                let stripe: Vec<_> = some.iter().filter(within).copied().collect();
                let ports = (first as u16, last as u16);
                for (addresses, until) in strip(&stripe, v4) {
                    out.push((Rectangle { protocol, addresses, ports }, until));
                }
            }
        }
    }
    out
}

/// One stripe of ports: its address ranges, disjoint, neighbours with one end joined.
fn strip(openings: &[&Opening], v4: bool) -> Vec<((IpAddr, IpAddr), Mono)> {
    let number = |a: IpAddr| match a {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    };
    let address = |n: u128| match v4 {
        true => IpAddr::V4(Ipv4Addr::from_bits(n as u32)),
        false => IpAddr::V6(Ipv6Addr::from_bits(n)),
    };
    let span = |o: &Opening| (number(o.element.from.address()), number(o.element.from.last()));
    // A prefix never ends at the last address of IPv6 (multicast), so the + 1 cannot wrap.
    let edges = openings.iter().map(|o| span(o)).flat_map(|(a, b)| [a, b.saturating_add(1)]);
    let mut starts: Vec<&Opening> = openings.to_vec();
    starts.sort_unstable_by_key(|o| std::cmp::Reverse(span(o).0));
    // What has begun, the latest end on top; what does not reach a piece has ended before it.
    let mut begun: BinaryHeap<(Mono, u128)> = BinaryHeap::new();
    let mut out: Vec<((u128, u128), Mono)> = Vec::new();
    for (first, last) in pieces(edges) {
        while let Some(next) = starts.pop_if(|o| span(o).0 <= first) {
            begun.push((next.until, span(next).1));
        }
        while begun.peek().is_some_and(|(_, end)| *end < last) {
            begun.pop();
        }
        let Some((until, _)) = begun.peek().copied() else { continue };
        match out.last_mut() {
            Some(((_, end), same)) if *same == until && end.checked_add(1) == Some(first) => {
                *end = last;
            }
            Some(_) | None => out.push(((first, last), until)),
        }
    }
    out.into_iter().map(|((a, b), until)| ((address(a), address(b)), until)).collect()
}

/// The closed intervals between neighbouring edges.
fn pieces(edges: impl Iterator<Item = u128>) -> Vec<(u128, u128)> {
    let mut sorted: Vec<u128> = edges.collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.windows(2).map(|w| (w[0], w[1] - 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Element;
    use super::*;
    use proptest::prelude::*;

    fn opening(from: &str, to: &str, until: u64) -> Opening {
        let element = Element { from: from.parse().unwrap(), to: to.parse().unwrap() };
        Opening { element, until: Mono(until) }
    }

    #[test]
    fn a_hole_with_a_later_end_splits_the_wide_one() {
        let boxes = disjoint(&[
            opening("10.0.0.0/24", "tcp/80-90", 50),
            opening("10.0.0.64/26", "tcp/85-95", 70),
        ]);
        let shown: Vec<String> = boxes
            .iter()
            .map(|(r, m)| format!("{}-{} {:?} {}", r.addresses.0, r.addresses.1, r.ports, m.0))
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.0.0-10.0.0.255 (80, 84) 50",
                "10.0.0.0-10.0.0.63 (85, 90) 50",
                "10.0.0.64-10.0.0.127 (85, 90) 70",
                "10.0.0.128-10.0.0.255 (85, 90) 50",
                "10.0.0.64-10.0.0.127 (91, 95) 70",
            ]
        );
    }

    proptest! {
        /// Every point is open exactly as long as the latest opening over it, and in one box only.
        #[test]
        fn every_point_keeps_its_latest_end(
            list in prop::collection::vec((0u32..64, 26u8..=32, 1u16..20, 0u16..8, 1u64..9), 0..8),
            point in (0u32..64, 1u16..30),
        ) {
            let openings: Vec<Opening> = list.iter().map(|&(a, len, first, more, until)| {
                let base = 0x0a00_0000u32 + a;
                let net = base & (u32::MAX << (32 - u32::from(len)));
                let from = format!("{}/{len}", Ipv4Addr::from(net));
                opening(&from, &format!("tcp/{first}-{}", first + more), until)
            }).collect();
            let at = IpAddr::V4(Ipv4Addr::from(0x0a00_0000u32 + point.0));
            let want = openings.iter().filter(|o| {
                let e = &o.element;
                e.from.address() <= at && at <= e.from.last()
                    && e.to.first() <= point.1 && point.1 <= e.to.last()
            }).map(|o| o.until).max();
            let have: Vec<Mono> = disjoint(&openings).into_iter().filter(|(r, _)| {
                r.addresses.0 <= at && at <= r.addresses.1
                    && r.ports.0 <= point.1 && point.1 <= r.ports.1
            }).map(|(_, until)| until).collect();
            prop_assert_eq!(have, want.into_iter().collect::<Vec<_>>());
        }
    }
}
