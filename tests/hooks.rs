//! Hooks in the engine and in the journal: what is remembered before a command runs, and what is
//! owed after a restart.

#![allow(clippy::unwrap_used)]

mod packets;

use opensesame_spa::access::{ClientId, ServiceId};
use opensesame_spa::daemon::store::Told;
use opensesame_spa::engine::{Command, Engine, Moment, Name, Note, Record, Subject};
use packets::*;

fn note(moment: Moment, n: u8) -> Note {
    let subject = Subject {
        service: ServiceId([1; 4]),
        client: ClientId([2; 8]),
        from: format!("10.0.0.{n}").parse().unwrap(),
        to: "tcp/22".parse().unwrap(),
    };
    Note { moment, subject, name: Name::new("-a\n'\"$(b)") }
}

fn commands(e: &mut Engine) -> Vec<Command> {
    std::iter::from_fn(|| e.poll_command()).collect()
}

fn owed(told: &[Told]) -> Vec<Note> {
    let one = |t: &Told| match t {
        Told::Hook(note) => Some(*note),
        Told::Suspect(_) | Told::Grant(_) | Told::Restore(_) => None,
    };
    told.iter().filter_map(one).collect()
}

#[test]
fn an_opening_is_told_when_it_is_durable_and_a_closing_when_it_is_written() {
    let mut e = engine(vec![access(1)]);
    commands(&mut e);
    let opening = note(Moment::Opening, 1);
    e.handle_hook(opening);
    e.handle_turn(at(0));
    let told = commands(&mut e);
    assert_eq!(told[0], Command::Record(Record::Hook(opening)));
    let Some(Command::Sync(ticket)) = told.last() else { panic!("{told:?}") };
    assert!(!told.contains(&Command::Hook(opening)));
    // One that comes while that sync is under way waits for the next.
    let other = note(Moment::Opening, 2);
    e.handle_hook(other);
    e.handle_turn(at(0));
    assert_eq!(commands(&mut e), [Command::Record(Record::Hook(other))]);
    e.handle_synced(*ticket, at(0));
    assert_eq!(commands(&mut e), [Command::Hook(opening)]);
    e.handle_turn(at(0));
    assert!(matches!(commands(&mut e).last(), Some(Command::Sync(_))));
    let closing = note(Moment::Closing, 1);
    e.handle_hook(closing);
    assert_eq!(commands(&mut e), [Command::Record(Record::Hook(closing)), Command::Hook(closing)]);
}

#[test]
fn a_disk_that_fails_holds_nothing_up_for_good() {
    let mut e = engine(vec![access(1)]);
    commands(&mut e);
    let (opening, closing) = (note(Moment::Opening, 1), note(Moment::Closing, 2));
    e.handle_hook(opening);
    e.handle_turn(at(0));
    e.handle_store_failed();
    e.handle_hook(closing);
    assert_eq!(commands(&mut e), [Command::Hook(closing)]);
    assert!(e.snapshot(true).contains(&Record::Hook(opening)));
    e.handle_store_mended();
    assert_eq!(commands(&mut e), [Command::Hook(opening)]);
}

#[test]
fn what_is_owed_survives_a_kill_a_reboot_and_new_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut e, mut journal, told) = engine_in(dir.path(), 1, at(0));
    assert_eq!(owed(&told), []);
    let mut say = |moment, n| {
        e.handle_hook(note(moment, n));
        let turn = journal.turn(&mut e, at(0));
        assert!(turn.failed.is_none());
        if let Some(ticket) = turn.sync {
            journal.sync().unwrap();
            e.handle_synced(ticket, at(0));
        }
        owed(&journal.turn(&mut e, at(0)).told)
    };
    // Far more than a segment holds.
    for n in 0..60 {
        assert_eq!(say(Moment::Opening, n), [note(Moment::Opening, n)]);
    }
    // Told and not run, or run and not known to be: owed. Run: not owed.
    (0..20).for_each(|n| drop(say(Moment::Opened, n)));
    (0..40).for_each(|n| drop(say(Moment::Closing, n)));
    (0..30).for_each(|n| drop(say(Moment::Closed, n)));
    // And begun again.
    say(Moment::Opening, 7);
    let numbers = [7].into_iter().chain(30..60);
    let expected: Vec<Note> = numbers.map(|n| note(Moment::Opening, n)).collect();
    drop((e, journal));
    for boot in [1, 1, 2, 3] {
        let (_, _, told) = engine_in(dir.path(), boot, at(1_000));
        assert_eq!(owed(&told), expected, "boot {boot}");
    }
}

/// Frames that come together are heard one after the other: the socket tells of the first alone.
#[test]
fn what_comes_in_one_piece_is_heard_whole() {
    use opensesame_spa::daemon::frame::{Frame, encode};
    use opensesame_spa::daemon::hook::Hook;
    use std::io::Write;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let frames = [Frame::Hook(Hook::User(None)), Frame::Stop];
    let bytes: Vec<u8> = frames.iter().flat_map(|f| encode(f, 1).to_vec()).collect();
    ours.write_all(&bytes).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_opensesame-spa"))
        .arg("hook-process")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut tries = 0..500;
    let ended = tries.find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        child.try_wait().unwrap()
    });
    let _ = child.kill();
    let _ = child.wait();
    assert!(ended.is_some_and(|status| status.success()), "it waits for what it has already");
}
