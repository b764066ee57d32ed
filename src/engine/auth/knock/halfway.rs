//! A table that ages and is never larger than it may be.

use super::Place;
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet};

/// What is known of places, each until a moment of its own.
#[derive(Debug)]
pub(super) struct Halfway<T> {
    most: usize,
    known: BTreeMap<Place, (T, Mono)>,
    ends: BTreeSet<(Mono, Place)>,
}

impl<T> Default for Halfway<T> {
    fn default() -> Halfway<T> {
        Halfway::new(0)
    }
}

impl<T> Halfway<T> {
    /// Empty, for at most so many.
    pub(super) fn new(most: usize) -> Halfway<T> {
        Halfway { most, known: BTreeMap::new(), ends: BTreeSet::new() }
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, now: Mono) {
        while self.ends.first().is_some_and(|(until, _)| *until < now) {
            if let Some((_, place)) = self.ends.pop_first() {
                self.known.remove(&place);
            }
        }
    }

    /// Remembers this until then, unless it is new and there is no room: nobody else goes for it.
    pub(super) fn put(&mut self, place: Place, what: T, until: Mono) {
        self.take(&place);
        if self.known.len() < self.most {
            self.known.insert(place, (what, until));
            self.ends.insert((until, place));
        }
    }

    /// What was known of it, and is not any more.
    pub(super) fn take(&mut self, place: &Place) -> Option<T> {
        let (what, until) = self.known.remove(place)?;
        self.ends.remove(&(until, *place));
        Some(what)
    }

    pub(super) fn has(&self, place: &Place) -> bool {
        self.known.contains_key(place)
    }

    /// Whether nobody new is remembered.
    pub(super) fn is_full(&self) -> bool {
        self.known.len() >= self.most
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }
}
