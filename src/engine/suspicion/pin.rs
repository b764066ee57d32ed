//! The recovery PIN.

use crate::crypto::equal;
use std::fmt;
use zeroize::Zeroizing;

/// The most digits of a PIN.
pub const LONGEST_PIN: usize = 32;
/// The fewest digits of a PIN that is kept.
pub const SHORTEST_PIN: usize = 8;
/// One more than the largest PIN that is made: twelve digits.
const PINS: u128 = 1_000_000_000_000;

/// Digits of a recovery PIN, or of a guess at it; wiped when dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct Pin {
    digits: Zeroizing<[u8; LONGEST_PIN]>,
    length: u8,
}

impl Pin {
    /// The PIN of this text: 1 to 32 digits and nothing else.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Pin> {
        let possible = (1..=LONGEST_PIN).contains(&text.len());
        if !possible || !text.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let mut digits = Zeroizing::new([0; LONGEST_PIN]);
        digits[..text.len()].copy_from_slice(text);
        Some(Pin { digits, length: text.len() as u8 })
    }

    /// A PIN of twelve digits out of the system's randomness, all equally likely.
    #[must_use]
    pub fn of_random(random: [u8; 16]) -> Pin {
        // 2^128 is no multiple of 10^12: what that favours is less than one in 10^26.
        let mut number = u128::from_be_bytes(random) % PINS;
        let mut digits = Zeroizing::new([0; LONGEST_PIN]);
        for place in digits[..12].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Pin { digits, length: 12 }
    }

    /// The digits.
    #[must_use]
    pub fn digits(&self) -> &[u8] {
        &self.digits[..usize::from(self.length)]
    }

    /// Whether it is long enough to be kept.
    #[must_use]
    pub fn is_long(&self) -> bool {
        usize::from(self.length) >= SHORTEST_PIN
    }
}

impl PartialEq for Pin {
    /// In constant time, the length included: zeros are no digits.
    fn eq(&self, other: &Pin) -> bool {
        equal(self.digits.as_ref(), other.digits.as_ref())
    }
}

impl Eq for Pin {}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_digits_and_shows_none() {
        for text in ["", "1234567x", " 1234567", "1234-5678", "123456789012345678901234567890123"] {
            assert_eq!(Pin::new(text.as_bytes()), None, "{text}");
        }
        let pin = Pin::new(b"00012345").unwrap();
        assert_eq!((pin.digits(), pin.is_long()), (&b"00012345"[..], true));
        assert!(!Pin::new(b"1234567").unwrap().is_long());
        assert!(!format!("{pin:?}").contains("12345"));
        for other in ["0001234", "000123450", "12345", "00012346"] {
            assert_ne!(Pin::new(other.as_bytes()), Some(pin.clone()), "{other}");
        }
    }

    #[test]
    fn twelve_digits_come_out_of_all_randomness() {
        let pin = |n: u128| Pin::of_random(n.to_be_bytes());
        assert_eq!(pin(0).digits(), b"000000000000");
        assert_eq!(pin(1_000_000_000_042).digits(), b"000000000042");
        assert_eq!(pin(u128::MAX).digits(), b"431768211455");
        assert!(pin(7).is_long());
    }
}
