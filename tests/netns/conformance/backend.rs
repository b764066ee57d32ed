//! Which backends there are, and how each is made.

use super::ipt::Ipt;
use super::nft::Nft;
use super::reader::Reader;
use opensesame_spa::firewall::iptables::Options;
use opensesame_spa::firewall::{Error, Firewall, Iptables, Nftables, Shield};
use std::path::PathBuf;

/// A backend in one of its forms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backend {
    Nftables,
    Iptables { legacy: bool, ipset: bool },
}

#[allow(non_upper_case_globals)]
pub mod all {
    use super::Backend::{self, Iptables, Nftables};
    pub const nftables: Backend = Nftables;
    pub const iptables_nft_ipset: Backend = Iptables { legacy: false, ipset: true };
    pub const iptables_nft_time: Backend = Iptables { legacy: false, ipset: false };
    pub const iptables_legacy_ipset: Backend = Iptables { legacy: true, ipset: true };
    pub const iptables_legacy_time: Backend = Iptables { legacy: true, ipset: false };
}

/// What [`all`] has, with the words of the table in the docs.
pub const BACKENDS: [(&str, &str); 5] = [
    ("nftables", "nftables"),
    ("iptables_nft_ipset", "iptables (nf_tables), ipset"),
    ("iptables_nft_time", "iptables (nf_tables), no ipset"),
    ("iptables_legacy_ipset", "iptables (legacy), ipset"),
    ("iptables_legacy_time", "iptables (legacy), no ipset"),
];

impl Backend {
    pub fn named(name: &str) -> Backend {
        let all = [
            all::nftables,
            all::iptables_nft_ipset,
            all::iptables_nft_time,
            all::iptables_legacy_ipset,
            all::iptables_legacy_time,
        ];
        all.into_iter().find(|b| b.name() == name).unwrap()
    }

    pub fn name(self) -> &'static str {
        match self {
            Backend::Nftables => "nftables",
            Backend::Iptables { legacy: false, ipset: true } => "iptables_nft_ipset",
            Backend::Iptables { legacy: false, ipset: false } => "iptables_nft_time",
            Backend::Iptables { legacy: true, ipset: true } => "iptables_legacy_ipset",
            Backend::Iptables { legacy: true, ipset: false } => "iptables_legacy_time",
        }
    }

    /// The programs without which it cannot be judged here.
    pub fn tools(self) -> &'static [&'static str] {
        match self {
            Backend::Nftables => &["nft", "strace"],
            Backend::Iptables { .. } => &["iptables-nft", "iptables-legacy", "ipset", "strace"],
        }
    }

    pub fn firewall(self, shield: &Shield) -> Result<Box<dyn Firewall + Send>, Error> {
        self.firewall_with(shield, Options::default().directories)
    }

    /// The same with tools from elsewhere.
    pub fn firewall_with(
        self,
        shield: &Shield,
        directories: Vec<PathBuf>,
    ) -> Result<Box<dyn Firewall + Send>, Error> {
        Ok(match self {
            Backend::Nftables => Box::new(Nftables::new(shield)?),
            Backend::Iptables { legacy, ipset } => {
                let options = Options { legacy: Some(legacy), ipset, directories };
                Box::new(Iptables::with(shield, options)?)
            }
        })
    }

    pub fn reader(self) -> Box<dyn Reader> {
        match self {
            Backend::Nftables => Box::new(Nft),
            Backend::Iptables { legacy, ipset } => Box::new(Ipt { legacy, ipset }),
        }
    }
}
