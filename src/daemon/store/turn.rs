//! One turn: what the engine decided becomes durable as far as it must, and only then known.

use super::{Disk, Journal};
use crate::access::{Claim, Grant};
use crate::engine::{Command, Engine, Note, Record, Suspect};
use crate::time::Now;
use std::io;

/// What the process that holds the firewall is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Told {
    /// Decided just now.
    Grant(Grant),
    /// Remembered from before a restart.
    Restore(Claim),
    /// About strikes, bans and the recovery PIN.
    Suspect(Suspect),
    /// About hooks.
    Hook(Note),
}

/// The outcome of a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be passed on, in this order.
    pub told: Vec<Told>,
    /// A sync that has to be made, and reported to the engine.
    pub sync: Option<u64>,
    /// Why nothing new of this turn counts, and how many packets that cost.
    pub failed: Option<(io::Error, usize)>,
}

impl<D: Disk> Journal<D> {
    /// Carries out the engine's commands: all records with one write, then what stands on them.
    /// After a failure nothing new is told; the journal is then made anew from the engine's memory,
    /// and until that works everything is refused.
    pub fn turn(&mut self, engine: &mut Engine, now: Now) -> Turn {
        engine.handle_turn(now);
        let (mut records, mut turn) = (Vec::new(), Turn::default());
        while let Some(command) = engine.poll_command() {
            match command {
                Command::Record(record) => records.push(record),
                Command::Sync(ticket) => turn.sync = Some(ticket),
                Command::Grant(grant) => turn.told.push(Told::Grant(grant)),
                Command::Restore(claim) => turn.told.push(Told::Restore(claim)),
                Command::Suspect(what) => turn.told.push(Told::Suspect(what)),
                Command::Hook(note) => turn.told.push(Told::Hook(note)),
            }
        }
        if records.is_empty() {
            return turn;
        }
        match self.write(engine, &records, now) {
            Ok(()) => {
                for told in &turn.told {
                    match told {
                        Told::Grant(grant) => engine.handle_recorded(grant),
                        Told::Restore(_) | Told::Suspect(_) | Told::Hook(_) => {}
                    }
                }
                turn
            }
            Err(error) => {
                let all = turn.told.len();
                // What is remembered from before stands on older records; and who is banned is
                // banned now, and what hooks are owed, the next segment says so.
                turn.told.retain(|t| !matches!(t, Told::Grant(_)));
                let lost = all - turn.told.len() + engine.handle_store_failed();
                Turn { told: turn.told, sync: None, failed: Some((error, lost)) }
            }
        }
    }

    fn write(&mut self, engine: &mut Engine, records: &[Record], now: Now) -> io::Result<()> {
        // One slot stays free for the floor that retires older segments.
        if !self.has_room(records.len() + 1) {
            self.rotate(&engine.snapshot(false), records.len() + 1)?;
        }
        self.append(records)?;
        if self.segments() > 1 && self.has_room(1) {
            self.retire(engine.forgotten(now), engine.floor())?;
        }
        Ok(())
    }

    /// Writes a whole segment out of the engine's memory; when that works, packets are accepted
    /// again.
    ///
    /// # Errors
    /// When it does not work; everything is refused until it does.
    pub fn mend(&mut self, engine: &mut Engine) -> io::Result<()> {
        self.restart(&engine.snapshot(true))?;
        engine.handle_store_mended();
        Ok(())
    }
}
