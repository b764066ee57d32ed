//! Bans, and what lies between `[gate]` and `[engine]`: the second look, the firewall's sets, the
//! file of the recovery PIN.

use super::Priv;
use crate::access::Prefix;
use crate::daemon::config::{Block, Gate, SecretFile, shown, write_new};
use crate::daemon::frame::Frame;
use crate::daemon::log::Limit;
use crate::daemon::system::Partner;
use crate::engine::suspicion::{Ban, MOST_BANS, Pin, Rules, Verdict};
use crate::time::{Now, Unix};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::Path;

/// What `[priv]` knows of bans.
#[derive(Default)]
pub(super) struct Bans {
    held: BTreeMap<Prefix, Ban>,
    /// What an `[engine]` that begins has not said yet, and does not remember if it never does.
    doubtful: BTreeMap<Prefix, Ban>,
    /// What was pardoned while `[engine]` was away.
    pardoned: Vec<Prefix>,
    /// The PIN that is in its file.
    pin: Option<Pin>,
    refusals: Limit,
    strikes: u64,
    begun: u64,
    pardons: u64,
}

impl Priv {
    /// What `[engine]` is told about suspicion; the PIN only when it `begins`.
    pub(super) fn suspicion(&mut self, begins: bool) -> Vec<Frame> {
        let Some(gate) = &self.config.gate else { return Vec::new() };
        let rules = gate.rules();
        let pin = self.bans.pin.as_ref().filter(|_| begins);
        [Frame::Rules(rules)].into_iter().chain(pin.map(|p| Frame::Pin(p.clone()))).collect()
    }

    /// Reads the PIN, or makes a new one where there is none.
    pub(super) fn find_pin(&mut self) -> Result<(), String> {
        let Some(gate) = &self.config.gate else { return Ok(()) };
        let pin = match read(&gate.pin_file) {
            Ok(pin) => pin,
            Err(why) => {
                if gate.pin_file.symlink_metadata().is_ok() {
                    log::warn!("the recovery PIN is replaced: {why}");
                }
                let random = crate::crypto::random().map_err(|e| e.to_string())?;
                let pin = Pin::of_random(random);
                keep(&gate.pin_file, &pin)?;
                pin
            }
        };
        self.bans.pin = Some(pin);
        Ok(())
    }

    /// A PIN has been used: the next one takes its place in the file, and only then is anybody
    /// pardoned. `[engine]` hears which PIN is kept.
    pub(super) fn replace_pin(&mut self, pin: Pin) {
        let Some(gate) = &self.config.gate else { return };
        match keep(&gate.pin_file, &pin) {
            Ok(()) => self.bans.pin = Some(pin),
            Err(why) => log::error!("nobody is pardoned, and the recovery PIN stays: {why}"),
        }
        if let (Some(pin), Some(engine)) = (self.bans.pin.clone(), &mut self.engine) {
            engine.channel.push(&Frame::Pin(pin), self.generation, vec![]);
        }
    }

    /// A strike from `[gate]`, or with digits a guess: answered here if the address holds a lease, or
    /// is banned and has not guessed, and otherwise passed on. Without `[engine]` there is no answer, and `[gate]` must not wait
    /// for ever.
    pub(super) fn suspect(&mut self, ticket: u64, from: IpAddr, pin: Option<Pin>, now: Now) {
        let host = Prefix::host(from);
        if self.enforcer.leases.admits(from) {
            return self.tell_gate(&Frame::Verdict { ticket, verdict: Verdict::Exempt });
        }
        let held = [Prefix::unit(from), host].map(|prefix| self.bans.held.get(&prefix));
        let ban = held.into_iter().flatten().find(|ban| ban.until > now.unix);
        if let Some(Ban { until, .. }) = ban.copied().filter(|_| pin.is_none()) {
            return self.tell_gate(&Frame::Verdict { ticket, verdict: Verdict::Blocked { until } });
        }
        self.bans.strikes += u64::from(pin.is_none());
        let frame = match pin {
            None => Frame::Strike { ticket, from },
            Some(pin) => Frame::Guess { ticket, from, pin },
        };
        // Strangers make as many as they like: what an [engine] cannot take is not kept.
        let takes = |e: &&mut Partner| self.restored && !e.channel.is_full();
        if let Some(engine) = self.engine.as_mut().filter(takes) {
            engine.channel.push(&frame, self.generation, vec![]);
        }
    }

    /// All bans that run.
    pub(super) fn bans(&self, now: Now) -> Vec<Ban> {
        self.running(now.unix).copied().collect()
    }

    fn rules(&self) -> Rules {
        self.config.gate.as_ref().map(Gate::rules).unwrap_or_default()
    }

    fn in_kernel(&self) -> bool {
        self.config.gate.as_ref().is_some_and(|gate| gate.block == Block::Firewall)
    }

    /// `[engine]` has banned somebody, or remembers it. A second look: no process may shut out the
    /// machine itself or who is never banned, or for longer than the longest ban.
    pub(super) fn ban(&mut self, ban: Ban, now: Now) {
        if self.bans.held.len() >= MOST_BANS {
            self.forget_bans(now);
        }
        let room = self.bans.held.len() < MOST_BANS || self.bans.held.contains_key(&ban.prefix);
        // The moment of [engine] is not quite this one.
        let now_there = now.unix.plus(1_000);
        if !room || !self.rules().allow(&ban, self.enforcer.policy.own(), now_there) {
            if self.bans.refusals.pass(now.mono).is_some() {
                log::warn!("[priv] refused a ban that [engine] made: address={}", ban.prefix);
            }
            return;
        }
        self.bans.doubtful.remove(&ban.prefix);
        if self.restored {
            self.bans.begun += 1;
            let (until, times) = (shown(ban.until), ban.times);
            log::info!("banned address={} until={until} times={times}", ban.prefix);
        }
        self.bans.held.insert(ban.prefix, ban);
        if self.in_kernel() {
            self.enforcer.ban(ban.prefix, ban.until, now);
        }
        self.tell_gate(&Frame::Ban(ban));
    }

    /// Banned no more.
    pub(super) fn unban(&mut self, prefix: Prefix, now: Now) {
        if self.bans.held.remove(&prefix).is_some() {
            self.bans.pardons += 1;
            log::info!("pardoned address={prefix}");
        }
        self.enforcer.unban(prefix, now);
        self.tell_gate(&Frame::Unban(prefix));
    }

    fn forget_bans(&mut self, now: Now) {
        self.bans.held.retain(|_, ban| ban.until > now.unix);
    }

    /// An `[engine]` begins, and will say who is banned.
    pub(super) fn doubt_bans(&mut self) {
        self.bans.doubtful = self.bans.held.clone();
    }

    /// It has said it: whom it does not know is banned no more, and whoever was pardoned meanwhile.
    pub(super) fn settle_bans(&mut self, now: Now) {
        for prefix in std::mem::take(&mut self.bans.doubtful).into_keys() {
            self.unban(prefix, now);
        }
        for prefix in std::mem::take(&mut self.bans.pardoned) {
            self.free(&prefix, now);
            if let Some(engine) = &mut self.engine {
                engine.channel.push(&Frame::Pardon(prefix), self.generation, vec![]);
            }
        }
    }

    /// Ends the bans that are known here; how many there were.
    fn free(&mut self, prefix: &Prefix, now: Now) -> usize {
        self.forget_bans(now);
        let held = self.bans.held.keys().filter(|held| held.overlaps(prefix));
        let freed: Vec<Prefix> = held.copied().collect();
        freed.iter().for_each(|one| self.unban(*one, now));
        freed.len()
    }

    /// Ends the bans of all that shares an address with that prefix; how many there were.
    pub(super) fn pardon(&mut self, prefix: &Prefix, now: Now) -> usize {
        let freed = self.free(prefix, now);
        match self.engine.as_mut().filter(|_| self.restored) {
            Some(engine) => {
                engine.channel.push(&Frame::Pardon(*prefix), self.generation, vec![]);
            }
            None => self.bans.pardoned.push(*prefix),
        }
        freed
    }

    /// All bans, for people and programs.
    pub(super) fn list_bans(&self, now: Now) -> Value {
        let one = |ban: &Ban| {
            json!({
                "address": ban.prefix.to_string(),
                "until": shown(ban.until),
                "seconds": ban.until.since(now.unix).div_ceil(1_000),
                "times": ban.times,
            })
        };
        Value::Array(self.running(now.unix).map(one).collect())
    }

    fn running(&self, now: Unix) -> impl Iterator<Item = &Ban> {
        self.bans.held.values().filter(move |ban| ban.until > now)
    }

    /// Bans, strikes, bans and pardons since the start, for `status`.
    pub(super) fn count_bans(&self, now: Now) -> [u64; 4] {
        let Bans { strikes, begun, pardons, .. } = self.bans;
        [self.running(now.unix).count() as u64, strikes, begun, pardons]
    }
}

/// The PIN of the file, which nobody else may be able to read.
fn read(path: &Path) -> Result<Pin, String> {
    let file = SecretFile::read(path).map_err(|e| e.to_string())?;
    let pin = Pin::new(file.text().trim_end().as_bytes()).filter(Pin::is_long);
    pin.ok_or_else(|| format!("{}: 8 to 32 digits are wanted", path.display()))
}

/// Replaces the file, whole and durable, and says where the PIN is; a person at a terminal sees it.
fn keep(path: &Path, pin: &Pin) -> Result<(), String> {
    let digits = zeroize::Zeroizing::new(String::from_utf8_lossy(pin.digits()).into_owned());
    let text = zeroize::Zeroizing::new(format!("{}\n", *digits));
    write_new(path, &text, true).map_err(|e| e.to_string())?;
    log::info!("a new recovery PIN is in {}", path.display());
    if std::io::stderr().is_terminal() {
        // Straight to the terminal: the log can be somebody else's to read.
        eprintln!("recovery PIN: {}", *digits);
    }
    Ok(())
}
