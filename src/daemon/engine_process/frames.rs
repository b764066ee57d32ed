//! What `[priv]` says, and what is done about it.

use super::sockets::Inbox;
use super::{Incoming, Process};
use crate::crypto::{Door, random};
use crate::daemon::batch::Batch;
use crate::daemon::channel::{Broken, Channel};
use crate::daemon::clock;
use crate::daemon::frame::{DROPPED, Frame};
use crate::daemon::hook::Hook;
use crate::engine::Client;
use crate::engine::suspicion::Pin;
use std::os::fd::OwnedFd;

/// The most frames of `[priv]` that are taken in one turn.
const FRAMES: usize = 256;

impl Process {
    /// Does what `[priv]` has said, so much at once that packets get their turn however long a
    /// configuration is; true: that was the end.
    pub(super) fn listen_to_priv(
        &mut self,
        channel: &mut Channel,
        batch: &mut Batch,
    ) -> Result<bool, String> {
        for _ in 0..FRAMES {
            let next = channel.next().map_err(|why| format!("[priv]: {why}"))?;
            let Some((frame, generation)) = next else { break };
            if self.handle_frame(frame, generation, channel, batch)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does what `[priv]` says; true: that was the end.
    pub(super) fn handle_frame(
        &mut self,
        frame: Frame,
        generation: u32,
        channel: &mut Channel,
        batch: &mut Batch,
    ) -> Result<bool, String> {
        match frame {
            Frame::Begin(begin) => {
                let captures = std::mem::take(&mut self.incoming.captures);
                self.incoming = Incoming { begun: true, captures, ..Incoming::default() };
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
            Frame::Remove(client) => {
                self.engine.remove_client(client);
                self.outbox.forget(client);
            }
            Frame::End => {
                let incoming = std::mem::take(&mut self.incoming);
                let doors = incoming.doors.iter().map(|key| Door::derive(self.server, key));
                self.engine.set_doors(self.server, doors.collect());
                self.admit();
                self.engine.policy().set_services(incoming.services);
                self.engine.policy().set_own(incoming.own);
                self.talks = incoming.plain.as_ref().is_some_and(|(_, p)| p.replies);
                self.engine.set_plain(incoming.plain);
                self.engine.set_knocks(incoming.knocks);
                self.count_sequences();
                self.engine.set_rules(incoming.rules);
                self.generation = generation;
                log::debug!("told of {} clients that are new or changed", incoming.clients);
                for (what, fds) in incoming.captures {
                    self.capture(what, fds, batch)?;
                }
                // What the captures before them had is told before anything that [priv] says next.
                self.turn(channel, clock::now());
                crate::sys::trim();
            }
            Frame::Listen(modes) => {
                for mode in modes {
                    let fd: OwnedFd = channel.take_fd().ok_or("a socket is missing")?;
                    self.sockets.push(Inbox::new(fd.into(), mode).map_err(|e| e.to_string())?);
                }
                self.admit();
            }
            Frame::Capture(what) => {
                let mut fd = || channel.take_fd().ok_or("a packet socket is missing");
                let fds = [fd()?, fd()?];
                // Its filter is for good, so it has to be by the keys that come with the end.
                match self.incoming.begun {
                    true => self.incoming.captures.push((what, fds)),
                    false => self.capture(what, fds, batch)?,
                }
            }
            Frame::Decided(claim) => {
                self.engine.handle_decided(claim);
                let stays = self.outbox.handle_decided(&claim);
                stays.into_iter().for_each(|claim| self.engine.handle_decided(claim));
            }
            Frame::Evict(prefix) => {
                self.engine.handle_evicted(&prefix, clock::now());
                self.outbox.evict(&prefix);
                // Behind what the channel has of before, in front of what is granted from now on.
                channel.push(&Frame::Evict(prefix), generation, vec![]);
            }
            Frame::Ask => {
                self.counters[DROPPED] = self.dropped();
                channel.push(&Frame::Counters(self.counters), generation, vec![]);
            }
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
