//! Who the clients are: taken over from the files, and told to `[engine]` as it takes them.
//!
//! `[priv]` keeps no key. By its print it knows a key again, so that a client that is as it was is
//! told to an `[engine]` once.

use super::Priv;
use super::orders::Asking;
use crate::access::{ClientId, Policy};
use crate::crypto::{ClientKey, Print, ServerId};
use crate::daemon::clients::{Clients, Loaded, Whose};
use crate::daemon::config::{ConfigError, Legacy, ServerKey};
use crate::daemon::frame::Frame;
use crate::daemon::sequence;
use crate::daemon::system::own_addresses;
use crate::sys;
use crate::time::Now;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How many frames of a configuration wait in the channel at one time; what `[engine]` takes in one
/// turn is less.
const PORTION: usize = 512;
/// So many lines of one kind are logged one by one.
const LINES: usize = 20;

/// A client as far as its file could ever be read.
pub(super) struct Known {
    id: ClientId,
    /// None: it has no key of its own.
    print: Option<Print>,
    file: Arc<str>,
}

/// What of a configuration has yet to be told to `[engine]`, in this order.
#[derive(Default)]
pub(super) struct Feed {
    gone: BTreeSet<ClientId>,
    clients: VecDeque<(ClientId, Box<ClientKey>)>,
    rest: VecDeque<Frame>,
    /// The server by whose name the keys were derived that `[engine]` has.
    server: Option<ServerId>,
    /// Who waits until `[engine]` has taken it.
    asked: Vec<Asking>,
}

impl Feed {
    /// Whether something of it waits.
    pub(super) fn waits(&self) -> bool {
        !self.rest.is_empty()
    }

    fn next(&mut self, policy: &Policy) -> Option<Frame> {
        if let Some(id) = self.gone.pop_first() {
            return Some(Frame::Remove(id));
        }
        while let Some((id, key)) = self.clients.pop_front() {
            if let Some(access) = policy.client(id) {
                return Some(Frame::Client(access.clone(), ClientKey::clone(&key)));
            }
        }
        self.rest.pop_front()
    }
}

/// Logs the first of many lines, and how many more there are.
fn say(lines: Vec<String>, level: log::Level) {
    let more = lines.len().saturating_sub(LINES);
    lines.iter().take(LINES).for_each(|line| log::log!(level, "{line}"));
    if more > 0 {
        log::log!(level, "and {more} more such lines");
    }
}

impl Priv {
    /// Sends services, doors and clients, and takes them over as the policy that confirms.
    pub(super) fn configure(&mut self, key: ServerKey, clients: Clients, now: Now) {
        let own = own_addresses();
        // An [engine] that begins knows nobody, and one that was not told everything cannot be relied on.
        let whole = !self.restored || self.feed.waits() || self.feed.server != Some(key.id);
        let mut feed = Feed {
            server: Some(key.id),
            gone: std::mem::take(&mut self.feed.gone),
            asked: std::mem::take(&mut self.feed.asked),
            ..Feed::default()
        };
        let mut frames: Vec<Frame> = key.doors.into_iter().map(Frame::Door).collect();
        frames.extend(self.config.services.iter().cloned().map(Frame::Service));
        frames.extend(own.iter().copied().map(Frame::Own));
        self.enforcer.policy.set_services(self.config.services.clone());
        self.enforcer.policy.set_own(own);
        let mut before = std::mem::take(&mut self.names);
        let mut gone = Vec::new();
        let mut names = Vec::with_capacity(clients.sound.len());
        feed.clients.reserve_exact(if whole { clients.sound.len() } else { 0 });
        for Loaded { access, key, print, file, .. } in clients.sound {
            let id = access.client;
            let known = before.remove_entry(&*access.name);
            let same = known.as_ref().is_some_and(|(_, k)| k.id == id && k.print == Some(print));
            let mut name = Arc::clone(&access.name);
            match known {
                // A file whose id has changed is another client.
                Some((name, known)) if known.id != id => gone.push((name, known.id)),
                Some((kept, _)) => name = kept,
                None => {}
            }
            let changed = self.enforcer.policy.client(id) != Some(&access);
            if changed {
                self.enforcer.set_client(access, now);
            }
            if whole || changed || !same {
                feed.clients.push_back((id, key));
            }
            names.push((name, Known { id, print: Some(print), file }));
        }
        for Legacy { access, how } in self.config.legacy.clone() {
            before.remove(&access.name);
            let (id, name) = (access.client, Arc::clone(&access.name));
            names.push((Arc::clone(&name), Known { id, print: None, file: name }));
            self.enforcer.set_client(access.clone(), now);
            feed.rest.extend(sequence::frames(access, how));
        }
        // What a new [engine] was not told, it has to hear when the file is sound again.
        let stay = stays(clients.faulty, &mut before).into_iter();
        names.extend(stay.map(|(name, known)| match whole {
            true => (name, Known { print: None, ..known }),
            false => (name, known),
        }));
        gone.extend(before.into_iter().map(|(name, known)| (name, known.id)));
        let ids: BTreeSet<ClientId> = names.iter().map(|(_, known)| known.id).collect();
        gone.retain(|(_, id)| !ids.contains(id));
        for (_, id) in &gone {
            frames.extend(self.enforcer.remove_client(*id, now).map(Frame::Decided));
            feed.gone.insert(*id);
        }
        say(
            gone.iter().map(|(name, _)| format!("client={name} is gone")).collect(),
            log::Level::Info,
        );
        feed.gone.retain(|id| !ids.contains(id));
        feed.rest.extend(self.suspicion(!self.restored));
        feed.rest.push_back(Frame::End);
        self.names = names.into_iter().collect();
        self.feed = feed;
        if let Some(engine) = &mut self.engine {
            frames.iter().for_each(|f| engine.channel.push(f, self.generation, vec![]));
        }
        self.feed();
    }

    /// There is no `[engine]` to be told anything.
    pub(super) fn forget_feed(&mut self) {
        let feed = std::mem::take(&mut self.feed);
        feed.asked.into_iter().for_each(|asking| self.ask(asking));
    }

    /// Answers when `[engine]` has taken what it is being told.
    pub(super) fn reloading(&mut self, stream: UnixStream) {
        let asking = Asking::Reload(stream, self.names.len());
        match self.feed.waits() {
            true => self.feed.asked.push(asking),
            false => self.ask(asking),
        }
    }

    /// Tells `[engine]` as much as its channel is to hold; the rest in the next turns, so that timers
    /// and orders get theirs.
    pub(super) fn feed(&mut self) {
        let Some(engine) = &mut self.engine else { return self.forget_feed() };
        if !self.feed.waits() {
            return;
        }
        while engine.channel.waiting() < PORTION {
            let Some(frame) = self.feed.next(&self.enforcer.policy) else {
                // The files' text and all keys are gone: what they took is the system's again.
                self.feed.clients = VecDeque::new();
                sys::trim();
                let asked = std::mem::take(&mut self.feed.asked);
                asked.into_iter().for_each(|asking| self.ask(asking));
                return;
            };
            engine.channel.push(&frame, self.generation, vec![]);
        }
    }
}

/// Those of before that stay because of what is wrong with their files; all mistakes are logged.
fn stays(
    faulty: Vec<(Whose, ConfigError)>,
    before: &mut BTreeMap<Arc<str>, Known>,
) -> Vec<(Arc<str>, Known)> {
    let (mut stay, mut lines) = (Vec::new(), Vec::new());
    let files = faulty.iter().filter_map(|(whose, _)| match whose {
        Whose::File(file) => Some((Arc::clone(file), Vec::new())),
        Whose::Client(_) | Whose::Somebody => None,
    });
    let mut files: BTreeMap<Arc<str>, Vec<Arc<str>>> = files.collect();
    for (name, known) in &*before {
        if let Some(names) = files.get_mut(&known.file) {
            names.push(Arc::clone(name));
        }
    }
    for (whose, why) in faulty {
        let (them, of) = match &whose {
            Whose::Client(name) => (name, vec![Arc::clone(name)]),
            Whose::File(file) => (file, files.remove(file).unwrap_or_default()),
            Whose::Somebody => {
                lines.push(format!("a client is left out, and one that it was is gone: {why}"));
                continue;
            }
        };
        let of: Vec<_> = of.iter().filter_map(|name| before.remove_entry(name)).collect();
        lines.push(match of.as_slice() {
            [] => format!("client={them} is left out: {why}"),
            [(name, _)] if name == them => format!("client={them} stays as it was: {why}"),
            more => format!("{} clients stay as they were: {why}", more.len()),
        });
        stay.extend(of);
    }
    say(lines, log::Level::Error);
    stay
}
