//! What comes in at the sockets, and the few words that go out.

use super::Process;
use crate::access::{Action, Protocol};
use crate::daemon::capture::Received;
use crate::engine::{Arrival, Mode, Step};
use crate::time::Now;
use std::net::{IpAddr, SocketAddr};

/// The most packets that are taken from one socket before the others get their turn.
const BATCH: usize = 64;

impl Process {
    /// Takes what waits at one of the sockets; those of captures come behind the others.
    pub(super) fn receive(&mut self, index: usize, buffer: &mut [u8], now: Now) {
        if let Some(index) = index.checked_sub(self.sockets.len()) {
            return self.receive_captured(index, buffer, now);
        }
        for _ in 0..BATCH {
            let Some((socket, mode)) = self.sockets.get(index) else { return };
            let Ok((length, peer)) = socket.recv_from(buffer) else { return };
            let (from, mode) = (peer.ip().to_canonical(), *mode);
            if mode == Mode::Knock {
                let Ok(own) = socket.local_addr() else { return };
                self.knocked(from, Step { protocol: Protocol::Udp, port: own.port() }, now);
                continue;
            }
            let arrival = Arrival { bytes: &buffer[..length], from, mode };
            self.take(&arrival, Some((index, peer)), now);
        }
    }

    fn receive_captured(&mut self, index: usize, buffer: &mut [u8], now: Now) {
        for _ in 0..BATCH {
            let Some(capture) = self.captures.get_mut(index) else { return };
            let mode = capture.mode();
            match capture.receive(buffer, now.mono) {
                Received::Nothing => return,
                Received::Other => {}
                Received::Packet(packet) if mode == Mode::Knock => {
                    let step = Step { protocol: packet.protocol, port: packet.port };
                    self.knocked(packet.from, step, now);
                }
                Received::Packet(packet) => match packet.protocol {
                    Protocol::Udp => {
                        let arrival = Arrival { bytes: packet.payload, from: packet.from, mode };
                        self.take(&arrival, None, now);
                    }
                    // A SYN proves nothing in the modes there are.
                    Protocol::Tcp => {}
                },
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
            if let Some((socket, _)) = self.sockets.get(*index) {
                let _ = socket.send_to(text.as_bytes(), peer);
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
