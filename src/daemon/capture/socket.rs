//! The calls on a packet socket; where there are none, their absence.

#[cfg(target_os = "linux")]
mod linux {
    use super::super::Family;
    use super::super::filter::Instruction;
    use crate::sys;
    use nix::errno::Errno;
    use nix::libc;
    use nix::net::if_::if_nametoindex;
    use nix::sys::socket::{
        AddressFamily, LinkAddr, SockFlag, SockType, recvfrom, setsockopt, socket, sockopt,
    };
    use socket2::{SockFilter, SockRef};
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

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
        let one = |i: &Instruction| SockFilter::new(i.code, i.yes, i.no, i.k);
        SockRef::from(&fd).attach_filter(&program.iter().map(one).collect::<Vec<_>>())
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

    /// A packet's length, and whether it was sent to this host's own hardware address, if that is
    /// told.
    pub(in super::super) fn receive(
        fd: BorrowedFd<'_>,
        buffer: &mut [u8],
    ) -> io::Result<(usize, Option<bool>)> {
        match recvfrom::<LinkAddr>(fd.as_raw_fd(), buffer) {
            Ok((length, from)) => Ok((length, from.map(|f| f.pkttype() == libc::PACKET_HOST))),
            Err(Errno::EINTR) => Err(io::ErrorKind::Interrupted.into()),
            Err(e) => Err(e.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod none {
    use super::super::Family;
    use super::super::filter::Instruction;
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

    pub(in super::super) fn receive(
        _: BorrowedFd<'_>,
        _: &mut [u8],
    ) -> io::Result<(usize, Option<bool>)> {
        none()
    }
}

#[cfg(target_os = "linux")]
pub(in crate::daemon) use linux::open;
#[cfg(target_os = "linux")]
pub(super) use linux::{attach, bind, lock, receive};
#[cfg(not(target_os = "linux"))]
pub(in crate::daemon) use none::open;
#[cfg(not(target_os = "linux"))]
pub(super) use none::{attach, bind, lock, receive};
