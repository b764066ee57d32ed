//! What the system's own tool says, the same for all of them.

use crate::netns::World;
use opensesame_spa::access::{Ports, Prefix, Protocol};
use std::net::IpAddr;

/// Something that may pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Seen {
    /// First and last address.
    pub from: (IpAddr, IpAddr),
    pub protocol: Protocol,
    /// First and last port.
    pub ports: (u16, u16),
    /// Seconds that are left.
    pub left: u64,
}

impl Seen {
    pub fn new(from: &str, protocol: &str, ports: (u16, u16), left: u64) -> Seen {
        let prefix: Prefix = from.parse().unwrap_or_else(|_| panic!("{from}"));
        let protocol = if protocol == "udp" { Protocol::Udp } else { Protocol::Tcp };
        Seen { from: (prefix.address(), prefix.last()), protocol, ports, left }
    }
}

/// The seconds that are left of the way from there to that port; 0 if there is none.
pub fn left(seen: &[Seen], from: &str, to: &str) -> u64 {
    let (from, to): (IpAddr, Ports) = (from.parse().unwrap(), to.parse().unwrap());
    let covers = |s: &&Seen| {
        s.from.0 <= from
            && from <= s.from.1
            && s.from.0.is_ipv4() == from.is_ipv4()
            && s.protocol == to.protocol()
            && (s.ports.0..=s.ports.1).contains(&to.first())
    };
    seen.iter().filter(covers).map(|s| s.left).max().unwrap_or(0)
}

/// What somebody does to our rules.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    RuleRemoved,
    SetFlushed,
    ChainDeleted,
    Duplicated,
    ForeignRule,
}

/// One such deed, as shell.
pub struct Damage {
    pub kind: Kind,
    pub deed: String,
    /// What takes back what is not ours to take back.
    pub undo: String,
    /// The stranger comes in by it.
    pub opens: bool,
}

impl Damage {
    pub fn new(kind: Kind, deed: impl Into<String>) -> Damage {
        Damage { kind, deed: deed.into(), undo: String::new(), opens: false }
    }

    pub fn opens(self) -> Damage {
        Damage { opens: true, ..self }
    }

    pub fn undo(self, undo: impl Into<String>) -> Damage {
        Damage { undo: undo.into(), ..self }
    }
}

/// The system's own tool.
pub trait Reader {
    /// What it says may pass.
    fn openings(&self, world: &World) -> Vec<Seen>;
    /// All that it shows, ours and others', without counters and without the time that is left.
    fn state(&self, world: &World) -> String;
    /// Puts up rules of the machine's own.
    fn foreign(&self, world: &World);
    /// Keeps everything out of connection tracking.
    fn untrack(&self, world: &World);
    /// What somebody can do to our rules while the client has leases.
    fn damages(&self) -> Vec<Damage>;
}
