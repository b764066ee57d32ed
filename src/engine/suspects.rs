//! Strikes, guesses and pardons on their way through the engine.

use super::suspicion::{Ban, Guessed, Pin, Rules, Verdict};
use super::{Command, Engine, Record};
use crate::access::Prefix;
use crate::time::Now;
use std::net::IpAddr;

/// What others are told about strikes, bans and the recovery PIN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Suspect {
    /// Banned from now on, or from before a restart.
    Ban(Ban),
    /// Banned no more.
    Unban(Prefix),
    /// What becomes of a strike or a guess.
    Verdict(u64, Verdict),
    /// The PIN that is to replace the one that was guessed; [`Engine::handle_pin`] hears which one
    /// is kept.
    Pin(Pin),
}

impl Engine {
    /// Somebody with a completed connection has asked for what is not there; `chance` is random.
    pub fn handle_strike(&mut self, ticket: u64, from: IpAddr, chance: u64, now: Now) {
        let (verdict, ban) = self.suspicion.handle_strike(from, chance, now);
        if let Some(ban) = ban {
            self.remember(Record::Banned(ban));
            self.tell(Suspect::Ban(ban));
        }
        self.tell(Suspect::Verdict(ticket, verdict));
    }

    /// Somebody who is banned has typed digits; `fresh` is the next PIN, random.
    pub fn handle_guess(&mut self, ticket: u64, from: IpAddr, guess: &Pin, fresh: Pin, now: Now) {
        match self.suspicion.handle_guess(ticket, from, guess, fresh, now) {
            Guessed::Answer(verdict) => self.tell(Suspect::Verdict(ticket, verdict)),
            Guessed::Replace(pin) => self.tell(Suspect::Pin(pin)),
        }
    }

    /// That PIN is kept and counts from now on; who guessed the one before it is pardoned.
    pub fn handle_pin(&mut self, pin: Pin) {
        let Some(settled) = self.suspicion.handle_pin(pin) else { return };
        self.free(settled.pardoned);
        self.tell(Suspect::Verdict(settled.ticket, settled.verdict));
    }

    /// An administrator pardons all that shares an address with this.
    pub fn handle_pardon(&mut self, prefix: &Prefix) {
        let freed = self.suspicion.pardon(prefix);
        self.free(freed);
    }

    /// How much is too much from now on; the machine's own addresses are the policy's.
    pub fn set_rules(&mut self, rules: Rules) {
        let freed = self.suspicion.set(rules, self.policy.own().to_vec());
        self.free(freed);
    }

    /// Somebody has proved by a sealed packet who he is.
    pub(super) fn lift(&mut self, from: IpAddr) {
        let freed = self.suspicion.lift(from);
        self.free(freed);
    }

    fn free(&mut self, freed: impl IntoIterator<Item = Prefix>) {
        for prefix in freed {
            self.remember(Record::Pardoned(prefix));
            self.tell(Suspect::Unban(prefix));
        }
    }

    fn tell(&mut self, what: Suspect) {
        self.commands.push_back(Command::Suspect(what));
    }

    /// While the journal cannot be written the next segment will say it.
    pub(super) fn remember(&mut self, record: Record) {
        if !self.broken {
            self.commands.push_back(Command::Record(record));
        }
    }
}
