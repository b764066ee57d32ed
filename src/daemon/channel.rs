//! One end of the socket between the processes: frames in, frames out, never blocking.

use super::frame::{FRAME, Frame, decode, encode};
use crate::sys;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use zeroize::Zeroize;

/// The most frames that wait to be sent before the sender is told to wait.
const MANY: usize = 4_096;
/// How many frames go in one write, and come in one read.
const BLOCK: usize = 64;

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

/// The bytes of some frames; they hold keys, so they never move, and are wiped.
struct Block {
    bytes: Vec<u8>,
}

impl Block {
    fn new() -> Block {
        Block { bytes: Vec::with_capacity(BLOCK * FRAME) }
    }

    fn has_room(&self) -> bool {
        self.bytes.len() + FRAME <= BLOCK * FRAME
    }

    fn wipe(&mut self) {
        self.bytes.as_mut_slice().zeroize();
        self.bytes.clear();
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.wipe();
    }
}

struct Outgoing {
    block: Block,
    sent: usize,
    /// They go with the first byte of the block.
    fds: Vec<OwnedFd>,
}

/// A socket that carries frames.
pub(super) struct Channel {
    stream: UnixStream,
    outgoing: VecDeque<Outgoing>,
    waiting: usize,
    /// One that was sent, for the next frames.
    spare: Option<Block>,
    incoming: Block,
    /// What has arrived and was not taken yet.
    from: usize,
    to: usize,
    /// Descriptors may come with frames; `[priv]` takes none.
    takes: bool,
    fds: VecDeque<OwnedFd>,
}

impl Channel {
    /// Takes one end of a socket pair; `takes`: descriptors may come with the frames.
    pub(super) fn new(stream: UnixStream, takes: bool) -> io::Result<Channel> {
        stream.set_nonblocking(true)?;
        let mut incoming = Block::new();
        incoming.bytes.resize(BLOCK * FRAME, 0);
        Ok(Channel {
            stream,
            outgoing: VecDeque::new(),
            waiting: 0,
            spare: None,
            incoming,
            from: 0,
            to: 0,
            takes,
            fds: VecDeque::new(),
        })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Queues a frame; [`Channel::flush`] sends it.
    pub(super) fn push(&mut self, frame: &Frame, generation: u32, fds: Vec<OwnedFd>) {
        let bytes = encode(frame, generation);
        self.waiting += 1;
        if fds.is_empty()
            && let Some(last) = self.outgoing.back_mut().filter(|last| last.block.has_room())
        {
            last.block.bytes.extend_from_slice(bytes.as_slice());
            return;
        }
        let mut block = self.spare.take().unwrap_or_else(Block::new);
        block.bytes.extend_from_slice(bytes.as_slice());
        self.outgoing.push_back(Outgoing { block, sent: 0, fds });
    }

    /// How many frames wait to be sent.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Whether something waits to be sent.
    pub(super) fn is_waiting(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether so much waits that no more should be made.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= MANY
    }

    /// Whether a frame has arrived that the socket does not tell of any more: it is here already, and
    /// who would wait for the socket must not.
    pub(super) fn is_ready(&self) -> bool {
        self.to - self.from >= FRAME
    }

    /// Sends what the socket takes.
    pub(super) fn flush(&mut self) -> Result<(), Broken> {
        while let Some(next) = self.outgoing.front_mut() {
            let Some(rest) = next.block.bytes.get(next.sent..) else { return Err(Broken::Frame) };
            match sys::send(&self.stream, rest, &next.fds) {
                Ok(sent) => {
                    next.fds.clear();
                    let before = next.sent / FRAME;
                    next.sent += sent;
                    self.waiting -= next.sent / FRAME - before;
                    if next.sent == next.block.bytes.len() {
                        let done = self.outgoing.pop_front();
                        self.spare = done.map(|done| done.block);
                        self.spare.iter_mut().for_each(Block::wipe);
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
        while !self.is_ready() {
            self.make_room();
            let Some(room) = self.incoming.bytes.get_mut(self.to..) else {
                return Err(Broken::Frame);
            };
            // A plain read leaves descriptors to the kernel, which lets go of them.
            let received = match self.takes {
                true => sys::receive(&self.stream, room),
                false => (&self.stream).read(room).map(|n| (n, Vec::new())),
            };
            match received {
                Ok((0, _)) => return Err(Broken::Gone),
                Ok((n, fds)) => {
                    self.to += n;
                    self.fds.extend(fds);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Err(Broken::Gone),
                Err(e) => return Err(Broken::Io(e)),
            }
        }
        let whole = self.incoming.bytes.get_mut(self.from..).and_then(|b| b.first_chunk_mut());
        let Some(bytes) = whole else { return Err(Broken::Frame) };
        let frame = decode(bytes).ok_or(Broken::Frame);
        bytes.zeroize();
        self.from += FRAME;
        frame.map(Some)
    }

    /// Puts the piece of a frame that is here to the front, where all of it has room.
    fn make_room(&mut self) {
        self.incoming.bytes.copy_within(self.from..self.to, 0);
        let left = self.to - self.from;
        if let Some(old) = self.incoming.bytes.get_mut(left..self.to) {
            old.zeroize();
        }
        (self.from, self.to) = (0, left);
    }

    /// The next descriptor that has arrived.
    pub(super) fn take_fd(&mut self) -> Option<OwnedFd> {
        self.fds.pop_front()
    }
}

#[cfg(test)]
mod tests;
