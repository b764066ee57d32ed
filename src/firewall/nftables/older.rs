//! TCP sessions that are older than the shield, from sock_diag(7).
//!
//! Where connection tracking was idle before the shield came, it has never heard of them: their
//! next packet is NEW, would be dropped, and be NEW for ever. An entry has no timeout, because a
//! session can be silent for days; it goes at the first sync that finds the session gone. Until
//! then it lets segments without SYN pass from that one address and port, and as they belong to no
//! connection TCP answers them with a reset: an old entry opens nothing.
//!
//! Sessions of other network namespaces (published ports of containers) are not listed here; they
//! are forwarded or translated, which is connection tracking's work, so it knows them.

use super::Element;
use super::cut::Cuts;
use super::sets::{OLDER4, OLDER6, Pair, pair, session};
use super::socket::{Failure, Socket};
use crate::access::{Ports, Prefix, Protocol, canonical};
use netlink_bindings::inet_diag::{Msg, ReqV2, TcpState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// SOCK_DIAG_BY_FAMILY.
const BY_FAMILY: u16 = 20;
/// AF_INET and AF_INET6.
const FAMILIES: [u8; 2] = [2, 10];

/// All states in which there is a peer whose segments matter.
fn connected() -> u32 {
    use TcpState::{
        CloseWait, Closing, Established, FinWait1, FinWait2, LastAck, NewSynRecv, SynRecv, SynSent,
        TimeWait,
    };
    [
        Established,
        SynSent,
        SynRecv,
        FinWait1,
        FinWait2,
        TimeWait,
        CloseWait,
        LastAck,
        Closing,
        NewSynRecv,
    ]
    .into_iter()
    .fold(0, |mask, state| mask | 1 << state as u32)
}

/// The sessions on protected ports but those that have been ended, as the contents of the two sets.
pub(super) fn seeds(
    socket: &mut Socket,
    protected: &[Ports],
    cuts: &Cuts,
) -> Result<Pair<Option<u64>>, Failure> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let request =
            ReqV2 { family, protocol: Protocol::Tcp.number(), states: connected(), ..ReqV2::new() };
        socket.dump(BY_FAMILY, request.as_slice(), |payload| found.extend(read(payload)))?;
    }
    let ours = |(peer, _, dport): &(IpAddr, u16, u16)| {
        let Some(to) = Ports::new(Protocol::Tcp, *dport, *dport) else { return false };
        let through = Element { from: Prefix::host(*peer), to };
        protected.iter().any(|p| p.contains(&to)) && !cuts.contains_key(&through)
    };
    let keys = found.into_iter().filter(ours).map(|(peer, s, d)| (session(peer, s, d), None));
    Ok(pair([OLDER4, OLDER6], keys))
}

/// No sessions.
pub(super) fn none() -> Pair<Option<u64>> {
    pair([OLDER4, OLDER6], std::iter::empty())
}

/// The peer's address and port and our port; a v4-mapped peer is an IPv4 one on the wire.
fn read(payload: &[u8]) -> Option<(IpAddr, u16, u16)> {
    let msg = Msg::new_from_slice(payload.get(..Msg::len())?)?;
    let id = &msg.sockid;
    let v4 = || id.dst.first_chunk::<4>().map(|a| IpAddr::V4(Ipv4Addr::from(*a)));
    let peer = match msg.family {
        2 => v4()?,
        10 => canonical(IpAddr::V6(Ipv6Addr::from(id.dst))),
        _ => return None,
    };
    Some((peer, u16::from_be(id._dport_be), u16::from_be(id._sport_be)))
}
