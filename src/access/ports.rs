//! Ports, port ranges and named services, as a request names them.

use std::fmt;
use std::str::FromStr;

/// The most services that one request can name.
pub const MAX_SERVICES: usize = 8;

/// The transport protocols that can be protected.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
}

impl Protocol {
    /// The IP protocol number (IANA).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }

    /// The protocol of that number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Protocol> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

/// A port or a range of ports of one protocol: `tcp/22`, `udp/5000-5010`; 1 <= first <= last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    protocol: Protocol,
    first: u16,
    last: u16,
}

/// A text that names no port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortsError;

impl fmt::Display for PortsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a port: write tcp/22, udp/51820 or tcp/8000-8010")
    }
}

impl std::error::Error for PortsError {}

impl Ports {
    /// The ports from `first` to `last`, or nothing if that is no range of real ports.
    #[must_use]
    pub const fn new(protocol: Protocol, first: u16, last: u16) -> Option<Ports> {
        match 1 <= first && first <= last {
            true => Some(Ports { protocol, first, last }),
            false => None,
        }
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The lowest port.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The highest port.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }

    /// Whether it is one port.
    #[must_use]
    pub const fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// Whether all of `other` lies within this range.
    #[must_use]
    pub fn contains(&self, other: &Ports) -> bool {
        self.protocol == other.protocol && self.first <= other.first && other.last <= self.last
    }

    /// Whether the two have a port in common.
    #[must_use]
    pub fn overlaps(&self, other: &Ports) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_single() {
            true => write!(f, "{}/{}", self.protocol, self.first),
            false => write!(f, "{}/{}-{}", self.protocol, self.first, self.last),
        }
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Ports, PortsError> {
        let port = |t: &str| match t.bytes().all(|b| b.is_ascii_digit()) {
            true => t.parse::<u16>().map_err(|_| PortsError),
            false => Err(PortsError),
        };
        let (protocol, range) = text.split_once('/').ok_or(PortsError)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(PortsError),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Ports::new(protocol, port(first)?, port(last)?).ok_or(PortsError)
    }
}

/// The first 4 bytes of SHA-256 of a service's name: how a request names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId(pub [u8; 4]);

/// One thing that a request asks to open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Wanted {
    /// Ports, by number.
    Ports(Ports),
    /// A service that the server's administrator named.
    Named(ServiceId),
}

impl Wanted {
    /// Where it stands in the one order that the wire allows: kind, then the four bytes.
    fn rank(&self) -> (u8, [u8; 4]) {
        match self {
            Wanted::Ports(p) => {
                let ([a, b], [c, d]) = (p.first.to_be_bytes(), p.last.to_be_bytes());
                (p.protocol.number(), [a, b, c, d])
            }
            Wanted::Named(ServiceId(id)) => (1, *id),
        }
    }
}

/// Up to eight different services, in the order of the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Services {
    items: [Option<Wanted>; MAX_SERVICES],
}

impl Services {
    /// None: the defaults of whoever reads it.
    pub const EMPTY: Services = Services { items: [None; MAX_SERVICES] };

    /// The services of `list`, sorted, each once; nothing if there are more than eight.
    #[must_use]
    pub fn new(list: &[Wanted]) -> Option<Services> {
        let mut sorted = list.to_vec();
        sorted.sort_by_key(Wanted::rank);
        sorted.dedup();
        let mut items = [None; MAX_SERVICES];
        match sorted.len() <= MAX_SERVICES {
            true => sorted.into_iter().zip(&mut items).for_each(|(w, place)| *place = Some(w)),
            false => return None,
        }
        Some(Services { items })
    }

    /// The services in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Wanted> + use<> {
        self.items.into_iter().flatten()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items[0].is_none()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_both_ways() {
        for text in ["tcp/22", "udp/1", "tcp/8000-8010", "udp/65535"] {
            assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for text in [
            "",
            "22",
            "tcp",
            "tcp/",
            "tcp/0",
            "tcp/65536",
            "tcp/9-8",
            "sctp/1",
            "tcp/+1",
            "tcp/1-",
            "tcp/-1",
            "tcp/1-2-3",
            "TCP/22",
            "tcp/ 22",
            "tcp/0-5",
        ] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError), "{text}");
        }
    }

    #[test]
    fn services_are_sorted_each_once_and_at_most_eight() {
        let port = |n| Wanted::Ports(Ports::new(Protocol::Tcp, n, n).unwrap());
        let named = Wanted::Named(ServiceId([9; 4]));
        let s = Services::new(&[port(80), named, port(22), port(80)]).unwrap();
        assert_eq!(s.iter().collect::<Vec<_>>(), [named, port(22), port(80)]);
        assert_eq!(s.len(), 3);
        assert!(Services::new(&(1..=9).map(port).collect::<Vec<_>>()).is_none());
        assert!(Services::new(&[]).unwrap().is_empty());
    }
}
