//! Values as people write them.

use crate::time::Unix;
use jiff::{SignedDuration, Timestamp};
use std::ops::RangeInclusive;

/// From a second to a hundred years: seconds.
const POSSIBLE: RangeInclusive<u32> = 1..=3_153_600_000;

/// Seconds out of `30s`, `5m`, `2h`, `7d` or `1h 30m`; at most a hundred years.
///
/// # Errors
/// When it is no whole number of seconds, or none at all.
pub fn duration(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is no duration: write 30s, 5m, 2h or 7d");
    // jiff counts no days in an absolute duration; here a day is 24 hours.
    if let Some(days) = text.trim().strip_suffix('d')
        && let Ok(days) = days.parse::<u32>()
    {
        return days.checked_mul(86_400).filter(|s| POSSIBLE.contains(s)).ok_or_else(wrong);
    }
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    match (u32::try_from(parsed.as_secs()), parsed.subsec_nanos()) {
        (Ok(seconds), 0) if POSSIBLE.contains(&seconds) => Ok(seconds),
        _ => Err(wrong()),
    }
}

/// A moment as RFC 3339 writes it: `2026-12-31T23:59:59Z`; parts of a second are left out, as
/// [`shown`] leaves them out.
///
/// # Errors
/// When it is none, or before the epoch.
pub fn moment(text: &str) -> Result<Unix, String> {
    let wrong = || format!("`{text}` is no moment: write 2026-12-31T23:59:59Z");
    let parsed: Timestamp = text.parse().map_err(|_| wrong())?;
    let seconds = u64::try_from(parsed.as_millisecond()).map_err(|_| wrong())? / 1_000;
    Ok(Unix(seconds * 1_000))
}

/// The text of a moment.
#[must_use]
pub fn shown(moment: Unix) -> String {
    let ms = i64::try_from(moment.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms - ms % 1_000).map_or_else(|_| "never".into(), |t| t.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_seconds() {
        let good = [("30s", 30), ("5m", 300), ("2h", 7_200), ("7d", 604_800), ("1h 30m", 5_400)];
        for (text, seconds) in good {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "0s", "30", "-5s", "1.5s", "forever", "99999999d", "100ms", "4000000000s"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_go_both_ways() {
        let text = "2026-12-31T23:59:59Z";
        assert_eq!(shown(moment(text).unwrap()), text);
        assert_eq!(moment("2026-12-31T23:59:59.9Z"), moment(text));
        assert!(moment("tomorrow").is_err());
        assert!(moment("1969-01-01T00:00:00Z").is_err());
    }
}
