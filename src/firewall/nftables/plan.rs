//! Differences as messages, and messages as transactions.

use super::Shield;
use super::dump::Found;
use super::home::{GUEST, Home};
use super::message::{
    ELEMENTS, add, delete, delete_chain, delete_rule, delete_rules, delete_set, delete_table,
    new_chain, new_jump, new_rule, new_set, new_table,
};
use super::rules::{chains, rules};
use super::sets::{Contents, Key, LEASE4, LEASE6, Set, WIDE4, WIDE6};
use super::socket::Message;
use std::ffi::CStr;

/// An end that is off by more than this is corrected, in milliseconds.
const TOLERANCE: u64 = 1000;
/// The timeout of an element that is deleted in the same transaction, in milliseconds.
const BRIEF: u64 = 1000;

/// Messages that stand or fall together.
pub(super) type Unit = Vec<Message>;

pub(super) type Elements<'a> = Vec<(&'a Key, Option<u64>)>;

/// [`add`] or [`delete`].
type Write = fn(&Set, &[(&Key, Option<u64>)]) -> Message;

fn messages(set: &Set, elements: &Elements<'_>, one: Write) -> Vec<Message> {
    elements.chunks(ELEMENTS).map(|some| one(set, some)).collect()
}

/// Elements with these ends, whether they are there or not and however soon they expire.
///
/// *Add, delete, add*: delete alone fails on what has just expired, and takes the transaction with
/// it; add alone changes no end on kernels before 6.12.
pub(super) fn renew(set: &Set, elements: &Elements<'_>) -> Vec<Unit> {
    let unit = |some: &[_]| vec![add(set, some), delete(set, some), add(set, some)];
    elements.chunks(ELEMENTS).map(unit).collect()
}

/// Elements that are not there, or have expired.
pub(super) fn fresh(set: &Set, elements: &Elements<'_>) -> Vec<Unit> {
    messages(set, elements, add).into_iter().map(|message| vec![message]).collect()
}

/// Elements away, whether they are there or not. What is added in a transaction and deleted in
/// the same one is never in force.
pub(super) fn remove<'a>(set: &Set, keys: impl Iterator<Item = &'a Key>) -> Vec<Unit> {
    let elements: Elements<'_> = keys.map(|key| (key, set.timeout.then_some(BRIEF))).collect();
    let unit = |some: &[_]| vec![add(set, some), delete(set, some)];
    elements.chunks(ELEMENTS).map(unit).collect()
}

/// What has to go, to be changed and to come so that `have` is `want`.
struct Difference<'a> {
    gone: Elements<'a>,
    changed: Elements<'a>,
    fresh: Elements<'a>,
}

fn difference<'a>(have: &'a Contents, want: &'a Contents, set: &Set) -> Difference<'a> {
    let brief = set.timeout.then_some(BRIEF);
    let mut d = Difference { gone: vec![], changed: vec![], fresh: vec![] };
    d.gone.extend(have.keys().filter(|k| !want.contains_key(k)).map(|k| (k, brief)));
    for (key, left) in want {
        match (have.get(key), left) {
            (None, _) => d.fresh.push((key, *left)),
            (Some(None), None) => {}
            (Some(Some(there)), Some(left)) if there.abs_diff(*left) <= TOLERANCE => {}
            (Some(_), _) => d.changed.push((key, *left)),
        }
    }
    d
}

/// From `have` to `want` in pieces: first what goes, then what changes, then what comes.
pub(super) fn pieces(set: &Set, have: &Contents, want: &Contents) -> Vec<Unit> {
    let d = difference(have, want, set);
    let mut units = remove(set, d.gone.iter().map(|(key, _)| *key));
    units.extend(renew(set, &d.changed));
    units.extend(fresh(set, &d.fresh));
    units
}

/// From `have` to `want` at once: ranges of before and after may overlap.
pub(super) fn exchange(set: &Set, have: &Contents, want: &Contents) -> Unit {
    let d = difference(have, want, set);
    let before: Elements<'_> = d.gone.into_iter().chain(d.changed.iter().copied()).collect();
    let after: Elements<'_> = d.changed.into_iter().chain(d.fresh).collect();
    [messages(set, &before, add), messages(set, &before, delete), messages(set, &after, add)]
        .concat()
}

/// A set with what is in it and what shall be.
pub(super) struct Target {
    /// As it shall be.
    pub(super) set: Set,
    /// What is in it, if it fits.
    pub(super) have: Option<Contents>,
    /// What shall be in it.
    pub(super) want: Contents,
    /// The order of the changes does not matter.
    pub(super) in_pieces: bool,
}

/// Whether the table has something that neither `sync` makes nor can mend in place; of a foreign one,
/// whether our chain is such a thing.
pub(super) fn is_foreign(shield: &Shield, home: &Home, found: &Found, targets: &[Target]) -> bool {
    let all = chains(shield);
    let chain = |(name, chain): (&std::ffi::CString, &super::dump::Chain)| {
        let ours = all.iter().find(|(n, _)| *n == name.as_c_str());
        !ours.is_some_and(|(_, hook)| *hook == chain.hook && chain.plain)
    };
    let own = home.host.is_none();
    let set =
        |name: &std::ffi::CString| own && targets.iter().all(|t| t.set.name != name.as_c_str());
    found.foreign || found.chains.iter().any(chain) || found.sets.keys().any(set)
}

/// Takes away what is ours of a foreign table.
pub(super) fn depart(host: &CStr, found: &Found) -> Unit {
    let mut unit: Unit = found.jumps.iter().map(|handle| delete_rule(host, *handle)).collect();
    if found.chains.contains_key(GUEST) {
        unit.extend([delete_rules(Some(GUEST)), delete_chain(GUEST)]);
    }
    let there = |set: &&Set| found.sets.contains_key(set.name);
    unit.extend([LEASE4, LEASE6, WIDE4, WIDE6].iter().filter(there).map(delete_set));
    unit
}

/// Everything: the first unit is the shield itself, which all the others lean on.
///
/// Rules are exchanged within their chains, so a packet meets either the old or the new ones. A
/// table with anything else in it is replaced as a whole; in a foreign one, what is ours.
pub(super) fn everything(
    shield: &Shield,
    home: &Home,
    found: &Found,
    targets: &[Target],
    replace: bool,
) -> Vec<Unit> {
    let nothing = Contents::new();
    let mut head = match &home.host {
        Some(host) if replace => depart(host, found),
        Some(host) => {
            let jumps = found.jumps.iter().map(|handle| delete_rule(host, *handle));
            let chain = found.chains.keys().map(|name| delete_rules(Some(name)));
            jumps.chain(chain).collect()
        }
        None if replace => vec![new_table(), delete_table(), new_table()],
        None if found.table => vec![new_table(), delete_rules(None)],
        None => vec![new_table()],
    };
    let have = |t: &Target| t.have.clone().filter(|_| !replace).unwrap_or_default();
    for (id, target) in targets.iter().enumerate() {
        let there = found.sets.contains_key(target.set.name);
        if there && target.have.is_none() && !replace {
            head.push(delete_set(&target.set));
        }
        head.push(new_set(&target.set, id as u32 + 1));
    }
    head.extend(chains(shield).iter().map(|(name, hook)| new_chain(name, *hook)));
    for target in targets.iter().filter(|t| !t.in_pieces) {
        head.extend(exchange(&target.set, &have(target), &target.want));
    }
    head.extend(rules(shield, home).iter().map(|(chain, rule)| new_rule(chain, rule)));
    head.extend(home.host.iter().map(|host| new_jump(host)));
    let mut units = vec![head];
    let loose = || targets.iter().filter(|t| t.in_pieces);
    for target in loose() {
        let d = difference(
            target.have.as_ref().filter(|_| !replace).unwrap_or(&nothing),
            &target.want,
            &target.set,
        );
        units.extend(remove(&target.set, d.gone.iter().map(|(key, _)| *key)));
    }
    for target in loose() {
        let mut have = have(target);
        have.retain(|key, _| target.want.contains_key(key));
        units.extend(pieces(&target.set, &have, &target.want));
    }
    units
}

/// As few transactions as `room` bytes each allow, in order; a unit is never divided.
pub(super) fn transactions(units: &[Unit], room: usize) -> Vec<&[Unit]> {
    let (mut all, mut from, mut used) = (Vec::new(), 0, 0);
    for (i, unit) in units.iter().enumerate() {
        let size = unit.iter().map(Message::size).sum::<usize>();
        if i > from && used + size > room {
            all.push(&units[from..i]);
            (from, used) = (i, 0);
        }
        used += size;
    }
    all.push(&units[from..]);
    all
}

#[cfg(test)]
mod tests {
    use super::super::sets::LEASE4;
    use super::*;

    fn key(n: u8) -> Key {
        Key { first: vec![n; 12], last: None }
    }

    fn contents(list: &[(u8, Option<u64>)]) -> Contents {
        list.iter().map(|(n, left)| (key(*n), *left)).collect()
    }

    #[test]
    fn only_what_differs_by_more_than_a_second_is_touched() {
        let have = contents(&[(1, Some(5000)), (2, Some(5000)), (3, None), (4, Some(9))]);
        let want = contents(&[(1, Some(6000)), (2, Some(6001)), (3, Some(9)), (5, Some(1))]);
        let d = difference(&have, &want, &LEASE4);
        let keys = |e: &Elements<'_>| e.iter().map(|(k, _)| k.first[0]).collect::<Vec<_>>();
        assert_eq!(
            (keys(&d.gone), keys(&d.changed), keys(&d.fresh)),
            (vec![4], vec![2, 3], vec![5])
        );
    }

    #[test]
    fn a_unit_is_never_divided_and_the_order_stays() {
        let unit = |n: usize| {
            let body = vec![0; 84];
            vec![Message { what: n.to_string(), kind: 0, flags: 0, set: None, body }; n]
        };
        let room = 3 * unit(1)[0].size();
        let units = [unit(1), unit(2), vec![], unit(3), unit(9), unit(1)];
        let all = transactions(&units, room);
        let sizes = |some: &&[Unit]| some.iter().map(Vec::len).collect::<Vec<_>>();
        let all: Vec<Vec<usize>> = all.iter().map(sizes).collect();
        assert_eq!(all, [vec![1, 2, 0], vec![3], vec![9], vec![1]]);
        assert_eq!(transactions(&units, 0).len(), units.len());
        assert!(transactions(&[], 9).concat().is_empty());
    }
}
