//! The second line: tokens that came with a bad HMAC, or with an id that is nobody's, a moment ago.
//!
//! Whoever sees one packet has a token that the door's sieve lets through. A flood with it comes
//! behind all others, so it does not keep them waiting; and it is never dropped for its token, so
//! who races a fresh packet with a copy of its token cannot silence it.

use crate::proto::TOKEN;
use crate::time::Mono;

/// How long a token is remembered: ms.
const GOOD: u64 = 10_000;
/// How many are, at the most, as a power of two: a later one takes the place of an earlier one.
const BITS: u32 = 12;

/// A table that never grows.
#[derive(Debug)]
pub(super) struct Tokens {
    places: Box<[(u64, Mono)]>,
    /// Nobody knows which two have the same place.
    salt: u64,
}

impl Tokens {
    pub(super) fn new(salt: u64) -> Tokens {
        Tokens { places: vec![(0, Mono(0)); 1 << BITS].into_boxed_slice(), salt: salt | 1 }
    }

    /// A packet with that token has just turned out to be no good.
    pub(super) fn note(&mut self, datagram: &[u8], now: Mono) {
        if let Some((place, token)) = self.place(datagram) {
            // 0 stands for never.
            self.places[place] = (token, Mono(now.0.max(1)));
        }
    }

    /// Whether one did lately.
    pub(super) fn has(&self, datagram: &[u8], now: Mono) -> bool {
        self.place(datagram).is_some_and(|(place, token)| {
            let (noted, when) = self.places[place];
            noted == token && when != Mono(0) && now.since(when) <= GOOD
        })
    }

    /// The top bits of a product by the salt.
    fn place(&self, datagram: &[u8]) -> Option<(usize, u64)> {
        let token = u64::from_be_bytes(*datagram.first_chunk::<TOKEN>()?);
        Some(((token.wrapping_mul(self.salt) >> (u64::BITS - BITS)) as usize, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_for_ten_seconds() {
        let mut tokens = Tokens::new(7);
        assert!(!tokens.has(&[0; 8], Mono(0)) && !tokens.has(&[1; 300], Mono(5)));
        tokens.note(&[1; 288], Mono(5));
        tokens.note(&[2; 7], Mono(5));
        assert!(tokens.has(&[1; 8], Mono(5)) && tokens.has(&[1; 9], Mono(10_005)));
        assert!(!tokens.has(&[1; 8], Mono(10_006)) && !tokens.has(&[1; 7], Mono(6)));
        assert!(!tokens.has(&[1, 1, 1, 1, 1, 1, 1, 2], Mono(6)));
    }

    #[test]
    fn as_many_as_there_are_places_and_no_more() {
        const SALTS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd134_2543_de82_ef95];
        let mut tokens = Tokens::new(SALTS[0]);
        let spread = |n: u64| (n.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ n << 29).to_be_bytes();
        let all: Vec<[u8; 8]> = (1..=10_000).map(spread).collect();
        all.iter().for_each(|t| tokens.note(t, Mono(5)));
        let kept = all.iter().filter(|t| tokens.has(*t, Mono(5))).count();
        assert!((2_000..=1 << BITS).contains(&kept), "{kept}");
        assert!(tokens.has(&all[9_999], Mono(5)), "the last one is");
        // Which share a place depends on the salt.
        let meets = |salt: u64, a: &[u8; 8], b: &[u8; 8]| {
            let tokens = Tokens { places: Box::new([]), salt };
            tokens.place(a).map(|p| p.0) == tokens.place(b).map(|p| p.0)
        };
        let near = |gap: usize| all.iter().zip(&all[gap..]);
        let pair = (1..10).flat_map(near).find(|(a, b)| meets(SALTS[0], a, b));
        let (a, b) = pair.expect("some of 90,000 pairs");
        assert!(!meets(SALTS[1], a, b));
    }
}
