//! Between an open and a close of one client, address and service the later packet time wins,
//! however the network orders them.

use crate::access::{Action, Claim, ClientId, Ports, Prefix, Services, Wanted};
use crate::time::Unix;
use std::collections::{BTreeMap, BTreeSet};

/// One accepted request: as many as the replay cache remembers, and no longer.
#[derive(Debug)]
struct Said {
    time: Unix,
    action: Action,
    /// It ends the client's leases on its ports at any address.
    replace: bool,
    addresses: [Option<Prefix>; 2],
    ports: Vec<Ports>,
}

/// What each client has said lately.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// By the number of each.
    said: BTreeMap<ClientId, BTreeMap<u64, Said>>,
    dated: BTreeSet<(Unix, ClientId, u64)>,
    next: u64,
}

impl Order {
    /// What is left of the claim when later requests have been heard, in one part if nothing is
    /// taken from it; `None` if nothing is left.
    pub(super) fn admit(&mut self, claim: &Claim, ports: &[Ports]) -> Option<Vec<Claim>> {
        let said = || self.said.get(&claim.client).into_iter().flat_map(BTreeMap::values);
        let parts = match claim.action {
            Action::Open => {
                let ended = |s: &Said| {
                    (s.action == Action::Close || s.replace)
                        && s.time >= claim.time
                        && (s.replace || s.meets(claim.addresses()))
                        && s.shares(ports)
                };
                if said().any(ended) {
                    return None;
                }
                // What was asked for later is not replaced by what was asked for before.
                let newer = |s: &Said| s.action == Action::Open && s.time > claim.time;
                let replaced = said().filter(|s| newer(s)).any(|s| s.shares(ports));
                vec![Claim { replace: claim.replace && !replaced, ..*claim }]
            }
            Action::Close => close(claim, ports, said),
        };
        if parts.is_empty() {
            return None;
        }
        self.note(claim, ports);
        Some(parts)
    }

    /// Remembers what a client has said.
    pub(super) fn note(&mut self, claim: &Claim, ports: &[Ports]) {
        let said = Said {
            time: claim.time,
            action: claim.action,
            replace: claim.replace,
            addresses: claim.addresses,
            ports: ports.to_vec(),
        };
        self.next += 1;
        self.dated.insert((said.time, claim.client, self.next));
        self.said.entry(claim.client).or_default().insert(self.next, said);
    }

    /// Forgets what is dated before `oldest`: no packet that old is accepted any more.
    pub(super) fn forget(&mut self, oldest: Unix) {
        while let Some(first) = self.dated.first().copied().filter(|(time, ..)| *time < oldest) {
            self.dated.remove(&first);
            let (_, client, number) = first;
            if let Some(said) = self.said.get_mut(&client) {
                said.remove(&number);
                if said.is_empty() {
                    self.said.remove(&client);
                }
            }
        }
    }
}

impl Said {
    fn shares(&self, ports: &[Ports]) -> bool {
        self.ports.iter().any(|p| ports.iter().any(|q| p.overlaps(q)))
    }

    fn meets(&self, mut addresses: impl Iterator<Item = Prefix>) -> bool {
        addresses.any(|a| self.addresses.iter().flatten().any(|b| a.overlaps(b)))
    }
}

/// The close without what a later open has asked for again.
fn close<'a, S: Iterator<Item = &'a Said>>(
    claim: &Claim,
    ports: &[Ports],
    said: impl Fn() -> S,
) -> Vec<Claim> {
    let newer = |address: Option<Prefix>, port: &Ports| {
        said().any(|s| {
            s.action == Action::Open
                && s.time > claim.time
                && address.is_none_or(|a| s.meets(std::iter::once(a)))
                && s.ports.iter().any(|p| p.overlaps(port))
        })
    };
    // A close of everything, everywhere, loses only the ports that were asked for again anywhere.
    let anywhere = claim.replace && ports.iter().any(|p| newer(None, p));
    let here = claim.addresses().any(|a| ports.iter().any(|p| newer(Some(a), p)));
    if !anywhere && !here {
        return vec![*claim];
    }
    let mut parts = Vec::new();
    for address in claim.addresses() {
        let judged = if claim.replace { None } else { Some(address) };
        let left: Vec<Wanted> =
            ports.iter().filter(|p| !newer(judged, p)).map(|p| Wanted::Ports(*p)).collect();
        for some in left.chunks(crate::access::MAX_SERVICES) {
            let Some(services) = Services::new(some) else { continue };
            let mut addresses = [None; 2];
            addresses[usize::from(address.address().is_ipv6())] = Some(address);
            parts.push(Claim { addresses, services, ..*claim });
        }
    }
    parts
}
