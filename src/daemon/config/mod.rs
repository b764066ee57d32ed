//! The server's files: `server.toml`, `server.key` and one file for each client.

mod capture;
mod client_file;
mod client_list;
mod gate;
mod hook;
mod knock;
mod legacy;
mod model;
mod raw;
mod secret;
mod sequence;
mod server_file;
mod service;
mod value;

pub use capture::{Capturing, MOST_CAPTURED, MOST_CAPTURES};
pub use client_file::{ClientFile, Overrides};
pub use client_list::{ClientText, Found, Rest};
pub use gate::{Block, Gate};
pub use hook::{Commands, Hooks, LONGEST_WORD, MOST_WORDS, Value, Word};
pub use legacy::{How, LONGEST_KEY, Legacy};
pub use model::{
    Backend, CONTROL, LONGEST_NAME, MOST_HOURS, MOST_RANGES, MOST_SERVICES, MOST_SOURCES,
    PolicyDefaults, Server, is_name,
};
pub use secret::{SecretFile, write_new};
pub use sequence::{MOST_STEPS, timed};
pub use server_file::{Config, Listen, MOST_LISTENERS, PLAIN_PORT};
pub use service::Place;
pub use value::{duration, moment, shown};

use crate::crypto::{ClientKey, DoorKey, ServerId, digest, hex, hex_of, is_published};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// What is wrong with a file, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Line and column, from 1.
    pub at: Option<(usize, usize)>,
    /// What is wrong, and what to do.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl ConfigError {
    /// An error about a whole file.
    pub fn new(path: &Path, what: impl fmt::Display) -> ConfigError {
        ConfigError { path: path.to_path_buf(), at: None, what: what.to_string() }
    }

    /// An error at a byte of the file's text.
    fn at(path: &Path, text: &str, byte: usize, what: impl fmt::Display) -> ConfigError {
        let before = text.get(..byte).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        ConfigError { path: path.to_path_buf(), at: Some((line, column)), what: what.to_string() }
    }

    /// A parser's error about a file without secrets: one line of its message.
    fn of_toml(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
        let what = error.message().trim().replace('\n', ", ");
        match error.span() {
            Some(span) => ConfigError::at(path, text, span.start, what),
            None => ConfigError::new(path, what),
        }
    }

    /// A parser's error about a file with secrets: where, and nothing of the text.
    fn of_secret(path: &Path, text: &str, error: &toml::de::Error, wanted: &str) -> ConfigError {
        let what = format!("this is not {wanted}");
        match error.span() {
            Some(span) => ConfigError::at(path, text, span.start, what),
            None => ConfigError::new(path, what),
        }
    }
}

/// `server.key`: what the server shares with all of its clients.
#[derive(Debug, Clone)]
pub struct ServerKey {
    /// The server's public id.
    pub id: ServerId,
    /// The current door key first, and the previous one while it still counts.
    pub doors: Vec<DoorKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawServerKey {
    server_id: Spanned<String>,
    door: Spanned<Vec<secret::Text>>,
}

impl ServerKey {
    /// New random keys.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn generate() -> Result<ServerKey, crate::crypto::NoRandomness> {
        let id = ServerId(crate::crypto::random()?);
        Ok(ServerKey { id, doors: vec![DoorKey::generate()?] })
    }

    /// Names these keys and no others, and tells nothing about them.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut all = zeroize::Zeroizing::new(self.id.0.to_vec());
        all.reserve_exact(32 * self.doors.len());
        self.doors.iter().for_each(|door| all.extend_from_slice(door.bytes()));
        digest(&all)
    }

    /// Reads the file, which nobody else may be able to read.
    ///
    /// # Errors
    /// When it is missing, readable to others, or not a key file.
    pub fn load(path: &Path) -> Result<ServerKey, ConfigError> {
        let file = SecretFile::read(path)?;
        let wanted = "a server key file: server-id = \"32 hex digits\", door = [\"base64\"]";
        let raw: RawServerKey = toml::from_str(file.text())
            .map_err(|e| ConfigError::of_secret(path, file.text(), &e, wanted))?;
        let at = |byte: usize, what| ConfigError::at(path, file.text(), byte, what);
        let id = hex(raw.server_id.get_ref()).ok_or_else(|| {
            at(raw.server_id.span().start, "server-id: 32 hex digits are wanted".to_string())
        })?;
        let start = raw.door.span().start;
        let keys = raw.door.get_ref().iter();
        let doors: Result<Vec<DoorKey>, _> = keys.map(|t| DoorKey::from_text(&t.0)).collect();
        let doors = doors.map_err(|e| at(start, format!("door: {e}")))?;
        match doors.len() {
            1 | 2 => Ok(ServerKey { id: ServerId(id), doors }),
            _ => Err(at(start, "door: one or two keys are wanted".into())),
        }
    }

    /// The file's text.
    #[must_use]
    pub fn to_text(&self) -> crate::crypto::SecretText {
        let mut text = String::from(
            "# The keys that this server shares with all of its clients. Nobody else may read this.\n",
        );
        text.push_str(&format!("server-id = \"{}\"\ndoor = [", hex_of(&self.id.0)));
        for (i, door) in self.doors.iter().enumerate() {
            text.push_str(if i == 0 { "\"" } else { ", \"" });
            text.push_str(&door.to_text());
            text.push('"');
        }
        text.push_str("]\n");
        zeroize::Zeroizing::new(text)
    }

    /// Whether one of the keys is a published test key.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.doors.iter().any(|d| is_published(d.bytes()))
    }
}

/// A client key may not be a door key: one leak would be two.
#[must_use]
pub fn is_door(key: &ClientKey, doors: &[DoorKey]) -> bool {
    doors.iter().any(|d| crate::crypto::equal(d.bytes(), key.bytes()))
}
