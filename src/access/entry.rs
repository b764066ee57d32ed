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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Policy;

    fn access(n: u8, ttl: u32) -> Access {
        let terms = Terms {
            assurance: Assurance::Sealed,
            services: vec![ServiceId([1; 4])],
            ttl,
            max_ttl: 3_600,
            max_leases: 16,
            sources: Vec::new(),
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: None,
            uses: None,
            hours: Vec::new(),
        };
        Access::new(ClientId([n; 8]), "a", terms)
    }

    #[test]
    fn terms_are_kept_once_and_no_longer_than_somebody_has_them() {
        let mut policy = Policy::new(vec![], vec![]);
        let (first, second) = (access(1, 30), access(2, 30));
        let kept = Arc::downgrade(&first.terms);
        policy.set_client(first);
        policy.set_client(second);
        let terms = |policy: &Policy, n: u8| {
            policy.client(ClientId([n; 8])).map(|a| Arc::downgrade(&a.terms)).unwrap()
        };
        assert!(terms(&policy, 1).ptr_eq(&terms(&policy, 2)));
        policy.set_client(access(1, 60));
        assert!(!terms(&policy, 1).ptr_eq(&terms(&policy, 2)));
        assert!(kept.upgrade().is_some_and(|t| t.ttl == 30));
        policy.remove_client(ClientId([2; 8]));
        assert!(kept.upgrade().is_none(), "nobody has them any more");
    }

    #[test]
    fn who_changes_his_terms_changes_nobody_elses() {
        let one = access(1, 30);
        let other = Access { client: ClientId([2; 8]), ..one.clone() }.with(|t| t.ttl = 5);
        assert_eq!((one.ttl, other.ttl), (30, 5));
    }
}
