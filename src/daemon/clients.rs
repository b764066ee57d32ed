//! The clients' directory: one file each, read whole.

use super::config::{ClientFile, Config, ConfigError, ServerKey, is_door};
use crate::access::{Access, ClientId, ServiceId};
use crate::crypto::ClientKey;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A client as its file says, with its key on the way to `[engine]`.
pub struct Loaded {
    /// The access entry.
    pub access: Access,
    /// The key.
    pub key: ClientKey,
}

/// All files of the directory.
#[derive(Default)]
pub struct Clients {
    /// Those that are sound, by name.
    pub sound: BTreeMap<String, Loaded>,
    /// Those that are not, with the reason; a client that was there before stays as it was.
    pub faulty: Vec<(String, ConfigError)>,
}

impl Clients {
    /// Reads every `NAME.toml`; a directory that is not there has none.
    ///
    /// # Errors
    /// When the directory cannot be read: nothing is known then, which is not the same as none.
    pub fn load(config: &Config, server: &ServerKey) -> Result<Clients, ConfigError> {
        let mut clients = Clients::default();
        let services: Vec<ServiceId> = config.services.iter().map(|s| s.id).collect();
        let mut taken: BTreeSet<ClientId> = BTreeSet::new();
        for (name, path) in files(config)? {
            let loaded = ClientFile::load(&path).and_then(|file| {
                let wrong = |what: &str| ConfigError::new(&path, what);
                if file.is_published() && !config.server.allow_test_keys {
                    return Err(wrong("holds a published test key: invite the client anew"));
                }
                if is_door(&file.key, &server.doors) {
                    return Err(wrong("holds the door key as client key: invite the client anew"));
                }
                let same =
                    |other: &Loaded| crate::crypto::equal(other.key.bytes(), file.key.bytes());
                if taken.contains(&file.id) {
                    return Err(wrong("has the id of another client"));
                }
                if clients.sound.values().any(same) {
                    return Err(wrong("has the key of another client"));
                }
                let access = file.access(&config.policy, &services).map_err(|e| wrong(&e))?;
                Ok(Loaded { access, key: file.key.clone() })
            });
            match loaded {
                Ok(loaded) => {
                    taken.insert(loaded.access.client);
                    clients.sound.insert(name, loaded);
                }
                Err(why) => clients.faulty.push((name, why)),
            }
        }
        Ok(clients)
    }
}

/// Names and paths of the client files, by name.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn files(config: &Config) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let dir = config.clients_dir();
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(ConfigError::new(&dir, e)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|e| ConfigError::new(&dir, e))?.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        if let (Some(name), Some("toml")) = (stem, path.extension().and_then(|e| e.to_str())) {
            found.insert(name.to_string(), path.clone());
        }
    }
    Ok(found)
}
