//! Bytes and their meaning: the wire, pure. `docs/protocol.md` is the normative text.
//!
//! Every size of the wire, on one screen. All integers are big-endian but the admission tag.
#![forbid(unsafe_code)]

mod packet;
mod reply;
mod request;
mod timed;

pub use packet::{Packet, seal};
pub use reply::{Reply, Status, open_reply, seal_reply};
pub use request::{decode, encode};
pub use timed::{LOWEST, MOST_AVOIDED, PERIOD, TIMED_STEPS, TimedKnock};

use std::fmt;

/// Every datagram, in both directions.
pub const DATAGRAM: usize = 288;
/// The random nonce at the front.
pub const NONCE: usize = 24;
/// The part of the nonce that the admission tag covers: with the tag, the *token*.
pub const TOKEN: usize = 8;
/// The admission tag behind the nonce.
pub const TAG: usize = 4;
/// The masked client id behind the tag.
pub const CLIENT: usize = 8;
/// Nonce, tag and masked id: associated data of the sealed body.
pub const HEADER: usize = NONCE + TAG + CLIENT;
/// The sealed body of a request's datagram.
pub const BODY: usize = 204;
/// The Poly1305 tag behind the body.
pub const SEAL_TAG: usize = 16;
/// The HMAC at the end; it covers all bytes before it.
pub const HMAC: usize = 32;
/// All bytes that the HMAC covers.
pub const COVERED: usize = DATAGRAM - HMAC;
/// A request, at the front of the body; zeros follow.
pub const REQUEST: usize = 96;
/// The sealed body of a reply.
pub const REPLY_BODY: usize = 216;
/// The one version of requests and replies.
pub const VERSION: u8 = 1;
/// Times are milliseconds since the Unix epoch, below this.
pub const TIME_LIMIT: u64 = 1 << 47;
/// The shortest prefix lengths that a request can carry, IPv4 and IPv6.
pub const WIDEST: (u8, u8) = (8, 32);

const _: () = assert!(HEADER + BODY + SEAL_TAG + HMAC == DATAGRAM);
const _: () = assert!(NONCE + REPLY_BODY + SEAL_TAG + HMAC == DATAGRAM);

/// What is wrong with the shape of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Not 288 bytes.
    Length,
    /// The seal does not open: wrong key, wrong server or changed bytes.
    Seal,
    /// Not version 1.
    Version,
    /// No such action or status.
    Action,
    /// No address, or an impossible set of them.
    Addresses,
    /// A prefix out of its range, with host bits, or of a kind that holds no lease.
    Prefix,
    /// A time of 2^47 ms or later.
    Time,
    /// A ttl in a close.
    Ttl,
    /// More than eight services, or one that is no service.
    Services,
    /// Another encoding of what it says: unknown bits, bytes that must be zero, wrong order.
    NotCanonical,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::Length => "wrong length",
            Malformed::Seal => "the seal does not open",
            Malformed::Version => "unknown version",
            Malformed::Action => "unknown action",
            Malformed::Addresses => "impossible set of addresses",
            Malformed::Prefix => "impossible address",
            Malformed::Time => "impossible time",
            Malformed::Ttl => "a ttl in a close",
            Malformed::Services => "impossible services",
            Malformed::NotCanonical => "not the one encoding",
        })
    }
}

impl std::error::Error for Malformed {}

/// The `N` bytes at `at`; the sizes above make it certain that they are there.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
