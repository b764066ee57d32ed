//! Between an open and a close the later packet wins, and a restart brings nothing back that was
//! ended.

#![allow(clippy::unwrap_used)]

mod packets;

use opensesame_spa::access::{Action, Claim, Prefix, Request, Services};
use opensesame_spa::engine::{Arrival, Command, Engine, History, Mode, Record, Reject};
use opensesame_spa::time::{Mono, Now};
use packets::*;

const OTHER: &str = "192.0.2.10";

/// Milliseconds after the start at which everything arrives.
const NOW: u64 = 100_000;

fn now() -> Now {
    at(NOW)
}

/// `open 5 ssh tcp/80`, `close 7 @192.0.2.10`, `open! 3`: the date in seconds after a moment in the
/// window, an address other than `HOME`, `!` for replace, services.
fn request(text: &str) -> Request {
    let mut words = text.split(' ');
    let verb = words.next().unwrap();
    let seconds: u64 = words.next().unwrap().parse().unwrap();
    let time = now().unix.minus(50_000).plus(seconds * 1_000);
    let mut request =
        if verb.starts_with("open") { Request { ttl: 600, ..open(time) } } else { close(time) };
    request.replace = verb.ends_with('!');
    let mut list = vec![];
    for word in words {
        match (word.strip_prefix('@'), word.strip_prefix("ttl=")) {
            (Some(a), _) if a.contains(':') => request.v6 = Some(a.parse().unwrap()),
            (Some(a), _) => request.v4 = Some(a.parse().unwrap()),
            (None, Some(ttl)) => request.ttl = ttl.parse().unwrap(),
            (None, None) => list.push(word),
        }
    }
    request.services = services(&list);
    request
}

#[test]
fn the_later_date_wins_in_whatever_order_they_come() {
    const LATE: Result<usize, Reject> = Err(Reject::Superseded);
    let table: &[&[(&str, Result<usize, Reject>)]] = &[
        &[("open 5", Ok(1)), ("close 4", LATE), ("close 6", Ok(1))],
        &[("close 5", Ok(1)), ("open 4", LATE), ("open 6", Ok(1))],
        // At the same moment the close wins, so that the order does not matter.
        &[("open 5", Ok(1)), ("close 5", Ok(1))],
        &[("close 5", Ok(1)), ("open 5", LATE)],
        // Opens among themselves and closes among themselves: any order.
        &[("open 5", Ok(1)), ("open 4", Ok(1))],
        &[("close 5", Ok(1)), ("close 4", Ok(1))],
        // Another address, another service.
        &[("close 5", Ok(1)), ("open 4 @192.0.2.10", Ok(1))],
        &[("close 5 ssh", Ok(1)), ("open 4 web", Ok(1)), ("open 4 tcp/22", LATE)],
        &[("close 5 web", Ok(1)), ("open 4", LATE)],
        &[("close 5", Ok(1)), ("open 4 @2001:db8::1", LATE)],
        // Replace: every address.
        &[("close! 5", Ok(1)), ("open 4 @192.0.2.10", LATE), ("open 6", Ok(1))],
        &[("open! 5 @192.0.2.10", Ok(1)), ("open 4", LATE), ("open 6", Ok(1))],
        &[("open! 5 @192.0.2.10 ssh", Ok(1)), ("open 4 web", Ok(1))],
        &[("open 5 @192.0.2.10", Ok(1)), ("close! 4", LATE), ("close! 6", Ok(1))],
        // A close loses what was asked for later, and no more.
        &[("open 5 ssh", Ok(1)), ("close 4 tcp/22 tcp/80", Ok(1))],
        &[("open 5 ssh", Ok(1)), ("close 4", Ok(1)), ("close 3 ssh", LATE)],
        &[("open 5", Ok(1)), ("close 4 @2001:db8::1", Ok(1))],
        &[("open 5 ssh", Ok(1)), ("close 4 @2001:db8::1", Ok(2))],
        &[("open 5 ssh @192.0.2.10", Ok(1)), ("close! 4", Ok(1))],
    ];
    for history in table {
        let mut e = engine(vec![access(1), access(2)]);
        // Another client is another story.
        ask(&mut e, 2, &request("close! 59"), now()).unwrap();
        for (text, verdict) in *history {
            let got = ask(&mut e, 1, &request(text), now()).map(|parts| parts.len());
            assert_eq!(got, *verdict, "{text} in {history:?}");
        }
    }
}

#[test]
fn what_is_left_of_a_close_is_exactly_the_rest() {
    let mut e = engine(vec![access(1)]);
    ask(&mut e, 1, &request("open 5 tcp/22"), now()).unwrap();
    let parts = ask(&mut e, 1, &request("close 4 @2001:db8::1"), now()).unwrap();
    let left: Vec<([Option<Prefix>; 2], Services)> =
        parts.iter().map(|p| (p.addresses, p.services)).collect();
    let (v4, v6) = (HOME.parse().ok(), "2001:db8::1".parse().ok());
    let web = services(&["tcp/80", "tcp/443"]);
    let all = services(&["tcp/22", "tcp/80", "tcp/443"]);
    assert_eq!(left, [([v4, None], web), ([None, v6], all)]);
    assert!(parts.iter().all(|p| p.action == Action::Close && !p.replace));
}

#[test]
fn a_late_open_does_not_replace_a_newer_one() {
    for (first, late, replaces) in [
        ("open 5 @192.0.2.10", "open! 4", false),
        ("open 5 @192.0.2.10 ssh", "open! 4 web", true),
        ("open 3 @192.0.2.10", "open! 4", true),
    ] {
        let mut e = engine(vec![access(1)]);
        ask(&mut e, 1, &request(first), now()).unwrap();
        let granted = ask(&mut e, 1, &request(late), now()).unwrap();
        assert_eq!(granted[0].replace, replaces, "{first}, {late}");
    }
}

/// Which (address, port) a firewall has open at `when` after these claims.
fn opened(claims: impl IntoIterator<Item = Claim>, when: Mono) -> Vec<(Prefix, u16, Mono)> {
    let setup = setup(vec![access(1)]);
    let mut policy = setup.policy;
    policy.set_client(access(1));
    let mut open: Vec<(Prefix, u16, Mono)> = vec![];
    for claim in claims {
        let ports = policy.ports(&access(1), &claim).unwrap();
        let on = |port: &u16| ports.iter().any(|p| p.first() == *port);
        let here = |a: &Prefix| claim.addresses().any(|b| a.overlaps(&b));
        match claim.action {
            Action::Close => open.retain(|(a, p, _)| !on(p) || !(claim.replace || here(a))),
            Action::Open => {
                open.retain(|(a, p, _)| !(claim.replace && on(p)) || here(a));
                for (a, p) in claim.addresses().flat_map(|a| ports.iter().map(move |p| (a, p))) {
                    open.push((a, p.first(), claim.until));
                }
            }
        }
    }
    // The latest end of each.
    open.sort_unstable_by_key(|(a, p, until)| (*a, *p, std::cmp::Reverse(*until)));
    open.dedup_by_key(|(a, p, _)| (*a, *p));
    open.retain(|(_, _, until)| *until > when);
    open
}

fn restored(history: &History, when: Now) -> Vec<Claim> {
    let mut e = Engine::start(setup(vec![access(1)]), history, when);
    let claim = |c| match c {
        Command::Restore(claim) => claim,
        Command::Record(_)
        | Command::Sync(_)
        | Command::Grant(_)
        | Command::Suspect(_)
        | Command::Hook(_) => {
            panic!("{c:?}")
        }
    };
    std::iter::from_fn(|| e.poll_command()).map(claim).collect()
}

#[test]
fn a_restart_opens_what_was_open_and_nothing_else() {
    let histories: &[&[&str]] = &[
        &["open 1 ttl=30", "open 2 @192.0.2.10"],
        // The close's own ttl is over long before the lease's.
        &["open 1", "close 2"],
        &["open 1", "close 2 tcp/22"],
        &["open 1", "close! 2 @192.0.2.10"],
        // The same words again, without replace or with.
        &["open 1", "open! 2 @192.0.2.10", "open 3 @192.0.2.10"],
        &["open 1", "open! 2 @192.0.2.10 ttl=30", "open! 3 @192.0.2.10 ttl=30"],
        &["open 1 @192.0.2.10", "close! 2", "close 3", "open 4"],
        // A shorter one shortens nothing, unless there was a close between.
        &["open 1", "open 2 ttl=90"],
        &["open 1", "close 2 ssh web", "open 3 ttl=90"],
        &["open 1", "close 2 ssh", "open 3 ttl=90"],
        &["open 1", "close 2 ssh", "open 3 ssh ttl=90", "close 4 web"],
        &["open 1 ssh", "open! 2 @192.0.2.10 ssh", "close 3 @192.0.2.10 ssh"],
        &["open 1", "open 3 ssh", "close 2"],
    ];
    for history in histories {
        let mut e = engine(vec![access(1)]);
        let (mut told, mut records) = (vec![], e.snapshot(true));
        for text in *history {
            for c in send(&mut e, &packet(1, &request(text)), HOME, now()).unwrap() {
                match c {
                    Command::Grant(grant) => told.push(*grant.claim()),
                    Command::Record(record) => records.push(record),
                    Command::Sync(_)
                    | Command::Restore(_)
                    | Command::Suspect(_)
                    | Command::Hook(_) => {}
                }
            }
        }
        for later in [0, 50_000, 100_000, 400_000] {
            let when = at(NOW + later);
            let expected = opened(told.clone(), when.mono);
            let _ = e.forgotten(when);
            for (name, records) in [
                ("all records", records.clone()),
                ("a new segment behind them", [records.clone(), e.snapshot(false)].concat()),
                ("one whole segment", e.snapshot(true)),
            ] {
                let claims = restored(&History { records, whole: true }, when);
                let got = opened(claims, when.mono);
                assert_eq!(got, expected, "{history:?} after {later} ms, {name}");
            }
        }
    }
}

#[test]
fn a_restart_does_not_let_an_open_pass_that_a_close_has_superseded() {
    let mut e = engine(vec![access(1)]);
    ask(&mut e, 1, &request("close 20 ttl=0"), now()).unwrap();
    // The close's own end is over, but a packet that old is still inside the window.
    let when = at(NOW + 29_000);
    for later in [0, 29_000, 31_000] {
        let when = Now { mono: now().mono.plus(later), ..when };
        let history = History { records: e.snapshot(true), whole: true };
        let mut again = Engine::start(setup(vec![access(1)]), &history, when);
        settle(&mut again, when);
        let late = ask(&mut again, 1, &request("open 19"), when);
        assert_eq!(late, Err(Reject::Superseded), "{later}");
    }
}

#[test]
fn a_grant_that_was_not_recorded_is_not_restored_and_what_was_is_not_lost() {
    let mut e = engine(vec![access(1)]);
    ask(&mut e, 1, &request("open 1"), now()).unwrap();
    let history = History { records: e.snapshot(true), whole: true };
    let mut e = Engine::start(setup(vec![access(1)]), &history, now());
    let arrive = |e: &mut Engine, p: &[u8]| {
        let arrival = Arrival { bytes: p, from: ip(OTHER), mode: Mode::Spa };
        e.handle_arrival(&arrival, now()).map(|granted| granted.is_some())
    };
    // The first packet after the restart waits for a sync that fails.
    assert_eq!(arrive(&mut e, &packet(1, &request("open 2 @192.0.2.10"))), Ok(false));
    assert_eq!(e.handle_store_failed(), 1);
    let left: Vec<Command> = std::iter::from_fn(|| e.poll_command()).collect();
    assert!(matches!(left[..], [Command::Restore(_)]), "{left:?}");
    e.handle_store_mended();
    // The third is decided at once, and its write fails.
    assert_eq!(ask(&mut e, 1, &request("open 3"), now()).map(|parts| parts.len()), Ok(1));
    let p = packet(1, &request("open 4 @192.0.2.10"));
    assert_eq!(arrive(&mut e, &p), Ok(true));
    assert_eq!(e.handle_store_failed(), 1);
    assert_eq!(e.poll_command(), None);
    e.handle_store_mended();
    let leases: Vec<Record> =
        e.snapshot(true).into_iter().filter(|r| matches!(r, Record::Granted(_))).collect();
    let [Record::Granted(claim)] = leases[..] else { panic!("{leases:?}") };
    assert_eq!(claim.addresses[0], HOME.parse().ok());
    // It is used up all the same.
    let again = send(&mut e, &p, OTHER, now()).map_err(|r| r.reason);
    assert_eq!(again, Err(Reject::Duplicate));
}
