//! The HTTP gate: a fixed map of paths to files; whoever asks for others is reported, and whoever
//! is blocked is shown a page that asks for the recovery PIN.
//!
//! It decides nothing about blocks: it asks over a channel, and does as the answer says. No path
//! of a request is ever joined to a directory.
#![forbid(unsafe_code)]

mod answer;
mod client;
mod connections;
mod file;
mod io;
mod page;
mod path;

pub use connections::serve;

use crate::access::Prefix;
use crate::time::Unix;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

/// The most questions that wait to be taken.
pub const QUESTIONS: usize = 1_024;

/// What there is to see.
#[derive(Debug)]
pub struct Site {
    /// The directory of the files.
    pub root: OwnedFd,
    /// The paths that are there, without the slash in front, and their files below the root; `*`
    /// is `/`.
    pub files: BTreeMap<String, PathBuf>,
    /// The paths that are not there and cost nothing.
    pub ignore: BTreeSet<String>,
    /// Who may say in X-Forwarded-For for whom he asks.
    pub proxies: Vec<Prefix>,
}

/// How long and how many.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in total.
    pub connections: usize,
    /// Connections of one address (or /64) that is no named proxy.
    pub of_one: usize,
    /// The first byte, a request's head, its body: so long each.
    pub patience: Duration,
    /// A reader who takes nothing is given up after so long.
    pub stall: Duration,
    /// An answer about an address is waited for so long.
    pub verdict: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 12_000,
            of_one: 256,
            patience: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            verdict: Duration::from_secs(5),
        }
    }
}

/// What is to be decided elsewhere.
#[derive(Debug)]
pub enum Question {
    /// Somebody with a completed connection has asked for what is not there.
    Strike {
        /// Who.
        from: IpAddr,
    },
    /// Somebody who is blocked has typed digits.
    Guess {
        /// Who.
        from: IpAddr,
        /// Which: 1 to 32 digits.
        pin: Zeroizing<Vec<u8>>,
    },
}

/// What was decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing follows: send him to `/`.
    Pass,
    /// He is blocked, and a guess was not compared.
    Blocked,
    /// The PIN was right, or the address is not blocked any more.
    Pardoned,
    /// The PIN was wrong.
    Wrong {
        /// So many guesses are left.
        left: u8,
        /// The answer is to be held back so long.
        delay: Duration,
    },
}

/// A question, and where its answer goes. Who drops it leaves it unanswered.
pub type Asked = (Question, oneshot::Sender<Answer>);

/// From so many bans on those that are over are looked for.
const CROWDED: usize = 65_536;

/// The prefixes that somebody can be banned with.
fn units(from: IpAddr) -> [Prefix; 2] {
    [Prefix::unit(from), Prefix::host(from)]
}

/// The gate: what its connections share.
#[derive(Debug)]
pub struct Gate {
    site: Site,
    limits: Limits,
    judge: mpsc::Sender<Asked>,
    bans: RefCell<BTreeMap<Prefix, Unix>>,
    clock: fn() -> Unix,
}

impl Gate {
    /// A gate that blocks nobody yet; the questions come out of the other end of `judge`.
    #[must_use]
    pub fn new(
        site: Site,
        limits: Limits,
        judge: mpsc::Sender<Asked>,
        clock: fn() -> Unix,
    ) -> Gate {
        Gate { site, limits, judge, bans: RefCell::default(), clock }
    }

    /// Blocked from now on.
    pub fn ban(&self, prefix: Prefix, until: Unix) {
        let now = (self.clock)();
        let mut bans = self.bans.borrow_mut();
        if bans.len() >= CROWDED {
            bans.retain(|_, until| *until > now);
        }
        bans.insert(prefix, until);
    }

    /// Blocked no more.
    pub fn unban(&self, prefix: &Prefix) {
        self.bans.borrow_mut().remove(prefix);
    }

    /// With his network, or alone where the network is spared.
    fn is_banned(&self, from: IpAddr) -> bool {
        let (bans, now) = (self.bans.borrow(), (self.clock)());
        units(from).iter().filter_map(|unit| bans.get(unit)).any(|until| *until > now)
    }

    /// The answer; none in time, none at all.
    async fn ask(&self, question: Question) -> Option<Answer> {
        let (answer, coming) = oneshot::channel();
        self.judge.try_send((question, answer)).ok()?;
        tokio::time::timeout(self.limits.verdict, coming).await.ok()?.ok()
    }
}
