//! What is open and until when, pure: the one place where a lease begins and ends.

use super::{Cover, Element, Opening};
use crate::access::{ClientId, Denied, Grant, Ports, Prefix, Protocol};
use crate::time::Mono;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The most leases of all clients together.
const MOST: usize = 500_000;

/// One client's right to one element, until a moment: made by [`LeaseTable::insert`] alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lease {
    until: Mono,
    element: Element,
    client: ClientId,
}

impl Lease {
    /// When it ends.
    #[must_use]
    pub fn until(&self) -> Mono {
        self.until
    }

    /// What it opens.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// Whose it is.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }
}

/// What the kernel has to be told after leases have come or gone.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Change {
    /// Elements that are there from now on, with these ends.
    pub open: Vec<Opening>,
    /// Elements that nobody has a lease on any more.
    pub close: Vec<Element>,
    /// The leases that have gone, for the log.
    pub ended: Vec<Lease>,
}

/// Who has a lease on one element: many can come from one address.
#[derive(Debug, Default)]
struct Holders {
    clients: BTreeMap<ClientId, Mono>,
    ends: BTreeSet<(Mono, ClientId)>,
}

impl Holders {
    fn set(&mut self, client: ClientId, until: Mono) {
        self.remove(client);
        self.clients.insert(client, until);
        self.ends.insert((until, client));
    }

    fn remove(&mut self, client: ClientId) {
        if let Some(until) = self.clients.remove(&client) {
            self.ends.remove(&(until, client));
        }
    }

    /// When the last of them ends.
    fn latest(&self) -> Option<Mono> {
        self.ends.last().map(|(until, _)| *until)
    }
}

/// All leases, by element and by end.
#[derive(Debug, Default)]
pub struct LeaseTable {
    elements: BTreeMap<Element, Holders>,
    ends: BTreeSet<Lease>,
    clients: BTreeMap<ClientId, BTreeSet<Element>>,
    cover: Cover,
}

impl LeaseTable {
    /// Gives the client a lease on each of the grant's addresses and each of `ports`, until the
    /// grant's end; a lease that is there and lasts longer stays as it is.
    ///
    /// # Errors
    /// [`Denied::TooMany`], and nothing is changed, if the client would have more than `most`
    /// leases, or all together too many.
    pub fn insert(
        &mut self,
        grant: &Grant,
        ports: &[Ports],
        most: usize,
    ) -> Result<Vec<Opening>, Denied> {
        let claim = grant.claim();
        let wanted: Vec<Element> = claim
            .addresses()
            .flat_map(|from| ports.iter().map(move |to| Element { from, to: *to }))
            .collect();
        let held = |e: &&Element| self.end_of(claim.client, e).is_none();
        let fresh = wanted.iter().filter(held).count();
        let have = self.clients.get(&claim.client).map_or(0, BTreeSet::len);
        if have + fresh > most || self.ends.len() + fresh > MOST {
            return Err(Denied::TooMany);
        }
        Ok(wanted
            .into_iter()
            .filter_map(|element| self.put(claim.client, element, claim.until))
            .collect())
    }

    fn put(&mut self, client: ClientId, element: Element, until: Mono) -> Option<Opening> {
        self.cover.insert(element);
        let holders = self.elements.entry(element).or_default();
        let before = holders.latest();
        match holders.clients.get(&client).copied() {
            Some(end) if end >= until => {}
            Some(end) => {
                self.ends.remove(&Lease { until: end, element, client });
                holders.set(client, until);
                self.ends.insert(Lease { until, element, client });
            }
            None => {
                holders.set(client, until);
                self.ends.insert(Lease { until, element, client });
                self.clients.entry(client).or_default().insert(element);
            }
        }
        let after = holders.latest().unwrap_or(until);
        (before != Some(after)).then_some(Opening { element, until: after })
    }

    /// Ends the leases that `which` chooses.
    pub fn remove(&mut self, which: impl Fn(&Lease) -> bool) -> Change {
        let ended: Vec<Lease> = self.ends.iter().filter(|l| which(l)).copied().collect();
        self.end(ended)
    }

    /// Ends those leases of one client that `which` chooses.
    pub fn remove_of(&mut self, client: ClientId, which: impl Fn(&Lease) -> bool) -> Change {
        let held = self.clients.get(&client).into_iter().flatten();
        let lease = |element: &Element| {
            let until = self.end_of(client, element)?;
            Some(Lease { until, element: *element, client })
        };
        let ended = held.filter_map(lease).filter(which).collect();
        self.end(ended)
    }

    /// Ends what is over at `now`.
    pub fn handle_timeout(&mut self, now: Mono) -> Change {
        let over = self.ends.iter().take_while(|l| l.until <= now).copied().collect();
        self.end(over)
    }

    /// When the next lease ends.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Mono> {
        self.ends.first().map(|l| l.until)
    }

    fn end(&mut self, ended: Vec<Lease>) -> Change {
        let mut touched = BTreeMap::new();
        for lease in &ended {
            if !self.ends.remove(lease) {
                continue;
            }
            let Some(holders) = self.elements.get_mut(&lease.element) else { continue };
            touched.entry(lease.element).or_insert(holders.latest());
            holders.remove(lease.client);
            if holders.clients.is_empty() {
                self.elements.remove(&lease.element);
                self.cover.remove(&lease.element);
            }
            if let Some(held) = self.clients.get_mut(&lease.client) {
                held.remove(&lease.element);
                if held.is_empty() {
                    self.clients.remove(&lease.client);
                }
            }
        }
        let mut change = Change { ended, ..Change::default() };
        for (element, before) in touched {
            match self.elements.get(&element).and_then(Holders::latest) {
                None => change.close.push(element),
                Some(until) if Some(until) != before => {
                    change.open.push(Opening { element, until });
                }
                Some(_) => {}
            }
        }
        change
    }

    /// What the kernel has to hold: each element once, with its latest end.
    #[must_use]
    pub fn openings(&self) -> Vec<Opening> {
        let latest = |(element, holders): (&Element, &Holders)| {
            holders.latest().map(|until| Opening { element: *element, until })
        };
        self.elements.iter().filter_map(latest).collect()
    }

    /// Whether somebody has a lease on just this.
    #[must_use]
    pub fn holds(&self, element: &Element) -> bool {
        self.elements.contains_key(element)
    }

    /// Whether a lease lets that address reach that port.
    #[must_use]
    pub fn covers(&self, element: &Element) -> bool {
        self.cover.covers(element)
    }

    /// Whether that address holds a lease on anything, by itself or in a prefix: a look-up for each
    /// prefix that it lies in.
    #[must_use]
    pub fn admits(&self, address: IpAddr) -> bool {
        let Some(to) = Ports::new(Protocol::Tcp, 1, 1) else { return false };
        Prefix::host(address).around().any(|from| {
            let next = self.elements.range(Element { from, to }..).next();
            next.is_some_and(|(element, _)| element.from == from)
        })
    }

    /// When this client's lease on this element ends, if he has one.
    #[must_use]
    pub fn end_of(&self, client: ClientId, element: &Element) -> Option<Mono> {
        self.elements.get(element)?.clients.get(&client).copied()
    }

    /// Moves the end of a lease that is there to a later moment.
    pub fn extend(&mut self, client: ClientId, element: Element, until: Mono) -> Option<Opening> {
        self.end_of(client, &element)?;
        self.put(client, element, until)
    }

    /// How many leases there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ends.len()
    }

    /// All leases, the first to end first.
    pub fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.ends.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{
        Access, Action, Assurance, Claim, OnExpiry, Policy, Refuse, Service, ServiceId, Services,
        Terms,
    };
    use crate::time::{Now, Unix};

    fn grant(client: u8, from: &str, until: u64) -> Grant {
        let id = ServiceId([1; 4]);
        let service = Service {
            id,
            name: "ssh".into(),
            ports: vec!["tcp/22".parse().unwrap()],
            require: None,
            on_expiry: OnExpiry::Keep,
            while_connected: None,
            refuse: Refuse::Drop,
        };
        let mut policy = Policy::new(vec![service], vec![]);
        let client = ClientId([client; 8]);
        policy.set_client(Access::new(
            client,
            "a",
            Terms {
                assurance: Assurance::Sealed,
                services: vec![id],
                ttl: 30,
                max_ttl: 3600,
                max_leases: 16,
                sources: vec![],
                source_address: true,
                max_prefix_v4: 8,
                max_prefix_v6: 32,
                not_after: None,
                uses: None,
                hours: Vec::new(),
            },
        ));
        let claim = Claim {
            client,
            assurance: Assurance::Sealed,
            action: Action::Open,
            replace: false,
            addresses: [Some(from.parse().unwrap()), None],
            services: Services::EMPTY,
            time: Unix(0),
            until: Mono(until),
        };
        policy.confirm(&claim, Now::default()).unwrap()
    }

    fn ssh() -> Vec<Ports> {
        vec!["tcp/22".parse().unwrap()]
    }

    fn element(from: &str) -> Element {
        Element { from: from.parse().unwrap(), to: ssh()[0] }
    }

    #[test]
    fn the_element_lasts_as_long_as_its_last_lease() {
        let mut table = LeaseTable::default();
        let e = element("192.0.2.1");
        let open = |until| vec![Opening { element: e, until: Mono(until) }];
        assert_eq!(table.insert(&grant(1, "192.0.2.1", 50), &ssh(), 9), Ok(open(50)));
        assert_eq!(table.insert(&grant(2, "192.0.2.1", 90), &ssh(), 9), Ok(open(90)));
        assert_eq!(table.insert(&grant(1, "192.0.2.1", 40), &ssh(), 9), Ok(vec![]));
        let change = table.remove_of(ClientId([2; 8]), |l| l.element() == e);
        assert_eq!((change.open, change.close), (open(50), vec![]));
        let change = table.remove(|l| l.client() == ClientId([1; 8]));
        assert_eq!((change.open, change.close), (vec![], vec![e]));
        assert!(table.poll_timeout().is_none() && table.openings().is_empty());
    }

    #[test]
    fn a_lease_ends_on_time_and_alone() {
        let mut table = LeaseTable::default();
        table.insert(&grant(1, "192.0.2.1", 50), &ssh(), 9).unwrap();
        table.insert(&grant(1, "192.0.2.2", 70), &ssh(), 9).unwrap();
        assert_eq!(table.poll_timeout(), Some(Mono(50)));
        assert_eq!(table.handle_timeout(Mono(49)), Change::default());
        assert_eq!(table.handle_timeout(Mono(50)).close, [element("192.0.2.1")]);
        assert_eq!(table.poll_timeout(), Some(Mono(70)));
    }

    #[test]
    fn an_address_is_admitted_by_its_own_lease_or_one_of_its_networks() {
        let mut table = LeaseTable::default();
        let lowest = "tcp/1".parse().unwrap();
        let admits = |t: &LeaseTable, address: &str| t.admits(address.parse().unwrap());
        table.insert(&grant(1, "192.0.2.1", 50), &ssh(), 9).unwrap();
        table.insert(&grant(1, "192.0.2.9", 50), &["udp/65535".parse().unwrap()], 9).unwrap();
        for (address, is) in [("192.0.2.1", true), ("192.0.2.2", false), ("192.0.2.9", true)] {
            assert_eq!(admits(&table, address), is, "{address}");
        }
        assert!(admits(&table, "::ffff:192.0.2.1") && !admits(&table, "::c000:201"));
        for (net, within, beside) in [
            ("198.51.100.128/25", "198.51.100.255", "198.51.100.127"),
            ("2001:db8:1::/48", "2001:db8:1::ffff:1", "2001:db8:2::"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::"),
        ] {
            table.insert(&grant(2, net, 50), &[lowest], 9).unwrap();
            assert!(admits(&table, within) && !admits(&table, beside), "{net}");
        }
        table.handle_timeout(Mono(50));
        assert!(!admits(&table, "192.0.2.1") && !admits(&table, "2001:db8::1"));
    }

    #[test]
    fn the_limit_counts_new_leases_and_not_extensions() {
        let mut table = LeaseTable::default();
        table.insert(&grant(1, "192.0.2.1", 50), &ssh(), 1).unwrap();
        assert!(table.insert(&grant(1, "192.0.2.1", 60), &ssh(), 1).is_ok());
        assert_eq!(table.insert(&grant(1, "192.0.2.2", 50), &ssh(), 1), Err(Denied::TooMany));
        assert!(table.insert(&grant(2, "192.0.2.2", 50), &ssh(), 1).is_ok());
    }
}
