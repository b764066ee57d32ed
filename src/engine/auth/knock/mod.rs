//! Knock sequences: ports touched in the right order. Whoever has seen one can repeat it.
//!
//! A knock has no content and its source can be forged, so what a stranger can make this remember
//! is bounded: the first step of everybody is kept in one filter of fixed size, and only who has
//! made a second right step stands in a table. A full table takes nobody new in, and so loses
//! nobody who is halfway.

mod filter;
mod halfway;

use super::Repeatable;
use crate::access::{Action, Assurance, ClientId, Protocol};
use crate::time::Mono;
use filter::Filter;
use halfway::Halfway;
use std::net::IpAddr;

/// The most sources that are beyond their second step, of all sequences together.
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

/// The sequences of one access entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Knock {
    /// The access entry that they stand for.
    pub client: ClientId,
    /// Opens: at least two steps.
    pub open: Vec<Step>,
    /// Closes; none: leases end by themselves alone.
    pub close: Vec<Step>,
    /// The longest time between two steps: ms.
    pub window: u64,
    /// The longest time for all of them: ms.
    pub total: Option<u64>,
}

/// One sequence and what it does.
#[derive(Debug)]
struct Path {
    client: ClientId,
    action: Action,
    steps: Vec<Step>,
    window: u64,
    total: u64,
}

/// How far a source has come on one path.
type Place = (IpAddr, u16);

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
    paths: Vec<Path>,
    salt: [u8; 16],
    /// None without sequences: it is large.
    filter: Option<Filter>,
    halfway: Halfway<Progress>,
    spent: Halfway<()>,
}

impl Knocks {
    /// No sequences yet; `salt` is random, so that nobody can foresee what meets in the filter.
    pub(in crate::engine) fn new(salt: [u8; 16]) -> Knocks {
        Knocks {
            paths: Vec::new(),
            salt,
            filter: None,
            halfway: Halfway::new(MOST_HALFWAY),
            spent: Halfway::new(MOST_SPENT),
        }
    }

    /// Works with these from now on; everybody starts anew.
    pub(in crate::engine) fn set(&mut self, knocks: &[Knock]) {
        let path = |k: &Knock, action, steps: &[Step]| Path {
            client: k.client,
            action,
            steps: steps.to_vec(),
            window: k.window,
            total: k.total.unwrap_or(u64::MAX),
        };
        let both = |k: &Knock| [path(k, Action::Open, &k.open), path(k, Action::Close, &k.close)];
        let mut paths: Vec<Path> = knocks.iter().flat_map(both).collect();
        paths.retain(|p| p.steps.len() > 1);
        let filter = (!paths.is_empty()).then(|| Filter::new(self.salt));
        *self = Knocks { paths, filter, ..Knocks::new(self.salt) };
    }

    /// Takes one knock; what it completes, in the order of the sequences.
    pub(in crate::engine) fn handle(
        &mut self,
        from: IpAddr,
        step: Step,
        now: Mono,
    ) -> Vec<Repeatable> {
        self.halfway.forget(now);
        self.spent.forget(now);
        let all = 0..self.paths.len();
        all.filter_map(|index| self.advance(index, from, step, now)).collect()
    }

    fn advance(&mut self, index: usize, from: IpAddr, step: Step, now: Mono) -> Option<Repeatable> {
        let (path, filter) = (self.paths.get(index)?, self.filter.as_mut()?);
        if !path.steps.contains(&step) {
            return None;
        }
        let place: Place = (from, u16::try_from(index).ok()?);
        let in_time = |last: Mono, begun: Mono| {
            now.since(last) <= path.window && now.since(begun) <= path.total
        };
        let made = match self.halfway.take(&place) {
            Some(p) if in_time(p.last, p.begun) => Some((p.done, p.begun)),
            Some(_) => None,
            None => filter
                .moment(&place, now)
                .filter(|first| !self.spent.has(&place) && in_time(*first, *first))
                .map(|first| (1, first)),
        };
        let next = made.and_then(|(done, begun)| {
            let right = path.steps.get(usize::from(done)) == Some(&step);
            right.then_some((done + 1, begun))
        });
        if made.is_some() {
            // Right or wrong, the first step has been used.
            self.spent.put(place, (), now.plus(path.window));
        }
        let Some((done, begun)) = next else {
            if path.steps.first() == Some(&step) {
                filter.put(&place, now);
                self.spent.take(&place);
            }
            return None;
        };
        if usize::from(done) == path.steps.len() {
            let (client, action) = (path.client, path.action);
            return Some(Repeatable { client, action, assurance: Assurance::Knock });
        }
        let progress = Progress { done, last: now, begun };
        self.halfway.put(place, progress, now.plus(path.window));
        None
    }
}

#[cfg(test)]
mod tests;
