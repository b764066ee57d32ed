//! How long a failure that passes by itself is waited for.
//!
//! EBUSY comes from the kernel's hash table (`lib/rhashtable.c`): an insertion that finds more
//! than sixteen elements in one chain starts a move into another table, and fails if a move is
//! going on. What has expired stays in its chain until the set's collector comes by, once a
//! second, so many short lives of the same keys provoke it; an element that outlives its
//! collector, as every real lease does, does not. A long transaction then races the worker that
//! moves the table and can lose again and again, while a short one nearly always wins: hence
//! [`Patience::divides`]. The collector gives way to every transaction, failed ones included:
//! hence the pauses that grow.

use super::socket::Failure;
use nix::errno::Errno;
use std::time::Duration;

/// All pauses together, in milliseconds.
const LIMIT: u64 = 1000;
/// The longest pause, in milliseconds.
const LONGEST: u64 = 256;
/// A transaction that has failed so often is divided.
const DIVIDE: u32 = 4;
/// How often what the kernel says is not there is tried: an element may have expired meanwhile.
const ABSENT: u32 = 4;

/// What is left of the patience of one call.
#[derive(Debug, Default)]
pub(super) struct Patience {
    spent: u64,
}

impl Patience {
    /// How long it has waited, in milliseconds.
    pub(super) fn spent(&self) -> u64 {
        self.spent
    }

    /// Whether a transaction should go on in shorter ones.
    pub(super) fn divides(failure: &Failure, tries: u32) -> bool {
        tries >= DIVIDE && failure.errno() == Some(Errno::EBUSY)
    }

    /// Waits a little after the failure number `tries` of the same thing, if waiting can help and
    /// there is patience left; says whether to try again.
    pub(super) fn wait(&mut self, failure: &Failure, tries: u32) -> bool {
        let passes = match failure.errno() {
            Some(Errno::EBUSY | Errno::EAGAIN | Errno::EINTR | Errno::ENOMEM) => true,
            Some(Errno::ENOENT) => tries < ABSENT,
            Some(_) | None => false,
        };
        let ms = LONGEST.min(1 << tries.saturating_sub(1).min(16)).min(LIMIT - self.spent);
        if !passes || ms == 0 {
            return false;
        }
        std::thread::sleep(Duration::from_millis(ms));
        self.spent += ms;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(errno: Errno) -> Failure {
        Failure::Refused(errno, String::new())
    }

    #[test]
    fn it_ends_after_a_second() {
        let (mut patience, mut tries) = (Patience::default(), 1);
        while patience.wait(&refused(Errno::EBUSY), tries) {
            tries += 1;
        }
        assert_eq!((patience.spent(), tries), (LIMIT, 12));
        assert!(Patience::divides(&refused(Errno::EBUSY), tries));
        assert!(!patience.wait(&refused(Errno::ENOENT), 1));
    }

    #[test]
    fn it_waits_only_for_what_passes() {
        let mut patience = Patience::default();
        for failure in [refused(Errno::EINVAL), Failure::Batch(Errno::EPERM), Failure::Lost] {
            assert!(!patience.wait(&failure, 1));
        }
        let tries = (1..).find(|n| !patience.wait(&refused(Errno::ENOENT), *n));
        assert_eq!(tries, Some(ABSENT));
    }
}
