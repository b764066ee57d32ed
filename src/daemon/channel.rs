//! One end of the socket between the processes: frames in, frames out, never blocking.

use super::frame::{Bytes, FRAME, Frame, decode, encode};
use crate::sys;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use zeroize::{Zeroize, Zeroizing};

/// The most frames that wait to be sent before the sender is told to wait.
const MANY: usize = 4_096;

/// Why the other process is no partner any more.
#[derive(Debug)]
pub(super) enum Broken {
    /// It is gone.
    Gone,
    /// It does not begin.
    Silent,
    /// The socket failed.
    Io(io::Error),
    /// It sent what no sound process sends.
    Frame,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Broken::Gone => f.write_str("it is gone"),
            Broken::Silent => f.write_str("it has not begun within a minute"),
            Broken::Io(e) => write!(f, "its socket failed: {e}"),
            Broken::Frame => f.write_str("it sent a frame that makes no sense"),
        }
    }
}

struct Outgoing {
    bytes: Bytes,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// A socket that carries frames.
pub(super) struct Channel {
    stream: UnixStream,
    outgoing: VecDeque<Outgoing>,
    incoming: Bytes,
    have: usize,
    /// Descriptors may come with frames; `[priv]` takes none.
    takes: bool,
    fds: VecDeque<OwnedFd>,
}

impl Channel {
    /// Takes one end of a socket pair; `takes`: descriptors may come with the frames.
    pub(super) fn new(stream: UnixStream, takes: bool) -> io::Result<Channel> {
        stream.set_nonblocking(true)?;
        Ok(Channel {
            stream,
            outgoing: VecDeque::new(),
            incoming: Zeroizing::new([0; FRAME]),
            have: 0,
            takes,
            fds: VecDeque::new(),
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Queues a frame; [`Channel::flush`] sends it.
    pub(super) fn push(&mut self, frame: &Frame, generation: u32, fds: Vec<OwnedFd>) {
        self.outgoing.push_back(Outgoing { bytes: encode(frame, generation), sent: 0, fds });
    }

    /// How many frames wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.outgoing.len()
    }

    /// Whether something waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether so much waits that no more should be made.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() >= MANY
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Broken> {
        while let Some(next) = self.outgoing.front_mut() {
            match sys::send(&self.stream, &next.bytes[next.sent..], &next.fds) {
                Ok(sent) => {
                    next.fds.clear();
                    next.sent += sent;
                    if next.sent == FRAME {
                        self.outgoing.pop_front();
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Err(Broken::Gone),
                Err(e) => return Err(Broken::Io(e)),
            }
        }
        Ok(())
    }

    /// The next whole frame that has arrived, if there is one.
    pub(super) fn next(&mut self) -> Result<Option<(Frame, u32)>, Broken> {
        while self.have < FRAME {
            let room = &mut self.incoming[self.have..];
            // A plain read leaves descriptors to the kernel, which lets go of them.
            let received = match self.takes {
                true => sys::receive(&self.stream, room),
                false => (&self.stream).read(room).map(|n| (n, Vec::new())),
            };
            match received {
                Ok((0, _)) => return Err(Broken::Gone),
                Ok((n, fds)) => {
                    self.have += n;
                    self.fds.extend(fds);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(Broken::Gone),
                Err(e) => return Err(Broken::Io(e)),
            }
        }
        self.have = 0;
        let frame = decode(&self.incoming).ok_or(Broken::Frame);
        self.incoming.zeroize();
        frame.map(Some)
    }

    /// The next descriptor that has arrived.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}
