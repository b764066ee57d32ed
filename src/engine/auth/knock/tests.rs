use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

const SEED: [u16; 3] = [1560, 6580, 8153];

fn udp(ports: &[u16]) -> Vec<Step> {
    ports.iter().map(|port| Step { protocol: Protocol::Udp, port: *port }).collect()
}

fn knock(n: u8, open: &[u16], close: &[u16], total: Option<u64>) -> Knock {
    let sequence = Sequence::Fixed { open: udp(open), close: udp(close) };
    Knock { client: ClientId([n; 8]), sequence, window: 10_000, total }
}

fn knocks(list: &[Knock]) -> Knocks {
    let mut knocks = Knocks::new(*b"0123456789abcdef");
    knocks.set(list.to_vec());
    knocks
}

fn host(n: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + n).into()
}

/// With a wall clock that shows the same as the other one, and no one-time sequence used.
fn handle(knocks: &mut Knocks, from: IpAddr, step: Step, at: u64) -> Vec<Proof> {
    knocks.handle(from, step, Now { unix: Unix(at), mono: Mono(at) }, |_| false)
}

/// What it shows, ports and milliseconds, and at which of these something is complete.
type Case<'a> = (&'a str, &'a [(u16, u64)], &'a [u64]);

/// Knocks at these ports at these milliseconds; which of them completed something.
fn run(knocks: &mut Knocks, from: IpAddr, list: &[(u16, u64)]) -> Vec<u64> {
    let mut done = Vec::new();
    for (port, at) in list {
        let step = Step { protocol: Protocol::Udp, port: *port };
        if !handle(knocks, from, step, 1_000_000 + at).is_empty() {
            done.push(*at);
        }
    }
    done
}

#[test]
fn the_numbers_of_the_first_of_these_systems() {
    let table: [Case<'_>; 14] = [
        ("in order", &[(1560, 0), (6580, 1), (8153, 2)], &[2]),
        ("10 s a step", &[(1560, 0), (6580, 10_000), (8153, 20_000)], &[20_000]),
        ("more than 10 s for the second", &[(1560, 0), (6580, 10_017), (8153, 10_018)], &[]),
        ("more than 10 s for the third", &[(1560, 0), (6580, 1), (8153, 10_017)], &[]),
        ("another order", &[(6580, 0), (1560, 1), (8153, 2)], &[]),
        ("backwards", &[(8153, 0), (6580, 1), (1560, 2)], &[]),
        ("without the first", &[(6580, 0), (8153, 1)], &[]),
        ("a wrong second", &[(1560, 0), (8153, 1), (6580, 2), (8153, 3)], &[]),
        ("the first twice", &[(1560, 0), (1560, 1), (6580, 2), (8153, 3)], &[3]),
        ("the second twice", &[(1560, 0), (6580, 1), (6580, 2), (8153, 3)], &[]),
        (
            "wrong, and it is the first",
            &[(1560, 0), (6580, 1), (1560, 2), (6580, 3), (8153, 4)],
            &[4],
        ),
        (
            "once more the end alone",
            &[(1560, 0), (6580, 1), (8153, 2), (8153, 3), (6580, 4), (8153, 5)],
            &[2],
        ),
        (
            "all of it twice",
            &[(1560, 0), (6580, 1), (8153, 2), (1560, 3), (6580, 4), (8153, 5)],
            &[2, 5],
        ),
        ("a port of nobody between", &[(1560, 0), (99, 1), (6580, 2), (8153, 3)], &[3]),
    ];
    for (what, list, done) in table {
        let mut one = knocks(&[knock(1, &SEED, &[], None)]);
        assert_eq!(run(&mut one, host(1), list), done, "{what}");
    }
}

#[test]
fn total_is_from_the_first_to_the_last() {
    let mut one = knocks(&[knock(1, &SEED, &[], Some(15_000))]);
    assert_eq!(run(&mut one, host(1), &[(1560, 0), (6580, 9_000), (8153, 15_000)]), [15_000]);
    assert!(run(&mut one, host(2), &[(1560, 0), (6580, 9_000), (8153, 15_017)]).is_empty());
}

#[test]
fn protocols_and_sources_are_apart() {
    let mut one = knocks(&[knock(1, &SEED, &[], None)]);
    let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
    for (from, protocol, port) in
        [(1, udp, 1560), (2, udp, 6580), (1, tcp, 6580), (1, udp, 8153), (2, udp, 8153)]
    {
        assert!(handle(&mut one, host(from), Step { protocol, port }, 5).is_empty());
    }
    // A knock of another protocol is none of the set, and starts nothing over.
    assert_eq!(run(&mut one, host(3), &[(1560, 0), (6580, 1), (8153, 2)]), [2]);
}

#[test]
fn several_sequences_and_one_that_closes() {
    let list = [
        knock(1, &SEED, &[8153, 6580, 1560], None),
        knock(2, &[7, 7, 9], &[], None),
        knock(3, &[1560, 6580, 9], &[], None),
    ];
    let mut all = knocks(&list);
    let mut at = 0;
    let mut done = |ports: &[u16]| {
        let mut done = Vec::new();
        for step in udp(ports) {
            at += 1;
            done.extend(handle(&mut all, host(1), step, at).iter().map(|proof| match proof {
                Proof::Again(proof) => (proof.client, proof.action),
                Proof::Once(_) => panic!("a fixed sequence is good once: {proof:?}"),
            }));
        }
        done
    };
    let is = |n: u8, action| (ClientId([n; 8]), action);
    assert_eq!(done(&SEED), [is(1, Action::Open)]);
    assert_eq!(done(&[8153, 6580, 1560]), [is(1, Action::Close)]);
    assert_eq!(done(&[7, 7, 9]), [is(2, Action::Open)]);
    assert_eq!(done(&[7, 9, 7, 9]), []);
    // Two sequences may begin alike.
    assert_eq!(done(&[1560, 6580, 9, 8153]), [is(3, Action::Open), is(1, Action::Open)]);
}

#[test]
fn a_flood_of_first_knocks_keeps_nobody_out_and_costs_no_memory() {
    let mut one = knocks(&[knock(1, &SEED, &[], None)]);
    let flood = |knocks: &mut Knocks, from: u32, ms: u64| {
        for n in from..from + 250_000 {
            assert!(run(knocks, host(n), &[(1560, ms)]).is_empty());
        }
    };
    flood(&mut one, 1_000_000, 0);
    assert!(run(&mut one, host(1), &[(1560, 1_000)]).is_empty());
    flood(&mut one, 2_000_000, 4_000);
    assert!(run(&mut one, host(1), &[(6580, 9_000)]).is_empty());
    flood(&mut one, 3_000_000, 12_000);
    flood(&mut one, 4_000_000, 16_000);
    assert_eq!(run(&mut one, host(1), &[(8153, 18_000)]), [18_000]);
    assert!(
        one.tables[0].halfway.len() < 2 && one.tables[0].spent.len() < 10,
        "{:?}",
        one.tables[0].spent.len()
    );
    println!(
        "a million first knocks: {} halfway, {} spent",
        one.tables[0].halfway.len(),
        one.tables[0].spent.len()
    );
}

#[test]
fn who_is_halfway_stays_when_the_table_is_full() {
    let mut one = knocks(&[knock(1, &SEED, &[], None)]);
    assert!(run(&mut one, host(1), &[(1560, 0), (6580, 1)]).is_empty());
    for n in 0..MOST_HALFWAY as u32 + 1_000 {
        run(&mut one, host(1_000_000 + n), &[(1560, 2), (6580, 3)]);
    }
    assert_eq!(one.tables[0].halfway.len(), MOST_HALFWAY);
    assert!(one.tables[0].spent.len() <= MOST_SPENT);
    assert_eq!(run(&mut one, host(1), &[(8153, 9_000)]), [9_000]);
    // And when it has aged there is room again.
    assert_eq!(run(&mut one, host(2), &[(1560, 30_000), (6580, 30_001), (8153, 30_002)]), [30_002]);
    assert_eq!(one.tables[0].halfway.len(), 0);
}

/// The rules in their plainest form: for each source and sequence, how far, since when, and when
/// last; nothing is ever forgotten.
#[derive(Default)]
struct Plainest(BTreeMap<(IpAddr, usize), (usize, u64, u64)>);

impl Plainest {
    fn knock(&mut self, from: IpAddr, index: usize, knock: &Knock, port: u16, at: u64) -> bool {
        let Sequence::Fixed { open, .. } = &knock.sequence else { return false };
        let place = open.iter().map(|s| s.port).collect::<Vec<_>>();
        if !place.contains(&port) {
            return false;
        }
        let total = knock.total.unwrap_or(u64::MAX);
        let in_time =
            |(_, begun, last): &(usize, u64, u64)| at - last <= knock.window && at - begun <= total;
        let (done, begun) = match self.0.remove(&(from, index)).filter(in_time) {
            Some((done, begun, _)) if place[done] == port => (done + 1, begun),
            _ if place[0] == port => (1, at),
            _ => return false,
        };
        if done == place.len() {
            return true;
        }
        self.0.insert((from, index), (done, begun, at));
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whole seconds: far from where the filter's 16 ms could matter.
    #[test]
    fn all_of_it_is_as_the_plainest_rules_say(
        knocks_made in prop::collection::vec((0u32..3, 1u16..5, 0u64..6), 0..120),
        list in prop::collection::vec((prop::collection::vec(1u16..5, 2..5), prop::option::of(3u64..12)), 1..4),
    ) {
        let entry = |(n, (ports, total)): (usize, &(Vec<u16>, Option<u64>))| {
            let knock = knock(n as u8, ports, &[], total.map(|s| s * 1_000));
            Knock { window: 3_000, ..knock }
        };
        let list: Vec<Knock> = list.iter().enumerate().map(entry).collect();
        let (mut ours, mut theirs) = (knocks(&list), Plainest::default());
        let mut at = 50_000;
        for (from, port, wait) in knocks_made {
            at += wait * 1_000;
            let step = Step { protocol: Protocol::Udp, port };
            let opened = |proof: &Proof| match proof {
                Proof::Again(proof) => proof.client,
                Proof::Once(once) => once.client,
            };
            let have: Vec<ClientId> = handle(&mut ours, host(from), step, at).iter().map(opened).collect();
            let all = list.iter().enumerate();
            let want: Vec<ClientId> = all
                .filter_map(|(n, k)| theirs.knock(host(from), n, k, port, at).then_some(k.client))
                .collect();
            prop_assert_eq!(have, want, "port {} at {}", port, at);
        }
    }
}

fn timed() -> Knock {
    let key = crate::crypto::KnockKey::new([7; 32]);
    let sequence = Sequence::Timed(TimedKnock { key, steps: 4, avoid: vec![] });
    Knock { client: ClientId([9; 8]), sequence, window: 10_000, total: None }
}

/// Numbers in an order that nobody chose: Fisher and Yates with a small generator (xorshift64).
fn shuffled(mut list: Vec<u16>, seed: u64) -> Vec<u16> {
    let mut state = seed * 2 + 1;
    for i in (1..list.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        list.swap(i, (state % (i as u64 + 1)) as usize);
    }
    list
}

#[test]
fn who_sweeps_all_ports_in_any_order_completes_no_secret_sequence() {
    let line = |ports: &[u16]| udp(ports);
    let once = Sequence::OneTime(vec![line(&[5001, 5002, 5003])]);
    let once = Knock { sequence: once, ..knock(3, &SEED, &[], None) };
    let mut all = knocks(&[timed(), once]);
    let at = 30_000 * 1_000 + 5 - 1_000_000;
    for seed in 0..24 {
        for port in shuffled((1024..=65_535).collect(), seed) {
            let step = Step { protocol: Protocol::Udp, port };
            assert!(
                handle(&mut all, host(1), step, 1_000_000 + at + seed).is_empty(),
                "{seed} {port}"
            );
        }
    }
    // Nor with just the three ports, one of which is wrong each time, and then in the right order.
    for wrong in [[5001, 5003, 5002], [5002, 5001, 5003], [5003, 5002, 5001]] {
        let knocks: Vec<(u16, u64)> = wrong.iter().map(|p| (*p, at)).collect();
        assert!(run(&mut all, host(2), &knocks).is_empty(), "{wrong:?}");
    }
    assert!(run(&mut all, host(2), &[(5001, at), (4, at), (5002, at), (5003, at)]).is_empty());
    assert_eq!(run(&mut all, host(2), &[(5001, at), (5002, at), (5003, at)]), [at]);
}

#[test]
fn a_flood_to_one_entry_takes_nothing_from_another() {
    let weak = knock(1, &SEED, &[], None);
    let mut both = knocks(&[weak, timed()]);
    let at = 30_000 * 1_000 + 5 - 1_000_000;
    for n in 0..MOST_HALFWAY as u32 + 10 {
        run(&mut both, host(1_000 + n), &[(1560, at), (6580, at)]);
    }
    assert!(both.tables[0].halfway.is_full());
    let Sequence::Timed(secret) = timed().sequence else { panic!("timed") };
    let knocks: Vec<(u16, u64)> = secret.ports(1_000).iter().map(|p| (*p, at)).collect();
    assert_eq!(run(&mut both, host(1), &knocks), [at]);
}
