//! What was refused, in one line a minute: all that strangers can make the log grow by.

use crate::daemon::frame::{ACCEPTED, COUNTERS};
use crate::engine::Reject;
use crate::time::Mono;

/// How long refusals are gathered: ms.
const GATHER: u64 = 60_000;

/// The counters at the last line, and when the next one is due: never, where nothing is refused.
#[derive(Debug)]
pub(super) struct Summary {
    before: [u64; COUNTERS],
    due: Option<Mono>,
}

impl Summary {
    pub(super) fn new() -> Summary {
        Summary { before: [0; COUNTERS], due: None }
    }

    /// Something has been refused.
    pub(super) fn note(&mut self, now: Mono) {
        self.due.get_or_insert(now.plus(GATHER));
    }

    pub(super) fn poll_timeout(&self) -> Option<Mono> {
        self.due
    }

    /// The line, if it is due.
    pub(super) fn handle_timeout(
        &mut self,
        counters: &[u64; COUNTERS],
        now: Mono,
    ) -> Option<String> {
        self.due.take_if(|due| *due <= now)?;
        let first = ACCEPTED.len();
        let counts = counters[first..].iter().zip(&self.before[first..]);
        let said = Reject::NAMES.iter().zip(counts).filter(|(_, (now, before))| now > before);
        let said: Vec<String> =
            said.map(|(name, (now, before))| format!("{} {name}", now - before)).collect();
        self.before = *counters;
        Some(format!("refused within a minute: {}", said.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_of_what_is_new() {
        let (mut summary, mut counters) = (Summary::new(), [0; COUNTERS]);
        assert_eq!(
            (summary.poll_timeout(), summary.handle_timeout(&counters, Mono(9))),
            (None, None)
        );
        let refuse = |counters: &mut [u64; COUNTERS], reason: Reject, times| {
            counters[ACCEPTED.len() + reason.index()] += times;
        };
        refuse(&mut counters, Reject::Unauthentic, 7);
        counters[0] += 3;
        summary.note(Mono(1_000));
        summary.note(Mono(30_000));
        assert_eq!(summary.handle_timeout(&counters, Mono(60_999)), None);
        let line = summary.handle_timeout(&counters, Mono(61_000));
        assert_eq!(line.as_deref(), Some("refused within a minute: 7 unauthentic"));
        assert_eq!(summary.poll_timeout(), None);
        refuse(&mut counters, Reject::Unauthentic, 1);
        refuse(&mut counters, Reject::UnknownClient, 2);
        summary.note(Mono(90_000));
        let line = summary.handle_timeout(&counters, Mono(150_000));
        let expected = "refused within a minute: 1 unauthentic, 2 unknown-client";
        assert_eq!(line.as_deref(), Some(expected));
    }
}
