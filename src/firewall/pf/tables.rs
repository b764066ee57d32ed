//! Which tables there are, and what they hold: pure.
//!
//! A table of pf holds addresses and no ports, so there is one for each range of ports that a lease
//! is on. Every protected range has one for good; a lease on a part of a range has one as long as
//! there are such leases.

use super::Element;
use crate::access::{Ports, Prefix, Protocol};
use std::collections::{BTreeMap, BTreeSet};

/// The most tables of ours: OpenBSD has room for 1,000 of all anchors together.
const MOST: usize = 500;

/// Holds who is banned.
pub(super) const BANNED: &str = "banned";

/// What a table is called: at most 15 letters, where pf takes 31.
pub(super) fn name(ports: &Ports) -> String {
    match ports.is_single() {
        true => format!("{}_{}", ports.protocol(), ports.first()),
        false => format!("{}_{}_{}", ports.protocol(), ports.first(), ports.last()),
    }
}

/// The ports that a table of this name is for, if it is a name of ours.
pub(super) fn ports(table: &str) -> Option<Ports> {
    let mut parts = table.split('_');
    let protocol = match parts.next()? {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let first = parts.next()?.parse().ok()?;
    let last = parts.next().map_or(Some(first), |t| t.parse().ok())?;
    let ports = Ports::new(protocol, first, last)?;
    (name(&ports) == table).then_some(ports)
}

/// The tables for these elements: first those of the protected ranges, then those that are there
/// already, then others while there is room. What gets none stays shut.
pub(super) fn wanted<'a>(
    protected: impl Iterator<Item = Ports>,
    there: &BTreeSet<Ports>,
    elements: impl Iterator<Item = &'a Element>,
) -> BTreeSet<Ports> {
    let mut tables: BTreeSet<Ports> = protected.collect();
    let parts: BTreeSet<Ports> =
        elements.map(|e| e.to).filter(|ports| !tables.contains(ports)).collect();
    let (old, new): (Vec<Ports>, Vec<Ports>) = parts.iter().partition(|p| there.contains(p));
    let room = MOST.saturating_sub(tables.len());
    tables.extend(old.into_iter().chain(new).take(room));
    tables
}

/// The addresses of these elements, by table.
pub(super) fn contents<'a>(
    elements: impl Iterator<Item = &'a Element>,
) -> BTreeMap<Ports, BTreeSet<Prefix>> {
    let mut contents: BTreeMap<Ports, BTreeSet<Prefix>> = BTreeMap::new();
    for element in elements {
        contents.entry(element.to).or_default().insert(element.from);
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(from: &str, to: &str) -> Element {
        Element { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    #[test]
    fn a_table_and_its_ports_name_each_other() {
        for (text, table) in [
            ("tcp/22", "tcp_22"),
            ("udp/51820", "udp_51820"),
            ("tcp/10000-65535", "tcp_10000_65535"),
        ] {
            let range: Ports = text.parse().unwrap();
            assert_eq!(name(&range), table);
            assert_eq!(ports(table), Some(range));
            assert!(table.len() <= 31);
        }
        for other in ["", BANNED, "tcp", "tcp_0", "tcp_022", "tcp_22_22", "sctp_22", "tcp_1_2_3"] {
            assert_eq!(ports(other), None, "{other}");
        }
    }

    #[test]
    fn each_range_of_ports_has_its_own_table() {
        let elements = [
            element("192.0.2.1", "tcp/22"),
            element("2001:db8::/64", "tcp/22"),
            element("192.0.2.1", "tcp/8003"),
            element("192.0.2.1", "udp/22"),
        ];
        let protected = ["tcp/22", "tcp/8000-8010"].map(|p| p.parse().unwrap());
        let tables = wanted(protected.into_iter(), &BTreeSet::new(), elements.iter());
        let names: Vec<String> = tables.iter().map(name).collect();
        assert_eq!(names, ["tcp_22", "tcp_8000_8010", "tcp_8003", "udp_22"]);
        let held = contents(elements.iter());
        let ssh = &held[&"tcp/22".parse().unwrap()];
        assert_eq!(ssh.len(), 2);
        assert_eq!(held.values().map(BTreeSet::len).sum::<usize>(), 4);
    }

    #[test]
    fn where_there_is_no_room_what_is_there_stays() {
        let protected: Ports = "tcp/1-65535".parse().unwrap();
        let old: Ports = "tcp/60000".parse().unwrap();
        let mut elements: Vec<Element> =
            (1..=600).map(|n| element("192.0.2.1", &format!("tcp/{n}"))).collect();
        elements.push(Element { to: old, ..elements[0] });
        let tables = wanted([protected].into_iter(), &BTreeSet::from([old]), elements.iter());
        assert_eq!(tables.len(), MOST);
        assert!(tables.contains(&protected) && tables.contains(&old));
        assert!(!tables.contains(&elements[599].to));
    }
}
