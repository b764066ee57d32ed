//! Packet sockets (packet(7)): what binds one.
#![allow(unsafe_code)]

use nix::libc;
use nix::sys::socket::{LinkAddr, SockaddrLike, bind};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Lets a packet socket receive one Ethernet protocol (`ETH_P_*`), from one interface or (0) from all.
///
/// # Errors
/// As bind(2); ENODEV where there is no such interface.
pub fn bind_packet(fd: BorrowedFd<'_>, protocol: u16, interface: u32) -> io::Result<()> {
    let index = i32::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput)?;
    let link = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the pointer is to a whole `sockaddr_ll` of this family, which lives until the end of
    // this function; its bytes are copied.
    let address = unsafe { LinkAddr::from_raw((&raw const link).cast(), Some(length)) };
    let address = address.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(bind(fd.as_raw_fd(), &address)?)
}
