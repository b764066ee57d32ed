//! `[[listen]] capture`: packets taken from the network without a port that is open.

use super::raw::RawListen;
use super::server_file::Listen;
use crate::access::{Ports, Protocol};
use crate::engine::Mode;
use std::fmt;

/// The most port ranges that one capture watches.
pub const MOST_CAPTURED: usize = 80;
/// The most captures, each of which is two sockets.
pub const MOST_CAPTURES: usize = 16;
/// The longest name of an interface: bytes (IFNAMSIZ without the end).
const LONGEST_INTERFACE: usize = 15;

/// One of `[[listen]]` with `capture`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Capturing {
    /// The interface; none: all of them.
    pub interface: Option<String>,
    /// What it takes.
    pub mode: Mode,
    /// The ports that it watches.
    pub ports: Vec<Ports>,
}

impl Capturing {
    /// The interface as it stands in the file.
    #[must_use]
    pub fn place(&self) -> &str {
        self.interface.as_deref().unwrap_or("any")
    }

    /// Whether a packet could come to both of them.
    fn meets(&self, other: &Capturing) -> bool {
        let apart = self.interface.is_some()
            && other.interface.is_some()
            && self.interface != other.interface;
        !apart && self.ports.iter().any(|p| other.ports.iter().any(|q| p.overlaps(q)))
    }
}

impl fmt::Display for Capturing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "capture {}", self.place())?;
        if self.mode == Mode::Knock {
            // The ports of a sequence are somebody's secret.
            return write!(f, " for knocks");
        }
        self.ports.iter().try_for_each(|p| write!(f, " {p}"))
    }
}

/// The interface that a text names; none: all.
pub(super) fn interface(text: &str) -> Result<Option<String>, String> {
    let plain = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':');
    let name = !text.is_empty() && text.len() <= LONGEST_INTERFACE && text.bytes().all(plain);
    match text {
        "any" => Ok(None),
        "." | ".." => Err(format!("`{text}` is no name of an interface")),
        _ if name => Ok(Some(text.into())),
        _ => Err(format!("`{text}` is no name of an interface: \"any\" means all of them")),
    }
}

/// A capture of one UDP port.
pub(super) fn capturing(
    raw: &RawListen,
    text: &str,
    mode: Mode,
    default: Option<u16>,
    steps: &[Ports],
) -> Result<Capturing, (usize, String)> {
    let start = |s: &toml::Spanned<String>| s.span().start;
    let at = raw.capture.as_ref().map(start).unwrap_or_default();
    let interface = interface(text).map_err(|what| (at, what))?;
    if mode == Mode::Knock {
        if let Some(port) = &raw.port {
            let what = "knocks come to the ports of their sequences: leave `port` out";
            return Err((port.span().start, what.into()));
        }
        return match steps.len() {
            0 => Err((at, "a listener has mode \"knock\", and there is no [knock]".into())),
            1..=MOST_CAPTURED => Ok(Capturing { interface, mode, ports: steps.to_vec() }),
            _ => Err((at, format!("at most {MOST_CAPTURED} different steps are possible"))),
        };
    }
    let (port, at) = match &raw.port {
        Some(port) => (*port.get_ref(), port.span().start),
        None => (default.ok_or((at, "`capture` wants a `port` beside it".into()))?, at),
    };
    let ports = Ports::new(Protocol::Udp, port, port).ok_or((at, "port 0 is no port".into()))?;
    Ok(Capturing { interface, mode, ports: vec![ports] })
}

/// Why one listener cannot be beside the others, if so.
pub(super) fn conflict(
    one: &Capturing,
    captures: &[Capturing],
    listen: &[Listen],
) -> Option<String> {
    if captures.len() == MOST_CAPTURES {
        return Some(format!("at most {MOST_CAPTURES} captures run side by side"));
    }
    if captures.iter().any(|c| c.meets(one)) {
        return Some("another `capture` watches this port already".into());
    }
    let bound = |l: &&Listen| {
        let own = Ports::new(Protocol::Udp, l.address.port(), l.address.port());
        own.is_some_and(|own| one.ports.iter().any(|p| p.overlaps(&own)))
    };
    let udp = listen.iter().find(bound)?;
    let mut what =
        format!("another listener is bound to udp {}: its packets would count twice", udp.address);
    if one.ports.iter().any(|p| p.first() != p.last()) {
        what.push_str("; put that port into `avoid` of the knock's secret");
    }
    Some(what)
}
