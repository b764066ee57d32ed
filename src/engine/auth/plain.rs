//! The plain key: the whole datagram is one of two texts. Whoever has seen one can repeat it.

use super::Repeatable;
use crate::access::{Action, Assurance, ClientId};
use crate::crypto::equal;

/// The two texts, and whether who says one of them is answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// The access entry that they stand for.
    pub client: ClientId,
    /// Opens.
    pub open: Vec<u8>,
    /// Closes.
    pub close: Vec<u8>,
    /// Whoever says one of them gets an answer in words.
    pub replies: bool,
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("client", &self.client).finish_non_exhaustive()
    }
}

/// What the datagram says, if it says exactly one of the two.
pub(super) fn authenticate(bytes: &[u8], plain: &Plain) -> Option<Repeatable> {
    let says = |text: &[u8]| bytes.len() == text.len() && equal(bytes, text);
    let action = match (says(&plain.open), says(&plain.close)) {
        (true, _) => Action::Open,
        (_, true) => Action::Close,
        _ => return None,
    };
    Some(Repeatable { client: plain.client, action, assurance: Assurance::PlainKey })
}
