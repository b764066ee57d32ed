//! The words of suspicion: the rules, a verdict, a ban.

use crate::access::Prefix;
use crate::time::Unix;
use std::net::IpAddr;

/// How much is too much, and what follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// So many strikes of an address have no consequence.
    pub budget: u8,
    /// So many guesses at the PIN are compared in one ban of an address.
    pub guesses: u8,
    /// The first ban: seconds, doubled each time.
    pub first: u32,
    /// The longest ban, random part included: seconds.
    pub longest: u32,
    /// Networks that are never banned, beside loopback, link-local and the machine's own.
    pub never: Vec<Prefix>,
}

impl Rules {
    /// Whether nobody in that prefix may be banned with it; `own`: the machine's addresses.
    #[must_use]
    pub fn spare(&self, prefix: &Prefix, own: &[IpAddr]) -> bool {
        let own = own.iter().any(|a| prefix.overlaps(&Prefix::host(*a)));
        // In the kernel the first address of a /64 stands for all of it.
        let first =
            prefix.is_host() && prefix.address() == Prefix::unit(prefix.address()).address();
        let first = first && prefix.address().is_ipv6();
        own || first || prefix.is_unusable() || self.never.iter().any(|n| n.overlaps(prefix))
    }

    /// Whether such a ban is one that the engine could have made.
    #[must_use]
    pub fn allow(&self, ban: &Ban, own: &[IpAddr], now: Unix) -> bool {
        let one = [Prefix::unit(ban.prefix.address()), Prefix::host(ban.prefix.address())];
        let longest = now.plus(u64::from(self.longest) * 1_000);
        one.contains(&ban.prefix) && ban.until <= longest && !self.spare(&ban.prefix, own)
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { budget: 3, guesses: 4, first: 600, longest: 86_400, never: Vec::new() }
    }
}

/// What becomes of a strike or a guess.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// A strike was counted; so many more have no consequence.
    Counted {
        /// Strikes.
        left: u8,
    },
    /// The address is banned, and a guess was not compared.
    Blocked {
        /// Until when.
        until: Unix,
    },
    /// The PIN was right: the address is banned no more.
    Pardoned,
    /// The PIN was wrong.
    Wrong {
        /// So many guesses are left in this ban.
        left: u8,
        /// The answer is to be held back so long.
        delay_ms: u32,
    },
    /// The address is never banned, or holds a lease, or is not banned at present.
    Exempt,
}

/// A ban.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ban {
    /// An IPv4 address, or the /64 of an IPv6 address.
    pub prefix: Prefix,
    /// Until when, by the wall clock.
    pub until: Unix,
    /// Which ban of this address it is, from 1.
    pub times: u8,
}
