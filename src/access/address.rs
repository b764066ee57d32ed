//! Addresses and prefixes that can hold a lease.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address with a prefix length; every bit behind the prefix is zero, and it is never a
/// v4-mapped IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Why something is no prefix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PrefixError {
    /// Longer than the family's 32 or 128 bits, or not a number.
    Length,
    /// Bits behind the prefix are set.
    HostBits,
    /// An IPv4 address in IPv6 clothing.
    V4Mapped,
    /// Not an address.
    Address,
}

impl fmt::Display for PrefixError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PrefixError::Length => "the prefix length is impossible",
            PrefixError::HostBits => "bits behind the prefix are set",
            PrefixError::V4Mapped => "a v4-mapped address: write it as IPv4",
            PrefixError::Address => "not an address",
        })
    }
}

impl std::error::Error for PrefixError {}

/// Networks that can never be a stranger's address: a lease for them is refused.
/// Sources: RFC 1122 3.2.1.3, RFC 3927, RFC 4291, RFC 5771, RFC 1112 section 4.
const UNUSABLE: [(IpAddr, u8); 9] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8),
    (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8),
    (IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), 16),
    (IpAddr::V4(Ipv4Addr::new(224, 0, 0, 0)), 4),
    (IpAddr::V4(Ipv4Addr::new(240, 0, 0, 0)), 4),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), 127), // with ::1
    (IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0)), 96),
    (IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0)), 10),
    (IpAddr::V6(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0)), 8),
];

/// A v4-mapped IPv6 address as the IPv4 address that it is; others unchanged.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn bits(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(a) => (u128::from(a.to_bits()) << 96, 32),
        IpAddr::V6(a) => (a.to_bits(), 128),
    }
}

fn mask(length: u8) -> u128 {
    match length {
        0 => 0,
        n => u128::MAX << (128 - u32::from(n.min(128))),
    }
}

impl Prefix {
    /// A prefix out of its two parts.
    ///
    /// # Errors
    /// When the length is beyond the family's, host bits are set or the address is v4-mapped.
    pub fn new(address: IpAddr, length: u8) -> Result<Prefix, PrefixError> {
        let (value, width) = bits(address);
        if canonical(address) != address {
            return Err(PrefixError::V4Mapped);
        }
        if length > width {
            return Err(PrefixError::Length);
        }
        if value & !mask(length) != 0 {
            return Err(PrefixError::HostBits);
        }
        Ok(Prefix { address, length })
    }

    /// The prefix that holds one address only.
    #[must_use]
    pub fn host(address: IpAddr) -> Prefix {
        let address = canonical(address);
        let length = bits(address).1;
        Prefix { address, length }
    }

    /// What one stranger has: an IPv4 address, or the /64 of an IPv6 address, in which he can take
    /// any address that he likes.
    #[must_use]
    pub fn unit(address: IpAddr) -> Prefix {
        match canonical(address) {
            IpAddr::V4(a) => Prefix::host(a.into()),
            IpAddr::V6(a) => {
                let address = Ipv6Addr::from_bits(a.to_bits() & mask(64)).into();
                Prefix { address, length: 64 }
            }
        }
    }

    /// The first address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let (value, width) = bits(self.address);
        let last = value | !mask(self.length);
        match width {
            32 => IpAddr::V4(Ipv4Addr::from_bits((last >> 96) as u32)),
            _ => IpAddr::V6(Ipv6Addr::from_bits(last)),
        }
    }

    /// Bits that are fixed: 0 to 32 or 0 to 128.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.length
    }

    /// Whether it is one address.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.length == bits(self.address).1
    }

    /// All prefixes that it lies in, the widest first and itself at last.
    pub fn around(&self) -> impl Iterator<Item = Prefix> + use<> {
        let Prefix { address, length } = *self;
        (0..=length).map(move |length| match address {
            IpAddr::V4(a) => {
                let kept = (mask(length) >> 96) as u32;
                Prefix { address: Ipv4Addr::from_bits(a.to_bits() & kept).into(), length }
            }
            IpAddr::V6(a) => {
                Prefix { address: Ipv6Addr::from_bits(a.to_bits() & mask(length)).into(), length }
            }
        })
    }

    /// Whether `other` lies within this prefix.
    #[must_use]
    pub fn contains(&self, other: &Prefix) -> bool {
        let ((a, wa), (b, wb)) = (bits(self.address), bits(other.address));
        wa == wb && self.length <= other.length && (a ^ b) & mask(self.length) == 0
    }

    /// Whether the two have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: &Prefix) -> bool {
        self.contains(other) || other.contains(self)
    }

    /// Whether no stranger can have an address in it: unspecified, loopback, link-local,
    /// multicast, broadcast, 0/8, 240/4 or v4-mapped.
    #[must_use]
    pub fn is_unusable(&self) -> bool {
        UNUSABLE.iter().any(|&(address, length)| self.overlaps(&Prefix { address, length }))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_host() {
            true => write!(f, "{}", self.address),
            false => write!(f, "{}/{}", self.address, self.length),
        }
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Prefix, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((a, l)) => (a, Some(l)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| PrefixError::Address)?;
        match length {
            None => Prefix::new(address, bits(address).1),
            Some(l) if l.is_empty() || l.len() > 3 || !l.bytes().all(|b| b.is_ascii_digit()) => {
                Err(PrefixError::Length)
            }
            Some(l) => Prefix::new(address, l.parse().map_err(|_| PrefixError::Length)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn text_goes_both_ways() {
        for text in ["192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "2001:db8::1", "0.0.0.0/0"] {
            assert_eq!(p(text).to_string(), text);
        }
    }

    #[test]
    fn bad_text_is_named() {
        let cases = [
            ("192.0.2.1/24", PrefixError::HostBits),
            ("192.0.2.0/33", PrefixError::Length),
            ("192.0.2.0/+8", PrefixError::Length),
            ("192.0.2.0/", PrefixError::Length),
            ("::ffff:192.0.2.1", PrefixError::V4Mapped),
            ("2001:db8::/129", PrefixError::Length),
            ("example.org", PrefixError::Address),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<Prefix>(), Err(why), "{text}");
        }
    }

    #[test]
    fn containment_stays_in_the_family() {
        assert!(p("10.0.0.0/8").contains(&p("10.9.0.0/16")));
        assert!(!p("10.9.0.0/16").contains(&p("10.0.0.0/8")));
        assert!(p("10.9.0.0/16").overlaps(&p("10.0.0.0/8")));
        assert!(!p("0.0.0.0/0").contains(&p("::1")));
        assert_eq!(p("10.0.0.0/8").last(), "10.255.255.255".parse::<IpAddr>().unwrap());
        assert_eq!(p("2001:db8::/127").last(), "2001:db8::1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn what_no_stranger_can_have_is_unusable() {
        for text in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "169.254.1.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "::/32",
            "128.0.0.0/1",
        ] {
            assert!(p(text).is_unusable(), "{text}");
        }
        for text in ["192.0.2.1", "10.0.0.0/8", "2001:db8::1", "fd00::/32", "126.0.0.0/8", "::2"] {
            assert!(!p(text).is_unusable(), "{text}");
        }
    }

    #[test]
    fn a_mapped_source_is_its_ipv4_address() {
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(Prefix::host(mapped), p("192.0.2.1"));
    }
}
