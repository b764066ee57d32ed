//! The sets that are the same for as long as the shield is.

use super::super::Routed;
use super::sets::{Contents, PORTS, RESETS, ROUTED4, ROUTED6, Set, host, pair, ports};
use super::{Element, Form, Shield};
use crate::access::{Ports, Refuse};
use std::collections::BTreeSet;

/// Each with what shall be in it.
pub(super) fn statics(shield: &Shield) -> Vec<(Set, Contents)> {
    let all = shield.protected.iter().map(|(ports, _)| *ports).filter(Ports::is_single);
    let all: Vec<Ports> = all.collect();
    match shield.form {
        Form::Shield => {
            [vec![of(PORTS, &all), of(RESETS, &resets(shield))], routed(shield)].concat()
        }
        Form::Mark(_) => [vec![of(PORTS, &all)], routed(shield)].concat(),
        Form::Chain { .. } => Vec::new(),
    }
}

fn of(set: Set, list: &[Ports]) -> (Set, Contents) {
    let set = set.holding(list);
    (set, list.iter().map(|p| (ports(p, set.interval), None)).collect())
}

/// A port of a service elsewhere belongs to no other, and is the same at all its hosts.
fn resets(shield: &Shield) -> Vec<Ports> {
    let elsewhere = shield.routed.iter().map(|r| (r.ports, r.refuse));
    let all = shield.protected.iter().copied().chain(elsewhere);
    let these = all.filter(|(_, how)| *how == Refuse::Reset).map(|(ports, _)| ports);
    these.collect::<BTreeSet<_>>().into_iter().collect()
}

/// What is protected at other hosts: one address and one port each; nothing where there is nothing
/// elsewhere.
fn routed(shield: &Shield) -> Vec<(Set, Contents)> {
    let key = |r: &Routed| {
        let set = if r.at.address().is_ipv4() { ROUTED4 } else { ROUTED6 };
        Some(((set, host(&Element { from: r.at, to: r.ports })?.1), None))
    };
    let keys = shield.routed.iter().filter_map(key);
    pair([ROUTED4, ROUTED6], keys).into_iter().filter(|_| !shield.routed.is_empty()).collect()
}

/// The other ones.
pub(super) fn ranges(shield: &Shield) -> impl Iterator<Item = &Routed> {
    shield.routed.iter().filter(|r| !(r.at.is_host() && r.ports.is_single()))
}
