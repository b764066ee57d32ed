//! What the administrator allows: services, access entries, and the two questions asked of them.

use super::{
    Access, Action, Assurance, Claim, ClientId, Grant, Hours, Ports, Prefix, Request, ServiceId,
    Terms, Wanted, canonical,
};
use crate::time::Now;
use jiff::tz::TimeZone;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What becomes of connections when a service's lease ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnExpiry {
    /// They live on.
    #[default]
    Keep,
    /// They are cut.
    Cut,
}

/// How a protected port refuses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Refuse {
    /// In silence.
    #[default]
    Drop,
    /// With a TCP reset or an ICMP port-unreachable, like a port where nobody listens.
    Reset,
}

/// A named set of protected ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// What a request calls it.
    pub id: ServiceId,
    /// What people call it.
    pub name: String,
    /// The ports, at least one.
    pub ports: Vec<Ports>,
    /// The least assurance that may ever open it.
    pub require: Option<Assurance>,
    /// What the end of a lease means.
    pub on_expiry: OnExpiry,
    /// A lease goes on while a connection through it lives, for at most so many seconds in all.
    pub while_connected: Option<u32>,
    /// How strangers are refused.
    pub refuse: Refuse,
}

/// Services and access entries of one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    zone: TimeZone,
    services: BTreeMap<ServiceId, Service>,
    clients: HashMap<ClientId, Access>,
    /// The different terms that they have.
    terms: BTreeSet<Arc<Terms>>,
    own: Vec<IpAddr>,
}

/// Why the administrator does not allow it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// No access entry has this id.
    UnknownClient,
    /// The credential has ended.
    Expired,
    /// The proof is weaker than the entry or the service asks for.
    Assurance,
    /// There is no such service, or it is not one of this client's.
    Service,
    /// "The packet's source" is not allowed to this client.
    Source,
    /// The prefix is wider than allowed.
    Width,
    /// The address is outside the networks of this client.
    Network,
    /// No stranger can have that address, or it is the server's own.
    Address,
    /// The lease would last longer than allowed.
    Ttl,
    /// The credential was good for a number of opens, and they are used up.
    UsedUp,
    /// This client, or all together, have as many leases as allowed.
    TooMany,
    /// It is none of the hours in which he may open.
    Hours,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::UnknownClient => "no such client",
            Denied::Expired => "the credential has expired",
            Denied::Assurance => "the service asks for a stronger proof",
            Denied::Service => "no such service for this client",
            Denied::Source => "the packet's source address may not be used",
            Denied::Width => "the prefix is too wide",
            Denied::Network => "the address is outside the client's networks",
            Denied::Address => "the address can hold no lease",
            Denied::Ttl => "the lease would last too long",
            Denied::UsedUp => "the credential is used up",
            Denied::TooMany => "too many leases",
            Denied::Hours => "not at this hour",
        })
    }
}

impl Policy {
    /// A policy without clients.
    #[must_use]
    pub fn new(services: Vec<Service>, own: Vec<IpAddr>) -> Policy {
        let services = services.into_iter().map(|s| (s.id, s)).collect();
        let own = own.into_iter().map(canonical).collect();
        let (clients, terms) = (HashMap::new(), BTreeSet::new());
        Policy { zone: TimeZone::UTC, services, clients, terms, own }
    }

    /// Where the machine is: hours are those of its wall clock.
    pub fn set_zone(&mut self, zone: TimeZone) {
        self.zone = zone;
    }

    /// Whether this client may open now. It is asked when he comes, and not again of what he has
    /// been granted.
    ///
    /// # Errors
    /// [`Denied::Hours`].
    pub fn is_hour(&self, access: &Access, now: Now) -> Result<(), Denied> {
        let holds = |h: &Hours| h.hold(now.unix, &self.zone);
        match access.hours.is_empty() || access.hours.iter().any(holds) {
            true => Ok(()),
            false => Err(Denied::Hours),
        }
    }

    /// Exchanges all services.
    pub fn set_services(&mut self, services: Vec<Service>) {
        self.services = services.into_iter().map(|s| (s.id, s)).collect();
    }

    /// The entry with the terms of others who have the same, so that they are kept once.
    #[must_use]
    pub fn share(&mut self, mut access: Access) -> Access {
        match self.terms.get(&access.terms) {
            Some(known) => access.terms = Arc::clone(known),
            None => drop(self.terms.insert(Arc::clone(&access.terms))),
        }
        access
    }

    /// Adds an access entry, or replaces the one of that id.
    pub fn set_client(&mut self, access: Access) {
        let access = self.share(access);
        let before = self.clients.insert(access.client, access);
        self.forget_terms(before.as_ref());
    }

    /// Takes an access entry away.
    pub fn remove_client(&mut self, client: ClientId) -> Option<Access> {
        let before = self.clients.remove(&client);
        self.forget_terms(before.as_ref());
        before
    }

    /// Forgets the terms that were this entry's alone.
    fn forget_terms(&mut self, before: Option<&Access>) {
        // The set's own copy and this one.
        if let Some(access) = before.filter(|a| Arc::strong_count(&a.terms) == 2) {
            self.terms.remove(&access.terms);
        }
    }

    /// The server's own addresses, canonical.
    #[must_use]
    pub fn own(&self) -> &[IpAddr] {
        &self.own
    }

    /// The server's own addresses, which never hold a lease.
    pub fn set_own(&mut self, own: Vec<IpAddr>) {
        self.own = own.into_iter().map(canonical).collect();
    }

    /// The access entry of a client.
    #[must_use]
    pub fn client(&self, client: ClientId) -> Option<&Access> {
        self.clients.get(&client)
    }

    /// All services, by id.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// All client ids, ascending.
    #[must_use]
    pub fn client_ids(&self) -> Vec<ClientId> {
        let mut ids: Vec<ClientId> = self.clients.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// The service that has these ports, if there is one; of several the one with the lowest id.
    #[must_use]
    pub fn service_of(&self, ports: &Ports) -> Option<&Service> {
        self.services.values().find(|s| s.ports.iter().any(|p| p.contains(ports)))
    }

    /// Whether a lease on these ports ends the connections that run through it: one service that
    /// says so is enough.
    #[must_use]
    pub fn cuts(&self, ports: &Ports) -> bool {
        let cuts = |s: &Service| s.on_expiry == OnExpiry::Cut;
        self.services.values().any(|s| cuts(s) && s.ports.iter().any(|p| p.overlaps(ports)))
    }

    /// For how many seconds at most this client's lease on these ports goes on while a connection
    /// lives.
    #[must_use]
    pub fn while_connected(&self, access: &Access, ports: &Ports) -> Option<u32> {
        let has = |s: &&Service| {
            access.services.contains(&s.id) && s.ports.iter().any(|p| p.contains(ports))
        };
        self.services.values().filter(has).filter_map(|s| s.while_connected).max()
    }

    /// May this client, who sent this request from this address and proved it so well, have it?
    ///
    /// # Errors
    /// The first reason why not.
    pub fn decide(
        &self,
        client: ClientId,
        assurance: Assurance,
        request: &Request,
        from: IpAddr,
        now: Now,
    ) -> Result<Grant, Denied> {
        let access = self.clients.get(&client).ok_or(Denied::UnknownClient)?;
        if request.source && !access.source_address {
            return Err(Denied::Source);
        }
        if request.action == Action::Open {
            self.is_hour(access, now)?;
        }
        let source = request.source.then(|| Prefix::host(from));
        let explicit = [request.v4, request.v6];
        let mut addresses: [Option<Prefix>; 2] = [None; 2];
        for prefix in source.into_iter().chain(explicit.into_iter().flatten()) {
            // The source and an explicit address of one family would be two answers to one question.
            let place = &mut addresses[usize::from(prefix.address().is_ipv6())];
            if place.replace(prefix).is_some() {
                return Err(Denied::Address);
            }
        }
        let wish = if request.ttl == 0 { access.ttl } else { request.ttl };
        let ms = u64::from(wish.min(access.max_ttl)) * 1_000;
        let left = access.not_after.map_or(u64::MAX, |end| end.since(now.unix));
        self.confirm(
            &Claim {
                client,
                assurance,
                action: request.action,
                replace: request.replace,
                addresses,
                services: request.services,
                time: request.time,
                until: now.mono.plus(ms.min(left)),
            },
            now,
        )
    }

    /// Is this something that the client could have been granted, now?
    ///
    /// Asked a second time by the process that holds the firewall, with its own copy of the
    /// policy, of what the process that reads the network claims.
    ///
    /// # Errors
    /// The first reason why not.
    pub fn confirm(&self, claim: &Claim, now: Now) -> Result<Grant, Denied> {
        let access = self.clients.get(&claim.client).ok_or(Denied::UnknownClient)?;
        let left = access.not_after.map_or(u64::MAX, |end| end.since(now.unix));
        if left == 0 {
            return Err(Denied::Expired);
        }
        if claim.assurance < access.assurance {
            return Err(Denied::Assurance);
        }
        if claim.addresses().next().is_none() {
            return Err(Denied::Address);
        }
        claim.addresses().try_for_each(|prefix| self.address(access, &prefix))?;
        self.ports(access, claim)?;
        // A second of grace: the two processes do not read their clocks at the same moment.
        let most = (u64::from(access.max_ttl) * 1_000).min(left).saturating_add(1_000);
        if claim.action == Action::Open && claim.until.since(now.mono) > most {
            return Err(Denied::Ttl);
        }
        Ok(Grant { claim: *claim })
    }

    fn address(&self, access: &Access, prefix: &Prefix) -> Result<(), Denied> {
        let widest = match prefix.address() {
            IpAddr::V4(_) => access.max_prefix_v4,
            IpAddr::V6(_) => access.max_prefix_v6,
        };
        if prefix.is_unusable() {
            return Err(Denied::Address);
        }
        if prefix.length() < widest {
            return Err(Denied::Width);
        }
        // A wide prefix may hold the server's own address: who shares its network is no impostor.
        if prefix.is_host() && self.own.contains(&prefix.address()) {
            return Err(Denied::Address);
        }
        match access.sources.is_empty() || access.sources.iter().any(|net| net.contains(prefix)) {
            true => Ok(()),
            false => Err(Denied::Network),
        }
    }

    /// The port ranges that a claim means.
    ///
    /// # Errors
    /// When one of its services is not this client's, or asks for a stronger proof.
    pub fn ports(&self, access: &Access, claim: &Claim) -> Result<Vec<Ports>, Denied> {
        let allowed = || access.services.iter().filter_map(|id| self.services.get(id));
        let strong = |s: &Service| s.require.is_none_or(|least| claim.assurance >= least);
        let mut ports = Vec::new();
        let mut take = |service: &Service, some: &[Ports]| match strong(service) {
            true => {
                ports.extend_from_slice(some);
                Ok(())
            }
            false => Err(Denied::Assurance),
        };
        for wanted in claim.services.iter() {
            match wanted {
                Wanted::Named(id) => {
                    let service = allowed().find(|s| s.id == id).ok_or(Denied::Service)?;
                    take(service, &service.ports)?;
                }
                Wanted::Ports(p) => {
                    // A port may stand in two services: the strictest of them decides.
                    let has = |s: &&Service| s.ports.iter().any(|q| q.contains(&p));
                    let service = allowed().find(has).ok_or(Denied::Service)?;
                    take(service, &[p])?;
                }
            }
        }
        if claim.services.is_empty() {
            allowed().try_for_each(|service| take(service, &service.ports))?;
        }
        // `require` wins over everything: no service whose ports are touched may ask for more.
        let touched = |s: &&Service| s.ports.iter().any(|q| ports.iter().any(|p| p.overlaps(q)));
        if self.services.values().filter(touched).any(|s| !strong(s)) {
            return Err(Denied::Assurance);
        }
        ports.sort_unstable();
        ports.dedup();
        match ports.is_empty() {
            true => Err(Denied::Service),
            false => Ok(ports),
        }
    }
}
