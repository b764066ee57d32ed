//! The engine on knock sequences that are good once.

mod packets;

use opensesame_spa::access::{Access, Assurance, Protocol};
use opensesame_spa::crypto::KnockKey;
use opensesame_spa::engine::{
    Command, Engine, History, Knock, Record, Refusal, Reject, Sequence, Step,
};
use opensesame_spa::proto::TimedKnock;
use opensesame_spa::time::Now;
use packets::*;

const LINES: [[u16; 3]; 3] = [[1, 2, 3], [2, 3, 4], [9, 8, 7]];

fn entry(assurance: Assurance, sequence: Sequence) -> (Access, Knock) {
    let access = access(200).with(|t| t.assurance = assurance);
    let knock = Knock { client: access.client, sequence, window: 10_000, total: None };
    (access, knock)
}

fn udp(ports: &[u16]) -> Vec<Step> {
    ports.iter().map(|port| Step { protocol: Protocol::Udp, port: *port }).collect()
}

fn one_time() -> (Access, Knock) {
    entry(Assurance::Knock, Sequence::OneTime(LINES.iter().map(|line| udp(line)).collect()))
}

fn timed() -> TimedKnock {
    TimedKnock { key: KnockKey::new([3; 32]), steps: 4, avoid: vec![] }
}

fn by_time() -> (Access, Knock) {
    entry(Assurance::TimedKnock, Sequence::Timed(timed()))
}

/// An engine with this entry that remembers these records of the same boot.
fn engine(entry: (Access, Knock), records: Vec<Record>, now: Now) -> Engine {
    let mut setup = setup(vec![]);
    setup.knocks = vec![entry];
    let mut engine = Engine::start(setup, &History { records, whole: true }, now);
    engine.handle_store_mended();
    engine
}

/// Knocks; all that was to be done, in its order, and why not.
fn knock(e: &mut Engine, from: &str, ports: &[u16], now: Now) -> Result<Vec<Command>, Reject> {
    let mut all = Vec::new();
    for step in udp(ports) {
        let outcomes = e.handle_knock(ip(from), step, now);
        let (commands, answers) = settle(e, now);
        all.extend(commands);
        let refusals = |r: Refusal| r.reason;
        outcomes.into_iter().try_for_each(|o| o.map(|_| ()).map_err(refusals))?;
        answers.into_iter().try_for_each(|a| a.map(|_| ()).map_err(refusals))?;
    }
    Ok(all)
}

fn grants(commands: &[Command]) -> usize {
    commands.iter().filter(|c| matches!(c, Command::Grant(_))).count()
}

/// What was written, with the boot that it belongs to.
fn journal(e: &Engine, commands: &[Command]) -> Vec<Record> {
    let written = commands.iter().filter_map(|c| match c {
        Command::Record(record) => Some(*record),
        Command::Sync(_)
        | Command::Grant(_)
        | Command::Restore(_)
        | Command::Suspect(_)
        | Command::Hook(_) => None,
    });
    e.snapshot(true)
        .into_iter()
        .filter(|r| matches!(r, Record::Boot { .. }))
        .chain(written)
        .collect()
}

#[test]
fn a_one_time_sequence_is_struck_out_on_disk_before_the_port_opens() {
    let mut e = engine(one_time(), vec![], START);
    assert_eq!(e.sequences_left(), [(id(200), 3)]);
    // Only the first one counts, whatever is knocked.
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[1], at(10)).expect("nothing")), 0);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[2], at(20)).expect("nothing")), 0);
    let done = knock(&mut e, HOME, &LINES[0], at(30)).expect("opens");
    let place = |is: fn(&Command) -> bool| done.iter().position(is).expect("there");
    let used = place(|c| matches!(c, Command::Record(Record::Used { .. })));
    let sync = place(|c| matches!(c, Command::Sync(_)));
    let grant = place(|c| matches!(c, Command::Grant(_)));
    assert!(used < sync && sync < grant, "{done:?}");
    assert_eq!(e.sequences_left(), [(id(200), 2)]);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[0], at(40)).expect("nothing")), 0);
    // After a restart, and from a new segment: the second, and never again the first.
    for records in [journal(&e, &done), e.snapshot(true)] {
        let mut again = engine(one_time(), records, at(50));
        assert_eq!(again.sequences_left(), [(id(200), 2)]);
        assert_eq!(grants(&knock(&mut again, HOME, &LINES[0], at(60)).expect("nothing")), 0);
        assert_eq!(grants(&knock(&mut again, HOME, &LINES[1], at(70)).expect("opens")), 1);
        assert_eq!(grants(&knock(&mut again, HOME, &LINES[2], at(80)).expect("opens")), 1);
        assert_eq!(again.sequences_left(), [(id(200), 0)]);
        for line in LINES {
            assert_eq!(grants(&knock(&mut again, HOME, &line, at(90)).expect("nothing")), 0);
        }
    }
}

#[test]
fn what_is_struck_out_stays_so_when_the_list_changes() {
    let mut e = engine(one_time(), vec![], START);
    knock(&mut e, HOME, &LINES[0], at(10)).expect("opens");
    let mut longer = one_time();
    longer.1.sequence = Sequence::OneTime(vec![udp(&LINES[2]), udp(&LINES[0]), udp(&LINES[1])]);
    e.set_knocks(vec![longer]);
    assert_eq!(e.sequences_left(), [(id(200), 2)]);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[0], at(20)).expect("nothing")), 0);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[2], at(30)).expect("opens")), 1);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[0], at(40)).expect("nothing")), 0);
    assert_eq!(grants(&knock(&mut e, HOME, &LINES[1], at(50)).expect("opens")), 1);
}

#[test]
fn without_a_record_no_one_time_sequence_opens() {
    let mut e = engine(one_time(), vec![], START);
    for step in udp(&LINES[0]) {
        e.handle_knock(ip(HOME), step, at(10));
    }
    e.handle_turn(at(10));
    // The disk fails before the sync is through.
    assert_eq!(e.handle_store_failed(), 1);
    let left: Vec<Command> = std::iter::from_fn(|| e.poll_command()).collect();
    assert_eq!(grants(&left), 0);
    assert_eq!(knock(&mut e, HOME, &LINES[1], at(20)), Err(Reject::NoRecord));
}

#[test]
fn a_timed_sequence_counts_in_its_half_minute_and_the_next_one_and_once() {
    let ports = |period: u64| timed().ports(period);
    // 1,700,000,000 s is 20 s into a period, and the engine has been there for two more.
    const NOW: u64 = 60_000;
    let begin = TimedKnock::period(START.unix) + 2;
    let table = [
        ("two before", NOW, -2, 0),
        ("one before", NOW, -1, 1),
        ("the present one", NOW, 0, 1),
        ("the next one", NOW, 1, 0),
        ("its last moment as the one before", NOW + 39_999, 0, 1),
        ("too late by a moment", NOW + 40_000, 0, 0),
    ];
    for (what, ms, shift, opens) in table {
        let mut e = engine(by_time(), vec![], START);
        let period = begin.wrapping_add_signed(shift);
        let done = knock(&mut e, HOME, &ports(period), at(ms));
        let opened = done.as_ref().map_or(0, |done| grants(done));
        assert_eq!(opened, opens, "{what}: {done:?}");
    }
    // Once, from wherever, and after a restart too.
    let mut e = engine(by_time(), vec![], at(NOW - 1));
    // What was over when there was no memory yet may have been used.
    assert_eq!(knock(&mut e, HOME, &ports(begin - 1), at(NOW)), Err(Reject::Floor));
    let done = knock(&mut e, HOME, &ports(begin), at(NOW)).expect("opens");
    assert_eq!(grants(&done), 1);
    assert_eq!(knock(&mut e, HOME, &ports(begin), at(NOW + 1)), Err(Reject::Duplicate));
    assert_eq!(knock(&mut e, "192.0.2.10", &ports(begin), at(NOW + 2)), Err(Reject::Replayed));
    let mut again = engine(by_time(), journal(&e, &done), at(NOW + 3));
    assert_eq!(knock(&mut again, HOME, &ports(begin), at(NOW + 4)), Err(Reject::Replayed));
    let later = at(NOW + 10_000);
    assert_eq!(grants(&knock(&mut again, HOME, &ports(begin + 1), later).expect("opens")), 1);
}

#[test]
fn who_began_before_the_border_can_go_on_behind_it() {
    let mut e = engine(by_time(), vec![], START);
    let ports = timed().ports(TimedKnock::period(START.unix));
    assert_eq!(grants(&knock(&mut e, HOME, &ports[..2], at(9_000)).expect("nothing")), 0);
    assert_eq!(grants(&knock(&mut e, HOME, &ports[2..], at(10_500)).expect("opens")), 1);
}
