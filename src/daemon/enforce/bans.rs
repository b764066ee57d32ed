//! Who is turned away in the kernel.

use super::{Enforcer, bar};
use crate::access::Prefix;
use crate::engine::suspicion::MOST_BANS;
use crate::time::{Now, Unix};

impl Enforcer {
    /// Turns somebody away in the kernel, from the first sync on; [`Enforcer::apply`] tells it.
    pub(in crate::daemon) fn ban(&mut self, prefix: Prefix, until: Unix, now: Now) {
        if self.bans.len() >= MOST_BANS {
            self.bans.retain(|_, until| *until > now.unix);
        }
        if self.bans.insert(prefix, until) != Some(until) && self.synced {
            self.fresh.push(bar(prefix, until, now));
        }
    }

    /// Turns somebody away no more.
    pub(in crate::daemon) fn unban(&mut self, prefix: Prefix, now: Now) {
        self.fresh.retain(|bar| bar.from != prefix);
        if self.bans.remove(&prefix).is_some() && self.synced && self.heal.is_none() {
            let done = self.firewall.unbar(&[prefix], now);
            self.check(done, now);
        }
    }
}
