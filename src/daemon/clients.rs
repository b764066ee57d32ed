//! The clients' directory: its files, each of one client or of many, read whole.

use super::config::{
    ClientFile, ClientText, Config, ConfigError, Found, Rest, ServerKey, write_new,
};
use crate::access::{Access, ClientId, ServiceId, Terms};
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
    /// All clients of that file; with names: those of them who stand in it still.
    File(Arc<str>, Option<Vec<Arc<str>>>),
    /// Somebody whose name cannot be read.
    Somebody,
    /// Somebody of that name, who has what another one had first.
    Double(Arc<str>),
}

/// All files of the directory.
#[derive(Default)]
pub struct Clients {
    /// Those that are sound, each with an id, a key and a name of its own.
    pub sound: Vec<Loaded>,
    /// Those that are not, with the reason; a client that was there before stays as it was.
    pub faulty: Vec<(Whose, ConfigError)>,
    /// What those that are not have all the same.
    taken: Vec<Taken>,
}

/// What a client has that is not sound, as far as it can be read, and where it stands.
pub struct Taken {
    /// Its name.
    pub name: Option<Arc<str>>,
    /// Its id.
    pub id: Option<ClientId>,
    file: Arc<str>,
    line: usize,
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
                Err(why) => clients.fail(file, names(&path, text.as_ref().ok()), why),
            }
        }
        clients.divide(config);
        Ok(clients)
    }

    fn add(&mut self, reader: &mut Reader<'_>, file: &Arc<str>, path: &Path, found: Found) {
        let Found { name, id, line, client } = found;
        let own = name.as_deref() == Some(&**file);
        match client.and_then(|client| reader.check(path, line, client)) {
            Ok((mut access, key, print)) => {
                if own {
                    access.name = Arc::clone(file);
                }
                self.sound.push(Loaded { access, key, print, file: Arc::clone(file), line });
            }
            Err(why) => {
                let name: Option<Arc<str>> = name.map(Arc::from);
                let whose = name.clone().map_or(Whose::Somebody, Whose::Client);
                self.taken.push(Taken { name, id, file: Arc::clone(file), line });
                self.faulty.push((whose, why));
            }
        }
    }

    /// A file of which no client can be known; who stands in it may be.
    fn fail(&mut self, file: Arc<str>, names: Option<Vec<Named>>, why: ConfigError) {
        let names = names.map(|names| {
            let one = |(name, id): Named| {
                let name: Arc<str> = name.into();
                let (own, file) = (Some(Arc::clone(&name)), Arc::clone(&file));
                self.taken.push(Taken { name: own, id, file, line: 0 });
                name
            };
            names.into_iter().map(one).collect()
        });
        self.faulty.push((Whose::File(file, names), why));
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
        self.leave_out(config, &double);
    }

    /// Takes out whoever comes behind a faulty one with the same name or id, if that one `stays` for
    /// his sake: an old copy takes over nothing.
    pub fn shadow(&mut self, config: &Config, stays: impl Fn(&Taken, &Loaded) -> bool) {
        let mut double: BTreeMap<usize, &str> = BTreeMap::new();
        let mut all: Vec<(usize, &Loaded)> = self.sound.iter().enumerate().collect();
        type Compare = fn(&Loaded, &Taken) -> Option<Ordering>;
        let checks: [(&str, Compare); 2] = [
            ("has the name of another client, who is faulty", |one, taken| {
                taken.name.as_ref().map(|name| one.access.name.cmp(name))
            }),
            ("has the id of another client, who is faulty", |one, taken| {
                taken.id.map(|id| one.access.client.cmp(&id))
            }),
        ];
        for (what, compare) in checks.into_iter().filter(|_| !self.taken.is_empty()) {
            all.sort_unstable_by(|(_, a), (_, b)| match what == checks[0].0 {
                true => a.access.name.cmp(&b.access.name),
                false => a.access.client.cmp(&b.access.client),
            });
            for taken in &self.taken {
                let from =
                    all.partition_point(|(_, one)| compare(one, taken) == Some(Ordering::Less));
                let same = |one: &Loaded| compare(one, taken) == Some(Ordering::Equal);
                let behind = |one: &Loaded| (&one.file, one.line) > (&taken.file, taken.line);
                let them = all.iter().skip(from).take_while(|(_, one)| same(one));
                let them = them.filter(|(_, one)| behind(one) && stays(taken, one));
                double.extend(them.map(|(n, _)| (*n, what)));
            }
        }
        self.taken = Vec::new();
        self.leave_out(config, &double);
    }

    fn leave_out(&mut self, config: &Config, double: &BTreeMap<usize, &str>) {
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
                    self.faulty.push((Whose::Double(one.access.name), why));
                }
            }
        }
    }
}

/// A name that stands in a file, with its id where that can be read.
type Named = (String, Option<ClientId>);

/// Who stands in a file of which no client can be known; a wrong mode hides nobody.
fn names(path: &Path, text: Option<&ClientText>) -> Option<Vec<Named>> {
    match text {
        Some(text) => text.names(),
        None => ClientText::peek(path).and_then(|text| text.names()),
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
        // What begins with a dot is an editor's.
        let stem = path.file_stem().and_then(|s| s.to_str()).filter(|s| !s.starts_with('.'));
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
            Err(why) => {
                let known = names(&path, text.as_ref().ok()).filter(|names| !names.is_empty());
                let one =
                    |(name, id)| Found { name: Some(name), id, line: 1, client: Err(why.clone()) };
                all.extend(known.unwrap_or_else(|| vec![(name, None)]).into_iter().map(one));
            }
        }
    }
    Ok(all)
}

/// Lets one process at a time write in the directory, so that nobody writes back whom another one
/// has just taken out; it ends when this is dropped. None: it is not there.
///
/// # Errors
/// When the directory cannot be opened or locked.
pub fn lock(dir: &Path) -> Result<Option<Flock<File>>, ConfigError> {
    let wrong = |e: std::io::Error| ConfigError::new(dir, e);
    let folder = match File::open(dir) {
        Ok(folder) => folder,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(wrong(e)),
    };
    let lock = Flock::lock(folder, FlockArg::LockExclusive).map_err(|(_, e)| wrong(e.into()))?;
    // Whoever has written here and was killed has left its draft behind, with keys in it.
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.file_name().and_then(|name| name.to_str()).is_some_and(is_draft) {
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(Some(lock))
}

/// Whether the name is one of a draft: `NAME.toml.PID.new`.
fn is_draft(name: &str) -> bool {
    let number = name.strip_suffix(".new").and_then(|rest| rest.rsplit_once(".toml."));
    number.is_some_and(|(_, pid)| !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()))
}

/// What has become of one who was to be taken out.
pub struct TakenOut {
    /// He was in some file, and is in it no more.
    pub found: bool,
    /// The files in which he may still be.
    pub failed: Vec<ConfigError>,
}

/// Takes a client out of every file of the directory: its own goes, one of many stays without it.
/// What cannot be looked through keeps nobody in the others.
///
/// # Errors
/// When nothing was looked through at all: the directory cannot be read.
pub fn take_out(dir: &Path, name: &str) -> Result<TakenOut, ConfigError> {
    let mut out = TakenOut { found: false, failed: Vec::new() };
    let Some(lock) = lock(dir)? else { return Ok(out) };
    for (stem, path) in files_in(dir)? {
        let remove = || std::fs::remove_file(&path).map_err(|e| ConfigError::new(&path, e));
        // His own file goes whatever is in it, and whoever can read it.
        let done = match stem == name && !is_list(&path) {
            true => remove().map(|()| true),
            false => ClientText::read(&path).and_then(|text| match text.without(name)? {
                None => Ok(false),
                Some(Rest::Nothing) => remove().map(|()| true),
                Some(Rest::Text(rest)) => write_new(&path, &rest, true).map(|()| true),
            }),
        };
        match done {
            Ok(here) => out.found |= here,
            Err(why) => out.failed.push(why),
        }
    }
    if let Err(why) = lock.sync_all() {
        out.failed.push(ConfigError::new(dir, why));
    }
    Ok(out)
}

/// Whether it is a file of many, whatever else is wrong with it.
fn is_list(path: &Path) -> bool {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    bytes.is_ok_and(|bytes| ClientText::is_list(&String::from_utf8_lossy(&bytes)))
}
