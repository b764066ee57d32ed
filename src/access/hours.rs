//! Hours in which a client may come, by the clock on the wall.

use crate::time::Unix;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use std::fmt;
use std::str::FromStr;

/// The days as people write them, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A span of the day on some days of the week: `mon-fri 08:00-18:00`, `sat,sun 22:00-02:00`, or
/// without days, for all of them, `08:00-18:00`.
///
/// The first minute is in it and the last one is not. A span that ends before it begins goes on into
/// the next day.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hours {
    /// One bit for each day, Monday's the lowest.
    days: u8,
    /// Minutes after midnight.
    from: u16,
    to: u16,
}

/// A text that names no hours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HoursError;

impl fmt::Display for HoursError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no hours: write \"mon-fri 08:00-18:00\", \"sat,sun 22:00-02:00\" or \"08:00-18:00\"",
        )
    }
}

impl std::error::Error for HoursError {}

impl Hours {
    /// The hours out of their parts: `days` one bit each, Monday's the lowest; minutes after midnight.
    #[must_use]
    pub fn new(days: u8, from: u16, to: u16) -> Option<Hours> {
        let sound =
            (1..=127).contains(&days) && from < DAY && (1..=DAY).contains(&to) && from != to;
        sound.then_some(Hours { days, from, to })
    }

    /// Its parts, as [`Hours::new`] takes them.
    #[must_use]
    pub fn parts(&self) -> (u8, u16, u16) {
        (self.days, self.from, self.to)
    }

    /// Whether that moment, where this zone is, lies in it.
    #[must_use]
    pub fn hold(&self, at: Unix, zone: &TimeZone) -> bool {
        let ms = i64::try_from(at.0).unwrap_or(i64::MAX);
        let Ok(at) = Timestamp::from_millisecond(ms) else { return false };
        self.hold_there(zone.to_datetime(at))
    }

    fn hold_there(&self, at: DateTime) -> bool {
        let minute = at.hour().unsigned_abs() as u16 * 60 + at.minute().unsigned_abs() as u16;
        let today = at.weekday().to_monday_zero_offset().unsigned_abs() % 7;
        let yesterday = (today + 6) % 7;
        let on = |day: u8| self.days & 1 << day != 0;
        match self.from < self.to {
            true => on(today) && (self.from..self.to).contains(&minute),
            false => on(today) && minute >= self.from || on(yesterday) && minute < self.to,
        }
    }
}

fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        let plain = text.bytes().all(|b| b.is_ascii_digit()) && digits.contains(&text.len());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let (hour, minute) = (number(hour, 1..=2)?, number(minute, 2..=2)?);
    let good = minute < 60 && (hour < 24 || (hour, minute) == (24, 0));
    good.then_some(hour * 60 + minute)
}

/// `mon`, `mon-fri`, `sat-mon`, and several of these with commas.
fn days(text: &str) -> Option<u8> {
    let day = |text: &str| DAYS.iter().position(|d| *d == text.to_ascii_lowercase());
    text.split(',').try_fold(0, |all, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let span = (0..=(last + 7 - first) % 7).map(|n| 1 << ((first + n) % 7));
        Some(span.fold(all, |all, bit: u8| all | bit))
    })
}

impl FromStr for Hours {
    type Err = HoursError;

    fn from_str(text: &str) -> Result<Hours, HoursError> {
        let mut words = text.split_whitespace();
        let (first, second) = (words.next().ok_or(HoursError)?, words.next());
        let (on, span) =
            second.map_or((127, Some(first)), |span| (days(first).unwrap_or(0), Some(span)));
        let (from, to) = span.and_then(|s| s.split_once('-')).ok_or(HoursError)?;
        let (from, to) = minute(from).zip(minute(to)).ok_or(HoursError)?;
        let none_left = words.next().is_none();
        Hours::new(on, from, to).filter(|_| none_left).ok_or(HoursError)
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != 127 {
            let on = (0..7).filter(|d| self.days & 1 << d != 0);
            let names: Vec<&str> = on.filter_map(|d: usize| DAYS.get(d).copied()).collect();
            write!(f, "{} ", names.join(","))?;
        }
        let (from, to) = (self.from, self.to);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().expect(text)
    }

    #[test]
    fn text_goes_both_ways_and_bad_text_is_refused() {
        for (text, shown) in [
            ("mon-fri 08:00-18:00", "mon,tue,wed,thu,fri 08:00-18:00"),
            ("Sat,Sun 22:00-2:00", "sat,sun 22:00-02:00"),
            ("sat-mon 00:00-24:00", "mon,sat,sun 00:00-24:00"),
            ("08:00-18:00", "08:00-18:00"),
            ("mon-sun 8:30-9:00", "08:30-09:00"),
        ] {
            assert_eq!(hours(text).to_string(), shown);
            assert_eq!(hours(shown), hours(text));
        }
        for bad in [
            "",
            "mon",
            "8-18",
            "08:00-08:00",
            "24:00-08:00",
            "08:00-24:01",
            "08:60-18:00",
            "8:0-9:00",
            "mon 08:00",
            "moon 08:00-18:00",
            "mon- 08:00-18:00",
            "mon,,tue 08:00-18:00",
            "mon 08:00-18:00 x",
            "+8:00-18:00",
            "00:00-00:00",
        ] {
            assert_eq!(bad.parse::<Hours>(), Err(HoursError), "{bad}");
        }
    }

    /// date(1) agrees: 2026-11-27 is a Friday.
    #[test]
    fn the_edges_of_a_span() {
        let at = |text: &str| text.parse::<DateTime>().expect(text);
        let office = hours("mon-fri 08:00-18:00");
        let night = hours("fri 22:00-02:00");
        let whole = hours("fri 00:00-24:00");
        for (when, in_office, in_night, in_whole) in [
            ("2026-11-27T07:59:59.999", false, false, true),
            ("2026-11-27T08:00:00", true, false, true),
            ("2026-11-27T17:59:59.999", true, false, true),
            ("2026-11-27T18:00:00", false, false, true),
            ("2026-11-27T21:59:59", false, false, true),
            ("2026-11-27T22:00:00", false, true, true),
            ("2026-11-27T23:59:59.999", false, true, true),
            ("2026-11-28T00:00:00", false, true, false),
            ("2026-11-28T01:59:59.999", false, true, false),
            ("2026-11-28T02:00:00", false, false, false),
            ("2026-11-28T08:00:00", false, false, false),
            ("2026-11-28T22:00:00", false, false, false),
            ("2026-11-26T23:59:59.999", false, false, false),
            ("2026-11-27T00:00:00", false, false, true),
            ("2026-11-27T01:00:00", false, false, true),
        ] {
            let seen = [office, night, whole].map(|h| h.hold_there(at(when)));
            assert_eq!(seen, [in_office, in_night, in_whole], "{when}");
        }
    }

    /// A zone by its rule (POSIX TZ): Central Europe, where the clocks go from 02:00 to 03:00 on
    /// 2026-03-29 and from 03:00 back to 02:00 on 2026-10-25.
    #[test]
    fn the_wall_clock_counts_also_where_it_is_set() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a zone");
        let early = hours("sun 02:30-03:30");
        let at = |text: &str| Unix(text.parse::<Timestamp>().expect(text).as_millisecond() as u64);
        for (utc, holds) in [
            // In spring 01:59 is followed by 03:00: only half of the span is there.
            ("2026-03-29T00:59:59Z", false),
            ("2026-03-29T01:00:00Z", true),
            ("2026-03-29T01:29:59Z", true),
            ("2026-03-29T01:30:00Z", false),
            // In autumn 02:30 to 02:59 is there twice.
            ("2026-10-25T00:29:59Z", false),
            ("2026-10-25T00:30:00Z", true),
            ("2026-10-25T01:00:00Z", false),
            ("2026-10-25T01:30:00Z", true),
            ("2026-10-25T02:29:59Z", true),
            ("2026-10-25T02:30:00Z", false),
        ] {
            assert_eq!(early.hold(at(utc), &zone), holds, "{utc}");
        }
        assert!(!early.hold(Unix(u64::MAX), &zone));
    }
}
