//! Our sets, and the keys of what is in them.

use super::super::{Element, Rectangle};
use super::expression::Field::{self, At4, At6, From as Sport, Protocol, To, V4, V6};
use crate::access::{Ports, Prefix};
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::net::IpAddr;

/// NFT_SET_INTERVAL, NFT_SET_TIMEOUT, NFT_SET_EVAL and NFT_SET_CONCAT.
const INTERVAL: u32 = 0x4;
const TIMEOUT: u32 = 0x10;
const EVAL: u32 = 0x20;
const CONCAT: u32 = 0x80;

/// Milliseconds between two rounds of the collector in the sets that change all the time.
const COLLECTED: u32 = 200;

/// The most that are remembered of those who would have been dropped, for each family.
const SEEN: u32 = 4096;

/// What a set is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Set {
    /// Its name in our table.
    pub(super) name: &'static CStr,
    /// What its key is made of.
    pub(super) fields: &'static [Field],
    /// Its elements end by themselves.
    pub(super) timeout: bool,
    /// Its elements are ranges.
    pub(super) interval: bool,
    /// The most elements, in a set that rules write to.
    pub(super) most: Option<u32>,
}

const fn set(name: &'static CStr, fields: &'static [Field], timeout: bool) -> Set {
    Set { name, fields, timeout, interval: false, most: None }
}

const fn wide(name: &'static CStr, fields: &'static [Field]) -> Set {
    Set { name, fields, timeout: true, interval: true, most: None }
}

/// The protected ports that are no range.
pub(super) const PORTS: Set = set(c"ports", &[Protocol, To], false);
/// Those that answer like ports where nobody listens, with ranges where a service has one; `reset`
/// is a word of nft's grammar.
pub(super) const RESETS: Set = set(c"resets", &[Protocol, To], false);
/// Protected ports of other hosts, one address and one port each.
pub(super) const ROUTED4: Set = set(c"routed4", &[At4, Protocol, To], false);
/// As [`ROUTED4`].
pub(super) const ROUTED6: Set = set(c"routed6", &[At6, Protocol, To], false);
/// Openings of one address and one port.
pub(super) const LEASE4: Set = set(c"lease4", &[V4, Protocol, To], true);
/// As [`LEASE4`].
pub(super) const LEASE6: Set = set(c"lease6", &[V6, Protocol, To], true);
/// All other openings, disjoint.
pub(super) const WIDE4: Set = wide(c"wide4", &[V4, Protocol, To]);
/// As [`WIDE4`].
pub(super) const WIDE6: Set = wide(c"wide6", &[V6, Protocol, To]);
/// Sessions that conntrack may not know.
pub(super) const OLDER4: Set = set(c"older4", &[V4, Sport, To], false);
/// As [`OLDER4`].
pub(super) const OLDER6: Set = set(c"older6", &[V6, Sport, To], false);
/// Whose sessions have been ended.
pub(super) const CUT4: Set = set(c"cut4", &[V4, Protocol, To], true);
/// As [`CUT4`].
pub(super) const CUT6: Set = set(c"cut6", &[V6, Protocol, To], true);
/// Who is shut out unless he holds a lease.
pub(super) const BAN4: Set = set(c"ban4", &[V4], true);
/// As [`BAN4`].
pub(super) const BAN6: Set = set(c"ban6", &[V6], true);
/// Who would have been dropped, and where to.
pub(super) const SEEN4: Set = Set { most: Some(SEEN), ..set(c"seen4", &[V4, Protocol, To], true) };
/// As [`SEEN4`].
pub(super) const SEEN6: Set = Set { most: Some(SEEN), ..set(c"seen6", &[V6, Protocol, To], true) };

impl Set {
    /// NFTA_SET_FLAGS.
    pub(super) fn flags(&self) -> u32 {
        let flag = |yes, flag| if yes { flag } else { 0 };
        flag(self.interval, INTERVAL)
            | flag(self.timeout, TIMEOUT)
            | flag(self.most.is_some(), EVAL)
            | flag(self.fields.len() > 1, CONCAT)
    }

    /// NFTA_SET_KEY_TYPE: nft's numbers, six bits each.
    pub(super) fn key_type(&self) -> u32 {
        self.fields.iter().fold(0, |sum, field| sum << 6 | field.shown())
    }

    /// NFTA_SET_KEY_LEN: each field takes whole registers.
    pub(super) fn key_len(&self) -> u32 {
        self.fields.iter().map(|f| f.len().next_multiple_of(4)).sum()
    }

    /// How often the kernel takes away what has expired, in milliseconds, where it is not to be
    /// the usual second: `patience` says why.
    pub(super) fn collected(&self) -> Option<u32> {
        (*self == LEASE4 || *self == LEASE6).then_some(COLLECTED)
    }

    /// The set of the same name that can hold these ports.
    pub(super) fn holding(self, ports: &[Ports]) -> Set {
        Set { interval: ports.iter().any(|p| !p.is_single()), ..self }
    }
}

/// The set and the key of somebody who is banned: of a /64 its first address stands for all.
pub(super) fn bar(from: &Prefix) -> (Set, Key) {
    let mut first = Vec::with_capacity(16);
    push_address(&mut first, from.address());
    (if from.address().is_ipv4() { BAN4 } else { BAN6 }, Key { first, last: None })
}

/// What identifies an element: its key, and in an interval set the key where it ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    /// The first, or the only one.
    pub(super) first: Vec<u8>,
    /// The last, in an interval set.
    pub(super) last: Option<Vec<u8>>,
}

/// What is in a set: each element with the milliseconds that are left, none: for ever.
pub(super) type Contents = BTreeMap<Key, Option<u64>>;

/// The same for two sets, one of each family.
pub(super) type Pair<T> = [(Set, BTreeMap<Key, T>); 2];

/// Sorts what belongs to the two sets into them.
pub(super) fn pair<T>(sets: [Set; 2], all: impl Iterator<Item = ((Set, Key), T)>) -> Pair<T> {
    let mut pair = sets.map(|set| (set, BTreeMap::new()));
    for ((set, key), value) in all {
        if let Some((_, place)) = pair.iter_mut().find(|(s, _)| *s == set) {
            place.insert(key, value);
        }
    }
    pair
}

fn push(key: &mut Vec<u8>, bytes: &[u8]) {
    key.extend(bytes);
    key.resize(key.len().next_multiple_of(4), 0);
}

fn push_address(key: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(a) => push(key, &a.octets()),
        IpAddr::V6(a) => push(key, &a.octets()),
    }
}

fn triple(address: IpAddr, protocol: u8, port: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    push_address(&mut key, address);
    push(&mut key, &[protocol]);
    push(&mut key, &port.to_be_bytes());
    key
}

/// The set and the key of an element that is one address and one port, or nothing.
pub(super) fn host(element: &Element) -> Option<(Set, Key)> {
    let (from, to) = (element.from, element.to);
    let set = if from.address().is_ipv4() { LEASE4 } else { LEASE6 };
    let first = triple(from.address(), to.protocol().number(), to.first());
    (from.is_host() && to.is_single()).then_some((set, Key { first, last: None }))
}

/// The set and the key of somebody whose sessions on one port have been ended, or nothing.
pub(super) fn cut(element: &Element) -> Option<(Set, Key)> {
    let set = if element.from.address().is_ipv4() { CUT4 } else { CUT6 };
    host(element).map(|(_, key)| (set, key))
}

/// The element of a key of [`SEEN4`] or [`SEEN6`].
pub(super) fn element(key: &Key) -> Option<Element> {
    let (address, rest) = key.first.split_at_checked(key.first.len().checked_sub(8)?)?;
    let from = match address.len() {
        4 => IpAddr::from(*address.first_chunk::<4>()?),
        _ => IpAddr::from(*address.first_chunk::<16>()?),
    };
    let [number, _, _, _, high, low, _, _] = *rest.first_chunk::<8>()?;
    let port = u16::from_be_bytes([high, low]);
    let to = Ports::new(crate::access::Protocol::from_number(number)?, port, port)?;
    Some(Element { from: Prefix::host(from), to })
}

/// Which of the two sets, one of each family, and the key of a piece of what is wide.
pub(super) fn rectangle([v4, v6]: [Set; 2], r: &Rectangle) -> (Set, Key) {
    let set = if r.addresses.0.is_ipv4() { v4 } else { v6 };
    let key = |address, port| triple(address, r.protocol.number(), port);
    let last = Some(key(r.addresses.1, r.ports.1));
    (set, Key { first: key(r.addresses.0, r.ports.0), last })
}

/// The key of ports in [`PORTS`] or [`RESETS`].
pub(super) fn ports(ports: &Ports, interval: bool) -> Key {
    let key = |port: u16| {
        let mut key = Vec::with_capacity(8);
        push(&mut key, &[ports.protocol().number()]);
        push(&mut key, &port.to_be_bytes());
        key
    };
    Key { first: key(ports.first()), last: interval.then(|| key(ports.last())) }
}

/// The set and the key of a session: the peer's address and port, and our port.
pub(super) fn session(peer: IpAddr, sport: u16, dport: u16) -> (Set, Key) {
    let mut first = Vec::with_capacity(24);
    push_address(&mut first, peer);
    push(&mut first, &sport.to_be_bytes());
    push(&mut first, &dport.to_be_bytes());
    (if peer.is_ipv4() { OLDER4 } else { OLDER6 }, Key { first, last: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_long_as_its_set_says() {
        for from in ["192.0.2.1", "2001:db8::1"] {
            let element = Element { from: from.parse().unwrap(), to: "udp/53".parse().unwrap() };
            let (set, key) = host(&element).unwrap();
            assert_eq!(key.first.len() as u32, set.key_len());
            assert_eq!(super::element(&key), Some(element));
            let (set, key) = session(from.parse().unwrap(), 1, 2);
            assert_eq!(key.first.len() as u32, set.key_len());
        }
        let (set, key) =
            host(&Element { from: "192.0.2.1".parse().unwrap(), to: "tcp/22".parse().unwrap() })
                .unwrap();
        assert_eq!(key.first, [192, 0, 2, 1, 6, 0, 0, 0, 0, 22, 0, 0]);
        assert_eq!((set.flags(), set.key_type()), (0x90, (7 << 12) | (12 << 6) | 13));
        assert_eq!((BAN4.flags(), BAN4.key_type(), BAN6.key_len()), (0x10, 7, 16));
    }

    #[test]
    fn what_is_wide_is_no_host() {
        for (from, to) in [("192.0.2.0/31", "tcp/22"), ("192.0.2.1", "tcp/22-23")] {
            let element = Element { from: from.parse().unwrap(), to: to.parse().unwrap() };
            assert_eq!(host(&element), None);
        }
    }
}
