//! A disk in memory that can lose what was not made durable.

use opensesame_spa::daemon::store::{Disk, SLOT};
use std::collections::BTreeMap;
use std::io;

/// A file: what was written of it and how large it is.
#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    size: usize,
}

/// Files by number, as the running machine sees them and as they would be after a power loss.
#[derive(Clone, Debug)]
pub struct Memory {
    files: BTreeMap<u64, File>,
    synced: BTreeMap<u64, File>,
    names: Vec<u64>,
    room: usize,
    /// Nothing can be written.
    pub full: bool,
}

impl Memory {
    /// An empty disk; a file is read with at most `room` unwritten slots behind what was written,
    /// so that segments of 16 MB need not be filled.
    pub fn new(room: usize) -> Memory {
        let (files, synced) = (BTreeMap::new(), BTreeMap::new());
        Memory { files, synced, names: vec![], room, full: false }
    }

    /// A durable file of these bytes.
    pub fn put(&mut self, number: u64, bytes: &[u8]) {
        let file = File { bytes: bytes.to_vec(), size: bytes.len() };
        self.files.insert(number, file.clone());
        self.synced.insert(number, file);
        self.names.push(number);
    }

    /// The power is cut: what is not durable is gone.
    pub fn lose(&mut self) {
        let known = |n: &u64| Some((*n, self.synced.get(n).cloned().unwrap_or_default()));
        self.files = self.names.iter().filter_map(known).collect();
    }

    /// All of it is durable.
    pub fn keep(&mut self) {
        self.synced = self.files.clone();
        self.names = self.files.keys().copied().collect();
    }

    fn check(&self) -> io::Result<()> {
        if self.full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn file(&mut self, number: u64) -> io::Result<&mut File> {
        self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.files.keys().copied().collect())
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let file = self.files.get(&number).ok_or(io::ErrorKind::NotFound)?;
        let mut bytes = file.bytes.clone();
        bytes.resize(file.size.min(bytes.len() + self.room * SLOT), 0);
        Ok(bytes)
    }

    fn create(&mut self, number: u64, size: u64) -> io::Result<()> {
        self.check()?;
        if self.files.contains_key(&number) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let size = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.files.insert(number, File { bytes: vec![], size });
        self.synced.remove(&number);
        Ok(())
    }

    fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        let file = self.file(number)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = start + bytes.len();
        assert!(end <= file.size, "a record beyond the end of its segment");
        file.bytes.resize(file.bytes.len().max(end), 0);
        file.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, number: u64) -> io::Result<()> {
        self.check()?;
        let file = self.file(number)?.clone();
        self.synced.insert(number, file);
        Ok(())
    }

    fn sync_names(&mut self) -> io::Result<()> {
        self.check()?;
        self.names = self.files.keys().copied().collect();
        Ok(())
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.check()?;
        self.files.remove(&number).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
    }
}
