//! `serve --observe`: who would have been dropped, one line for each address and port.

use super::log::Limit;
use crate::firewall::{Element, Firewall};
use crate::time::{Mono, Now};
use std::collections::BTreeSet;

/// How often the kernel is asked: ms.
const LOOK: u64 = 10_000;

/// What was told already, and when the kernel is asked again.
#[derive(Default)]
pub(super) struct Observer {
    due: Mono,
    told: BTreeSet<Element>,
    limit: Limit,
}

impl Observer {
    /// When it looks again.
    pub(super) fn due(&self) -> Mono {
        self.due
    }

    /// Tells of those who are new; who stays away for a minute is new again.
    pub(super) fn look(&mut self, firewall: &mut dyn Firewall, now: Now) {
        if now.mono < self.due {
            return;
        }
        self.due = now.mono.plus(LOOK);
        let seen: BTreeSet<Element> = match firewall.observed() {
            Ok(seen) => seen.into_iter().collect(),
            Err(why) => {
                log::warn!("what would be dropped is not known: {why}");
                return;
            }
        };
        self.told.retain(|element| seen.contains(element));
        let mut more = 0;
        for element in seen {
            if self.told.contains(&element) {
                continue;
            }
            if self.limit.pass(now.mono).is_none() {
                more += 1;
                continue;
            }
            log::warn!("would be dropped address={} ports={}", element.from, element.to);
            self.told.insert(element);
        }
        if more > 0 {
            log::warn!("would be dropped: {more} more, of which some are named next time");
        }
    }
}
