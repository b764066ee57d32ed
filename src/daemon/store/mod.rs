//! The journal: an append-only log in preallocated segments, and the turns in which the engine's
//! commands become records first and grants afterwards.

mod codec;
mod disk;
#[cfg(test)]
pub(in crate::daemon) mod histories;
mod turn;

pub use codec::{NOTE, SLOT, Slot, decode, decode_note, encode, encode_note};
pub use disk::{Directory, Disk};
pub use turn::{Told, Turn};

use crate::engine::{History, Record};
use crate::time::Unix;
use std::fmt;
use std::io;

/// The size of a segment in bytes; one that has to begin with more is a multiple of it.
const SEGMENT: u64 = 16 << 20;

/// Why there is no journal.
#[derive(Debug)]
pub enum StoreError {
    /// The disk does not do what it is told.
    Io(io::Error),
    /// A sound record of a kind or version that this program does not know: segment, version, kind.
    Unknown(u64, u8, u8),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Io(e) => write!(f, "the journal cannot be used: {e}"),
            StoreError::Unknown(segment, version, kind) => write!(
                f,
                "journal segment {segment:016x} holds a record of version {version}, kind {kind}, \
                 which this program does not know: start the program that wrote it, or move the \
                 journal away (every lease ends, and packets dated before the start are refused)"
            ),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StoreError::Io(e) => Some(e),
            StoreError::Unknown(..) => None,
        }
    }
}

impl From<io::Error> for StoreError {
    fn from(e: io::Error) -> StoreError {
        StoreError::Io(e)
    }
}

#[derive(Debug, Clone, Copy)]
struct Segment {
    number: u64,
    /// The latest packet time in it.
    latest: Unix,
}

/// An append-only log of records.
#[derive(Debug)]
pub struct Journal<D> {
    disk: D,
    /// Oldest first; the last one is written to.
    segments: Vec<Segment>,
    /// Where the next record goes, and where the last segment ends: bytes.
    offset: u64,
    size: u64,
    sequence: u64,
    /// What a new segment's size is a multiple of: bytes.
    unit: u64,
}

impl<D: Disk> Journal<D> {
    /// Reads what is there.
    ///
    /// # Errors
    /// When the disk cannot be read, or holds records of the future.
    pub fn open(disk: D) -> Result<(Journal<D>, History), StoreError> {
        let (segments, unit) = (vec![], SEGMENT);
        let mut journal = Journal { disk, segments, offset: 0, size: 0, sequence: 0, unit };
        let mut history = History::default();
        for number in journal.disk.list()? {
            journal.read(number, &mut history)?;
        }
        // A disk that has not kept what it was given says so only when it is asked; and a segment
        // may have got its beginning, but not yet a durable name.
        history.whole &= journal.sync().and_then(|()| journal.disk.sync_names()).is_ok();
        Ok((journal, history))
    }

    /// The same journal, with new segments of so many bytes: a multiple of [`SLOT`].
    #[must_use]
    pub fn with_segments(mut self, bytes: u64) -> Journal<D> {
        self.unit = bytes.next_multiple_of(SLOT as u64).max(SLOT as u64);
        self
    }

    fn read(&mut self, number: u64, history: &mut History) -> Result<(), StoreError> {
        let bytes = self.disk.read(number)?;
        let first = self.segments.is_empty();
        self.segments.push(Segment { number, latest: Unix(0) });
        (self.offset, self.size) = (0, bytes.len() as u64);
        let slots = bytes.as_chunks::<SLOT>().0;
        let beginning = beginning(slots);
        if beginning == Some(true) {
            // It was complete and durable before the earlier ones were given up: what they hold
            // beside it was never relied on, or is repeated in it.
            history.records.clear();
        }
        let alone = beginning == Some(true);
        let mut torn = false;
        let mut whole = alone || (beginning.is_some() && (history.whole || first));
        for (at, slot) in slots.iter().enumerate() {
            let (sequence, record) = match decode(slot) {
                Slot::Valid(sequence, record) => (sequence, record),
                Slot::Empty | Slot::Damaged => {
                    torn = true;
                    continue;
                }
                Slot::Unknown(version, kind) => {
                    return Err(StoreError::Unknown(number, version, kind));
                }
            };
            // A record behind a hole, or a jump in the numbers: something before it is missing.
            let follows = sequence == self.sequence || at == 0 && (first || alone);
            whole &= !torn && follows;
            self.sequence = sequence.wrapping_add(1);
            self.offset = (at as u64 + 1) * SLOT as u64;
            self.note(&record);
            history.records.push(record);
        }
        history.whole = whole;
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        if let (Record::Seen { time, .. }, Some(segment)) = (record, self.segments.last_mut()) {
            segment.latest = segment.latest.max(*time);
        }
    }

    /// Whether so many records fit into the present segment.
    #[must_use]
    pub fn has_room(&self, records: usize) -> bool {
        self.offset + (records * SLOT) as u64 <= self.size
    }

    /// Appends records with one write; they are safe from a crash of this process, not of the
    /// machine.
    ///
    /// # Errors
    /// When they were not all written; the segment must not be used any more.
    pub fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let Some(number) = self.segments.last().map(|s| s.number) else {
            return Err(io::Error::other("no segment"));
        };
        if !self.has_room(records.len()) {
            return Err(io::Error::other("the segment is full"));
        }
        let mut bytes = Vec::with_capacity(records.len() * SLOT);
        for (record, n) in records.iter().zip(0..) {
            bytes.extend_from_slice(&encode(record, self.sequence.wrapping_add(n)));
        }
        self.disk.write(number, self.offset, &bytes)?;
        self.offset += bytes.len() as u64;
        self.sequence = self.sequence.wrapping_add(records.len() as u64);
        records.iter().for_each(|r| self.note(r));
        Ok(())
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// When it is not; the segment must not be used any more.
    pub fn sync(&mut self) -> io::Result<()> {
        self.segments.last().map_or(Ok(()), |s| self.disk.sync(s.number))
    }

    /// Begins the next segment with these records, durable, name included, and with room for
    /// `room` more.
    ///
    /// # Errors
    /// When it cannot be made; the journal cannot be used until [`Journal::restart`].
    pub fn rotate(&mut self, begin: &[Record], room: usize) -> io::Result<()> {
        self.sync()?;
        // Room for as much as is repeated: however many leases there are, few records are repeated
        // for each that is new.
        self.begin(begin, room.max(begin.len()))
    }

    /// Begins a segment that stands alone, and removes all others.
    ///
    /// # Errors
    /// When it cannot be made; the journal cannot be used until it can.
    pub fn restart(&mut self, begin: &[Record]) -> io::Result<()> {
        self.begin(begin, 1)?;
        while self.segments.len() > 1 {
            self.disk.remove(self.segments[0].number)?;
            self.segments.remove(0);
        }
        self.disk.sync_names()
    }

    /// A file that is left behind by a failure stays: without its whole beginning it says, to a
    /// start that comes before the next attempt, that something went wrong here.
    fn begin(&mut self, begin: &[Record], room: usize) -> io::Result<()> {
        let number = self.segments.last().map_or(Some(1), |s| s.number.checked_add(1));
        let number = number.ok_or_else(|| io::Error::other("no segment number is left"))?;
        let need = ((begin.len() + room) * SLOT) as u64;
        let size = need.next_multiple_of(self.unit);
        self.disk.create(number, size)?;
        let before = (self.offset, self.size);
        self.segments.push(Segment { number, latest: Unix(0) });
        (self.offset, self.size) = (0, size);
        let done =
            self.append(begin).and_then(|()| self.sync()).and_then(|()| self.disk.sync_names());
        if done.is_err() {
            self.segments.pop();
            (self.offset, self.size) = before;
        }
        done
    }

    /// Removes segments whose packets are all forgotten, dated before `forgotten`, once a floor
    /// over them is durable.
    ///
    /// # Errors
    /// When the floor could not be made durable; nothing is removed then.
    pub fn retire(&mut self, forgotten: Unix, floor: Unix) -> io::Result<()> {
        let old = self.segments.len().saturating_sub(1);
        let gone = self.segments[..old].iter().take_while(|s| s.latest < forgotten).count();
        if gone == 0 {
            return Ok(());
        }
        self.append(&[Record::Floor(floor)])?;
        self.sync()?;
        for _ in 0..gone {
            self.disk.remove(self.segments[0].number)?;
            self.segments.remove(0);
        }
        Ok(())
    }

    /// How many segments there are.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The disk below, and the number of the segment that is written to.
    pub fn disk(&mut self) -> (&mut D, u64) {
        (&mut self.disk, self.segments.last().map_or(0, |s| s.number))
    }
}

/// Whether a segment has its complete beginning, and if so, whether it stands alone.
fn beginning(slots: &[[u8; SLOT]]) -> Option<bool> {
    let Slot::Valid(start, Record::Boot { whole, more, .. }) = decode(slots.first()?) else {
        return None;
    };
    let rest = slots.get(1..=usize::try_from(more).ok()?)?;
    let sound = |(slot, expected)| matches!(decode(slot), Slot::Valid(n, _) if n == expected);
    let follows = (1..).map(|n| start.wrapping_add(n));
    rest.iter().zip(follows).all(sound).then_some(whole)
}
