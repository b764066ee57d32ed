//! Supplementary groups, where the safe interface has no call for them.
#![allow(unsafe_code)]

use nix::libc;
use std::io;

/// Leaves all supplementary groups, as setgroups(2).
///
/// # Errors
/// When it is not root who asks.
pub fn leave_groups() -> io::Result<()> {
    // SAFETY: of a list without entries nothing is read, so the pointer may be null.
    let outcome = unsafe { libc::setgroups(0, std::ptr::null()) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
