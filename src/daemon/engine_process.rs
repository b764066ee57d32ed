//! `[engine]`: the sockets, the keys and the journal, and no rights.

mod arrivals;
mod trouble;

use super::capture::{Capture, Family};
use super::channel::{Broken, Channel};
use super::clock;
use super::frame::{Begin, COUNTERS, Frame};
use super::hook::Hook;
use super::log::Limit;
use super::store::{Directory, Journal, Told, Turn};
use super::syncer::Syncer;
use crate::access::{Access, Action, ClientId, Policy, Service};
use crate::crypto::{Door, DoorKey, ServerId, random};
use crate::engine::suspicion::{Pin, Rules};
use crate::engine::{Client, Engine, Knock, Mode, Plain, Sequence, Setup, Step, Suspect};
use crate::time::{Mono, Now};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// The largest datagram that is read whole; longer ones are of the wrong length anyway.
const LARGEST: usize = 2_048;
/// How often a journal that cannot be written is tried again: ms.
const AGAIN: u64 = 1_000;
/// The most frames of `[priv]` that are taken in one turn.
const FRAMES: usize = 256;

/// Runs as `[engine]`, with one end of the socket pair as stdin, until it is told to stop.
#[must_use]
pub fn run() -> ExitCode {
    super::system::be("engine", true, |mut channel| {
        let mut process = start(&mut channel)?;
        process.count_sequences();
        process.serve(&mut channel)
    })
}

/// A configuration on its way in.
#[derive(Default)]
struct Incoming {
    doors: Vec<DoorKey>,
    services: Vec<Service>,
    own: Vec<IpAddr>,
    plain: Option<(Access, Plain)>,
    knocks: Vec<(Access, Knock)>,
    rules: Rules,
    /// How many clients are new or changed.
    clients: usize,
}

impl Incoming {
    /// One more one-time sequence of an entry that was told before.
    fn line(&mut self, client: ClientId, steps: Vec<Step>) -> Result<(), String> {
        let entry = self.knocks.iter_mut().find(|(_, knock)| knock.client == client);
        match entry.map(|(_, knock)| &mut knock.sequence) {
            Some(Sequence::OneTime(lines)) => lines.push(steps),
            Some(Sequence::Fixed { .. } | Sequence::Timed(_)) | None => {
                return Err(Broken::Frame.to_string());
            }
        }
        Ok(())
    }
}

struct Process {
    engine: Engine,
    journal: Journal<Directory>,
    server: ServerId,
    sockets: Vec<(UdpSocket, Mode)>,
    captures: Vec<Capture>,
    /// Whoever says the plain key is answered in words.
    talks: bool,
    answers: Vec<(usize, SocketAddr, Action)>,
    syncer: Syncer,
    incoming: Incoming,
    generation: u32,
    counters: [u64; COUNTERS],
    proven: Limit,
    strangers: Limit,
    tried: Mono,
}

fn start(channel: &mut Channel) -> Result<Process, String> {
    let mut incoming = Incoming::default();
    let mut begin: Option<Begin> = None;
    let (mut clients, mut pin, mut early) = (Vec::new(), None, Vec::new());
    let mut policy = Policy::new(Vec::new(), Vec::new());
    let generation = loop {
        let (frame, generation) = wait_for(channel)?;
        match frame {
            Frame::Begin(b) => {
                // Another one before this one's end: that one counts.
                (begin, incoming) = (Some(b), Incoming::default());
                clients.clear();
            }
            Frame::Door(key) => incoming.doors.push(key),
            Frame::Service(service) => incoming.services.push(service),
            Frame::Own(address) => incoming.own.push(address),
            Frame::Client(access, key) => {
                let Begin { server, .. } = begin.ok_or(Broken::Frame.to_string())?;
                clients.push(Client::new(policy.share(access), server, &key));
            }
            Frame::Plain(access, plain) => incoming.plain = Some((access, plain)),
            Frame::Knock(access, knock) => incoming.knocks.push((access, knock)),
            Frame::Line(client, steps) => incoming.line(client, steps)?,
            Frame::Rules(rules) => incoming.rules = rules,
            Frame::Pin(kept) => pin = Some(kept),
            Frame::End => break generation,
            Frame::Stop => return Err("told to stop before it began".into()),
            // Not of the configuration, and heard when there is somebody to hear it.
            Frame::Decided(_) | Frame::Ask | Frame::Pardon(_) => early.push(frame),
            Frame::Remove(_) | Frame::Strike { .. } | Frame::Guess { .. } => {}
            Frame::Listen(_)
            | Frame::Capture(_)
            | Frame::Verdict { .. }
            | Frame::Ban(_)
            | Frame::Unban(_)
            | Frame::Site(_)
            | Frame::Hook(_)
            | Frame::Grant(_)
            | Frame::Restore(_)
            | Frame::Restored(_)
            | Frame::Counters(_) => return Err(Broken::Frame.to_string()),
        }
    };
    let begin = begin.ok_or("no beginning in the configuration")?;
    let directory = channel.take_fd().ok_or("no journal directory was handed down")?;
    super::rights::drop_all(begin.become_user)?;
    let (mut journal, history) =
        Journal::open(Directory::new(directory)).map_err(|e| e.to_string())?;
    let boot = clock::boot_id().map_err(|e| format!("no boot id: {e}"))?;
    let server = begin.server;
    policy.set_services(incoming.services);
    policy.set_own(incoming.own);
    policy.set_zone(clock::zone());
    let talks = incoming.plain.as_ref().is_some_and(|(_, p)| p.replies);
    let setup = Setup {
        server,
        plain: incoming.plain.take(),
        doors: incoming.doors.iter().map(|key| Door::derive(server, key)).collect(),
        clients,
        knocks: std::mem::take(&mut incoming.knocks),
        salt: crate::crypto::random().map_err(|e| e.to_string())?,
        policy,
        rules: incoming.rules,
        window: begin.window,
        boot,
    };
    let now = clock::now();
    let mut engine = Engine::start(setup, &history, now);
    pin.into_iter().for_each(|pin| engine.handle_pin(pin));
    let seen = engine.remembered() as u64;
    if engine.wants_segment() {
        journal.mend(&mut engine).map_err(|e| {
            format!("the journal cannot be written, so nobody could be let in: {e}")
        })?;
        log::info!("new journal: packets dated before this start are refused");
    }
    let mut process = Process {
        engine,
        journal,
        server,
        sockets: Vec::new(),
        captures: Vec::new(),
        talks,
        answers: Vec::new(),
        syncer: Syncer::start().map_err(|e| e.to_string())?,
        incoming: Incoming::default(),
        generation,
        counters: [0; COUNTERS],
        proven: Limit::default(),
        strangers: Limit::default(),
        tried: now.mono,
    };
    process.turn(channel, now);
    channel.push(&Frame::Restored(seen), generation, vec![]);
    for frame in early {
        process.handle_frame(frame, generation, channel)?;
    }
    crate::sys::trim();
    Ok(process)
}

/// The next frame, however long it takes.
pub(super) fn wait_for(channel: &mut Channel) -> Result<(Frame, u32), String> {
    loop {
        if let Some(next) = channel.next().map_err(|why| format!("[priv]: {why}"))? {
            return Ok(next);
        }
        let mut fds = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}

impl Process {
    fn serve(&mut self, channel: &mut Channel) -> Result<(), String> {
        let mut buffer = [0u8; LARGEST];
        loop {
            channel.flush().map_err(|why| format!("[priv]: {why}"))?;
            let ready = self.wait(channel)?;
            // Bounded, so that packets get their turn however long a configuration is.
            for _ in 0..FRAMES {
                let next = channel.next().map_err(|why| format!("[priv]: {why}"))?;
                let Some((frame, generation)) = next else { break };
                if self.handle_frame(frame, generation, channel)? {
                    return Ok(());
                }
            }
            let now = clock::now();
            self.handle_syncs(now);
            if !channel.is_full() {
                for index in ready {
                    self.receive(index, &mut buffer, now);
                }
            }
            self.turn(channel, now);
            self.mend(now);
            self.captures.iter_mut().for_each(|c| c.mend(now.mono));
        }
    }

    /// Waits until there is something to do; the sockets that have something.
    fn wait<'a>(&'a self, channel: &'a Channel) -> Result<Vec<usize>, String> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, channel.is_waiting());
        let mut fds = vec![
            PollFd::new(channel.as_fd(), interest),
            PollFd::new(self.syncer.woken.as_fd(), PollFlags::POLLIN),
        ];
        // While [priv] does not keep up, the kernel keeps the packets.
        if !channel.is_full() {
            let fd = |(s, _): &'a (UdpSocket, Mode)| PollFd::new(s.as_fd(), PollFlags::POLLIN);
            fds.extend(self.sockets.iter().map(fd));
            let fd = |c: &'a Capture| PollFd::new(c.as_fd(), PollFlags::POLLIN);
            fds.extend(self.captures.iter().map(fd));
        }
        let waits = self.engine.wants_segment() || self.engine.has_commands();
        let waits = waits || self.captures.iter().any(|c| !c.is_bound());
        let timeout = match (channel.is_ready(), waits) {
            (true, _) => PollTimeout::ZERO,
            (false, true) => PollTimeout::from(AGAIN as u16),
            (false, false) => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.to_string()),
        }
        let has = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        Ok(fds[2..].iter().enumerate().filter(|(_, fd)| has(fd)).map(|(i, _)| i).collect())
    }

    fn turn(&mut self, channel: &mut Channel, now: Now) {
        let Turn { told, sync, failed } = self.journal.turn(&mut self.engine, now);
        for one in told {
            let frame = match one {
                Told::Grant(grant) => Frame::Grant(*grant.claim()),
                Told::Restore(claim) => Frame::Restore(claim),
                Told::Suspect(Suspect::Ban(ban)) => Frame::Ban(ban),
                Told::Suspect(Suspect::Unban(prefix)) => Frame::Unban(prefix),
                Told::Suspect(Suspect::Verdict(ticket, verdict)) => {
                    Frame::Verdict { ticket, verdict }
                }
                Told::Suspect(Suspect::Pin(pin)) => Frame::Pin(pin),
                Told::Hook(note) => Frame::Hook(Hook::Note(note)),
            };
            channel.push(&frame, self.generation, vec![]);
        }
        let answers = std::mem::take(&mut self.answers);
        if failed.is_none() {
            self.answer(&answers);
        }
        if let Some((error, lost)) = failed {
            self.store_failed(&error, lost, now);
        } else if let Some(ticket) = sync {
            let (disk, number) = self.journal.disk();
            match disk.second(number) {
                Ok(file) => self.syncer.ask(ticket, file),
                Err(error) => {
                    let lost = self.engine.handle_store_failed();
                    self.store_failed(&error, lost, now);
                }
            }
        }
    }

    /// Does what `[priv]` says; true: that was the end.
    fn handle_frame(
        &mut self,
        frame: Frame,
        generation: u32,
        channel: &mut Channel,
    ) -> Result<bool, String> {
        match frame {
            Frame::Begin(begin) => {
                self.incoming = Incoming::default();
                self.server = begin.server;
            }
            Frame::Door(key) => self.incoming.doors.push(key),
            Frame::Service(service) => self.incoming.services.push(service),
            Frame::Own(address) => self.incoming.own.push(address),
            Frame::Client(access, key) => {
                self.incoming.clients += 1;
                self.engine.set_client(Client::new(access, self.server, &key));
            }
            Frame::Plain(access, plain) => self.incoming.plain = Some((access, plain)),
            Frame::Knock(access, knock) => self.incoming.knocks.push((access, knock)),
            Frame::Line(client, steps) => self.incoming.line(client, steps)?,
            Frame::Remove(client) => self.engine.remove_client(client),
            Frame::End => {
                let incoming = std::mem::take(&mut self.incoming);
                let doors = incoming.doors.iter().map(|key| Door::derive(self.server, key));
                self.engine.set_doors(self.server, doors.collect());
                self.engine.policy().set_services(incoming.services);
                self.engine.policy().set_own(incoming.own);
                self.talks = incoming.plain.as_ref().is_some_and(|(_, p)| p.replies);
                self.engine.set_plain(incoming.plain);
                self.engine.set_knocks(incoming.knocks);
                self.count_sequences();
                self.engine.set_rules(incoming.rules);
                self.generation = generation;
                log::debug!("told of {} clients that are new or changed", incoming.clients);
                crate::sys::trim();
            }
            Frame::Listen(modes) => {
                for mode in modes {
                    let fd: OwnedFd = channel.take_fd().ok_or("a socket is missing")?;
                    self.sockets.push((fd.into(), mode));
                }
            }
            Frame::Capture(what) => {
                for family in [Family::V4, Family::V6] {
                    let fd = channel.take_fd().ok_or("a packet socket is missing")?;
                    let capture = Capture::start(fd, family, what.clone(), clock::now().mono);
                    self.captures.push(capture.map_err(|e| format!("capture: {e}"))?);
                }
            }
            Frame::Decided(claim) => self.engine.handle_decided(claim),
            Frame::Ask => channel.push(&Frame::Counters(self.counters), generation, vec![]),
            Frame::Stop => {
                let now = clock::now();
                self.turn(channel, now);
                self.journal
                    .append(&[crate::engine::Record::Clean])
                    .and_then(|()| self.journal.sync())
                    .map_err(|e| format!("the journal could not be ended: {e}"))?;
                let _ = channel.flush();
                return Ok(true);
            }
            Frame::Rules(rules) => self.incoming.rules = rules,
            Frame::Pin(pin) => self.engine.handle_pin(pin),
            Frame::Pardon(prefix) => self.engine.handle_pardon(&prefix),
            Frame::Hook(Hook::Note(note)) => self.engine.handle_hook(note),
            // Without randomness there is no guessing when a ban ends, and no new PIN.
            Frame::Strike { ticket, from } => {
                let chance = random().map_or(0, u64::from_be_bytes);
                self.engine.handle_strike(ticket, from, chance, clock::now());
            }
            Frame::Guess { ticket, from, pin } => match random() {
                Ok(fresh) => {
                    let fresh = Pin::of_random(fresh);
                    self.engine.handle_guess(ticket, from, &pin, fresh, clock::now());
                }
                Err(why) => log::error!("no guess at the PIN can be answered: {why}"),
            },
            Frame::Grant(_)
            | Frame::Restore(_)
            | Frame::Restored(_)
            | Frame::Counters(_)
            | Frame::Verdict { .. }
            | Frame::Ban(_)
            | Frame::Unban(_)
            | Frame::Hook(_)
            | Frame::Site(_) => {
                return Err(Broken::Frame.to_string());
            }
        }
        Ok(false)
    }
}
