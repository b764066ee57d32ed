//! One line on stderr for each event; what strangers cause is rate-limited, so nobody can fill the
//! disk.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Mutex, OnceLock, PoisonError};

struct Stderr {
    /// Which process speaks: `priv` or `engine`.
    role: &'static str,
    /// Under systemd lines begin with `<N>` (sd-daemon(3)); elsewhere with the level's name.
    prefixed: bool,
}

static LOGGER: OnceLock<Stderr> = OnceLock::new();

/// The most bytes of one write: as many as a pipe takes in one piece, so that the lines of the
/// processes do not mix.
const PIECE: usize = 4_096;

/// Lines that are gathered; none: each one is written at once.
static GATHERED: Mutex<Option<Vec<u8>>> = Mutex::new(None);

/// While this lives, lines are gathered and written together: no longer than the loop that makes
/// them, and before anything is done that they tell of.
#[must_use]
pub struct Gathered(());

/// Gathers lines from now on.
pub fn gather() -> Gathered {
    let mut lines = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
    lines.get_or_insert_default();
    Gathered(())
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let mut lines = GATHERED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = lines.take() {
            write(&lines);
        }
    }
}

fn write(bytes: &[u8]) {
    let _ = std::io::stderr().write_all(bytes);
}

/// Sends the log of this process to stderr. `OPENSESAME_LOG=debug` says more.
pub fn start(role: &'static str) {
    let prefixed = std::env::var_os("JOURNAL_STREAM").is_some();
    let logger = LOGGER.get_or_init(|| Stderr { role, prefixed });
    let level = match std::env::var("OPENSESAME_LOG").as_deref() {
        Ok("debug") => LevelFilter::Debug,
        Ok("warn") => LevelFilter::Warn,
        Ok(_) | Err(_) => LevelFilter::Info,
    };
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("opensesame") && metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let (number, name) = match record.level() {
            Level::Error => (3, "error"),
            Level::Warn => (4, "warning"),
            Level::Info => (6, "info"),
            Level::Debug | Level::Trace => (7, "debug"),
        };
        let mut line = match self.prefixed {
            true => format!("<{number}>{}: ", self.role),
            false => format!("{name} {}: ", self.role),
        };
        // Whatever a text holds, it stays one line and moves no cursor.
        for c in record.args().to_string().chars() {
            match c.is_control() {
                true => line.extend(c.escape_default()),
                false => line.push(c),
            }
        }
        let _ = writeln!(line);
        match &mut *GATHERED.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lines) => {
                if lines.len() + line.len() > PIECE {
                    write(lines);
                    lines.clear();
                }
                lines.extend(line.as_bytes());
            }
            None => write(line.as_bytes()),
        }
    }

    fn flush(&self) {}
}

/// Lets a burst of lines through, then one a second.
#[derive(Debug)]
pub struct Limit {
    tokens: u64,
    last: u64,
    /// Lines that were held back since the last one.
    held: u64,
}

impl Default for Limit {
    fn default() -> Limit {
        Limit { tokens: Limit::BURST, last: 0, held: 0 }
    }
}

impl Limit {
    const BURST: u64 = 10;

    /// Whether a line may be written now, and how many were held back before it.
    pub fn pass(&mut self, now: crate::time::Mono) -> Option<u64> {
        let seconds = now.0 / 1_000;
        self.tokens = Limit::BURST.min(self.tokens + seconds.saturating_sub(self.last));
        self.last = self.last.max(seconds);
        if self.tokens == 0 {
            self.held += 1;
            return None;
        }
        self.tokens -= 1;
        Some(std::mem::take(&mut self.held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    #[test]
    fn a_burst_passes_and_then_one_line_a_second() {
        let mut limit = Limit::default();
        let passed = (0..1_000).filter(|_| limit.pass(Mono(5_000)).is_some()).count();
        assert_eq!(passed, 10);
        assert_eq!(limit.pass(Mono(5_999)), None);
        assert_eq!(limit.pass(Mono(6_000)), Some(991));
        assert_eq!(limit.pass(Mono(6_001)), None);
    }
}
