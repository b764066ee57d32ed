//! What the daemon does with engine and journal, and what the world does to it.

use super::super::{Journal, Told};
use super::chance::Chance;
use super::disk::{Begun, End, Simulated};
use super::world::{self, Packet};
use crate::engine::{Arrival, Engine, Mode, Reject};
use crate::time::{Mono, Now, Unix};

/// How the world behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum World {
    /// One packet a turn, each sync ends at once, nothing fails: as in the model.
    Calm,
    /// Packets come together, syncs end late or never, and everything fails now and then.
    Rough,
    /// Rough, but without faults of the disk; and a sync is reported that was never made.
    Unsynced,
    /// Rough, but without faults of the disk; and the grant is told before its record is written.
    Hasty,
    /// Rough, but without faults of the disk.
    Sound,
}

struct Pending {
    ticket: u64,
    begun: Begun,
    /// Arrivals until it ends, and from then until it is reported.
    ends: u64,
    reported: u64,
    end: Option<End>,
}

struct Process {
    journal: Journal<Simulated>,
    engine: Engine,
    pending: Option<Pending>,
}

pub(super) struct Driver {
    world: World,
    disk: Simulated,
    process: Option<Process>,
    chance: Chance,
    boot: u8,
    truth: u64,
    offset: i64,
    mono: u64,
    /// How often each packet was told to the firewall.
    pub(super) accepted: Vec<u8>,
    pub(super) starts: u64,
}

impl Driver {
    pub(super) fn new(world: World, seed: u64) -> Driver {
        let mut chance = Chance(seed);
        let disk = Simulated::new(Chance(chance.next()), world == World::Rough);
        let mut driver = Driver {
            world,
            disk,
            process: None,
            chance,
            boot: 1,
            truth: 1_000_000_000,
            offset: 0,
            mono: 0,
            accepted: vec![],
            starts: 0,
        };
        driver.start();
        driver
    }

    pub(super) fn now(&self) -> Now {
        Now { unix: Unix(self.truth.wrapping_add_signed(self.offset)), mono: Mono(self.mono) }
    }

    pub(super) fn failures(&self) -> u64 {
        self.disk.failures()
    }

    pub(super) fn step(&mut self, ms: u64) {
        self.turn();
        self.truth += ms;
        self.mono += ms;
        self.wait(if ms < 2_000 { 1 } else { 10 });
    }

    pub(super) fn set_offset(&mut self, offset: i64) {
        self.offset = offset;
    }

    fn calm(&self) -> bool {
        self.world == World::Calm
    }

    /// A start, and as long as the process dies while it begins its journal, another.
    fn start(&mut self) {
        loop {
            self.starts += 1;
            self.disk.revive();
            if !self.calm() && self.chance.below(10) == 0 {
                self.disk.die_after(self.chance.below(8) as u32);
            }
            let (journal, history) = Journal::open(self.disk.clone()).expect("a journal");
            let journal = journal.with_segments(if self.calm() { 1 << 14 } else { 3_072 });
            let engine = Engine::start(world::setup(self.boot), &history, self.now());
            self.process = Some(Process { journal, engine, pending: None });
            self.mend();
            if !self.disk.revive() {
                break;
            }
        }
        self.turn();
    }

    fn mend(&mut self) {
        let Some(p) = &mut self.process else { return };
        if p.engine.wants_segment() {
            let _ = p.journal.mend(&mut p.engine);
        }
    }

    /// A packet arrives; what becomes of it at once.
    pub(super) fn deliver(&mut self, packet: &Packet) -> Result<(), Reject> {
        self.mend();
        self.wait(1);
        let now = self.now();
        let Some(p) = &mut self.process else { return Err(Reject::NoRecord) };
        let arrival = Arrival { bytes: &packet.bytes, from: packet.from, mode: Mode::Spa };
        let answer = p.engine.handle_arrival(&arrival, now);
        if let Ok(granted) = &answer {
            let (time, wall) = (packet.time, now.unix);
            assert!(time >= wall.minus(60_000) && time <= wall.plus(60_000), "outside the window");
            assert!(time > wall.minus(now.mono.0), "dated before this boot");
            if self.world == World::Hasty && granted.is_some() {
                self.accept(packet.id);
                if self.chance.below(4) == 0 {
                    self.start();
                }
            }
        }
        if self.calm() || self.chance.below(10) < 7 {
            self.turn();
        }
        // The moment that matters: a sync is under way.
        if !self.calm() && self.process.as_ref().is_some_and(|p| p.pending.is_some()) {
            match self.chance.below(60) {
                0 => self.kill(None),
                1 => self.lose_power(0, None),
                _ => {}
            }
        }
        answer.map(|_| ()).map_err(|r| r.reason)
    }

    /// What waits in the engine is carried out.
    pub(super) fn turn(&mut self) {
        let now = self.now();
        let Some(p) = &mut self.process else { return };
        let turn = p.journal.turn(&mut p.engine, now);
        let new = turn.told.iter().any(|t| matches!(t, Told::Grant(_)));
        assert!(turn.failed.is_none() || !new && turn.sync.is_none(), "no record, no grant");
        if let Some(ticket) = turn.sync {
            let number = p.journal.disk().1;
            let begun = self.disk.begin_sync(number);
            let (ends, reported) = match self.world {
                World::Calm => (0, 0),
                World::Rough | World::Unsynced | World::Hasty | World::Sound => {
                    (self.chance.below(4), self.chance.below(3))
                }
            };
            p.pending = Some(Pending { ticket, begun, ends, reported, end: None });
        }
        for told in turn.told {
            match told {
                Told::Grant(grant) if self.world != World::Hasty => {
                    self.accept(world::id(grant.claim()));
                }
                Told::Grant(_) | Told::Restore(_) | Told::Suspect(_) | Told::Hook(_) => {}
            }
        }
        if turn.failed.is_some() {
            self.process.iter_mut().for_each(|p| p.pending = None);
            if self.chance.below(4) == 0 {
                self.kill(None);
                return;
            }
            self.mend();
        }
        self.wait(0);
    }

    fn accept(&mut self, id: usize) {
        if self.accepted.len() <= id {
            self.accepted.resize(id + 1, 0);
        }
        self.accepted[id] = self.accepted[id].saturating_add(1);
    }

    fn how_it_ends(&mut self) -> End {
        let faults = self.world == World::Rough;
        match self.chance.below(100) {
            0 if faults => End::Lost,
            1 if faults => End::Gone,
            _ => End::Durable,
        }
    }

    /// The sync that is under way goes on for so many arrivals.
    fn wait(&mut self, arrivals: u64) {
        let end = self.how_it_ends();
        let (unsynced, now) = (self.world == World::Unsynced, self.now());
        let Some(p) = &mut self.process else { return };
        let Some(pending) = &mut p.pending else { return };
        if pending.end.is_none() {
            pending.ends = pending.ends.saturating_sub(arrivals);
            if pending.ends > 0 {
                return;
            }
            // What is gone is gone when it is reported.
            if end != End::Gone && !unsynced {
                self.disk.end_sync(&pending.begun, end);
            }
            pending.end = Some(end);
        }
        pending.reported = pending.reported.saturating_sub(arrivals);
        if pending.reported > 0 {
            return;
        }
        let Some(pending) = p.pending.take() else { return };
        match pending.end {
            Some(End::Durable) | None => {
                p.engine.handle_synced(pending.ticket, now);
                self.turn();
            }
            Some(how @ (End::Lost | End::Gone)) => {
                if how == End::Gone {
                    self.disk.end_sync(&pending.begun, how);
                }
                p.engine.handle_store_failed();
                self.mend();
            }
        }
    }

    /// The process ends between two turns, or in the middle of one that this packet caused.
    fn die(&mut self, last: Option<&Packet>) {
        let now = self.now();
        if let (false, true, Some(packet)) = (self.calm(), self.chance.below(2) == 0, last) {
            self.disk.die_after(self.chance.below(4) as u32);
            if let Some(p) = &mut self.process {
                let arrival = Arrival { bytes: &packet.bytes, from: packet.from, mode: Mode::Spa };
                let _ = p.engine.handle_arrival(&arrival, now);
                let turn = p.journal.turn(&mut p.engine, now);
                // It died after this turn, so what the turn told was told.
                if turn.failed.is_none() && self.world != World::Hasty {
                    for told in turn.told {
                        match told {
                            Told::Grant(grant) => self.accept(world::id(grant.claim())),
                            Told::Restore(_) | Told::Suspect(_) | Told::Hook(_) => {}
                        }
                    }
                }
            }
        }
        self.disk.revive();
        // A sync that was under way may come to its end without the process.
        let end = self.how_it_ends();
        let pending = self.process.take().and_then(|p| p.pending);
        if let Some(pending) = pending.filter(|p| p.end.is_none())
            && self.world != World::Unsynced
            && end != End::Gone
            && self.chance.below(2) == 0
        {
            self.disk.end_sync(&pending.begun, end);
        }
    }

    pub(super) fn kill(&mut self, last: Option<&Packet>) {
        self.die(last);
        self.start();
    }

    pub(super) fn lose_power(&mut self, pause: u64, last: Option<&Packet>) {
        self.die(last);
        self.disk.lose_power();
        self.truth += pause;
        self.mono = 0;
        self.boot = self.boot.wrapping_add(1);
        self.start();
    }

    pub(super) fn forget(&mut self) {
        let now = self.now();
        self.process.iter_mut().for_each(|p| {
            let _ = p.engine.forgotten(now);
        });
    }

    pub(super) fn rotate(&mut self) {
        self.forget();
        self.turn();
        let Some(p) = &mut self.process else { return };
        if !p.engine.wants_segment() && p.journal.rotate(&p.engine.snapshot(false), 1).is_err() {
            p.engine.handle_store_failed();
            p.pending = None;
            self.mend();
        }
    }
}
