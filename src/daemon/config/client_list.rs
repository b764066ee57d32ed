//! A file of the clients' directory: one client, or many, each under `[[client]]`.
//!
//! A file of many is taken apart at its `[[client]]` lines, and each piece is read for itself: a
//! mistake costs one client and not all, a piece can be taken out and the rest stays byte for byte,
//! and 100,000 pieces are read in less than half the time of one document of them all.

mod piece;

use super::client_file::{ClientFile, Overrides};
use super::{ConfigError, SecretFile};
use crate::access::ClientId;
use crate::crypto::SecretText;
use piece::{Owners, Piece, is_empty, pieces};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A client as it stands in a file.
#[derive(Debug)]
pub struct Found {
    /// Its name; none where it cannot be read.
    pub name: Option<String>,
    /// Its id; none where it cannot be read.
    pub id: Option<ClientId>,
    /// The line in which it begins, from 1.
    pub line: usize,
    /// What is said about it.
    pub client: Result<ClientFile, ConfigError>,
}

/// What is left of a file when a client is taken out.
#[derive(Debug)]
pub enum Rest {
    /// Nobody else, and no word that would count for others.
    Nothing,
    /// This text.
    Text(SecretText),
}

/// The line that stays where the last client is taken out: without it such a file would be one
/// client's that has lost its id and key.
const EMPTY: &str = "# opensesame-spa: nobody is left in this file.";

/// The text of one file of the clients' directory.
pub struct ClientText {
    path: PathBuf,
    text: SecretText,
    pieces: Vec<Piece>,
}

impl ClientText {
    /// Reads a file that nobody else may be able to read.
    ///
    /// # Errors
    /// When it is missing, or readable to others, or holds what cannot be taken apart.
    pub fn read(path: &Path) -> Result<ClientText, ConfigError> {
        ClientText::new(path, SecretFile::read_clients(path)?.into_text())
    }

    /// Reads a file that others may be able to read: for the names in it, and nothing else.
    #[must_use]
    pub fn peek(path: &Path) -> Option<ClientText> {
        ClientText::new(path, SecretFile::peek_at_clients(path).ok()?.into_text()).ok()
    }

    /// Takes the text of such a file.
    ///
    /// # Errors
    /// When it holds what cannot be taken apart.
    pub fn new(path: &Path, text: SecretText) -> Result<ClientText, ConfigError> {
        let pieces = pieces(&text);
        // In a string of more than one line `[[client]]` would be no entry.
        let long = ["\"\"\"", "'''"].iter().find_map(|quotes| text.find(quotes));
        if let Some(byte) = long.filter(|_| !pieces.is_empty()) {
            let what = "strings of more than one line cannot stand in a file of many clients";
            return Err(ConfigError::at(path, &text, byte, what));
        }
        Ok(ClientText { path: path.to_path_buf(), text, pieces })
    }

    /// Whether this is a file of many, as far as can be seen without reading it.
    #[must_use]
    pub fn is_list(text: &str) -> bool {
        !pieces(text).is_empty()
    }

    fn stem(&self) -> &str {
        self.path.file_stem().and_then(|n| n.to_str()).unwrap_or_default()
    }

    fn of(&self, piece: &Piece) -> &str {
        self.text.as_str().get(piece.body..piece.end).unwrap_or_default()
    }

    /// Every client of the file, in its order; none where `revoke` has taken out the last one.
    ///
    /// # Errors
    /// When no client of it can be known: its one client's text, or the head of many, is wrong.
    pub fn clients(&self) -> Result<impl Iterator<Item = Found>, ConfigError> {
        let (mut one, mut defaults) = (None, Overrides::default());
        match self.pieces.first() {
            Some(first) => {
                let head = self.text.as_str().get(..first.start).unwrap_or_default();
                defaults = Overrides::parse(&self.path, head)?;
            }
            None if self.is_emptied() => drop(Overrides::parse(&self.path, &self.text)?),
            None => one = Some(self.one()?),
        }
        let many = self.pieces.iter().flat_map(move |piece| self.entry(piece, &defaults));
        Ok(one.into_iter().chain(many))
    }

    /// Who stands in the file, whatever is wrong with its head; none where that cannot be known.
    #[must_use]
    pub fn names(&self) -> Option<Vec<(String, Option<ClientId>)>> {
        if !self.pieces.is_empty() || self.is_emptied() {
            let defaults = Overrides::default();
            let all = self.pieces.iter().flat_map(|piece| self.entry(piece, &defaults));
            return Some(all.filter_map(|found| Some((found.name?, found.id))).collect());
        }
        // What could be the head of many, and has nobody, is the text of one that has lost its lines.
        let head = Overrides::parse(&self.path, &self.text);
        head.is_ok_and(|head| head != Overrides::default())
            .then(|| vec![(self.stem().into(), None)])
    }

    /// Whether `revoke` has taken out everybody.
    fn is_emptied(&self) -> bool {
        self.pieces.is_empty() && self.text.lines().any(|line| line == EMPTY)
    }

    fn one(&self) -> Result<Found, ConfigError> {
        let client = ClientFile::parse(&self.path, self.stem(), &self.text)?;
        let (name, id) = (Some(client.name.clone()), Some(client.id));
        Ok(Found { name, id, line: 1, client: Ok(client) })
    }

    /// Who stands in a piece: one client, or with the same mistake all whose names are in it.
    fn entry(&self, piece: &Piece, defaults: &Overrides) -> impl Iterator<Item = Found> + use<> {
        let text = self.of(piece);
        let mut client = match piece.is_headed {
            true => ClientFile::parse_entry(&self.path, text, defaults),
            false => Err(ConfigError::at(&self.path, "", 0, "this is no [[client]]")),
        };
        let line = piece.line;
        if let Err(ConfigError { at: Some((at, _)), .. }) = &mut client {
            *at += if piece.is_headed { line } else { line - 1 };
        }
        let (first, others) = match client {
            Ok(client) => {
                let (name, id) = (Some(client.name.clone()), Some(client.id));
                (Found { name, id, line, client: Ok(client) }, Vec::new())
            }
            Err(why) => {
                let Owners { names, id, .. } = self.owners(piece);
                let mut names = names.into_iter().map(Some);
                let found = |name, id| Found { name, id, line, client: Err(why.clone()) };
                let first = found(names.next().flatten(), id);
                // Whose a second id is cannot be said.
                (first, names.map(|name| found(name, None)).collect())
            }
        };
        std::iter::once(first).chain(others)
    }

    fn owners(&self, piece: &Piece) -> Owners {
        // A whole line before its keys may hold a name too, where it is no `[[client]]`.
        Owners::of(self.text.as_str().get(piece.start..piece.end).unwrap_or_default())
    }

    /// What the file is without the client of that name, wherever it stands in it; none: as it was.
    ///
    /// An entry goes from its `[[client]]` to its last key, with one empty line behind it. Comments
    /// around it stay.
    ///
    /// # Errors
    /// When others' names stand in his entry: they would be taken out with him.
    pub fn without(&self, name: &str) -> Result<Option<Rest>, ConfigError> {
        let all = self.text.as_str();
        let defaults = Overrides::default();
        let is_it = |p: &&Piece| {
            let mut found = self.entry(p, &defaults);
            found.any(|f| f.name.as_deref() == Some(name))
        };
        let gone: Vec<&Piece> = self.pieces.iter().filter(is_it).collect();
        let is_sound = |p: &Piece| self.entry(p, &defaults).any(|f| f.client.is_ok());
        if let Some(p) = gone.iter().find(|p| !is_sound(p) && self.owners(p).are_many()) {
            let what = "more than one client stands in this entry: mend it first";
            return Err(ConfigError::at(&self.path, all, p.start, what));
        }
        if gone.is_empty() {
            let is_his = self.pieces.is_empty() && self.stem() == name && !self.is_emptied();
            return Ok(is_his.then_some(Rest::Nothing));
        }
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut rest = Zeroizing::new(String::with_capacity(all.len() + EMPTY.len() + 2));
        let mut at = 0;
        for piece in &gone {
            rest.push_str(all.get(at..piece.start).unwrap_or_default());
            at = piece.body + length(self.of(piece));
        }
        rest.push_str(all.get(at..).unwrap_or_default());
        if gone.len() == self.pieces.len() {
            if rest.lines().all(is_empty) {
                return Ok(Some(Rest::Nothing));
            }
            if !rest.ends_with('\n') {
                rest.push('\n');
            }
            rest.push_str(EMPTY);
            rest.push('\n');
        }
        Ok(Some(Rest::Text(rest)))
    }
}

/// How much of the text behind a `[[client]]` is that client's: up to its last key, and an empty
/// line behind it.
fn length(text: &str) -> usize {
    let (mut at, mut own, mut behind) = (0, 0, true);
    for line in text.split_inclusive('\n') {
        at += line.len();
        if !is_empty(line) {
            (own, behind) = (at, true);
        } else if behind && line.trim().is_empty() {
            (own, behind) = (at, false);
        } else {
            behind = false;
        }
    }
    own
}

#[cfg(test)]
mod tests;
