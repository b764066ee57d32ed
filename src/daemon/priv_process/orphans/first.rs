//! What the first process of a container owes the others: it buries those that nobody waits for.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getpid};
use signal_hook::consts::SIGCHLD;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Word of the end of children, for a process that inherits those of others.
#[derive(Debug)]
pub(in crate::daemon::priv_process) struct Orphans {
    ended: UnixStream,
}

impl Orphans {
    /// Listens for them where this is the first process of its namespace.
    pub(in crate::daemon::priv_process) fn adopt() -> io::Result<Option<Orphans>> {
        if getpid() != Pid::from_raw(1) {
            return Ok(None);
        }
        Ok(Some(Orphans { ended: super::super::signals(&[SIGCHLD])? }))
    }

    pub(in crate::daemon::priv_process) fn as_fd(&self) -> BorrowedFd<'_> {
        self.ended.as_fd()
    }

    /// Buries all that have ended but those that are `waited` for elsewhere; called again when
    /// these have been.
    pub(in crate::daemon::priv_process) fn bury(&self, waited: &[u32]) {
        super::super::drained(&self.ended);
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        loop {
            let pid = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Err(Errno::EINTR) => continue,
                Ok(_) | Err(_) => return,
            };
            if waited.contains(&pid.as_raw().unsigned_abs())
                || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err()
            {
                return;
            }
            log::debug!("process {pid} has ended");
        }
    }
}
