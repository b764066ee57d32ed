//! Packets taken before the firewall and without a port that is open: AF_PACKET sockets (packet(7)).
//!
//! `[priv]` opens them, which takes CAP_NET_RAW, with no protocol, so that nothing arrives; `[engine]`
//! attaches the filter, locks it, and only then binds. The port itself stays as closed as its
//! neighbours. A locked filter stays, so every `[engine]` gets sockets of its own.

mod filter;
mod local;
mod parse;
mod socket;
#[cfg(test)]
mod tests;

pub(super) use parse::Captured;
pub(super) use socket::open;

use super::config::Capturing;
use super::system::own_addresses;
use crate::engine::Mode;
use crate::proto::DATAGRAM;
use crate::time::Mono;
use local::Local;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How often an interface that is not there is looked for: ms.
const AGAIN: u64 = 1_000;

/// The two families, each of which has a socket of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What one look at a socket gave.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// There is no more for now.
    Nothing,
    /// A packet that counts for nothing.
    Other,
    /// A packet to a port that is watched.
    Packet(Captured<'a>),
}

/// A capture of one family that runs.
pub(super) struct Capture {
    fd: OwnedFd,
    family: Family,
    what: Capturing,
    local: Local,
    /// The kernel filters.
    filtered: bool,
    bound: bool,
    tried: Mono,
}

impl Capture {
    /// Begins to capture with a fresh socket of [`open`].
    ///
    /// An interface that is not there is waited for; a kernel that takes no filter is told of, and
    /// the same is then asked in user space alone.
    ///
    /// # Errors
    /// When the filter would not stay: the socket must not be used then.
    pub(super) fn start(
        fd: OwnedFd,
        family: Family,
        what: Capturing,
        now: Mono,
    ) -> io::Result<Capture> {
        let length = match what.mode {
            Mode::Spa => Some(DATAGRAM as u16),
            Mode::Plain | Mode::Knock => None,
        };
        let program = filter::assemble(family, &what.ports, length);
        let filtered = match socket::attach(fd.as_fd(), &program) {
            Ok(()) => true,
            Err(e) => {
                log::warn!("capture: the kernel takes no filter ({e}): every packet is looked at");
                false
            }
        };
        if filtered {
            socket::lock(fd.as_fd())?;
        }
        let (local, bound, tried) = (Local::default(), false, now);
        let mut capture = Capture { fd, family, what, local, filtered, bound, tried };
        if let Err(why) = capture.bind() {
            capture.lost(&why);
        }
        Ok(capture)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What its packets are taken as.
    pub(super) fn mode(&self) -> Mode {
        self.what.mode
    }

    /// Whether packets can come; if not, [`Capture::mend`] wants to be called again and again.
    pub(super) fn is_bound(&self) -> bool {
        self.bound
    }

    /// Binds again when the interface is back.
    pub(super) fn mend(&mut self, now: Mono) {
        if self.bound || now.since(self.tried) < AGAIN {
            return;
        }
        self.tried = now;
        if self.bind().is_ok() {
            log::info!("capture on {}: back again", self.what.place());
        }
    }

    fn bind(&mut self) -> io::Result<()> {
        socket::bind(self.fd.as_fd(), self.family, self.what.interface.as_deref())?;
        self.bound = true;
        Ok(())
    }

    fn lost(&mut self, why: &io::Error) {
        self.bound = false;
        log::warn!("capture on {}: {why}; looking for it every second", self.what.place());
    }

    /// Takes the next packet out of the socket, if there is one.
    ///
    /// `buffer` has room for a whole packet that counts. Only packets to an address of this machine do.
    pub(super) fn receive<'a>(&mut self, buffer: &'a mut [u8], now: Mono) -> Received<'a> {
        let (length, to_us) = match socket::receive(self.fd.as_fd(), buffer) {
            Ok(received) => received,
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock) => return Received::Nothing,
            Err(e) if matches!(e.kind(), io::ErrorKind::Interrupted) => return Received::Other,
            Err(why) => {
                if self.bound {
                    self.lost(&why);
                    self.tried = now;
                }
                return Received::Nothing;
            }
        };
        // Where the hardware address is longer than the kernel's structure, the filter has looked.
        if !to_us.unwrap_or(self.filtered) {
            return Received::Other;
        }
        let Some(captured) = parse::parse(self.family, &buffer[..length]) else {
            return Received::Other;
        };
        let counts = parse::is_wanted(&captured, &self.what.ports)
            && self.local.has(captured.to, now, own_addresses);
        if counts { Received::Packet(captured) } else { Received::Other }
    }
}
