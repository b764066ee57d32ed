//! The shield and the leases as input of iptables-restore(8): pure, out of typed values only.
//!
//! What may pass leaves our chains with RETURN and never with ACCEPT, so that the machine's own
//! rules behind ours still decide.

use super::{Family, Held, Openings, Session};
use crate::access::{Ports, Prefix};
use crate::firewall::Shield;
use crate::time::{Mono, Now};
use std::fmt::Write;

/// Our chain in mangle PREROUTING, and the one in raw PREROUTING.
const CHAIN: &str = "OPENSESAME";
/// Whether a packet for a protected port may pass.
const JUDGE: &str = "OPENSESAME-JUDGE";
/// TCP packets of no tracked flow: only those of sessions older than the shield pass.
const OLDER: &str = "OPENSESAME-OLDER";
/// The leases, and the end of everything else.
const LEASE: &str = "OPENSESAME-LEASE";
/// Our chain in raw OUTPUT.
const OUT: &str = "OPENSESAME-OUT";

/// Not the opening packet of a TCP session.
const LATER: &str = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN";

/// The last second that xt_time's tools accept: 2038-01-19T03:14:07Z.
const LAST: i64 = i32::MAX as i64;

/// A table of ours: its chains, and where they hang.
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// Built-in chain, and our chain that must be its first rule.
    pub(super) jumps: &'static [(&'static str, &'static str)],
    /// All chains of ours; users before the used.
    pub(super) chains: &'static [&'static str],
}

/// The shield, right after conntrack and before NAT: ports are seen as they were addressed.
pub(super) const MANGLE: Table = Table {
    name: "mangle",
    jumps: &[("PREROUTING", CHAIN)],
    chains: &[CHAIN, JUDGE, OLDER, LEASE],
};

/// No connection tracking for the server's own ports: a flood of forged datagrams would fill it.
pub(super) const RAW: Table =
    Table { name: "raw", jumps: &[("PREROUTING", CHAIN), ("OUTPUT", OUT)], chains: &[CHAIN, OUT] };

/// Where live openings are looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// In sets; what fits into none as a rule with a time.
    Sets,
    /// Each as a rule with a time.
    Rules,
    /// Nowhere: shut, for when nothing else works.
    Shut,
}

fn ports(which: &str, ports: &Ports) -> String {
    let (protocol, first, last) = (ports.protocol(), ports.first(), ports.last());
    match ports.is_single() {
        true => format!("-p {protocol} -m {protocol} --{which} {first}"),
        false => format!("-p {protocol} -m {protocol} --{which} {first}:{last}"),
    }
}

fn from(prefix: &Prefix) -> String {
    format!("-s {}/{}", prefix.address(), prefix.length())
}

/// Seconds since the epoch as xt_time reads them, in UTC.
fn date(second: i64) -> String {
    let moment = jiff::Timestamp::from_second(second.clamp(0, LAST)).unwrap_or_default();
    moment.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// From two seconds ago, so that a clock set back beyond that shuts, to the second of `until`:
/// rounded up, and one less because xt_time's stop second is the last one that matches.
fn span(until: Mono, now: Now) -> String {
    let second = |ms: u64| i64::try_from(ms / 1_000).unwrap_or(LAST);
    let end = now.unix.plus(until.since(now.mono)).plus(999);
    let (start, stop) = (date(second(now.unix.0) - 2), date(second(end.0) - 1));
    format!("-m time --datestart {start} --datestop {stop}")
}

fn lease(out: &mut String, family: Family, mode: Mode, openings: &Openings, now: Now) {
    if mode == Mode::Sets {
        for set in [family.hosts(), family.nets()] {
            let _ = writeln!(out, "-A {LEASE} -m set --match-set {set} src,dst -j RETURN");
        }
    }
    let due = |held: &Held| match mode {
        Mode::Sets => held.plain,
        Mode::Rules => true,
        Mode::Shut => false,
    };
    for (element, held) in openings.iter().filter(|(e, _)| family.has(e)) {
        if due(held) && held.until > now.mono {
            let (from, to) = (from(&element.from), ports("dport", &element.to));
            let span = span(held.until, now);
            let _ = writeln!(out, "-A {LEASE} {from} {to} {span} -j RETURN");
        }
    }
    // A lease wins over a ban.
    if mode == Mode::Sets {
        let _ = writeln!(out, "-A {LEASE} -m set --match-set {} src -j DROP", family.bans());
    }
    let _ = writeln!(out, "-A {LEASE} -j DROP");
}

/// The lease chain alone, emptied and filled in one commit.
pub(super) fn leases(family: Family, mode: Mode, openings: &Openings, now: Now) -> String {
    let mut out = format!("*{}\n:{LEASE} - [0:0]\n", MANGLE.name);
    lease(&mut out, family, mode, openings, now);
    out + "COMMIT\n"
}

/// The rules of all our mangle chains.
pub(super) fn shield(
    shield: &Shield,
    family: Family,
    mode: Mode,
    older: &[Session],
    openings: &Openings,
    now: Now,
) -> String {
    let mut out = String::new();
    let mut rule = |chain: &str, text: &str| {
        let _ = writeln!(out, "-A {chain} {text}");
    };
    rule(CHAIN, "-i lo -j RETURN");
    for (protected, _) in &shield.protected {
        let to = ports("dport", protected);
        rule(CHAIN, &format!("{to} -m addrtype --dst-type LOCAL -g {JUDGE}"));
    }
    if mode == Mode::Sets {
        rule(JUDGE, &format!("-m set --match-set {} src,dst -j DROP", family.cuts()));
    }
    rule(JUDGE, "-m conntrack --ctstate ESTABLISHED -j RETURN");
    rule(JUDGE, &format!("{LATER} -m conntrack --ctstate UNTRACKED -j RETURN"));
    rule(JUDGE, &format!("{LATER} -g {OLDER}"));
    rule(JUDGE, &format!("-g {LEASE}"));
    if mode == Mode::Sets {
        let set = family.older();
        rule(OLDER, &format!("-p tcp -m set --match-set {set} src,src,dst -j RETURN"));
    } else {
        for session in older.iter().filter(|s| family.is(s.from.ip())) {
            let (source, port) = (from(&Prefix::host(session.from.ip())), session.from.port());
            let to = session.to.port();
            rule(OLDER, &format!("{source} -p tcp -m tcp --sport {port} --dport {to} -j RETURN"));
        }
    }
    rule(OLDER, "-j DROP");
    lease(&mut out, family, mode, openings, now);
    out
}

/// The rules of our raw chains.
pub(super) fn untracked(shield: &Shield) -> String {
    let mut out = String::new();
    for port in &shield.listening {
        let _ = writeln!(
            out,
            "-A {CHAIN} -p udp -m udp --dport {port} -m addrtype --dst-type LOCAL -j CT --notrack\n\
             -A {OUT} -p udp -m udp --sport {port} -j CT --notrack"
        );
    }
    out
}

/// How often our jump stands in a built-in chain, and whether it is its first rule, in the
/// listing of `iptables -S`.
fn jump(listing: &str, hook: &str, chain: &str) -> (usize, bool) {
    let head = format!("-A {hook} ");
    let ours = format!("-A {hook} -j {chain}");
    let rules = || listing.lines().map(str::trim_end).filter(|l| l.starts_with(&head));
    (rules().filter(|l| *l == ours).count(), rules().next() == Some(&ours))
}

impl Table {
    /// Whether each jump is there, once and first.
    pub(super) fn hangs(&self, listing: &str) -> bool {
        self.jumps.iter().all(|(hook, chain)| jump(listing, hook, chain) == (1, true))
    }

    /// Whether anything of ours is in the listing.
    pub(super) fn remains(&self, listing: &str) -> bool {
        let ours = |chain: &&str| listing.lines().any(|l| l.trim_end() == format!("-N {chain}"));
        let hung = self.jumps.iter().any(|(hook, chain)| jump(listing, hook, chain).0 > 0);
        hung || self.chains.iter().any(ours)
    }

    /// One commit that makes our part of the table exactly `rules`, with the jumps once and
    /// first.
    pub(super) fn commit(&self, listing: &str, rules: &str) -> String {
        let mut out = format!("*{}\n", self.name);
        for chain in self.chains {
            let _ = writeln!(out, ":{chain} - [0:0]");
        }
        out += rules;
        for (hook, chain) in self.jumps {
            let (count, first) = jump(listing, hook, chain);
            if (count, first) != (1, true) {
                out += &format!("-D {hook} -j {chain}\n").repeat(count);
                let _ = writeln!(out, "-I {hook} 1 -j {chain}");
            }
        }
        out + "COMMIT\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::Element;
    use crate::time::Unix;

    #[test]
    fn a_time_ends_in_the_second_before_the_end_rounded_up() {
        let now = Now { unix: Unix(1_000_000_000_400), mono: Mono(5_000) };
        let stop = |until| span(Mono(until), now).rsplit(' ').next().unwrap().to_string();
        assert_eq!(
            span(Mono(8_000), now),
            "-m time --datestart 2001-09-09T01:46:38 --datestop 2001-09-09T01:46:43"
        );
        // 3.6 s after .400 is the whole second itself.
        assert_eq!(stop(8_600), "2001-09-09T01:46:43");
        assert_eq!(stop(8_601), "2001-09-09T01:46:44");
        assert_eq!(stop(u64::MAX), "2038-01-19T03:14:07");
    }

    #[test]
    fn a_jump_that_is_missing_late_or_doubled_is_put_in_place_once() {
        let jump = "-A PREROUTING -j OPENSESAME\n";
        let other = "-A PREROUTING -j OTHER\n";
        let changes = |listing: &str| -> Vec<String> {
            let text = MANGLE.commit(listing, "");
            let change = |l: &&str| l.starts_with("-D") || l.starts_with("-I");
            text.lines().filter(change).map(str::to_string).collect()
        };
        let (delete, insert) = ("-D PREROUTING -j OPENSESAME", "-I PREROUTING 1 -j OPENSESAME");
        assert_eq!(changes(other), [insert]);
        assert_eq!(changes(&format!("-P PREROUTING ACCEPT\n{jump}{other}")), [""; 0]);
        assert_eq!(changes(&format!("{other}{jump}")), [delete, insert]);
        assert_eq!(changes(&format!("{jump}{other}{jump}")), [delete, delete, insert]);
        assert_eq!(changes("-A PREROUTING -j OPENSESAME-JUDGE\n"), [insert]);
        assert!(MANGLE.hangs(&format!("{jump}{other}")));
        assert!(!MANGLE.hangs(&format!("{other}{jump}")) && !MANGLE.hangs(""));
        assert!(MANGLE.remains("-N OPENSESAME-OLDER\n") && MANGLE.remains(jump));
        assert!(!MANGLE.remains("-N OPENSESAME-MINE\n-A PREROUTING -j OPENSESAME-MINE\n"));
    }

    #[test]
    fn nothing_is_open_when_shut_and_what_has_ended_gets_no_rule() {
        let now = Now { unix: Unix(1_000_000_000_000), mono: Mono(5_000) };
        let element =
            |from: &str| Element { from: from.parse().unwrap(), to: "tcp/80-90".parse().unwrap() };
        let held = |until| Held { until: Mono(until), plain: true };
        let openings = Openings::from([
            (element("192.0.2.1"), held(5_001)),
            (element("192.0.2.2"), held(5_000)),
            (element("2001:db8::/32"), held(9_000)),
        ]);
        let rules = |family, mode| leases(family, mode, &openings, now);
        assert!(!rules(Family::V4, Mode::Shut).contains("RETURN"));
        let v4 = rules(Family::V4, Mode::Rules);
        assert!(v4.contains("-s 192.0.2.1/32 -p tcp -m tcp --dport 80:90 -m time"), "{v4}");
        assert_eq!(v4.matches("RETURN").count(), 1);
        assert!(rules(Family::V6, Mode::Rules).contains("-s 2001:db8::/32 "));
        assert_eq!(rules(Family::V6, Mode::Sets).matches("RETURN").count(), 3);
    }
}
