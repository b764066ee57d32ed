//! The second line: tokens that came with a bad HMAC, or with an id that is nobody's, a moment ago.
//!
//! Whoever sees one packet has a token that the door's sieve lets through. A flood with it comes
//! behind all others, so it does not keep them waiting; and it is never dropped for its token, so
//! who races a fresh packet with a copy of its token cannot silence it.

use crate::proto::TOKEN;
use crate::time::Mono;

/// How long a token is remembered: ms.
const GOOD: u64 = 10_000;
/// How many are, at the most: a later one takes the place of an earlier one with the same last bits.
const MOST: usize = 4_096;

/// A table that never grows.
#[derive(Debug)]
pub(super) struct Tokens(Box<[(u64, Mono)]>);

impl Tokens {
    pub(super) fn new() -> Tokens {
        Tokens(vec![(0, Mono(0)); MOST].into_boxed_slice())
    }

    /// A packet with that token has just turned out to be no good.
    pub(super) fn note(&mut self, datagram: &[u8], now: Mono) {
        if let Some((place, token)) = place(datagram) {
            // 0 stands for never.
            self.0[place] = (token, Mono(now.0.max(1)));
        }
    }

    /// Whether one did lately.
    pub(super) fn has(&self, datagram: &[u8], now: Mono) -> bool {
        place(datagram).is_some_and(|(place, token)| {
            let (noted, when) = self.0[place];
            noted == token && when != Mono(0) && now.since(when) <= GOOD
        })
    }
}

/// Tokens that pass the sieve are random, so any of their bits will do.
fn place(datagram: &[u8]) -> Option<(usize, u64)> {
    let token = u64::from_be_bytes(*datagram.first_chunk::<TOKEN>()?);
    Some((token as usize % MOST, token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_for_ten_seconds() {
        let mut tokens = Tokens::new();
        assert!(!tokens.has(&[0; 8], Mono(0)) && !tokens.has(&[1; 300], Mono(5)));
        tokens.note(&[1; 288], Mono(5));
        tokens.note(&[2; 7], Mono(5));
        assert!(tokens.has(&[1; 8], Mono(5)) && tokens.has(&[1; 9], Mono(10_005)));
        assert!(!tokens.has(&[1; 8], Mono(10_006)) && !tokens.has(&[1; 7], Mono(6)));
        assert!(!tokens.has(&[1, 1, 1, 1, 1, 1, 1, 2], Mono(6)));
    }

    #[test]
    fn a_later_one_takes_its_place() {
        let mut tokens = Tokens::new();
        tokens.note(&[1, 0, 0, 0, 0, 0, 0, 7], Mono(5));
        tokens.note(&[2, 0, 0, 0, 0, 0, 0, 7], Mono(6));
        assert!(!tokens.has(&[1, 0, 0, 0, 0, 0, 0, 7], Mono(6)));
        assert!(tokens.has(&[2, 0, 0, 0, 0, 0, 0, 7], Mono(6)));
    }
}
