//! Who stays as he was because of a mistake in a file, and whom that keeps out.

use super::{Known, say};
use crate::daemon::clients::{Clients, Loaded, Whose};
use crate::daemon::config::Config;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// By name.
type Names = BTreeMap<Arc<str>, Known>;

/// Those of before that stay, taken out of `before`, and the sound ones whom they let in; all
/// mistakes are logged.
///
/// One who stays keeps his name, his id and his key: nobody else has them as long as his file is
/// wrong.
pub(super) fn divide(
    mut clients: Clients,
    config: &Config,
    before: &mut Names,
) -> (Vec<Loaded>, Vec<(Arc<str>, Known)>) {
    if !clients.faulty.is_empty() {
        let ids: BTreeMap<_, _> = before.values().map(|k| (k.id, k.print)).collect();
        // One whom nobody knows keeps nobody out; nor does one without a name of whom there is a
        // sound entry with the same key.
        clients.shadow(config, |taken, one| match &taken.name {
            Some(name) if before.contains_key(name) => true,
            Some(_) | None => {
                let known = taken.id.and_then(|id| ids.get(&id));
                known.is_some_and(|print| *print != Some(one.print))
            }
        });
    }
    let (mut sound, mut stay, mut lines) = (clients.sound, Vec::new(), Vec::new());
    if clients.faulty.is_empty() {
        return (sound, stay);
    }
    let here: BTreeSet<Arc<str>> = sound.iter().map(|l| Arc::clone(&l.access.name)).collect();
    let files = clients.faulty.iter().filter_map(|(whose, _)| match whose {
        Whose::File(file, _) => Some((Arc::clone(file), Vec::new())),
        Whose::Client(_) | Whose::Somebody | Whose::Double(_) => None,
    });
    let mut files: BTreeMap<Arc<str>, Vec<Arc<str>>> = files.collect();
    for (name, known) in &*before {
        if let Some(names) = files.get_mut(&known.file) {
            names.push(Arc::clone(name));
        }
    }
    for (whose, why) in clients.faulty {
        let (them, of) = match whose {
            Whose::Client(name) => (Arc::clone(&name), elsewhere(vec![name], &here)),
            Whose::File(file, names) => {
                let own = files.remove(&file).unwrap_or_default();
                (Arc::clone(&file), in_file(file, own, names, &here))
            }
            Whose::Somebody => {
                lines.push(format!("a client is left out, and one that it was is gone: {why}"));
                continue;
            }
            Whose::Double(name) => {
                lines.push(format!("client={name} is left out: {why}"));
                continue;
            }
        };
        let of: Vec<_> = of.iter().filter_map(|name| before.remove_entry(name)).collect();
        lines.push(match of.as_slice() {
            [] => format!("client={them} is left out: {why}"),
            [(name, _)] => format!("client={name} stays as it was: {why}"),
            more => format!("{} clients stay as they were: {why}", more.len()),
        });
        stay.extend(of);
    }
    let names: BTreeSet<_> = stay.iter().map(|(name, _)| Arc::clone(name)).collect();
    let ids: BTreeSet<_> = stay.iter().map(|(_, known)| known.id).collect();
    let prints: BTreeSet<_> = stay.iter().filter_map(|(_, known)| known.print).collect();
    sound.retain(|Loaded { access, print, file, .. }| {
        let is_theirs =
            names.contains(&access.name) || ids.contains(&access.client) || prints.contains(print);
        if is_theirs {
            let what = "has the name, id or key of a client that stays as it was";
            lines.push(format!("client={} is left out: {file}.toml: {what}", access.name));
        }
        !is_theirs
    });
    say(lines, log::Level::Error);
    (sound, stay)
}

/// Those of them who are sound in no other place.
fn elsewhere(mut names: Vec<Arc<str>>, sound: &BTreeSet<Arc<str>>) -> Vec<Arc<str>> {
    names.retain(|name| !sound.contains(name));
    names
}

/// Whom a faulty file keeps: its own who may still stand in it, whoever else they are by now, and
/// those who stand in it and nowhere else.
fn in_file(
    file: Arc<str>,
    own: Vec<Arc<str>>,
    names: Option<Vec<Arc<str>>>,
    sound: &BTreeSet<Arc<str>>,
) -> Vec<Arc<str>> {
    let Some(names) = names else {
        // Nobody knows who stands in it. It may be the file of the one that it is named after.
        let mut all = own;
        all.extend(elsewhere(vec![file], sound));
        return all;
    };
    let named: BTreeSet<&Arc<str>> = names.iter().collect();
    let mut all: Vec<Arc<str>> = own.into_iter().filter(|name| named.contains(name)).collect();
    all.extend(elsewhere(names, sound));
    all
}
