//! Orders and questions over the control socket.

use super::Priv;
use crate::access::Prefix;
use crate::daemon::control::{self, Order};
use crate::daemon::frame::{ACCEPTED, COUNTERS, DROPPED, Frame};
use crate::daemon::{clock, last_good};
use crate::engine::Reject;
use crate::time::Now;
use serde_json::json;
use std::os::unix::net::UnixStream;

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
            Order::Reload => {
                match self.reload(now) {
                    // Done is what [engine] has been told; one that begins may take its time.
                    Ok(()) if self.restored => self.feed.tell_when_done(stream, self.names.len()),
                    Ok(()) => control::answer(&stream, &json!({ "clients": self.names.len() })),
                    Err(why) => control::answer(&stream, &json!({ "error": why })),
                }
            }
            Order::Leases => control::answer(&stream, &self.enforcer.listing(now)),
            Order::Evict(prefix) => {
                let answer = json!({ "ended": self.evict(prefix, now) });
                control::answer(&stream, &answer);
                if !self.restored || self.engine.is_none() {
                    self.evicted.push(*prefix);
                }
            }
            Order::Bans => control::answer(&stream, &self.list_bans(now)),
            Order::Pardon(prefix) => {
                let answer = json!({ "ended": self.pardon(prefix, now) });
                control::answer(&stream, &answer);
            }
            Order::Status => match &mut self.engine {
                Some(engine) if self.asking.len() < 16 => {
                    engine.channel.push(&Frame::Ask, self.generation, vec![]);
                    self.asking.push(stream);
                }
                Some(_) | None => control::answer(&stream, &self.status(None)),
            },
        }
    }

    fn evict(&mut self, prefix: &Prefix, now: Now) -> usize {
        let claims = self.enforcer.evict(prefix, now);
        if let Some(engine) = &mut self.engine {
            for claim in &claims {
                engine.channel.push(&Frame::Decided(*claim), self.generation, vec![]);
            }
        }
        claims.len()
    }

    /// Evicts again what was evicted while `[engine]` was away: its journal has not heard of it.
    pub(super) fn evict_again(&mut self, now: Now) {
        for prefix in std::mem::take(&mut self.evicted) {
            self.evict(&prefix, now);
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

    /// Answers all who have asked; without counters where `[engine]` is gone.
    pub(super) fn tell_status(&mut self, counters: Option<&[u64; COUNTERS]>) {
        let status = self.status(counters);
        for stream in std::mem::take(&mut self.asking) {
            control::answer(&stream, &status);
        }
    }
}
