//! The engine's verdicts on real packets.

mod packets;

use opensesame_spa::access::{Access, Action, Denied, Request};
use opensesame_spa::crypto::ServerId;
use opensesame_spa::engine::{
    Arrival, Command, Engine, History, LEAD, MOST_BEHIND, MOST_CLIENT, Mode, Record, Refusal,
    Reject,
};
use opensesame_spa::proto::{self, Malformed};
use opensesame_spa::time::{Mono, Now, Unix};
use packets::*;

fn reason(r: Result<Vec<Command>, Refusal>) -> Result<(), Reject> {
    r.map(|_| ()).map_err(|r| r.reason)
}

#[test]
fn a_copy_is_a_duplicate_from_the_same_source_within_5_seconds_and_a_replay_else() {
    let table = [
        (HOME, 0, Reject::Duplicate),
        (HOME, 5_000, Reject::Duplicate),
        ("::ffff:192.0.2.9", 5_000, Reject::Duplicate),
        (HOME, 5_001, Reject::Replayed),
        ("192.0.2.10", 0, Reject::Replayed),
        ("2001:db8::9", 0, Reject::Replayed),
    ];
    for (from, later, why) in table {
        let mut e = engine(vec![access(1)]);
        let p = packet(1, &open(at(9_000).unix));
        assert_eq!(reason(send(&mut e, &p, HOME, at(9_000))), Ok(()));
        let copy = send(&mut e, &p, from, at(9_000 + later));
        assert_eq!(reason(copy), Err(why), "{from} {later}");
    }
}

#[test]
fn age_is_judged_to_the_millisecond() {
    let now = at(500_000);
    let table = [
        (now.unix.minus(60_000), Ok(())),
        (now.unix.minus(60_001), Err(Reject::Stale(60_001))),
        (now.unix.minus(3_600_000), Err(Reject::Stale(3_600_000))),
        (now.unix.plus(60_000), Ok(())),
        (now.unix.plus(60_001), Err(Reject::Early(60_001))),
    ];
    for (time, verdict) in table {
        let mut e = engine(vec![access(1)]);
        assert_eq!(reason(send(&mut e, &packet(1, &open(time)), HOME, now)), verdict, "{time:?}");
    }
}

#[test]
fn what_is_dated_before_a_start_that_may_have_forgotten_is_refused() {
    let whole = |records: Vec<Record>| History { records, whole: true };
    let boot = |id: u8| Record::Boot { id: [id; 16], started: Mono(10), whole: true, more: 0 };
    let horizon = Record::Horizon(START.unix.plus(3_000));
    let floor = Record::Floor(START.unix.minus(20_000));
    // History, and the latest date that is refused: milliseconds after the start.
    let table = [
        (History::default(), 0),
        (whole(vec![boot(2), horizon]), 3_000),
        (whole(vec![boot(1), horizon]), -990),
        (whole(vec![boot(1), horizon, boot(2)]), 3_000),
        (History { records: vec![boot(1), horizon], whole: false }, 3_000),
        (whole(vec![boot(1), floor]), -990),
        (whole(vec![boot(1), Record::Floor(START.unix.plus(7))]), 7),
    ];
    for (n, (history, last)) in table.iter().enumerate() {
        for (date, verdict) in [(*last, Err(Reject::Floor)), (*last + 1, Ok(()))] {
            let mut e = Engine::start(setup(vec![access(1)]), history, START);
            e.handle_store_mended();
            let p = packet(1, &open(Unix(START.unix.0.wrapping_add_signed(date))));
            // The clocks go on together, so the start stays where it was.
            for now in [START, at(10_000)] {
                let mut again = Engine::start(setup(vec![access(1)]), history, START);
                again.handle_store_mended();
                assert_eq!(reason(send(&mut again, &p, HOME, now)), verdict, "{n}: {date}");
            }
            assert_eq!(reason(send(&mut e, &p, HOME, START)), verdict, "{n}: {date}");
        }
    }
}

#[test]
fn what_is_refused_for_a_firewall_that_is_behind_is_not_used_up() {
    let mut e = engine(vec![access(1)]);
    let (p, end) = (packet(1, &open(at(20).unix)), packet(1, &close(at(10).unix)));
    e.set_behind(MOST_BEHIND);
    let arrival = Arrival { bytes: &p, from: ip(HOME), mode: Mode::Spa };
    let refusal = Refusal { reason: Reject::Busy, client: Some(id(1)) };
    assert_eq!(e.handle_arrival(&arrival, at(20)), Err(refusal));
    assert!(!e.has_commands() && e.remembered() == 0, "nothing is recorded of it");
    // What shuts has room where what opens has none, and counts.
    assert_eq!(reason(send(&mut e, &end, HOME, at(20))), Ok(()));
    e.set_behind(MOST_BEHIND - 1);
    assert_eq!(reason(send(&mut e, &p, HOME, at(20))), Ok(()));
    let later = packet(1, &open(at(21).unix));
    assert_eq!(reason(send(&mut e, &later, HOME, at(21))), Err(Reject::Busy));
    assert_eq!(reason(send(&mut e, &p, HOME, at(21))), Err(Reject::Duplicate));
}

#[test]
fn nothing_is_granted_while_nothing_can_be_recorded() {
    let mut e = Engine::start(setup(vec![access(1)]), &History::default(), START);
    let p = packet(1, &open(at(9).unix));
    let refusal = Refusal { reason: Reject::NoRecord, client: Some(id(1)) };
    assert!(e.wants_segment());
    assert_eq!(send(&mut e, &p, HOME, at(9)), Err(refusal));
    e.handle_store_mended();
    assert_eq!(reason(send(&mut e, &p, HOME, at(9))), Ok(()));
}

#[test]
fn the_record_comes_before_the_grant_and_beyond_the_horizon_the_sync_too() {
    let mut e = engine(vec![access(1)]);
    let kinds = |commands: Vec<Command>| -> Vec<&'static str> {
        let kind = |c| match c {
            Command::Record(Record::Seen { .. }) => "seen",
            Command::Record(Record::Granted(_)) => "granted",
            Command::Record(Record::Horizon(_)) => "horizon",
            Command::Record(_) => "record",
            Command::Sync(_) => "sync",
            Command::Grant(_) => "grant",
            Command::Restore(_) => "restore",
            Command::Suspect(_) => "suspect",
            Command::Hook(_) => "hook",
        };
        commands.into_iter().map(kind).collect()
    };
    let first = send(&mut e, &packet(1, &open(at(100).unix)), HOME, at(100)).unwrap();
    assert_eq!(kinds(first), ["seen", "horizon", "sync", "granted", "grant"]);
    let second = send(&mut e, &packet(1, &open(at(101).unix)), HOME, at(101)).unwrap();
    assert_eq!(kinds(second), ["seen", "granted", "grant"]);
    // Near the horizon it is moved, and nobody waits for it.
    let third = send(&mut e, &packet(1, &open(at(3_000).unix)), HOME, at(3_000)).unwrap();
    assert_eq!(kinds(third), ["seen", "granted", "grant", "horizon", "sync"]);
}

#[test]
fn a_new_segment_repeats_the_horizon_that_is_on_its_way() {
    let mut e = engine(vec![access(1)]);
    let p = packet(1, &open(at(100).unix));
    let arrival = Arrival { bytes: &p, from: ip(HOME), mode: Mode::Spa };
    assert_eq!(e.handle_arrival(&arrival, at(100)), Ok(None));
    e.handle_turn(at(100));
    for whole in [false, true] {
        assert!(e.snapshot(whole).contains(&Record::Horizon(at(100 + LEAD).unix)));
    }
}

#[test]
fn a_packet_that_waits_for_the_next_sync_holds_up_nobody() {
    let mut e = engine(vec![access(1)]);
    let arrive = |e: &mut Engine, time: Now| {
        let p = packet(1, &open(time.unix));
        e.handle_arrival(&Arrival { bytes: &p, from: ip(HOME), mode: Mode::Spa }, at(100))
    };
    assert_eq!(arrive(&mut e, at(100)), Ok(None));
    e.handle_turn(at(100));
    let sync = std::iter::from_fn(|| e.poll_command()).last();
    // The first is dated beyond the horizon of the sync that is under way, the second is not.
    assert_eq!(arrive(&mut e, at(50_000)), Ok(None));
    assert_eq!(arrive(&mut e, at(101)), Ok(None));
    let Some(Command::Sync(ticket)) = sync else { panic!("{sync:?}") };
    assert_eq!(e.handle_synced(ticket + 1, at(100)), []);
    assert_eq!(e.handle_synced(ticket, at(100)).len(), 2);
    assert_eq!(e.handle_synced(ticket, at(100)), []);
    assert_eq!(settle(&mut e, at(100)).1.len(), 1);
}

#[test]
fn a_full_client_locks_nobody_else_out() {
    for quick in [true, false] {
        let mut e = engine(vec![access(1), access(2)]);
        let now = at(9_000);
        let mut arrive = |n, i: u64| {
            let p = packet(n, &open(now.unix.plus(i)));
            let arrival = Arrival { bytes: &p, from: ip(HOME), mode: Mode::Spa };
            let answer = e.handle_arrival(&arrival, now).map(|_| ()).map_err(|r| r.reason);
            // Quick: the disk answers after each packet; else never.
            if quick {
                settle(&mut e, now);
            }
            answer
        };
        for i in 0..u64::from(MOST_CLIENT) {
            assert_eq!(arrive(1, i), Ok(()));
        }
        assert_eq!(arrive(1, 0), Err(Reject::Busy));
        assert_eq!(arrive(2, 0), Ok(()));
        assert_eq!(arrive(1, 0), Err(Reject::Busy));
    }
}

#[test]
fn the_source_is_the_address_that_the_packet_came_from() {
    let table = [
        ("::ffff:192.0.2.77", ["192.0.2.77", ""]),
        ("192.0.2.77", ["192.0.2.77", ""]),
        ("2001:db8::77", ["", "2001:db8::77"]),
    ];
    for (from, expected) in table {
        let mut e = engine(vec![access(1)]);
        let request = Request { source: true, v4: None, ..open(at(9).unix) };
        let commands = send(&mut e, &packet(1, &request), from, at(9)).unwrap();
        let Some(Command::Grant(grant)) = commands.last() else { panic!("{commands:?}") };
        let expected = expected.map(|a| a.parse().ok());
        assert_eq!(grant.claim().addresses, expected, "{from}");
    }
}

#[test]
fn the_policy_says_why_not() {
    let wide = Some("192.0.2.0/24".parse().unwrap());
    let own = Some("198.51.100.1".parse().unwrap());
    let base = || open(at(9).unix);
    let inside = || vec!["192.0.2.0/24".parse().unwrap()];
    let outside = || vec!["203.0.113.0/24".parse().unwrap()];
    type Change = fn(&mut Access);
    let same: Change = |_| {};
    let table: [(Change, Request, Result<(), Denied>); 11] = [
        (same, base(), Ok(())),
        (same, Request { services: services(&["db"]), ..base() }, Err(Denied::Service)),
        (same, Request { services: services(&["tcp/23"]), ..base() }, Err(Denied::Service)),
        (same, Request { v4: wide, ..base() }, Err(Denied::Width)),
        (|a| a.max_prefix_v4 = 24, Request { v4: wide, ..base() }, Ok(())),
        (|a| a.source_address = false, Request { v4: None, source: true, ..base() }, {
            Err(Denied::Source)
        }),
        (same, Request { v4: own, ..base() }, Err(Denied::Address)),
        (same, Request { source: true, ..base() }, Err(Denied::Address)),
        (|a| a.not_after = Some(at(9).unix), base(), Err(Denied::Expired)),
        (|a| a.services = vec![], base(), Err(Denied::Service)),
        (|a| a.uses = Some(0), base(), Err(Denied::UsedUp)),
    ];
    let ask_with = |change: &dyn Fn(&mut Access), request: &Request| {
        let mut a = access(1);
        change(&mut a);
        let mut e = engine(vec![a]);
        let p = packet(1, request);
        let answer = reason(send(&mut e, &p, HOME, at(9)));
        // Used up all the same.
        assert_eq!(reason(send(&mut e, &p, HOME, at(9))), Err(Reject::Duplicate));
        answer
    };
    for (n, (change, request, verdict)) in table.iter().enumerate() {
        let verdict = verdict.map_err(Reject::NotPermitted);
        assert_eq!(ask_with(change, request), verdict, "{n}");
    }
    let network = Err(Reject::NotPermitted(Denied::Network));
    assert_eq!(ask_with(&|a| a.sources = inside(), &base()), Ok(()));
    assert_eq!(ask_with(&|a| a.sources = outside(), &base()), network);
}

#[test]
fn a_lease_ends_when_it_was_asked_to_and_never_after_the_credential() {
    let ends = |ttl: u32, not_after: Option<Unix>| {
        let mut e = engine(vec![access(1).with(|t| t.not_after = not_after)]);
        let granted = ask(&mut e, 1, &Request { ttl, ..open(at(9).unix) }, at(9)).unwrap();
        granted[0].until.since(at(9).mono)
    };
    assert_eq!(ends(0, None), 30_000);
    assert_eq!(ends(600, None), 600_000);
    assert_eq!(ends(3_601, None), 3_600_000);
    assert_eq!(ends(u32::MAX, None), 3_600_000);
    assert_eq!(ends(600, Some(at(9 + 4_321).unix)), 4_321);
    assert_eq!(ends(600, Some(at(9 + 900_000).unix)), 600_000);
}

#[test]
fn a_use_is_an_open_that_was_allowed_and_stays_used_after_a_restart() {
    let guest = || access(1).with(|t| t.uses = Some(2));
    let (mut e, now) = (engine(vec![guest(), access(2)]), at(9_000));
    let mut records = vec![];
    let mut ask = |request: Request| {
        let answer = send(&mut e, &packet(1, &request), HOME, now);
        let record = |c: &Command| match c {
            Command::Record(r) => Some(*r),
            Command::Grant(_)
            | Command::Sync(_)
            | Command::Restore(_)
            | Command::Suspect(_)
            | Command::Hook(_) => None,
        };
        records.extend(answer.iter().flatten().filter_map(record));
        reason(answer)
    };
    let used_up = Err(Reject::NotPermitted(Denied::UsedUp));
    let bad = Request { services: services(&["db"]), ..open(now.unix) };
    assert_eq!(ask(open(now.unix)), Ok(()));
    assert_eq!(ask(bad), Err(Reject::NotPermitted(Denied::Service)));
    assert_eq!(ask(close(now.unix.plus(1))), Ok(()));
    assert_eq!(ask(open(now.unix.plus(2))), Ok(()));
    assert_eq!(ask(open(now.unix.plus(3))), used_up);
    assert_eq!(ask(close(now.unix.plus(4))), Ok(()));
    // Another boot: leases are forgotten, uses are not.
    for boot in [1, 2] {
        let history = History { records: records.clone(), whole: true };
        let mut setup = setup(vec![guest()]);
        setup.boot = [boot; 16];
        let mut e = Engine::start(setup, &history, now);
        e.handle_store_mended();
        let p = packet(1, &open(at(20_000).unix));
        assert_eq!(reason(send(&mut e, &p, HOME, at(20_000))), used_up);
    }
}

#[test]
fn two_door_keys_admit_and_no_third() {
    let mut e = engine(vec![access(1)]);
    e.set_doors(SERVER, vec![door(0), door(1), door(2)]);
    let mut through = |n| {
        let request = open(at(9).unix);
        let p = proto::seal(&request, id(1), SERVER, &door(n), &keys(1), &nonce());
        send(&mut e, &p, HOME, at(9)).map(|_| ())
    };
    assert_eq!(through(0), Ok(()));
    assert_eq!(through(1), Ok(()));
    for n in [2, 3] {
        assert_eq!(through(n), Err(Refusal { reason: Reject::NotAdmitted, client: None }));
    }
}

#[test]
fn a_refusal_before_the_proof_names_nobody() {
    let mut e = engine(vec![access(1)]);
    let good = packet(1, &open(at(9).unix));
    let mut check = |bytes: &[u8], reason| {
        assert_eq!(send(&mut e, bytes, HOME, at(9)), Err(Refusal { reason, client: None }));
    };
    check(&[], Reject::Malformed(Malformed::Length));
    check(&good[1..], Reject::Malformed(Malformed::Length));
    check(&[&good[..], &[0]].concat(), Reject::Malformed(Malformed::Length));
    check(&packet(9, &open(at(9).unix)), Reject::UnknownClient);
    for at in 0..proto::DATAGRAM {
        let mut bad = good;
        bad[at] ^= 1;
        // The token and its tag; the nonce's tail and the masked id, which make somebody else's.
        let (admits, stranger) = ([0..8, 24..28], [12..24, 28..36]);
        let is_in = |places: [std::ops::Range<usize>; 2]| places.iter().any(|p| p.contains(&at));
        let reason = if is_in(admits) { Reject::NotAdmitted } else { Reject::Unauthentic };
        check(&bad, if is_in(stranger) { Reject::UnknownClient } else { reason });
    }
    assert_eq!(reason(send(&mut e, &good, HOME, at(9))), Ok(()));
}

#[test]
fn an_authentic_packet_of_another_making_is_named() {
    let base = body(&open(at(9).unix));
    let with = |at: usize, value: u8| {
        let mut out = base;
        out[at] = value;
        out
    };
    let mut close_with_ttl = body(&close(at(9).unix));
    close_with_ttl[19] = 1;
    let table = [
        (with(0, 2), Malformed::Version),
        (with(1, 3), Malformed::Action),
        (with(1, 0), Malformed::Action),
        (with(2, 0x80), Malformed::NotCanonical),
        (with(4, 0), Malformed::Addresses),
        (with(5, 7), Malformed::Prefix),
        (with(24, 127), Malformed::Prefix),
        (with(7, 9), Malformed::Services),
        (with(7, 1), Malformed::Services),
        (with(8, 0xff), Malformed::Time),
        (with(20, 1), Malformed::NotCanonical),
        (with(95, 1), Malformed::NotCanonical),
        (with(96, 1), Malformed::NotCanonical),
        (with(203, 1), Malformed::NotCanonical),
        (close_with_ttl, Malformed::Ttl),
    ];
    let mut e = engine(vec![access(1)]);
    let mut check = |bytes: &[u8], why| {
        let refusal = Refusal { reason: Reject::Malformed(why), client: Some(id(1)) };
        assert_eq!(send(&mut e, bytes, HOME, at(9)), Err(refusal));
    };
    for (body, why) in table {
        check(&forged(1, SERVER, &body), why);
    }
    check(&forged(1, ServerId([8; 16]), &base), Malformed::Seal);
    assert_eq!(reason(send(&mut e, &forged(1, SERVER, &base), HOME, at(9))), Ok(()));
}

#[test]
fn a_client_that_is_gone_while_its_packet_waits_gets_nothing() {
    let mut e = engine(vec![access(1)]);
    let p = packet(1, &open(at(9).unix));
    let arrival = Arrival { bytes: &p, from: ip(HOME), mode: Mode::Spa };
    assert_eq!(e.handle_arrival(&arrival, at(9)), Ok(None));
    e.remove_client(id(1));
    let (commands, answers) = settle(&mut e, at(9));
    let refusal = Refusal { reason: Reject::UnknownClient, client: Some(id(1)) };
    assert_eq!(answers, [Err(refusal)]);
    assert!(!commands.iter().any(|c| matches!(c, Command::Grant(_))));
    assert_eq!(open(at(9).unix).action, Action::Open);
}
