//! A file of the clients' directory: one client, or many, each under `[[client]]`.
//!
//! A file of many is taken apart at its `[[client]]` lines, and each piece is read for itself: a
//! mistake costs one client and not all, a piece can be taken out and the rest stays byte for byte,
//! and 100,000 pieces are read in less than half the time of one document of them all.

use super::client_file::{ClientFile, Overrides};
use super::model::is_name;
use super::{ConfigError, SecretFile};
use crate::crypto::SecretText;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// A client as it stands in a file.
#[derive(Debug)]
pub struct Found {
    /// Its name; none where it cannot be read.
    pub name: Option<String>,
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

/// One entry of a file of many: where it begins, where its keys begin, where it ends, in bytes.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: usize,
    body: usize,
    end: usize,
    /// The line of `[[client]]`, from 1.
    line: usize,
}

/// The text of one file of the clients' directory.
pub struct ClientText {
    path: PathBuf,
    text: SecretText,
    pieces: Vec<Piece>,
}

/// Whether an entry begins in this line, as TOML would have it; a name in quotes is no name of ours.
fn is_header(line: &str) -> bool {
    let inside = line.trim_start().strip_prefix("[[").and_then(|rest| rest.split_once("]]"));
    inside.is_some_and(|(name, rest)| {
        let rest = rest.trim();
        name.trim() == "client" && (rest.is_empty() || rest.starts_with('#'))
    })
}

fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut found: Vec<Piece> = Vec::new();
    let mut at = 0;
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let start = at;
        at += line.len();
        if is_header(line) {
            if let Some(last) = found.last_mut() {
                last.end = start;
            }
            found.push(Piece { start, body: at, end: text.len(), line: number });
        }
    }
    found
}

/// The name in a piece that TOML does not take.
fn name_of(text: &str) -> Option<&str> {
    text.lines().find_map(|line| {
        let value = line.trim().strip_prefix("name")?.trim_start().strip_prefix('=')?.trim_start();
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (name, rest) = value.get(1..)?.split_once(quote)?;
        (is_name(name) && is_empty(rest)).then_some(name)
    })
}

impl ClientText {
    /// Reads a file that nobody else may be able to read.
    ///
    /// # Errors
    /// When it is missing, or readable to others, or holds what cannot be taken apart.
    pub fn read(path: &Path) -> Result<ClientText, ConfigError> {
        ClientText::new(path, SecretFile::read_clients(path)?.into_text())
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
        text.lines().any(is_header)
    }

    fn stem(&self) -> &str {
        self.path.file_stem().and_then(|n| n.to_str()).unwrap_or_default()
    }

    fn of(&self, piece: &Piece) -> &str {
        self.text.as_str().get(piece.body..piece.end).unwrap_or_default()
    }

    /// Every client of the file, in its order; none where the file says only what would count for all.
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
            None => one = self.one()?,
        }
        let many = self.pieces.iter().map(move |piece| self.entry(piece, &defaults));
        Ok(one.into_iter().chain(many))
    }

    fn one(&self) -> Result<Option<Found>, ConfigError> {
        let (name, text) = (self.stem(), self.text.as_str());
        match ClientFile::parse(&self.path, name, text) {
            Ok(client) => Ok(Some(Found { name: Some(name.into()), line: 1, client: Ok(client) })),
            // All that were in it have been taken out.
            Err(why) => match Overrides::parse(&self.path, text) {
                Ok(head) if head != Overrides::default() => Ok(None),
                Ok(_) | Err(_) => Err(why),
            },
        }
    }

    fn entry(&self, piece: &Piece, defaults: &Overrides) -> Found {
        let text = self.of(piece);
        let mut client = ClientFile::parse_entry(&self.path, text, defaults);
        if let Err(ConfigError { at: Some((line, _)), .. }) = &mut client {
            *line += piece.line;
        }
        let name = match &client {
            Ok(client) => Some(client.name.clone()),
            Err(_) => name_of(text).map(String::from),
        };
        Found { name, line: piece.line, client }
    }

    /// What the file is without the client of that name, wherever it stands in it; none: as it was.
    ///
    /// An entry goes from its `[[client]]` to its last key, with one empty line behind it. Comments
    /// around it stay.
    #[must_use]
    pub fn without(&self, name: &str) -> Option<Rest> {
        let all = self.text.as_str();
        let defaults = Overrides::default();
        let is_it = |p: &&Piece| self.entry(p, &defaults).name.as_deref() == Some(name);
        let gone: Vec<&Piece> = self.pieces.iter().filter(is_it).collect();
        if gone.is_empty() {
            return (self.pieces.is_empty() && self.stem() == name).then_some(Rest::Nothing);
        }
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut rest = Zeroizing::new(String::with_capacity(all.len()));
        let mut at = 0;
        for piece in &gone {
            rest.push_str(all.get(at..piece.start).unwrap_or_default());
            at = piece.body + length(self.of(piece));
        }
        rest.push_str(all.get(at..).unwrap_or_default());
        match gone.len() == self.pieces.len() && rest.lines().all(is_empty) {
            true => Some(Rest::Nothing),
            false => Some(Rest::Text(rest)),
        }
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
