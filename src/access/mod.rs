//! Who may have what, for how long: the vocabulary of requests, policies and grants.
//!
//! A client sends a *request*; the *policy* made of *access* entries answers with a *grant*. All
//! of it is pure: no clock, no file, no socket.
#![forbid(unsafe_code)]

mod address;
mod entry;
mod hours;
mod policy;
mod ports;

pub use address::{Prefix, PrefixError, canonical};
pub use entry::{Access, Terms};
pub use hours::{Hours, HoursError};
pub use policy::{Denied, OnExpiry, Policy, Refuse, Service};
pub use ports::{MAX_SERVICES, Ports, PortsError, Protocol, ServiceId, Services, Wanted};

use crate::time::{Mono, Unix};
use std::fmt;

/// The 8 bytes that name a client between it and its server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 8]);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({self})")
    }
}

/// What a client wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Let the addresses in.
    Open,
    /// End this client's leases on them.
    Close,
}

/// How well the sender has proved who he is, weakest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Assurance {
    /// A sequence of knocks that anybody on the path can repeat.
    Knock,
    /// A fixed text that anybody on the path can repeat.
    PlainKey,
    /// A knock sequence that changes every 30 seconds.
    TimedKnock,
    /// A packet of fwknop's format.
    Fwknop,
    /// A packet of this program's own format: fresh, secret and bound to the server.
    Sealed,
}

/// What one packet asks for, decoded; the layout is in `docs/protocol.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Open or close.
    pub action: Action,
    /// The client would like an answer.
    pub reply: bool,
    /// End this client's other leases on the same services (roaming).
    pub replace: bool,
    /// The packet's own source address is meant.
    pub source: bool,
    /// An explicit IPv4 address or prefix.
    pub v4: Option<Prefix>,
    /// An explicit IPv6 address or prefix.
    pub v6: Option<Prefix>,
    /// What is to be opened; empty: what the policy opens by default.
    pub services: Services,
    /// When the client made the packet.
    pub time: Unix,
    /// Seconds; 0: the policy's default.
    pub ttl: u32,
}

/// The administrator allows this: made by [`Policy::decide`] and [`Policy::confirm`] alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    claim: Claim,
}

/// What a grant says, and what a process that is not trusted claims that it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Whose grant.
    pub client: ClientId,
    /// How he proved it.
    pub assurance: Assurance,
    /// Open or close.
    pub action: Action,
    /// The client's other leases on the same services end.
    pub replace: bool,
    /// At least one and at most two, of different families.
    pub addresses: [Option<Prefix>; 2],
    /// Empty: the defaults of the client's access entry.
    pub services: Services,
    /// The packet's time: between an open and a close the later one wins.
    pub time: Unix,
    /// When a lease ends.
    pub until: Mono,
}

impl Grant {
    /// What is granted.
    #[must_use]
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

impl Claim {
    /// The addresses that are set.
    pub fn addresses(&self) -> impl Iterator<Item = Prefix> + use<> {
        self.addresses.into_iter().flatten()
    }

    /// What is left of an open when no address that `gone` names is opened; what it replaces it has
    /// ended all the same. A close stays as it is.
    #[must_use]
    pub fn without(self, gone: impl Fn(&Prefix) -> bool) -> Option<Claim> {
        let left = self.addresses.map(|address| address.filter(|a| !gone(a)));
        match (self.action, left) {
            (Action::Close, _) => Some(self),
            (Action::Open, [None, None]) => {
                self.replace.then_some(Claim { action: Action::Close, ..self })
            }
            (Action::Open, addresses) => Some(Claim { addresses, ..self }),
        }
    }
}
