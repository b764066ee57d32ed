//! Live connections: sock_diag(7) has the TCP sessions that end on this machine, connection tracking
//! those that go through it, and what there is of UDP.
//!
//! To delete an entry of connection tracking does not end a session: the next packet of the other
//! side makes a new one. So the socket goes first (SOCK_DESTROY, kernel 4.5), which tells the peer by
//! a reset, and who comes by what is left is dropped by a rule of the caller.

use super::{Cover, Element, Error, Failure, Shield, Socket};
use crate::access::{Ports, Prefix, Protocol, canonical};
use netlink_bindings::inet_diag::{Msg, ReqV2, TcpState};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// SOCK_DIAG_BY_FAMILY and SOCK_DESTROY (Linux `sock_diag.h`).
const BY_FAMILY: u16 = 20;
const DESTROY: u16 = 21;
/// IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE of NFNL_SUBSYS_CTNETLINK (`nfnetlink_conntrack.h`).
const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;
/// RTM_GETADDR (`rtnetlink.h`), and the attributes of an answer.
const GET_ADDRESS: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// Attributes of an entry: CTA_TUPLE_ORIG, _REPLY, CTA_PROTOINFO, CTA_ID, CTA_ZONE.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const PROTOINFO: u16 = 4;
const ID: u16 = 12;
const ZONE: u16 = 18;
/// TCP_CONNTRACK_ESTABLISHED.
const ESTABLISHED: u8 = 3;
/// How often what has come up meanwhile is looked for.
pub(super) const ROUNDS: usize = 4;

/// A connection through a protected port, seen from its stranger's end.
#[derive(Debug)]
struct Live {
    through: Element,
    /// Data flows, or may.
    established: bool,
    handle: Handle,
}

/// How it is ended.
#[derive(Debug)]
enum Handle {
    /// A request to destroy the socket.
    Socket(Vec<u8>),
    /// A request to delete the entry.
    Entry(Vec<u8>),
}

/// What is to be ended.
pub(super) struct Running(Vec<Live>);

impl Running {
    /// Through which addresses and ports, each once; nothing if there is nothing.
    pub(super) fn through(&self) -> Vec<Element> {
        let mut through: Vec<Element> = self.0.iter().map(|l| l.through).collect();
        through.sort_unstable();
        through.dedup();
        through
    }
}

/// What the kernel is asked about connections.
#[derive(Debug)]
pub(super) struct Connections {
    diag: Socket,
    track: Socket,
    route: Socket,
    told: bool,
}

impl Connections {
    /// In the network namespace of the calling thread.
    pub(super) fn open() -> Result<Connections, Error> {
        let open = |protocol| Socket::open(protocol).map_err(Failure::Batch);
        Ok(Connections {
            diag: open(SockProtocol::NetlinkSockDiag)?,
            track: open(SockProtocol::NetlinkNetFilter)?,
            route: open(SockProtocol::NetlinkRoute)?,
            told: false,
        })
    }

    /// Whether the kernel can list connections, and end them.
    ///
    /// # Errors
    /// What it lacks.
    pub(super) fn can_end(&mut self) -> Result<(), Error> {
        let lacks = |what: &str| Error::Missing(format!("{what} in this kernel"));
        let request = request(nix::libc::AF_INET as u8);
        let listed = self.diag.dump(BY_FAMILY, request.as_slice(), |_| {});
        listed.map_err(|_| lacks("inet_diag and tcp_diag"))?;
        let listed = self.track.dump(GET, &[0; 4], |_| {});
        listed.map_err(|_| lacks("nf_conntrack_netlink"))?;
        // A socket that does not exist: whoever can end one says so.
        match self.diag.ask(DESTROY, request.as_slice()) {
            Ok(()) | Err(Failure::Batch(Errno::ENOENT)) => Ok(()),
            Err(_) => Err(lacks("SOCK_DESTROY (CONFIG_INET_DIAG_DESTROY)")),
        }
    }

    /// Through which of these a connection lives.
    pub(super) fn through(
        &mut self,
        elements: &[Element],
        shield: &Shield,
    ) -> Result<Vec<Element>, Error> {
        if elements.is_empty() {
            return Ok(Vec::new());
        }
        let live = self.find(elements, shield)?;
        let lives = |e: &&Element| live.iter().any(|l| l.established && holds(e, &l.through));
        Ok(elements.iter().filter(lives).copied().collect())
    }

    /// All that runs through these but what is `spared`.
    pub(super) fn running(
        &mut self,
        elements: &[Element],
        shield: &Shield,
        spared: &dyn Fn(&Element) -> bool,
    ) -> Result<Running, Error> {
        let mut live = self.find(elements, shield)?;
        live.retain(|l| !spared(&l.through));
        Ok(Running(live))
    }

    /// Ends it; what still comes by it has to be dropped already.
    pub(super) fn end(&mut self, running: &Running) {
        for live in &running.0 {
            let done = match &live.handle {
                Handle::Socket(request) => self.diag.ask(DESTROY, request),
                Handle::Entry(request) => self.track.ask(DELETE, request),
            };
            match done {
                // It has ended by itself.
                Ok(()) | Err(Failure::Batch(Errno::ENOENT)) => {}
                Err(failure) => self.tell("a connection is left to die in silence", failure),
            }
        }
    }

    fn tell(&mut self, what: &str, failure: Failure) {
        if !std::mem::replace(&mut self.told, true) {
            log::warn!("{what}: {}", Error::from(failure));
        }
    }

    fn find(&mut self, elements: &[Element], shield: &Shield) -> Result<Vec<Live>, Failure> {
        let mut live = Vec::new();
        let cover = Cover::new(elements.iter().copied());
        let own_port = |to: &Ports| shield.protected.iter().any(|(p, _)| p.contains(to));
        let routed = |at: IpAddr, to: &Ports| {
            let at = Prefix::host(at);
            shield.routed.iter().any(|r| r.ports.contains(to) && r.at.contains(&at))
        };
        for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
            let request = request(family as u8);
            let dumped = self.diag.dump(BY_FAMILY, request.as_slice(), |payload| {
                let here = |(live, at): &(Live, IpAddr)| {
                    let to = &live.through.to;
                    cover.covers(&live.through) && (own_port(to) || routed(*at, to))
                };
                live.extend(session(payload).filter(here).map(|(live, _)| live));
            });
            if let Err(failure) = dumped {
                self.tell("sessions of this machine are not found", failure);
            }
        }
        let mut own = Vec::new();
        self.route.dump(GET_ADDRESS, &[0; 8], |payload| own.extend(own_address(payload)))?;
        own.sort_unstable();
        let here = |at: IpAddr, to: &Ports| {
            own_port(to) && own.binary_search(&at).is_ok() || routed(at, to)
        };
        let dumped = self.track.dump(GET, &[0; 4], |payload| {
            live.extend(entry(payload, here).filter(|l| cover.covers(&l.through)));
        });
        if let Err(failure) = dumped {
            // A kernel without ctnetlink: what ends here is found all the same.
            self.tell("forwarded connections are not found", failure);
        }
        Ok(live)
    }
}

fn request(family: u8) -> ReqV2 {
    ReqV2 { family, protocol: Protocol::Tcp.number(), states: states(), ..ReqV2::new() }
}

fn holds(element: &Element, through: &Element) -> bool {
    element.from.contains(&through.from) && element.to.contains(&through.to)
}

/// The states in which there is a peer that hears of the end.
fn states() -> u32 {
    use TcpState::{
        CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, NewSynRecv, SynRecv,
    };
    [Established, SynRecv, FinWait1, FinWait2, CloseWait, LastAck, Closing, NewSynRecv]
        .into_iter()
        .fold(0, |mask, state| mask | 1 << state as u32)
}

/// A session out of an answer of sock_diag (`inet_diag_msg`, whose second byte is the state), and the
/// address here.
fn session(payload: &[u8]) -> Option<(Live, IpAddr)> {
    let msg = Msg::new_from_slice(payload.get(..Msg::len())?)?;
    let address = |bytes: &[u8; 16]| match i32::from(msg.family) {
        nix::libc::AF_INET => bytes.first_chunk::<4>().map(|a| IpAddr::V4(Ipv4Addr::from(*a))),
        nix::libc::AF_INET6 => Some(canonical(IpAddr::V6(Ipv6Addr::from(*bytes)))),
        _ => None,
    };
    let (peer, own) = (address(&msg.sockid.dst)?, address(&msg.sockid.src)?);
    let request = ReqV2 {
        family: msg.family,
        protocol: Protocol::Tcp.number(),
        states: u32::MAX,
        sockid: msg.sockid.clone(),
        ..ReqV2::new()
    };
    let state = u32::from(*payload.get(1)?);
    let live = Live {
        through: element(peer, Protocol::Tcp, u16::from_be(msg.sockid._sport_be))?,
        established: [TcpState::Established as u32, TcpState::CloseWait as u32].contains(&state),
        handle: Handle::Socket(request.as_slice().to_vec()),
    };
    Some((live, own))
}

fn element(peer: IpAddr, protocol: Protocol, port: u16) -> Option<Element> {
    Some(Element { from: Prefix::host(peer), to: Ports::new(protocol, port, port)? })
}

/// The attributes of a message (netlink(7)): type without its flags, payload, and all of its bytes.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    std::iter::from_fn(move || {
        let head = bytes.first_chunk::<4>()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & 0x3fff;
        let (whole, payload) = (bytes.get(..len)?, bytes.get(4..len)?);
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, payload, whole))
    })
}

fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(k, ..)| *k == kind).map(|(_, payload, _)| payload)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|a| IpAddr::V4(Ipv4Addr::from(*a))),
        _ => bytes.first_chunk::<16>().map(|a| IpAddr::V6(Ipv6Addr::from(*a))),
    }
}

/// One of this machine's addresses, out of an `ifaddrmsg`.
fn own_address(payload: &[u8]) -> Option<IpAddr> {
    let rest = payload.get(8..)?;
    // On a link to one peer IFA_ADDRESS is the peer's.
    attribute(rest, IFA_LOCAL).or_else(|| attribute(rest, IFA_ADDRESS)).and_then(address)
}

/// One direction of an entry.
struct Tuple {
    from: IpAddr,
    to: IpAddr,
    protocol: Protocol,
    /// Source and destination.
    ports: (u16, u16),
}

/// CTA_TUPLE_IP (addresses 1 and 2 of IPv4, 3 and 4 of IPv6) and CTA_TUPLE_PROTO.
fn tuple(bytes: &[u8]) -> Option<Tuple> {
    let (ip, proto) = (attribute(bytes, 1)?, attribute(bytes, 2)?);
    let either = |v4, v6| attribute(ip, v4).or_else(|| attribute(ip, v6)).and_then(address);
    let port = |kind| attribute(proto, kind)?.first_chunk().map(|p| u16::from_be_bytes(*p));
    Some(Tuple {
        from: either(1, 3)?,
        to: either(2, 4)?,
        protocol: Protocol::from_number(*attribute(proto, 1)?.first()?)?,
        ports: (port(2)?, port(3)?),
    })
}

/// An entry to a protected port of this machine, or of one that it routes to. One that our own
/// datagrams began is seen from its other end.
fn entry(payload: &[u8], here: impl Fn(IpAddr, &Ports) -> bool) -> Option<Live> {
    // Behind `nfgenmsg`.
    let rest = payload.get(4..)?;
    let original = tuple(attribute(rest, ORIGINAL)?)?;
    let reply = tuple(attribute(rest, REPLY)?)?;
    let ask = |at: IpAddr, from: IpAddr, port: u16| {
        element(from, original.protocol, port).filter(|through| here(at, &through.to))
    };
    let asked = ask(original.to, original.from, original.ports.1);
    let begun = || match original.protocol {
        Protocol::Udp => ask(original.from, reply.from, reply.ports.1),
        Protocol::Tcp => None,
    };
    let through = asked.or_else(begun)?;
    let state = || {
        let tcp = attribute(attribute(rest, PROTOINFO)?, 1)?;
        attribute(tcp, 1)?.first().copied()
    };
    // The family, the original direction and the entry's number identify it.
    let mut request = payload.get(..4)?.to_vec();
    for (kind, _, whole) in attributes(rest) {
        if [ORIGINAL, ID, ZONE].contains(&kind) {
            request.extend(whole);
            request.resize(request.len().next_multiple_of(4), 0);
        }
    }
    Some(Live {
        established: original.protocol == Protocol::Udp || state() == Some(ESTABLISHED),
        through,
        handle: Handle::Entry(request),
    })
}

#[cfg(test)]
mod tests;
