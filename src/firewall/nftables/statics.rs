//! The sets that are the same for as long as the shield is.

use super::sets::{Contents, PORTS, RESETS, ROUTED4, ROUTED6, Set, pair, ports, rectangle};
use super::{Element, Form, Mono, Opening, Shield, disjoint};
use crate::access::{Ports, Refuse};
use std::collections::BTreeSet;

/// Each with what shall be in it.
pub(super) fn statics(shield: &Shield) -> Vec<(Set, Contents)> {
    let all: Vec<Ports> = shield.protected.iter().map(|(ports, _)| *ports).collect();
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

/// What is protected at other hosts, disjoint; nothing where there is none.
fn routed(shield: &Shield) -> Vec<(Set, Contents)> {
    let openings = shield
        .routed
        .iter()
        .map(|r| Opening { element: Element { from: r.at, to: r.ports }, until: Mono(0) });
    let sets = [ROUTED4, ROUTED6];
    let parts = disjoint(&openings.collect::<Vec<_>>());
    let parts = parts.iter().map(|(r, _)| (rectangle(sets, r), None));
    pair(sets, parts).into_iter().filter(|_| !shield.routed.is_empty()).collect()
}
