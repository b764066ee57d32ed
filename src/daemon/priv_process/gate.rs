//! The life of `[gate]`: its sockets bound, started, heard, started again.

use super::{MOST_WAITING, PAUSE, Priv};
use crate::daemon::channel::Broken;
use crate::daemon::config::Gate;
use crate::daemon::frame::Frame;
use crate::daemon::serve;
use crate::daemon::site::{MOST_LISTENERS, Site};
use crate::daemon::system::{self, Partner, ServeError};
use crate::engine::suspicion::Ban;
use crate::time::{Mono, Now};
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// A `[gate]` that has lived so long is started again at once: ms.
const SOUND: u64 = 60_000;
/// The most questions that are taken in one turn: strangers make them.
const QUESTIONS: usize = 256;

/// What `[priv]` keeps for `[gate]`, from one life of it to the next.
pub(super) struct Door {
    user: Option<(u32, u32)>,
    listeners: Vec<TcpListener>,
    root: OwnedFd,
    partner: Option<Partner>,
    started: Mono,
    failures: u32,
    again: Option<Mono>,
}

impl Door {
    /// The process, if it runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.partner.as_ref().map(|p| p.child.id())
    }

    /// What to wait for, and whether there is something to send.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.partner.as_ref().map(|p| (p.channel.as_fd(), p.channel.is_waiting()))
    }

    /// Whether something that it has asked waits here.
    pub(super) fn is_ready(&self) -> bool {
        self.partner.as_ref().is_some_and(|p| p.channel.is_ready())
    }

    /// When it is to be started again.
    pub(super) fn again(&self) -> Option<Mono> {
        self.again
    }

    fn start(&mut self, gate: &Gate, bans: &[Ban], now: Now) -> Result<(), String> {
        let spawned = system::spawn("gate-process");
        let mut partner = spawned.map_err(|e| format!("cannot start [gate]: {e}"))?;
        let mut fds = vec![self.root.try_clone().map_err(|e| e.to_string())?];
        for listener in &self.listeners {
            fds.push(listener.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?);
        }
        let mut frames = vec![Site::User(self.user)];
        for (path, file) in &gate.files {
            frames.push(Site::Path(path.clone()));
            frames.push(Site::File(file.to_string_lossy().into_owned()));
        }
        frames.extend(gate.ignore.iter().cloned().map(Site::Ignore));
        frames.extend(gate.proxies.iter().copied().map(Site::Proxy));
        let go = Frame::Site(Site::Go(self.listeners.len().min(MOST_LISTENERS) as u8));
        let told = frames.into_iter().map(Frame::Site);
        // Who is blocked is known before anybody is served.
        for frame in told.chain(bans.iter().copied().map(Frame::Ban)) {
            partner.channel.push(&frame, 0, vec![]);
        }
        partner.channel.push(&go, 0, fds);
        self.partner = Some(partner);
        self.started = now.mono;
        Ok(())
    }

    fn lost(&mut self, why: &Broken, now: Now) {
        self.partner = None;
        if now.mono.since(self.started) > SOUND {
            self.failures = 0;
        }
        let pause = PAUSE.1.min(PAUSE.0 << self.failures.min(10));
        self.failures += 1;
        self.again = Some(now.mono.plus(pause));
        log::error!("[gate]: {why}; starting it again in {pause} ms");
    }
}

impl Priv {
    /// Binds the sockets of `[gate]`, opens its directory, and starts it.
    pub(super) fn open_gate(&mut self, now: Now) -> Result<(), ServeError> {
        let Some(gate) = &self.config.gate else { return Ok(()) };
        let listeners: Result<Vec<_>, _> =
            gate.listen.iter().map(|at| system::bind_tcp(*at)).collect();
        let root = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_DIRECTORY)
            .open(&gate.root)
            .map_err(|e| {
                ServeError::System(format!("[http-gate] root: {}: {e}", gate.root.display()))
            })?;
        self.door = Some(Door {
            user: serve::gate_user(self.user)?,
            listeners: listeners?,
            root: root.into(),
            partner: None,
            started: now.mono,
            failures: 0,
            again: Some(now.mono),
        });
        self.look_after_gate(now);
        Ok(())
    }

    /// Starts `[gate]` again when it is time.
    pub(super) fn look_after_gate(&mut self, now: Now) {
        let bans = match &self.door {
            Some(door) if door.again.is_some_and(|at| at <= now.mono) => self.bans(now),
            Some(_) | None => return,
        };
        let (Some(door), Some(gate)) = (&mut self.door, &self.config.gate) else { return };
        door.again = None;
        if let Err(why) = door.start(gate, &bans, now) {
            log::error!("{why}");
            door.lost(&Broken::Gone, now);
        }
    }

    /// What `[gate]` has asked.
    pub(super) fn listen_to_gate(&mut self, now: Now) {
        for _ in 0..QUESTIONS {
            let Some(partner) = self.door.as_mut().and_then(|d| d.partner.as_mut()) else { return };
            match partner.channel.next() {
                Ok(Some((Frame::Strike { ticket, from }, _))) => {
                    self.suspect(ticket, from, None, now)
                }
                Ok(Some((Frame::Guess { ticket, from, pin }, _))) => {
                    self.suspect(ticket, from, Some(pin), now);
                }
                Ok(None) => break,
                Ok(Some(_)) => return self.gate_lost(&Broken::Frame, now),
                Err(why) => return self.gate_lost(&why, now),
            }
        }
    }

    fn gate_lost(&mut self, why: &Broken, now: Now) {
        self.door.iter_mut().for_each(|door| door.lost(why, now));
    }

    /// Sends what waits for `[gate]`; one that does not read is given up.
    pub(super) fn flush_gate(&mut self, now: Now) {
        let Some(partner) = self.door.as_mut().and_then(|d| d.partner.as_mut()) else { return };
        let _ = partner.channel.flush();
        if partner.channel.waiting() > MOST_WAITING {
            self.gate_lost(&Broken::Frame, now);
        }
    }

    /// Passes on what `[gate]` has to know.
    pub(super) fn tell_gate(&mut self, frame: &Frame) {
        if let Some(partner) = self.door.as_mut().and_then(|d| d.partner.as_mut()) {
            partner.channel.push(frame, 0, vec![]);
        }
    }
}
