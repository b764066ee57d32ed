//! What was granted and `[priv]` has yet to be told: in order, merged, and never so much that
//! receiving has to stop for it.
//!
//! `[priv]` can be slow for seconds (somebody holds the lock of iptables) or not read at all. The
//! records are written by then, so nothing of this may be lost, and nothing may be told that a later
//! word has ended.

use super::Channel;
use crate::access::{Action, Assurance, Claim, ClientId, Prefix, Services};
use crate::daemon::channel::Broken;
use crate::daemon::frame::Frame;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// So many frames are handed to the channel ahead: more than its socket takes at once. What it has
/// is merged no more.
const AHEAD: usize = 512;

/// Opens that differ in nothing but their dates and ends.
type Key = (ClientId, [Option<Prefix>; 2], Services, Assurance);

/// Grants on their way, by the numbers that they got when they were made.
#[derive(Default)]
pub(super) struct Outbox {
    /// None: taken back.
    waiting: VecDeque<Option<Claim>>,
    /// The number of the first that waits.
    first: u64,
    /// The last open of its kind.
    opens: BTreeMap<Key, u64>,
    clients: BTreeMap<ClientId, Own>,
}

/// What waits of one client.
#[derive(Default)]
struct Own {
    waiting: BTreeSet<u64>,
    /// The last that ends leases: nothing is merged over it.
    ended: Option<u64>,
}

fn key(claim: &Claim) -> Key {
    (claim.client, claim.addresses, claim.services, claim.assurance)
}

/// Whether it ends leases of the same client: then its place among the others matters.
fn ends(claim: &Claim) -> bool {
    claim.action == Action::Close || claim.replace
}

/// Whether a close, as `[priv]` says it, is about that claim too.
fn meets(close: &Claim, claim: &Claim) -> bool {
    let here = |a: Prefix| close.addresses().any(|b| a.overlaps(&b));
    let same = close.services.is_empty() || close.services == claim.services;
    same && (close.replace || claim.addresses().any(here))
}

impl Outbox {
    /// How many wait here.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// One more grant, whose record is written. An open that was asked for again is one with the later
    /// end, in the earlier place.
    pub(super) fn push(&mut self, claim: Claim) {
        let own = self.clients.entry(claim.client).or_default();
        let number = self.first + self.waiting.len() as u64;
        if ends(&claim) {
            own.ended = Some(number);
        } else {
            let before = self.opens.get(&key(&claim)).filter(|n| own.ended < Some(**n));
            let at = before.and_then(|n| usize::try_from(n.checked_sub(self.first)?).ok());
            if let Some(Some(same)) = at.and_then(|at| self.waiting.get_mut(at)) {
                same.until = same.until.max(claim.until);
                same.time = same.time.max(claim.time);
                return;
            }
            self.opens.insert(key(&claim), number);
        }
        own.waiting.insert(number);
        self.waiting.push_back(Some(claim));
    }

    fn of(&self, client: ClientId) -> impl Iterator<Item = u64> + '_ {
        self.clients.get(&client).into_iter().flat_map(|own| own.waiting.iter().copied())
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    fn pop(&mut self) -> Option<Claim> {
        while let Some(next) = self.waiting.pop_front() {
            let number = self.first;
            self.first += 1;
            if let Some(claim) = next {
                self.leave(number, &claim);
                return Some(claim);
            }
        }
        None
    }

    /// It waits no more.
    fn leave(&mut self, number: u64, claim: &Claim) {
        if self.opens.get(&key(claim)) == Some(&number) {
            self.opens.remove(&key(claim));
        }
        if let Some(own) = self.clients.get_mut(&claim.client) {
            own.waiting.remove(&number);
            if own.waiting.is_empty() {
                self.clients.remove(&claim.client);
            }
        }
    }

    /// That client is gone: nothing more is told of him.
    pub(super) fn forget(&mut self, client: ClientId) {
        let own: Vec<u64> = self.of(client).collect();
        own.into_iter().for_each(|number| self.change(number, |_| None));
    }

    /// Puts something else in the place of one that waits, or nothing.
    fn change(&mut self, number: u64, change: impl FnOnce(Claim) -> Option<Claim>) {
        let place = self.place(number).and_then(|at| self.waiting.get_mut(at));
        let Some((place, claim)) = place.and_then(|p| p.map(|claim| (p, claim))) else { return };
        let left = change(claim);
        *place = left;
        if left.is_none() {
            self.leave(number, &claim);
        } else if left != Some(claim) && self.opens.get(&key(&claim)) == Some(&number) {
            // It is of another kind now.
            self.opens.remove(&key(&claim));
        }
    }

    /// All that was granted so far on that prefix is ended, whatever its date.
    pub(super) fn evict(&mut self, prefix: &Prefix) {
        for number in self.first..self.first + self.waiting.len() as u64 {
            self.change(number, |claim| claim.without(|a| a.overlaps(prefix)));
        }
    }

    /// `[priv]` has ended leases by itself: opens from before that, which it has not heard of yet,
    /// are taken back, each as far as it is meant. Those of a later date stay, and what the journal
    /// has to say of them again is returned.
    pub(super) fn handle_decided(&mut self, close: &Claim) -> Vec<Claim> {
        if close.action == Action::Open || !self.clients.contains_key(&close.client) {
            return Vec::new();
        }
        let ended = |c: &Claim| c.action == Action::Open && meets(close, c);
        let here = |a: &Prefix| close.replace || close.addresses().any(|b| a.overlaps(&b));
        let own: Vec<u64> = self.of(close.client).collect();
        for number in own {
            self.change(number, |claim| match ended(&claim) && claim.time <= close.time {
                true => claim.without(here),
                false => Some(claim),
            });
        }
        let claim = |number: u64| *self.waiting.get(self.place(number)?)?;
        self.of(close.client).filter_map(claim).filter(ended).collect()
    }

    /// Hands over what the channel takes, and sends what its socket takes.
    pub(super) fn send(&mut self, channel: &mut Channel, generation: u32) -> Result<(), Broken> {
        loop {
            while channel.waiting() < AHEAD
                && let Some(claim) = self.pop()
            {
                channel.push(&Frame::Grant(claim), generation, vec![]);
            }
            channel.flush()?;
            if channel.is_waiting() || self.waiting.is_empty() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
