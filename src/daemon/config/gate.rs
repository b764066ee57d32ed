//! `[http-gate]`: a fixed map of paths to files, and what follows for who asks for others.

use super::ConfigError;
use super::raw::{Span, unsaid};
use crate::access::Prefix;
use crate::daemon::suspect::MOST_NEVER;
use crate::engine::suspicion::Rules;
use serde::{Deserialize, Deserializer, de};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};
use toml::Spanned;

/// The most addresses to listen at.
const MOST_LISTEN: usize = 16;
/// The most paths that the map holds, and the most that are ignored.
const MOST_FILES: usize = 1_024;
/// The longest path: bytes.
const LONGEST_PATH: usize = 255;
/// The largest budget and the most guesses in one ban.
const MOST: (u8, u8) = (100, 10);

/// Where a banned address is turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Block {
    /// By the gate, with a page that asks for the recovery PIN.
    Page,
    /// In the kernel as well, for the protected ports.
    Firewall,
}

/// `[http-gate]`, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gate {
    /// Where it listens: TCP.
    pub listen: Vec<SocketAddr>,
    /// The directory of the files.
    pub root: PathBuf,
    /// The paths that are there, without a slash in front; `*` is `/`, and is always there. The
    /// files lie below the root.
    pub files: Vec<(String, PathBuf)>,
    /// The paths that are not there and cost nothing, without a slash in front.
    pub ignore: Vec<String>,
    /// Networks that are never blocked.
    pub never: Vec<Prefix>,
    /// Who may say in X-Forwarded-For for whom he asks.
    pub proxies: Vec<Prefix>,
    /// So many unknown paths of an address are answered with the way to `/`; the next one blocks.
    pub budget: u8,
    /// Guesses at the recovery PIN in one block.
    pub guesses: u8,
    /// The first block: seconds.
    pub first: u32,
    /// The longest block: seconds.
    pub longest: u32,
    /// Where a blocked address is turned away.
    pub block: Block,
    /// Where the recovery PIN is kept.
    pub pin_file: PathBuf,
}

impl Gate {
    /// The rules for the engine.
    #[must_use]
    pub fn rules(&self) -> Rules {
        let Gate { budget, guesses, first, longest, ref never, .. } = *self;
        Rules { budget, guesses, first, longest, never: never.clone() }
    }
}

/// One address, or several.
struct Listens(Vec<SocketAddr>);

impl<'de> Deserialize<'de> for Listens {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Listens, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Listens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ADDR:PORT, or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Listens, E> {
                address(text).map(|one| Listens(vec![one]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut all: A) -> Result<Listens, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = all.next_element::<String>()? {
                    list.push(address(&text)?);
                }
                Ok(Listens(list))
            }
        }
        d.deserialize_any(Visitor)
    }
}

fn address<E: de::Error>(text: &str) -> Result<SocketAddr, E> {
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) => Err(E::custom("port 0 is no port")),
        Err(_) => Err(E::custom(format!("`{text}` is no ADDR:PORT"))),
    }
}

fn prefixes<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Prefix>, D::Error> {
    let list = Vec::<String>::deserialize(d)?;
    let parse = |t: &String| t.parse().map_err(|e| de::Error::custom(format!("`{t}`: {e}")));
    list.iter().map(parse).collect()
}

fn spanned_prefixes<'de, D: Deserializer<'de>>(d: D) -> Result<Spanned<Vec<Prefix>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct List(#[serde(deserialize_with = "prefixes")] Vec<Prefix>);
    let list = Spanned::<List>::deserialize(d)?;
    let span = list.span();
    Ok(Spanned::new(span, list.into_inner().0))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct RawGate {
    #[serde(default = "everywhere")]
    listen: Spanned<Listens>,
    root: Spanned<PathBuf>,
    files: Spanned<BTreeMap<Spanned<String>, Spanned<String>>>,
    #[serde(default = "nothing")]
    ignore: Spanned<Vec<Spanned<String>>>,
    #[serde(default = "three")]
    budget: Spanned<u8>,
    #[serde(default = "four")]
    guesses: Spanned<u8>,
    #[serde(default = "ten_minutes")]
    first_block: Spanned<Span>,
    #[serde(default = "a_day")]
    longest_block: Spanned<Span>,
    pin_file: Option<Spanned<PathBuf>>,
    #[serde(default = "page")]
    block: Block,
    #[serde(default = "nobody", deserialize_with = "spanned_prefixes")]
    never: Spanned<Vec<Prefix>>,
    #[serde(default = "nobody", deserialize_with = "spanned_prefixes")]
    proxies: Spanned<Vec<Prefix>>,
}

fn everywhere() -> Spanned<Listens> {
    unsaid(Listens(vec![SocketAddr::from(([0, 0, 0, 0], 4_444))]))
}

fn nothing() -> Spanned<Vec<Spanned<String>>> {
    unsaid(Vec::new())
}

fn three() -> Spanned<u8> {
    unsaid(3)
}

fn four() -> Spanned<u8> {
    unsaid(4)
}

fn ten_minutes() -> Spanned<Span> {
    unsaid(Span(600))
}

fn a_day() -> Spanned<Span> {
    unsaid(Span(86_400))
}

fn page() -> Block {
    Block::Page
}

fn nobody() -> Spanned<Vec<Prefix>> {
    unsaid(Vec::new())
}

/// Checks it; `state` is where the PIN is kept if nothing else is said.
pub(super) fn read(
    path: &Path,
    text: &str,
    raw: &RawGate,
    state: &Path,
) -> Result<Gate, ConfigError> {
    let at = |byte: usize, what: &str| ConfigError::at(path, text, byte, what);
    let (first, longest) = (raw.first_block.get_ref().0, raw.longest_block.get_ref().0);
    let default = unsaid(state.join("recovery-pin"));
    let pin = raw.pin_file.as_ref().unwrap_or(&default);
    let (files, ignore) = (raw.files.get_ref(), raw.ignore.get_ref());
    let fits = |n: usize, most: usize| (1..=most).contains(&n);
    let limits = "at most 100";
    let checks = [
        (
            fits(raw.listen.get_ref().0.len(), MOST_LISTEN),
            raw.listen.span().start,
            "one to 16 addresses are wanted",
        ),
        (
            raw.root.get_ref().is_absolute(),
            raw.root.span().start,
            "root: an absolute path is wanted",
        ),
        (pin.get_ref().is_absolute(), pin.span().start, "pin-file: an absolute path is wanted"),
        (
            fits(files.len(), MOST_FILES),
            raw.files.span().start,
            "files: one to 1024 paths are wanted",
        ),
        (
            files.keys().any(|k| k.get_ref() == "*"),
            raw.files.span().start,
            "files: `*` is missing, the page that everybody is sent to who asks for another one",
        ),
        (ignore.len() <= MOST_FILES, raw.ignore.span().start, "at most 1024"),
        (*raw.budget.get_ref() <= MOST.0, raw.budget.span().start, limits),
        ((1..=MOST.1).contains(raw.guesses.get_ref()), raw.guesses.span().start, "1 to 10"),
        (
            first <= longest,
            raw.first_block.span().start.max(raw.longest_block.span().start),
            "first-block is longer than longest-block",
        ),
        (raw.never.get_ref().len() <= MOST_NEVER, raw.never.span().start, "at most 24 networks"),
        (
            raw.proxies.get_ref().len() <= MOST_NEVER,
            raw.proxies.span().start,
            "at most 24 networks",
        ),
    ];
    if let Some((_, byte, what)) = checks.iter().find(|(good, ..)| !good) {
        return Err(at(*byte, what));
    }
    let file = |(key, value): (&Spanned<String>, &Spanned<String>)| {
        let name = wanted(key.get_ref()).map_err(|what| at(key.span().start, what))?;
        let file = below(value.get_ref()).map_err(|what| at(value.span().start, what))?;
        Ok((name, file))
    };
    let mut files = files.iter().map(file).collect::<Result<Vec<_>, ConfigError>>()?;
    files.sort_unstable();
    if let Some(twice) = files.windows(2).find(|two| two[0].0 == two[1].0) {
        let what = format!("files: `{}` is there twice", twice[0].0);
        return Err(at(raw.files.span().start, &what));
    }
    let ignored =
        |t: &Spanned<String>| wanted(t.get_ref()).map_err(|what| at(t.span().start, what));
    Ok(Gate {
        listen: raw.listen.get_ref().0.clone(),
        root: raw.root.get_ref().clone(),
        files,
        ignore: ignore.iter().map(ignored).collect::<Result<_, _>>()?,
        never: raw.never.get_ref().clone(),
        proxies: raw.proxies.get_ref().clone(),
        budget: *raw.budget.get_ref(),
        guesses: *raw.guesses.get_ref(),
        first,
        longest,
        block: raw.block,
        pin_file: pin.get_ref().clone(),
    })
}

/// A path that can be asked for, without the slash in front.
fn wanted(text: &str) -> Result<String, &'static str> {
    let path = text.strip_prefix('/').unwrap_or(text);
    let plain = |c: char| !c.is_control() && !matches!(c, '?' | '#' | '\\');
    let whole = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    match !path.is_empty() && path.len() <= LONGEST_PATH && path.chars().all(plain) && whole {
        true => Ok(path.to_string()),
        false => Err("no path of a file: 1 to 255 bytes, no empty part, no . or .., no ? # or \\"),
    }
}

/// A file below the root.
fn below(text: &str) -> Result<PathBuf, &'static str> {
    let path = Path::new(text);
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    let empty = text.is_empty() || text.len() > LONGEST_PATH || text.contains('\0');
    match stays && !empty {
        true => Ok(path.to_path_buf()),
        false => Err("the file has to lie below root: a relative path without `..`"),
    }
}
