//! Which leases begin and end, for the hooks.

use super::Enforcer;
use crate::access::ClientId;
use crate::firewall::Element;
use crate::time::Mono;

/// A lease begins or is extended, until then; none: it has ended.
pub(in crate::daemon) struct Touched {
    pub(in crate::daemon) client: ClientId,
    /// The client's name.
    pub(in crate::daemon) name: String,
    pub(in crate::daemon) element: Element,
    pub(in crate::daemon) until: Option<Mono>,
}

impl Enforcer {
    pub(super) fn touch(&mut self, client: ClientId, element: Element, until: Option<Mono>) {
        if self.touched.is_some() {
            let name = self.name(client);
            let touched = Touched { client, name, element, until };
            self.touched.get_or_insert_default().push(touched);
        }
    }

    /// What was touched since the last time; from now on it is kept if `kept`.
    pub(in crate::daemon) fn take_touched(&mut self, kept: bool) -> Vec<Touched> {
        std::mem::replace(&mut self.touched, kept.then(Vec::new)).unwrap_or_default()
    }

    /// All leases as if they began now.
    pub(in crate::daemon) fn all_touched(&self) -> impl Iterator<Item = Touched> {
        self.leases.leases().map(|lease| Touched {
            client: lease.client(),
            name: self.name(lease.client()),
            element: lease.element(),
            until: Some(lease.until()),
        })
    }
}
