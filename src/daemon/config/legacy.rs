//! The older ways in, off unless the file names them; here `[plain]`.

use super::ConfigError;
use super::model::MOST_RANGES;
use super::raw::{Raw, RawPlain};
use crate::access::{
    Access, Assurance, ClientId, OnExpiry, Ports, Refuse, Service, ServiceId, Terms,
};
use crate::crypto::service_name;
use crate::engine::{Knock, Plain, Sequence};
use std::path::Path;

/// The longest key of the plain mode: bytes.
pub const LONGEST_KEY: usize = 64;
/// The longest lease of a proof that can be repeated: seconds.
pub(super) const LONGEST_TTL: u32 = 600;
/// The most leases at one time by a proof that can be repeated.
const MOST_LEASES: u16 = 1_024;

/// An older way in: an access entry of its own, for exactly the ports that it names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Legacy {
    /// What the entry allows; its name stands in brackets, which no client's name does.
    pub access: Access,
    /// How it is proved.
    pub how: How,
}

/// A way to prove it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// `[plain]`.
    Plain(Plain),
    /// `[[knock]]`.
    Knock(Knock),
}

impl How {
    /// What whoever turns it on should know.
    #[must_use]
    pub fn weakness(&self) -> &'static str {
        match self {
            How::Plain(_) => "whoever sees it used once can do the same from his own address",
            How::Knock(knock) => match knock.sequence {
                Sequence::Fixed { .. } => {
                    "whoever sees it used once can do the same from his own address"
                }
                Sequence::OneTime(_) | Sequence::Timed(_) => {
                    "a sequence opens once, for the first who completes it: that can be somebody \
                     who sees it on its way"
                }
            },
        }
    }
}

/// The entries of the file, and the services that stand for their ports.
pub(super) fn read(
    path: &Path,
    text: &str,
    raw: &Raw,
    services: &mut Vec<Service>,
) -> Result<Vec<Legacy>, ConfigError> {
    let Some(plain) = &raw.plain else { return Ok(Vec::new()) };
    let at = |byte: usize, what: String| ConfigError::at(path, text, byte, what);
    let RawPlain { open, close, opens, ttl, replies } = plain;
    for key in [open, close] {
        let length = key.get_ref().len();
        if length == 0 || length > LONGEST_KEY {
            return Err(at(key.span().start, format!("1 to {LONGEST_KEY} bytes are possible")));
        }
    }
    if open.get_ref() == close.get_ref() {
        return Err(at(close.span().start, "open and close are the same text".into()));
    }
    let seconds = ttl.get_ref().0;
    if seconds > LONGEST_TTL {
        let what = "a proof that can be repeated opens for at most 10m";
        return Err(at(ttl.span().start, what.into()));
    }
    let (ports, place) = (opens.get_ref(), opens.span().start);
    if ports.is_empty() || ports.len() > MOST_RANGES {
        return Err(at(place, format!("opens: one to {MOST_RANGES} ports are wanted")));
    }
    check_require(ports, Assurance::PlainKey, services).map_err(|what| at(place, what))?;
    let (service, access) = entry("[plain]", Assurance::PlainKey, ports, seconds);
    let plain = Plain {
        client: access.client,
        open: open.get_ref().clone().into_bytes(),
        close: close.get_ref().clone().into_bytes(),
        replies: *replies,
    };
    services.push(service);
    Ok(vec![Legacy { access, how: How::Plain(plain) }])
}

/// A service that asks for more than this proof can give is never opened by it.
pub(super) fn check_require(
    ports: &[Ports],
    has: Assurance,
    services: &[Service],
) -> Result<(), String> {
    let touched = |s: &&Service| s.ports.iter().any(|p| ports.iter().any(|q| p.overlaps(q)));
    let strict = |s: &&Service| s.require.is_some_and(|least| least > has);
    match services.iter().filter(touched).find(strict) {
        Some(service) => Err(format!(
            "[service.{}] has one of these ports and requires a stronger proof",
            service.name
        )),
        None => Ok(()),
    }
}

/// The access entry of an older way in, and the service that stands for its ports.
pub(super) fn entry(
    name: &str,
    assurance: Assurance,
    ports: &[Ports],
    ttl: u32,
) -> (Service, Access) {
    let hash = service_name(name);
    let id = ServiceId(hash);
    let mut client = [0; 8];
    client[4..].copy_from_slice(&hash);
    let service = Service {
        id,
        name: name.into(),
        ports: ports.to_vec(),
        require: None,
        on_expiry: OnExpiry::Keep,
        while_connected: None,
        refuse: Refuse::Drop,
    };
    let access = Access::new(
        ClientId(client),
        name,
        Terms {
            assurance,
            services: vec![id],
            ttl,
            max_ttl: ttl,
            max_leases: MOST_LEASES,
            sources: Vec::new(),
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: None,
            uses: None,
            hours: Vec::new(),
        },
    );
    (service, access)
}
