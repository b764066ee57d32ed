//! `[[knock]]`: knock sequences, each an access entry of its own.

use super::ConfigError;
use super::legacy::{How, LONGEST_TTL, Legacy, check_require, entry};
use super::model::{MOST_RANGES, is_name};
use super::raw::{RawKnock, RawKnocks, RawStep};
use super::sequence::{self as files, LEAST_STEPS, MOST_STEPS, REPEATS, repeats};
use crate::access::{Assurance, Ports, Protocol, Service};
use crate::crypto::{KnockKey, equal};
use crate::engine::{Knock, Sequence, Step};
use crate::proto::LOWEST;
use std::path::Path;
use toml::Spanned;

/// The most entries.
const MOST: usize = 8;
/// The sequence where none is said.
const DEFAULT: [u16; 3] = [1560, 6580, 8153];
/// The longest time between two steps, and for all of them: seconds.
const LONGEST: u32 = 600;

/// What is wrong: in this file, or in another one that it names.
enum Wrong {
    Here(usize, String),
    There(ConfigError),
}

/// The entries of the file, and the services that stand for their ports.
pub(super) fn read(
    path: &Path,
    text: &str,
    raw: &RawKnocks,
    services: &mut Vec<Service>,
) -> Result<Vec<Legacy>, ConfigError> {
    let mut all: Vec<Legacy> = Vec::new();
    let dir = path.parent().unwrap_or(Path::new("."));
    for knock in &raw.0 {
        let (service, legacy) =
            one(dir, knock, all.len() + 1, services).map_err(|wrong| match wrong {
                Wrong::Here(at, what) => ConfigError::at(path, text, at, what),
                Wrong::There(error) => error,
            })?;
        if let Some(secret) = key(&legacy)
            && all.iter().filter_map(key).any(|other| equal(other.bytes(), secret.bytes()))
        {
            let at = knock.opens.span().start;
            let what = "two [[knock]] have the same secret: give each one of its own";
            return Err(ConfigError::at(path, text, at, what));
        }
        if all.iter().any(|other| shares_a_line(other, &legacy)) {
            let at = knock.opens.span().start;
            let what =
                "two [[knock]] have the same one-time sequence, and it would open one of them";
            return Err(ConfigError::at(path, text, at, what));
        }
        services.push(service);
        all.push(legacy);
    }
    Ok(all)
}

fn shares_a_line(one: &Legacy, other: &Legacy) -> bool {
    let lines = |l: &Legacy| match knock_of(l).map(|k| k.sequence.clone()) {
        Some(Sequence::OneTime(lines)) => lines,
        Some(Sequence::Fixed { .. } | Sequence::Timed(_)) | None => Vec::new(),
    };
    let others = lines(other);
    lines(one).iter().any(|line| others.contains(line))
}

/// The secret of a timed sequence.
fn key(legacy: &Legacy) -> Option<&KnockKey> {
    match &knock_of(legacy)?.sequence {
        Sequence::Timed(timed) => Some(&timed.key),
        Sequence::Fixed { .. } | Sequence::OneTime(_) => None,
    }
}

fn knock_of(legacy: &Legacy) -> Option<&Knock> {
    match &legacy.how {
        How::Knock(knock) => Some(knock),
        How::Plain(_) => None,
    }
}

/// Whether there is a sequence that changes with the time.
pub(super) fn is_timed(legacy: &[Legacy]) -> bool {
    legacy.iter().any(|l| key(l).is_some())
}

fn one(
    dir: &Path,
    raw: &RawKnock,
    number: usize,
    services: &[Service],
) -> Result<(Service, Legacy), Wrong> {
    let at = |start: usize, what: String| Wrong::Here(start, what);
    if number > MOST {
        return Err(at(raw.opens.span().start, format!("at most {MOST} [[knock]] are possible")));
    }
    let name = match &raw.label {
        Some(label) if !is_name(label.get_ref()) => {
            let what = "label: letters, digits, . - _ @, at most 64";
            return Err(at(label.span().start, what.into()));
        }
        Some(label) => format!("[knock {}]", label.get_ref()),
        None if number == 1 => "[knock]".into(),
        None => format!("[knock {number}]"),
    };
    let (window, total) = (raw.window.get_ref().0, raw.total.as_ref().map(|t| t.get_ref().0));
    if window == 0 || window > LONGEST {
        return Err(at(raw.window.span().start, format!("window: 1 to {LONGEST} s are possible")));
    }
    if let Some(total) = &raw.total
        && (total.get_ref().0 == 0 || total.get_ref().0 > LONGEST)
    {
        return Err(at(total.span().start, format!("total: 1 to {LONGEST} s are possible")));
    }
    let seconds = raw.ttl.get_ref().0;
    if seconds == 0 || seconds > LONGEST_TTL {
        return Err(at(raw.ttl.span().start, "a knock opens for 1s to 10m".into()));
    }
    let (ports, place) = (raw.opens.get_ref(), raw.opens.span().start);
    if ports.is_empty() || ports.len() > MOST_RANGES {
        return Err(at(place, format!("opens: one to {MOST_RANGES} ports are wanted")));
    }
    let sequence = sequence(dir, raw)?;
    let assurance = match sequence {
        Sequence::Fixed { .. } | Sequence::OneTime(_) => Assurance::Knock,
        Sequence::Timed(_) => Assurance::TimedKnock,
    };
    check_require(ports, assurance, services).map_err(|what| at(place, what))?;
    let (service, access) = entry(&name, assurance, ports, seconds);
    if services.iter().any(|s| s.id == service.id) {
        return Err(at(place, format!("there is another {name}: give each a label of its own")));
    }
    let (client, window) = (access.client, u64::from(window) * 1_000);
    let knock = Knock { client, sequence, window, total: total.map(|t| u64::from(t) * 1_000) };
    Ok((service, Legacy { access, how: How::Knock(knock) }))
}

/// What has to be touched: one of three ways to say it.
fn sequence(dir: &Path, raw: &RawKnock) -> Result<Sequence, Wrong> {
    let file = raw.one_time.as_ref().or(raw.secret.as_ref());
    if let Some(file) = file {
        let both = raw.one_time.is_some() && raw.secret.is_some();
        if both || raw.sequence.is_some() || raw.close.is_some() {
            let what = "`sequence` (and `close`), `one-time` or `secret`: one of them";
            return Err(Wrong::Here(file.span().start, what.into()));
        }
    }
    match (&raw.one_time, &raw.secret) {
        (Some(file), _) => {
            let lines = files::one_time(&dir.join(file.get_ref())).map_err(Wrong::There)?;
            Ok(Sequence::OneTime(lines))
        }
        (None, Some(file)) => {
            files::timed(&dir.join(file.get_ref())).map(Sequence::Timed).map_err(Wrong::There)
        }
        (None, None) => fixed(raw),
    }
}

fn fixed(raw: &RawKnock) -> Result<Sequence, Wrong> {
    for steps in [&raw.sequence, &raw.close].into_iter().flatten() {
        if !(LEAST_STEPS..=MOST_STEPS).contains(&steps.get_ref().len()) {
            let what = format!("a sequence has {LEAST_STEPS} to {MOST_STEPS} steps");
            return Err(Wrong::Here(steps.span().start, what));
        }
        if repeats(steps.get_ref().iter().map(|s| s.0)) {
            return Err(Wrong::Here(steps.span().start, REPEATS.into()));
        }
    }
    let steps = |list: &Spanned<Vec<RawStep>>| list.get_ref().iter().map(|s| s.0).collect();
    let default = || DEFAULT.map(|port| Step { protocol: Protocol::Udp, port }).to_vec();
    let open: Vec<Step> = raw.sequence.as_ref().map_or_else(default, steps);
    let close: Vec<Step> = raw.close.as_ref().map(steps).unwrap_or_default();
    if let Some(place) = raw.close.as_ref().filter(|_| open == close) {
        let what = "the same sequence cannot open and close";
        return Err(Wrong::Here(place.span().start, what.into()));
    }
    Ok(Sequence::Fixed { open, close })
}

/// The ports where knocks arrive, each once.
pub(super) fn steps(legacy: &[Legacy]) -> Vec<Ports> {
    let mut ports: Vec<Ports> = legacy.iter().filter_map(knock_of).flat_map(ports_of).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

fn ports_of(knock: &Knock) -> Vec<Ports> {
    let one = |s: &Step| Ports::new(s.protocol, s.port, s.port);
    match &knock.sequence {
        Sequence::Fixed { open, close } => open.iter().chain(close).filter_map(one).collect(),
        Sequence::OneTime(lines) => lines.iter().flatten().filter_map(one).collect(),
        Sequence::Timed(timed) => {
            // All that a sequence can have: what is between the ports to avoid.
            let mut avoid = timed.avoid.clone();
            avoid.sort_unstable();
            let mut first = Some(LOWEST);
            let mut ranges = Vec::new();
            for port in avoid {
                let range = first.filter(|first| *first < port);
                ranges.extend(range.and_then(|first| Ports::new(Protocol::Udp, first, port - 1)));
                first = port.checked_add(1);
            }
            ranges.extend(first.and_then(|first| Ports::new(Protocol::Udp, first, u16::MAX)));
            ranges
        }
    }
}

/// The first port where a knock would come and none of these listens.
pub(super) fn unheard(legacy: &[Legacy], heard: &[Ports]) -> Option<Ports> {
    steps(legacy).into_iter().find(|step| !heard.iter().any(|ports| ports.contains(step)))
}

/// Why knocks cannot be waited for on bound sockets, if so.
pub(super) fn unbound(ports: &[Ports]) -> Option<String> {
    let capture = "can only be captured: [[listen]] capture = \"any\", mode = \"knock\"";
    let tcp = ports.iter().find(|p| p.protocol() == Protocol::Tcp);
    let many = ports.iter().find(|p| p.first() != p.last());
    match (many, tcp) {
        (Some(_), _) => Some(format!("knocks that change with the time {capture}")),
        (None, Some(tcp)) => Some(format!("a knock at {tcp} {capture}")),
        (None, None) => None,
    }
}
