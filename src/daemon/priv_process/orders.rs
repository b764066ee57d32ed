//! Orders and questions over the control socket.

use super::Priv;
use crate::daemon::control::{self, Order};
use crate::daemon::frame::{ACCEPTED, COUNTERS, DROPPED, Frame};
use crate::daemon::{clock, last_good};
use crate::engine::Reject;
use crate::time::Now;
use serde_json::json;
use std::os::unix::net::UnixStream;

/// The most who wait for a word of `[engine]` at one time.
pub(super) const MOST_ASKING: usize = 16;

/// Somebody who waits for a word of `[engine]`.
pub(super) enum Asking {
    /// How it is.
    Status(UnixStream),
    /// That it works with what is said here.
    Reload(UnixStream, serde_json::Value),
}

impl Priv {
    pub(super) fn obey(&mut self, stream: UnixStream, order: &Order, now: Now) {
        match order {
            Order::Confirm => {
                let waited = self.unconfirmed.take().is_some();
                if waited {
                    last_good::keep(&self.config);
                    log::info!("confirmed: it stays");
                }
                control::answer(&stream, &json!({ "confirmed": waited }));
            }
            Order::Reload => self.reload_for(stream, None, now),
            Order::Revoke(name) => self.reload_for(stream, Some(name), now),
            Order::Leases => control::answer(&stream, &self.enforcer.listing(now)),
            Order::Evict(prefix) => self.evict(stream, *prefix, now),
            Order::Bans => control::answer(&stream, &self.list_bans(now)),
            Order::Pardon(prefix) => {
                let answer = json!({ "ended": self.pardon(prefix, now) });
                control::answer(&stream, &answer);
            }
            Order::Status => self.ask(Asking::Status(stream)),
        }
    }

    /// Reads the files again for somebody who wants to know whether a client is known then.
    fn reload_for(&mut self, stream: UnixStream, name: Option<&str>, now: Now) {
        match self.reload(now) {
            Ok(()) => {
                let known = name.map(|name| self.knows(name));
                let done = json!({ "clients": self.names.len(), "known": known });
                match self.restored {
                    // Done is what [engine] has taken; one that begins may take its time.
                    true => self.reloading(stream, done),
                    false => control::answer(&stream, &done),
                }
            }
            Err(why) => control::answer(&stream, &json!({ "error": why })),
        }
    }

    fn status(&self, counters: Option<&[u64; COUNTERS]>) -> serde_json::Value {
        let refused = counters.map(|c| {
            let names = Reject::NAMES.iter().zip(&c[ACCEPTED.len()..]);
            names.map(|(n, v)| (n.to_string(), json!(v))).collect::<serde_json::Map<_, _>>()
        });
        let gate = self.config.gate.is_some();
        let [bans, strikes, begun, pardons] = self.count_bans(clock::now());
        let said = |n: u64| gate.then_some(n);
        json!({
            "bans": said(bans),
            "strikes": said(strikes),
            "banned": said(begun),
            "pardons": said(pardons),
            "ready": self.restored && self.engine.is_some(),
            "healthy": self.enforcer.is_healthy(),
            "firewall": self.enforcer.describe(),
            "clients": self.names.len(),
            "leases": self.enforcer.leases.count(),
            "accepted": counters.map(|c| c[..ACCEPTED.len()].iter().sum::<u64>()),
            "accepted-by": counters.map(|c| {
                let names = ACCEPTED.iter().zip(c);
                names.map(|(n, v)| (n.to_string(), json!(v))).collect::<serde_json::Map<_, _>>()
            }),
            "refused": refused,
            "dropped-by-kernel": counters.map(|c| c[DROPPED]),
        })
    }

    /// Asks `[engine]` for a word, which is the answer to this; without it there is one at once.
    pub(super) fn ask(&mut self, asking: Asking) {
        match &mut self.engine {
            Some(engine) if self.asking.len() < MOST_ASKING => {
                engine.channel.push(&Frame::Ask, self.generation, vec![]);
                self.asking.push_back(asking);
            }
            Some(_) | None => self.answer(&asking, None),
        }
    }

    fn answer(&self, asking: &Asking, counters: Option<&[u64; COUNTERS]>) {
        match asking {
            Asking::Status(stream) => control::answer(stream, &self.status(counters)),
            Asking::Reload(stream, done) => control::answer(stream, done),
        }
    }

    /// Answers who has asked first; without counters, where `[engine]` is gone, all who have.
    pub(super) fn tell_status(&mut self, counters: Option<&[u64; COUNTERS]>) {
        if counters.is_none() {
            self.miss_evictions();
        }
        while let Some(asking) = self.asking.pop_front() {
            self.answer(&asking, counters);
            if counters.is_some() {
                return;
            }
        }
    }
}
