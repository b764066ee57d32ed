//! Knock sequences that follow from a secret and the time: another one every 30 seconds.
//!
//! The ports are the first ones that may be used among the 16-bit big-endian numbers in
//! HMAC-SHA-256 of the text `opensesame-spa knock PERIOD BLOCK` (ASCII, decimal, one space), blocks
//! 0, 1, 2, ... one after the other. A number below 1024, one to avoid or one that is in the
//! sequence already is skipped: rejection sampling, so that all others are equally likely.

use crate::crypto::{KnockKey, Mac};
use crate::time::Unix;

/// How long a sequence is the present one: ms.
pub const PERIOD: u64 = 30_000;
/// The shortest and the longest sequence: steps.
pub const TIMED_STEPS: std::ops::RangeInclusive<u8> = 4..=8;
/// The lowest port of a sequence.
pub const LOWEST: u16 = 1_024;
/// The most ports that are avoided.
pub const MOST_AVOIDED: usize = 16;

/// What both sides know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimedKnock {
    /// The secret.
    pub key: KnockKey,
    /// Steps of a sequence, within [`TIMED_STEPS`].
    pub steps: u8,
    /// Ports where the server listens, which are no steps.
    pub avoid: Vec<u16>,
}

impl TimedKnock {
    /// The number of the 30 seconds that this moment lies in.
    #[must_use]
    pub fn period(time: Unix) -> u64 {
        time.0 / PERIOD
    }

    /// The UDP ports of that period, in their order.
    #[must_use]
    pub fn ports(&self, period: u64) -> Vec<u16> {
        let mac = Mac::new(self.key.bytes());
        let mut ports: Vec<u16> = Vec::new();
        // One block has 16 numbers, nearly all of them good.
        for block in 0..=u8::MAX {
            let text = format!("opensesame-spa knock {period} {block}");
            for pair in mac.tag(&[text.as_bytes()]).as_chunks::<2>().0 {
                let port = u16::from_be_bytes(*pair);
                let good = port >= LOWEST && !self.avoid.contains(&port) && !ports.contains(&port);
                if good {
                    ports.push(port);
                }
                if ports.len() >= usize::from(self.steps) {
                    return ports;
                }
            }
        }
        ports
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENSSL: [u16; 8] = [18081, 15419, 46865, 34718, 51612, 47648, 36480, 36561];

    fn timed(steps: u8, avoid: &[u16]) -> TimedKnock {
        let key = KnockKey::new(std::array::from_fn(|i| i as u8));
        TimedKnock { key, steps, avoid: avoid.to_vec() }
    }

    /// printf 'opensesame-spa knock 59000000 0' | openssl dgst -sha256 -mac HMAC
    ///   -macopt hexkey:000102...1f -binary | od -An -v -tu2 -w2 --endian=big
    #[test]
    fn the_numbers_of_openssl() {
        assert_eq!(timed(8, &[]).ports(59_000_000), OPENSSL);
    }

    #[test]
    fn what_is_avoided_is_skipped_and_no_port_comes_twice() {
        let all = timed(8, &[]).ports(1);
        let less = timed(7, &all[..1]).ports(1);
        assert_eq!(all[1..], less);
        for period in 0..5_000 {
            let ports = timed(8, &[]).ports(period);
            let mut different = ports.clone();
            different.sort_unstable();
            different.dedup();
            assert_eq!((ports.len(), different.len()), (8, 8), "{period}");
            assert!(ports.iter().all(|port| *port >= LOWEST), "{period}");
            assert_ne!(ports, timed(8, &[]).ports(period + 1));
        }
    }

    #[test]
    fn a_period_is_half_a_minute() {
        assert_eq!(TimedKnock::period(Unix(59_999)), 1);
        assert_eq!(TimedKnock::period(Unix(60_000)), 2);
    }
}
