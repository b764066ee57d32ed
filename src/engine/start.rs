//! The start: what the journal says, and what must be feared lost.

use super::again::Pace;
use super::auth::Knocks;
use super::hooks::Owed;
use super::ledger::Ledger;
use super::order::Order;
use super::replay::Cache;
use super::suspicion::{Rules, Suspicion};
use super::tokens::Tokens;
use super::{Client, Command, Engine, Knock, Plain, Record, Suspect, Window};
use crate::access::{Access, Action, Claim, Policy, Ports};
use crate::crypto::{Door, ServerId};
use crate::time::{Now, Unix};
use std::collections::{HashMap, VecDeque};

/// What was read from the journal, oldest record first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct History {
    /// All valid records.
    pub records: Vec<Record>,
    /// Nothing that was written before the end is damaged or missing.
    pub whole: bool,
}

/// What an engine works with.
#[derive(Debug)]
pub struct Setup {
    /// The server's public name in every derivation.
    pub server: ServerId,
    /// The door keys that admit, the current one first; a third and later ones admit nobody.
    pub doors: Vec<Door>,
    /// The clients with their keys.
    pub clients: Vec<Client>,
    /// The plain key with its access entry, if there is one.
    pub plain: Option<(Access, Plain)>,
    /// The knock sequences with their access entries.
    pub knocks: Vec<(Access, Knock)>,
    /// Random: what nobody outside may know of the tables of this run.
    pub salt: [u8; 16],
    /// The services; the clients' access entries are added to it.
    pub policy: Policy,
    /// How much of a stranger is too much.
    pub rules: Rules,
    /// How old and how far ahead a packet may be.
    pub window: Window,
    /// The kernel's random boot id.
    pub boot: [u8; 16],
}

impl Engine {
    /// An engine that remembers what the journal says. If the machine has been restarted since, or
    /// the journal has holes, everything dated up to the last horizon, or before this moment, is
    /// refused, and leases are forgotten.
    ///
    /// Leases that live on are there as [`Command::Restore`]. Nothing is accepted while
    /// [`Engine::wants_segment`]: the first thing to do is then to write one.
    #[must_use]
    pub fn start(setup: Setup, history: &History, now: Now) -> Engine {
        let Setup { server, doors, clients, plain, knocks, salt, policy, rules, window, boot } =
            setup;
        let mut last = None;
        let (mut floor, mut horizon) = (Unix(0), Unix(0));
        for record in &history.records {
            match record {
                Record::Boot { id, started, .. } => last = Some((*id, *started)),
                Record::Horizon(h) => horizon = horizon.max(*h),
                Record::Floor(g) => floor = floor.max(*g),
                Record::Clean
                | Record::Seen { .. }
                | Record::Granted(_)
                | Record::Closed(_)
                | Record::Used { .. }
                | Record::Banned(_)
                | Record::Pardoned(_)
                | Record::Hook(_) => {}
            }
        }
        // A start in the future of this boot clock is not of this boot, whatever the id says.
        let same = |(id, started): &(_, _)| history.whole && *id == boot && *started <= now.mono;
        let same = last.filter(same);
        let started = same.map_or(now.mono, |(_, started)| started);
        let tokens = u64::from_be_bytes(*salt.first_chunk().unwrap_or(&[0; 8]));
        let mut engine = Engine {
            server,
            doors,
            tokens: Tokens::new(tokens),
            clients: HashMap::new(),
            plain: None,
            knocks: Knocks::new(salt),
            pace: Pace::default(),
            suspicion: Suspicion::new(rules, policy.own().to_vec()),
            policy,
            cache: Cache::new(window, boot, started),
            order: Order::default(),
            ledger: Ledger::default(),
            owed: Owed::default(),
            waiting: VecDeque::new(),
            in_flight: None,
            ticket: 0,
            want_horizon: false,
            broken: same.is_none(),
            behind: 0,
            commands: VecDeque::new(),
        };
        clients.into_iter().for_each(|client| engine.set_client(client));
        engine.set_plain(plain);
        engine.set_knocks(knocks);
        engine.cache.raise_floor(floor);
        // Written is not durable: a sync of this process has to say so before anything rests on it.
        engine.cache.promise(horizon);
        if same.is_none() {
            engine.cache.distrust();
        }
        for record in &history.records {
            engine.handle_record(record, same.is_some(), now);
        }
        engine.cache.forget(now);
        // What has ended since, where connections mean something for it.
        let over = |c: &&Claim| c.until <= now.mono && c.action == Action::Open;
        let over: Vec<Claim> = engine.ledger.claims().filter(over).copied().collect();
        for claim in over {
            let Some(access) = engine.policy.client(claim.client) else { continue };
            let Ok(ports) = engine.policy.ports(access, &claim) else { continue };
            let policy = &engine.policy;
            let follows = |p: &Ports| policy.while_connected(access, p).is_some();
            if ports.iter().any(|p| policy.cuts(p) || follows(p)) {
                engine.commands.push_back(Command::Restore(Claim { replace: false, ..claim }));
            }
        }
        engine.ledger.forget(now, engine.cache.oldest(now));
        let claims: Vec<Claim> = engine.ledger.claims().copied().collect();
        for claim in claims {
            // A client that is gone, or a service that is not his any more, restores nothing.
            let access = engine.policy.client(claim.client);
            let Some(Ok(ports)) = access.map(|a| engine.policy.ports(a, &claim)) else { continue };
            engine.order.note(&claim, &ports);
            if claim.until > now.mono || claim.replace || claim.action == Action::Close {
                engine.commands.push_back(Command::Restore(claim));
            }
        }
        let running = engine.suspicion.bans().filter(|ban| ban.until > now.unix);
        let running = running.map(|ban| Command::Suspect(Suspect::Ban(*ban)));
        engine.commands.extend(running);
        engine.commands.extend(engine.owed.notes().map(Command::Hook));
        engine
    }

    /// How many packets are remembered as seen.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.cache.len()
    }

    /// Takes back one fact; leases only if `leases` says that they can be trusted to be current.
    fn handle_record(&mut self, record: &Record, leases: bool, now: Now) {
        match record {
            Record::Seen { client, time, proof } => self.cache.restore(*client, *time, *proof),
            Record::Used { client, count } => self.ledger.restore_uses(*client, *count),
            Record::Granted(claim) | Record::Closed(claim) if leases => self.ledger.note(*claim),
            Record::Granted(_) | Record::Closed(_) => {}
            Record::Banned(ban) => self.suspicion.restore(*ban, now),
            Record::Pardoned(prefix) => self.suspicion.forgive(prefix),
            Record::Hook(note) => self.owed.note(note),
            Record::Boot { .. } | Record::Clean | Record::Horizon(_) | Record::Floor(_) => {}
        }
    }
}
