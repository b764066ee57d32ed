//! The sockets, what is waited for, and what the kernel is told to refuse.

use super::{AGAIN, Process};
use crate::daemon::batch::{Batch, Room};
use crate::daemon::capture::{Capture, Family};
use crate::daemon::channel::Channel;
use crate::daemon::config::{Capturing, MOST_CAPTURES, MOST_LISTENERS};
use crate::daemon::{admission, clock};
use crate::engine::Mode;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};

/// The most sockets that strangers' packets come to.
const SOCKETS: usize = MOST_LISTENERS + 2 * MOST_CAPTURES;

/// So many times a capture that is given up is read once more.
const LAST_BATCHES: usize = 64;

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
        self.dropped_before + all.map(|fd| u64::from(admission::dropped(fd))).sum::<u64>()
    }

    /// Captures with fresh sockets, in place of those that capture the same by older keys.
    pub(super) fn capture(
        &mut self,
        what: Capturing,
        fds: [OwnedFd; 2],
        batch: &mut Batch,
    ) -> Result<(), String> {
        for (fd, family) in fds.into_iter().zip([Family::V4, Family::V6]) {
            let before = self.captures.iter().position(|c| c.is_of(family, &what));
            if before.is_some() && what.mode != Mode::Spa {
                // Nothing in its filter can have changed.
                continue;
            }
            let (doors, now) = (self.engine.doors(), clock::now());
            let fresh = Capture::start(fd, family, what.clone(), doors, now.mono);
            let fresh = fresh.map_err(|e| format!("capture: {e}"))?;
            let Some(index) = before else {
                self.captures.push(fresh);
                continue;
            };
            // What waits there was taken by older keys, which may still be good.
            for _ in 0..LAST_BATCHES {
                self.receive(self.sockets.len() + index, batch, now);
            }
            self.dropped_before += u64::from(admission::dropped(self.captures[index].as_fd()));
            self.captures[index] = fresh;
        }
        Ok(())
    }
}
