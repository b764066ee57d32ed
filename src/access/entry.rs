//! One client's access entry, and the terms that many clients have in common.

use super::{Assurance, ClientId, Hours, Prefix, ServiceId};
use crate::time::Unix;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// One client's access entry: who, and on which terms. It reads as if the terms were its own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// The client.
    pub client: ClientId,
    /// The name in logs and listings.
    pub name: Arc<str>,
    /// On which terms, kept once for all who have the same.
    pub terms: Arc<Terms>,
}

/// What a client may have.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Terms {
    /// The least assurance that counts as this client.
    pub assurance: Assurance,
    /// What he may open, and what is opened when he names nothing.
    pub services: Vec<ServiceId>,
    /// Seconds a lease lasts if the request does not say.
    pub ttl: u32,
    /// The most seconds that he can ask for; longer wishes are shortened to this.
    pub max_ttl: u32,
    /// The most leases at one time (an address and a port range count one).
    pub max_leases: u16,
    /// The only networks whose addresses may be granted; empty: any.
    pub sources: Vec<Prefix>,
    /// Whether "the address that this packet came from" may be granted.
    pub source_address: bool,
    /// The shortest IPv4 prefix length that he may ask for.
    pub max_prefix_v4: u8,
    /// The shortest IPv6 prefix length that he may ask for.
    pub max_prefix_v6: u8,
    /// The end of the credential.
    pub not_after: Option<Unix>,
    /// How many opens the credential is good for.
    pub uses: Option<u32>,
    /// The only hours in which he may open; empty: always.
    pub hours: Vec<Hours>,
}

impl Access {
    /// An entry with terms of its own.
    #[must_use]
    pub fn new(client: ClientId, name: &str, terms: Terms) -> Access {
        Access { client, name: name.into(), terms: Arc::new(terms) }
    }

    /// The same entry on other terms.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Terms)) -> Access {
        change(&mut self);
        self
    }
}

impl Deref for Access {
    type Target = Terms;

    fn deref(&self) -> &Terms {
        &self.terms
    }
}

impl DerefMut for Access {
    /// Others who have the same terms keep theirs.
    fn deref_mut(&mut self) -> &mut Terms {
        Arc::make_mut(&mut self.terms)
    }
}
