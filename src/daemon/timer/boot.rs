//! A timer on the boot clock: what became overdue while the machine was suspended fires at resume.

use crate::time::Mono;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A descriptor that becomes readable at a moment.
pub(in crate::daemon) struct Timer {
    fd: TimerFd,
    set: Option<Mono>,
}

impl Timer {
    pub(in crate::daemon) fn new() -> io::Result<Timer> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Timer { fd: TimerFd::new(ClockId::CLOCK_BOOTTIME, flags)?, set: None })
    }

    pub(in crate::daemon) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Fires at `at`, or not at all; setting the same again costs nothing.
    pub(in crate::daemon) fn set(&mut self, at: Option<Mono>) -> io::Result<()> {
        if self.set == at {
            return Ok(());
        }
        match at {
            None => self.fd.unset()?,
            Some(Mono(ms)) => {
                // Zero would disarm it.
                let when = TimeSpec::from_duration(Duration::from_millis(ms.max(1)));
                let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
                self.fd.set(Expiration::OneShot(when), flags)?;
            }
        }
        self.set = at;
        Ok(())
    }

    /// Takes note that it has fired.
    pub(in crate::daemon) fn fired(&mut self) {
        self.set = None;
        // Reading says how often it fired, which does not matter; it would block otherwise.
        let mut count = [0; 8];
        let _ = nix::unistd::read(&self.fd, &mut count);
    }
}
