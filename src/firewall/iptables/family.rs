//! The two families of addresses, and what is called by them.

use crate::firewall::Element;
use std::net::IpAddr;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(super) fn is(self, address: IpAddr) -> bool {
        Family::of(address) == self
    }

    pub(super) fn has(self, element: &Element) -> bool {
        self.is(element.from.address())
    }

    pub(super) fn pick(self, v4: &'static str, v6: &'static str) -> &'static str {
        match self {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    pub(super) fn inet(self) -> &'static str {
        self.pick("inet", "inet6")
    }

    pub(super) fn program(self) -> &'static str {
        self.pick("iptables", "ip6tables")
    }

    /// The set of single addresses.
    pub(super) fn hosts(self) -> &'static str {
        self.pick("opensesame4", "opensesame6")
    }

    /// The set of prefixes.
    pub(super) fn nets(self) -> &'static str {
        self.pick("opensesame4-net", "opensesame6-net")
    }

    /// The set of sessions older than the shield.
    pub(super) fn older(self) -> &'static str {
        self.pick("opensesame4-older", "opensesame6-older")
    }

    /// The set of those who are banned.
    pub(super) fn bans(self) -> &'static str {
        self.pick("opensesame4-ban", "opensesame6-ban")
    }

    /// The set of those who would have been dropped.
    pub(super) fn seen(self) -> &'static str {
        self.pick("opensesame4-seen", "opensesame6-seen")
    }
}
