//! Why a packet was refused: a value, counted, never sent.

use crate::access::{ClientId, Denied};
use crate::proto::Malformed;
use std::fmt;

/// The first reason why a packet was refused, cheapest check first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reject {
    /// Wrong shape; behind the proof it can only be a client of another making.
    Malformed(Malformed),
    /// The admission tag is no door key's.
    NotAdmitted,
    /// The proof is wrong: the HMAC, the text, the ports.
    Unauthentic,
    /// The id is nobody's.
    UnknownClient,
    /// Too old: dated so many milliseconds before the server's clock.
    Stale(u64),
    /// Dated before something that has been forgotten, or before this start.
    Floor,
    /// Dated too far ahead: so many milliseconds after the server's clock.
    Early(u64),
    /// Seen before.
    Replayed,
    /// Seen from the same address a moment ago: one packet sent twice.
    Duplicate,
    /// A later request has been accepted that says the opposite.
    Superseded,
    /// Too many packets at once.
    Busy,
    /// The policy does not allow it.
    NotPermitted(Denied),
    /// It cannot be recorded, so it is not done.
    NoRecord,
}

impl Reject {
    /// The name of its counter, and how many there are: `COUNT` names in a fixed order.
    pub const NAMES: [&'static str; 13] = [
        "malformed",
        "not-admitted",
        "unauthentic",
        "unknown-client",
        "stale",
        "floor",
        "early",
        "replayed",
        "duplicate",
        "superseded",
        "busy",
        "not-permitted",
        "no-record",
    ];

    /// Its place in [`Reject::NAMES`].
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Reject::Malformed(_) => 0,
            Reject::NotAdmitted => 1,
            Reject::Unauthentic => 2,
            Reject::UnknownClient => 3,
            Reject::Stale(_) => 4,
            Reject::Floor => 5,
            Reject::Early(_) => 6,
            Reject::Replayed => 7,
            Reject::Duplicate => 8,
            Reject::Superseded => 9,
            Reject::Busy => 10,
            Reject::NotPermitted(_) => 11,
            Reject::NoRecord => 12,
        }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: &u64| *ms as f64 / 1_000.0;
        match self {
            Reject::Malformed(why) => write!(f, "malformed: {why}"),
            Reject::NotAdmitted => f.write_str("not admitted"),
            Reject::Unauthentic => f.write_str("not authentic"),
            Reject::UnknownClient => f.write_str("unknown client"),
            Reject::Stale(ms) => write!(
                f,
                "stale: the client's clock is {:.1} s behind this server's, or the packet was kept",
                seconds(ms)
            ),
            Reject::Floor => f.write_str(
                "stale: dated before this server's start, or before what it has forgotten",
            ),
            Reject::Early(ms) => {
                write!(
                    f,
                    "early: the client's clock is {:.1} s ahead of this server's",
                    seconds(ms)
                )
            }
            Reject::Replayed => f.write_str("replayed"),
            Reject::Duplicate => f.write_str("duplicate"),
            Reject::Superseded => f.write_str("superseded by a later request"),
            Reject::Busy => f.write_str("busy: too many packets, or the firewall is behind"),
            Reject::NotPermitted(why) => write!(f, "not permitted: {why}"),
            Reject::NoRecord => f.write_str("not recorded, so not done: see the journal's errors"),
        }
    }
}

impl std::error::Error for Reject {}

impl From<Denied> for Reject {
    fn from(why: Denied) -> Reject {
        match why {
            Denied::UnknownClient => Reject::UnknownClient,
            Denied::Expired
            | Denied::Assurance
            | Denied::Service
            | Denied::Source
            | Denied::Width
            | Denied::Network
            | Denied::Address
            | Denied::Ttl
            | Denied::UsedUp
            | Denied::Hours
            | Denied::TooMany => Reject::NotPermitted(why),
        }
    }
}

/// A packet that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: Reject,
    /// Whose packet it was, if that is proven.
    pub client: Option<ClientId>,
}
