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

use super::batch::{Batch, Room};
use super::config::Capturing;
use super::system::own_addresses;
use crate::crypto::Door;
use crate::engine::Mode;
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

/// The program of a capture of sealed packets.
#[cfg(test)]
pub(super) fn filter_of(
    family: Family,
    wanted: &[crate::access::Ports],
    doors: &[Door],
) -> super::admission::Program {
    filter::assemble(family, wanted, Some(doors))
}

/// What user space reads out of a packet to one of those ports.
#[cfg(test)]
pub(super) fn reads<'a>(
    family: Family,
    packet: &'a [u8],
    wanted: &[crate::access::Ports],
) -> Option<&'a [u8]> {
    parse::parse(family, packet).filter(|c| parse::is_wanted(c, wanted)).map(|c| c.payload)
}

/// What a packet is.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// A packet that counts for nothing.
    Other,
    /// A packet to a port that is watched.
    Packet(Captured<'a>),
}

/// A capture of one family that runs.
pub(super) struct Capture {
    fd: OwnedFd,
    room: Room,
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
        doors: &[Door],
        now: Mono,
    ) -> io::Result<Capture> {
        let doors = match what.mode {
            Mode::Spa => Some(doors),
            Mode::Plain | Mode::Knock => None,
        };
        let program = filter::assemble(family, &what.ports, doors);
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
        let mut capture =
            Capture { fd, room: Room::new(), family, what, local, filtered, bound, tried };
        if let Err(why) = capture.bind() {
            capture.lost(&why);
        }
        Ok(capture)
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether it captures just that.
    pub(super) fn is_of(&self, family: Family, what: &Capturing) -> bool {
        (self.family, &self.what) == (family, what)
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

    /// Takes what waits at the socket; how many packets that are.
    pub(super) fn receive(&mut self, batch: &mut Batch, now: Mono) -> usize {
        batch.receive(self.fd.as_fd(), &mut self.room).unwrap_or_else(|why| {
            if self.bound {
                self.lost(&why);
                self.tried = now;
            }
            0
        })
    }

    /// Reads a packet that was taken. Only packets to an address of this machine count.
    pub(super) fn read<'a>(&mut self, batch: &'a Batch, at: usize, now: Mono) -> Received<'a> {
        let Some((bytes, to_us)) = batch.packet(at) else { return Received::Other };
        // Where the hardware address is longer than the kernel's structure, the filter has looked.
        if !to_us.unwrap_or(self.filtered) {
            return Received::Other;
        }
        let Some(captured) = parse::parse(self.family, bytes) else {
            return Received::Other;
        };
        let counts = parse::is_wanted(&captured, &self.what.ports)
            && self.local.has(captured.to, now, own_addresses);
        if counts { Received::Packet(captured) } else { Received::Other }
    }
}
