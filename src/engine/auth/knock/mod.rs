//! Knock sequences: ports touched in the right order.
//!
//! Whoever has seen a fixed sequence can repeat it; a one-time sequence and one that follows from
//! the time are good once, and the replay cache sees to that.
//!
//! A sequence that is secret allows no other knock between its own: who sweeps all ports in any order
//! completes none. A fixed one starts over at its own ports only, as its first makers had it.
//!
//! A knock has no content and its source can be forged, so what a stranger can make this remember
//! is bounded: the first step of everybody is kept in one filter of fixed size, and only who has
//! made a second right step stands in a table. A full table takes nobody new in, and so loses
//! nobody who is halfway.

mod filter;
mod halfway;

use super::{Authenticated, Proof, Repeatable, bare};
use crate::access::{Action, Assurance, ClientId, Protocol};
use crate::crypto::digest;
use crate::proto::{PERIOD, TimedKnock};
use crate::time::{Mono, Now, Unix};
use filter::Filter;
use halfway::Halfway;
use std::net::IpAddr;

/// The most sources that are beyond their second step, of all entries together: each has its share.
const MOST_HALFWAY: usize = 65_536;
/// The most sources whose first step does not count any more although the filter has it.
const MOST_SPENT: usize = 65_536;

/// One port of a sequence.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Step {
    /// TCP: a SYN; UDP: any datagram.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// What has to be touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sequence {
    /// The same every time.
    Fixed {
        /// Opens: at least two steps.
        open: Vec<Step>,
        /// Closes; none: leases end by themselves alone.
        close: Vec<Step>,
    },
    /// The first of these that has not been used yet; used once, it never counts again.
    OneTime(Vec<Vec<Step>>),
    /// Another one every 30 seconds; the present one and the one before count, each once.
    Timed(TimedKnock),
}

/// The sequences of one access entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knock {
    /// The access entry that they stand for.
    pub client: ClientId,
    /// What has to be touched.
    pub sequence: Sequence,
    /// The longest time between two steps: ms.
    pub window: u64,
    /// The longest time for all of them: ms.
    pub total: Option<u64>,
}

/// What the end of a path proves.
#[derive(Clone, Copy, Debug)]
enum Proves {
    /// Knowledge of a fixed sequence.
    Same(Action),
    /// Knowledge of the one-time sequence of this name.
    Line(ClientId),
    /// Knowledge of the secret, in this period.
    Period(u64),
}

/// One sequence and what it does.
#[derive(Debug)]
struct Path {
    client: ClientId,
    /// The tables that it is kept in.
    entry: usize,
    proves: Proves,
    steps: Vec<Step>,
    window: u64,
    total: u64,
    /// What tells it from every other one, now and of the last hours.
    number: u32,
}

/// How far a source has come on one path.
type Place = (IpAddr, u32);

/// A source beyond its second step.
#[derive(Clone, Copy, Debug)]
struct Progress {
    done: u8,
    last: Mono,
    begun: Mono,
}

/// All sequences, and how far everybody has come.
#[derive(Debug, Default)]
pub(in crate::engine) struct Knocks {
    knocks: Vec<Knock>,
    /// What the sequences are in this period.
    paths: Vec<Path>,
    /// Of which period the paths are; none: they have to be laid.
    period: Option<u64>,
    salt: [u8; 16],
    /// None without sequences: it is large.
    filter: Option<Filter>,
    /// One for each entry, so that a flood to a weak one costs the others nothing.
    tables: Vec<Tables>,
}

/// Who is how far in the sequences of one entry.
#[derive(Debug)]
struct Tables {
    halfway: Halfway<Progress>,
    spent: Halfway<()>,
}

impl Tables {
    fn new(entries: usize) -> Tables {
        Tables {
            halfway: Halfway::new(MOST_HALFWAY / entries),
            spent: Halfway::new(MOST_SPENT / entries),
        }
    }
}

/// What the journal calls a one-time sequence once it is used, in whatever entry it stands.
fn name(line: &[Step]) -> ClientId {
    let mut text = b"one-time knock sequence ".to_vec();
    for step in line {
        text.push(step.protocol.number());
        text.extend(step.port.to_be_bytes());
    }
    let [a, b, c, d, e, f, g, h, ..] = digest(&text);
    ClientId([a, b, c, d, e, f, g, h])
}

impl Knock {
    /// The sequences of this moment.
    fn paths(&self, entry: usize, period: u64, is_used: &impl Fn(ClientId) -> bool) -> Vec<Path> {
        let path = |proves, steps: &[Step], number: u64| Path {
            client: self.client,
            entry,
            proves,
            steps: steps.to_vec(),
            window: self.window,
            total: self.total.unwrap_or(u64::MAX),
            number: (entry as u32) << 16 | u32::from(number as u16),
        };
        match &self.sequence {
            Sequence::Fixed { open, close } => vec![
                path(Proves::Same(Action::Open), open, 0),
                path(Proves::Same(Action::Close), close, 1),
            ],
            Sequence::OneTime(lines) => {
                let mut named = (0..).zip(lines).map(|(n, line)| (n, name(line), line));
                let next = named.find(|(_, name, _)| !is_used(*name));
                next.map(|(n, name, line)| path(Proves::Line(name), line, n)).into_iter().collect()
            }
            Sequence::Timed(timed) => {
                let of = |period| {
                    let step = |port: &u16| Step { protocol: Protocol::Udp, port: *port };
                    let steps: Vec<Step> = timed.ports(period).iter().map(step).collect();
                    path(Proves::Period(period), &steps, period)
                };
                vec![of(period.saturating_sub(1)), of(period)]
            }
        }
    }
}

impl Path {
    /// Whether every other knock starts it over.
    fn is_strict(&self) -> bool {
        match self.proves {
            Proves::Same(_) => false,
            Proves::Line(_) | Proves::Period(_) => true,
        }
    }

    fn proof(&self, now: Now) -> Proof {
        let client = self.client;
        let once = |assurance, time, proof, spends| {
            let request = bare(Action::Open, time);
            Proof::Once(Authenticated { client, request, assurance, proof, spends })
        };
        let mut proof = [0; 16];
        match self.proves {
            Proves::Same(action) => {
                Proof::Again(Repeatable { client, action, assurance: Assurance::Knock })
            }
            Proves::Line(name) => {
                proof[..8].copy_from_slice(&name.0);
                once(Assurance::Knock, now.unix, proof, Some(name))
            }
            Proves::Period(period) => {
                proof[..8].copy_from_slice(&period.to_be_bytes());
                // Dated at the end of its period, so that the present one counts after a start.
                let end = Unix((period + 1).saturating_mul(PERIOD));
                once(Assurance::TimedKnock, end, proof, None)
            }
        }
    }
}

impl Knocks {
    /// No sequences yet; `salt` is random, so that nobody can foresee what meets in the filter.
    pub(in crate::engine) fn new(salt: [u8; 16]) -> Knocks {
        Knocks { salt, ..Knocks::default() }
    }

    /// The access entries of the sequences.
    pub(in crate::engine) fn clients(&self) -> impl Iterator<Item = ClientId> {
        self.knocks.iter().map(|k| k.client)
    }

    /// Works with these from now on. Who is halfway stays so if they are the same as before.
    pub(in crate::engine) fn set(&mut self, knocks: Vec<Knock>) {
        if self.knocks != knocks {
            let filter = (!knocks.is_empty()).then(|| Filter::new(self.salt));
            let tables = knocks.iter().map(|_| Tables::new(knocks.len())).collect();
            *self = Knocks { knocks, filter, tables, ..Knocks::new(self.salt) };
        }
    }

    /// How many one-time sequences are left, for each entry that has any.
    pub(in crate::engine) fn left(
        &self,
        is_used: impl Fn(ClientId) -> bool,
    ) -> Vec<(ClientId, usize)> {
        let left = |knock: &Knock| match &knock.sequence {
            Sequence::OneTime(lines) => {
                let fresh = lines.iter().filter(|line| !is_used(name(line)));
                Some((knock.client, fresh.count()))
            }
            Sequence::Fixed { .. } | Sequence::Timed(_) => None,
        };
        self.knocks.iter().filter_map(left).collect()
    }

    /// Takes one knock; what it completes, in the order of the sequences. `is_used` tells which
    /// one-time sequences count no more.
    pub(in crate::engine) fn handle(
        &mut self,
        from: IpAddr,
        step: Step,
        now: Now,
        is_used: impl Fn(ClientId) -> bool,
    ) -> Vec<Proof> {
        let period = TimedKnock::period(now.unix);
        if self.period != Some(period) {
            let paths = (0..).zip(&self.knocks).flat_map(|(n, k)| k.paths(n, period, &is_used));
            self.paths = paths.filter(|p| p.steps.len() > 1).collect();
            self.period = Some(period);
        }
        for tables in &mut self.tables {
            tables.halfway.forget(now.mono);
            tables.spent.forget(now.mono);
        }
        let all = 0..self.paths.len();
        let done: Vec<usize> =
            all.filter(|index| self.advance(*index, from, step, now.mono)).collect();
        let proofs = done.iter().filter_map(|index| Some(self.paths.get(*index)?.proof(now)));
        let proofs: Vec<Proof> = proofs.collect();
        if proofs.iter().any(|p| matches!(p, Proof::Once(once) if once.spends().is_some())) {
            // The next one comes up.
            self.period = None;
        }
        proofs
    }

    /// Whether this completes the path.
    fn advance(&mut self, index: usize, from: IpAddr, step: Step, now: Mono) -> bool {
        let (Some(path), Some(filter)) = (self.paths.get(index), self.filter.as_mut()) else {
            return false;
        };
        let Some(Tables { halfway, spent }) = self.tables.get_mut(path.entry) else { return false };
        if !path.is_strict() && !path.steps.contains(&step) {
            return false;
        }
        let place: Place = (from, path.number);
        let in_time = |last: Mono, begun: Mono| {
            now.since(last) <= path.window && now.since(begun) <= path.total
        };
        let made = match halfway.take(&place) {
            Some(p) if in_time(p.last, p.begun) => Some((p.done, p.begun)),
            Some(_) => None,
            // Where there is no room to note that a first step was used, a secret one counts as used.
            None if path.is_strict() && spent.is_full() => None,
            None => filter
                .moment(&place, now)
                .filter(|first| !spent.has(&place) && in_time(*first, *first))
                .map(|first| (1, first)),
        };
        let next = made.and_then(|(done, begun)| {
            let right = path.steps.get(usize::from(done)) == Some(&step);
            right.then_some((done + 1, begun))
        });
        if made.is_some() {
            // Right or wrong, the first step has been used.
            spent.put(place, (), now.plus(path.window));
        }
        let Some((done, begun)) = next else {
            if path.steps.first() == Some(&step) {
                filter.put(&place, now);
                spent.take(&place);
            }
            return false;
        };
        if usize::from(done) == path.steps.len() {
            return true;
        }
        let progress = Progress { done, last: now, begun };
        halfway.put(place, progress, now.plus(path.window));
        false
    }
}

#[cfg(test)]
mod tests;
