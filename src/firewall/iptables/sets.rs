//! Openings and older sessions as input of `ipset restore` (ipset(8)): pure.

use super::rules::SEEN;
use super::{Bars, Family, Held, Openings, Session};
use crate::access::{Ports, Prefix, Protocol};
use crate::firewall::Element;
use crate::time::{Mono, Now};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A range of more ports is one rule and not so many elements.
const WIDEST: u16 = 64;

/// The longest timeout of an element in seconds: 2^32 - 1 milliseconds, halved (ipset(8)).
const LONGEST: u64 = 2_147_483;

/// Room for half a million leases with a few ports each.
const ROOM: u32 = 4_194_304;

/// Room for twice the most bans.
const BANS: u32 = 131_072;

/// Room for who is seen; a port scan by one address is the longest list.
const WATCHED: u32 = 4_096;

/// One element of a set.
type Key = (Prefix, Protocol, u16);

/// The lowest of all ports in the order of [`Ports`].
const LOWEST: Ports = match Ports::new(Protocol::Tcp, 1, 1) {
    Some(ports) => ports,
    None => panic!("port 1 is a port"),
};

/// Whether an opening fits into no set: too many ports, too long, or all addresses there are.
pub(super) fn is_plain(element: &Element, until: Mono, now: Now) -> bool {
    let wide = element.to.last() - element.to.first() >= WIDEST;
    wide || element.from.length() == 0 || until.since(now.mono) > LONGEST * 1_000
}

fn keys(element: &Element) -> impl Iterator<Item = Key> + use<> {
    let (from, to) = (element.from, element.to);
    (to.first()..=to.last()).map(move |port| (from, to.protocol(), port))
}

/// Until when a key is open: openings of one address can share ports.
fn end(openings: &Openings, (from, protocol, port): Key) -> Option<Mono> {
    let same = openings.range(Element { from, to: LOWEST }..).take_while(|(e, _)| e.from == from);
    let covers = |(e, h): &(&Element, &Held)| {
        let to = e.to;
        !h.plain && to.protocol() == protocol && to.first() <= port && port <= to.last()
    };
    same.filter(covers).map(|(_, held)| held.until).max()
}

fn set(from: &Prefix) -> &'static str {
    let family = Family::of(from.address());
    if from.is_host() { family.hosts() } else { family.nets() }
}

/// The line that adds a key; nothing if its time is over, for a timeout of 0 would be for ever.
fn add(out: &mut String, set: &str, (from, protocol, port): Key, until: Mono, now: Now) -> bool {
    let seconds = until.since(now.mono).div_ceil(1_000).min(LONGEST);
    if seconds > 0 {
        let _ = writeln!(out, "add {set} {from},{protocol}:{port} timeout {seconds}");
    }
    seconds > 0
}

/// Makes the elements of these openings what they have to be: there with the right end, or gone.
pub(super) fn change(elements: &[Element], openings: &Openings, now: Now) -> String {
    let mut out = String::new();
    let touched: BTreeSet<Key> = elements.iter().filter(|e| few(e)).flat_map(keys).collect();
    for key in touched {
        let until = end(openings, key);
        let there = until.is_some_and(|until| add(&mut out, set(&key.0), key, until, now));
        if !there {
            let (from, protocol, port) = key;
            let _ = writeln!(out, "del {} {from},{protocol}:{port}", set(&from));
        }
    }
    out
}

/// The line that adds a ban; nothing if its time is over.
fn add_bar(out: &mut String, set: &str, from: &Prefix, bars: &Bars, now: Now) -> bool {
    let left = bars.get(from).map_or(0, |until| until.since(now.mono));
    let seconds = left.div_ceil(1_000).min(LONGEST);
    if seconds > 0 {
        let _ = writeln!(out, "add {set} {from} timeout {seconds}");
    }
    seconds > 0
}

/// Makes these what they have to be: banned with the right end, or not.
pub(super) fn bars(from: &[Prefix], bars: &Bars, now: Now) -> String {
    let mut out = String::new();
    for prefix in from {
        let set = Family::of(prefix.address()).bans();
        if !add_bar(&mut out, set, prefix, bars, now) {
            let _ = writeln!(out, "del {set} {prefix}");
        }
    }
    out
}

/// Whether an element can ever have stood in a set.
fn few(element: &Element) -> bool {
    !is_plain(element, Mono(0), Now::default())
}

/// The names of a family's sets with what makes them.
fn kinds(family: Family, observe: bool) -> Vec<(&'static str, String)> {
    let inet = family.inet();
    let leases = format!("family {inet} timeout 0 maxelem {ROOM}");
    let seen = format!("hash:ip,port family {inet} timeout {SEEN} maxelem {WATCHED}");
    let mut kinds = vec![
        (family.hosts(), format!("hash:ip,port {leases}")),
        (family.nets(), format!("hash:net,port {leases}")),
        (family.older(), format!("hash:ip,port,ip family {inet} maxelem {ROOM}")),
        (family.bans(), format!("hash:net family {inet} timeout 0 maxelem {BANS}")),
    ];
    kinds.extend(observe.then_some((family.seen(), seen)));
    kinds
}

/// Whether a set is one of ours.
pub(super) fn is_ours(name: &str) -> bool {
    let base = name.strip_suffix(NEW).unwrap_or(name);
    [Family::V4, Family::V6]
        .iter()
        .any(|f| [f.hosts(), f.nets(), f.older(), f.bans(), f.seen()].contains(&base))
}

/// Behind the name of a set that is about to take another's place.
const NEW: &str = "-new";

/// Fills a family's sets anew beside the old ones, and then swaps them: at no moment is a live
/// opening missing. Sessions that are not known leave their set as it is.
pub(super) fn fill(
    family: Family,
    openings: &Openings,
    bars: &Bars,
    older: Option<&[Session]>,
    observe: bool,
    now: Now,
) -> String {
    let mut out = String::new();
    let mut ends: BTreeMap<Key, Mono> = BTreeMap::new();
    for (element, held) in openings.iter().filter(|(e, h)| family.has(e) && !h.plain) {
        for key in keys(element) {
            let end = ends.entry(key).or_insert(held.until);
            *end = held.until.max(*end);
        }
    }
    for (name, kind) in kinds(family, observe) {
        let _ = writeln!(out, "create {name} {kind}");
        let kept = name == family.seen() || name == family.older() && older.is_none();
        if kept {
            continue;
        }
        let _ = writeln!(out, "create {name}{NEW} {kind}\nflush {name}{NEW}");
        let fresh = format!("{name}{NEW}");
        for (key, until) in ends.iter().filter(|(key, _)| set(&key.0) == name) {
            add(&mut out, &fresh, *key, *until, now);
        }
        if name == family.bans() {
            for from in bars.keys().filter(|p| family.is(p.address())) {
                add_bar(&mut out, &fresh, from, bars, now);
            }
        }
        if name == family.older() {
            for s in older.unwrap_or_default().iter().filter(|s| family.is(s.from.ip())) {
                let (from, port, to) = (s.from.ip(), s.from.port(), s.to.ip());
                let _ = writeln!(out, "add {fresh} {from},tcp:{port},{to}");
            }
        }
        let _ = writeln!(out, "swap {fresh} {name}\ndestroy {fresh}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(from: &str, to: &str) -> Element {
        Element { from: from.parse().unwrap(), to: to.parse().unwrap() }
    }

    fn held(list: &[(&str, &str, u64)]) -> Openings {
        let one =
            |(f, t, u): &(&str, &str, u64)| (element(f, t), Held { until: Mono(*u), plain: false });
        list.iter().map(one).collect()
    }

    const NOW: Now = Now { unix: crate::time::Unix(0), mono: Mono(10_000) };

    #[test]
    fn seconds_are_rounded_up_and_what_is_over_is_never_for_ever() {
        let openings = held(&[
            ("192.0.2.1", "tcp/22", 10_001),
            ("192.0.2.2", "tcp/22", 10_000),
            ("192.0.2.3", "udp/53", 13_001),
        ]);
        let elements: Vec<Element> = openings.keys().copied().collect();
        assert_eq!(
            change(&elements, &openings, NOW),
            "add opensesame4 192.0.2.1,tcp:22 timeout 1\n\
             del opensesame4 192.0.2.2,tcp:22\n\
             add opensesame4 192.0.2.3,udp:53 timeout 4\n"
        );
    }

    #[test]
    fn a_port_of_two_openings_lasts_as_long_as_the_longer() {
        let openings = held(&[
            ("2001:db8::/64", "tcp/80-82", 20_000),
            ("2001:db8::/64", "tcp/81", 15_000),
            ("2001:db8::/64", "udp/81", 99_000),
        ]);
        let one = element("2001:db8::/64", "tcp/81");
        let line = "add opensesame6-net 2001:db8::/64,tcp:81 timeout 10\n";
        assert_eq!(change(&[one], &openings, NOW), line);
        let filled = fill(Family::V6, &openings, &Bars::new(), Some(&[]), false, NOW);
        let fresh = "add opensesame6-net-new 2001:db8::/64,tcp:81 timeout 10\n";
        assert!(filled.contains(fresh), "{filled}");
        // The longer one closes: the port stays for the shorter, its neighbours go.
        let mut left = openings.clone();
        let gone = element("2001:db8::/64", "tcp/80-82");
        left.remove(&gone);
        assert_eq!(
            change(&[gone], &left, NOW),
            "del opensesame6-net 2001:db8::/64,tcp:80\n\
             add opensesame6-net 2001:db8::/64,tcp:81 timeout 5\n\
             del opensesame6-net 2001:db8::/64,tcp:82\n"
        );
    }

    #[test]
    fn a_live_set_is_exchanged_and_never_emptied() {
        let openings = held(&[("192.0.2.1", "tcp/22", 20_000), ("192.0.2.0/24", "tcp/22", 20_000)]);
        let session = Session {
            from: "192.0.2.9:4000".parse().unwrap(),
            to: "192.0.2.200:22".parse().unwrap(),
        };
        let banned = "192.0.2.66".parse().unwrap();
        let bars =
            Bars::from([(banned, Mono(70_001)), ("2001:db8::/64".parse().unwrap(), Mono(70_000))]);
        let text = fill(Family::V4, &openings, &bars, Some(&[session]), false, NOW);
        let bans: Vec<&str> =
            text.lines().filter(|l| l.starts_with("add opensesame4-ban")).collect();
        assert_eq!(bans, ["add opensesame4-ban-new 192.0.2.66 timeout 61"]);
        let nobody = Bars::new();
        assert_eq!(
            super::bars(&[banned], &bars, NOW),
            "add opensesame4-ban 192.0.2.66 timeout 61\n"
        );
        assert_eq!(super::bars(&[banned], &nobody, NOW), "del opensesame4-ban 192.0.2.66\n");
        let live: Vec<&str> = text
            .lines()
            .filter(|l| l.split(' ').skip(1).any(|word| is_ours(word) && !word.ends_with(NEW)))
            .map(|l| l.split(" hash").next().unwrap())
            .collect();
        assert_eq!(
            live,
            [
                "create opensesame4",
                "swap opensesame4-new opensesame4",
                "create opensesame4-net",
                "swap opensesame4-net-new opensesame4-net",
                "create opensesame4-older",
                "swap opensesame4-older-new opensesame4-older",
                "create opensesame4-ban",
                "swap opensesame4-ban-new opensesame4-ban",
            ]
        );
        assert!(text.contains("add opensesame4-older-new 192.0.2.9,tcp:4000,192.0.2.200\n"));
        let unknown = fill(Family::V4, &openings, &nobody, None, true, NOW);
        assert!(!unknown.contains("older-new"));
        // Nor is what was seen forgotten.
        assert!(unknown.contains("create opensesame4-seen hash") && !unknown.contains("seen-new"));
        assert!(!text.contains("seen"));
    }

    #[test]
    fn what_fits_into_no_set_is_a_rule() {
        let plain = |from, to, until| is_plain(&element(from, to), Mono(until), NOW);
        assert!(!plain("192.0.2.1", "tcp/1-64", 20_000));
        assert!(plain("192.0.2.1", "tcp/1-65", 20_000));
        assert!(plain("192.0.2.1", "tcp/22", 10_001 + LONGEST * 1_000));
        assert!(plain("0.0.0.0/0", "tcp/22", 20_000));
    }

    #[test]
    fn only_our_own_names_are_ours() {
        for name in ["opensesame4", "opensesame6-net", "opensesame4-older-new"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["opensesame", "opensesame4-mine", "opensesame40", "new", ""] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
