//! Ranges of ports and networks, as rules of their own and not in a set.

use super::{FAMILIES, REGISTER, Rule};
use crate::access::{Ports, Prefix};
use netlink_bindings::nftables::{CmpOps, MetaKeys, PayloadBase, RangeOps};
use std::net::IpAddr;

impl Rule {
    /// The destination port is one of a range.
    pub(in crate::firewall::nftables) fn ports(self, ports: &Ports) -> Rule {
        let mut rule = self.protocol(ports.protocol().number()).payload(
            PayloadBase::TransportHeader,
            2,
            2,
            REGISTER,
        );
        let range = rule.add().nested_elem().nested_data_range().push_sreg(REGISTER);
        let range = range.push_op(RangeOps::Eq as u32).nested_from_data();
        let range = range.push_value(&ports.first().to_be_bytes()).end_nested();
        range.nested_to_data().push_value(&ports.last().to_be_bytes());
        rule.say(&format!("{} dport {}-{}", ports.protocol(), ports.first(), ports.last()))
    }

    fn family(self, family: u8) -> Rule {
        self.meta(MetaKeys::Nfproto, REGISTER).compare(CmpOps::Eq, &[family])
    }

    /// `meta nfproto ipv4` or `ipv6`.
    pub(in crate::firewall::nftables) fn of(self, v4: bool) -> Rule {
        let (family, name) = if v4 { (FAMILIES.0, "ipv4") } else { (FAMILIES.1, "ipv6") };
        self.family(family).say(&format!("meta nfproto {name}"))
    }

    /// The destination address lies in a network.
    pub(in crate::firewall::nftables) fn at(self, network: &Prefix) -> Rule {
        let address = match network.address() {
            IpAddr::V4(a) => a.octets().to_vec(),
            IpAddr::V6(a) => a.octets().to_vec(),
        };
        let (family, offset) = if address.len() == 4 { (FAMILIES.0, 16) } else { (FAMILIES.1, 24) };
        let length = usize::from(network.length());
        let mut mask = vec![0; address.len()];
        for bit in 0..length {
            mask[bit / 8] |= 0x80 >> (bit % 8);
        }
        self.family(family)
            .payload(PayloadBase::NetworkHeader, offset, address.len() as u32, REGISTER)
            .mask(&mask)
            .compare(CmpOps::Eq, &address)
            .say(&format!("daddr {network}"))
    }
}
