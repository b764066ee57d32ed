//! Enforces: grants in, kernel rules out.
//!
//! `lease` is pure and says what is open and until when; each backend makes the kernel agree.
//! A backend owns one table, one set of chains or one anchor, and touches nothing else.
#![forbid(unsafe_code)]

mod boxes;
#[cfg(target_os = "linux")]
mod connections;
mod cover;
mod dry_run;
#[cfg(target_os = "linux")]
pub mod iptables;
mod lease;
#[cfg(target_os = "linux")]
mod nftables;
#[cfg(target_os = "linux")]
pub mod own_rules;
pub mod pf;
mod program;

pub use boxes::{Rectangle, disjoint};
pub use dry_run::DryRun;
#[cfg(target_os = "linux")]
pub use iptables::Iptables;
pub use lease::{Change, Lease, LeaseTable};
#[cfg(target_os = "linux")]
pub use nftables::Nftables;
pub use pf::Pf;

use crate::access::{Ports, Prefix, Refuse};
use crate::time::{Mono, Now};
#[cfg(target_os = "linux")]
use connections::{Connections, ROUNDS};
use cover::Cover;
#[cfg(target_os = "linux")]
use nftables::{Failure, Socket};
use program::Program;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

/// What the kernel keeps: who may reach what. Leases of several clients can stand on one element.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Element {
    /// From where.
    pub from: Prefix,
    /// To which ports.
    pub to: Ports,
}

/// An element and the moment at which the kernel must forget it by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Opening {
    /// Who may reach what.
    pub element: Element,
    /// Until when.
    pub until: Mono,
}

/// Somebody who is turned away from the protected ports unless he holds a lease, and the moment
/// at which the kernel must forget it by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Bar {
    /// Who: an IPv4 address, an IPv6 address or a /64.
    pub from: Prefix,
    /// Until when.
    pub until: Mono,
}

/// What is protected, the same for every backend.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shield {
    /// Every port of every service, each range with the way it refuses; ranges of one protocol
    /// do not overlap.
    pub protected: Vec<(Ports, Refuse)>,
    /// The server's own UDP ports, which are kept out of connection tracking.
    pub listening: Vec<u16>,
    /// Ports of other hosts that this machine routes to, sorted; protected as its own are.
    pub routed: Vec<Routed>,
    /// Ports of this machine whose connections are led on, sorted.
    pub forwards: Vec<Forward>,
    /// Ports whose connections end with the lease, sorted: nothing comes in there by an entry of
    /// connection tracking that the other side has made anew.
    pub cuts: Vec<Ports>,
    /// Interfaces whose packets are not ours to judge, as loopback's are not.
    pub trusted: Vec<String>,
    /// Whether we drop, or admit where the machine's own rules drop.
    pub form: Form,
    /// Nothing is dropped; who would have been is remembered.
    pub observe: bool,
}

/// Ports of other hosts. Their numbers stand for nothing else: an opening says no destination.
/// Ranges that overlap are the same, at several hosts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Routed {
    /// Where.
    pub at: Prefix,
    /// Which.
    pub ports: Ports,
    /// How strangers are refused.
    pub refuse: Refuse,
}

/// A port of this machine behind which another host answers (DNAT), for who holds a lease.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Forward {
    /// The port here; a single one.
    pub from: Ports,
    /// The address and port there.
    pub to: SocketAddr,
}

/// Who drops what strangers send.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Our own rules.
    #[default]
    Shield,
    /// The machine's own rules, but for packets that carry these bits of the packet mark, which our
    /// rules set for who holds a lease (pinhole).
    Mark(u32),
    /// The machine's own rules in this chain, from which ours are asked first (pinhole).
    Chain {
        /// With nftables the family and the name, as in `inet filter`; with iptables its name.
        table: String,
        /// The chain's name.
        chain: String,
    },
}

/// Makes the kernel's packet filter hold exactly what it is told.
pub trait Firewall {
    /// Our rules are the shield, and our sets hold exactly these openings: whatever was there
    /// before. Never opens a gap and never lets a live opening go missing on the way.
    ///
    /// # Errors
    /// When the kernel or its tool refuses; what was there before is still in force.
    fn sync(&mut self, openings: &[Opening], now: Now) -> Result<(), Error>;

    /// Adds openings, or moves the ends of those that are there; all or nothing where the
    /// kernel can.
    ///
    /// # Errors
    /// As for [`Firewall::sync`], which heals.
    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error>;

    /// Ends openings; one that is not there is no error.
    ///
    /// # Errors
    /// As for [`Firewall::sync`], which heals.
    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error>;

    /// Ends openings, and with them the connections that run through them. `spared` says through
    /// which address and port somebody else may still come.
    ///
    /// # Errors
    /// As for [`Firewall::sync`], which heals the rules; connections may go on.
    fn cut(
        &mut self,
        elements: &[Element],
        spared: &dyn Fn(&Element) -> bool,
        now: Now,
    ) -> Result<(), Error>;

    /// Whether it can cut.
    ///
    /// # Errors
    /// What it lacks.
    fn can_cut(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Whether it can say through which elements a connection lives.
    ///
    /// # Errors
    /// What it lacks.
    fn can_tell(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Through which of these a connection lives.
    ///
    /// # Errors
    /// When the kernel does not say, or this backend cannot ask it.
    fn connected(&mut self, elements: &[Element]) -> Result<Vec<Element>, Error>;

    /// Whether it can turn away who is banned.
    ///
    /// # Errors
    /// What it lacks.
    fn can_bar(&self) -> Result<(), Error> {
        Ok(())
    }

    /// From the next [`Firewall::sync`] on these are banned, and nobody else.
    fn set_bars(&mut self, bars: &[Bar]);

    /// Bans them, or moves the ends of bans that are there.
    ///
    /// # Errors
    /// As for [`Firewall::sync`], which heals.
    fn bar(&mut self, bars: &[Bar], now: Now) -> Result<(), Error>;

    /// Ends bans; one that is not there is no error.
    ///
    /// # Errors
    /// As for [`Firewall::sync`], which heals.
    fn unbar(&mut self, from: &[Prefix], now: Now) -> Result<(), Error>;

    /// Whether rules of ours are in force already: from an earlier run, or from boot.
    ///
    /// # Errors
    /// When the kernel or its tool does not say.
    fn is_up(&mut self) -> Result<bool, Error>;

    /// The same for an onlooker, whoever has put them up.
    ///
    /// # Errors
    /// As for [`Firewall::is_up`], or what keeps them from being in force and how to mend it.
    fn stands(&mut self) -> Result<bool, Error> {
        self.is_up()
    }

    /// Whom a shield that only observes would have dropped in the last minute, as far as there
    /// was room to remember.
    ///
    /// # Errors
    /// When the kernel or its tool does not say.
    fn observed(&mut self) -> Result<Vec<Element>, Error> {
        Ok(Vec::new())
    }

    /// Becomes readable when somebody may have changed rules; nothing where the kernel does not
    /// tell, and [`Firewall::is_up`] has to be asked now and then.
    fn events(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Whether somebody else has changed what is ours since the last question, as far as
    /// [`Firewall::events`] tells.
    fn is_disturbed(&mut self) -> bool {
        false
    }

    /// Takes away all that is ours, and nothing else.
    ///
    /// # Errors
    /// When the kernel or its tool refuses.
    fn uninstall(&mut self) -> Result<(), Error>;

    /// What this backend is, for the log: name, variant and versions.
    fn describe(&self) -> String;
}

/// Why the kernel does not hold what it should, and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// No right to change the packet filter.
    Rights,
    /// The kernel or the machine lacks something; the text says what.
    Missing(String),
    /// Somebody else held it too long; the next `sync` tries again.
    Busy(String),
    /// A tool or the kernel refused; the text says what and how.
    Refused(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rights => f.write_str(
                "no right to change the packet filter: run as root or with CAP_NET_ADMIN",
            ),
            Error::Missing(what) => write!(f, "missing: {what}"),
            Error::Busy(what) => write!(f, "busy: {what}"),
            Error::Refused(what) => write!(f, "refused: {what}"),
        }
    }
}

impl std::error::Error for Error {}
