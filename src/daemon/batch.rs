//! What waits at a socket, many datagrams in one call (recvmmsg(2)), in memory that is set aside
//! once.

use nix::sys::socket::SockaddrStorage;
use std::io;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::BorrowedFd;

/// The most datagrams that are taken from one socket before the others get their turn.
pub(super) const BATCH: usize = 64;
/// The largest datagram that is read whole; longer ones are of the wrong length anyway.
const LARGEST: usize = 2_048;

/// One datagram, without its bytes.
#[derive(Clone, Copy, Default)]
struct Taken {
    length: usize,
    peer: Option<SocketAddr>,
    /// Of a packet socket: it came to this host's own hardware address.
    to_host: Option<bool>,
}

/// The datagrams of one call.
pub(super) struct Batch {
    buffers: Box<[[u8; LARGEST]]>,
    taken: [Taken; BATCH],
    count: usize,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let buffers = vec![[0; LARGEST]; BATCH].into_boxed_slice();
        Batch { buffers, taken: [Taken::default(); BATCH], count: 0 }
    }

    /// The bytes of a datagram, and where it says that it comes from; none for one that came from
    /// nowhere.
    pub(super) fn datagram(&self, at: usize) -> Option<(&[u8], SocketAddr)> {
        let taken = self.taken[..self.count].get(at)?;
        Some((&self.buffers[at][..taken.length], taken.peer?))
    }

    /// A captured packet, and whether it was sent to this host's own hardware address, if that is
    /// told.
    pub(super) fn packet(&self, at: usize) -> Option<(&[u8], Option<bool>)> {
        let taken = self.taken[..self.count].get(at)?;
        Some((&self.buffers[at][..taken.length], taken.to_host))
    }

    /// Takes what waits at the socket, which must not block; how many datagrams that were: 0 if it
    /// was interrupted, or if there was nothing.
    ///
    /// # Errors
    /// As recvmmsg(2).
    pub(super) fn receive(&mut self, fd: BorrowedFd<'_>, room: &mut Room) -> io::Result<usize> {
        self.count = 0;
        let nothing = |e: &io::Error| {
            matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        };
        match room.receive(fd, self) {
            Err(e) if !nothing(&e) => Err(e),
            Ok(()) | Err(_) => Ok(self.count),
        }
    }
}

fn peer(from: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = from.as_sockaddr_in().map(|a| SocketAddrV4::from(*a).into());
    v4.or_else(|| from.as_sockaddr_in6().map(|a| SocketAddrV6::from(*a).into()))
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
mod many {
    use super::{BATCH, Batch, Taken, peer};
    use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
    use std::io::{self, IoSliceMut};
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// What the calls on one socket need beside the buffers. Each socket has its own: the kernel
    /// writes into it how long an address was, and takes that for how long the next may be.
    pub(in crate::daemon) struct Room(MultiHeaders<SockaddrStorage>);

    impl Room {
        pub(in crate::daemon) fn new() -> Room {
            Room(MultiHeaders::preallocate(BATCH, None))
        }

        pub(super) fn receive(&mut self, fd: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<()> {
            let mut buffers = batch.buffers.iter_mut();
            // There are as many buffers as places.
            let mut slices: [_; BATCH] = std::array::from_fn(|_| {
                [IoSliceMut::new(buffers.next().map_or(&mut [][..], |b| b.as_mut_slice()))]
            });
            let flags = MsgFlags::MSG_DONTWAIT;
            let received = recvmmsg(fd.as_raw_fd(), &mut self.0, &mut slices, flags, None)?;
            for (message, taken) in received.zip(&mut batch.taken) {
                let from = message.address.as_ref();
                *taken = Taken {
                    length: message.bytes,
                    peer: from.and_then(peer),
                    to_host: from.and_then(to_host),
                };
                batch.count += 1;
            }
            Ok(())
        }
    }

    #[cfg(target_os = "linux")]
    fn to_host(from: &SockaddrStorage) -> Option<bool> {
        from.as_link_addr().map(|a| a.pkttype() == nix::libc::PACKET_HOST)
    }

    #[cfg(not(target_os = "linux"))]
    fn to_host(_: &SockaddrStorage) -> Option<bool> {
        None
    }
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
mod many {
    use super::{BATCH, Batch, Taken, peer};
    use nix::sys::socket::{SockaddrStorage, recvfrom};
    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd};

    /// Nothing: here each datagram takes a call.
    pub(in crate::daemon) struct Room;

    impl Room {
        pub(in crate::daemon) fn new() -> Room {
            Room
        }

        pub(super) fn receive(&mut self, fd: BorrowedFd<'_>, batch: &mut Batch) -> io::Result<()> {
            while batch.count < BATCH {
                let buffer = &mut batch.buffers[batch.count];
                let (length, from) = match recvfrom::<SockaddrStorage>(fd.as_raw_fd(), buffer) {
                    Ok(received) => received,
                    Err(_) if batch.count > 0 => return Ok(()),
                    Err(e) => return Err(e.into()),
                };
                let peer = from.as_ref().and_then(peer);
                batch.taken[batch.count] = Taken { length, peer, to_host: None };
                batch.count += 1;
            }
            Ok(())
        }
    }
}

pub(super) use many::Room;
