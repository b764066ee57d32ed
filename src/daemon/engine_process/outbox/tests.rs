use super::*;
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

/// What is open after all of them, by client and address, as `[priv]` does it.
fn outcome(claims: &[Claim]) -> BTreeMap<(ClientId, Prefix), Mono> {
    let mut leases = BTreeMap::new();
    for claim in claims {
        let address = claim.addresses[0].unwrap();
        let ended = |(client, from): &(ClientId, Prefix)| {
            *client == claim.client
                && match claim.action {
                    Action::Open => claim.replace && *from != address,
                    Action::Close => claim.replace || *from == address,
                }
        };
        leases.retain(|lease, _| !ended(lease));
        if claim.action == Action::Open {
            let until = leases.entry((claim.client, address)).or_insert(claim.until);
            *until = claim.until.max(*until);
        }
    }
    leases
}

proptest! {
    /// Whenever how much of it is told: the same is open in the end as without merging, and of what
    /// can be merged no more than one of a kind waits.
    #[test]
    fn merging_changes_no_outcome(
        steps in prop::collection::vec(
            (1u8..3, 1u8..4, any::<bool>(), prop::bool::weighted(0.2), 0u64..50, 0usize..3), 0..40),
    ) {
        let (mut outbox, mut told, mut said) = (Outbox::default(), Vec::new(), Vec::new());
        for (client, host, opens, replace, at, pops) in steps {
            let action = if opens { Action::Open } else { Action::Close };
            let claim = Claim { replace, ..claim(client, host, action, at) };
            said.push(claim);
            outbox.push(claim);
            told.extend((0..pops).filter_map(|_| outbox.pop()));
        }
        prop_assert_eq!(outbox.opens.len() <= outbox.len(), true);
        told.extend(all(&mut outbox));
        prop_assert_eq!(outcome(&told), outcome(&said));
        prop_assert!(outbox.opens.is_empty() && outbox.clients.is_empty());
    }
}
