//! Knocks: one empty-handed packet for each step.

use super::send::socket_to;
use crate::access::{Ports, Protocol};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// What a UDP knock carries: nobody reads it, but some relays drop what is empty.
const CONTENT: [u8; 1] = [0];

/// Touches a port of each address once, without waiting for an answer; how many could be sent.
///
/// # Errors
/// When not one of them could be.
pub fn knock(to: &[IpAddr], step: Ports) -> io::Result<usize> {
    let mut last = io::Error::other("no address to send to");
    let mut sent = 0;
    for address in to {
        let to = SocketAddr::new(*address, step.first());
        let done = match step.protocol() {
            Protocol::Udp => socket_to(to).and_then(|s| s.send(&CONTENT)).map(|_| ()),
            Protocol::Tcp => syn(to),
        };
        match done {
            Ok(()) => sent += 1,
            Err(e) => last = e,
        }
    }
    if sent == 0 { Err(last) } else { Ok(sent) }
}

/// Begins a connection and gives it up at once: the kernel has sent one SYN by then.
fn syn(to: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(e) if e.raw_os_error() == Some(nix::libc::EINPROGRESS) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        outcome => outcome,
    }
}
