//! `[hook]`: runs what services' hooks name, with the rights of its own user and no more.
//!
//! It waits for nobody: each command has a session of its own, an end, and a pipe of which so much
//! is kept. What it cannot stop is a process that has left its command's process group; that one
//! only loses its way to the log.

mod command;

use super::channel::{Broken, Channel};
use super::clock;
use super::config::Word;
use super::engine_process::wait_for;
use super::frame::Frame;
use super::hook::{Hook, Order};
use crate::sys;
use crate::time::Now;
use command::Running;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use signal_hook::consts::SIGCHLD;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

/// Runs as `[hook]`, with one end of the socket pair as stdin, until `[priv]` is gone.
#[must_use]
pub fn run() -> ExitCode {
    super::system::be("hook", false, start)
}

fn start(mut channel: Channel) -> Result<(), String> {
    let Frame::Hook(Hook::User(user)) = wait_for(&mut channel)?.0 else {
        return Err(Broken::Frame.to_string());
    };
    super::rights::drop_all(user)?;
    // It sees the end of its channel when [priv] is gone, and ends the commands first.
    super::rights::outlive()?;
    sys::close_on_exec();
    umask(Mode::from_bits_truncate(0o077));
    std::env::set_current_dir("/").map_err(|e| e.to_string())?;
    let (ended, signal) = UnixStream::pair().map_err(|e| e.to_string())?;
    ended.set_nonblocking(true).map_err(|e| e.to_string())?;
    signal_hook::low_level::pipe::register(SIGCHLD, signal).map_err(|e| e.to_string())?;
    let mut process = Process { channel, ended, words: Vec::new(), running: Vec::new() };
    let outcome = process.serve();
    process.running.iter().for_each(Running::kill);
    outcome
}

struct Process {
    channel: Channel,
    /// Readable when a child has ended.
    ended: UnixStream,
    /// The command that is being told.
    words: Vec<Word>,
    running: Vec<Running>,
}

impl Process {
    fn serve(&mut self) -> Result<(), String> {
        let gone = |why: Broken| format!("[priv]: {why}");
        loop {
            self.channel.flush().map_err(gone)?;
            self.wait(clock::now()).map_err(|e| e.to_string())?;
            while let Some((frame, _)) = self.channel.next().map_err(gone)? {
                if frame == Frame::Stop {
                    return Ok(());
                }
                let Frame::Hook(part) = frame else { return Err(gone(Broken::Frame)) };
                match part {
                    Hook::Word(word) => self.words.push(word),
                    Hook::Run(order) => self.begin(order, clock::now())?,
                    Hook::Note(_) | Hook::User(_) | Hook::Ended(_) => {
                        return Err(gone(Broken::Frame));
                    }
                }
            }
            self.look(clock::now());
        }
    }

    fn wait(&self, now: Now) -> io::Result<()> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, self.channel.is_waiting());
        let mut fds = vec![
            PollFd::new(self.channel.as_fd(), interest),
            PollFd::new(self.ended.as_fd(), PollFlags::POLLIN),
        ];
        let pipes = self.running.iter().filter_map(Running::pipe);
        fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        let next = self.running.iter().map(Running::due).min();
        let timeout = match next {
            // What has arrived already is told of by no socket.
            _ if self.channel.is_ready() => PollTimeout::ZERO,
            Some(at) => PollTimeout::from(at.since(now.mono).min(60_000) as u16),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut bytes = [0; 64];
        while (&self.ended).read(&mut bytes).is_ok_and(|n| n > 0) {}
        Ok(())
    }

    /// # Errors
    /// When it could not be started for a reason that passes: a process that begins again is told
    /// again of what is owed.
    fn begin(&mut self, order: Order, now: Now) -> Result<(), String> {
        let words = std::mem::take(&mut self.words);
        let ticket = order.ticket;
        match Running::start(order, &words, now) {
            Ok(running) => self.running.push(running),
            Err((why, true)) => return Err(why),
            Err((why, false)) => {
                log::warn!("{why}");
                self.channel.push(&Frame::Hook(Hook::Ended(ticket)), 0, vec![]);
            }
        }
        Ok(())
    }

    /// Reads what the commands say, and buries those that have ended.
    fn look(&mut self, now: Now) {
        let mut left = Vec::new();
        for mut running in std::mem::take(&mut self.running) {
            match running.look(now) {
                Some(ticket) => {
                    self.channel.push(&Frame::Hook(Hook::Ended(ticket)), 0, vec![]);
                }
                None => left.push(running),
            }
        }
        self.running = left;
    }
}
