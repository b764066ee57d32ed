//! What pfctl(8) is given to read, and what it says: pure.
//!
//! Success is an exit code and a count that fits. Standard error decides nothing: pfctl writes
//! counts to it, and on some systems a line or two about other things at every call.

use super::{Error, Form, Forward, Shield, tables};
use crate::access::{Ports, Prefix, Protocol, Refuse};
use std::collections::BTreeSet;

/// Our anchor, the label of our rules, and what pf.conf(5) has to name.
pub(super) const ANCHOR: &str = "opensesame";

/// The systems with a pf: their command lines and their ways of starting it differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System {
    /// Enabling is counted there, each time by a token.
    MacOs,
    /// FreeBSD.
    FreeBsd,
    /// OpenBSD.
    OpenBsd,
}

impl System {
    /// What to do when pf is not enabled.
    pub(super) fn mend_disabled(self) -> &'static str {
        match self {
            System::MacOs => {
                "pf is not enabled, so the ports are open: run `pfctl -E` and see what it says"
            }
            System::FreeBsd => {
                "pf is not enabled, so the ports are open: run `sysrc pf_enable=YES` and \
                 `service pf start`"
            }
            System::OpenBsd => {
                "pf is not enabled, so the ports are open: run `rcctl enable pf` and `pfctl -e`"
            }
        }
    }
}

/// What to do when the main rules do not evaluate our anchor.
pub(super) const MEND_REFERENCE: &str = "the main rules do not evaluate our anchor, so the ports \
    are open: put the line `anchor \"opensesame\"` into /etc/pf.conf, before the first rule that \
    says `pass` or `block`, and run `pfctl -f /etc/pf.conf`";

/// The rules of the anchor: whoever is in a table passes, and the block is last; in a pinhole there
/// is none.
///
/// Nothing is judged that comes by the loopback interface. A lease on a port of another host is a
/// lease on no port of this one.
pub(super) fn rules(shield: &Shield, wanted: &BTreeSet<Ports>) -> String {
    let mut text = format!("table <{}> persist\n", tables::BANNED);
    for ports in wanted {
        text += &format!("table <{}> persist\n", tables::name(ports));
    }
    for ports in wanted {
        let flags = match ports.protocol() {
            Protocol::Tcp => "flags S/SA ",
            Protocol::Udp => "",
        };
        let led = |f: &&Forward| f.from.contains(ports);
        for Forward { to, .. } in shield.forwards.iter().filter(led) {
            let family = if to.is_ipv4() { "inet" } else { "inet6" };
            text += &format!(
                "pass in quick {family} proto {} from <{}> to any port {} {flags}rdr-to {} port {} \
                 keep state label \"{ANCHOR}\"\n",
                ports.protocol(),
                tables::name(ports),
                range(ports),
                to.ip(),
                to.port(),
            );
        }
        // In a family without an address there it leads nowhere, and never to what listens here.
        if shield.forwards.iter().any(|f| led(&f)) {
            continue;
        }
        let routed = shield.routed.iter().filter(|r| r.ports.overlaps(ports));
        let mut places: Vec<String> = routed.map(|r| r.at.to_string()).collect();
        if places.is_empty() {
            places.push("any".to_string());
        }
        for to in places {
            text += &format!(
                "pass in quick proto {} from <{}> to {to} port {} {flags}keep state label \
                 \"{ANCHOR}\"\n",
                ports.protocol(),
                tables::name(ports),
                range(ports),
            );
        }
    }
    let block = |how: &str, from: &str, to: &str, ports: &Ports| {
        let (protocol, range) = (ports.protocol(), range(ports));
        format!("block {how} in quick on ! lo0 proto {protocol} from {from} to {to} port {range}\n")
    };
    let own = shield.protected.iter().map(|(ports, refuse)| ("any".to_string(), ports, refuse));
    let routed = shield.routed.iter().map(|r| (r.at.to_string(), &r.ports, &r.refuse));
    let blocked = own.chain(routed).filter(|_| shield.form == Form::Shield);
    for (to, ports, refuse) in blocked {
        match refuse {
            Refuse::Drop => text += &block("drop", "any", &to, ports),
            // Who is banned gets no answer either.
            Refuse::Reset => {
                text += &block("drop", &format!("<{}>", tables::BANNED), &to, ports);
                text += &block("return", "any", &to, ports);
            }
        }
    }
    text
}

/// What pf cannot do for us, or what no real one has shown us: better refused than open.
pub(super) fn can(shield: &Shield, system: System) -> Result<(), Error> {
    let lacks = [
        (
            !shield.forwards.is_empty() && system == System::MacOs,
            "`forward` with pf on macOS, whose filter rules do not translate: name the host in `hosts` and \
             write the `rdr` into /etc/pf.conf",
        ),
        (
            !shield.trusted.is_empty(),
            "`trust` with pf: put `pass in quick on INTERFACE` before the anchor in /etc/pf.conf",
        ),
        (
            matches!(shield.form, Form::Chain { .. }),
            "a chain with pf: leave `table` and `chain` out of `pinhole`, and put the anchor where \
             your own rules are to be asked after it",
        ),
        (shield.observe, "--observe with pf: nothing there remembers who came"),
    ];
    match lacks.iter().find(|(said, _)| *said) {
        Some((_, what)) => Err(Error::Missing((*what).to_string())),
        None => Ok(()),
    }
}

fn range(ports: &Ports) -> String {
    match ports.is_single() {
        true => ports.first().to_string(),
        false => format!("{}:{}", ports.first(), ports.last()),
    }
}

/// Addresses for `-f -`, one a line.
pub(super) fn lines<'a>(addresses: impl Iterator<Item = &'a Prefix>) -> String {
    addresses.map(|a| format!("{a}\n")).collect()
}

/// Whether pf is enabled, out of `-s info`; nothing if it does not say.
pub(super) fn enabled(info: &str) -> Option<bool> {
    let status = info.lines().find_map(|l| l.trim().strip_prefix("Status:"))?;
    match status.split_whitespace().next()? {
        "Enabled" => Some(true),
        "Disabled" => Some(false),
        _ => None,
    }
}

/// Where the main rules evaluate our anchor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reference {
    /// Nowhere: our rules have no effect.
    Missing,
    /// For incoming packets; `narrow` is the line if it says where from or by what interface, and
    /// `earlier` the first rule before it that can let somebody pass unjudged.
    There { narrow: Option<String>, earlier: Option<String> },
}

/// Looks for our anchor in `-s rules` of the main rules. An indented line belongs to another
/// anchor, and `opensesame/*` evaluates what is below our anchor, not what is in it.
pub(super) fn reference(rules: &str) -> Reference {
    let ours = |line: &&str| {
        let rest = line.strip_prefix("anchor ").map(str::trim_start);
        let name = rest.and_then(|r| r.split_whitespace().next());
        let incoming = !line.split_whitespace().any(|word| word == "out");
        incoming && name.is_some_and(|n| n.trim_matches('"') == ANCHOR)
    };
    let Some(at) = rules.lines().position(|l| ours(&l)) else { return Reference::Missing };
    let line = rules.lines().nth(at).unwrap_or_default();
    let plain = ["in", "quick", "all"];
    let narrow = line.split_whitespace().skip(2).any(|word| !plain.contains(&word));
    let passes = |l: &&str| {
        let mut words = l.split_whitespace();
        words.next() == Some("pass") && words.any(|w| w == "quick")
    };
    let earlier = rules.lines().take(at).find(passes).map(|l| l.trim().to_string());
    Reference::There { narrow: narrow.then(|| line.to_string()), earlier }
}

/// Who is in a table, out of `-T show`; nothing if a line is no address.
pub(super) fn shown(out: &str) -> Option<BTreeSet<Prefix>> {
    let lines = out.lines().map(str::trim).filter(|l| !l.is_empty());
    lines.map(|l| l.parse().ok()).collect()
}

/// How many addresses were changed, and how many were named: `1/2 addresses added.`
pub(super) fn counted(said: &str, verb: &str) -> Option<(usize, usize)> {
    said.lines().find_map(|line| {
        let (counts, rest) = line.trim().split_once(' ')?;
        let (done, named) = counts.split_once('/')?;
        let right = rest.trim_end_matches('.') == format!("addresses {verb}");
        if right { Some((done.parse().ok()?, named.parse().ok()?)) } else { None }
    })
}

/// How many states were ended: `killed 2 states from 1 sources and 0 destinations`.
pub(super) fn killed(said: &str) -> Option<usize> {
    said.lines().find_map(|line| {
        let (count, rest) = line.trim().strip_prefix("killed ")?.split_once(' ')?;
        let right = rest.split_whitespace().next() == Some("states");
        if right { count.parse().ok() } else { None }
    })
}

/// The token that `-E` gave: `Token : 123`.
pub(super) fn token(said: &str) -> Option<String> {
    said.lines().find_map(|line| {
        let (word, number) = line.split_once(':')?;
        let number = number.trim();
        let right = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (word.trim() == "Token" && right).then(|| number.to_string())
    })
}

/// Tables of ours, out of `-s Tables`.
pub(super) fn named(out: &str) -> impl Iterator<Item = Ports> + '_ {
    out.lines().filter_map(|l| tables::ports(l.trim()))
}

/// What a pfctl that failed means.
pub(super) fn refusal(code: Option<i32>, said: &str) -> Error {
    let noise = |l: &&str| !l.contains("ALTQ") && !l.contains("DIOCSETLIMIT") && !l.is_empty();
    let text: Vec<&str> = said.lines().map(str::trim).filter(noise).collect();
    let text: String = text.join("; ").chars().take(400).collect();
    let code = code.map_or("a signal".to_string(), |c| c.to_string());
    let has = |part: &str| said.contains(part);
    if has("/dev/pf: Permission denied") || has("Operation not permitted") {
        return Error::Rights;
    }
    if has("/dev/pf: No such file") {
        return Error::Missing(format!("pf in this kernel ({text}): load it, `kldload pf`"));
    }
    if has("Device busy") || has("Resource busy") {
        return Error::Busy(format!("pfctl: {text}; the next try may succeed"));
    }
    if has("Cannot allocate memory") {
        return Error::Refused(format!(
            "pfctl: {text}; raise `set limit table-entries` in /etc/pf.conf"
        ));
    }
    Error::Refused(format!("pfctl ended with {code}: {text}"))
}

#[cfg(test)]
mod tests;
