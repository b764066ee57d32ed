//! The one moment that a turn of the loop works with.
#![forbid(unsafe_code)]

use std::fmt;

/// Wall clock: milliseconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Unix(pub u64);

/// Milliseconds since the machine was booted, suspended time included (CLOCK_BOOTTIME).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Mono(pub u64);

/// Both clocks, read together once for each turn.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Now {
    /// Wall clock: compared with the times in packets and credentials.
    pub unix: Unix,
    /// Boot clock: what deadlines are made of.
    pub mono: Mono,
}

impl Unix {
    /// This moment plus `ms`, at most the end of time.
    #[must_use]
    pub fn plus(self, ms: u64) -> Unix {
        Unix(self.0.saturating_add(ms))
    }

    /// This moment minus `ms`, at least the epoch.
    #[must_use]
    pub fn minus(self, ms: u64) -> Unix {
        Unix(self.0.saturating_sub(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if it lies after it.
    #[must_use]
    pub fn since(self, earlier: Unix) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Mono {
    /// This moment plus `ms`, at most the end of time.
    #[must_use]
    pub fn plus(self, ms: u64) -> Mono {
        Mono(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment, 0 if it lies after it.
    #[must_use]
    pub fn since(self, earlier: Mono) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// A number of seconds the way people write it: `90s`, `5m`, `2h`, `7d`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        match s {
            0 => write!(f, "0s"),
            _ if s.is_multiple_of(86_400) => write!(f, "{}d", s / 86_400),
            _ if s.is_multiple_of(3_600) => write!(f, "{}h", s / 3_600),
            _ if s.is_multiple_of(60) && s >= 120 => write!(f, "{}m", s / 60),
            _ => write!(f, "{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_stops_at_the_ends() {
        assert_eq!(Unix(5).minus(9), Unix(0));
        assert_eq!(Unix(u64::MAX).plus(1), Unix(u64::MAX));
        assert_eq!(Mono(3).since(Mono(9)), 0);
        assert_eq!(Mono(9).since(Mono(3)), 6);
    }

    #[test]
    fn seconds_are_shown_in_the_largest_whole_unit() {
        let shown: Vec<String> =
            [0, 30, 60, 90, 120, 7200, 86_400, 604_800].map(|s| Seconds(s).to_string()).to_vec();
        assert_eq!(shown, ["0s", "30s", "60s", "90s", "2m", "2h", "1d", "7d"]);
    }
}
