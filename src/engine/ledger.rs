//! What has been granted and may still be alive, and how often a credential has been used: what a
//! new segment of the journal has to repeat.

use super::{Record, Reject};
use crate::access::{Access, Action, Assurance, Claim, ClientId, Denied, Prefix, Services};
use crate::time::{Mono, Now, Unix};
use std::collections::{BTreeMap, BTreeSet};

/// Client, addresses, services, replace, action.
type Key = (ClientId, [Option<Prefix>; 2], Services, bool, bool);

/// What was said about leases, in the order in which it was said; what a later word makes
/// meaningless is left out.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    said: u64,
    latest: BTreeMap<Key, u64>,
    claims: BTreeMap<u64, Claim>,
    /// The last word of each client that ended leases.
    ended: BTreeMap<ClientId, u64>,
    ages: Ages,
    uses: BTreeMap<ClientId, u32>,
}

/// When each claim can be forgotten: none is looked at before, however many there are.
#[derive(Debug, Default)]
struct Ages {
    /// By date, as long as a packet that old could still come.
    dated: BTreeSet<(Unix, u64)>,
    /// By end, when none that old can come any more.
    ending: BTreeSet<(Mono, u64)>,
    /// The opens of each client.
    opens: BTreeMap<ClientId, BTreeSet<u64>>,
    /// What is over and has ended leases of its client which may not be over.
    lingering: BTreeMap<ClientId, BTreeSet<u64>>,
}

impl Ages {
    fn add(&mut self, said: u64, claim: &Claim) {
        self.dated.insert((claim.time, said));
        if claim.action == Action::Open {
            self.opens.entry(claim.client).or_default().insert(said);
        }
    }

    fn remove(&mut self, said: u64, claim: &Claim) {
        self.dated.remove(&(claim.time, said));
        self.ending.remove(&(end(claim), said));
        for some in [&mut self.opens, &mut self.lingering] {
            if let Some(own) = some.get_mut(&claim.client) {
                own.remove(&said);
                if own.is_empty() {
                    some.remove(&claim.client);
                }
            }
        }
    }

    /// Something of that client that lingers and has nothing to linger for.
    fn idle(&self, client: ClientId) -> Option<u64> {
        let first = self.lingering.get(&client)?.first().copied();
        first.filter(|said| !self.follows(*said, client))
    }

    /// Whether the client had been granted something before, that is still remembered.
    fn follows(&self, said: u64, client: ClientId) -> bool {
        self.opens.get(&client).and_then(BTreeSet::first).is_some_and(|first| *first < said)
    }
}

/// When a claim means nothing any more by itself.
fn end(claim: &Claim) -> Mono {
    match claim.action {
        Action::Open => claim.until,
        Action::Close => Mono(0),
    }
}

fn key(claim: &Claim, action: Action, replace: bool) -> Key {
    (claim.client, claim.addresses, claim.services, replace, action == Action::Open)
}

/// Whether it ends leases of the same client.
fn ends(claim: &Claim) -> bool {
    claim.action == Action::Close || claim.replace
}

impl Ledger {
    /// Remembers a grant or the end of one.
    pub(super) fn note(&mut self, mut claim: Claim) {
        let own = key(&claim, claim.action, claim.replace);
        match claim.action {
            Action::Open => self.extend(&own, &mut claim),
            Action::Close => self.end(&own, &mut claim),
        }
        self.said += 1;
        if ends(&claim) {
            self.ended.insert(claim.client, self.said);
        }
        self.latest.insert(own, self.said);
        self.ages.add(self.said, &claim);
        self.claims.insert(self.said, claim);
        self.settle(claim.client);
    }

    /// A close ends what the same words opened, and stands for what they closed: also for a later
    /// date, which comes first if packets overtake each other.
    fn end(&mut self, own: &Key, claim: &mut Claim) {
        if let Some(old) = self.find(own) {
            claim.time = claim.time.max(old.time);
        }
        self.drop(own);
        self.drop(&key(claim, Action::Open, claim.replace));
        if claim.replace {
            self.drop(&key(claim, Action::Open, false));
            // One of fewer addresses and a later date says something else.
            let here = key(claim, Action::Close, false);
            if self.find(&here).is_some_and(|old| old.time <= claim.time) {
                self.drop(&here);
            }
        }
    }

    /// An open never shortens a lease: it takes over how long the same words said before, unless
    /// leases were ended in between. The later date counts in any case.
    fn extend(&mut self, own: &Key, claim: &mut Claim) {
        let Some(before) = self.latest.get(own).copied() else { return };
        let Some(old) = self.claims.get(&before) else { return };
        let ended = self.ended.get(&claim.client).is_some_and(|n| *n > before);
        claim.time = claim.time.max(old.time);
        if !ended {
            claim.until = claim.until.max(old.until);
        }
        if claim.until >= old.until {
            self.drop(own);
        }
    }

    fn find(&self, key: &Key) -> Option<&Claim> {
        self.latest.get(key).and_then(|said| self.claims.get(said))
    }

    fn drop(&mut self, key: &Key) {
        if let Some(said) = self.latest.remove(key)
            && let Some(claim) = self.claims.remove(&said)
        {
            self.ages.remove(said, &claim);
        }
    }

    /// Counts one use of a metered credential.
    pub(super) fn use_once(&mut self, client: ClientId) -> Record {
        let count = self.uses.entry(client).or_default();
        *count = count.saturating_add(1);
        Record::Used { client, count: *count }
    }

    /// Takes back what the journal says.
    pub(super) fn restore_uses(&mut self, client: ClientId, count: u32) {
        let have = self.uses.entry(client).or_default();
        *have = (*have).max(count);
    }

    /// Whether the credential is good for the use that was just counted.
    pub(super) fn check_uses(&self, access: &Access) -> Result<(), Reject> {
        match access.uses {
            Some(most) if self.used(access) > most => Err(Denied::UsedUp.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the credential is good for one more use.
    pub(super) fn check_left(&self, access: &Access) -> Result<(), Reject> {
        match access.uses {
            Some(most) if self.used(access) >= most => Err(Denied::UsedUp.into()),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it has been used at all.
    pub(super) fn is_used(&self, what: ClientId) -> bool {
        self.uses.contains_key(&what)
    }

    fn used(&self, access: &Access) -> u32 {
        self.uses.get(&access.client).copied().unwrap_or(0)
    }

    /// Forgets claims that are over. One that ended leases stays until the leases that it may have
    /// ended are over by themselves, and every one as long as a packet that old could still come.
    pub(super) fn forget(&mut self, now: Now, oldest: Unix) {
        while let Some((time, said)) = self.ages.dated.first().copied().filter(|d| d.0 < oldest) {
            self.ages.dated.remove(&(time, said));
            let end = self.claims.get(&said).map(end);
            self.ages.ending.extend(end.map(|end| (end, said)));
        }
        while let Some((end, said)) = self.ages.ending.first().copied().filter(|e| e.0 <= now.mono)
        {
            self.ages.ending.remove(&(end, said));
            let Some(claim) = self.claims.get(&said).copied() else { continue };
            let lingers = ends(&claim) && self.ages.follows(said, claim.client);
            match lingers {
                true => {
                    self.ages.lingering.entry(claim.client).or_default().insert(said);
                }
                false => self.forget_one(said, &claim),
            }
            self.settle(claim.client);
        }
    }

    /// Forgets what lingered for leases that are gone.
    fn settle(&mut self, client: ClientId) {
        while let Some(said) = self.ages.idle(client) {
            let Some(claim) = self.claims.get(&said).copied() else { return };
            self.forget_one(said, &claim);
        }
    }

    fn forget_one(&mut self, said: u64, claim: &Claim) {
        self.claims.remove(&said);
        self.ages.remove(said, claim);
        let key = key(claim, claim.action, claim.replace);
        if self.latest.get(&key) == Some(&said) {
            self.latest.remove(&key);
        }
        if self.ended.get(&claim.client) == Some(&said) {
            self.ended.remove(&claim.client);
        }
    }

    /// All claims in the order in which they were made.
    pub(super) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values()
    }

    /// What ends all that is remembered as open on that prefix: a close for each client and address.
    pub(super) fn on(&self, prefix: &Prefix, now: Now) -> Vec<Claim> {
        let mut ends: BTreeMap<(ClientId, Prefix), Claim> = BTreeMap::new();
        for claim in self.claims().filter(|c| c.action == Action::Open && c.until > now.mono) {
            for address in claim.addresses().filter(|a| a.overlaps(prefix)) {
                let mut addresses = [None; 2];
                addresses[usize::from(address.address().is_ipv6())] = Some(address);
                let close = ends.entry((claim.client, address)).or_insert(Claim {
                    client: claim.client,
                    assurance: Assurance::Sealed,
                    action: Action::Close,
                    replace: false,
                    addresses,
                    services: Services::EMPTY,
                    time: now.unix,
                    until: claim.until,
                });
                close.until = close.until.max(claim.until);
            }
        }
        ends.into_values().collect()
    }

    /// What a new segment repeats.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        let uses = self.uses.iter().map(|(c, n)| Record::Used { client: *c, count: *n });
        uses.chain(self.claims.values().map(Record::of))
    }
}

#[cfg(test)]
mod tests;
