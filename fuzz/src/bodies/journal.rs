//! What a disk may hold when the server starts.

use super::disk::Memory;
use super::table::{BEGIN, setup};
use opensesame_spa::daemon::store::{Disk, Journal, SLOT, Slot, StoreError, decode, encode};
use opensesame_spa::engine::{Engine, Record};
use opensesame_spa::time::Unix;

/// The first byte says how the slots behind it are spread over segments; see [`mend`] for what
/// the first byte of a slot does. What is left behind the last slot is its torn end.
///
/// # Panics
/// When a record has two encodings, or what was written is not what is read back.
pub fn journal(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let (slots, torn) = rest.as_chunks::<SLOT>();
    let slots = mend(slots);
    slots.iter().for_each(identity);
    let mut disk = Memory::new(usize::from(how >> 4));
    let count = slots.len().div_ceil(1 + usize::from(how & 3)).max(1);
    // Four at most, and room for the torn one behind them.
    let first = if how & 4 == 0 { 1 } else { u64::MAX - 4 };
    for (number, some) in (first..=u64::MAX).zip(slots.chunks(count)) {
        disk.put(number, some.as_flattened());
    }
    if how & 8 != 0 {
        disk.put(u64::MAX, torn);
    }
    let (mut journal, history) = match Journal::open(disk) {
        Ok(opened) => opened,
        Err(StoreError::Unknown(..)) => {
            let unknown = |slot| matches!(decode(slot), Slot::Unknown(..));
            return assert!(slots.iter().any(unknown), "nothing is unknown");
        }
        Err(StoreError::Io(_)) => return,
    };
    let valid = |slot: &[u8; SLOT]| match decode(slot) {
        Slot::Valid(_, record) => Some(record),
        Slot::Empty | Slot::Damaged | Slot::Unknown(..) => None,
    };
    let all: Vec<Record> = slots.iter().filter_map(valid).collect();
    assert!(all.ends_with(&history.records), "what is read is the end of what is there");
    // A segment that stands alone makes those before it superfluous.
    let alone = |some: &[[u8; SLOT]]| {
        some.first().and_then(valid).is_some_and(|r| matches!(r, Record::Boot { whole: true, .. }))
    };
    if !slots.chunks(count).skip(1).any(alone) {
        assert_eq!(history.records, all, "every valid record is read");
    }
    let mut engine = Engine::start(setup(), &history, BEGIN);
    let mut expected = history.records;
    let failed = journal.turn(&mut engine, BEGIN).failed.is_some();
    if engine.wants_segment() {
        expected = engine.snapshot(true);
        if journal.mend(&mut engine).is_err() {
            return;
        }
    }
    let more = [Record::Horizon(BEGIN.unix), Record::Floor(Unix(1)), Record::Clean];
    if failed || journal.append(&more).is_err() {
        return;
    }
    let (disk, number) = journal.disk();
    assert!(disk.list().is_ok_and(|l| l.last() == Some(&number)), "it writes behind a later file");
    let mut disk = disk.clone();
    // Without its sync the append does not outlive the power; all that was there before does.
    let read = |disk: &Memory| Journal::open(disk.clone()).map(|(_, history)| history.records);
    let now = read(&disk).expect("a journal reads what it wrote");
    assert!(now.strip_suffix(&more) == Some(&expected), "what was written is read");
    disk.lose();
    assert!(read(&disk).is_ok_and(|r| r == expected), "what was durable is read");
}

/// The kinds of records.
const KINDS: [u8; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 16, 17, 24];

/// A record has one encoding.
fn identity(slot: &[u8; SLOT]) {
    if let Slot::Valid(sequence, record) = decode(slot) {
        assert_eq!(encode(&record, sequence), *slot, "one record, two slots");
    }
}

/// Puts right what the input cannot guess. Bit 0 of a slot's first byte: the sum; bit 1: the
/// version, the kind and the zeros behind it; bit 2: the sequence.
fn mend(slots: &[[u8; SLOT]]) -> Vec<[u8; SLOT]> {
    let mut sequence = 0u64;
    let one = |slot: &[u8; SLOT]| {
        let mut slot = *slot;
        let how = slot[0];
        if how & 2 != 0 {
            slot[4] = 1;
            if !KINDS.contains(&slot[5]) {
                slot[5] = KINDS[usize::from(slot[5]) % KINDS.len()];
            }
            slot[6..8].fill(0);
        }
        if how & 4 != 0 {
            slot[8..16].copy_from_slice(&sequence.to_be_bytes());
        }
        sequence = u64::from_be_bytes(super::padded(&slot[8..16])).wrapping_add(1);
        if how & 1 != 0 {
            let sum = crc32c::crc32c(&slot[4..]);
            slot[..4].copy_from_slice(&sum.to_be_bytes());
        }
        slot
    };
    slots.iter().map(one).collect()
}
