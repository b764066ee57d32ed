//! What leases and connections have to do with each other: the end of a lease can cut what runs
//! through it, and a connection can keep its lease alive.

use super::{AGAIN, Enforcer};
use crate::access::{Access, Action, Claim, ClientId, Ports, Services, Wanted};
use crate::firewall::Element;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// So long before its end it is looked whether a lease is used, so that the kernel never forgets
/// it: ms.
const AHEAD: u64 = 2_000;
/// The kernel is asked about connections no more often: a question reads all of them. ms.
const PAUSE: u64 = 500;
/// How often a cut that fails is tried.
const TRIES: u32 = 5;

/// The leases that go on while a connection lives.
#[derive(Default)]
pub(super) struct Followed {
    /// By whom it was asked for, and until when at most it lasts.
    leases: BTreeMap<(ClientId, Element), (Claim, Mono)>,
    looks: BTreeSet<(Mono, ClientId, Element)>,
    next: Mono,
}

impl Followed {
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.looks.first().map(|(at, ..)| (*at).max(self.next))
    }
}

/// What is still to be cut.
#[derive(Default)]
pub(super) struct Owed {
    elements: BTreeSet<Element>,
    next: Mono,
    failures: u32,
}

impl Owed {
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        (!self.elements.is_empty()).then_some(self.next)
    }
}

/// For how long a lease that is used goes on: as long as the client gets when he does not say.
fn step(access: &Access) -> u64 {
    u64::from(access.ttl.min(access.max_ttl)) * 1_000
}

/// The same claim about one element.
fn only(claim: &Claim, element: Element, until: Mono) -> Option<Claim> {
    let services = Services::new(&[Wanted::Ports(element.to)])?;
    let mut addresses = [None; 2];
    addresses[usize::from(element.from.address().is_ipv6())] = Some(element.from);
    Some(Claim { addresses, services, replace: false, until, ..*claim })
}

impl Enforcer {
    /// Until when at most a lease goes on; none where connections mean nothing to it. Reckoned from
    /// the date of the packet, which a restart does not change, and which is never later than now.
    fn last(&self, claim: &Claim, to: &Ports, now: Now) -> Option<Mono> {
        let access = self.policy.client(claim.client)?;
        let most = u64::from(self.policy.while_connected(access, to)?) * 1_000;
        let over = claim.time.min(now.unix).plus(most);
        Some(now.mono.plus(over.since(now.unix))).filter(|last| *last > now.mono)
    }

    /// A lease was given or given again: it may go on.
    pub(super) fn follow_from(&mut self, claim: &Claim, ports: &[Ports], now: Now) {
        for to in ports {
            let Some(last) = self.last(claim, to, now) else { continue };
            for from in claim.addresses() {
                let element = Element { from, to: *to };
                let Some(end) = self.leases.end_of(claim.client, &element) else { continue };
                self.followed.leases.insert((claim.client, element), (*claim, last));
                self.look_at(claim.client, element, end);
            }
        }
    }

    fn look_at(&mut self, client: ClientId, element: Element, end: Mono) {
        let half = self.policy.client(client).map_or(AHEAD, |access| step(access) / 2);
        let look = Mono(end.0.saturating_sub(AHEAD.min(half)));
        self.followed.looks.insert((look, client, element));
    }

    /// That lease has ended.
    pub(super) fn follow_no_more(&mut self, client: ClientId, element: Element) {
        self.followed.leases.remove(&(client, element));
    }

    /// Prolongs what is about to end and is used.
    pub(super) fn follow(&mut self, now: Now) {
        if self.followed.poll_timeout().is_none_or(|at| at > now.mono) {
            return;
        }
        self.followed.next = now.mono.plus(PAUSE);
        let mut due = Vec::new();
        while let Some(first) = self.followed.looks.first().copied().filter(|l| l.0 <= now.mono) {
            self.followed.looks.remove(&first);
            let (_, client, element) = first;
            // It can have been given again meanwhile, and then has a look of its own.
            let end = self.leases.end_of(client, &element);
            due.extend(end.filter(|e| *e <= now.mono.plus(AHEAD)).map(|e| (client, element, e)));
        }
        let elements: Vec<Element> = due.iter().map(|(_, element, _)| *element).collect();
        let used = self.used(&elements);
        for (client, element, end) in due.into_iter().filter(|(_, e, _)| used.contains(e)) {
            self.prolong(client, element, end, now);
        }
    }

    fn used(&mut self, elements: &[Element]) -> BTreeSet<Element> {
        let used = self.firewall.connected(elements).unwrap_or_else(|why| {
            log::error!("leases end although they may be used: {why}");
            Vec::new()
        });
        used.into_iter().collect()
    }

    fn prolong(&mut self, client: ClientId, element: Element, end: Mono, now: Now) {
        let (Some((claim, last)), Some(access)) =
            (self.followed.leases.get(&(client, element)), self.policy.client(client))
        else {
            return;
        };
        let (claim, last) = (*claim, *last);
        let left = access.not_after.map_or(u64::MAX, |over| over.since(now.unix));
        let until = now.mono.plus(step(access).min(left)).min(last);
        // What he may have can have changed since.
        let still = self.policy.while_connected(access, &element.to).is_some();
        let Some(claim) = only(&claim, element, until.max(end)).filter(|_| still) else { return };
        if self.policy.confirm(&claim, now).is_err() {
            return;
        }
        if until > end {
            self.prolonged.push(claim);
            let opening = self.leases.extend(client, element, until);
            self.pending.extend(opening.map(|o| (o.element, Some(o.until))));
            log::debug!(
                "goes on client={} address={} ports={}",
                access.name,
                element.from,
                element.to
            );
        }
        if until.max(end) < last {
            self.look_at(client, element, until.max(end));
        }
    }

    /// What was prolonged since the last question: to be remembered.
    pub(in crate::daemon) fn prolonged(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.prolonged)
    }

    /// What the journal remembers and is over: a lease that is used goes on all the same, as it would
    /// have if somebody had been there; where none does, connections are cut.
    pub(in crate::daemon) fn settle_over(&mut self, now: Now) {
        // An [engine] that has begun again says what has long been settled.
        let over: Vec<Claim> = std::mem::take(&mut self.over);
        if self.synced {
            return;
        }
        let mut all = Vec::new();
        for claim in over.iter().filter(|claim| claim.action == Action::Open) {
            let Some(access) = self.policy.client(claim.client) else { continue };
            let Ok(ports) = self.policy.ports(access, claim) else { continue };
            for to in ports {
                let last = self.last(claim, &to, now);
                let until = last.map(|last| now.mono.plus(step(access)).min(last));
                all.extend(claim.addresses().map(|from| (claim, Element { from, to }, until)));
            }
        }
        let followed: Vec<Element> =
            all.iter().filter(|(.., until)| until.is_some()).map(|(_, e, _)| *e).collect();
        let used = self.used(&followed);
        for (claim, element, until) in all {
            let goes_on = until.filter(|_| used.contains(&element));
            let again = goes_on.and_then(|until| only(claim, element, until));
            match again.map(|claim| (claim, self.judge(&claim, now))) {
                Some((claim, Ok(()))) => self.prolonged.push(claim),
                Some((_, Err(_))) | None => self.owe_cuts(&[element]),
            }
        }
    }

    /// Takes note of what is to be cut.
    pub(super) fn owe_cuts(&mut self, shut: &[Element]) {
        let policy = &self.policy;
        self.owed.elements.extend(shut.iter().filter(|e| policy.cuts(&e.to)));
    }

    /// Cuts what is owed and what nobody has a lease on.
    pub(super) fn settle_cuts(&mut self, now: Now) {
        if !self.synced || self.owed.poll_timeout().is_none_or(|at| at > now.mono) {
            return;
        }
        let leases = &self.leases;
        self.owed.elements.retain(|element| !leases.holds(element));
        let owed: Vec<Element> = self.owed.elements.iter().copied().collect();
        if owed.is_empty() {
            return;
        }
        let done = self.firewall.cut(&owed, &|through| leases.covers(through), now);
        self.owed.next = now.mono.plus(PAUSE);
        match done {
            Ok(()) => {
                for Element { from, to } in &owed {
                    log::info!("cut address={from} ports={to}");
                }
            }
            Err(why) if self.owed.failures < TRIES => {
                self.owed.failures += 1;
                self.owed.next = now.mono.plus(AGAIN);
                log::error!("firewall: {why}; cutting again in {AGAIN} ms");
                return;
            }
            Err(why) => log::error!("firewall: {why}; connections go on that were to be cut"),
        }
        self.owed.elements.clear();
        self.owed.failures = 0;
    }

    /// Whether the firewall can do what these services say of connections.
    pub(in crate::daemon) fn can_do(
        &mut self,
        config: &crate::daemon::config::Config,
    ) -> Result<(), crate::firewall::Error> {
        config.needs(self.firewall.as_mut())
    }
}
