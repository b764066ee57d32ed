//! Bounded waits: nothing in the demo waits for ever.

use crate::daemon::clock;
use crate::time::Mono;
use std::thread::sleep;
use std::time::Duration;

/// Between two looks at something that will come.
pub(super) const BETWEEN: Duration = Duration::from_millis(50);

/// A moment that ends a wait.
#[derive(Clone, Copy)]
pub(super) struct Deadline(Mono);

impl Deadline {
    pub(super) fn after(span: Duration) -> Deadline {
        let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Deadline(clock::now().mono.plus(ms))
    }

    pub(super) fn passed(self) -> bool {
        clock::now().mono >= self.0
    }
}

/// Asks again and again until there is an answer, `None` when the time is up; asks at least once,
/// and once more after the end, so that a machine that was asleep meanwhile is not blamed.
pub(super) fn until<T>(span: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Deadline::after(span);
    loop {
        let last = end.passed();
        let found = ask();
        if found.is_some() || last {
            return found;
        }
        sleep(BETWEEN);
    }
}
