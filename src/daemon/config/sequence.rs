//! What a knock sequence can be, and the files that `[[knock]]` names: one-time sequences, and the
//! secret of timed ones.

use super::ConfigError;
use super::raw::RawStep;
use super::secret::{SecretFile, Text};
use crate::crypto::{KnockKey, is_published};
use crate::engine::Step;
use crate::proto::{LOWEST, MOST_AVOIDED, TIMED_STEPS, TimedKnock};
use serde::Deserialize;
use std::path::Path;
use toml::Spanned;

/// The shortest sequence: steps.
pub(super) const LEAST_STEPS: usize = 3;
/// The longest sequence: steps.
pub const MOST_STEPS: usize = 8;
/// The most one-time sequences of one file.
const MOST_LINES: usize = 256;

/// What is wrong with a step that stands twice in a row: one that is merely sent again, as every SYN
/// is that nobody answers, would count as both.
pub(super) const REPEATS: &str = "a port that comes twice in a row would be knocked by a retry";

pub(super) fn repeats(steps: impl Iterator<Item = Step>) -> bool {
    let steps: Vec<Step> = steps.collect();
    steps.windows(2).any(|two| two[0] == two[1])
}

/// One-time sequences: one in a line, ports with spaces or commas between them; what begins with
/// `#` is skipped. Nobody else may be able to read the file.
///
/// # Errors
/// Which line is wrong.
pub(super) fn one_time(path: &Path) -> Result<Vec<Vec<Step>>, ConfigError> {
    lines(path, SecretFile::read(path)?.text())
}

fn lines(path: &Path, text: &str) -> Result<Vec<Vec<Step>>, ConfigError> {
    let mut all: Vec<Vec<Step>> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong =
            |what: &str| ConfigError { at: Some((index + 1, 1)), ..ConfigError::new(path, what) };
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let words = line.split([',', ' ', '\t']).filter(|word| !word.is_empty());
        let steps: Result<Vec<Step>, String> =
            words.map(|word| word.parse::<RawStep>().map(|step| step.0)).collect();
        // Not the text: it is somebody's secret.
        let steps = steps.map_err(|_| wrong("ports as 1560 or tcp/7000 are wanted"))?;
        if !(LEAST_STEPS..=MOST_STEPS).contains(&steps.len()) {
            return Err(wrong(&format!("a sequence has {LEAST_STEPS} to {MOST_STEPS} steps")));
        }
        if repeats(steps.iter().copied()) {
            return Err(wrong(REPEATS));
        }
        if all.contains(&steps) {
            return Err(wrong("this sequence stands there twice, and would open once"));
        }
        if all.len() == MOST_LINES {
            return Err(wrong(&format!("at most {MOST_LINES} sequences are possible")));
        }
        all.push(steps);
    }
    Ok(all)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawTimed {
    secret: Spanned<Text>,
    #[serde(default = "fewest")]
    steps: Spanned<u8>,
    #[serde(default = "none")]
    avoid: Spanned<Vec<u16>>,
}

fn fewest() -> Spanned<u8> {
    Spanned::new(0..0, *TIMED_STEPS.start())
}

fn none() -> Spanned<Vec<u16>> {
    Spanned::new(0..0, Vec::new())
}

/// Reads the secret of timed sequences, which client and server have both: nobody else may be able
/// to read the file.
///
/// # Errors
/// Line and column, never the text.
pub fn timed(path: &Path) -> Result<TimedKnock, ConfigError> {
    secret(path, SecretFile::read(path)?.text())
}

fn secret(path: &Path, text: &str) -> Result<TimedKnock, ConfigError> {
    let wanted = "a secret of timed knocks: secret = \"base64\", steps = 4, avoid = [41841]";
    let raw: RawTimed =
        toml::from_str(text).map_err(|e| ConfigError::of_secret(path, text, &e, wanted))?;
    let at = |start: usize, what: &str| ConfigError::at(path, text, start, what);
    let start = raw.secret.span().start;
    let key =
        KnockKey::from_text(&raw.secret.get_ref().0).map_err(|e| at(start, &e.to_string()))?;
    if is_published(key.bytes()) {
        return Err(at(start, "this secret is a published one"));
    }
    let (steps, avoid) = (*raw.steps.get_ref(), raw.avoid.get_ref());
    if !TIMED_STEPS.contains(&steps) {
        return Err(at(raw.steps.span().start, "steps: 4 to 8 are possible"));
    }
    if avoid.len() > MOST_AVOIDED || avoid.iter().any(|port| *port < LOWEST) {
        let what = format!("avoid: at most {MOST_AVOIDED} ports, from {LOWEST} on");
        return Err(at(raw.avoid.span().start, &what));
    }
    Ok(TimedKnock { key, steps, avoid: raw.avoid.into_inner() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_time_sequences_are_read_line_by_line() {
        let path = Path::new("list");
        let text = "# comment\n\n1 2 tcp/3\n  4,5, 6 7\n";
        let all = lines(path, text).unwrap();
        let shown: Vec<String> = all.iter().map(|line| format!("{line:?}")).collect();
        assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [3, 4], "{shown:?}");
        assert_eq!(all[0][2].protocol, crate::access::Protocol::Tcp);
        for (text, what) in [
            ("1 2\n", "list:1:1: a sequence has 3 to 8 steps"),
            ("1 2 3 4 5 6 7 8 9\n", "list:1:1: a sequence has 3 to 8 steps"),
            ("1 2 3\n1 2 0\n", "list:2:1: ports as 1560 or tcp/7000 are wanted"),
            ("1 2 2", "list:1:1: a port that comes twice in a row would be knocked by a retry"),
            ("1 2 4711-4712", "list:1:1: ports as 1560 or tcp/7000 are wanted"),
            ("1 2 3\n\n1,2,3", "list:3:1: this sequence stands there twice, and would open once"),
        ] {
            assert_eq!(lines(path, text).unwrap_err().to_string(), what, "{text}");
        }
        let many: String = (1..=257).map(|n| format!("1 2 {}\n", n + 2)).collect();
        assert!(lines(path, &many).unwrap_err().to_string().contains("at most 256"));
    }

    #[test]
    fn a_secret_is_a_key_with_what_both_sides_must_know() {
        let path = Path::new("secret");
        let good = "secret = \"vwcx4bVxbFCZ0cDYYdWpLdUVfE5uB7m5oSn6nYbOqGk=\"\n";
        let read = |text: &str| secret(path, text).map_err(|e| e.to_string());
        let plain = read(good).unwrap();
        assert_eq!((plain.steps, plain.avoid.len()), (4, 0));
        let more = read(&format!("{good}steps = 8\navoid = [41841, 4444]\n")).unwrap();
        assert_eq!((more.steps, more.avoid), (8, vec![41841, 4444]));
        for (text, piece) in [
            ("secret = \"AAAA\"\n".to_string(), "secret:1:10: "),
            ("secret = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"".into(), "published"),
            (format!("{good}steps = 3\n"), "secret:2:9: steps"),
            (format!("{good}steps = 9\n"), "secret:2:9: steps"),
            (format!("{good}avoid = [80]\n"), "secret:2:9: avoid"),
            (format!("{good}other = 1\n"), "this is not a secret of timed knocks"),
        ] {
            let why = read(&text).unwrap_err();
            assert!(why.contains(piece) && !why.contains("vwcx"), "{why}");
        }
    }
}
