//! `[[knock]]`: knock sequences, each an access entry of its own.

use super::ConfigError;
use super::legacy::{How, LONGEST_TTL, Legacy, check_require, entry};
use super::model::{MOST_RANGES, is_name};
use super::raw::{RawKnock, RawKnocks};
use crate::access::{Assurance, Ports, Protocol, Service};
use crate::engine::{Knock, Step};
use std::path::Path;

/// The most entries.
const MOST: usize = 8;
/// The shortest sequence: steps.
const LEAST_STEPS: usize = 3;
/// The longest sequence: steps.
pub const MOST_STEPS: usize = 8;
/// The longest time between two steps, and for all of them: seconds.
const LONGEST: u32 = 600;

/// The entries of the file, and the services that stand for their ports.
pub(super) fn read(
    path: &Path,
    text: &str,
    raw: &RawKnocks,
    services: &mut Vec<Service>,
) -> Result<Vec<Legacy>, ConfigError> {
    let mut all = Vec::new();
    for knock in &raw.0 {
        let wrong = |(at, what)| ConfigError::at(path, text, at, what);
        let (service, legacy) = one(knock, all.len() + 1, services).map_err(wrong)?;
        services.push(service);
        all.push(legacy);
    }
    Ok(all)
}

fn one(
    raw: &RawKnock,
    number: usize,
    services: &[Service],
) -> Result<(Service, Legacy), (usize, String)> {
    let place = raw.sequence.span().start;
    if number > MOST {
        return Err((raw.opens.span().start, format!("at most {MOST} [[knock]] are possible")));
    }
    let name = match &raw.label {
        Some(label) if !is_name(label.get_ref()) => {
            let what = "label: letters, digits, . - _ @, at most 64";
            return Err((label.span().start, what.into()));
        }
        Some(label) => format!("[knock {}]", label.get_ref()),
        None if number == 1 => "[knock]".into(),
        None => format!("[knock {number}]"),
    };
    for (steps, at) in [
        Some((raw.sequence.get_ref(), place)),
        raw.close.as_ref().map(|c| (c.get_ref(), c.span().start)),
    ]
    .into_iter()
    .flatten()
    {
        if !(LEAST_STEPS..=MOST_STEPS).contains(&steps.len()) {
            return Err((at, format!("a sequence has {LEAST_STEPS} to {MOST_STEPS} steps")));
        }
    }
    let (window, total) = (raw.window.get_ref().0, raw.total.as_ref().map(|t| t.get_ref().0));
    if window == 0 || window > LONGEST {
        return Err((raw.window.span().start, format!("window: 1 to {LONGEST} s are possible")));
    }
    if let Some(total) = &raw.total
        && (total.get_ref().0 == 0 || total.get_ref().0 > LONGEST)
    {
        return Err((total.span().start, format!("total: 1 to {LONGEST} s are possible")));
    }
    let seconds = raw.ttl.get_ref().0;
    if seconds == 0 || seconds > LONGEST_TTL {
        let what = "a proof that can be repeated opens for 1s to 10m";
        return Err((raw.ttl.span().start, what.into()));
    }
    let (ports, at) = (raw.opens.get_ref(), raw.opens.span().start);
    if ports.is_empty() || ports.len() > MOST_RANGES {
        return Err((at, format!("opens: one to {MOST_RANGES} ports are wanted")));
    }
    check_require(ports, Assurance::Knock, services).map_err(|what| (at, what))?;
    let (service, access) = entry(&name, Assurance::Knock, ports, seconds);
    if services.iter().any(|s| s.id == service.id) {
        return Err((at, format!("there is another {name}: give each a label of its own")));
    }
    let steps = |list: &[super::raw::RawStep]| list.iter().map(|s| s.0).collect::<Vec<Step>>();
    let knock = Knock {
        client: access.client,
        open: steps(raw.sequence.get_ref()),
        close: raw.close.as_ref().map(|c| steps(c.get_ref())).unwrap_or_default(),
        window: u64::from(window) * 1_000,
        total: total.map(|t| u64::from(t) * 1_000),
    };
    if knock.open == knock.close {
        return Err((place, "the same sequence cannot open and close".into()));
    }
    Ok((service, Legacy { access, how: How::Knock(knock) }))
}

/// The ports where knocks arrive, each once.
pub(super) fn steps(legacy: &[Legacy]) -> Vec<Ports> {
    let knocks = legacy.iter().filter_map(|l| match &l.how {
        How::Knock(knock) => Some(knock),
        How::Plain(_) => None,
    });
    let steps = knocks.flat_map(|k| k.open.iter().chain(&k.close));
    let mut ports: Vec<Ports> =
        steps.filter_map(|s| Ports::new(s.protocol, s.port, s.port)).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Why knocks cannot be waited for on bound sockets, if so.
pub(super) fn unbound(ports: &[Ports]) -> Option<String> {
    let tcp = ports.iter().find(|p| p.protocol() == Protocol::Tcp)?;
    Some(format!(
        "a knock at {tcp} can only be captured: [[listen]] capture = \"any\", mode = \"knock\""
    ))
}
