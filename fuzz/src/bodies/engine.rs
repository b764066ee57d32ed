//! A game of arrivals, clocks, syncs, failures and restarts against [`super::model`].

use super::disk::Memory;
use super::leases::Word;
use super::model::{Cell, Client as Rules, Decision, Model, Outcome, Said};
use super::table::{BEGIN, FROM, MOVE, Part, RULES, Sent, id, parts, setup};
use opensesame_spa::access::Action;
use opensesame_spa::daemon::store::{Disk, Journal, Told};
use opensesame_spa::engine::{Arrival, Engine, History, Mode, Setup};
use opensesame_spa::proto::DATAGRAM;
use opensesame_spa::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};

/// The most moves of one game.
const MOST: usize = 200;

struct Game {
    engine: Engine,
    journal: Journal<Memory>,
    model: Model,
    sent: Vec<Sent>,
    waiting: BTreeMap<usize, (Said, &'static str)>,
    /// Decided, and to be told by the next turn.
    pending: Vec<Decision>,
    /// Packets whose grants were told.
    told: BTreeSet<usize>,
    /// All that was ever granted.
    granted: BTreeSet<Part>,
    /// The leases that the next turn has to bring back.
    restores: Vec<(Part, u64)>,
    in_flight: Option<u64>,
    now: Now,
    boot: u8,
}

/// Moves of 8 bytes: the first three bits of the first byte say which, its last one whether a turn
/// ends behind it.
///
/// # Panics
/// When the engine and the model do not agree, or a packet counts twice.
pub fn engine(data: &[u8]) {
    engine_by(&RULES, data);
}

/// The same with other rules for the model.
///
/// # Panics
/// When they make a difference.
pub fn engine_by(rules: &[Rules], data: &[u8]) {
    let mut game = Game::new(rules);
    for b in data.as_chunks::<MOVE>().0.iter().take(MOST) {
        game.play(b);
        if b[0] & 1 != 0 {
            game.turn();
        }
    }
    game.turn();
}

impl Game {
    fn new(rules: &[Rules]) -> Game {
        let model = Model::new(rules, BEGIN.mono.0);
        let (journal, history) = Journal::open(Memory::new(1_024)).expect("an empty disk");
        let mut game = Game {
            engine: Engine::start(setup(), &history, BEGIN),
            journal,
            model,
            sent: vec![],
            waiting: BTreeMap::new(),
            pending: vec![],
            told: BTreeSet::new(),
            granted: BTreeSet::new(),
            restores: vec![],
            in_flight: None,
            now: BEGIN,
            boot: 1,
        };
        game.mend();
        game
    }

    fn play(&mut self, b: &[u8; MOVE]) {
        let ms = u64::from(b[1]) * 500;
        match (b[0] >> 5, self.sent.len()) {
            (0 | 1, n) => {
                self.sent.push(Sent::new(b, n, self.now));
                self.arrive(n, FROM[usize::from(b[7] & 3)]);
            }
            (2 | 3, 0) => {}
            (2, n) => self.arrive(usize::from(b[1]) % n, FROM[usize::from(b[2] & 3)]),
            (3, n) => self.bent(usize::from(b[1]) % n, b),
            (4, _) => {
                let Now { unix, mono } = self.now;
                self.now = match b[2] & 3 {
                    0 | 1 => Now { unix: unix.plus(ms), mono: mono.plus(ms) },
                    2 => Now { unix: unix.plus(ms), mono },
                    _ => Now { unix: unix.minus(ms), mono },
                };
            }
            (5, _) => self.sync(),
            (6, _) => {
                self.journal.disk().0.full = b[1] & 1 != 0;
                if b[1] & 2 != 0 && self.model.broken {
                    self.mend();
                }
            }
            (_, _) => self.restart(b[1] & 3, u64::from(b[2]) * 500),
        }
    }

    fn arrive(&mut self, packet: usize, from: &'static str) {
        let said = self.sent[packet].said(from);
        let (wall, boot) = (self.now.unix.0, self.now.mono.0);
        let expected = self.model.arrive(packet, &said, wall, boot);
        let source = from.parse().expect("an address");
        let arrival = Arrival { bytes: &self.sent[packet].bytes, from: source, mode: Mode::Spa };
        let answer = self.engine.handle_arrival(&arrival, self.now);
        match expected {
            Outcome::Refused => {
                assert!(answer.is_err(), "{said:?} may not pass, and did: {answer:?}");
            }
            Outcome::Waits => {
                assert_eq!(answer, Ok(None), "{said:?} has to wait");
                self.waiting.insert(packet, (said, from));
            }
            Outcome::Granted(decision) => {
                assert!(matches!(answer, Ok(Some(_))), "{said:?} may pass: {answer:?}");
                assert!(self.model.is_safe(packet, &said), "before it was durable: {said:?}");
                self.pending.push(decision);
            }
        }
    }

    /// A copy with one bit changed, or one byte too many or too few.
    fn bent(&mut self, packet: usize, b: &[u8; MOVE]) {
        let mut bytes = self.sent[packet].bytes.to_vec();
        let bit = usize::from(u16::from_be_bytes([b[2], b[3]])) % (DATAGRAM * 8);
        match b[4] & 3 {
            0 => bytes.push(b[5]),
            1 => bytes.truncate(DATAGRAM - 1),
            _ => bytes[bit / 8] ^= 1 << (bit % 8),
        }
        let from = FROM[0].parse().expect("an address");
        let arrival = Arrival { bytes: &bytes, from, mode: Mode::Spa };
        let answer = self.engine.handle_arrival(&arrival, self.now);
        assert!(answer.is_err_and(|r| r.client.is_none()), "a bent packet counts as proven");
    }

    fn turn(&mut self) {
        let asks = self.model.turn(self.now.unix.0);
        let turn = self.journal.turn(&mut self.engine, self.now);
        if turn.failed.is_some() {
            self.restored(&turn.told);
            let new = turn.told.iter().any(|told| matches!(told, Told::Grant(_)));
            assert!(!new && turn.sync.is_none(), "no record, no grant");
            return self.failed();
        }
        assert_eq!(turn.sync.is_some(), asks, "a sync is asked for when one is needed");
        self.restored(&turn.told);
        let (mut told, mut expected) = (vec![], vec![]);
        for one in turn.told {
            if let Told::Grant(grant) = one {
                told.extend(parts(grant.claim()));
            }
        }
        for decision in std::mem::take(&mut self.pending) {
            assert!(self.told.insert(decision.packet), "granted twice: {decision:?}");
            expected.extend(self.parts(&decision));
        }
        told.sort_unstable();
        expected.sort_unstable();
        assert_eq!(told, expected);
        self.granted.extend(told.iter().map(|(part, _)| *part));
        self.model.turned();
        self.in_flight = turn.sync.or(self.in_flight);
    }

    /// A restart brings back the leases that run, all of them, and nothing that was never granted.
    fn restored(&mut self, told: &[Told]) {
        let mut running = vec![];
        for one in told {
            let Told::Restore(claim) = one else { continue };
            let known = parts(claim).iter().all(|(p, _)| self.granted.contains(p));
            assert!(known, "restored and never granted: {claim:?}");
            if claim.action == Action::Open && claim.until > self.now.mono {
                running.extend(parts(claim));
            }
        }
        running.sort_unstable();
        assert_eq!(running, std::mem::take(&mut self.restores), "leases after a restart");
    }

    fn parts(&self, decision: &Decision) -> impl Iterator<Item = (Part, u64)> {
        let said = &self.sent[decision.packet].said;
        let part = |c: &Cell| {
            ((id(said.client), said.close, decision.replace, said.time, *c), decision.until)
        };
        decision.cells.iter().map(part)
    }

    fn sync(&mut self) {
        let Some(ticket) = self.in_flight.take() else { return };
        let (disk, number) = self.journal.disk();
        if disk.sync(number).is_err() {
            self.engine.handle_store_failed();
            return self.failed();
        }
        let ready = self.model.synced();
        let answers = self.engine.handle_synced(ticket, self.now);
        assert_eq!(answers.len(), ready.len(), "who has waited long enough");
        for (packet, (from, answer)) in ready.into_iter().zip(answers) {
            let (said, source) = self.waiting.remove(&packet).expect("nobody waits");
            assert_eq!(Ok(from), source.parse(), "{said:?}");
            assert!(self.model.is_safe(packet, &said), "answered before it was durable: {said:?}");
            let (wall, boot) = (self.now.unix.0, self.now.mono.0);
            let decision = self.model.decide(packet, &said, wall, boot);
            assert_eq!(answer.is_ok(), decision.is_some(), "{said:?} at {wall} and {boot}");
            self.pending.extend(decision);
        }
    }

    /// What was not told yet is refused, and no restart brings it back.
    fn failed(&mut self) {
        self.model.failed();
        self.pending.clear();
        self.waiting.clear();
        self.in_flight = None;
    }

    fn mend(&mut self) {
        if self.journal.mend(&mut self.engine).is_ok() {
            self.model.mended();
        }
        assert_eq!(self.engine.wants_segment(), self.model.broken);
    }

    /// 0: the process was killed; 1: power loss; 2: power loss, and all was on disk by luck.
    fn restart(&mut self, how: u8, ms: u64) {
        self.turn();
        let mut disk = self.journal.disk().0.clone();
        disk.full = false;
        self.now.unix = self.now.unix.plus(ms);
        match how {
            1 => disk.lose(),
            2 => disk.keep(),
            _ => self.now.mono = self.now.mono.plus(ms),
        }
        if matches!(how, 1 | 2) {
            self.boot = self.boot.wrapping_add(1);
            self.now.mono = Mono(5_000);
        }
        let (journal, history): (Journal<Memory>, History) =
            Journal::open(disk).expect("a journal reads what it wrote");
        let setup = Setup { boot: [self.boot; 16], ..setup() };
        self.engine = Engine::start(setup, &history, self.now);
        self.journal = journal;
        (self.in_flight, self.pending) = (None, vec![]);
        self.waiting.clear();
        let (wall, boot) = (self.now.unix.0, self.now.mono.0);
        match how {
            1 | 2 => self.model.lost(how == 2, wall, boot),
            _ => self.model.killed(wall),
        }
        let part = |said: &Said, c: &Cell| (id(said.client), false, said.replace, said.time, *c);
        for Word { said, until } in self.model.running(boot) {
            self.restores.extend(said.cells.iter().flatten().map(|c| (part(&said, c), until)));
        }
        self.restores.sort_unstable();
        assert_eq!(self.engine.wants_segment(), self.model.broken, "after a restart");
        assert_eq!(self.engine.remembered(), self.model.remembered(), "after a restart");
        if self.model.broken {
            self.mend();
        }
        self.turn();
    }
}
