//! Evictions: what is open ends at once, and of what `[engine]` had granted until it heard of it
//! nothing opens, wherever it was on its way.

use super::Priv;
use super::orders::MOST_ASKING;
use crate::access::{Claim, Prefix};
use crate::daemon::channel::Broken;
use crate::daemon::control;
use crate::daemon::frame::Frame;
use crate::time::Now;
use serde_json::json;
use std::collections::VecDeque;
use std::os::unix::net::UnixStream;

/// What was evicted, and `[engine]` does not know yet.
#[derive(Default)]
pub(super) struct Evictions {
    /// Told to it, in this order: until it answers, what it says was granted before.
    told: VecDeque<Eviction>,
    /// What an `[engine]` that is away has to hear as soon as it is back.
    missed: Vec<Prefix>,
}

struct Eviction {
    prefix: Prefix,
    /// Of how many clients and addresses leases have ended.
    ended: usize,
    /// Who waits for the answer.
    asked: Option<UnixStream>,
}

impl Eviction {
    fn answer(&self) {
        if let Some(stream) = &self.asked {
            control::answer(stream, &json!({ "ended": self.ended }));
        }
    }
}

impl Priv {
    /// Ends every lease on that prefix, and answers when nothing of before can open there any more.
    pub(super) fn evict(&mut self, stream: UnixStream, prefix: Prefix, now: Now) {
        if self.evictions.told.len() >= MOST_ASKING {
            let why = "too many evictions wait for [engine]: try again";
            return control::answer(&stream, &json!({ "error": why }));
        }
        let ended = self.enforcer.evict(&prefix, now);
        let eviction = Eviction { prefix, ended, asked: Some(stream) };
        if self.restored && self.engine.is_some() {
            self.tell_eviction(eviction);
        } else {
            self.miss(&eviction);
        }
    }

    fn tell_eviction(&mut self, eviction: Eviction) {
        if let Some(engine) = &mut self.engine {
            engine.channel.push(&Frame::Evict(eviction.prefix), self.generation, vec![]);
            self.evictions.told.push_back(eviction);
        }
    }

    fn miss(&mut self, eviction: &Eviction) {
        eviction.answer();
        if !self.evictions.missed.contains(&eviction.prefix) {
            self.evictions.missed.push(eviction.prefix);
        }
    }

    /// Evicts again what was evicted while `[engine]` was away: its journal has not heard of it.
    pub(super) fn evict_again(&mut self, now: Now) {
        for prefix in std::mem::take(&mut self.evictions.missed) {
            let ended = self.enforcer.evict(&prefix, now);
            self.tell_eviction(Eviction { prefix, ended, asked: None });
        }
    }

    /// `[engine]` is gone: the next one remembers what this one had granted.
    pub(super) fn miss_evictions(&mut self) {
        for eviction in std::mem::take(&mut self.evictions.told) {
            self.miss(&eviction);
        }
    }

    /// `[engine]` remembers it, and says from now on what it has granted since.
    pub(super) fn evicted(&mut self, prefix: Prefix) -> Result<(), Broken> {
        match self.evictions.told.pop_front() {
            Some(eviction) if eviction.prefix == prefix => {
                eviction.answer();
                Ok(())
            }
            Some(_) | None => Err(Broken::Frame),
        }
    }

    /// What of it may open: nothing where it was evicted after it was granted. Its end is in the
    /// journal already.
    pub(super) fn without_evicted(&self, claim: Claim) -> Option<Claim> {
        let mut left = Some(claim);
        for Eviction { prefix, .. } in &self.evictions.told {
            left = left.and_then(|claim| claim.without(|a| a.overlaps(prefix)));
        }
        if left != Some(claim) {
            let name = self.enforcer.name(claim.client);
            log::info!(
                "evicted client={name} before it was open: {prefixes}",
                prefixes = shown(&claim)
            );
        }
        left
    }
}

fn shown(claim: &Claim) -> String {
    claim.addresses().map(|a| a.to_string()).collect::<Vec<_>>().join(",")
}
