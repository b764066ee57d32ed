//! What is remembered, for how long, and how a new segment of the journal begins with it.

use super::{Engine, Record};
use crate::time::{Now, Unix};

impl Engine {
    /// Forgets what can never be accepted again.
    pub(super) fn forget(&mut self, now: Now) {
        if self.cache.forget(now) {
            // What waits for the disk may be older than what could still be accepted.
            let waiting = self.waiting.iter().map(|w| w.fresh.request().time).min();
            let oldest = self.cache.oldest(now);
            let oldest = waiting.map_or(oldest, |time| time.min(oldest));
            self.order.forget(oldest);
            self.ledger.forget(now, oldest);
            self.suspicion.forget(now);
        }
    }

    /// Every accepted packet dated at or before this is forgotten, and covered by the floor.
    #[must_use]
    pub fn forgotten(&mut self, now: Now) -> Unix {
        self.forget(now);
        self.cache.oldest(now)
    }

    /// Everything that is forgotten is dated at or before this.
    #[must_use]
    pub fn floor(&self) -> Unix {
        self.cache.floor()
    }

    /// What a new segment of the journal begins with; `whole`: with every packet seen, so that it
    /// can stand alone.
    #[must_use]
    pub fn snapshot(&self, whole: bool) -> Vec<Record> {
        let mut records = vec![
            Record::Clean,
            Record::Floor(self.cache.floor()),
            Record::Horizon(self.cache.promised()),
        ];
        records.extend(self.ledger.records());
        records.extend(self.suspicion.bans().map(|ban| Record::Banned(*ban)));
        records.extend(self.owed.notes().map(Record::Hook));
        if whole {
            records.extend(self.cache.records());
        }
        let more = u32::try_from(records.len() - 1).unwrap_or(u32::MAX);
        records[0] =
            Record::Boot { id: self.cache.boot(), started: self.cache.started(), whole, more };
        records
    }
}
