//! Each packet counts once, whatever happens to the process, the machine or the clock.
//!
//! The rules, and why they hold, are in `docs/replay.md`; names are those of that page: `T` a
//! packet's time, `W` the wall clock, `B` the boot clock, `P` and `F` the windows, `G` the floor,
//! `H` the horizon, `S` the start.

use super::{Authenticated, Record, Reject};
use crate::access::{Assurance, ClientId, Request};
use crate::time::{Mono, Now, Unix};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// How far the horizon is put ahead of the wall clock: ms.
pub const LEAD: u64 = 5_000;
/// The most live entries of one client.
pub const MOST_CLIENT: u32 = 4_096;
/// The most live entries of all clients together.
pub const MOST_TOTAL: usize = 1_000_000;
/// Packets of so many ms are forgotten together.
const BUCKET: u64 = 1_024;
/// What is kept beyond the window: ms.
const SLACK: u64 = 1_000;
/// A copy from the same address within this is a duplicate, not an attack: ms.
const TWICE: u64 = 5_000;

/// How old and how far ahead a packet may be: ms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// `P`: behind the wall clock.
    pub past: u64,
    /// `F`: ahead of it.
    pub future: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window { past: 60_000, future: 60_000 }
    }
}

/// For the first time, and just now: made by [`Cache::admit`] alone.
#[derive(Debug)]
pub(super) struct Fresh {
    authenticated: Authenticated,
    wait: bool,
}

impl Fresh {
    pub(super) fn client(&self) -> ClientId {
        self.authenticated.client()
    }

    pub(super) fn request(&self) -> &Request {
        self.authenticated.request()
    }

    pub(super) fn assurance(&self) -> Assurance {
        self.authenticated.assurance()
    }

    /// What is used up by it for good.
    pub(super) fn spends(&self) -> Option<ClientId> {
        self.authenticated.spends()
    }

    /// Whether it is dated beyond the horizon, so that its record must be durable first.
    pub(super) fn must_wait(&self) -> bool {
        self.wait
    }

    pub(super) fn record(&self) -> Record {
        let proof = self.authenticated.proof();
        Record::Seen { client: self.client(), time: self.request().time, proof }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    seen: HashMap<(ClientId, [u8; 16]), (IpAddr, Mono, Unix)>,
    greatest: Unix,
}

/// What has been seen and what may no longer come.
#[derive(Debug)]
pub(super) struct Cache {
    window: Window,
    boot: [u8; 16],
    started: Mono,
    floor: Unix,
    /// What this process itself has seen become durable.
    horizon: Unix,
    /// The highest that may stand on disk, durable or not.
    promised: Unix,
    buckets: BTreeMap<u64, Bucket>,
    counts: HashMap<ClientId, u32>,
    total: usize,
}

impl Cache {
    /// An empty memory; `started` is `S`.
    pub(super) fn new(window: Window, boot: [u8; 16], started: Mono) -> Cache {
        Cache {
            window,
            boot,
            started,
            floor: Unix(0),
            horizon: Unix(0),
            promised: Unix(0),
            buckets: BTreeMap::new(),
            counts: HashMap::new(),
            total: 0,
        }
    }

    /// The rules 1 to 5: admits a packet once; `full`: too much waits elsewhere.
    pub(super) fn admit(
        &mut self,
        authenticated: Authenticated,
        full: bool,
        from: IpAddr,
        now: Now,
    ) -> Result<Fresh, Reject> {
        let time = authenticated.request().time;
        let (earliest, latest) =
            (now.unix.minus(self.window.past), now.unix.plus(self.window.future));
        if time < earliest {
            return Err(Reject::Stale(now.unix.since(time)));
        }
        if time > latest {
            return Err(Reject::Early(time.since(now.unix)));
        }
        let started = now.unix.minus(now.mono.since(self.started));
        if time <= self.floor || time <= started {
            return Err(Reject::Floor);
        }
        let (client, proof) = (authenticated.client(), authenticated.proof());
        let bucket = self.buckets.entry(time.0 / BUCKET).or_default();
        if let Some((source, when, _)) = bucket.seen.get(&(client, proof)) {
            let twice = *source == from && now.mono.since(*when) <= TWICE;
            return Err(if twice { Reject::Duplicate } else { Reject::Replayed });
        }
        if full {
            return Err(Reject::Busy);
        }
        let count = self.counts.entry(client).or_default();
        if *count >= MOST_CLIENT || self.total >= MOST_TOTAL {
            return Err(Reject::Busy);
        }
        *count += 1;
        self.total += 1;
        bucket.seen.insert((client, proof), (from, now.mono, time));
        bucket.greatest = bucket.greatest.max(time);
        Ok(Fresh { authenticated, wait: time > self.horizon })
    }

    /// Takes back what the journal says was seen.
    pub(super) fn restore(&mut self, client: ClientId, time: Unix, proof: [u8; 16]) {
        let bucket = self.buckets.entry(time.0 / BUCKET).or_default();
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        if bucket.seen.insert((client, proof), (nowhere, Mono(0), time)).is_none() {
            *self.counts.entry(client).or_default() += 1;
            self.total += 1;
        }
        bucket.greatest = bucket.greatest.max(time);
    }

    /// Forgets the buckets that the window has left behind, and raises the floor over what they
    /// held; says whether there were any.
    pub(super) fn forget(&mut self, now: Now) -> bool {
        let oldest = self.oldest(now).0 / BUCKET;
        let mut any = false;
        while self.buckets.first_key_value().is_some_and(|(n, _)| *n < oldest) {
            let Some((_, bucket)) = self.buckets.pop_first() else { break };
            if !left_out(Rule::Floor) {
                self.raise_floor(bucket.greatest);
            }
            self.total -= bucket.seen.len();
            for (client, _) in bucket.seen.into_keys() {
                if let Some(count) = self.counts.get_mut(&client) {
                    *count -= 1;
                    if *count == 0 {
                        self.counts.remove(&client);
                    }
                }
            }
            any = true;
        }
        any
    }

    /// The first moment of the oldest bucket that is kept at `now`.
    pub(super) fn oldest(&self, now: Now) -> Unix {
        let limit = now.unix.minus(self.window.past + SLACK);
        Unix(limit.0 / BUCKET * BUCKET)
    }

    /// Whether the horizon should be moved soon, so that nobody has to wait for it.
    pub(super) fn is_near_horizon(&self, time: Unix) -> bool {
        time > self.horizon.minus(LEAD / 2)
    }

    /// How many packets are remembered.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// A horizon is written, or was read: it may be on disk, and every later one includes it.
    pub(super) fn promise(&mut self, horizon: Unix) -> Unix {
        self.promised = self.promised.max(horizon);
        self.promised
    }

    /// The highest horizon that may be on disk: what a new segment repeats.
    pub(super) fn promised(&self) -> Unix {
        self.promised
    }

    /// A horizon is known to be on disk.
    pub(super) fn raise_horizon(&mut self, horizon: Unix) {
        self.horizon = self.horizon.max(horizon);
    }

    pub(super) fn floor(&self) -> Unix {
        self.floor
    }

    pub(super) fn raise_floor(&mut self, floor: Unix) {
        self.floor = self.floor.max(floor);
    }

    /// Records may be lost: what rested on the horizon alone is refused.
    pub(super) fn distrust(&mut self) {
        if !left_out(Rule::Horizon) {
            self.raise_floor(self.promised);
        }
    }

    pub(super) fn boot(&self) -> [u8; 16] {
        self.boot
    }

    pub(super) fn started(&self) -> Mono {
        self.started
    }

    /// Everything that is still remembered as seen, oldest bucket first.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::with_capacity(self.total);
        for bucket in self.buckets.values() {
            let mut some: Vec<_> = bucket.seen.iter().map(|(k, v)| (v.2, k.0, k.1)).collect();
            some.sort_unstable();
            records.extend(some.into_iter().map(|(time, client, proof)| Record::Seen {
                client,
                time,
                proof,
            }));
        }
        records
    }
}

/// The rules that a test can leave out, to see that they are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// The floor is raised over what is forgotten.
    Floor,
    /// The floor is raised to the horizon when records may be lost.
    Horizon,
}

#[cfg(test)]
thread_local! {
    /// What the engines of this thread leave out.
    pub(crate) static LEFT_OUT: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
fn left_out(rule: Rule) -> bool {
    LEFT_OUT.get() == Some(rule)
}

#[cfg(not(test))]
const fn left_out(_: Rule) -> bool {
    false
}
