//! Who the clients are: taken over from the files, and told to `[engine]` as it takes them.
//!
//! `[priv]` keeps no key. By its print it knows a key again, so that a client that is as it was is
//! told to an `[engine]` once.

mod kept;

use super::Priv;
use super::orders::Asking;
use crate::access::{Access, Claim, ClientId, Policy};
use crate::crypto::{ClientKey, Print, ServerId};
use crate::daemon::channel::Channel;
use crate::daemon::clients::{Clients, Loaded};
use crate::daemon::config::{Legacy, ServerKey};
use crate::daemon::frame::Frame;
use crate::daemon::log::gather;
use crate::daemon::sequence;
use crate::daemon::system::own_addresses;
use crate::sys;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

/// How many frames of a configuration wait in the channel at one time; what `[engine]` takes in one
/// turn is less.
const PORTION: usize = 512;
/// So many lines of one kind are logged one by one.
const LINES: usize = 20;
/// For so long a change that was noticed waits until `[engine]` has been told of the one before: ms.
const POSTPONED: u64 = 10_000;

/// A client as far as its file could ever be read.
pub(super) struct Known {
    id: ClientId,
    /// None: it has no key of its own.
    print: Option<Print>,
    /// The `[engine]` that runs has been told of it.
    told: bool,
    file: Arc<str>,
}

/// What of a configuration has yet to be told to `[engine]`, in this order.
#[derive(Default)]
pub(super) struct Feed {
    /// What has ended with those who are gone; a later configuration does not undo it.
    decided: VecDeque<Claim>,
    gone: BTreeSet<ClientId>,
    clients: VecDeque<(ClientId, Box<ClientKey>)>,
    rest: VecDeque<Frame>,
    /// The server by whose name the keys were derived that `[engine]` has.
    server: Option<ServerId>,
    /// Who waits until `[engine]` has taken it.
    asked: Vec<Asking>,
    /// So long nothing that was noticed gets in its way.
    until: Mono,
}

impl Feed {
    /// Whether something of it waits.
    pub(super) fn waits(&self) -> bool {
        !self.rest.is_empty()
    }

    fn next(&mut self, policy: &Policy) -> Option<Frame> {
        if let Some(claim) = self.decided.pop_front() {
            return Some(Frame::Decided(claim));
        }
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

    /// Puts as much of it into the channel as that is to hold; true: that was all.
    fn fill(&mut self, channel: &mut Channel, generation: u32, policy: &Policy) -> bool {
        while channel.waiting() < PORTION {
            let Some(frame) = self.next(policy) else { break };
            channel.push(&frame, generation, vec![]);
        }
        !self.waits()
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
            until: now.mono.plus(POSTPONED),
            decided: std::mem::take(&mut self.feed.decided),
            gone: std::mem::take(&mut self.feed.gone),
            asked: std::mem::take(&mut self.feed.asked),
            ..Feed::default()
        };
        let mut frames: Vec<Frame> = key.doors.into_iter().map(Frame::Door).collect();
        frames.extend(self.config.services.iter().cloned().map(Frame::Service));
        frames.extend(own.iter().copied().map(Frame::Own));
        self.enforcer.policy.set_services(self.config.services.clone());
        self.enforcer.policy.set_own(own);
        let gathered = gather();
        let mut before = std::mem::take(&mut self.names);
        let (sound, stay) = kept::divide(clients, &self.config, &mut before);
        // Before anybody is taken out of `before`: names can move in a circle.
        let taken_over: BTreeSet<ClientId> = sound
            .iter()
            .filter(|one| self.is_anothers(&one.access, one.print, &before))
            .map(|one| one.access.client)
            .collect();
        let mut gone = Vec::new();
        let mut names = Vec::with_capacity(sound.len());
        feed.clients.reserve_exact(if whole { sound.len() } else { 0 });
        for Loaded { access, key, print, file, .. } in sound {
            let id = access.client;
            if taken_over.contains(&id) {
                feed.decided.extend(self.enforcer.remove_client(id, now));
            }
            let known = before.remove_entry(&*access.name);
            let same =
                known.as_ref().is_some_and(|(_, k)| k.id == id && k.told && k.print == Some(print));
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
            names.push((name, Known { id, print: Some(print), told: true, file }));
        }
        for Legacy { access, how } in self.config.legacy.clone() {
            before.remove(&access.name);
            let (id, name) = (access.client, Arc::clone(&access.name));
            names.push((Arc::clone(&name), Known { id, print: None, told: true, file: name }));
            self.enforcer.set_client(access.clone(), now);
            feed.rest.extend(sequence::frames(access, how));
        }
        // What a new [engine] was not told, it has to hear when the file is sound again.
        let told = |known: &Known| known.told && !whole;
        names.extend(
            stay.into_iter().map(|(name, known)| (name, Known { told: told(&known), ..known })),
        );
        gone.extend(before.into_iter().map(|(name, known)| (name, known.id)));
        let ids: BTreeSet<ClientId> = names.iter().map(|(_, known)| known.id).collect();
        gone.retain(|(_, id)| !ids.contains(id));
        for (_, id) in &gone {
            feed.decided.extend(self.enforcer.remove_client(*id, now));
            feed.gone.insert(*id);
        }
        say(
            gone.iter().map(|(name, _)| format!("client={name} is gone")).collect(),
            log::Level::Info,
        );
        drop(gathered);
        self.enforcer.apply(now);
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

    /// Whether the id was that of a client with another name and key: what stands on it is his.
    fn is_anothers(
        &self,
        access: &Access,
        print: Print,
        before: &BTreeMap<Arc<str>, Known>,
    ) -> bool {
        let holder = self.enforcer.policy.client(access.client);
        holder.filter(|holder| holder.name != access.name).is_some_and(|holder| {
            before.get(&holder.name).is_none_or(|known| known.print != Some(print))
        })
    }

    /// Whether a client has that name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Whether what was noticed has to wait: `[engine]` is being told, and would begin anew.
    pub(super) fn is_telling(&self, now: Now) -> bool {
        self.feed.waits() && now.mono < self.feed.until
    }

    /// There is no `[engine]` to be told anything.
    pub(super) fn forget_feed(&mut self) {
        let feed = std::mem::take(&mut self.feed);
        feed.asked.into_iter().for_each(|asking| self.ask(asking));
    }

    /// Answers when `[engine]` has taken what it is being told.
    pub(super) fn reloading(&mut self, stream: UnixStream, done: serde_json::Value) {
        let asking = Asking::Reload(stream, done);
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
        if !self.feed.fill(&mut engine.channel, self.generation, &self.enforcer.policy) {
            return;
        }
        // The files' text and all keys are gone: what they took is the system's again.
        self.feed.clients = VecDeque::new();
        sys::trim();
        let asked = std::mem::take(&mut self.feed.asked);
        asked.into_iter().for_each(|asking| self.ask(asking));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feed_is_over_when_its_last_frame_fills_the_portion() {
        let policy = Policy::new(Vec::new(), Vec::new());
        for (frames, over) in
            [(0, true), (PORTION - 1, true), (PORTION, true), (PORTION + 1, false)]
        {
            // Nobody reads what it sends.
            let (here, _there) = UnixStream::pair().unwrap();
            let mut channel = Channel::new(here, false).unwrap();
            let rest = (0..frames).map(|_| Frame::End).collect();
            let mut feed = Feed { rest, ..Feed::default() };
            assert_eq!(feed.fill(&mut channel, 1, &policy), over, "{frames} frames");
            assert_eq!(channel.waiting(), frames.min(PORTION));
        }
    }
}
