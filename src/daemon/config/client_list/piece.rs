//! Where the entries of a file of many begin and end, and who stands in one that TOML does not take.

use super::super::model::is_name;
use crate::access::ClientId;
use crate::crypto::hex;

/// One entry of a file of many: where it begins, where its keys begin, where it ends, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) body: usize,
    pub(super) end: usize,
    /// The line in which it begins, from 1.
    pub(super) line: usize,
    /// Whether it begins with `[[client]]`, and not with something that was meant to be that.
    pub(super) is_headed: bool,
}

/// What an entry says of whose it is, read line by line.
#[derive(Default, Debug)]
pub(super) struct Owners {
    /// Every name in it, once.
    pub(super) names: Vec<String>,
    /// The first id that can be read.
    pub(super) id: Option<ClientId>,
    /// How many names stand in it that cannot be read.
    pub(super) unread: usize,
}

/// Whether an entry begins in this line, as TOML would have it; a name in quotes is no name of ours.
fn is_header(line: &str) -> bool {
    let inside = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
    inside.is_some_and(|(name, rest)| {
        let rest = rest.trim();
        name.trim() == "client" && (rest.is_empty() || rest.starts_with('#'))
    })
}

pub(super) fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// How many brackets of a value are open behind this line, if so many were before it.
fn depth(line: &str, before: usize) -> usize {
    let (mut depth, mut quote, mut escaped) = (before, None, false);
    for c in line.chars() {
        match (quote, c) {
            (Some('"'), '\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(q), c) if c == q && !escaped => quote = None,
            (Some(_), _) => {}
            (None, '#') => break,
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => depth = depth.saturating_sub(1),
            (None, _) => {}
        }
        escaped = false;
    }
    depth
}

/// What a line assigns to a key, wherever in it: a header may stand before it.
fn assigned<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    if is_empty(line) {
        return None;
    }
    let of = |part: &'a str| {
        part.trim_start().strip_prefix(key)?.trim_start().strip_prefix('=').map(str::trim_start)
    };
    of(line).or_else(|| line.rsplit_once(']').and_then(|(_, rest)| of(rest)))
}

fn quoted(value: &str) -> Option<&str> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some(value.get(1..)?.split_once(quote)?.0)
}

impl Owners {
    pub(super) fn of(text: &str) -> Owners {
        let mut owners = Owners::default();
        for line in text.lines() {
            if let Some(value) = assigned(line, "name") {
                match quoted(value).filter(|name| is_name(name)) {
                    Some(name) if owners.names.iter().any(|n| n == name) => {}
                    Some(name) => owners.names.push(name.into()),
                    None => owners.unread += 1,
                }
            }
            if owners.id.is_none() {
                let id = assigned(line, "id").and_then(quoted).and_then(hex);
                owners.id = id.map(ClientId);
            }
        }
        owners
    }

    /// Whether others' names stand in it too.
    pub(super) fn are_many(&self) -> bool {
        self.names.len() + self.unread > 1
    }
}

/// Takes a file of many apart; a file of one client has no pieces.
///
/// Whatever begins with `[` where no value is and is no `[[client]]` was meant to be one, if a name,
/// an id or a key stands under it. Anything else, a table, is a mistake of the entry or the head
/// that it stands in: what it says must not be lost on them.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut found: Vec<Piece> = Vec::new();
    let (mut at, mut open) = (0, 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let start = at;
        at += line.len();
        if open == 0 && !line.contains('[') {
            continue;
        }
        let is_headed = is_header(line);
        if is_headed || open == 0 && line.trim_start().starts_with('[') {
            open = 0;
            found.push(Piece { start, body: at, end: text.len(), line: number, is_headed });
        } else {
            open = depth(line, open);
        }
    }
    let says = |from: usize, to: usize, keys: &[&str]| {
        let lines = || text.get(from..to).unwrap_or_default().lines();
        keys.iter().any(|key| lines().any(|line| assigned(line, key).is_some()))
    };
    let ends: Vec<usize> = found.iter().skip(1).map(|p| p.start).chain([text.len()]).collect();
    let mut ends = ends.into_iter();
    found.retain(|piece| {
        let end = ends.next().unwrap_or(text.len());
        piece.is_headed || says(piece.start, end, &["name", "id", "key"])
    });
    let starts: Vec<usize> = found.iter().skip(1).map(|p| p.start).collect();
    found.iter_mut().zip(starts).for_each(|(piece, next)| piece.end = next);
    // A client's own file has no name in it.
    let is_list = found.iter().any(|p| p.is_headed || says(p.start, p.end, &["name"]));
    if is_list { found } else { Vec::new() }
}
