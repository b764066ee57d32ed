//! Files that hold keys: nobody else may read them, and nothing of their text is ever shown.

use super::ConfigError;
use crate::crypto::SecretText;
use nix::libc;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind::AlreadyExists;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use zeroize::Zeroizing;

/// The largest file of keys: bytes.
const LARGEST: u64 = 1 << 20;
/// The largest file of clients: bytes; half a million of them have room.
const LARGEST_LIST: u64 = 64 << 20;

/// A secret string in a file, wiped on drop and not shown by Debug.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(super) struct Text(pub(super) SecretText);

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(Zeroizing::new(text))
    }
}

/// The text of a file that only its owner can read.
pub struct SecretFile(SecretText);

impl SecretFile {
    /// Reads a regular file that belongs to root or to this user, is no link, and that neither
    /// group nor others can read or write.
    ///
    /// # Errors
    /// When it is missing, or any of that is not so.
    pub fn read(path: &Path) -> Result<SecretFile, ConfigError> {
        SecretFile::read_within(path, LARGEST, false)
    }

    /// Reads a file of clients, which may be a long one, by the same rules.
    ///
    /// # Errors
    /// As [`SecretFile::read`].
    pub fn read_clients(path: &Path) -> Result<SecretFile, ConfigError> {
        SecretFile::read_within(path, LARGEST_LIST, false)
    }

    /// Reads a file of clients that others can read: nothing in it may be trusted, but who is named
    /// there can be known.
    ///
    /// # Errors
    /// As [`SecretFile::read`], but for its mode.
    pub(super) fn peek_at_clients(path: &Path) -> Result<SecretFile, ConfigError> {
        SecretFile::read_within(path, LARGEST_LIST, true)
    }

    fn read_within(path: &Path, largest: u64, shared: bool) -> Result<SecretFile, ConfigError> {
        let wrong = |what: String| ConfigError::new(path, what);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(path)
            .map_err(|e| match e.raw_os_error() {
                Some(libc::ELOOP) => wrong("is a symbolic link: name the file itself".into()),
                Some(_) | None => wrong(e.to_string()),
            })?;
        SecretFile::from_file(path, file, largest, shared)
    }

    fn from_file(
        path: &Path,
        file: File,
        largest: u64,
        shared: bool,
    ) -> Result<SecretFile, ConfigError> {
        let wrong = |what: String| ConfigError::new(path, what);
        let meta = file.metadata().map_err(|e| wrong(e.to_string()))?;
        if !meta.is_file() {
            return Err(wrong("is no regular file".into()));
        }
        let me = nix::unistd::geteuid().as_raw();
        if meta.uid() != me && meta.uid() != 0 {
            return Err(wrong(format!("belongs to user {}: chown it to root", meta.uid())));
        }
        if meta.mode() & 0o077 != 0 && !shared {
            let mode = meta.mode() & 0o777;
            return Err(wrong(format!("can be read by others (mode {mode:03o}): chmod 600 it")));
        }
        if meta.len() > largest {
            return Err(wrong("is too large for a key file".into()));
        }
        let size = usize::try_from(meta.len()).unwrap_or(0);
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(size + 1));
        let read = file.take(largest).read_to_string(&mut text);
        read.map_err(|e| wrong(e.to_string()))?;
        Ok(SecretFile(text))
    }

    /// The text, to be kept.
    pub(super) fn into_text(self) -> SecretText {
        self.0
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

/// Writes a file that only its owner can read, whole or not at all; an existing one only if
/// `replace`.
///
/// # Errors
/// When it exists and is not to be replaced, or cannot be written.
pub fn write_new(path: &Path, text: &str, replace: bool) -> Result<(), ConfigError> {
    let wrong = |e: std::io::Error| match e.kind() == AlreadyExists {
        true => ConfigError::new(path, "exists already: it is not overwritten"),
        false => ConfigError::new(path, e),
    };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let draft = path.with_file_name(name);
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if replace {
            return std::fs::rename(&draft, path);
        }
        // A link fails where the name is taken; a rename would overwrite it. Where the file system
        // has no links, the look before the rename has to do.
        match std::fs::hard_link(&draft, path) {
            Err(e) if e.kind() == AlreadyExists || path.symlink_metadata().is_ok() => {
                Err(AlreadyExists.into())
            }
            Err(_) => std::fs::rename(&draft, path),
            Ok(()) => Ok(()),
        }
    };
    let done = write().map_err(wrong);
    let _ = std::fs::remove_file(&draft);
    if done.is_ok()
        && let Some(folder) = path.parent()
        && let Ok(folder) =
            File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    {
        let _ = folder.sync_all();
    }
    done
}
