//! The second look and the leases: what `[priv]` does with what `[engine]` claims.

mod bans;
mod connections;
mod listing;
mod replace;
mod touched;

pub(super) use touched::Touched;

use super::log::Limit;
use crate::access::{Access, Action, Claim, ClientId, Denied, Policy, Prefix, Services};
use crate::firewall::{Bar, Change, Element, Error, Firewall, Lease, LeaseTable, Opening};
use crate::time::{Mono, Now, Seconds, Unix};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// A kernel that did not take it is asked again after so many ms.
const AGAIN: u64 = 1_000;
/// How long others' changes are gathered before they are mended: ms.
const GATHER: u64 = 30;
/// How often a kernel that tells nothing is asked: ms.
const LOOK: u64 = 10_000;
/// The most claims in a second; more comes from no sound process.
const MOST: u64 = 200_000;

/// Leases and the firewall that enforces them.
pub(super) struct Enforcer {
    pub(super) policy: Policy,
    pub(super) leases: LeaseTable,
    pub(super) firewall: Box<dyn Firewall>,
    /// Who is turned away in the kernel.
    bans: BTreeMap<Prefix, Unix>,
    /// The bans that the kernel has yet to be told of.
    fresh: Vec<Bar>,
    /// What the kernel has yet to be told: the end of each opening, or that it is closed.
    pending: BTreeMap<Element, Option<Mono>>,
    followed: connections::Followed,
    /// What was prolonged, and nobody has remembered yet.
    prolonged: Vec<Claim>,
    /// What the journal remembers, and is over.
    over: Vec<Claim>,
    /// Through which connections are still to be cut.
    owed: connections::Owed,
    /// The kernel has been told everything once.
    synced: bool,
    /// When the kernel is told everything anew, because it did not take something.
    heal: Option<Mono>,
    /// When a kernel that tells nothing is asked whether our rules are there.
    look: Option<Mono>,
    second: u64,
    claims: u64,
    refusals: Limit,
    /// What the hooks have to hear; nothing is kept where there are none.
    touched: Option<Vec<Touched>>,
}

impl Enforcer {
    pub(super) fn new(firewall: Box<dyn Firewall>, policy: Policy) -> Enforcer {
        Enforcer {
            policy,
            leases: LeaseTable::default(),
            firewall,
            bans: BTreeMap::new(),
            fresh: Vec::new(),
            pending: BTreeMap::new(),
            followed: connections::Followed::default(),
            prolonged: Vec::new(),
            over: Vec::new(),
            owed: connections::Owed::default(),
            synced: false,
            heal: None,
            look: None,
            second: 0,
            claims: 0,
            refusals: Limit::default(),
            touched: None,
        }
    }

    /// Judges a claim by the present policy and notes what follows from it; [`Enforcer::apply`]
    /// tells the kernel. Whether it is so.
    pub(super) fn take(&mut self, claim: &Claim, now: Now) -> bool {
        let second = now.mono.0 / 1_000;
        if second != self.second {
            (self.second, self.claims) = (second, 0);
        }
        self.claims += 1;
        let judged = match self.claims > MOST {
            true => Err(Denied::TooMany),
            // What is restored after a restart was granted in its hours.
            false => self.is_hour(claim, now).and_then(|()| self.judge(claim, now)),
        };
        if let Err(why) = judged
            && self.refusals.pass(now.mono).is_some()
        {
            let name = self.name(claim.client);
            match why {
                // How many leases there are, only this process knows.
                Denied::TooMany => log::info!("refused client={name}: not permitted: {why}"),
                Denied::UnknownClient
                | Denied::Expired
                | Denied::Assurance
                | Denied::Service
                | Denied::Source
                | Denied::Width
                | Denied::Network
                | Denied::Address
                | Denied::Ttl
                | Denied::Hours
                | Denied::UsedUp => {
                    log::warn!("[priv] refused what [engine] granted: client={name}: {why}");
                }
            }
        }
        judged.is_ok()
    }

    fn is_hour(&self, claim: &Claim, now: Now) -> Result<(), Denied> {
        match self.policy.client(claim.client).filter(|_| claim.action == Action::Open) {
            Some(access) => self.policy.is_hour(access, now),
            None => Ok(()),
        }
    }

    fn judge(&mut self, claim: &Claim, now: Now) -> Result<(), Denied> {
        let grant = self.policy.confirm(claim, now)?;
        let access = self.policy.client(claim.client).ok_or(Denied::UnknownClient)?;
        let (name, most) = (access.name.clone(), usize::from(access.max_leases));
        let ports = self.policy.ports(access, claim)?;
        let meets = |l: &Lease| ports.iter().any(|p| p.overlaps(&l.element().to));
        let here = |l: &Lease| claim.addresses().any(|a| a.overlaps(&l.element().from));
        let listed = || ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        match claim.action {
            Action::Open => {
                if claim.replace {
                    let change = self.leases.remove_of(claim.client, |l| meets(l) && !here(l));
                    self.note(change, "replaced");
                }
                // What the journal remembers can be over; others' leases it has ended all the same.
                if claim.until <= now.mono {
                    return Ok(());
                }
                let openings = self.leases.insert(&grant, &ports, most)?;
                self.follow_from(claim, &ports, now);
                let ttl = Seconds(claim.until.since(now.mono).div_ceil(1_000));
                let (service, said) = (self.services(&ports), listed());
                for address in claim.addresses() {
                    log::info!(
                        "open client={name} service={service} address={address} ports={said} ttl={ttl}"
                    );
                }
                let until = Some(claim.until);
                for (from, to) in claim.addresses().flat_map(|a| ports.iter().map(move |p| (a, *p)))
                {
                    self.touch(claim.client, Element { from, to }, until);
                }
                self.pending.extend(openings.into_iter().map(|o| (o.element, Some(o.until))));
            }
            Action::Close => {
                let change =
                    self.leases.remove_of(claim.client, |l| meets(l) && (claim.replace || here(l)));
                if change.ended.is_empty() {
                    log::info!("close client={name} ports={}: no lease", listed());
                }
                self.note(change, "closed");
            }
        }
        Ok(())
    }

    /// Takes back what the journal remembers: what is over, or not allowed any more, is not.
    pub(super) fn restore(&mut self, claim: &Claim, now: Now) {
        // What is over has still ended others' leases when it came.
        if claim.action == Action::Close || claim.replace || claim.until > now.mono {
            let _ = self.judge(claim, now);
        }
        if claim.until <= now.mono {
            self.over.push(*claim);
        }
    }

    fn services(&self, ports: &[crate::access::Ports]) -> String {
        let mut names: Vec<&str> = ports
            .iter()
            .filter_map(|p| self.policy.service_of(p))
            .map(|s| s.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names.join(",")
    }

    pub(super) fn name(&self, client: ClientId) -> String {
        self.policy.client(client).map_or_else(|| client.to_string(), |a| a.name.to_string())
    }

    fn note(&mut self, change: Change, why: &str) {
        for lease in &change.ended {
            let Element { from, to } = lease.element();
            let (name, service) = (self.name(lease.client()), self.services(&[to]));
            log::info!("{why} client={name} service={service} address={from} ports={to}");
            self.touch(lease.client(), lease.element(), None);
            self.follow_no_more(lease.client(), lease.element());
        }
        self.pending.extend(change.open.into_iter().map(|o| (o.element, Some(o.until))));
        self.pending.extend(change.close.into_iter().map(|e| (e, None)));
    }

    /// Tells the kernel what has changed, in one go: what is to be shut first.
    pub(super) fn apply(&mut self, now: Now) {
        if self.heal.is_some() {
            self.forget_pending();
        }
        let fresh = std::mem::take(&mut self.fresh);
        if !fresh.is_empty() && self.heal.is_none() {
            let done = self.firewall.bar(&fresh, now);
            self.check(done, now);
        }
        let pending = std::mem::take(&mut self.pending);
        let shut: Vec<Element> =
            pending.iter().filter(|(_, until)| until.is_none()).map(|(e, _)| *e).collect();
        self.owe_cuts(&shut);
        let open: Vec<Opening> = pending
            .iter()
            .filter_map(|(element, until)| until.map(|until| Opening { element: *element, until }))
            .collect();
        let mut done = Ok(());
        if !shut.is_empty() {
            done = self.firewall.close(&shut, now);
        }
        if done.is_ok() && !open.is_empty() {
            done = self.firewall.open(&open, now);
        }
        self.check(done, now);
        if self.heal.is_none() {
            self.settle_cuts(now);
        }
    }

    /// The kernel will be told everything; what was to be cut still is.
    fn forget_pending(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let shut: Vec<Element> =
            pending.iter().filter(|(_, until)| until.is_none()).map(|(e, _)| *e).collect();
        self.owe_cuts(&shut);
    }

    /// Ends what is over, and heals what has to be healed.
    pub(super) fn handle_timeout(&mut self, now: Now) {
        self.follow(now);
        let change = self.leases.handle_timeout(now.mono);
        let gathered = super::log::gather();
        self.note(change, "expired");
        drop(gathered);
        self.look(now);
        if self.heal.is_some_and(|at| at <= now.mono) {
            self.mend(now);
        }
        self.apply(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        // What is to be cut waits until the kernel is in step.
        let cuts = self.owed.poll_timeout().filter(|_| self.synced && self.heal.is_none());
        let connections = [self.followed.poll_timeout(), cuts];
        let own = [self.leases.poll_timeout(), self.heal, self.look];
        own.into_iter().chain(connections).flatten().min()
    }

    /// What tells of others' changes to our rules.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.firewall.events()
    }

    /// Notices that somebody else has changed our rules: all is told anew a moment later.
    fn look(&mut self, now: Now) {
        let mut disturbed = self.firewall.is_disturbed();
        if self.firewall.events().is_none() {
            let due = self.look.is_none_or(|at| at <= now.mono);
            disturbed |= due && self.look.is_some() && matches!(self.firewall.is_up(), Ok(false));
            if due {
                self.look = Some(now.mono.plus(LOOK));
            }
        }
        if disturbed && self.heal.is_none() {
            if self.refusals.pass(now.mono).is_some() {
                log::warn!("somebody has changed our rules: putting them back");
            }
            self.heal = Some(now.mono.plus(GATHER));
        }
    }

    fn mend(&mut self, now: Now) {
        match self.sync(now) {
            Ok(()) => log::info!("firewall: in step again"),
            Err(why) => log::error!("firewall: {why}; trying again in {AGAIN} ms"),
        }
    }

    /// Makes the kernel hold exactly the leases.
    pub(super) fn sync(&mut self, now: Now) -> Result<(), Error> {
        self.forget_pending();
        self.fresh.clear();
        let bars = self.bars(now);
        self.firewall.set_bars(&bars);
        let done = self.firewall.sync(&self.leases.openings(), now);
        self.synced |= done.is_ok();
        self.heal = done.is_err().then(|| now.mono.plus(AGAIN));
        done
    }

    /// Whether the kernel holds what it should, as far as is known.
    pub(super) fn is_healthy(&self) -> bool {
        self.heal.is_none()
    }

    pub(super) fn describe(&self) -> String {
        self.firewall.describe()
    }

    /// A client is new or its entry has changed: no lease outlives the credential.
    /// [`Enforcer::apply`] tells the kernel.
    pub(super) fn set_client(&mut self, access: Access, now: Now) {
        let (id, end) = (access.client, access.not_after);
        let before = self.policy.client(id).and_then(|a| a.not_after);
        self.policy.set_client(access);
        // Leases were made to end with the credential. Reckoned again from two clocks its end
        // would be some milliseconds off: only an end that was moved counts.
        if let Some(end) = end.filter(|end| before.is_none_or(|b| *end < b)) {
            let last = now.mono.plus(end.since(now.unix));
            let change = self.leases.remove_of(id, |l| l.until() > last);
            self.note(change, "credential shortened");
        }
    }

    /// A client is gone: its leases end, nobody else's; [`Enforcer::apply`] tells the kernel. What has
    /// to be remembered.
    pub(super) fn remove_client(&mut self, client: ClientId, now: Now) -> Option<Claim> {
        let change = self.leases.remove_of(client, |_| true);
        let first = change.ended.first().map(|l| l.element().from);
        self.note(change, "revoked");
        let claim = first.map(|address| self.ended(client, address, true, now));
        self.policy.remove_client(client);
        claim
    }

    /// Ends every lease on an address or within a prefix: of how many clients and addresses.
    pub(super) fn evict(&mut self, prefix: &Prefix, now: Now) -> usize {
        let change = self.leases.remove(|l| prefix.overlaps(&l.element().from));
        let mut ended: Vec<(ClientId, Prefix)> =
            change.ended.iter().map(|l| (l.client(), l.element().from)).collect();
        ended.sort_unstable();
        ended.dedup();
        self.note(change, "evicted");
        self.apply(now);
        ended.len()
    }

    fn check(&mut self, done: Result<(), Error>, now: Now) {
        let Err(why) = done else { return };
        log::error!("firewall: {why}; telling it everything anew");
        match why {
            // Whoever holds it may hold it for long: signals, orders and grants get their turn first.
            Error::Busy(_) => self.heal = Some(now.mono.plus(GATHER)),
            Error::Rights | Error::Missing(_) | Error::Refused(_) => self.mend(now),
        }
    }

    fn ended(&self, client: ClientId, address: Prefix, everywhere: bool, now: Now) -> Claim {
        let longest = self.policy.client(client).map_or(0, |a| u64::from(a.max_ttl) * 1_000);
        Claim {
            client,
            assurance: crate::access::Assurance::Sealed,
            action: Action::Close,
            replace: everywhere,
            addresses: [Some(address), None],
            services: Services::EMPTY,
            time: now.unix,
            until: now.mono.plus(longest),
        }
    }
}
