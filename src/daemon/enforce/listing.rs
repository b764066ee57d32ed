//! What is open, for people and programs.

use super::Enforcer;
use crate::daemon::config::shown;
use crate::firewall::{Element, Lease};
use crate::time::{Now, Unix};
use serde_json::{Value, json};

impl Enforcer {
    /// All leases, for people and programs.
    pub(in crate::daemon) fn listing(&self, now: Now) -> Value {
        let one = |lease: &Lease| {
            let Element { from, to } = lease.element();
            let left = lease.until().since(now.mono);
            json!({
                "client": self.name(lease.client()),
                "service": self.services(&[to]),
                "address": from.to_string(),
                "ports": to.to_string(),
                "seconds": left.div_ceil(1_000),
                "until": shown(Unix(now.unix.0.saturating_add(left))),
            })
        };
        Value::Array(self.leases.leases().map(one).collect())
    }
}
