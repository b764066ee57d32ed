use super::*;
use crate::access::{ServiceId, Wanted};
use crate::time::{Mono, Unix};
use proptest::prelude::*;
use std::os::unix::net::UnixStream;

fn claim(client: u8, host: u8, action: Action, at: u64) -> Claim {
    let from = format!("192.0.2.{host}").parse().unwrap();
    Claim {
        client: ClientId([client; 8]),
        assurance: Assurance::Sealed,
        action,
        replace: false,
        addresses: [Some(from), None],
        services: Services::EMPTY,
        time: Unix(at),
        until: Mono(at + 1_000),
    }
}

fn open(client: u8, host: u8, at: u64) -> Claim {
    claim(client, host, Action::Open, at)
}

fn close(client: u8, host: u8, at: u64) -> Claim {
    claim(client, host, Action::Close, at)
}

fn all(outbox: &mut Outbox) -> Vec<Claim> {
    std::iter::from_fn(|| outbox.pop()).collect()
}

#[test]
fn what_is_asked_again_is_one_grant_with_the_latest_end() {
    let mut outbox = Outbox::default();
    for at in [5, 9, 7] {
        outbox.push(open(1, 1, at));
        outbox.push(open(2, 1, at));
    }
    assert_eq!(outbox.len(), 2);
    assert_eq!(all(&mut outbox), [open(1, 1, 9), open(2, 1, 9)]);
    // What was told is told again.
    outbox.push(open(1, 1, 11));
    assert_eq!(all(&mut outbox), [open(1, 1, 11)]);
    assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
}

#[test]
fn open_close_open_keeps_its_order() {
    let mut outbox = Outbox::default();
    let said = [open(1, 1, 1), close(1, 1, 2), open(1, 1, 3), open(1, 1, 4), close(1, 1, 5)];
    said.into_iter().for_each(|c| outbox.push(c));
    let merged = [open(1, 1, 1), close(1, 1, 2), open(1, 1, 4), close(1, 1, 5)];
    assert_eq!(all(&mut outbox), merged);
    // One that replaces others ends them at its own place.
    let moved = |at| Claim { replace: true, ..open(1, 1, at) };
    let said = [moved(1), open(1, 2, 2), moved(3), open(1, 2, 4)];
    said.into_iter().for_each(|c| outbox.push(c));
    assert_eq!(all(&mut outbox), said);
}

#[test]
fn what_priv_has_ended_is_taken_back_unless_it_was_asked_for_later() {
    let mut outbox = Outbox::default();
    [open(1, 1, 1), open(1, 2, 2), open(2, 1, 3)].into_iter().for_each(|c| outbox.push(c));
    assert_eq!(outbox.handle_decided(&close(1, 1, 9)), []);
    assert_eq!(outbox.handle_decided(&close(1, 2, 1)), [open(1, 2, 2)]);
    assert_eq!(outbox.handle_decided(&open(1, 2, 9)), []);
    // The place that was left is no place to merge into.
    outbox.push(open(1, 1, 12));
    assert_eq!(all(&mut outbox), [open(1, 2, 2), open(2, 1, 3), open(1, 1, 12)]);
    [open(1, 1, 1), close(1, 1, 2), open(2, 1, 3)].into_iter().for_each(|c| outbox.push(c));
    outbox.forget(ClientId([1; 8]));
    assert_eq!(all(&mut outbox), [open(2, 1, 3)]);
    assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
}

#[test]
fn all_of_it_passes_a_socket_that_takes_little_at_a_time() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut ours = Channel::new(ours, false).unwrap();
    let mut theirs = Channel::new(theirs, false).unwrap();
    let mut outbox = Outbox::default();
    for n in 0..10_000u64 {
        let [.., high, low] = n.to_be_bytes();
        outbox.push(Claim { client: ClientId([high; 8]), ..open(0, low, n) });
    }
    let (mut have, mut most) = (Vec::new(), 0);
    while outbox.len() > 0 || ours.is_waiting() {
        outbox.send(&mut ours, 0).unwrap();
        most = most.max(ours.waiting());
        while let Some((Frame::Grant(claim), _)) = theirs.next().unwrap() {
            have.push(claim.time.0);
        }
    }
    assert!(most <= AHEAD, "{most} frames in the channel");
    assert_eq!(have, (0..10_000).collect::<Vec<_>>());
}

/// The same for an IPv6 address too.
fn both(claim: Claim) -> Claim {
    Claim { addresses: [claim.addresses[0], Some("2001:db8::1".parse().unwrap())], ..claim }
}

/// The same for the IPv6 address alone.
fn six(claim: Claim) -> Claim {
    Claim { addresses: [None, both(claim).addresses[1]], ..claim }
}

#[test]
fn of_two_addresses_the_one_that_was_not_ended_stays() {
    let mut outbox = Outbox::default();
    outbox.push(both(open(1, 1, 1)));
    assert_eq!(outbox.handle_decided(&close(1, 1, 9)), []);
    assert_eq!(all(&mut outbox), [six(open(1, 1, 1))]);
    // It is of another kind: the same words again are a grant of their own.
    outbox.push(both(open(1, 1, 1)));
    outbox.evict(&"192.0.2.0/24".parse().unwrap());
    outbox.push(both(open(1, 1, 12)));
    assert_eq!(all(&mut outbox), [six(open(1, 1, 1)), both(open(1, 1, 12))]);
    outbox.push(both(open(1, 1, 1)));
    let everywhere = Claim { replace: true, ..close(1, 9, 9) };
    assert_eq!(outbox.handle_decided(&everywhere), []);
    assert_eq!(all(&mut outbox), []);
    assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
}

#[test]
fn what_moved_to_an_address_that_was_ended_has_left_the_others() {
    let moved = Claim { replace: true, ..open(1, 1, 1) };
    let left = Claim { action: Action::Close, ..moved };
    let mut outbox = Outbox::default();
    outbox.push(moved);
    assert_eq!(outbox.handle_decided(&close(1, 1, 9)), []);
    assert_eq!(all(&mut outbox), [left]);
    outbox.push(moved);
    outbox.push(open(2, 2, 99));
    outbox.evict(&"192.0.2.0/24".parse().unwrap());
    assert_eq!(all(&mut outbox), [left]);
    outbox.push(both(moved));
    outbox.evict(&"192.0.2.1".parse().unwrap());
    assert_eq!(all(&mut outbox), [six(moved)]);
    assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
}

type Leases = BTreeMap<(ClientId, Prefix, ServiceId), Mono>;

const SERVICES: [ServiceId; 2] = [ServiceId([1; 4]), ServiceId([2; 4])];

/// Which services it means; where it names none, all.
fn named(claim: &Claim) -> Vec<ServiceId> {
    let named = |wanted: Wanted| match wanted {
        Wanted::Named(id) => id,
        Wanted::Ports(_) => unreachable!(),
    };
    match claim.services.is_empty() {
        true => SERVICES.to_vec(),
        false => claim.services.iter().map(named).collect(),
    }
}

/// What is open after all of them, as `[priv]` does it.
fn outcome(claims: &[Claim]) -> Leases {
    let mut leases = BTreeMap::new();
    for claim in claims {
        let (addresses, services) = (claim.addresses().collect::<Vec<_>>(), named(claim));
        let ended = |(client, from, to): &(ClientId, Prefix, ServiceId)| {
            *client == claim.client
                && services.contains(to)
                && match claim.action {
                    Action::Open => claim.replace && !addresses.contains(from),
                    Action::Close => claim.replace || addresses.contains(from),
                }
        };
        leases.retain(|lease, _| !ended(lease));
        if claim.action == Action::Open {
            for from in &addresses {
                for to in &services {
                    let until = leases.entry((claim.client, *from, *to)).or_insert(claim.until);
                    *until = claim.until.max(*until);
                }
            }
        }
    }
    leases
}

/// A claim of few clients, addresses and services.
fn any_claim() -> impl Strategy<Value = Claim> {
    let addresses =
        prop_oneof![Just((1, 0)), Just((2, 0)), Just((0, 1)), Just((1, 1)), Just((2, 1))];
    let services = prop_oneof![Just(&SERVICES[..0]), Just(&SERVICES[..1]), Just(&SERVICES[..])];
    let what = (1u8..3, addresses, services, any::<bool>(), prop::bool::weighted(0.2), 0u64..50);
    what.prop_map(|(client, (v4, v6), services, opens, replace, at)| {
        let action = if opens { Action::Open } else { Action::Close };
        let claim = claim(client, v4, action, at);
        let named: Vec<Wanted> = services.iter().map(|id| Wanted::Named(*id)).collect();
        let v6: Option<Prefix> = (v6 > 0).then(|| "2001:db8::1".parse().unwrap());
        Claim {
            replace,
            addresses: [claim.addresses[0].filter(|_| v4 > 0), v6],
            services: Services::new(&named).unwrap(),
            ..claim
        }
    })
}

/// What `[priv]` has ended, as words: a grant that opens nothing more, but has ended something.
fn taken_back(
    said: &mut [Claim],
    is_meant: impl Fn(&Claim) -> bool,
    here: impl Fn(Prefix) -> bool,
) {
    for claim in said.iter_mut().filter(|c| c.action == Action::Open && is_meant(c)) {
        let left: Vec<Prefix> = claim.addresses().filter(|a| !here(*a)).collect();
        match (left.is_empty(), claim.replace) {
            (true, true) => claim.action = Action::Close,
            // A close of nothing.
            (true, false) => (claim.action, claim.addresses) = (Action::Close, [None, None]),
            (false, _) => {
                claim.addresses = claim.addresses.map(|a| a.filter(|a| left.contains(a)));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Event {
    Said(Claim),
    Decided(Claim),
    Evicted(Prefix),
    Told,
}

fn any_event() -> impl Strategy<Value = Event> {
    let prefix = prop_oneof![Just("192.0.2.1"), Just("192.0.2.0/24"), Just("2001:db8::/64")];
    let ended = |c: Claim| Claim { action: Action::Close, time: c.time.plus(20), ..c };
    prop_oneof![
        6 => any_claim().prop_map(Event::Said),
        2 => any_claim().prop_map(move |c| Event::Decided(ended(c))),
        1 => prefix.prop_map(|p| Event::Evicted(p.parse().unwrap())),
        1 => Just(Event::Told),
    ]
}

proptest! {
    /// Whenever how much of it is told: the same is open in the end as without merging, and of what
    /// can be merged no more than one of a kind waits.
    #[test]
    fn merging_changes_no_outcome(
        steps in prop::collection::vec((any_claim(), 0usize..3), 0..40),
    ) {
        let (mut outbox, mut told, mut said) = (Outbox::default(), Vec::new(), Vec::new());
        for (claim, pops) in steps {
            said.push(claim);
            outbox.push(claim);
            told.extend((0..pops).filter_map(|_| outbox.pop()));
        }
        prop_assert_eq!(outbox.opens.len() <= outbox.len(), true);
        told.extend(all(&mut outbox));
        prop_assert_eq!(outcome(&told), outcome(&said));
        prop_assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
    }

    /// What `[priv]` has ended by itself takes from what waits those addresses and nothing else.
    #[test]
    fn no_more_is_taken_back_than_was_ended(events in prop::collection::vec(any_event(), 0..40)) {
        let (mut outbox, mut told) = (Outbox::default(), Vec::new());
        let (mut said, mut waits): (Vec<Claim>, Vec<Claim>) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Said(claim) => {
                    waits.push(claim);
                    outbox.push(claim);
                }
                Event::Decided(close) => {
                    let stays = outbox.handle_decided(&close);
                    let same = |c: &Claim| close.services.is_empty() || c.services == close.services;
                    let own = |c: &Claim| c.client == close.client && same(c);
                    let here = |a: Prefix| close.replace || close.addresses().any(|b| a == b);
                    taken_back(&mut waits, |c| own(c) && c.time <= close.time, here);
                    prop_assert!(stays.iter().all(|c| own(c) && c.action == Action::Open));
                    prop_assert!(stays.iter().all(|c| c.time > close.time && c.addresses().any(here)));
                }
                Event::Evicted(prefix) => {
                    outbox.evict(&prefix);
                    taken_back(&mut waits, |_| true, |a| prefix.contains(&a));
                }
                Event::Told => {
                    told.extend(all(&mut outbox));
                    said.append(&mut waits);
                }
            }
        }
        told.extend(all(&mut outbox));
        said.append(&mut waits);
        // What was asked for twice can be merged into the one whose date is later.
        let open = |claims: &[Claim]| outcome(claims).into_keys().collect::<Vec<_>>();
        prop_assert_eq!(open(&told), open(&said));
        prop_assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
    }
}
