//! Which command is due next, pure.
//!
//! For each lease that a service's hooks have to hear of there is an entry. It has no list of events
//! but two facts: whether the lease is there, and whether its close is owed. Where they differ
//! something is due; so a lease that ends and begins again while its commands wait is one lease,
//! and what waits is bounded by what there is.

use crate::daemon::config::Hooks;
use crate::daemon::hook::Event;
use crate::engine::{MOST_OWED, Moment, Name, Note, Subject};
use crate::time::Mono;
use std::collections::{BTreeMap, VecDeque};

/// The most commands at one time.
pub(super) const MOST: usize = 8;
/// The most `on-open` that wait; one more is left out.
const MOST_OPENS: usize = 1_024;

/// What happens just now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Run {
    Nothing,
    /// `[engine]` was asked to remember that the close begins.
    Asked,
    /// It does; the command can run.
    Ready,
    /// The command runs.
    Runs(Event),
}

#[derive(Debug)]
struct Entry {
    name: Name,
    /// There is a lease, until then.
    live: Option<Mono>,
    /// `[engine]` was told that the close is owed, and has remembered it.
    owed: bool,
    written: bool,
    /// `on-open` waits.
    open: bool,
    /// It stands in the queue.
    queued: bool,
    run: Run,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Desk {
    entries: BTreeMap<Subject, Entry>,
    queue: VecDeque<Subject>,
    /// Closes that `[engine]` has remembered.
    ready: VecDeque<Subject>,
    /// What runs, and when `[hook]` must have said that it ended.
    running: BTreeMap<u64, (Subject, Mono)>,
    /// Closes that are neither waiting nor running.
    asked: usize,
    opens: usize,
    ticket: u64,
    /// What `[engine]` has to hear; what it misses while it is away is said again at its start.
    pub(super) notes: Vec<Note>,
    /// How many on-opens, and leases, were left out.
    pub(super) left_out: u64,
}

/// What is to be run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) ticket: u64,
    pub(super) event: Event,
    pub(super) subject: Subject,
    pub(super) name: Name,
    /// When the lease ends, as far as is known.
    pub(super) until: Option<Mono>,
}

impl Desk {
    /// A lease is there until then, or not any more.
    pub(super) fn touch(
        &mut self,
        subject: Subject,
        name: &str,
        until: Option<Mono>,
        hooks: &Hooks,
    ) {
        let room = self.entries.len() < MOST_OWED;
        match (self.entries.get_mut(&subject), until) {
            (Some(entry), Some(until)) => entry.live = entry.live.max(Some(until)),
            (Some(entry), None) => entry.live = None,
            (None, None) => return,
            (None, Some(_)) if room => self.insert(subject, Name::new(name), until),
            (None, Some(_)) => {
                self.left_out += 1;
                return;
            }
        }
        self.advance(subject, hooks);
    }

    fn insert(&mut self, subject: Subject, name: Name, live: Option<Mono>) {
        let (owed, written, open, queued) = (false, false, false, false);
        let entry = Entry { name, live, owed, written, open, queued, run: Run::Nothing };
        self.entries.insert(subject, entry);
    }

    fn note(&mut self, moment: Moment, subject: Subject, name: Name) {
        self.notes.push(Note { moment, subject, name });
    }

    /// Does what follows from how it is.
    fn advance(&mut self, subject: Subject, hooks: &Hooks) {
        let Some(entry) = self.entries.get_mut(&subject) else { return };
        if entry.run != Run::Nothing {
            return;
        }
        let commands = hooks.commands.get(&subject.service);
        let (opens, closes) =
            commands.map_or((false, false), |c| (c.open.is_some(), c.close.is_some()));
        let name = entry.name;
        match (entry.live, entry.owed) {
            (None, false) => drop(self.entries.remove(&subject)),
            (Some(_), false) => {
                (entry.owed, entry.written) = (true, false);
                if opens && self.opens < MOST_OPENS {
                    entry.open = true;
                    self.opens += 1;
                } else {
                    self.left_out += u64::from(opens);
                }
                self.note(Moment::Opening, subject, name);
            }
            // No record, no command.
            (_, true) if !entry.written => {}
            (None, true) if !entry.open && !closes => {
                (entry.owed, entry.written) = (false, false);
                self.note(Moment::Closed, subject, name);
                self.entries.remove(&subject);
            }
            (live, true) => {
                if (entry.open || live.is_none()) && !entry.queued {
                    entry.queued = true;
                    self.queue.push_back(subject);
                }
            }
        }
    }

    /// What `[engine]` has remembered, or remembers from before a start.
    pub(super) fn told(&mut self, note: &Note, hooks: &Hooks, settled: bool) {
        let Note { moment, subject, name } = *note;
        if moment == Moment::Opening && !self.entries.contains_key(&subject) {
            // Once all has been said, nothing is owed that did not begin here.
            if settled || self.entries.len() >= MOST_OWED {
                return;
            }
            self.insert(subject, name, None);
        }
        let Some(entry) = self.entries.get_mut(&subject) else { return };
        match moment {
            Moment::Opening => (entry.owed, entry.written) = (true, true),
            Moment::Closing if entry.run == Run::Asked => {
                entry.run = Run::Ready;
                self.ready.push_back(subject);
            }
            Moment::Closing | Moment::Opened | Moment::Closed => {}
        }
        // Which leases are there is known when all has been said.
        if settled {
            self.advance(subject, hooks);
        }
    }

    /// An `[engine]` begins, and will say what it remembers.
    pub(super) fn doubt(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.written = false);
    }

    /// All leases will be said again.
    pub(super) fn forget_leases(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.live = None);
    }

    /// All has been said: what `[engine]` has to remember and does not is said again.
    pub(super) fn settle(&mut self, hooks: &Hooks) {
        let all: Vec<Subject> = self.entries.keys().copied().collect();
        for subject in all {
            let Some(entry) = self.entries.get_mut(&subject) else { continue };
            let (name, asked) = (entry.name, entry.run == Run::Asked);
            if entry.owed && !entry.written {
                self.note(Moment::Opening, subject, name);
            }
            if asked {
                self.note(Moment::Closing, subject, name);
            }
            self.advance(subject, hooks);
        }
    }

    /// Whether a command waits for `[hook]`.
    pub(super) fn is_due(&self) -> bool {
        !self.queue.is_empty() || !self.ready.is_empty()
    }

    /// The next command; `asks`: `[engine]` is there to remember a close.
    pub(super) fn next(&mut self, hooks: &Hooks, asks: bool, now: Mono) -> Option<Task> {
        while let Some(subject) = self.ready.pop_front() {
            self.asked -= 1;
            if let Some(task) = self.begin(subject, Event::Close, hooks, now) {
                return Some(task);
            }
        }
        for _ in 0..self.queue.len() {
            if self.running.len() + self.asked >= MOST {
                return None;
            }
            let subject = self.queue.pop_front()?;
            let Some(entry) = self.entries.get_mut(&subject) else { continue };
            entry.queued = false;
            let name = entry.name;
            if entry.open {
                entry.open = false;
                self.opens -= 1;
                if let Some(task) = self.begin(subject, Event::Open, hooks, now) {
                    return Some(task);
                }
            } else if entry.live.is_some() || entry.run != Run::Nothing {
                // It has begun again before anybody was told.
            } else if asks && entry.written {
                entry.run = Run::Asked;
                self.asked += 1;
                self.note(Moment::Closing, subject, name);
            } else {
                entry.queued = true;
                self.queue.push_back(subject);
            }
        }
        None
    }

    fn begin(&mut self, subject: Subject, event: Event, hooks: &Hooks, now: Mono) -> Option<Task> {
        let entry = self.entries.get_mut(&subject)?;
        let commands = hooks.commands.get(&subject.service);
        let words = commands.and_then(|c| match event {
            Event::Open => c.open.as_ref(),
            Event::Close => c.close.as_ref(),
        });
        if words.is_none() {
            // It has been taken out of the file meanwhile.
            entry.run = Run::Nothing;
            self.advance(subject, hooks);
            return None;
        }
        entry.run = Run::Runs(event);
        self.ticket += 1;
        let overdue = now.plus(u64::from(hooks.timeout) * 1_000 + super::PATIENCE);
        self.running.insert(self.ticket, (subject, overdue));
        Some(Task { ticket: self.ticket, event, subject, name: entry.name, until: entry.live })
    }

    /// A command has ended; false: there is none of that number.
    pub(super) fn ended(&mut self, ticket: u64, hooks: &Hooks) -> bool {
        let Some((subject, _)) = self.running.remove(&ticket) else { return false };
        let Some(entry) = self.entries.get_mut(&subject) else { return false };
        let (name, run) = (entry.name, entry.run);
        entry.run = Run::Nothing;
        match run {
            Run::Runs(Event::Close) => {
                (entry.owed, entry.written) = (false, false);
                self.note(Moment::Closed, subject, name);
            }
            Run::Runs(Event::Open) => self.note(Moment::Opened, subject, name),
            Run::Nothing | Run::Asked | Run::Ready => {}
        }
        self.advance(subject, hooks);
        true
    }

    /// `[hook]` is gone, and what it ran with it: an on-open is not run again, a close is. How many
    /// on-opens that cost.
    pub(super) fn lost(&mut self, hooks: &Hooks) -> usize {
        let mut opens = 0;
        for (subject, _) in std::mem::take(&mut self.running).into_values() {
            let Some(entry) = self.entries.get_mut(&subject) else { continue };
            if entry.run == Run::Runs(Event::Close) {
                // It may have done its work: what has begun is finished, whatever lives again.
                entry.run = Run::Ready;
                self.ready.push_back(subject);
                self.asked += 1;
                continue;
            }
            opens += usize::from(entry.run == Run::Runs(Event::Open));
            entry.run = Run::Nothing;
            self.advance(subject, hooks);
        }
        opens
    }

    /// When `[hook]` is given up.
    pub(super) fn overdue(&self) -> Option<Mono> {
        self.running.values().map(|(_, overdue)| *overdue).min()
    }

    /// How many leases have an entry.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests;
