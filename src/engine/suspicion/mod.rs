//! Strikes, bans and the recovery PIN: who has asked too often for what is not there.
//!
//! A strike comes from a completed TCP connection alone: the source of a datagram or a SYN can be
//! forged, and nobody may lock a user out with one. What is counted and banned is an IPv4 address
//! or the /64 of an IPv6 address; where one of the machine's own addresses or a network that is
//! never banned lies in that /64, its other addresses count one by one. All tables are bounded,
//! whoever comes.

mod pin;
mod rules;

pub use pin::{LONGEST_PIN, Pin, SHORTEST_PIN};
pub use rules::{Ban, Rules, Verdict};

use crate::access::Prefix;
use crate::time::{Mono, Now, Unix};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The most addresses with strikes; a new one drops the one whose last strike is oldest.
pub const MOST_STRUCK: usize = 65_536;
/// The most bans that run or are remembered; a new one drops the one that ended first, and never
/// one before its end: where all run, a new offender's strikes are answered as blocked one by one.
pub const MOST_BANS: usize = 65_536;
/// One strike is forgiven in so many ms.
const FORGIVEN: u64 = 3_600_000;
/// So many wrong guesses of all addresses together are answered at once.
const QUICK: u32 = 10;
/// Each one more costs all of them so much: ms.
const STEP: u32 = 100;
/// The longest delay of an answer: ms.
const SLOWEST: u32 = 5_000;
/// One wrong guess of all addresses together is forgiven in so many ms.
const COOLS: u64 = 10_000;

/// What an address has done lately.
#[derive(Clone, Copy, Debug)]
struct Struck {
    count: u8,
    /// Since when one more is being forgiven.
    since: Mono,
    turn: u64,
}

/// A ban that runs, or that makes the next one longer.
#[derive(Clone, Copy, Debug)]
struct Held {
    ban: Ban,
    guesses: u8,
}

/// A right guess whose PIN is being replaced.
#[derive(Debug)]
struct Pending {
    ticket: u64,
    prefix: Prefix,
    fresh: Pin,
}

/// What a guess leads to.
#[derive(Debug)]
pub enum Guessed {
    /// This is the answer.
    Answer(Verdict),
    /// It was right: the next PIN has to be kept before anybody is told, see
    /// [`Suspicion::handle_pin`].
    Replace(Pin),
}

/// What the reply to [`Guessed::Replace`] leads to: whose guess it was, and the answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// The ticket of the guess.
    pub ticket: u64,
    /// Pardoned, or wrong where the PIN could not be replaced.
    pub verdict: Verdict,
    /// What is banned no more.
    pub pardoned: Option<Prefix>,
}

/// The tables.
#[derive(Debug, Default)]
pub struct Suspicion {
    rules: Rules,
    own: Vec<IpAddr>,
    struck: BTreeMap<Prefix, Struck>,
    /// The addresses with strikes, the one whose last strike is oldest first.
    turns: BTreeMap<u64, Prefix>,
    turn: u64,
    bans: BTreeMap<Prefix, Held>,
    /// The bans, the one that ends first first.
    ends: BTreeSet<(Unix, Prefix)>,
    pin: Option<Pin>,
    pending: Option<Pending>,
    wrong: u32,
    cooled: Mono,
}

impl Suspicion {
    /// Empty tables.
    #[must_use]
    pub fn new(rules: Rules, own: Vec<IpAddr>) -> Suspicion {
        Suspicion { rules, own, ..Suspicion::default() }
    }

    /// Other rules, or other addresses of the machine: what is banned no more by that.
    pub fn set(&mut self, rules: Rules, own: Vec<IpAddr>) -> Vec<Prefix> {
        (self.rules, self.own) = (rules, own);
        let freed: Vec<Prefix> = self.bans.keys().filter(|p| self.spares(p)).copied().collect();
        freed.iter().for_each(|p| self.forgive(p));
        freed
    }

    fn spares(&self, prefix: &Prefix) -> bool {
        self.rules.spare(prefix, &self.own)
    }

    /// What is counted and banned for that address; nothing where it is never banned.
    fn unit(&self, from: IpAddr) -> Option<Prefix> {
        [Prefix::unit(from), Prefix::host(from)].into_iter().find(|p| !self.spares(p))
    }

    /// The ban under which that address stands.
    #[must_use]
    pub fn ban(&self, from: IpAddr, now: Now) -> Option<Ban> {
        let held = [Prefix::unit(from), Prefix::host(from)].map(|p| self.bans.get(&p));
        held.into_iter().flatten().map(|h| h.ban).find(|b| b.until > now.unix)
    }

    /// Counts one strike of an address with a completed connection; `chance` is the random part of
    /// a ban. The answer, and the ban if one begins.
    pub fn handle_strike(&mut self, from: IpAddr, chance: u64, now: Now) -> (Verdict, Option<Ban>) {
        let Some(prefix) = self.unit(from) else { return (Verdict::Exempt, None) };
        if let Some(ban) = self.ban(from, now) {
            return (Verdict::Blocked { until: ban.until }, None);
        }
        let count = self.count(prefix, now);
        if count <= self.rules.budget {
            return (Verdict::Counted { left: self.rules.budget - count }, None);
        }
        self.forget(now);
        let times = self.bans.get(&prefix).map_or(0, |held| held.ban.times).saturating_add(1);
        let until = now.unix.plus(self.length(times, chance));
        let ban = Ban { prefix, until, times };
        let kept = self.hold(ban, now);
        if kept {
            self.forgive_strikes(&prefix);
        }
        (Verdict::Blocked { until }, kept.then_some(ban))
    }

    /// How long a ban is: the first one doubled each time, and up to a quarter more at random; what
    /// would be longer than the longest is shorter than it by as much as chance says.
    fn length(&self, times: u8, chance: u64) -> u64 {
        let longest = u64::from(self.rules.longest) * 1_000;
        let doubled =
            (u64::from(self.rules.first) * 1_000).checked_shl(u32::from(times.min(32)) - 1);
        let plain = doubled.unwrap_or(longest).min(longest);
        let more = chance % (plain / 4 + 1);
        match plain + more <= longest {
            true => plain + more,
            false => longest - more,
        }
    }

    fn count(&mut self, prefix: Prefix, now: Now) -> u8 {
        let before = self.struck.remove(&prefix);
        if let Some(before) = before {
            self.turns.remove(&before.turn);
        }
        let before = before.unwrap_or(Struck { count: 0, since: now.mono, turn: 0 });
        let forgiven = now.mono.since(before.since) / FORGIVEN;
        let left = u64::from(before.count).saturating_sub(forgiven) as u8;
        let since = match left {
            0 => now.mono,
            _ => before.since.plus(forgiven.saturating_mul(FORGIVEN)),
        };
        if self.struck.len() >= MOST_STRUCK
            && let Some((_, oldest)) = self.turns.pop_first()
        {
            self.struck.remove(&oldest);
        }
        self.turn += 1;
        let struck = Struck { count: left.saturating_add(1), since, turn: self.turn };
        self.turns.insert(self.turn, prefix);
        self.struck.insert(prefix, struck);
        struck.count
    }

    fn forgive_strikes(&mut self, prefix: &Prefix) {
        if let Some(struck) = self.struck.remove(prefix) {
            self.turns.remove(&struck.turn);
        }
    }

    /// Keeps a ban instead of the one before it; false where there is no room and all others run.
    fn hold(&mut self, ban: Ban, now: Now) -> bool {
        if let Some(before) = self.bans.remove(&ban.prefix) {
            self.ends.remove(&(before.ban.until, before.ban.prefix));
        }
        if self.bans.len() >= MOST_BANS
            && let Some((until, prefix)) = self.ends.first().copied()
            && until <= now.unix
        {
            self.ends.pop_first();
            self.bans.remove(&prefix);
        }
        if self.bans.len() >= MOST_BANS {
            return false;
        }
        self.ends.insert((ban.until, ban.prefix));
        self.bans.insert(ban.prefix, Held { ban, guesses: 0 });
        true
    }

    /// An address without a ban for as long as the longest one begins anew.
    pub fn forget(&mut self, now: Now) {
        let remembered = u64::from(self.rules.longest) * 1_000;
        while let Some((until, prefix)) = self.ends.first().copied() {
            if until.plus(remembered) > now.unix {
                return;
            }
            self.ends.pop_first();
            self.bans.remove(&prefix);
        }
    }

    /// Takes back a ban that the journal remembers. A clock that was set back does not make it
    /// longer than a new one could be.
    pub fn restore(&mut self, ban: Ban, now: Now) {
        let until = ban.until.min(now.unix.plus(u64::from(self.rules.longest) * 1_000));
        if !self.spares(&ban.prefix) {
            self.hold(Ban { until, ..ban }, now);
        }
    }

    /// Compares a guess at the PIN, at most [`Rules::guesses`] times in one ban; `fresh` is the next
    /// PIN if it is right.
    pub fn handle_guess(
        &mut self,
        ticket: u64,
        from: IpAddr,
        guess: &Pin,
        fresh: Pin,
        now: Now,
    ) -> Guessed {
        let ban = self.ban(from, now).filter(|_| self.unit(from).is_some());
        let held = ban.and_then(|ban| self.bans.get_mut(&ban.prefix));
        let Some(held) = held else { return Guessed::Answer(Verdict::Exempt) };
        if held.guesses >= self.rules.guesses {
            return Guessed::Answer(Verdict::Blocked { until: held.ban.until });
        }
        let right = self.pin.as_ref().is_some_and(|pin| pin == guess);
        // One that is being replaced has been used.
        if right && self.pending.is_none() {
            let prefix = held.ban.prefix;
            self.pending = Some(Pending { ticket, prefix, fresh: fresh.clone() });
            return Guessed::Replace(fresh);
        }
        held.guesses += 1;
        let left = self.rules.guesses - held.guesses;
        Guessed::Answer(Verdict::Wrong { left, delay_ms: self.slow(now) })
    }

    /// The delay of the answer to one more wrong guess.
    fn slow(&mut self, now: Now) -> u32 {
        let cooled = now.mono.since(self.cooled) / COOLS;
        self.wrong = u64::from(self.wrong).saturating_sub(cooled) as u32;
        self.cooled = match self.wrong {
            0 => now.mono,
            _ => self.cooled.plus(cooled.saturating_mul(COOLS)),
        };
        self.wrong = (self.wrong + 1).min(QUICK + SLOWEST / STEP);
        self.wrong.saturating_sub(QUICK) * STEP
    }

    /// That PIN counts from now on, and is kept where a person can read it. The guess that waited
    /// for it is answered: it stands only if this is the PIN that was to replace the old one.
    pub fn handle_pin(&mut self, pin: Pin) -> Option<Settled> {
        let settled = self.pending.take().map(|Pending { ticket, prefix, fresh }| {
            let pardoned = (fresh == pin).then_some(prefix);
            let left = self.bans.get(&prefix).map_or(0, |h| h.guesses);
            let left = self.rules.guesses.saturating_sub(left);
            let wrong = Verdict::Wrong { left, delay_ms: 0 };
            let verdict = pardoned.map_or(wrong, |_| Verdict::Pardoned);
            Settled { ticket, verdict, pardoned }
        });
        if let Some(prefix) = settled.as_ref().and_then(|s| s.pardoned) {
            self.forgive(&prefix);
        }
        self.pin = Some(pin);
        settled
    }

    /// Forgets all strikes and bans of whoever shares an address with that prefix; what was banned.
    pub fn pardon(&mut self, prefix: &Prefix) -> Vec<Prefix> {
        let struck: Vec<Prefix> =
            self.struck.keys().filter(|p| p.overlaps(prefix)).copied().collect();
        struck.iter().for_each(|p| self.forgive_strikes(p));
        let freed: Vec<Prefix> = self.bans.keys().filter(|p| p.overlaps(prefix)).copied().collect();
        freed.iter().for_each(|p| self.forgive(p));
        freed
    }

    /// Somebody has proved who he is from that address: his strikes are forgotten, and so are the
    /// bans that are given back.
    pub fn lift(&mut self, from: IpAddr) -> Vec<Prefix> {
        let units = [Prefix::unit(from), Prefix::host(from)];
        units.iter().for_each(|p| self.forgive_strikes(p));
        let mut freed: Vec<Prefix> =
            units.into_iter().filter(|p| self.bans.contains_key(p)).collect();
        freed.dedup();
        freed.iter().for_each(|p| self.forgive(p));
        freed
    }

    /// Forgets one prefix.
    pub fn forgive(&mut self, prefix: &Prefix) {
        self.forgive_strikes(prefix);
        if let Some(held) = self.bans.remove(prefix) {
            self.ends.remove(&(held.ban.until, held.ban.prefix));
        }
    }

    /// All bans that run or are remembered, by address.
    pub fn bans(&self) -> impl Iterator<Item = &Ban> {
        self.bans.values().map(|held| &held.ban)
    }

    /// How many addresses have strikes.
    #[must_use]
    pub fn struck(&self) -> usize {
        self.struck.len()
    }
}
