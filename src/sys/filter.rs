//! Classic BPF programs on sockets (Linux, `Documentation/networking/filter.rst`), and what they drop.
#![allow(unsafe_code)]

use zeroize::DefaultIsZeroes;

/// One instruction, laid out as the kernel takes it (`struct sock_filter`).
///
/// It has no Debug: a constant of a program can be part of a key.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions are left out if its comparison holds.
    pub yes: u8,
    /// How many if it does not.
    pub no: u8,
    /// A constant, an offset or a place.
    pub k: u32,
}

impl DefaultIsZeroes for Instruction {}

#[cfg(target_os = "linux")]
pub use linux::{attach_filter, detach_filter, dropped, lock_filter};

#[cfg(target_os = "linux")]
mod linux {
    use super::Instruction;
    use nix::libc;
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
    const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

    fn set<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the pointer is to a whole value of that length, which lives during the call.
        let outcome = unsafe {
            let value: *const T = value;
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length)
        };
        if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Lets a program judge what comes to a socket, in place of the one before it, if there was one
    /// (socket(7), SO_ATTACH_FILTER).
    ///
    /// # Errors
    /// As setsockopt(2): EINVAL for what is no program, ENOMEM beyond `net.core.optmem_max`.
    pub fn attach_filter(fd: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
        let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        // The kernel copies the instructions and writes nothing through this pointer.
        let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
        set(fd, libc::SO_ATTACH_FILTER, &libc::sock_fprog { len, filter })
    }

    /// Takes the program of a socket away: everything comes in again (socket(7), SO_DETACH_FILTER).
    ///
    /// # Errors
    /// As setsockopt(2): ENOENT where there is none.
    pub fn detach_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
        set::<libc::c_int>(fd, libc::SO_DETACH_FILTER, &0)
    }

    /// Keeps the filter of a socket from being changed or taken away (socket(7), SO_LOCK_FILTER).
    ///
    /// # Errors
    /// As setsockopt(2).
    pub fn lock_filter(fd: BorrowedFd<'_>) -> io::Result<()> {
        set::<libc::c_int>(fd, libc::SO_LOCK_FILTER, &1)
    }

    /// Where the count stands in what SO_MEMINFO tells (SK_MEMINFO_DROPS of linux/sock_diag.h), and
    /// how many numbers there are.
    const DROPS: (usize, usize) = (8, 9);

    /// How many packets a socket has dropped, refused by its filter or without room for them.
    ///
    /// # Errors
    /// As getsockopt(2).
    pub fn dropped(fd: BorrowedFd<'_>) -> io::Result<u32> {
        let mut numbers = [0u32; DROPS.1];
        let mut length = size_of_val(&numbers) as libc::socklen_t;
        // SAFETY: the kernel writes no more than `length` bytes, which is what `numbers` has, and
        // both live during the call.
        let outcome = unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut numbers).cast(),
                &raw mut length,
            )
        };
        if outcome == 0 { Ok(numbers[DROPS.0]) } else { Err(io::Error::last_os_error()) }
    }
}
