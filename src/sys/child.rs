//! What a command gets from the process that starts it.
#![allow(unsafe_code)]

use nix::libc;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Descriptors beyond this one are nobody's.
const MOST: libc::c_int = 65_536;

/// Keeps every descriptor but the first three from the programs that this process starts, also
/// those that it has inherited itself.
pub fn close_on_exec() {
    // SAFETY: sysconf(3) reads a number and has no other effect.
    let open = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    let end = libc::c_int::try_from(open).unwrap_or(MOST).clamp(3, MOST);
    for fd in 3..end {
        // SAFETY: a flag of the descriptor that matters to execve(2) alone; where there is no such
        // descriptor the call fails, and nothing is changed.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// The command will have a session, and so a process group, of its own; on Linux it is killed when
/// the thread that has started it is gone.
pub fn detach(command: &mut Command) {
    let before = || -> io::Result<()> {
        nix::unistd::setsid()?;
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: between fork and exec it makes two system calls and nothing else: no memory is
    // allocated and no lock is taken.
    unsafe { command.pre_exec(before) };
}
