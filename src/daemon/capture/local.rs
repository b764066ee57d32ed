//! The addresses of this machine, as they are by now.

use crate::time::Mono;
use std::net::IpAddr;

/// How long a list of addresses is good when an address is not in it: ms.
const GOOD: u64 = 1_000;

/// Knows whether an address is this machine's own.
///
/// A router takes packets for others too, and they count for nothing. Addresses come and go while the
/// server runs, so an unknown one is looked up again, at most once a second.
#[derive(Debug, Default)]
pub(super) struct Local {
    own: Vec<IpAddr>,
    asked: Option<Mono>,
}

impl Local {
    /// Whether the address is one of this machine's; `list` says which those are.
    pub(super) fn has(
        &mut self,
        to: IpAddr,
        now: Mono,
        list: impl FnOnce() -> Vec<IpAddr>,
    ) -> bool {
        if self.own.contains(&to) {
            return true;
        }
        if self.asked.is_some_and(|at| now.since(at) < GOOD) {
            return false;
        }
        (self.own, self.asked) = (list(), Some(now));
        self.own.contains(&to)
    }
}
