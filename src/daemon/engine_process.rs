//! `[engine]`: the sockets, the keys and the journal, and no rights.

mod arrivals;
mod frames;
mod outbox;
mod sockets;
mod summary;
#[cfg(test)]
mod tests;
mod trouble;

use super::batch::Batch;
use super::capture::Capture;
use super::channel::{Broken, Channel};
use super::clock;
use super::config::Capturing;
use super::frame::{Begin, COUNTERS, Frame};
use super::hook::Hook;
use super::log::Limit;
use super::store::{Directory, Journal, Told, Turn};
use super::syncer::Syncer;
use crate::access::{Access, Action, ClientId, Policy, Service};
use crate::crypto::{Door, DoorKey, ServerId};
use crate::engine::suspicion::Rules;
use crate::engine::{Client, Engine, Knock, Plain, Sequence, Setup, Step, Suspect};
use crate::time::{Mono, Now};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use outbox::Outbox;
use sockets::Inbox;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use summary::Summary;

/// How often a journal that cannot be written is tried again: ms.
const AGAIN: u64 = 1_000;

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
    /// It has begun, and not ended yet.
    begun: bool,
    /// What has to wait for its end.
    captures: Vec<(Capturing, [OwnedFd; 2])>,
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
    sockets: Vec<Inbox>,
    captures: Vec<Capture>,
    /// Whoever says the plain key is answered in words.
    talks: bool,
    answers: Vec<(usize, SocketAddr, Action)>,
    syncer: Syncer,
    outbox: Outbox,
    incoming: Incoming,
    generation: u32,
    counters: [u64; COUNTERS],
    summary: Summary,
    /// It was said that the kernel does not refuse.
    said: bool,
    /// What captures that were given up had dropped.
    dropped_before: u64,
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
            Frame::Decided(_) | Frame::Evict(_) | Frame::Ask | Frame::Pardon(_) => {
                early.push(frame);
            }
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
        outbox: Outbox::default(),
        incoming: Incoming::default(),
        generation,
        counters: [0; COUNTERS],
        summary: Summary::new(),
        said: false,
        dropped_before: 0,
        proven: Limit::default(),
        strangers: Limit::default(),
        tried: now.mono,
    };
    process.turn(channel, now);
    channel.push(&Frame::Restored(seen), generation, vec![]);
    let mut batch = Batch::new();
    for frame in early {
        process.handle_frame(frame, generation, channel, &mut batch)?;
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
        let mut batch = Batch::new();
        while !self.step(channel, &mut batch)? {}
        Ok(())
    }

    /// Waits and does what there is to do; true: that was the end. A packet that is refused takes no
    /// memory here, and no call of its own.
    fn step(&mut self, channel: &mut Channel, batch: &mut Batch) -> Result<bool, String> {
        let sent = self.outbox.send(channel, self.generation);
        sent.map_err(|why| format!("[priv]: {why}"))?;
        let ready = self.wait(channel)?;
        if ready.channel && self.listen_to_priv(channel, batch)? {
            return Ok(true);
        }
        let now = clock::now();
        if ready.syncer {
            self.handle_syncs(now);
        }
        self.engine.set_behind(self.outbox.len());
        let sockets = 0..self.sockets.len() + self.captures.len();
        for index in sockets.filter(|n| ready.sockets[*n]) {
            self.receive(index, batch, now);
        }
        self.turn(channel, now);
        self.mend(now);
        self.captures.iter_mut().for_each(|c| c.mend(now.mono));
        if let Some(line) = self.summary.handle_timeout(&self.counters, now.mono) {
            log::info!("{line}");
        }
        Ok(false)
    }

    fn turn(&mut self, channel: &mut Channel, now: Now) {
        let Turn { told, sync, failed } = self.journal.turn(&mut self.engine, now);
        for one in told {
            let frame = match one {
                Told::Grant(grant) => {
                    self.outbox.push(*grant.claim());
                    continue;
                }
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
}
