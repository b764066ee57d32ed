//! Decides: arrivals in, commands out; pure.
//!
//! Bytes and time are arguments, files and sockets are somebody else's. What the caller has to do
//! comes out of [`Engine::poll_command`] in the order in which it has to be done: a record before
//! the grant that stands on it, and no record, no grant.
#![forbid(unsafe_code)]

mod again;
mod auth;
mod hooks;
mod ledger;
mod order;
mod record;
mod reject;
mod remembered;
mod replay;
mod start;
mod suspects;
pub mod suspicion;
mod tokens;

pub use auth::{Arrival, Client, Knock, Mode, Plain, Sequence, Step};
pub use hooks::{MOST_OWED, Moment, NAME, Name, Note, Subject};
pub use record::Record;
pub use reject::{Refusal, Reject};
pub use replay::{LEAD, MOST_CLIENT, MOST_TOTAL, Window};
#[cfg(test)]
pub(crate) use replay::{LEFT_OUT, Rule};
pub use start::{History, Setup};
pub use suspects::Suspect;

use crate::access::{
    Action, Assurance, Claim, ClientId, Grant, Policy, Prefix, Request, canonical,
};
use crate::crypto::{Door, ServerId};
use crate::time::{Now, Unix};
use again::Pace;
use auth::{Authenticated, Keys, Knocks, Proof};
use hooks::Owed;
use ledger::Ledger;
use order::Order;
use replay::{Cache, Fresh};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use suspicion::Suspicion;
use tokens::Tokens;

/// The most packets that wait for the disk at one time; more are refused as busy. One client alone
/// cannot fill it.
const MOST_WAITING: usize = 4 * MOST_CLIENT as usize;

/// The most grants that may be behind: made, and not yet told to the process that holds the firewall.
/// More opens are refused as busy; what shuts gets a quarter more room. One client alone cannot fill
/// it.
pub const MOST_BEHIND: usize = 16 * MOST_CLIENT as usize;

/// What the caller has to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Append to the journal; if that fails, nothing that follows in this turn may be done, and
    /// [`Engine::handle_store_failed`] must hear of it.
    Record(Record),
    /// Make all records so far durable, and report with [`Engine::handle_synced`].
    Sync(u64),
    /// Tell the process that holds the firewall.
    Grant(Grant),
    /// A lease, or the end of one, that the journal remembers from before a restart; what is over
    /// already stands there for the leases that it replaced.
    Restore(Claim),
    /// Tell the process that holds the firewall, and by it the one that serves strangers. What
    /// waits for no disk: it says who is banned, and never that somebody may come in.
    Suspect(Suspect),
    /// Tell the process that holds the firewall: this is owed since before a restart, or what
    /// [`Engine::handle_hook`] was told is remembered.
    Hook(Note),
}

/// A packet that has been admitted and waits until its record is on disk.
#[derive(Debug)]
struct Waiting {
    ticket: u64,
    from: IpAddr,
    fresh: Fresh,
}

/// What has become of a packet that waited, and where it came from.
pub type Answer = (IpAddr, Result<Grant, Refusal>);

/// A sync that was asked for and has not been reported yet.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    ticket: u64,
    horizon: Unix,
}

/// The whole decision, from bytes to grants.
#[derive(Debug)]
pub struct Engine {
    server: ServerId,
    doors: Vec<Door>,
    tokens: Tokens,
    clients: HashMap<ClientId, Box<Keys>>,
    plain: Option<Plain>,
    knocks: Knocks,
    pace: Pace,
    policy: Policy,
    cache: Cache,
    order: Order,
    ledger: Ledger,
    suspicion: Suspicion,
    owed: Owed,
    waiting: VecDeque<Waiting>,
    in_flight: Option<InFlight>,
    ticket: u64,
    want_horizon: bool,
    broken: bool,
    behind: usize,
    commands: VecDeque<Command>,
}

impl Engine {
    /// Takes one datagram; what becomes of it at once is the answer, and a packet that has to
    /// wait for the disk is `Ok(None)`.
    ///
    /// # Errors
    /// Why it was refused, and whose it was if that is proven.
    pub fn handle_arrival(
        &mut self,
        arrival: &Arrival<'_>,
        now: Now,
    ) -> Result<Option<Grant>, Refusal> {
        let from = canonical(arrival.from);
        let plain = self.plain.as_ref();
        let proof = auth::authenticate(arrival, plain, self.server, &self.doors, &self.clients);
        if arrival.mode == Mode::Spa
            && let Err(Refusal { reason: Reject::Unauthentic | Reject::UnknownClient, .. }) = proof
        {
            self.tokens.note(arrival.bytes, now.mono);
        }
        let proof = proof?;
        let (client, outcome) = match proof {
            Proof::Once(sealed) => (sealed.client(), self.admit(sealed, from, now)),
            Proof::Again(proof) => (proof.client(), self.repeat(&proof, from, now).map(Some)),
        };
        outcome.map_err(|reason| Refusal { reason, client: Some(client) })
    }

    /// Whether a packet has to come behind all others of its batch: see the second line in
    /// `docs/threat-model.md`.
    #[must_use]
    pub fn is_second(&self, arrival: &Arrival<'_>, now: Now) -> bool {
        arrival.mode == Mode::Spa && self.tokens.has(arrival.bytes, now.mono)
    }

    /// The door keys that admit, the current one first.
    #[must_use]
    pub fn doors(&self) -> &[Door] {
        &self.doors
    }

    fn admit(
        &mut self,
        authenticated: Authenticated,
        from: IpAddr,
        now: Now,
    ) -> Result<Option<Grant>, Reject> {
        if self.broken {
            return Err(Reject::NoRecord);
        }
        self.forget(now);
        let full =
            self.waiting.len() >= MOST_WAITING || self.is_behind(authenticated.request().action);
        let fresh = self.cache.admit(authenticated, full, from, now)?;
        let access = self.policy.client(fresh.client()).filter(|a| a.uses.is_some());
        let metered = access.filter(|_| fresh.request().action == Action::Open);
        let spent = fresh.spends().or(metered.map(|a| a.client));
        self.commands.push_back(Command::Record(fresh.record()));
        self.want_horizon |= self.cache.is_near_horizon(fresh.request().time);
        // A use that is counted must not come back with a power loss: its record is waited for.
        let counted = spent.is_some();
        if let Some(spent) = spent {
            let may =
                self.policy.decide(fresh.client(), fresh.assurance(), fresh.request(), from, now);
            match metered {
                Some(access) => {
                    self.ledger.check_left(access)?;
                    may?;
                }
                None if self.ledger.is_used(spent) => return Err(Reject::Replayed),
                None => {}
            }
            let used = self.ledger.use_once(spent);
            self.commands.push_back(Command::Record(used));
            // Refused or not, others have seen it.
            may?;
        }
        if fresh.must_wait() || counted {
            let covered = |f: &InFlight| !counted && fresh.request().time <= f.horizon;
            let ticket = match self.in_flight.filter(covered) {
                Some(in_flight) => in_flight.ticket,
                None => self.ticket + 1,
            };
            self.waiting.push_back(Waiting { ticket, from, fresh });
            return Ok(None);
        }
        self.decide(&fresh, from, now).map(Some)
    }

    /// So many grants have not been told yet: until the next word those of this turn are added.
    pub fn set_behind(&mut self, grants: usize) {
        self.behind = grants;
    }

    /// Whether the process that holds the firewall is too far behind for one more grant.
    fn is_behind(&self, action: Action) -> bool {
        let most = match action {
            Action::Open => MOST_BEHIND,
            Action::Close => MOST_BEHIND + MOST_BEHIND / 4,
        };
        self.behind + self.waiting.len() >= most
    }

    fn grant(&mut self, grant: Grant) {
        self.behind += 1;
        self.commands.push_back(Command::Record(Record::of(grant.claim())));
        self.commands.push_back(Command::Grant(grant));
    }

    /// Ends a turn: asks for the sync that the packets of this turn need.
    pub fn handle_turn(&mut self, now: Now) {
        if self.broken || self.in_flight.is_some() {
            return;
        }
        let waits = self.waiting.iter().any(|w| w.ticket > self.ticket);
        let waits = waits || self.owed.waits(self.ticket);
        if waits || self.want_horizon {
            self.ticket += 1;
            let horizon = self.cache.promise(now.unix.plus(LEAD));
            self.in_flight = Some(InFlight { ticket: self.ticket, horizon });
            self.want_horizon = false;
            self.commands.push_back(Command::Record(Record::Horizon(horizon)));
            self.commands.push_back(Command::Sync(self.ticket));
        }
    }

    /// The records up to that ticket are durable: what waited for them goes on. The answers are
    /// those that [`Engine::handle_arrival`] could not give at once, each with the packet's source.
    pub fn handle_synced(&mut self, ticket: u64, now: Now) -> Vec<Answer> {
        let Some(done) = self.in_flight.take_if(|f| f.ticket == ticket) else { return Vec::new() };
        self.cache.raise_horizon(done.horizon);
        self.tell_hooks(ticket);
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (ready, later): (VecDeque<_>, _) = waiting.partition(|w| w.ticket <= ticket);
        self.waiting = later;
        let mut answers = Vec::new();
        for w in ready {
            let client = Some(w.fresh.client());
            let answer = self.decide(&w.fresh, w.from, now);
            answers.push((w.from, answer.map_err(|reason| Refusal { reason, client })));
        }
        answers
    }

    /// A write or a sync has failed: whatever was not told to the firewall yet is refused, and so
    /// is everything else until [`Engine::handle_store_mended`]. Returns how many packets that
    /// costs.
    pub fn handle_store_failed(&mut self) -> usize {
        self.broken = true;
        self.in_flight = None;
        let grant = |c: &&Command| matches!(c, Command::Grant(_));
        let lost = self.waiting.len() + self.commands.iter().filter(grant).count();
        self.waiting.clear();
        // What is remembered stands on records that are there already.
        let stays =
            |c: &Command| matches!(c, Command::Restore(_) | Command::Suspect(_) | Command::Hook(_));
        self.commands.retain(stays);
        lost
    }

    /// All that the engine remembers is on disk again, see [`Engine::snapshot`].
    pub fn handle_store_mended(&mut self) {
        self.broken = false;
        self.tell_hooks(u64::MAX);
    }

    /// Whether a new, whole segment has to be written before anything is received: see
    /// [`Engine::snapshot`] and [`Engine::handle_store_mended`].
    #[must_use]
    pub fn wants_segment(&self) -> bool {
        self.broken
    }

    /// Whether there is something to do.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// What has to be done next.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// Adds a client or replaces it; what it has been granted stays.
    pub fn set_client(&mut self, client: Client) {
        let (access, keys) = client.parts();
        self.clients.insert(access.client, keys);
        self.policy.set_client(access);
    }

    /// Takes a client away; its packets are strangers' from now on.
    pub fn remove_client(&mut self, client: ClientId) {
        self.policy.remove_client(client);
        self.clients.remove(&client);
    }

    /// The policy that decides.
    pub fn policy(&mut self) -> &mut Policy {
        &mut self.policy
    }

    /// The door keys that admit, the current one first; a third and later ones admit nobody.
    pub fn set_doors(&mut self, server: ServerId, doors: Vec<Door>) {
        self.server = server;
        self.doors = doors;
    }

    /// The name of a client, for the log.
    #[must_use]
    pub fn name(&self, client: ClientId) -> Option<&str> {
        self.policy.client(client).map(|a| &*a.name)
    }

    /// An administrator has ended this client's leases, or all on these addresses, or one goes on
    /// while it is used: remembered, so that a restart does not know better.
    pub fn handle_decided(&mut self, claim: Claim) {
        self.remember(Record::of(&claim));
        self.ledger.note(claim);
    }

    /// An administrator has ended all that was granted so far on that prefix, wherever it is by now.
    pub fn handle_evicted(&mut self, prefix: &Prefix, now: Now) {
        for close in self.ledger.on(prefix, now) {
            self.handle_decided(close);
        }
    }

    /// The record of this grant is written: from now on new segments repeat it.
    pub fn handle_recorded(&mut self, grant: &Grant) {
        self.ledger.note(*grant.claim());
    }

    fn decide(&mut self, fresh: &Fresh, from: IpAddr, now: Now) -> Result<Grant, Reject> {
        let (client, request): (ClientId, &Request) = (fresh.client(), fresh.request());
        let access = self.policy.client(client).ok_or(Reject::UnknownClient)?;
        if request.action == Action::Open {
            self.ledger.check_uses(access)?;
        }
        let grant = self.policy.decide(client, fresh.assurance(), request, from, now)?;
        let claim = *grant.claim();
        let ports = self.policy.ports(access, &claim)?;
        let parts = self.order.admit(&claim, &ports).ok_or(Reject::Superseded)?;
        let mut first = None;
        for part in parts {
            let grant = self.policy.confirm(&part, now)?;
            self.grant(grant);
            first.get_or_insert(grant);
        }
        if let Some(grant) = first.filter(|_| fresh.assurance() == Assurance::Sealed) {
            self.lift(from);
            let hosts = grant.claim().addresses().filter(Prefix::is_host);
            hosts.for_each(|host| self.lift(host.address()));
        }
        first.ok_or(Reject::Superseded)
    }
}
