//! The calls on a packet socket; where there are none, their absence.

#[cfg(target_os = "linux")]
mod linux {
    use super::super::Family;
    use crate::sys::{self, Instruction};
    use nix::libc;
    use nix::net::if_::if_nametoindex;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
    use socket2::SockRef;
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};

    /// How much the kernel may keep for a capture: bytes.
    const ROOM: usize = 4 << 20;

    /// A packet socket that receives nothing yet; it takes CAP_NET_RAW.
    ///
    /// # Errors
    /// As socket(2).
    pub(in crate::daemon) fn open() -> io::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        // What waits there is not lost. With CAP_NET_ADMIN beyond net.core.rmem_max, else up to it.
        if setsockopt(&fd, sockopt::RcvBufForce, &ROOM).is_err() {
            let _ = SockRef::from(&fd).set_recv_buffer_size(ROOM);
        }
        Ok(fd)
    }

    pub(in super::super) fn attach(fd: BorrowedFd<'_>, program: &[Instruction]) -> io::Result<()> {
        sys::attach_filter(fd, program)
    }

    pub(in super::super) fn lock(fd: BorrowedFd<'_>) -> io::Result<()> {
        sys::lock_filter(fd)
    }

    pub(in super::super) fn bind(
        fd: BorrowedFd<'_>,
        family: Family,
        interface: Option<&str>,
    ) -> io::Result<()> {
        let index = match interface {
            Some(name) => if_nametoindex(name)?,
            None => 0,
        };
        let protocol = match family {
            Family::V4 => libc::ETH_P_IP,
            Family::V6 => libc::ETH_P_IPV6,
        };
        sys::bind_packet(fd, protocol as u16, index)?;
        // An interface that is down can be bound to, and says so afterwards.
        match SockRef::from(&fd).take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use super::super::Family;
    use crate::sys::Instruction;
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};

    fn none<T>() -> io::Result<T> {
        let what = "packet sockets are Linux's: use `udp` in place of `capture`";
        Err(io::Error::new(io::ErrorKind::Unsupported, what))
    }

    pub(in crate::daemon) fn open() -> io::Result<OwnedFd> {
        none()
    }

    pub(in super::super) fn attach(_: BorrowedFd<'_>, _: &[Instruction]) -> io::Result<()> {
        none()
    }

    pub(in super::super) fn lock(_: BorrowedFd<'_>) -> io::Result<()> {
        none()
    }

    pub(in super::super) fn bind(_: BorrowedFd<'_>, _: Family, _: Option<&str>) -> io::Result<()> {
        none()
    }
}

#[cfg(target_os = "linux")]
pub(in crate::daemon) use linux::open;
#[cfg(target_os = "linux")]
pub(super) use linux::{attach, bind, lock};
#[cfg(not(target_os = "linux"))]
pub(in crate::daemon) use none::open;
#[cfg(not(target_os = "linux"))]
pub(super) use none::{attach, bind, lock};
