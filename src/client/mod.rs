//! Builds one packet and sends it.
#![forbid(unsafe_code)]

mod knock;
mod profile;
mod send;

pub use knock::knock;
pub use profile::{Profile, ProfileError};
pub use send::{Target, ask, outbound, resolve, send, wait_for};

use crate::access::{Action, Prefix, Request, Services};
use crate::crypto::{ClientKeys, Door, NoRandomness, random};
use crate::proto::{DATAGRAM, seal};
use crate::time::Unix;

/// What is asked of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Open or close.
    pub action: Action,
    /// The packet's source.
    pub source: bool,
    /// An IPv4 address.
    pub v4: Option<Prefix>,
    /// An IPv6 address.
    pub v6: Option<Prefix>,
    /// What; empty: the defaults.
    pub services: Services,
    /// Seconds; 0: the default.
    pub ttl: u32,
    /// An answer is wanted.
    pub reply: bool,
    /// The client's other leases on the same services end.
    pub replace: bool,
}

/// The datagram that says this, now.
///
/// # Errors
/// When the system has no randomness to give.
pub fn packet(profile: &Profile, wish: &Wish, time: Unix) -> Result<[u8; DATAGRAM], NoRandomness> {
    let door = Door::derive(profile.server, &profile.door);
    let keys = ClientKeys::derive(profile.server, &profile.key, profile.id.0);
    let request = Request {
        action: wish.action,
        reply: wish.reply,
        replace: wish.replace,
        source: wish.source,
        v4: wish.v4,
        v6: wish.v6,
        services: wish.services,
        time,
        ttl: if wish.action == Action::Close { 0 } else { wish.ttl },
    };
    Ok(seal(&request, profile.id, profile.server, &door, &keys, &random()?))
}
