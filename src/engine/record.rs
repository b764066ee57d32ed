//! What the journal remembers.

use super::hooks::Note;
use super::suspicion::Ban;
use crate::access::{Action, Claim, ClientId, Prefix};
use crate::time::{Mono, Unix};

/// One fact on disk; fed back through [`super::History`] at the next start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// A segment of this boot of the machine begins here.
    Boot {
        /// The kernel's random boot id.
        id: [u8; 16],
        /// When the server first started on this boot with a memory that might have holes.
        started: Mono,
        /// Everything that is remembered follows in this segment; earlier ones are not needed.
        whole: bool,
        /// So many records that belong to the beginning follow; without all of them it is none.
        more: u32,
    },
    /// The server stopped by itself.
    Clean,
    /// Packets dated up to here may be accepted without a sync of their own.
    Horizon(Unix),
    /// Every accepted packet that is forgotten is dated at or before this.
    Floor(Unix),
    /// A packet was accepted as fresh.
    Seen {
        /// Whose.
        client: ClientId,
        /// Its date.
        time: Unix,
        /// The head of its nonce.
        proof: [u8; 16],
    },
    /// A lease begins or is extended.
    Granted(Claim),
    /// Leases end.
    Closed(Claim),
    /// The client's credential has been used so many times.
    Used {
        /// Whose.
        client: ClientId,
        /// How often, this time included.
        count: u32,
    },
    /// An address is banned.
    Banned(Ban),
    /// An address is banned no more, and begins anew.
    Pardoned(Prefix),
    /// A moment of a lease's hooks.
    Hook(Note),
}

impl Record {
    /// The record that stands before the grant of this claim.
    pub(super) fn of(claim: &Claim) -> Record {
        match claim.action {
            Action::Open => Record::Granted(*claim),
            Action::Close => Record::Closed(*claim),
        }
    }
}
