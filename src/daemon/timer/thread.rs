//! A timer for kernels whose clocks are no files: a thread sleeps, and then writes a byte.
//!
//! A suspended machine counts no time here: what is overdue fires as much later.

use crate::daemon::clock;
use crate::time::Mono;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// A descriptor that becomes readable at a moment.
pub(in crate::daemon) struct Timer {
    orders: mpsc::Sender<Option<Mono>>,
    woken: UnixStream,
    set: Option<Mono>,
}

impl Timer {
    pub(in crate::daemon) fn new() -> io::Result<Timer> {
        let (orders, inbox) = mpsc::channel::<Option<Mono>>();
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let sleep = move || {
            let mut at: Option<Mono> = None;
            loop {
                let order = match at {
                    None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(at) => {
                        let left = at.since(clock::now().mono);
                        inbox.recv_timeout(Duration::from_millis(left))
                    }
                };
                match order {
                    Ok(next) => at = next,
                    Err(RecvTimeoutError::Timeout) => {
                        at = None;
                        // If there is no room, enough wakes it already.
                        let _ = (&wake).write(&[1]);
                    }
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        std::thread::Builder::new().name("timer".into()).stack_size(64 << 10).spawn(sleep)?;
        Ok(Timer { orders, woken, set: None })
    }

    pub(in crate::daemon) fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// Fires at `at`, or not at all; setting the same again costs nothing.
    pub(in crate::daemon) fn set(&mut self, at: Option<Mono>) -> io::Result<()> {
        if self.set != at {
            self.orders.send(at).map_err(|_| io::Error::other("its thread has ended"))?;
            self.set = at;
        }
        Ok(())
    }

    /// Takes note that it has fired.
    pub(in crate::daemon) fn fired(&mut self) {
        self.set = None;
        let mut bytes = [0; 64];
        while (&self.woken).read(&mut bytes).is_ok_and(|n| n > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    /// Whether it fires within so many milliseconds.
    fn fires(timer: &Timer, within: u16) -> bool {
        let mut fds = [PollFd::new(timer.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(within)).unwrap() == 1
    }

    #[test]
    fn it_fires_at_its_moment_and_not_when_that_is_taken_back() {
        let mut timer = Timer::new().unwrap();
        let start = clock::now().mono;
        timer.set(Some(start.plus(60_000))).unwrap();
        assert!(!fires(&timer, 50));
        timer.set(Some(start.plus(100))).unwrap();
        assert!(fires(&timer, 20_000));
        assert!(clock::now().mono >= start.plus(100));
        timer.fired();
        assert!(!fires(&timer, 50));
        timer.set(Some(clock::now().mono.plus(60_000))).unwrap();
        timer.set(None).unwrap();
        assert!(!fires(&timer, 50));
        // What lies in the past is due.
        timer.set(Some(Mono(0))).unwrap();
        assert!(fires(&timer, 20_000));
    }
}
