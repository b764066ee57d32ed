//! What the files can say: limits, names, and the parts that both of them speak of.

use crate::engine::Window;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where the control socket is, unless the file says otherwise; /run is Linux's.
pub const CONTROL: &str = match cfg!(target_os = "linux") {
    true => "/run/opensesame-spa/control.sock",
    false => "/var/run/opensesame-spa/control.sock",
};

/// The most port ranges of one service, and the most services of all.
pub const MOST_RANGES: usize = 32;
/// See [`MOST_RANGES`].
pub(super) const MOST_ALL: usize = 256;

/// The most services and the most networks that one client can have.
pub const MOST_SERVICES: usize = 24;
/// See [`MOST_SERVICES`].
pub const MOST_SOURCES: usize = 8;
/// The most spans of hours of one client.
pub const MOST_HOURS: usize = 8;
/// The longest name of a client or a service: bytes.
pub const LONGEST_NAME: usize = 64;

/// Whether a text can name a client or a service: it stands in file names, logs and links.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@');
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && text.len() <= LONGEST_NAME && text.bytes().all(plain)
}

/// Which packet filter enforces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// nftables over netlink (Linux).
    Nftables,
    /// iptables and ip6tables (Linux).
    Iptables,
    /// pf (macOS, FreeBSD, OpenBSD).
    Pf,
    /// None: says what it would do.
    DryRun,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
            Backend::Pf => "pf",
            Backend::DryRun => "dry-run",
        })
    }
}

/// `[server]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Server {
    /// Where the journal lives.
    pub state_dir: PathBuf,
    /// The control socket.
    pub control: PathBuf,
    /// What `[engine]` becomes.
    pub user: String,
    /// The public name that invitations carry.
    pub public: Option<String>,
    /// The published test keys are accepted: for tests only.
    pub allow_test_keys: bool,
}

/// `[policy]`: what holds for a client whose file does not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyDefaults {
    /// Names of services.
    pub services: Vec<String>,
    /// Seconds.
    pub ttl: u32,
    /// Seconds.
    pub max_ttl: u32,
    /// At one time.
    pub max_leases: u16,
    /// The shortest IPv4 prefix length.
    pub max_prefix_v4: u8,
    /// The shortest IPv6 prefix length.
    pub max_prefix_v6: u8,
    /// Whether the packet's source may be used.
    pub source_address: bool,
    /// How old and how far ahead a packet may be.
    pub window: Window,
}
