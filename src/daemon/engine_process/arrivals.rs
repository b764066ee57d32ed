//! What comes in at the sockets, and the few words that go out.

use super::Process;
use crate::access::{Action, Protocol};
use crate::daemon::batch::{BATCH, Batch};
use crate::daemon::capture::Received;
use crate::engine::{Arrival, Mode, Step};
use crate::time::Now;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

/// The packets of a batch that come behind all others of it.
struct Second([u8; BATCH], usize);

impl Second {
    fn push(&mut self, at: usize) {
        self.0[self.1] = at as u8;
        self.1 += 1;
    }

    fn places(&self) -> impl Iterator<Item = usize> {
        self.0[..self.1].iter().map(|at| usize::from(*at))
    }
}

impl Process {
    /// Takes what waits at one of the sockets; those of captures come behind the others.
    pub(super) fn receive(&mut self, index: usize, batch: &mut Batch, now: Now) {
        if let Some(index) = index.checked_sub(self.sockets.len()) {
            return self.receive_captured(index, batch, now);
        }
        let Some(inbox) = self.sockets.get_mut(index) else { return };
        let (mode, port) = (inbox.mode, inbox.port);
        // What a socket has to report, an ICMP message for one, says nothing about what waits.
        let count = batch.receive(inbox.socket.as_fd(), &mut inbox.room).unwrap_or_default();
        let mut second = Second([0; BATCH], 0);
        for at in 0..count {
            let Some((bytes, peer)) = batch.datagram(at) else { continue };
            let from = peer.ip().to_canonical();
            if mode == Mode::Knock {
                self.knocked(from, Step { protocol: Protocol::Udp, port }, now);
                continue;
            }
            let arrival = Arrival { bytes, from, mode };
            match self.engine.is_second(&arrival, now) {
                true => second.push(at),
                false => self.take(&arrival, Some((index, peer)), now),
            }
        }
        for at in second.places() {
            let Some((bytes, peer)) = batch.datagram(at) else { continue };
            let arrival = Arrival { bytes, from: peer.ip().to_canonical(), mode };
            self.take(&arrival, Some((index, peer)), now);
        }
    }

    fn receive_captured(&mut self, index: usize, batch: &mut Batch, now: Now) {
        let Some(capture) = self.captures.get_mut(index) else { return };
        let mode = capture.mode();
        let count = capture.receive(batch, now.mono);
        let mut second = Second([0; BATCH], 0);
        for at in 0..count {
            let Some(capture) = self.captures.get_mut(index) else { return };
            let Received::Packet(packet) = capture.read(batch, at, now.mono) else { continue };
            if mode == Mode::Knock {
                let step = Step { protocol: packet.protocol, port: packet.port };
                self.knocked(packet.from, step, now);
                continue;
            }
            match packet.protocol {
                Protocol::Udp => {
                    let arrival = Arrival { bytes: packet.payload, from: packet.from, mode };
                    match self.engine.is_second(&arrival, now) {
                        true => second.push(at),
                        false => self.take(&arrival, None, now),
                    }
                }
                // A SYN proves nothing in the modes there are.
                Protocol::Tcp => {}
            }
        }
        for at in second.places() {
            let Some(capture) = self.captures.get_mut(index) else { return };
            if let Received::Packet(packet) = capture.read(batch, at, now.mono) {
                let arrival = Arrival { bytes: packet.payload, from: packet.from, mode };
                self.take(&arrival, None, now);
            }
        }
    }

    /// What was in the packet does not matter.
    fn knocked(&mut self, from: IpAddr, step: Step, now: Now) {
        for outcome in self.engine.handle_knock(from, step, now) {
            match outcome {
                Ok(grant) => {
                    self.counters[accepted(Mode::Knock)] += 1;
                    if grant.is_none() {
                        self.count_sequences();
                    }
                }
                Err(refusal) => self.refuse(refusal, from, now),
            }
        }
    }

    /// Says how many one-time sequences are left, so that somebody writes new ones in time.
    pub(super) fn count_sequences(&self) {
        for (client, left) in self.engine.sequences_left() {
            let name = self.engine.name(client).unwrap_or_default();
            match left {
                0 => log::warn!("{name}: no one-time sequence is left"),
                _ => log::info!("{name}: {left} one-time sequences are left"),
            }
        }
    }

    /// `back`: the socket and the address that an answer could go to.
    fn take(&mut self, arrival: &Arrival<'_>, back: Option<(usize, SocketAddr)>, now: Now) {
        let mode = arrival.mode;
        match self.engine.handle_arrival(arrival, now) {
            Ok(grant) => {
                self.counters[accepted(mode)] += 1;
                let said = grant.filter(|_| self.talks && mode == Mode::Plain);
                let answer = said.zip(back);
                self.answers.extend(answer.map(|(g, (i, peer))| (i, peer, g.claim().action)));
            }
            Err(refusal) => self.refuse(refusal, arrival.from, now),
        }
    }

    /// Tells those who said the plain key what they asked for is on its way.
    pub(super) fn answer(&self, answers: &[(usize, SocketAddr, Action)]) {
        for (index, peer, action) in answers {
            let text = match action {
                Action::Open => "Your IP has been authorized. You can now access this port.",
                Action::Close => {
                    "Your IP has been de-authorized. You can no longer access this port."
                }
            };
            if let Some(inbox) = self.sockets.get(*index) {
                let _ = inbox.socket.send_to(text.as_bytes(), peer);
            }
        }
    }
}

/// The place of a mode in [`crate::daemon::frame::ACCEPTED`].
fn accepted(mode: Mode) -> usize {
    match mode {
        Mode::Spa => 0,
        Mode::Plain => 1,
        Mode::Knock => 2,
    }
}
