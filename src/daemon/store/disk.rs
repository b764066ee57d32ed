//! What the journal needs of a disk, and the directory that gives it.

use nix::dir::Dir;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// Numbered files that can be written, made durable and removed.
pub trait Disk {
    /// The numbers of the files that are there, ascending.
    ///
    /// # Errors
    /// When the disk does not answer.
    fn list(&self) -> io::Result<Vec<u64>>;

    /// All bytes of a file.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    fn read(&self, number: u64) -> io::Result<Vec<u8>>;

    /// A file of `size` zero bytes, with its space reserved; one of that number that is there is
    /// emptied first.
    ///
    /// # Errors
    /// When there is no room; an empty file may be left.
    fn create(&mut self, number: u64, size: u64) -> io::Result<()>;

    /// Writes into a file.
    ///
    /// # Errors
    /// When not all of it was written.
    fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when all that was written to the file is durable.
    ///
    /// # Errors
    /// When it is not; what was written since the last success may be lost.
    fn sync(&mut self, number: u64) -> io::Result<()>;

    /// Returns when creations and removals are durable.
    ///
    /// # Errors
    /// When they are not.
    fn sync_names(&mut self) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn remove(&mut self, number: u64) -> io::Result<()>;
}

/// A directory whose files are named `journal-` and 16 hex digits; known by its descriptor, so
/// that a process without rights on the path can use it.
#[derive(Debug)]
pub struct Directory {
    handle: OwnedFd,
    open: Option<(u64, File)>,
}

fn name(number: u64) -> String {
    format!("journal-{number:016x}")
}

impl Directory {
    /// The directory behind a descriptor.
    #[must_use]
    pub fn new(handle: OwnedFd) -> Directory {
        Directory { handle, open: None }
    }

    fn openat(&self, number: u64, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        Ok(openat(&self.handle, name(number).as_str(), flags, mode)?.into())
    }

    fn file(&mut self, number: u64) -> io::Result<&File> {
        if self.open.as_ref().is_none_or(|(n, _)| *n != number) {
            self.open = Some((number, self.openat(number, OFlag::O_WRONLY)?));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// A second handle on a file, for a sync in another thread.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn second(&mut self, number: u64) -> io::Result<File> {
        self.file(number)?.try_clone()
    }
}

impl Disk for Directory {
    fn list(&self) -> io::Result<Vec<u64>> {
        // A descriptor of its own: reading moves its position.
        let mut dir =
            Dir::openat(&self.handle, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let mut numbers = Vec::new();
        for entry in dir.iter() {
            let entry = entry?;
            let Ok(text) = entry.file_name().to_str() else { continue };
            let Some(digits) = text.strip_prefix("journal-") else { continue };
            let Ok(number) = u64::from_str_radix(digits, 16) else { continue };
            // `+f`, `F` and the like are not names that this program gives.
            if text == name(number) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.openat(number, OFlag::O_RDONLY)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn create(&mut self, number: u64, size: u64) -> io::Result<()> {
        let file = self.openat(number, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC)?;
        // Without reserved space a full disk shows itself at a later write; both are refused.
        match reserve(&file, size) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::Unsupported => file.set_len(size)?,
            Err(e) => return Err(e),
        }
        self.open = Some((number, file));
        Ok(())
    }

    fn write(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(number)?.write_all_at(bytes, offset)
    }

    fn sync(&mut self, number: u64) -> io::Result<()> {
        self.file(number)?.sync_data()
    }

    fn sync_names(&mut self) -> io::Result<()> {
        nix::unistd::fsync(&self.handle)?;
        Ok(())
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        self.open.take_if(|(n, _)| *n == number);
        Ok(unlinkat(&self.handle, name(number).as_str(), UnlinkatFlags::NoRemoveDir)?)
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &File, size: u64) -> io::Result<()> {
    use nix::fcntl::{FallocateFlags, fallocate};
    let length = i64::try_from(size).map_err(|_| io::ErrorKind::InvalidInput)?;
    Ok(fallocate(file, FallocateFlags::empty(), 0, length)?)
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &File, _size: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
