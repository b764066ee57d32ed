//! The clients' directory: its files, each of one client or of many, read whole.

use super::config::{
    ClientFile, ClientText, Config, ConfigError, Found, Rest, ServerKey, write_new,
};
use crate::access::{Access, ServiceId, Terms};
use crate::crypto::{ClientKey, NoRandomness, Print};
use nix::fcntl::{Flock, FlockArg};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zeroize::Zeroizing;

/// A client as its file says, with its key on the way to `[engine]`.
pub struct Loaded {
    /// The access entry.
    pub access: Access,
    /// The key; it stays where it is, and is wiped there.
    pub key: Box<ClientKey>,
    /// What tells the key from another one when it has been passed on.
    pub print: Print,
    /// The name of its file without the suffix.
    pub file: Arc<str>,
    line: usize,
}

/// Whom a mistake concerns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The client of that name.
    Client(Arc<str>),
    /// All clients of that file.
    File(Arc<str>),
    /// Somebody whose name cannot be read.
    Somebody,
}

/// All files of the directory.
#[derive(Default)]
pub struct Clients {
    /// Those that are sound, each with an id, a key and a name of its own.
    pub sound: Vec<Loaded>,
    /// Those that are not, with the reason; a client that was there before stays as it was.
    pub faulty: Vec<(Whose, ConfigError)>,
}

/// What every client is held against.
struct Reader<'a> {
    config: &'a Config,
    services: Vec<ServiceId>,
    doors: Vec<Print>,
    /// The terms of the client before: most have the same.
    terms: Option<Arc<Terms>>,
}

impl Clients {
    /// Reads every `NAME.toml`; a directory that is not there has none.
    ///
    /// # Errors
    /// When the directory cannot be read: nothing is known then, which is not the same as none.
    pub fn load(config: &Config, server: &ServerKey) -> Result<Clients, ConfigError> {
        let mut clients = Clients::default();
        let random = |e: NoRandomness| ConfigError::new(&config.clients_dir(), e);
        let doors = server.doors.iter().map(|d| Print::of(d.bytes())).collect::<Result<_, _>>();
        let mut reader = Reader {
            config,
            services: config.services.iter().map(|s| s.id).collect(),
            doors: doors.map_err(random)?,
            terms: None,
        };
        for (name, path) in files(config)? {
            let file: Arc<str> = name.into();
            let text = ClientText::read(&path);
            match text.as_ref().map_err(Clone::clone).and_then(ClientText::clients) {
                Ok(found) => found.for_each(|one| clients.add(&mut reader, &file, &path, one)),
                Err(why) => clients.faulty.push((Whose::File(file), why)),
            }
        }
        clients.divide(config);
        Ok(clients)
    }

    fn add(&mut self, reader: &mut Reader<'_>, file: &Arc<str>, path: &Path, found: Found) {
        let Found { name, line, client } = found;
        let own = name.as_deref() == Some(&**file);
        match client.and_then(|client| reader.check(path, line, client)) {
            Ok((mut access, key, print)) => {
                if own {
                    access.name = Arc::clone(file);
                }
                self.sound.push(Loaded { access, key, print, file: Arc::clone(file), line });
            }
            Err(why) => {
                let whose = name.map_or(Whose::Somebody, |name| Whose::Client(name.into()));
                self.faulty.push((whose, why));
            }
        }
    }

    /// Takes out whoever has what another one, who comes first, has already.
    fn divide(&mut self, config: &Config) {
        let mut double: BTreeMap<usize, &str> = BTreeMap::new();
        type Same = fn(&Loaded, &Loaded) -> Ordering;
        let checks: [(&str, Same); 3] = [
            ("has the name of another client", |a, b| a.access.name.cmp(&b.access.name)),
            ("has the key of another client", |a, b| a.print.cmp(&b.print)),
            ("has the id of another client", |a, b| a.access.client.cmp(&b.access.client)),
        ];
        for (what, compare) in checks {
            let mut order: Vec<usize> = (0..self.sound.len()).collect();
            let all = &self.sound;
            order.sort_unstable_by(|a, b| compare(&all[*a], &all[*b]).then(a.cmp(b)));
            for pair in order.windows(2) {
                if compare(&all[pair[0]], &all[pair[1]]).is_eq() {
                    double.insert(pair[1], what);
                }
            }
        }
        if double.is_empty() {
            return;
        }
        let dir = config.clients_dir();
        let all = std::mem::take(&mut self.sound);
        for (n, one) in all.into_iter().enumerate() {
            match double.get(&n) {
                None => self.sound.push(one),
                Some(what) => {
                    let path = dir.join(format!("{}.toml", one.file));
                    let why = at(&path, one.line, one.file != one.access.name, what);
                    self.faulty.push((Whose::Client(one.access.name), why));
                }
            }
        }
    }
}

/// A mistake of a whole client, by its line where its file has many.
fn at(path: &Path, line: usize, many: bool, what: &str) -> ConfigError {
    let why = ConfigError::new(path, what);
    ConfigError { at: many.then_some((line, 1)), ..why }
}

impl Reader<'_> {
    fn check(
        &mut self,
        path: &Path,
        line: usize,
        client: ClientFile,
    ) -> Result<(Access, Box<ClientKey>, Print), ConfigError> {
        let many = path.file_stem().is_none_or(|stem| *stem != *client.name);
        let wrong = |what: &str| at(path, line, many, what);
        if client.is_published() && !self.config.server.allow_test_keys {
            return Err(wrong("holds a published test key: invite the client anew"));
        }
        let print = Print::of(client.key.bytes()).map_err(|e| wrong(&e.to_string()))?;
        if self.doors.contains(&print) {
            return Err(wrong("holds the door key as client key: invite the client anew"));
        }
        let mut access =
            client.access(&self.config.policy, &self.services).map_err(|e| wrong(&e))?;
        match self.terms.as_ref().filter(|terms| **terms == access.terms) {
            Some(same) => access.terms = Arc::clone(same),
            None => self.terms = Some(Arc::clone(&access.terms)),
        }
        Ok((access, Box::new(client.key), print))
    }
}

/// Names without suffix and paths of the files of clients, by name.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn files(config: &Config) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    files_in(&config.clients_dir())
}

/// The same of any directory.
///
/// # Errors
/// When it is there and cannot be read.
pub fn files_in(dir: &Path) -> Result<BTreeMap<String, PathBuf>, ConfigError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(ConfigError::new(dir, e)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|e| ConfigError::new(dir, e))?.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        if let (Some(name), Some("toml")) = (stem, path.extension().and_then(|e| e.to_str())) {
            found.insert(name.to_string(), path.clone());
        }
    }
    Ok(found)
}

/// Every client of every file, sound or not, by the order of the files: for people.
///
/// # Errors
/// When the directory is there and cannot be read.
pub fn all(config: &Config) -> Result<Vec<Found>, ConfigError> {
    let mut all = Vec::new();
    for (name, path) in files(config)? {
        let text = ClientText::read(&path);
        match text.as_ref().map_err(Clone::clone).and_then(ClientText::clients) {
            Ok(found) => all.extend(found),
            Err(why) => all.push(Found { name: Some(name), line: 1, client: Err(why) }),
        }
    }
    Ok(all)
}

/// Takes a client out of every file of the directory: its own goes, one of many stays without it.
/// Whether it was there. One at a time does this, so that nobody writes back whom another one has
/// just taken out.
///
/// # Errors
/// When a file could not be written, or could not be looked through; the others are done by then.
pub fn take_out(dir: &Path, name: &str) -> Result<bool, ConfigError> {
    let wrong = |e: std::io::Error| ConfigError::new(dir, e);
    let folder = match File::open(dir) {
        Ok(folder) => folder,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(wrong(e)),
    };
    let lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, e)| wrong(e.into()))?;
    let (mut found, mut failed) = (false, None);
    for (stem, path) in files_in(dir)? {
        // His own file goes whatever is in it, and whoever can read it.
        let done = match stem == name && !is_list(&path) {
            true => {
                std::fs::remove_file(&path).map(|()| true).map_err(|e| ConfigError::new(&path, e))
            }
            false => ClientText::read(&path).and_then(|text| match text.without(name) {
                None => Ok(false),
                Some(Rest::Nothing) => std::fs::remove_file(&path)
                    .map(|()| true)
                    .map_err(|e| ConfigError::new(&path, e)),
                Some(Rest::Text(rest)) => write_new(&path, &rest, true).map(|()| true),
            }),
        };
        match done {
            Ok(here) => found |= here,
            Err(why) => failed = failed.or(Some(why)),
        }
    }
    drop(lock);
    failed.map_or(Ok(found), Err)
}

/// Whether it is a file of many, whatever else is wrong with it.
fn is_list(path: &Path) -> bool {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    bytes.is_ok_and(|bytes| ClientText::is_list(&String::from_utf8_lossy(&bytes)))
}
