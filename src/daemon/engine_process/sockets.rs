//! The sockets, what is waited for, and what the kernel is told to refuse.

use super::{AGAIN, Process};
use crate::daemon::batch::{Batch, Room};
use crate::daemon::capture::Capture;
use crate::daemon::channel::Channel;
use crate::daemon::config::{MOST_CAPTURES, MOST_LISTENERS};
use crate::daemon::{admission, clock};
use crate::engine::Mode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::UdpSocket;
use std::os::fd::AsFd;

/// The most sockets that strangers' packets come to.
const SOCKETS: usize = MOST_LISTENERS + 2 * MOST_CAPTURES;

/// Who has something to say.
pub(super) struct Ready {
    pub(super) channel: bool,
    pub(super) syncer: bool,
    pub(super) sockets: [bool; SOCKETS],
}

/// A UDP socket and what it takes.
pub(super) struct Inbox {
    pub(super) socket: UdpSocket,
    pub(super) mode: Mode,
    pub(super) port: u16,
    pub(super) room: Room,
}

impl Inbox {
    pub(super) fn new(socket: UdpSocket, mode: Mode) -> std::io::Result<Inbox> {
        let port = socket.local_addr()?.port();
        Ok(Inbox { socket, mode, port, room: Room::new() })
    }
}

impl Process {
    /// Waits until there is something to do; who has something to say.
    pub(super) fn wait(&self, channel: &Channel) -> Result<Ready, String> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, channel.is_waiting());
        let own = [
            PollFd::new(channel.as_fd(), interest),
            PollFd::new(self.syncer.woken.as_fd(), PollFlags::POLLIN),
        ];
        let sockets = self.sockets.iter().map(|i| i.socket.as_fd());
        let sockets = sockets.chain(self.captures.iter().map(Capture::as_fd)).take(SOCKETS);
        let count = 2 + sockets.clone().count();
        let none = || PollFd::new(channel.as_fd(), PollFlags::empty());
        let mut all = own.into_iter().chain(sockets.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let mut fds: [_; 2 + SOCKETS] = std::array::from_fn(|_| all.next().unwrap_or_else(none));
        let timeout = match channel.is_ready() {
            true => PollTimeout::ZERO,
            false => self.timeout(),
        };
        match poll(&mut fds[..count], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.to_string()),
        }
        let has = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let mut sockets = [false; SOCKETS];
        fds[2..count].iter().zip(&mut sockets).for_each(|(fd, ready)| *ready = has(fd));
        let channel = has(&fds[0]) || channel.is_ready();
        Ok(Ready { channel, syncer: has(&fds[1]), sockets })
    }

    /// When there is something to do even if nobody says so.
    fn timeout(&self) -> PollTimeout {
        let waits = self.engine.wants_segment() || self.engine.has_commands();
        let waits = waits || self.captures.iter().any(|c| !c.is_bound());
        let now = || clock::now().mono;
        let line = self.summary.poll_timeout().map(|due| due.since(now()) + 1);
        match waits.then_some(AGAIN).into_iter().chain(line).min() {
            Some(ms) => PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        }
    }

    /// Lets the kernel refuse, at each socket, what no door admits.
    pub(super) fn admit(&mut self) {
        for inbox in self.sockets.iter().filter(|i| i.mode == Mode::Spa) {
            match admission::attach(inbox.socket.as_fd(), self.engine.doors()) {
                Err(why) if !self.said => {
                    self.said = true;
                    log::warn!(
                        "the kernel does not refuse strangers' packets ({why}): each is looked at here"
                    );
                }
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// How many packets the kernel has not let wait: for lack of room, and at UDP sockets those that
    /// no door admits.
    pub(super) fn dropped(&self) -> u64 {
        let sockets = self.sockets.iter().map(|i| i.socket.as_fd());
        let all = sockets.chain(self.captures.iter().map(Capture::as_fd));
        all.map(|fd| u64::from(admission::dropped(fd))).sum()
    }

    /// Captures with a fresh socket, in place of one that captures the same.
    pub(super) fn capture(&mut self, fresh: Capture, batch: &mut Batch) {
        match self.captures.iter().position(|c| c.is_like(&fresh)) {
            Some(index) => {
                // What waits there was taken by older keys, which may still be good.
                self.receive(self.sockets.len() + index, batch, clock::now());
                self.captures[index] = fresh;
            }
            None => self.captures.push(fresh),
        }
    }
}
