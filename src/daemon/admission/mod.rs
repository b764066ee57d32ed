//! Admission in the kernel: a packet without the tag of a door key takes no place in a socket's
//! queue and wakes nobody.
//!
//! The program needs no privilege and holds the door keys' `admit` alone. It is a sieve and not a
//! proof: what passes is checked once more in user space, and there alone where a system has no
//! such filters or does not take this one.

mod code;
#[cfg(test)]
pub(super) mod machine;
mod sieve;
#[cfg(test)]
mod tests;

pub(super) use code::*;
pub(super) use sieve::{At, sieve};

use crate::crypto::Door;
use crate::proto::DATAGRAM;
use std::io;
use std::os::fd::BorrowedFd;

/// What comes before a datagram where the filter of a UDP socket looks (RFC 768).
const UDP_HEADER: u32 = 8;
/// At most so many door keys; a third would take more of the kernel's memory than a socket may have
/// (`net.core.optmem_max`, 20,480 bytes before Linux 6.7).
const DOORS: usize = 2;

/// The program of a UDP socket: datagrams of the one length with the tag of a door.
fn assemble(doors: &[Door]) -> Program {
    let mut program = program();
    program.push(plain(LD_LEN, 0));
    program.extend(must(IF_EQUAL, UDP_HEADER + DATAGRAM as u32));
    sieve(&mut program, At::Fixed(UDP_HEADER), current(doors), u32::MAX);
    program
}

/// The doors that admit.
pub(super) fn current(doors: &[Door]) -> &[Door] {
    &doors[..doors.len().min(DOORS)]
}

/// Lets the kernel refuse what no door admits, from now on, by these keys alone.
///
/// # Errors
/// Where there are no such filters, or this one is not taken: then nothing is refused there.
pub(super) fn attach(socket: BorrowedFd<'_>, doors: &[Door]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let program = assemble(doors);
        crate::sys::attach_filter(socket, &program).or_else(|_| {
            // The one before it counts until it is gone, and one for other keys must not stay.
            let _ = crate::sys::detach_filter(socket);
            crate::sys::attach_filter(socket, &program)
        })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (socket, assemble(doors));
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no socket filters"))
    }
}

/// How many packets have found no place at that socket, or were refused there; 0 where nobody counts.
pub(super) fn dropped(socket: BorrowedFd<'_>) -> u32 {
    #[cfg(target_os = "linux")]
    return crate::sys::dropped(socket).unwrap_or_default();
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        0
    }
}
