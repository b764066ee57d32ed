//! `[priv]`: the configuration, the leases and the firewall; nothing from the network.

mod bans;
mod evictions;
mod frames;
mod gate;
mod hooks;
mod orders;
mod orphans;
mod partner;
mod reload;
mod roster;

use super::clients::Clients;
use super::config::{Config, ServerKey};
use super::control;
use super::enforce::Enforcer;
use super::last_good;
use super::observe::Observer;
use super::system::{Partner, ServeError, own_addresses};
use super::timer::Timer;
use super::{clock, watch::Watch};
use crate::access::{Claim, Policy};
use crate::firewall::Firewall;
use crate::time::Mono;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use orphans::Orphans;
use roster::{Feed, Known};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

/// How long `[engine]` gets to end by itself: ms.
const FAREWELL: u64 = 2_000;
/// How long `[engine]` may take to read its journal: ms.
const PATIENCE: u64 = 60_000;
/// The pause before `[engine]` is started again: ms, doubled up to the second one.
const PAUSE: (u64, u64) = (100, 5_000);
/// The most frames that may wait for an `[engine]` that does not read them.
const MOST_WAITING: usize = 200_000;
/// Changes in the clients' directory are gathered for so long: ms.
const GATHER: u64 = 100;

/// The state of `[priv]`.
pub(super) struct Priv {
    config: Config,
    control: UnixListener,
    journal: OwnedFd,
    user: Option<(u32, u32)>,
    enforcer: Enforcer,
    /// The clients by name.
    names: BTreeMap<Arc<str>, Known>,
    /// What `[engine]` has yet to be told.
    feed: Feed,
    sockets: Vec<UdpSocket>,
    /// An `[engine]` has been ready, so packets may come.
    listens: bool,
    engine: Option<Partner>,
    generation: u32,
    doors: [u8; 32],
    restored: bool,
    /// What an `[engine]` that begins has said so far.
    restoring: Vec<Claim>,
    failures: u32,
    again: Option<Mono>,
    /// When an `[engine]` that has not begun is given up.
    patience: Mono,
    reload_at: Option<Mono>,
    timer: Timer,
    stop: UnixStream,
    hup: UnixStream,
    watch: Option<Watch>,
    orphans: Option<Orphans>,
    asking: VecDeque<orders::Asking>,
    evictions: evictions::Evictions,
    bans: bans::Bans,
    door: Option<gate::Door>,
    /// Who tells of what would be dropped, where nothing is.
    observer: Option<Observer>,
    hooks: hooks::Hooks,
    /// When all is rolled back unless somebody confirms it.
    unconfirmed: Option<Mono>,
}

fn signals(numbers: &[i32]) -> io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    read.set_nonblocking(true)?;
    for number in numbers {
        signal_hook::low_level::pipe::register(*number, write.try_clone()?)?;
    }
    Ok(read)
}

impl Priv {
    pub(super) fn new(
        config: Config,
        firewall: Box<dyn Firewall>,
        control: UnixListener,
        journal: OwnedFd,
        user: Option<(u32, u32)>,
    ) -> Result<Priv, ServeError> {
        let system = |e: io::Error| ServeError::System(e.to_string());
        let mut policy = Policy::new(config.services.clone(), own_addresses());
        policy.set_zone(clock::zone());
        Ok(Priv {
            watch: Watch::new(&config.clients_dir()),
            observer: config.observe.then(Observer::default),
            config,
            control,
            journal,
            user,
            enforcer: Enforcer::new(firewall, policy),
            names: BTreeMap::new(),
            feed: Feed::default(),
            sockets: Vec::new(),
            listens: false,
            engine: None,
            generation: 0,
            doors: [0; 32],
            restored: false,
            restoring: Vec::new(),
            failures: 0,
            again: None,
            patience: Mono(0),
            reload_at: None,
            timer: Timer::new().map_err(system)?,
            stop: signals(&[SIGTERM, SIGINT]).map_err(system)?,
            hup: signals(&[SIGHUP]).map_err(system)?,
            orphans: Orphans::adopt().map_err(system)?,
            asking: VecDeque::new(),
            evictions: evictions::Evictions::default(),
            bans: bans::Bans::default(),
            door: None,
            hooks: hooks::Hooks::default(),
            unconfirmed: None,
        })
    }

    /// Runs until told to stop; whatever ends it before it is confirmed rolls everything back.
    pub(super) fn run(&mut self, key: ServerKey, clients: Clients) -> Result<(), ServeError> {
        let outcome = self.serve(key, clients);
        match self.unconfirmed {
            Some(_) => self.roll_back(outcome),
            None => outcome,
        }
    }

    fn serve(&mut self, key: ServerKey, clients: Clients) -> Result<(), ServeError> {
        if let Err(why) = self.begin(key, clients) {
            // Whatever was there before: the ports are shut.
            if !self.restored {
                let _ = self.enforcer.sync(clock::now());
            }
            return Err(why);
        }
        loop {
            let begins = (!self.restored && self.engine.is_some()).then_some(self.patience);
            let gate = self.door.as_ref().and_then(gate::Door::again);
            let observer = self.observer.as_ref().map(Observer::due);
            let own = [self.again, self.reload_at, self.unconfirmed, self.hooks.due(), observer];
            let due = [self.enforcer.poll_timeout(), begins, gate].into_iter().chain(own);
            let next = due.flatten().min();
            self.timer.set(next).map_err(|e| ServeError::System(format!("timer: {e}")))?;
            self.wait().map_err(|e| ServeError::System(format!("poll: {e}")))?;
            if drained(&self.stop) {
                self.farewell(clock::now());
                return Ok(());
            }
            self.turn()?;
            if self.unconfirmed.is_some_and(|at| at <= clock::now().mono) {
                return Err(ServeError::System("not confirmed in time".into()));
            }
        }
    }

    /// From now on it has to be confirmed within so many seconds.
    pub(super) fn must_be_confirmed(&mut self, seconds: u32) {
        self.unconfirmed = Some(clock::now().mono.plus(u64::from(seconds) * 1_000));
        log::warn!("`opensesame-spa confirm` within {seconds} s, or all is rolled back");
    }

    /// Nobody has said that he can still come in.
    fn roll_back(&mut self, outcome: Result<(), ServeError>) -> Result<(), ServeError> {
        self.farewell(clock::now());
        let done = last_good::restore(&self.config)?;
        log::warn!("rolled back: {done}");
        outcome.map_err(|why| ServeError::System(format!("{why}: {done}")))
    }

    fn wait(&mut self) -> io::Result<()> {
        let mut fds = vec![
            PollFd::new(self.stop.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.hup.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.control.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.timer.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.watch.as_ref().map(|w| PollFd::new(w.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.orphans.as_ref().map(|o| PollFd::new(o.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.enforcer.events().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        let feeds = self.feed.waits();
        let engine =
            self.engine.as_ref().map(|e| (e.channel.as_fd(), e.channel.is_waiting() || feeds));
        let gate = self.door.as_ref().and_then(gate::Door::poll);
        for (fd, waits) in [engine, gate, self.hooks.poll()].into_iter().flatten() {
            let mut interest = PollFlags::POLLIN;
            interest.set(PollFlags::POLLOUT, waits);
            fds.push(PollFd::new(fd, interest));
        }
        // What has arrived already is told of by no socket.
        let timeout = if self.is_ready() { PollTimeout::ZERO } else { PollTimeout::NONE };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let fired = fds[3].any().unwrap_or(false);
        if fired {
            self.timer.fired();
        }
        Ok(())
    }

    /// Whether a frame of some process waits here.
    fn is_ready(&self) -> bool {
        let engine = self.engine.as_ref().is_some_and(|e| e.channel.is_ready());
        engine || self.door.as_ref().is_some_and(gate::Door::is_ready) || self.hooks.is_ready()
    }

    /// Does what there is to do. A call to the firewall can wait for seconds: whatever was said or
    /// asked for meanwhile is judged by the moment at which it is read.
    fn turn(&mut self) -> Result<(), ServeError> {
        let now = clock::now();
        // What is overdue is shut before anything is opened.
        self.enforcer.handle_timeout(now);
        self.say_prolonged();
        if let Some(observer) = &mut self.observer {
            observer.look(&mut *self.enforcer.firewall, now);
        }
        self.listen_to_engine()?;
        let now = clock::now();
        self.look_after(now);
        self.listen_to_gate(now);
        self.look_after_gate(now);
        let changed = self.watch.as_mut().is_some_and(Watch::drain);
        if changed && self.watch.as_ref().is_some_and(Watch::is_over) {
            self.watch = Watch::new(&self.config.clients_dir());
        }
        if changed && self.reload_at.is_none() {
            self.reload_at = Some(now.mono.plus(GATHER));
        }
        if self.reload_at.is_some_and(|at| at <= now.mono) {
            let telling = self.is_telling(now);
            self.reload_at = telling.then(|| now.mono.plus(GATHER));
            if !telling {
                self.reload_clients(now);
            }
        }
        if drained(&self.hup) {
            // Its errors are in the log; there is nobody else to tell.
            let _ = self.reload(now);
        }
        while let Ok((stream, order)) = control::take(&self.control) {
            self.obey(stream, &order, clock::now());
        }
        let now = clock::now();
        self.tend_hooks(now);
        self.feed();
        if let Some(engine) = &mut self.engine {
            let _ = engine.channel.flush();
        }
        self.flush_gate(now);
        if let Some(orphans) = &self.orphans {
            let engine = self.engine.as_ref().map(|engine| engine.child.id());
            let gate = self.door.as_ref().and_then(gate::Door::process);
            let ours = [engine, gate, self.hooks.process()];
            let ours: Vec<u32> = ours.into_iter().flatten().collect();
            orphans.bury(&ours);
        }
        Ok(())
    }
}

fn drained(mut stream: &UnixStream) -> bool {
    let mut bytes = [0; 64];
    let mut any = false;
    while stream.read(&mut bytes).is_ok_and(|n| n > 0) {
        any = true;
    }
    any
}
