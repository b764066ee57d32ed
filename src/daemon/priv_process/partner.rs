//! The life of `[engine]`: started, ready, lost, started again, told to end.

use super::{PATIENCE, PAUSE, Priv};
use crate::daemon::channel::Broken;
use crate::daemon::clients::Clients;
use crate::daemon::clock;
use crate::daemon::config::{Listen, ServerKey};
use crate::daemon::frame::{Begin, Frame};
use crate::daemon::system::{self, ServeError};
use crate::engine::Mode;
use crate::time::Now;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

impl Priv {
    /// Starts `[engine]` for the first time, and waits until it has said what it remembers.
    pub(super) fn begin(&mut self, key: ServerKey, clients: Clients) -> Result<(), ServeError> {
        self.find_pin().map_err(ServeError::System)?;
        self.start_engine(key, clients, clock::now()).map_err(ServeError::System)?;
        while !self.restored {
            self.feed();
            let Some(engine) = &mut self.engine else {
                let what = "[engine] ended at its start: its own line says why";
                return Err(ServeError::System(what.into()));
            };
            let _ = engine.channel.flush();
            let mut interest = PollFlags::POLLIN;
            interest.set(PollFlags::POLLOUT, engine.channel.is_waiting() || self.feed.waits());
            let mut fds = [
                PollFd::new(engine.channel.as_fd(), interest),
                PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            ];
            let ready = engine.channel.is_ready();
            let _ = poll(&mut fds, PollTimeout::from(if ready { 0 } else { 1_000u16 }));
            if fds[1].any().unwrap_or(false) {
                return Err(ServeError::System("told to stop before it was ready".into()));
            }
            self.listen_to_engine()?;
            self.look_after(clock::now());
        }
        self.open_gate(clock::now())
    }

    /// Starts `[engine]` and gives it the configuration; it answers when it has read its journal.
    fn start_engine(&mut self, key: ServerKey, clients: Clients, now: Now) -> Result<(), String> {
        let mut engine =
            system::spawn("engine-process").map_err(|e| format!("cannot start [engine]: {e}"))?;
        self.generation += 1;
        self.restored = false;
        self.restoring.clear();
        self.patience = now.mono.plus(PATIENCE);
        let journal = self.journal.try_clone().map_err(|e| e.to_string())?;
        let begin = Frame::Begin(Begin {
            server: key.id,
            window: self.config.policy.window,
            become_user: self.user,
        });
        engine.channel.push(&begin, self.generation, vec![journal]);
        self.engine = Some(engine);
        self.doors = key.fingerprint();
        self.doubt_bans();
        self.doubt_hooks();
        self.configure(key, clients, now);
        Ok(())
    }

    /// Starts `[engine]` again when it is time, and gives up one that does not begin.
    pub(super) fn look_after(&mut self, now: Now) {
        if !self.restored && self.engine.is_some() && self.patience <= now.mono {
            self.engine_lost(&Broken::Silent, now);
        }
        if self.again.is_none_or(|at| at > now.mono) {
            return;
        }
        self.again = None;
        // By the configuration that is in force: what server.toml says by now counts when it is
        // reloaded.
        let started = system::keys(&self.config)
            .map_err(|e| e.to_string())
            .and_then(|(key, clients)| self.start_engine(key, clients, now));
        if let Err(why) = started {
            log::error!("{why}");
            self.engine_lost(&Broken::Gone, now);
        }
    }

    /// The leases are known: shield first, listen afterwards.
    pub(super) fn go(&mut self, seen: u64, now: Now) -> Result<(), ServeError> {
        for claim in std::mem::take(&mut self.restoring) {
            self.enforcer.restore(&claim, now);
        }
        self.enforcer.settle_over(now);
        self.evict_again(now);
        self.settle_bans(now);
        self.settle_hooks();
        match self.enforcer.sync(now) {
            Ok(()) => {}
            // At the first start nothing is shut yet, so nobody may think that it is.
            Err(why) if !self.listens => return Err(why.into()),
            Err(why) => log::error!("firewall: {why}; trying again"),
        }
        if !self.listens {
            let bound: Result<_, _> =
                self.config.listen.iter().map(|l| system::bind(l.address)).collect();
            self.sockets = bound?;
        }
        let copies: io::Result<Vec<OwnedFd>> =
            self.sockets.iter().map(|s| s.as_fd().try_clone_to_owned()).collect();
        let copies = copies.map_err(|e| ServeError::System(e.to_string()))?;
        if let Some(engine) = &mut self.engine {
            let modes = self.config.listen.iter().map(|l| l.mode).collect();
            engine.channel.push(&Frame::Listen(modes), self.generation, copies);
        }
        if let Err(why) = self.hand_captures_down() {
            // Only what can pass is tried again: too many files, no memory.
            if !self.listens {
                return Err(ServeError::System(format!("cannot capture: {why}")));
            }
            self.engine_lost(&Broken::Io(why), now);
            return Ok(());
        }
        (self.restored, self.listens, self.failures) = (true, true, 0);
        // The ports of a sequence are somebody's secret.
        let shown = |l: &&Listen| l.mode != Mode::Knock;
        let listen = self.config.listen.iter().filter(shown).map(|l| format!("udp {}", l.address));
        let captures = self.config.captures.iter().map(ToString::to_string);
        let listen: Vec<String> = listen.chain(captures).collect();
        log::info!(
            "ready: {} clients, {} leases, {seen} packets remembered, listening on {}",
            self.names.len(),
            self.enforcer.leases.count(),
            listen.join(", "),
        );
        Ok(())
    }

    /// Leases that go on while they are used: to be remembered.
    pub(super) fn say_prolonged(&mut self) {
        for claim in self.enforcer.prolonged() {
            if let Some(engine) = &mut self.engine {
                engine.channel.push(&Frame::Decided(claim), self.generation, vec![]);
            }
        }
    }

    /// Gives this `[engine]` packet sockets of its own: a filter that is locked stays for good.
    pub(super) fn hand_captures_down(&mut self) -> io::Result<()> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let fds: Vec<_> = self
            .config
            .captures
            .iter()
            .map(|_| system::open_capture())
            .collect::<Result<_, _>>()?;
        for (capture, fds) in self.config.captures.iter().zip(fds) {
            engine.channel.push(&Frame::Capture(capture.clone()), self.generation, fds);
        }
        Ok(())
    }

    pub(super) fn engine_lost(&mut self, why: &Broken, now: Now) {
        self.engine = None;
        self.tell_status(None);
        self.forget_feed();
        if !self.restored && !self.listens {
            return;
        }
        let pause = PAUSE.1.min(PAUSE.0 << self.failures.min(10));
        self.failures += 1;
        self.again = Some(now.mono.plus(pause));
        log::error!(
            "[engine]: {why}; leases go on and end on time, nothing opens; starting it again in {pause} ms"
        );
    }

    /// Ends all in good order. The ports stay shielded, and leases end in the kernel.
    pub(super) fn farewell(&mut self, now: Now) {
        // Whoever is answered no more is not let in either.
        self.door = None;
        let ran = self.engine.is_some();
        self.end_partners(now);
        if ran {
            log::info!("stopped: the ports stay shut; `opensesame-spa uninstall` opens them");
        }
    }
}
