//! The journal on real files: what a crash, a bad byte, a full disk and a future version leave.

#![allow(clippy::unwrap_used)]

mod packets;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use opensesame_spa::access::{Action, Assurance, Claim, Prefix, Services};
use opensesame_spa::daemon::store::{
    Directory, Journal, SLOT, Slot, StoreError, Told, decode, encode,
};
use opensesame_spa::engine::suspicion::Ban;
use opensesame_spa::engine::{Arrival, Engine, History, Mode, Record, Reject};
use opensesame_spa::time::{Mono, Now, Unix};
use packets::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn directory(path: &std::path::Path) -> Directory {
    Directory::new(std::fs::File::open(path).expect("the directory").into())
}

/// Engine and journal together, as the daemon has them.
struct Server {
    engine: Engine,
    journal: Journal<Directory>,
    whole: bool,
}

impl Server {
    fn start(path: &Path, now: Now, segment: u64) -> Server {
        let disk = directory(path);
        let (journal, history) = Journal::open(disk).expect("the journal");
        let mut journal = journal.with_segments(segment);
        let mut engine = Engine::start(setup(vec![access(1)]), &history, now);
        if engine.wants_segment() {
            let _ = journal.mend(&mut engine);
        }
        Server { engine, journal, whole: history.whole }
    }

    /// How many grants come of a packet, or why it is refused.
    fn send(&mut self, bytes: &[u8], now: Now) -> Result<usize, Reject> {
        if self.engine.wants_segment() {
            let _ = self.journal.mend(&mut self.engine);
        }
        let arrival = Arrival { bytes, from: ip(HOME), mode: Mode::Spa };
        self.engine.handle_arrival(&arrival, now).map_err(|r| r.reason)?;
        let mut granted = 0;
        loop {
            let turn = self.journal.turn(&mut self.engine, now);
            granted += turn.told.iter().filter(|t| matches!(t, Told::Grant(_))).count();
            if turn.failed.is_some() {
                return Err(Reject::NoRecord);
            }
            let Some(ticket) = turn.sync else { return Ok(granted) };
            match self.journal.sync() {
                Ok(()) => drop(self.engine.handle_synced(ticket, now)),
                Err(_) => {
                    self.engine.handle_store_failed();
                    return Err(Reject::NoRecord);
                }
            }
        }
    }
}

fn segment(path: &Path, number: u64) -> PathBuf {
    path.join(format!("journal-{number:016x}"))
}

fn reopen(path: &Path) -> Result<History, StoreError> {
    Journal::open(directory(path)).map(|(_, history)| history)
}

/// A journal of one segment of 64 slots with the beginning and these packets, all at `at(9_000)`.
fn written(packets: &[[u8; 288]]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), START, 64 * SLOT as u64);
    for p in packets {
        assert_eq!(server.send(p, at(9_000)), Ok(1));
    }
    dir
}

fn some(n: u64) -> Vec<[u8; 288]> {
    (0..n).map(|i| packet(1, &open(at(9_000).unix.plus(i)))).collect()
}

fn claim(action: Action) -> Claim {
    Claim {
        client: id(3),
        assurance: Assurance::Sealed,
        action,
        replace: true,
        addresses: ["192.0.2.0/24", "2001:db8::/48"].map(|a| a.parse::<Prefix>().ok()),
        services: services(&["ssh", "tcp/80", "udp/5000-5010"]),
        time: Unix(1_700_000_000_000),
        until: Mono(123_456_789),
    }
}

fn all_kinds() -> Vec<Record> {
    let v6_only = [None, "2001:db8::1".parse().ok()];
    let plain = Claim { replace: false, services: Services::EMPTY, ..claim(Action::Open) };
    let full = services(&["tcp/1", "tcp/2", "tcp/3", "tcp/4", "udp/1", "udp/2", "ssh", "web"]);
    vec![
        Record::Boot { id: [9; 16], started: Mono(77), whole: true, more: 5 },
        Record::Boot { id: [9; 16], started: Mono(u64::MAX), whole: false, more: u32::MAX },
        Record::Clean,
        Record::Horizon(Unix(5)),
        Record::Floor(Unix(u64::MAX)),
        Record::Seen { client: id(1), time: Unix(6), proof: [8; 16] },
        Record::Granted(claim(Action::Open)),
        Record::Granted(Claim { addresses: v6_only, ..plain }),
        Record::Granted(Claim { services: full, assurance: Assurance::Knock, ..plain }),
        Record::Closed(claim(Action::Close)),
        Record::Used { client: id(2), count: 3 },
        Record::Banned(Ban { prefix: "192.0.2.1".parse().unwrap(), until: Unix(9), times: 2 }),
        Record::Pardoned("2001:db8:0:1::/64".parse().unwrap()),
    ]
}

#[test]
fn every_kind_goes_both_ways_and_one_wrong_bit_is_damage() {
    for (n, record) in all_kinds().into_iter().enumerate() {
        let slot = encode(&record, n as u64);
        assert_eq!(decode(&slot), Slot::Valid(n as u64, record));
        for bit in 0..SLOT * 8 {
            let mut bad = slot;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad), Slot::Damaged, "{record:?}, bit {bit}");
        }
    }
    assert_eq!(decode(&[0; SLOT]), Slot::Empty);
    for bit in 0..SLOT * 8 {
        let mut bad = [0; SLOT];
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&bad), Slot::Damaged, "bit {bit}");
    }
}

#[test]
fn a_torn_tail_is_no_damage() {
    let packets = some(5);
    for cut in [80, 100, SLOT - 1] {
        let dir = written(&packets);
        let file = segment(dir.path(), 1);
        let before = reopen(dir.path()).unwrap();
        let mut bytes = fs::read(&file).unwrap();
        let last = before.records.len() * SLOT;
        bytes[last - cut..last].fill(0);
        fs::write(&file, &bytes).unwrap();
        let after = reopen(dir.path()).unwrap();
        assert!(before.whole && after.whole);
        assert_eq!(after.records, before.records[..before.records.len() - 1]);
        // It goes on behind the last sound record, and is whole again.
        let mut server = Server::start(dir.path(), at(9_100), SLOT as u64);
        assert!(!server.engine.wants_segment());
        assert_eq!(server.send(&some(1)[0], at(9_100)), Ok(1));
        assert_eq!(server.send(&packets[0], at(9_100)), Err(Reject::Replayed));
        let again = reopen(dir.path()).unwrap();
        assert!(again.whole && again.records.starts_with(&after.records));
        assert!(again.records.len() > after.records.len());
    }
}

#[test]
fn a_bad_byte_before_the_tail_makes_a_start_that_trusts_nothing() {
    let packets = some(5);
    let records = reopen(written(&packets).path()).unwrap().records.len();
    for slot in 0..records - 1 {
        let dir = written(&packets);
        let file = segment(dir.path(), 1);
        let mut bytes = fs::read(&file).unwrap();
        bytes[slot * SLOT + 20] ^= 4;
        fs::write(&file, &bytes).unwrap();
        assert!(!reopen(dir.path()).unwrap().whole, "slot {slot}");
        let mut server = Server::start(dir.path(), at(9_100), 64 * SLOT as u64);
        assert!(!server.whole);
        for p in &packets {
            assert_eq!(server.send(p, at(9_100)), Err(Reject::Floor), "slot {slot}");
        }
        // One segment that stands alone has taken the place of the damaged one.
        assert!(!segment(dir.path(), 1).exists() && reopen(dir.path()).unwrap().whole);
        let fresh = packet(1, &open(at(30_000).unix));
        assert_eq!(server.send(&fresh, at(30_000)), Ok(1));
    }
}

#[test]
fn a_record_of_the_future_is_refused_by_name() {
    for (version, kind) in [(1, 99), (2, 5), (1, 0)] {
        let dir = written(&some(1));
        let file = segment(dir.path(), 1);
        let mut bytes = fs::read(&file).unwrap();
        let slot = &mut bytes[20 * SLOT..21 * SLOT];
        (slot[4], slot[5]) = (version, kind);
        let sum = crc32c::crc32c(&slot[4..]);
        slot[..4].copy_from_slice(&sum.to_be_bytes());
        fs::write(&file, &bytes).unwrap();
        let error = reopen(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Unknown(1, v, k) if (v, k) == (version, kind)));
        let text = error.to_string();
        assert!(text.contains(&format!("version {version}, kind {kind}")), "{text}");
        assert!(text.contains("0000000000000001"), "{text}");
    }
}

/// A file with these records, numbered from `first`, and room for four more.
fn put(path: &Path, number: u64, first: u64, records: &[Record]) {
    let slots = records.iter().zip(first..).map(|(r, n)| encode(r, n)).collect::<Vec<_>>();
    let mut bytes = slots.concat();
    bytes.resize(bytes.len() + 4 * SLOT, 0);
    fs::write(segment(path, number), bytes).unwrap();
}

#[test]
fn a_jump_in_the_numbers_is_a_hole_and_a_whole_beginning_mends_it() {
    let begin = |whole, more| Record::Boot { id: [1; 16], started: Mono(9), whole, more };
    let (g, h) = (Record::Floor(Unix(1)), Record::Horizon(Unix(2)));
    // Segments as (first number, records); what is whole, and how many records are read.
    type Case<'a> = (&'a [(u64, &'a [Record])], bool, usize);
    let alone = [begin(true, 2), g, h];
    let next = [begin(false, 2), g, h];
    let table: &[Case<'_>] = &[
        (&[], false, 0),
        (&[(0, &alone)], true, 3),
        (&[(7, &next)], true, 3),
        (&[(0, &alone), (3, &next)], true, 6),
        (&[(0, &alone), (4, &next)], false, 6),
        (&[(0, &alone), (9, &alone)], true, 3),
        (&[(0, &alone), (4, &next), (9, &alone), (12, &next)], true, 6),
        // A beginning that is not all there, with and without something before it.
        (&[(0, &alone[..2])], false, 2),
        (&[(0, &next[..2])], false, 2),
        (&[(0, &alone), (3, &next[..2])], false, 5),
        (&[(0, &alone), (3, &alone[..2])], false, 5),
        (&[(0, &alone), (3, &[])], false, 3),
        (&[(0, &[g, h])], false, 2),
    ];
    for (n, (segments, whole, count)) in table.iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        for (number, (first, records)) in segments.iter().enumerate() {
            put(dir.path(), number as u64 + 1, *first, records);
        }
        let history = reopen(dir.path()).unwrap();
        assert_eq!((history.whole, history.records.len()), (*whole, *count), "case {n}");
    }
}

#[test]
fn files_of_other_names_are_nobodys() {
    let dir = written(&some(1));
    for name in ["journal-+00000000000000f", "journal-00000000000000FF", "journal-1", "other"] {
        fs::write(dir.path().join(name), "x").unwrap();
    }
    assert!(reopen(dir.path()).unwrap().whole);
}

#[test]
fn segments_come_and_go_under_load_and_nothing_is_forgotten_too_early() {
    let dir = tempfile::tempdir().unwrap();
    let mut server = Server::start(dir.path(), START, 64 * SLOT as u64);
    let (mut sent, mut most, mut last) = (vec![], 0, 0);
    for i in 0..3_000u64 {
        let now = at(70_000 + i * 100);
        let p = packet(1, &open(now.unix.minus(i % 7 * 1_000)));
        assert_eq!(server.send(&p, now), Ok(1), "{i}");
        sent.push(p);
        most = most.max(server.journal.segments());
        last = server.journal.disk().1;
        if i % 500 == 499 {
            server = Server::start(dir.path(), now, 64 * SLOT as u64);
            assert!(server.whole && !server.engine.wants_segment());
            for p in &sent {
                assert!(server.send(p, now).is_err(), "{i}");
            }
        }
    }
    println!("3,000 packets: {last} segments, at most {most} at a time");
    let files = fs::read_dir(dir.path()).unwrap().count();
    // 69 s of packets at two records each are 22 full segments.
    assert!(last > 90 && most < 60 && files == server.journal.segments(), "{last} {most} {files}");
}

/// Runs in a thread with a mount namespace of its own and a small file system in memory; false if
/// this machine cannot do that.
fn with_tmpfs(work: impl FnOnce(&Path) + Send) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let outcome = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).map_err(|e| format!("unshare: {e}"))?;
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
                .map_err(|e| format!("private mounts: {e}"))?;
            mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some("size=1m"))
                .map_err(|e| format!("tmpfs: {e}"))?;
            work(dir.path());
            Ok::<(), String>(())
        });
        thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    });
    if let Err(why) = &outcome {
        println!("SKIPPED {}: {why}", std::thread::current().name().unwrap_or("?"));
        assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: {why}");
    }
    outcome.is_ok()
}

#[test]
fn a_full_disk_grants_nothing_and_heals() {
    with_tmpfs(|path| {
        let size = 256 * SLOT as u64;
        let mut server = Server::start(path, START, size);
        let mut i = 0;
        let mut next = || {
            i += 1;
            (packet(1, &open(at(9_000 + i).unix)), at(9_000 + i))
        };
        let (p, now) = next();
        assert_eq!(server.send(&p, now), Ok(1));
        // Fill the disk to the last page.
        let filler = path.join("filler");
        let full = fs::write(&filler, vec![1; 2 << 20]).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        let (mut good, mut lost) = (vec![p], vec![]);
        while lost.len() < 50 {
            let (p, now) = next();
            match server.send(&p, now) {
                Ok(1) if lost.is_empty() => good.push(p),
                Err(Reject::NoRecord) => lost.push(p),
                other => panic!("{other:?} after {} and {}", good.len(), lost.len()),
            }
        }
        // The space that was reserved was used to its end.
        assert!((50..128).contains(&good.len()), "{}", good.len());
        // A start now could not know what failed, so it trusts nothing.
        assert!(!reopen(path).unwrap().whole);
        fs::remove_file(&filler).unwrap();
        for _ in 0..200 {
            let (p, now) = next();
            assert_eq!(server.send(&p, now), Ok(1));
        }
        let now = at(10_000);
        for round in 0..2 {
            for p in &good {
                let again = server.send(p, now);
                assert!(
                    matches!(again, Err(Reject::Replayed | Reject::Duplicate)),
                    "{round} {again:?}"
                );
            }
            server = Server::start(path, now, size);
            assert!(server.whole, "the new segment stands alone");
        }
        assert_eq!(fs::read_dir(path).unwrap().count(), server.journal.segments());
    });
}

#[test]
fn a_read_only_directory_grants_nothing_and_heals() {
    with_tmpfs(|path| {
        let none = None::<&str>;
        let remount = |flags| {
            mount(none, path, none, MsFlags::MS_REMOUNT | flags, none).expect("a remount");
        };
        remount(MsFlags::MS_RDONLY);
        let mut server = Server::start(path, START, 64 * SLOT as u64);
        let p = packet(1, &open(at(9_000).unix));
        for _ in 0..3 {
            assert_eq!(server.send(&p, at(9_000)), Err(Reject::NoRecord));
        }
        assert!(server.journal.mend(&mut server.engine).is_err());
        remount(MsFlags::empty());
        assert_eq!(server.send(&p, at(9_000)), Ok(1));
        drop(server);
        // A journal that can be read and not written is not gone on with, in silence or at all.
        remount(MsFlags::MS_RDONLY);
        let mut server = Server::start(path, at(9_001), 64 * SLOT as u64);
        assert!(!server.whole && server.engine.wants_segment());
        assert_eq!(server.send(&p, at(9_001)), Err(Reject::NoRecord));
        remount(MsFlags::empty());
        assert_eq!(server.send(&p, at(9_001)), Err(Reject::Floor));
    });
}
