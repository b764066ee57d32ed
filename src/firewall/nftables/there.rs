//! Which elements of one address and one port the kernel has been given, so that one that is new is
//! only added: a third of the work of giving one a new end.

use super::plan::{self, Unit};
use super::sets::{Key, Pair, Set};
use std::collections::{BTreeMap, BTreeSet};

/// The keys of both families: they are of different lengths.
#[derive(Debug, Default)]
pub(super) struct There(BTreeSet<Key>);

impl There {
    /// What a `sync` has put there.
    pub(super) fn of(hosts: &Pair<Option<u64>>) -> There {
        There(hosts.iter().flat_map(|(_, all)| all.keys().cloned()).collect())
    }

    /// What puts these there, with these ends.
    pub(super) fn units(&self, hosts: &Pair<Option<u64>>) -> Vec<Unit> {
        hosts.iter().flat_map(|(set, all)| self.of_set(set, all)).collect()
    }

    fn of_set(&self, set: &Set, all: &BTreeMap<Key, Option<u64>>) -> Vec<Unit> {
        let all = all.iter().map(|(key, left)| (key, *left));
        let (there, fresh) = all.partition(|(key, _)| self.0.contains(*key));
        let mut units = plan::renew(set, &there);
        units.extend(plan::fresh(set, &fresh));
        units
    }

    /// They are there.
    pub(super) fn add(&mut self, hosts: Pair<Option<u64>>) {
        self.0.extend(hosts.into_iter().flat_map(|(_, all)| all.into_keys()));
    }

    /// They go; where that fails a `sync` follows.
    pub(super) fn remove<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        keys.for_each(|key| {
            self.0.remove(key);
        });
    }
}
