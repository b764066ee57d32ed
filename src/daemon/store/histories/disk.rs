//! A disk in memory that forgets what was not synced, and fails on purpose.
//!
//! What it may do: on power loss each unsynced slot is the old one, the new one or torn, and each
//! unsynced name is as before or after; a write fails with part of it written; a file cannot be
//! made, with or without an empty one left; a sync fails, and what was written since the last one
//! is never durable although later syncs succeed, or is gone at once. After the last of these it
//! is *sick*: nothing can be synced or created, until a file can be created again.

use super::super::{Disk, SLOT};
use super::chance::Chance;
use nix::errno::Errno;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::rc::Rc;

#[derive(Default)]
struct File {
    view: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Its length is durable.
    sized: bool,
}

struct State {
    files: Vec<File>,
    names: BTreeMap<u64, usize>,
    durable: BTreeMap<u64, usize>,
    chance: Chance,
    faults: bool,
    sick: bool,
    /// The process dies in the operation after so many more.
    dies: Option<u32>,
    dead: bool,
    failures: u64,
}

/// Handles on one disk.
#[derive(Clone)]
pub(super) struct Simulated(Rc<RefCell<State>>);

/// A sync that has begun: the file, and what it covers.
pub(super) struct Begun(usize, BTreeSet<usize>);

/// How a sync ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All of it is durable.
    Durable,
    /// It failed; everything can still be read, and will never be durable.
    Lost,
    /// It failed; nothing can be read any more.
    Gone,
}

impl Simulated {
    pub(super) fn new(chance: Chance, faults: bool) -> Simulated {
        Simulated(Rc::new(RefCell::new(State {
            files: vec![],
            names: BTreeMap::new(),
            durable: BTreeMap::new(),
            chance,
            faults,
            sick: false,
            dies: None,
            dead: false,
            failures: 0,
        })))
    }

    /// How many operations have failed on purpose.
    pub(super) fn failures(&self) -> u64 {
        self.0.borrow().failures
    }

    /// The process dies in the operation after `operations` more.
    pub(super) fn die_after(&self, operations: u32) {
        self.0.borrow_mut().dies = Some(operations);
    }

    /// The next process; says whether the last one died in an operation.
    pub(super) fn revive(&self) -> bool {
        let mut s = self.0.borrow_mut();
        s.dies = None;
        std::mem::take(&mut s.dead)
    }

    pub(super) fn begin_sync(&self, number: u64) -> Begun {
        let s = self.0.borrow();
        let file = s.names[&number];
        Begun(file, s.files[file].dirty.clone())
    }

    pub(super) fn end_sync(&self, begun: &Begun, end: End) {
        self.0.borrow_mut().end(begun, end);
    }

    /// Power loss.
    pub(super) fn lose_power(&self) {
        let mut s = self.0.borrow_mut();
        let State { files, names, durable, chance, .. } = &mut *s;
        for file in files.iter_mut() {
            for slot in std::mem::take(&mut file.dirty) {
                let (at, end) = (slot * SLOT, (slot + 1) * SLOT);
                let end = match chance.below(16) {
                    0..7 => end,
                    7 => at + chance.below(SLOT as u64) as usize,
                    _ => at,
                };
                file.durable[at..end].copy_from_slice(&file.view[at..end]);
            }
            if !file.sized && chance.below(2) == 0 {
                file.durable.clear();
            }
            file.view.clone_from(&file.durable);
        }
        let numbers: BTreeSet<u64> = names.keys().chain(durable.keys()).copied().collect();
        for number in numbers {
            let from = if chance.below(2) == 0 { &*names } else { &*durable };
            match from.get(&number).copied() {
                Some(file) => durable.insert(number, file),
                None => durable.remove(&number),
            };
        }
        names.clone_from(durable);
        let named: BTreeSet<usize> = names.values().copied().collect();
        for (n, file) in files.iter_mut().enumerate() {
            if !named.contains(&n) {
                *file = File::default();
            }
        }
        s.sick = false;
    }
}

impl State {
    fn end(&mut self, Begun(file, slots): &Begun, end: End) {
        let file = &mut self.files[*file];
        for slot in slots {
            if !file.dirty.remove(slot) {
                continue;
            }
            let (at, until) = (slot * SLOT, (slot + 1) * SLOT);
            match end {
                End::Durable => file.durable[at..until].copy_from_slice(&file.view[at..until]),
                End::Lost => {}
                End::Gone => file.view[at..until].copy_from_slice(&file.durable[at..until]),
            }
        }
        match end {
            End::Durable => file.sized = true,
            End::Lost => self.failures += 1,
            End::Gone => {
                self.failures += 1;
                self.sick = true;
            }
        }
    }

    /// Whether the process is alive; it may die here.
    fn lives(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("dead"));
        }
        match &mut self.dies {
            Some(0) => {
                self.dead = true;
                Ok(false)
            }
            Some(n) => {
                *n -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// A fault, once in `often` operations.
    fn fault(&mut self, often: u64) -> bool {
        let fault = self.faults && self.chance.below(often) == 0;
        self.failures += u64::from(fault);
        fault
    }

    fn must_live(&mut self) -> io::Result<()> {
        if self.lives()? { Ok(()) } else { Err(io::Error::other("killed")) }
    }
}

impl Disk for Simulated {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.borrow().names.keys().copied().collect())
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let s = self.0.borrow();
        let file = s.names.get(&number).ok_or(Errno::ENOENT)?;
        Ok(s.files[*file].view.clone())
    }

    fn create(&mut self, number: u64, size: u64) -> io::Result<()> {
        let mut s = self.0.borrow_mut();
        s.must_live()?;
        if s.sick {
            s.sick = s.chance.below(2) == 0;
            if s.sick {
                return Err(Errno::EIO.into());
            }
        }
        let full = s.fault(60);
        let size = if full { 0 } else { size as usize };
        let file = s.files.len();
        s.files.push(File { view: vec![0; size], durable: vec![0; size], ..File::default() });
        s.names.insert(number, file);
        if full { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut s = self.0.borrow_mut();
        let whole = s.lives()? && !s.fault(400);
        let some = if whole { bytes.len() } else { s.chance.below(bytes.len() as u64) as usize };
        let (file, at) = (s.names[&number], offset as usize);
        let file = &mut s.files[file];
        file.view[at..at + some].copy_from_slice(&bytes[..some]);
        file.dirty.extend(at / SLOT..(at + some).div_ceil(SLOT));
        if whole { Ok(()) } else { Err(Errno::ENOSPC.into()) }
    }

    fn sync(&mut self, number: u64) -> io::Result<()> {
        let begun = self.begin_sync(number);
        let mut s = self.0.borrow_mut();
        // Killed in a sync: the kernel may finish it all the same.
        if !s.lives()? {
            if s.chance.below(2) == 0 {
                s.end(&begun, End::Durable);
            }
            return Err(io::Error::other("killed"));
        }
        if s.sick {
            return Err(Errno::EIO.into());
        }
        let end = match s.faults.then(|| s.chance.below(100)) {
            Some(0) => End::Lost,
            Some(1) => End::Gone,
            Some(_) | None => End::Durable,
        };
        s.end(&begun, end);
        if end == End::Durable { Ok(()) } else { Err(Errno::EIO.into()) }
    }

    fn sync_names(&mut self) -> io::Result<()> {
        let mut s = self.0.borrow_mut();
        s.must_live()?;
        if s.sick || s.fault(200) {
            return Err(Errno::EIO.into());
        }
        s.durable = s.names.clone();
        Ok(())
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        let mut s = self.0.borrow_mut();
        s.must_live()?;
        if s.fault(200) {
            return Err(Errno::EIO.into());
        }
        s.names.remove(&number).map(|_| ()).ok_or(Errno::ENOENT.into())
    }
}
