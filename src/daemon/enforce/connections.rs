//! What leases and connections have to do with each other: the end of a lease can cut what runs
//! through it, and a connection can keep its lease alive.

use super::{AGAIN, Enforcer};
use crate::access::{Action, Claim, ClientId, Services, Wanted};
use crate::firewall::Element;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// So long before its end it is looked whether a lease is used, so that the kernel never forgets
/// it; and once more at the end: ms.
const AHEAD: u64 = 1_000;

/// The leases that go on while a connection lives.
#[derive(Default)]
pub(super) struct Followed {
    /// By whom it was asked for, and until when at most it lasts.
    leases: BTreeMap<(ClientId, Element), (Claim, Mono)>,
    looks: BTreeSet<(Mono, ClientId, Element)>,
}

impl Followed {
    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.looks.first().map(|(at, ..)| *at)
    }
}

impl Enforcer {
    /// A lease was given or given again: it may go on.
    pub(super) fn follow_from(&mut self, claim: &Claim, ports: &[crate::access::Ports], now: Now) {
        for to in ports {
            let Some(most) = self.policy.while_connected(to) else { continue };
            // Reckoned from the date of the packet, which a restart does not change.
            let over = claim.time.plus(u64::from(most) * 1_000);
            let last = now.mono.plus(over.since(now.unix));
            for from in claim.addresses() {
                let element = Element { from, to: *to };
                let Some(end) = self.leases.end_of(claim.client, &element) else { continue };
                self.followed.leases.insert((claim.client, element), (*claim, last));
                let look = (Mono(end.0.saturating_sub(AHEAD)), claim.client, element);
                self.followed.looks.insert(look);
            }
        }
    }

    /// Prolongs what is about to end and is used; what has to be remembered.
    pub(super) fn follow(&mut self, now: Now) {
        let mut due = Vec::new();
        while let Some(first) = self.followed.looks.first().copied().filter(|l| l.0 <= now.mono) {
            self.followed.looks.remove(&first);
            let (_, client, element) = first;
            match self.leases.end_of(client, &element) {
                None => drop(self.followed.leases.remove(&(client, element))),
                // It has been given again meanwhile.
                Some(end) if end > now.mono.plus(AHEAD) => {}
                Some(end) => due.push((client, element, end)),
            }
        }
        if due.is_empty() {
            return;
        }
        let elements: Vec<Element> = due.iter().map(|(_, element, _)| *element).collect();
        let used = self.firewall.connected(&elements).unwrap_or_else(|why| {
            log::error!("leases end although they may be used: {why}");
            Vec::new()
        });
        for (client, element, end) in due {
            if !used.contains(&element) {
                // A connection may still begin.
                if now.mono < end {
                    self.followed.looks.insert((end, client, element));
                }
                continue;
            }
            self.prolong(client, element, end, now);
        }
    }

    fn prolong(&mut self, client: ClientId, element: Element, end: Mono, now: Now) {
        let (Some((claim, last)), Some(access)) =
            (self.followed.leases.get(&(client, element)), self.policy.client(client))
        else {
            return;
        };
        let left = access.not_after.map_or(u64::MAX, |over| over.since(now.unix));
        // For as long as he gets when he does not say.
        let step = (u64::from(access.ttl.min(access.max_ttl)) * 1_000).min(left);
        let (until, last) = (now.mono.plus(step).min(*last), *last);
        let Some(services) = Services::new(&[Wanted::Ports(element.to)]) else { return };
        if until <= end {
            return;
        }
        let mut addresses = [None; 2];
        addresses[usize::from(element.from.address().is_ipv6())] = Some(element.from);
        self.prolonged.push(Claim { addresses, services, replace: false, until, ..*claim });
        let opening = self.leases.extend(client, element, until);
        self.pending.extend(opening.map(|o| (o.element, Some(o.until))));
        if until < last {
            self.followed.looks.insert((Mono(until.0 - AHEAD.min(until.0)), client, element));
        }
        let (name, Element { from, to }) = (self.name(client), element);
        log::debug!("goes on, connected client={name} address={from} ports={to}");
    }

    /// What was prolonged since the last question: to be remembered.
    pub(in crate::daemon) fn prolonged(&mut self) -> Vec<Claim> {
        std::mem::take(&mut self.prolonged)
    }

    /// A lease that ended while nobody was there to cut what ran through it.
    pub(super) fn owe(&mut self, claim: &Claim, now: Now) {
        let Some(access) = self.policy.client(claim.client) else { return };
        if self.policy.confirm(claim, now).is_err() {
            return;
        }
        let Ok(ports) = self.policy.ports(access, claim) else { return };
        if claim.action == Action::Open {
            for to in ports.into_iter().filter(|to| self.policy.cuts(to)) {
                self.owed.extend(claim.addresses().map(|from| Element { from, to }));
            }
        }
    }

    /// Takes note of what is to be shut and cut; what is only to be shut.
    pub(super) fn owe_cuts(&mut self, shut: Vec<Element>) -> Vec<Element> {
        let (cut, shut): (Vec<_>, Vec<_>) = shut.into_iter().partition(|e| self.policy.cuts(&e.to));
        self.owed.extend(cut);
        shut
    }

    /// Cuts what is owed and what nobody has a lease on.
    pub(super) fn settle_cuts(&mut self, now: Now) {
        if self.owed.is_empty() || !self.synced {
            return;
        }
        let mut owed: Vec<Element> = std::mem::take(&mut self.owed).into_iter().collect();
        let leases = &self.leases;
        owed.retain(|element| !leases.holds(element));
        if owed.is_empty() {
            return;
        }
        match self.firewall.cut(&owed, &|through| leases.covers(through), now) {
            Ok(()) => {
                for Element { from, to } in owed {
                    log::info!("cut address={from} ports={to}");
                }
            }
            Err(why) => {
                log::error!("firewall: {why}; cutting again in {AGAIN} ms");
                self.owed.extend(owed);
                self.heal = Some(now.mono.plus(AGAIN));
            }
        }
    }
}
