//! What is refused, and a disk that does not do what it is told.

use super::{AGAIN, Process};
use crate::daemon::frame::ACCEPTED;
use crate::engine::{Refusal, Reject};
use crate::time::{Mono, Now};
use std::io;
use std::net::IpAddr;

impl Process {
    pub(super) fn refuse(&mut self, refusal: Refusal, from: IpAddr, now: Now) {
        self.counters[ACCEPTED.len() + refusal.reason.index()] += 1;
        self.summary.note(now.mono);
        // Whose packet it is can be said, and a client can do no harm to the log; but a copy of
        // his packet can be sent by anybody, any number of times.
        let copied = matches!(refusal.reason, Reject::Replayed | Reject::Duplicate);
        match refusal.client.and_then(|c| self.engine.name(c)) {
            Some(name) if !copied => {
                if let Some(held) = self.proven.pass(now.mono) {
                    let held = held_back(held);
                    log::info!("refused client={name} from={from}: {}{held}", refusal.reason);
                }
            }
            Some(_) | None => {
                if log::log_enabled!(log::Level::Debug)
                    && let Some(held) = self.strangers.pass(now.mono)
                {
                    log::debug!("refused from={from}: {}{}", refusal.reason, held_back(held));
                }
            }
        }
    }

    pub(super) fn handle_syncs(&mut self, now: Now) {
        for (ticket, result) in self.syncer.done() {
            match result {
                Ok(()) => {
                    for (from, answer) in self.engine.handle_synced(ticket, now) {
                        match answer {
                            Ok(_) => {}
                            Err(refusal) => self.refuse(refusal, from, now),
                        }
                    }
                }
                Err(error) => {
                    let lost = self.engine.handle_store_failed();
                    self.store_failed(&error, lost, now);
                }
            }
        }
    }

    pub(super) fn store_failed(&mut self, error: &io::Error, lost: usize, now: Now) {
        self.counters[ACCEPTED.len() + Reject::NoRecord.index()] += lost as u64;
        log::error!(
            "the journal cannot be written: {error}; {lost} requests were refused, and so is \
             everything until it can: make room on its disk"
        );
        // At once, before anything else happens: a full segment may be all that is wrong.
        self.tried = Mono(now.mono.0.saturating_sub(AGAIN));
        self.mend(now);
    }

    pub(super) fn mend(&mut self, now: Now) {
        if !self.engine.wants_segment() || now.mono.since(self.tried) < AGAIN {
            return;
        }
        self.tried = now.mono;
        match self.journal.mend(&mut self.engine) {
            Ok(()) => log::warn!("the journal can be written again"),
            Err(e) => log::debug!("the journal still cannot be written: {e}"),
        }
    }
}

fn held_back(lines: u64) -> String {
    if lines == 0 { String::new() } else { format!(" ({lines} such lines were held back)") }
}
