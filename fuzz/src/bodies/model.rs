//! The replay and policy rules once more, as plainly as they can be said and with nothing of the
//! engine's own: lists that are searched from front to back, and one flag for each fact.

use super::leases::{Leases, Word};
use std::collections::BTreeSet;

/// How old and how far ahead a packet may be, and what is kept beyond it: ms.
pub const WINDOW: u64 = 60_000;
const SLACK: u64 = 1_000;
const LEAD: u64 = 5_000;
const BUCKET: u64 = 1_024;

/// An address and a port: what a lease is made of.
pub type Cell = (&'static str, u16);

/// What a packet says, and what became of it.
#[derive(Clone, Debug)]
pub struct Said {
    pub client: usize,
    pub close: bool,
    pub replace: bool,
    pub time: u64,
    /// Seconds; 0: the client's default.
    pub ttl: u64,
    /// The services and ports that it names.
    pub names: Vec<&'static str>,
    /// None: the policy or the decoder refuses it whenever it comes.
    pub cells: Option<Vec<Cell>>,
    /// It is written in a way that the decoder takes.
    pub sound: bool,
}

/// A client's access.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// Seconds.
    pub ttl: u64,
    /// Seconds.
    pub max_ttl: u64,
    /// When the credential ends: ms since the epoch.
    pub ends: Option<u64>,
    /// Good for so many opens.
    pub uses: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kept {
    Memory,
    File,
    Disk,
}

#[derive(Clone, Debug)]
struct Seen {
    packet: usize,
    time: u64,
    kept: Kept,
    forgotten: bool,
}

/// What a grant must say: packet, whether it ends leases anywhere, its cells, and when it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    pub packet: usize,
    pub replace: bool,
    pub cells: BTreeSet<Cell>,
    pub until: u64,
}

/// What is overwritten by what is written later.
#[derive(Clone, Debug)]
struct Notes {
    promised: u64,
    /// How often each client's credential was used.
    uses: Vec<u64>,
}

/// A packet that waits for the disk.
#[derive(Clone, Debug)]
struct Waiting {
    packet: usize,
    /// The sync that was asked for is enough for it.
    promised: bool,
}

/// Everything that the rules speak of.
#[derive(Clone, Debug)]
pub struct Model {
    clients: Vec<Client>,
    seen: Vec<Seen>,
    /// What opens and closes that come later are measured by.
    said: Vec<Said>,
    /// Granted, and not written yet.
    fresh: Vec<Word>,
    leases: Leases,
    /// The grants that can be read, oldest first.
    journal: Vec<Word>,
    waiting: Vec<Waiting>,
    memory: Notes,
    file: Notes,
    disk: Notes,
    /// The floor that can be read.
    base: u64,
    floor: u64,
    horizon: u64,
    /// The horizon of the sync that is under way.
    asked: Option<u64>,
    /// The horizon has to move.
    near: bool,
    start: u64,
    pub broken: bool,
}

/// The outcome of an arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    Refused,
    Waits,
    Granted(Decision),
}

impl Model {
    pub fn new(clients: &[Client], boot: u64) -> Model {
        let notes = Notes { promised: 0, uses: vec![0; clients.len()] };
        Model {
            clients: clients.to_vec(),
            seen: vec![],
            said: vec![],
            fresh: vec![],
            leases: Leases::default(),
            journal: vec![],
            waiting: vec![],
            memory: notes.clone(),
            file: notes.clone(),
            disk: notes,
            base: 0,
            floor: 0,
            horizon: 0,
            asked: None,
            near: false,
            start: boot,
            broken: true,
        }
    }

    /// The rules 1 to 5 for an authentic packet.
    pub fn arrive(&mut self, packet: usize, said: &Said, wall: u64, boot: u64) -> Outcome {
        if !said.sound || self.broken {
            return Outcome::Refused;
        }
        self.forget(wall);
        let t = said.time;
        let in_window = wall.saturating_sub(WINDOW) <= t && t <= wall + WINDOW;
        let after_start = t > wall.saturating_sub(boot - self.start);
        let known = self.seen.iter().any(|s| s.packet == packet && !s.forgotten);
        if !in_window || !after_start || t <= self.floor || known {
            return Outcome::Refused;
        }
        self.seen.push(Seen { packet, time: t, kept: Kept::Memory, forgotten: false });
        self.near |= t > self.horizon.saturating_sub(LEAD / 2);
        let counted = self.is_counted(said);
        if counted {
            let used = &mut self.memory.uses[said.client];
            let most = self.clients[said.client].uses.unwrap_or(0);
            if *used >= most || !is_allowed(&self.clients, said, wall) {
                return Outcome::Refused;
            }
            *used += 1;
        }
        if counted || t > self.horizon {
            let promised = !counted && self.asked.is_some_and(|horizon| t <= horizon);
            self.waiting.push(Waiting { packet, promised });
            return Outcome::Waits;
        }
        self.decide(packet, said, wall, boot).map_or(Outcome::Refused, Outcome::Granted)
    }

    fn is_counted(&self, said: &Said) -> bool {
        !said.close && self.clients[said.client].uses.is_some()
    }

    /// Whether nothing that a power loss can take away would let this packet in again.
    pub fn is_safe(&self, packet: usize, said: &Said) -> bool {
        let on_disk = self.seen.iter().any(|s| s.packet == packet && s.kept == Kept::Disk);
        on_disk || (said.time <= self.disk.promised && !self.is_counted(said))
    }

    /// What is granted now to a packet that has been admitted; none: refused.
    pub fn decide(&mut self, packet: usize, said: &Said, wall: u64, boot: u64) -> Option<Decision> {
        if !is_allowed(&self.clients, said, wall) {
            return None;
        }
        let wanted: BTreeSet<Cell> = said.cells.iter().flatten().copied().collect();
        let others = || self.said.iter().filter(|o| o.client == said.client);
        let mut replace = said.replace;
        let cells: BTreeSet<Cell> = if said.close {
            let again = |c: &Cell| {
                others().any(|o| !o.close && o.time > said.time && meets(o, c, said.replace))
            };
            wanted.iter().filter(|c| !again(c)).copied().collect()
        } else {
            let ends = |o: &Said| {
                (o.close || o.replace)
                    && o.time >= said.time
                    && wanted.iter().any(|c| meets(o, c, o.replace))
            };
            // What was asked for later stays.
            let newer = |o: &Said| {
                !o.close && o.time > said.time && wanted.iter().any(|c| meets(o, c, true))
            };
            replace &= !others().any(newer);
            if others().any(ends) { BTreeSet::new() } else { wanted.clone() }
        };
        if cells.is_empty() {
            return None;
        }
        self.said.push(said.clone());
        let client = self.clients[said.client];
        let left = client.ends.map_or(u64::MAX, |end| end.saturating_sub(wall));
        let wish = if said.ttl == 0 { client.ttl } else { said.ttl };
        let until = boot + (wish.min(client.max_ttl) * 1_000).min(left);
        let whole = Said { replace, ..said.clone() };
        if cells == wanted {
            self.fresh.push(Word { said: whole, until });
        } else {
            // A close of which something is left says so port by port, for each address.
            for address in addresses(&whole) {
                let some: Vec<Cell> = cells.iter().filter(|c| c.0 == address).copied().collect();
                let names = some.iter().map(|c| port_name(c.1)).collect();
                if !some.is_empty() {
                    let said = Said { names, cells: Some(some), ..whole.clone() };
                    self.fresh.push(Word { said, until });
                }
            }
        }
        Some(Decision { packet, replace, cells, until })
    }

    /// A turn ends; says whether it asks for a sync.
    pub fn turn(&mut self, wall: u64) -> bool {
        let needed = self.near || self.waiting.iter().any(|w| !w.promised);
        if self.broken || self.asked.is_some() || !needed {
            return false;
        }
        self.memory.promised = self.memory.promised.max(wall + LEAD);
        self.asked = Some(self.memory.promised);
        self.near = false;
        self.waiting.iter_mut().for_each(|w| w.promised = true);
        true
    }

    /// It was written.
    pub fn turned(&mut self) {
        if self.broken {
            return;
        }
        self.file = self.memory.clone();
        self.seen.iter_mut().for_each(|s| s.kept = s.kept.max(Kept::File));
        self.fresh.iter().for_each(|word| self.leases.note(word));
        self.journal.append(&mut self.fresh);
    }

    /// All that was written is on disk now; these packets have waited for it.
    pub fn synced(&mut self) -> Vec<usize> {
        self.harden();
        self.horizon = self.horizon.max(self.asked.take().unwrap_or(0));
        let ready = self.waiting.iter().filter(|w| w.promised).map(|w| w.packet).collect();
        self.waiting.retain(|w| !w.promised);
        ready
    }

    fn harden(&mut self) {
        let written = self.seen.iter_mut().filter(|s| s.kept >= Kept::File);
        written.for_each(|s| s.kept = Kept::Disk);
        self.disk = self.file.clone();
    }

    /// A write or a sync has failed: nothing of this turn is told, and nobody waits any more.
    pub fn failed(&mut self) {
        self.broken = true;
        self.asked = None;
        self.waiting.clear();
        self.fresh.clear();
    }

    /// All that is remembered was written anew, and is on disk.
    pub fn mended(&mut self) {
        self.seen.retain(|s| !s.forgotten);
        self.seen.iter_mut().for_each(|s| s.kept = Kept::Disk);
        self.base = self.floor;
        self.file = self.memory.clone();
        self.disk = self.memory.clone();
        self.journal = self.leases.words();
        self.broken = false;
    }

    /// The process was killed: what is in the file comes back, and the start makes it durable. But
    /// no horizon is relied on that this process has not synced itself.
    pub fn killed(&mut self, wall: u64) {
        self.reread(Kept::File);
        self.floor = self.base;
        self.broken = false;
        self.leases = Leases::read(&self.journal);
        self.said = self.leases.words().into_iter().map(|word| word.said).collect();
        self.forget(wall);
    }

    /// The power was lost: what is on disk comes back, and with `all` what was in the file.
    pub fn lost(&mut self, all: bool, wall: u64, boot: u64) {
        if !all {
            self.file = self.disk.clone();
        }
        self.reread(if all { Kept::File } else { Kept::Disk });
        self.floor = self.base.max(self.memory.promised);
        (self.start, self.broken) = (boot, true);
        // Leases are forgotten, and with them what was said about them.
        self.leases = Leases::default();
        self.journal.clear();
        self.said.clear();
        self.forget(wall);
    }

    fn reread(&mut self, least: Kept) {
        self.seen.retain(|s| s.kept >= least);
        self.seen.iter_mut().for_each(|s| s.forgotten = false);
        self.harden();
        self.memory = self.file.clone();
        (self.horizon, self.asked, self.near) = (0, None, false);
        self.waiting.clear();
        self.fresh.clear();
    }

    /// The leases that run.
    pub fn running(&self, boot: u64) -> Vec<Word> {
        let runs = |w: &Word| !w.said.close && w.until > boot;
        self.leases.words().into_iter().filter(runs).collect()
    }

    /// How many packets are remembered.
    pub fn remembered(&self) -> usize {
        self.seen.iter().filter(|s| !s.forgotten).count()
    }

    fn forget(&mut self, wall: u64) {
        let oldest = wall.saturating_sub(WINDOW + SLACK) / BUCKET;
        for s in self.seen.iter_mut().filter(|s| !s.forgotten && s.time / BUCKET < oldest) {
            s.forgotten = true;
            self.floor = self.floor.max(s.time);
        }
    }
}

fn is_allowed(clients: &[Client], said: &Said, wall: u64) -> bool {
    let ended = clients[said.client].ends.is_some_and(|end| end <= wall);
    said.cells.is_some() && !ended
}

/// The addresses that something was said about.
pub fn addresses(said: &Said) -> BTreeSet<&'static str> {
    said.cells.iter().flatten().map(|c| c.0).collect()
}

fn port_name(port: u16) -> &'static str {
    ["22", "80", "443", "51820"].into_iter().find(|n| *n == port.to_string()).unwrap_or("?")
}

/// Whether what was said is about this cell, or, with `anywhere`, about its port.
fn meets(said: &Said, cell: &Cell, anywhere: bool) -> bool {
    let same = |c: &Cell| c.1 == cell.1 && (anywhere || overlap(c.0, cell.0));
    said.cells.iter().flatten().any(same)
}

/// The one network of the game, and the one host in it.
fn overlap(a: &str, b: &str) -> bool {
    a == b || (a.starts_with("2001:db8:1:") && b.starts_with("2001:db8:1:"))
}
