//! What services' hooks have been told, and which closes are owed: a lease that began with a hook
//! must be told as ended, whatever happens in between.

use super::{Command, Engine, Record};
use crate::access::{ClientId, Ports, Prefix, ServiceId};
use std::collections::BTreeMap;
use std::fmt;

/// The most leases whose close is owed at one time.
pub const MOST_OWED: usize = 65_536;
/// The longest name that a hook is told: bytes.
pub const NAME: usize = 64;

/// A client's name as it was when its lease began, zeros behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name(pub [u8; NAME]);

impl Name {
    /// That text, or its first 64 bytes.
    #[must_use]
    pub fn new(text: &str) -> Name {
        let mut name = [0; NAME];
        let some = text.len().min(NAME);
        name[..some].copy_from_slice(&text.as_bytes()[..some]);
        Name(name)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
        &self.0[..end]
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.bytes()))
    }
}

/// One client's lease on one element, as the hooks of one service see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Subject {
    /// The service.
    pub service: ServiceId,
    /// Whose lease.
    pub client: ClientId,
    /// From where.
    pub from: Prefix,
    /// To which ports.
    pub to: Ports,
}

/// How far a lease's hooks are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moment {
    /// The lease has begun: from now on its close is owed; written and durable before `on-open` runs.
    Opening,
    /// `on-open` has run.
    Opened,
    /// The lease has ended; written before `on-close` runs.
    Closing,
    /// `on-close` has run: nothing is owed any more.
    Closed,
}

/// A moment of a lease's hooks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// Which.
    pub moment: Moment,
    /// Of what.
    pub subject: Subject,
    /// The client's name.
    pub name: Name,
}

/// What is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    owed: BTreeMap<Subject, Name>,
    /// What is told when the records up to that ticket are durable.
    waiting: Vec<(u64, Note)>,
}

impl Owed {
    /// Takes a moment over.
    pub(super) fn note(&mut self, note: &Note) {
        match note.moment {
            Moment::Opening if self.owed.len() < MOST_OWED => {
                self.owed.insert(note.subject, note.name);
            }
            Moment::Closed => drop(self.owed.remove(&note.subject)),
            Moment::Opening | Moment::Opened | Moment::Closing => {}
        }
    }

    /// Whether something waits for a sync after that ticket's.
    pub(super) fn waits(&self, ticket: u64) -> bool {
        self.waiting.iter().any(|(of, _)| *of > ticket)
    }

    /// What waited for that ticket.
    pub(super) fn synced(&mut self, ticket: u64) -> Vec<Note> {
        let ready = |(of, note): &(u64, Note)| (*of <= ticket).then_some(*note);
        let told = self.waiting.iter().filter_map(ready).collect();
        self.waiting.retain(|(of, _)| *of > ticket);
        told
    }

    /// All that is owed.
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        let note = |(subject, name): (&Subject, &Name)| Note {
            moment: Moment::Opening,
            subject: *subject,
            name: *name,
        };
        self.owed.iter().map(note)
    }
}

impl Engine {
    /// A moment of a lease's hooks, to be remembered; [`Moment::Opening`] and [`Moment::Closing`]
    /// come back as commands when that is done. A disk that is full holds no close up: the next
    /// segment says what is owed.
    pub fn handle_hook(&mut self, note: Note) {
        self.owed.note(&note);
        self.remember(Record::Hook(note));
        match note.moment {
            // The power may fail when the hook has run: its close must still be known then.
            Moment::Opening => self.owed.waiting.push((self.ticket + 1, note)),
            Moment::Closing => self.commands.push_back(Command::Hook(note)),
            Moment::Opened | Moment::Closed => {}
        }
    }

    /// The records up to that ticket are durable.
    pub(super) fn tell_hooks(&mut self, ticket: u64) {
        let told = self.owed.synced(ticket);
        self.commands.extend(told.into_iter().map(Command::Hook));
    }
}
