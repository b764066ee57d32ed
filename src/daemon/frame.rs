//! What the two processes say to each other: frames of 512 bytes, of which every one that is not
//! exactly right is fatal.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | kind |
//! | 1 | 3 | zero |
//! | 4 | 4 | generation of the configuration that the sender works with |
//! | 8 | 504 | what the kind says, zeros behind it |

use super::bytes::{Reader, Writer};
use super::claim::encode_claim;
use super::codes::{assurance_number, assurance_of, mode_number, mode_of};
use super::config::{
    Capturing, MOST_CAPTURED, MOST_HOURS, MOST_LISTENERS, MOST_SERVICES, MOST_SOURCES,
};
use super::hook::{Hook, KIND};
use super::site::Site;
use crate::access::{Access, Claim, ClientId, Hours, Ports, Prefix, Service, ServiceId, Terms};
use crate::crypto::{ClientKey, DoorKey, ServerId};
use crate::engine::suspicion::{Ban, Pin, Rules, Verdict};
use crate::engine::{Knock, Mode, Plain, Reject, Step, Window};
use crate::time::Unix;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// The size of every frame: bytes.
pub const FRAME: usize = 512;
/// The bytes of a frame; some hold keys, so all are wiped.
pub type Bytes = Zeroizing<[u8; FRAME]>;

/// The counters of accepted packets, by the listener's mode, before those of refused ones.
pub const ACCEPTED: [&str; 3] = ["sealed", "plain", "knock"];
/// The counter of what the kernel has dropped, behind those of each reason to refuse.
pub const DROPPED: usize = ACCEPTED.len() + Reject::NAMES.len();
/// How many counters there are.
pub const COUNTERS: usize = DROPPED + 1;

/// One message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Down: a configuration follows.
    Begin(Begin),
    /// Down: a door key, the current one first.
    Door(DoorKey),
    /// Down: a service.
    Service(Service),
    /// Down: one of the server's own addresses.
    Own(IpAddr),
    /// Down: a client, new or changed.
    Client(Access, ClientKey),
    /// Down: the plain key, with its access entry.
    Plain(Access, Plain),
    /// Down: a knock sequence, with its access entry.
    Knock(Access, Knock),
    /// Down: one more one-time sequence of that entry.
    Line(ClientId, Vec<Step>),
    /// Down: a client is gone.
    Remove(ClientId),
    /// Down: that was all of it.
    End,
    /// Down: receive from now on; the sockets come with this frame, and this is what each takes.
    Listen(Vec<Mode>),
    /// Down: capture from now on; a fresh packet socket of each family comes with this frame.
    Capture(Capturing),
    /// Down: leases were ended or prolonged without a packet; to be remembered.
    Decided(Claim),
    /// Down: all that was granted so far on this is ended; up, when that is remembered: what was
    /// granted before it has been said.
    Evict(Prefix),
    /// Down: say the counters.
    Ask,
    /// Down: write what there is and end.
    Stop,
    /// Up: this was decided just now.
    Grant(Claim),
    /// Up: this is remembered from before a restart.
    Restore(Claim),
    /// Up: that was all that is remembered; so many packets are known as seen.
    Restored(u64),
    /// Up: the counters.
    Counters([u64; COUNTERS]),
    /// From `[gate]`, by way of `[priv]`: somebody with a completed connection has asked for what
    /// is not there.
    Strike {
        /// What the answer will carry.
        ticket: u64,
        /// Who.
        from: IpAddr,
    },
    /// From `[gate]`, by way of `[priv]`: somebody who is banned has typed digits.
    Guess {
        /// What the answer will carry.
        ticket: u64,
        /// Who.
        from: IpAddr,
        /// Which.
        pin: Pin,
    },
    /// To `[gate]`, by way of `[priv]`: what becomes of a strike or a guess.
    Verdict {
        /// Of which.
        ticket: u64,
        /// What.
        verdict: Verdict,
    },
    /// To `[gate]`, by way of `[priv]`: banned from now on, or from before a restart.
    Ban(Ban),
    /// To `[gate]`, by way of `[priv]`: banned no more.
    Unban(Prefix),
    /// Down: an administrator pardons all that shares an address with this.
    Pardon(Prefix),
    /// Down: the PIN that is kept; up: the one that is to replace it, answered by the one that is
    /// kept then.
    Pin(Pin),
    /// Down: how much is too much.
    Rules(Rules),
    /// To `[gate]`: a part of what it serves.
    Site(Site),
    /// About hooks.
    Hook(Hook),
}

/// What a configuration begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The server's public id.
    pub server: ServerId,
    /// How old and how far ahead a packet may be.
    pub window: Window,
    /// The user and group to become; none: the user is shared, and every right is dropped.
    pub become_user: Option<(u32, u32)>,
}

/// The bytes of a frame.
#[must_use]
pub fn encode(frame: &Frame, generation: u32) -> Bytes {
    let mut w = Writer { bytes: Zeroizing::new([0; FRAME]), at: 8 };
    w.bytes[4..8].copy_from_slice(&generation.to_be_bytes());
    w.bytes[0] = match frame {
        Frame::Begin(b) => {
            w.put(&b.server.0)
                .put(&b.window.past.to_be_bytes())
                .put(&b.window.future.to_be_bytes());
            let (uid, gid) = b.become_user.unwrap_or_default();
            w.put(&[u8::from(b.become_user.is_some())]);
            w.put(&uid.to_be_bytes()).put(&gid.to_be_bytes());
            1
        }
        Frame::Door(key) => {
            w.put(key.bytes());
            2
        }
        Frame::Service(s) => {
            w.service(s);
            3
        }
        Frame::Own(address) => {
            w.address(*address);
            4
        }
        Frame::Client(a, key) => {
            access(&mut w, a).put(key.bytes());
            5
        }
        Frame::Plain(a, plain) => {
            let keys = access(&mut w, a).put(&plain.client.0).text_bytes(&plain.open);
            keys.text_bytes(&plain.close).put(&[u8::from(plain.replies)]);
            16
        }
        Frame::Knock(a, knock) => {
            access(&mut w, a).knock(knock);
            17
        }
        Frame::Line(id, steps) => {
            w.put(&id.0).steps(steps);
            18
        }
        Frame::Remove(id) => {
            w.put(&id.0);
            6
        }
        Frame::End => 7,
        Frame::Listen(modes) => {
            w.put(&[modes.len().min(MOST_LISTENERS) as u8]);
            for mode in modes.iter().take(MOST_LISTENERS) {
                w.put(&[mode_number(*mode)]);
            }
            8
        }
        Frame::Capture(c) => {
            w.text(c.interface.as_deref().unwrap_or_default()).put(&[mode_number(c.mode)]);
            w.put(&[c.ports.len().min(MOST_CAPTURED) as u8]);
            for p in c.ports.iter().take(MOST_CAPTURED) {
                w.ports(p);
            }
            24
        }
        Frame::Decided(claim) => {
            w.put(&encode_claim(claim));
            9
        }
        Frame::Evict(prefix) => {
            w.prefix(prefix);
            19
        }
        Frame::Ask => 10,
        Frame::Stop => 11,
        Frame::Grant(claim) => {
            w.put(&encode_claim(claim));
            12
        }
        Frame::Restore(claim) => {
            w.put(&encode_claim(claim));
            13
        }
        Frame::Restored(seen) => {
            w.put(&seen.to_be_bytes());
            14
        }
        Frame::Counters(counters) => {
            counters.iter().for_each(|n| {
                w.put(&n.to_be_bytes());
            });
            15
        }
        Frame::Strike { ticket, from } => {
            w.put(&ticket.to_be_bytes()).address(*from);
            32
        }
        Frame::Guess { ticket, from, pin } => {
            w.put(&ticket.to_be_bytes()).address(*from).pin(pin);
            33
        }
        Frame::Verdict { ticket, verdict } => {
            w.put(&ticket.to_be_bytes()).verdict(verdict);
            34
        }
        Frame::Ban(ban) => {
            w.ban(ban);
            35
        }
        Frame::Unban(prefix) => {
            w.prefix(prefix);
            36
        }
        Frame::Pardon(prefix) => {
            w.prefix(prefix);
            37
        }
        Frame::Pin(pin) => {
            w.pin(pin);
            38
        }
        Frame::Rules(rules) => {
            w.rules(rules);
            39
        }
        Frame::Site(part) => {
            w.site(part);
            40
        }
        Frame::Hook(part) => w.hook(part),
    };
    w.bytes
}

fn access<'a>(w: &'a mut Writer, a: &Access) -> &'a mut Writer {
    w.put(&a.client.0).text(&a.name).put(&[assurance_number(a.assurance)]);
    w.put(&a.ttl.to_be_bytes()).put(&a.max_ttl.to_be_bytes()).put(&a.max_leases.to_be_bytes());
    w.put(&[u8::from(a.source_address), a.max_prefix_v4, a.max_prefix_v6]);
    w.put(&[u8::from(a.not_after.is_some())]).put(&a.not_after.unwrap_or_default().0.to_be_bytes());
    w.put(&[u8::from(a.uses.is_some())]).put(&a.uses.unwrap_or_default().to_be_bytes());
    w.put(&[a.services.len().min(MOST_SERVICES) as u8]);
    for id in a.services.iter().take(MOST_SERVICES) {
        w.put(&id.0);
    }
    w.put(&[a.sources.len().min(MOST_SOURCES) as u8]);
    for net in a.sources.iter().take(MOST_SOURCES) {
        w.prefix(net);
    }
    w.put(&[a.hours.len().min(MOST_HOURS) as u8]);
    for hours in a.hours.iter().take(MOST_HOURS) {
        let (days, from, to) = hours.parts();
        w.put(&[days]).put(&from.to_be_bytes()).put(&to.to_be_bytes());
    }
    w
}

/// The meaning of a frame and its generation.
///
/// `None` for everything that [`encode`] would not have written: who gets that ends.
#[must_use]
pub fn decode(bytes: &[u8; FRAME]) -> Option<(Frame, u32)> {
    let generation = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let mut r = Reader { bytes, at: 8 };
    let frame = match bytes[0] {
        1 => {
            let server = ServerId(r.take()?);
            let window = Window { past: r.u64()?, future: r.u64()? };
            let some = r.flag()?;
            let user = (r.u32()?, r.u32()?);
            Frame::Begin(Begin { server, window, become_user: some.then_some(user) })
        }
        2 => Frame::Door(DoorKey::new(r.take()?)),
        3 => Frame::Service(r.service()?),
        4 => Frame::Own(r.address()?),
        5 => Frame::Client(read_access(&mut r)?, ClientKey::new(r.take()?)),
        6 => Frame::Remove(ClientId(r.take()?)),
        7 => Frame::End,
        8 => {
            let count = r.byte()?;
            let mode = |r: &mut Reader<'_>| mode_of(r.byte()?);
            Frame::Listen((0..count).map(|_| mode(&mut r)).collect::<Option<_>>()?)
        }
        9 => Frame::Decided(r.claim()?),
        10 => Frame::Ask,
        11 => Frame::Stop,
        12 => Frame::Grant(r.claim()?),
        13 => Frame::Restore(r.claim()?),
        14 => Frame::Restored(r.u64()?),
        15 => {
            let mut counters = [0; COUNTERS];
            for n in &mut counters {
                *n = r.u64()?;
            }
            Frame::Counters(counters)
        }
        16 => {
            let access = read_access(&mut r)?;
            let client = ClientId(r.take()?);
            let (open, close) = (r.text_bytes()?, r.text_bytes()?);
            Frame::Plain(access, Plain { client, open, close, replies: r.flag()? })
        }
        17 => Frame::Knock(read_access(&mut r)?, r.knock()?),
        18 => Frame::Line(ClientId(r.take()?), r.steps()?),
        19 => Frame::Evict(r.prefix()?),
        24 => {
            let (name, mode, count) = (r.text()?, mode_of(r.byte()?)?, r.byte()?);
            let ports = (0..count).map(|_| r.ports()).collect::<Option<Vec<Ports>>>()?;
            let interface = (!name.is_empty()).then_some(name);
            Frame::Capture(Capturing { interface, mode, ports })
        }
        32 => Frame::Strike { ticket: r.u64()?, from: r.address()? },
        33 => Frame::Guess { ticket: r.u64()?, from: r.address()?, pin: r.pin()? },
        34 => Frame::Verdict { ticket: r.u64()?, verdict: r.verdict()? },
        35 => Frame::Ban(r.ban()?),
        36 => Frame::Unban(r.prefix()?),
        37 => Frame::Pardon(r.prefix()?),
        38 => Frame::Pin(r.pin()?),
        39 => Frame::Rules(r.rules()?),
        40 => Frame::Site(r.site()?),
        KIND => Frame::Hook(r.hook()?),
        _ => return None,
    };
    (*encode(&frame, generation) == *bytes).then_some((frame, generation))
}

fn read_access(r: &mut Reader<'_>) -> Option<Access> {
    let client = ClientId(r.take()?);
    let (name, assurance) = (r.text()?, assurance_of(r.byte()?)?);
    let (ttl, max_ttl, max_leases) = (r.u32()?, r.u32()?, r.u16()?);
    let (source_address, max_prefix_v4, max_prefix_v6) = (r.flag()?, r.byte()?, r.byte()?);
    let (ends, not_after) = (r.flag()?, Unix(r.u64()?));
    let (metered, uses) = (r.flag()?, r.u32()?);
    let count = r.byte()?;
    let services = (0..count).map(|_| r.take().map(ServiceId)).collect::<Option<_>>()?;
    let count = r.byte()?;
    let sources = (0..count).map(|_| r.prefix()).collect::<Option<_>>()?;
    let count = r.byte()?;
    let mut hours = || Hours::new(r.byte()?, r.u16()?, r.u16()?);
    let hours = (0..count).map(|_| hours()).collect::<Option<_>>()?;
    let terms = Terms {
        assurance,
        services,
        ttl,
        max_ttl,
        max_leases,
        sources,
        source_address,
        max_prefix_v4,
        max_prefix_v6,
        not_after: ends.then_some(not_after),
        uses: metered.then_some(uses),
        hours,
    };
    Some(Access::new(client, &name, terms))
}
