//! Bans in the engine and in the journal: what comes first, what lifts one, what a restart remembers.

#![allow(clippy::unwrap_used)]

mod packets;

use opensesame_spa::access::{Assurance, Prefix};
use opensesame_spa::daemon::store::Told;
use opensesame_spa::engine::suspicion::{Ban, Verdict};
use opensesame_spa::engine::{Arrival, Command, Engine, History, Mode, Plain, Record, Suspect};
use opensesame_spa::time::{Now, Unix};
use packets::*;

const MINUTE: u64 = 60_000;
const DAY: u64 = 24 * 60 * MINUTE;
const STRANGER: &str = "203.0.113.7";

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

/// Everything that the engine wants done.
fn commands(e: &mut Engine) -> Vec<Command> {
    std::iter::from_fn(|| e.poll_command()).collect()
}

fn block(e: &mut Engine, from: &str, now: Now) {
    for ticket in 0..4 {
        e.handle_strike(ticket, ip(from), 0, now);
    }
}

fn unbans(commands: &[Command]) -> Vec<Prefix> {
    let one = |c: &Command| match c {
        Command::Suspect(Suspect::Unban(prefix)) => Some(*prefix),
        Command::Suspect(_)
        | Command::Record(_)
        | Command::Sync(_)
        | Command::Grant(_)
        | Command::Restore(_)
        | Command::Hook(_) => None,
    };
    commands.iter().filter_map(one).collect()
}

#[test]
fn the_record_comes_before_the_ban_and_the_ban_before_the_answer() {
    let mut e = engine(vec![access(1)]);
    block(&mut e, STRANGER, at(0));
    let until = at(10 * MINUTE).unix;
    let banned = Ban { prefix: net(STRANGER), until, times: 1 };
    let told = commands(&mut e);
    assert_eq!(
        told[3..],
        [
            Command::Record(Record::Banned(banned)),
            Command::Suspect(Suspect::Ban(banned)),
            Command::Suspect(Suspect::Verdict(3, Verdict::Blocked { until })),
        ]
    );
    // A disk that is full keeps nobody in; the next segment says it.
    let mut e = engine(vec![access(1)]);
    e.handle_store_failed();
    block(&mut e, STRANGER, at(0));
    assert!(!commands(&mut e).iter().any(|c| matches!(c, Command::Record(_))));
    assert!(e.snapshot(true).contains(&Record::Banned(banned)));
}

#[test]
fn a_sealed_packet_lifts_the_ban_of_where_it_comes_from() {
    let mut e = engine(vec![access(1)]);
    for from in [HOME, STRANGER] {
        block(&mut e, from, at(0));
    }
    commands(&mut e);
    // A replay and a stranger's bytes lift nothing.
    let one = packet(1, &open(at(100).unix));
    let told = send(&mut e, &one, HOME, at(100)).unwrap();
    assert_eq!(unbans(&told), [net(HOME)]);
    assert!(told.contains(&Command::Record(Record::Pardoned(net(HOME)))));
    block(&mut e, HOME, at(200));
    commands(&mut e);
    assert!(send(&mut e, &one, HOME, at(200)).is_err());
    assert_eq!(unbans(&commands(&mut e)), []);
    assert!(!e.snapshot(false).contains(&Record::Pardoned(net(HOME))));
}

#[test]
fn no_datagram_strikes_and_a_plain_key_lifts_no_ban() {
    let plain = access(2).with(|t| {
        t.assurance = Assurance::PlainKey;
        t.services = vec![named("web")];
    });
    let key = Plain {
        client: plain.client,
        open: b"open_sesame".to_vec(),
        close: b"close_sesame".to_vec(),
        replies: false,
    };
    let mut with = setup(vec![access(1)]);
    with.plain = Some((plain, key));
    let mut e = Engine::start(with, &History::default(), at(0));
    e.handle_store_mended();
    for n in 0..1_000u32 {
        let mut bytes = packet(1, &open(at(100).unix));
        bytes[n as usize % 200] ^= 1;
        let mode = if n % 2 == 0 { Mode::Spa } else { Mode::Plain };
        let arrival = Arrival { bytes: &bytes, from: ip(STRANGER), mode };
        assert!(e.handle_arrival(&arrival, at(100)).is_err());
    }
    assert!(!commands(&mut e).iter().any(|c| matches!(c, Command::Suspect(_))));
    block(&mut e, STRANGER, at(100));
    commands(&mut e);
    let arrival = Arrival { bytes: b"open_sesame", from: ip(STRANGER), mode: Mode::Plain };
    let _ = e.handle_arrival(&arrival, at(200));
    assert_eq!(unbans(&commands(&mut e)), []);
}

fn bans(told: &[Told]) -> Vec<Ban> {
    let one = |t: &Told| match t {
        Told::Suspect(Suspect::Ban(ban)) => Some(*ban),
        Told::Suspect(_) | Told::Grant(_) | Told::Restore(_) | Told::Hook(_) => None,
    };
    told.iter().filter_map(one).collect()
}

#[test]
fn bans_survive_a_kill_a_reboot_and_new_segments_and_pardons_do_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut e, mut journal, told) = engine_in(dir.path(), 1, at(0));
    assert_eq!(bans(&told), []);
    // One turn each, as the daemon does: a turn's records go with one write.
    let mut expected = vec![];
    for n in 0..60u8 {
        block(&mut e, &format!("203.0.113.{n}"), at(0));
        let turn = journal.turn(&mut e, at(0));
        assert!(turn.failed.is_none());
        expected.extend(bans(&turn.told));
    }
    assert_eq!(expected.len(), 60);
    e.handle_pardon(&net("203.0.113.0/27"));
    assert!(journal.turn(&mut e, at(0)).failed.is_none());
    expected.retain(|b| !net("203.0.113.0/27").contains(&b.prefix));
    assert_eq!(expected.len(), 28);
    // Killed: nothing is ended in good order. The same boot, and then another one.
    drop((e, journal));
    for boot in [1, 1, 2] {
        let (e, _, told) = engine_in(dir.path(), boot, at(5 * MINUTE));
        assert_eq!(bans(&told), expected, "boot {boot}");
        drop(e);
    }
    // What is over is over, but the next one is the second.
    let (mut e, mut journal, told) = engine_in(dir.path(), 2, at(10 * MINUTE));
    assert_eq!(bans(&told), []);
    block(&mut e, "203.0.113.59", at(10 * MINUTE));
    block(&mut e, "203.0.113.1", at(10 * MINUTE));
    let again = bans(&journal.turn(&mut e, at(10 * MINUTE)).told);
    let times: Vec<u8> = again.iter().map(|b| b.times).collect();
    assert_eq!(times, [2, 1], "who was pardoned begins anew");
    // A clock that was set back by a year makes no ban of a year.
    drop((e, journal));
    let past = Now { unix: Unix(START.unix.0 - 365 * DAY), mono: START.mono };
    let (_, _, told) = engine_in(dir.path(), 3, past);
    assert!(!bans(&told).is_empty());
    assert!(bans(&told).iter().all(|b| b.until == past.unix.plus(DAY)));
}
