//! The shield and the leases as input of iptables-restore(8): pure, out of typed values only.
//!
//! What may pass leaves our chains with RETURN and never with ACCEPT, so that the machine's own
//! rules behind ours still decide; but in a pinhole of the form [`Form::Chain`], which is one of
//! them.

use super::elsewhere::{cuts, dead, dead_ends, forwards, leads};
use super::table::{CHAIN, JUDGE, LEASE, OLDER, OUT, Table};
use super::{Family, Held, Openings, Session};
use crate::access::{Ports, Prefix};
use crate::firewall::{Form, Forward, Shield};
use crate::time::{Mono, Now};
use std::fmt::Write;

/// Not the opening packet of a TCP session.
const LATER: &str = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN";

/// That a packet is for this machine.
pub(super) const LOCAL: &str = "-m addrtype --dst-type LOCAL";

/// The last second that xt_time's tools accept: 2038-01-19T03:14:07Z.
const LAST: i64 = i32::MAX as i64;

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

/// All that the rules of a family are made of.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) shield: &'a Shield,
    pub(super) family: Family,
    pub(super) mode: Mode,
    pub(super) older: &'a [Session],
    pub(super) openings: &'a Openings,
    pub(super) now: Now,
}

pub(super) fn ports(which: &str, ports: &Ports) -> String {
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

/// The rule that whoever holds no lease comes to at last, where one is needed to be ours.
fn end(shield: &Shield, family: Family) -> Option<String> {
    match &shield.form {
        Form::Shield if shield.observe => {
            let seen = family.seen();
            Some(format!("-j SET --add-set {seen} src,dst --exist --timeout {SEEN}"))
        }
        Form::Shield => Some("-j DROP".to_string()),
        // It comes first: what a lease holder's packet gets after it stays.
        Form::Mark(bits) => Some(format!("-j MARK --set-xmark 0x0/{bits:#x}")),
        Form::Chain { .. } => None,
    }
}

/// How many seconds an observed packet is remembered.
pub(super) const SEEN: u32 = 60;

/// The table that has the leases.
pub(super) fn main(shield: &Shield, family: Family) -> Table {
    match &shield.form {
        Form::Shield | Form::Mark(_) => Table::mangle(),
        Form::Chain { chain, .. } => {
            // ufw calls its chains so in the other family.
            let other = chain.strip_prefix("ufw-").filter(|_| family == Family::V6);
            Table::filter(&other.map_or(chain.clone(), |rest| format!("ufw6-{rest}")))
        }
    }
}

/// The tables that are to have something of ours.
pub(super) fn tables(shield: &Shield, family: Family) -> Vec<Table> {
    let mut all = vec![main(shield, family)];
    if untracks(shield) {
        all.push(Table::raw());
    }
    if leads(shield, family) {
        all.push(Table::nat());
    }
    all
}

/// Where the machine's own rules decide, they may ask for the state of what comes to the server.
pub(super) fn untracks(shield: &Shield) -> bool {
    shield.form == Form::Shield && !shield.observe
}

/// Whether the listing of our table is that of these rules in force, and not of rules of ours that
/// do something else.
pub(super) fn is_in_force(shield: &Shield, family: Family, listing: &str) -> bool {
    let end = end(shield, family).map(|end| format!("-A {LEASE} {end}"));
    let ends = |end: String| listing.lines().any(|l| l.trim_end() == end);
    main(shield, family).is_asked(listing) && end.is_none_or(ends)
}

impl Rules<'_> {
    /// What matches whoever holds a lease: on these ports, or on any.
    fn holders(&self, on: Option<&Ports>) -> Vec<String> {
        let mut out = Vec::new();
        if self.mode == Mode::Sets {
            let on = on.map_or(String::new(), |on| ports("dport", on) + " ");
            for set in [self.family.hosts(), self.family.nets()] {
                out.push(format!("{on}-m set --match-set {set} src,dst"));
            }
        }
        let due = |held: &Held| match self.mode {
            Mode::Sets => held.plain,
            Mode::Rules => true,
            Mode::Shut => false,
        };
        for (element, held) in self.openings.iter().filter(|(e, _)| self.family.has(e)) {
            let concerns = on.is_none_or(|on| element.to.contains(on));
            if concerns && due(held) && held.until > self.now.mono {
                let (from, to) = (from(&element.from), on.unwrap_or(&element.to));
                let span = span(held.until, self.now);
                out.push(format!("{from} {} {span}", ports("dport", to)));
            }
        }
        out
    }

    fn lease(&self, out: &mut String) {
        let mut rule = |text: &str| {
            let _ = writeln!(out, "-A {LEASE} {text}");
        };
        let (shield, family) = (self.shield, self.family);
        let end = end(shield, family);
        let admit = match &shield.form {
            Form::Shield => "-j RETURN".to_string(),
            Form::Mark(bits) => {
                // A mark that somebody else has set admits nobody.
                end.iter().for_each(|end| rule(end));
                format!("-j MARK --set-xmark {bits:#x}/{bits:#x}")
            }
            Form::Chain { .. } => "-j ACCEPT".to_string(),
        };
        // A port leads on in the families that it has an address for, and never to what listens here.
        for from in dead_ends(shield, family) {
            rule(&format!("{} {LOCAL} -j {}", ports("dport", from), dead(shield)));
        }
        for holder in self.holders(None) {
            rule(&format!("{holder} {admit}"));
        }
        if shield.form != Form::Shield {
            return;
        }
        // A lease wins over a ban.
        if self.mode == Mode::Sets && !shield.observe {
            rule(&format!("-m set --match-set {} src -j DROP", family.bans()));
        }
        self.refuse(LEASE, out);
    }

    /// The end of a chain of the shield. Who observes drops nothing, and needs the sets.
    fn refuse(&self, chain: &str, out: &mut String) {
        let works = !self.shield.observe || self.mode == Mode::Sets;
        if let Some(end) = end(self.shield, self.family).filter(|_| works) {
            let _ = writeln!(out, "-A {chain} {end}");
        }
    }

    /// The leases alone, wherever they are rules: each chain emptied and filled in one commit.
    pub(super) fn leases(&self) -> String {
        let table = main(self.shield, self.family).name;
        let mut out = format!("*{table}\n:{LEASE} - [0:0]\n");
        self.lease(&mut out);
        out += "COMMIT\n";
        if leads(self.shield, self.family) {
            let ahead = self.ahead();
            let _ = write!(out, "*{}\n:{CHAIN} - [0:0]\n{ahead}COMMIT\n", Table::nat().name);
        }
        out
    }

    /// The rules of our nat chain, which asks about the first packet of a flow only.
    pub(super) fn ahead(&self) -> String {
        let mut out = String::new();
        for Forward { from, to } in forwards(self.shield, self.family) {
            for holder in self.holders(Some(from)) {
                let _ = writeln!(out, "-A {CHAIN} {holder} {LOCAL} -j DNAT --to-destination {to}");
            }
        }
        out
    }

    /// The rules of all chains of the table that has the leases.
    pub(super) fn main(&self) -> String {
        let (shield, family) = (self.shield, self.family);
        let mut out = String::new();
        let mut rule = |chain: &str, text: &str| {
            let _ = writeln!(out, "-A {chain} {text}");
        };
        let trusted = shield.trusted.iter().filter(|_| shield.form == Form::Shield);
        for name in ["lo"].into_iter().chain(trusted.map(String::as_str)) {
            rule(CHAIN, &format!("-i {name} -j RETURN"));
        }
        if shield.form == Form::Shield && !shield.observe {
            cuts(shield, family)
                .for_each(|to| rule(CHAIN, &format!("{to} -m conntrack --ctdir REPLY -j DROP")));
        }
        // Everybody may ask: the machine's own rules drop, and need no rule for that.
        let asks = match &shield.form {
            Form::Shield => None,
            Form::Mark(bits) => Some(format!("-j MARK --set-xmark {bits:#x}/{bits:#x}")),
            Form::Chain { .. } => Some("-j ACCEPT".to_string()),
        };
        if let Form::Mark(bits) = &shield.form {
            // A mark that came from elsewhere, or went with a packet through a tunnel.
            rule(CHAIN, &format!("-j MARK --set-xmark 0x0/{bits:#x}"));
        }
        for (port, admit) in shield.listening.iter().filter_map(|p| Some((p, asks.as_ref()?))) {
            rule(CHAIN, &format!("-p udp -m udp --dport {port} {LOCAL} {admit}"));
        }
        let to = if shield.form == Form::Shield { JUDGE } else { LEASE };
        for (protected, _) in &shield.protected {
            rule(CHAIN, &format!("{} {LOCAL} -g {to}", ports("dport", protected)));
        }
        for routed in shield.routed.iter().filter(|r| family.is(r.at.address())) {
            let (at, length) = (routed.at.address(), routed.at.length());
            rule(CHAIN, &format!("-d {at}/{length} {} -g {to}", ports("dport", &routed.ports)));
        }
        if shield.form == Form::Shield {
            if self.mode == Mode::Sets && !shield.observe {
                rule(JUDGE, &format!("-m set --match-set {} src,dst -j DROP", family.cuts()));
            }
            // A SYN counts as established as long as a session with its ends is remembered.
            rule(JUDGE, "-p udp -m conntrack --ctstate ESTABLISHED -j RETURN");
            rule(JUDGE, &format!("{LATER} -m conntrack --ctstate ESTABLISHED,UNTRACKED -j RETURN"));
            rule(JUDGE, &format!("{LATER} -g {OLDER}"));
            rule(JUDGE, &format!("-g {LEASE}"));
            if self.mode == Mode::Sets {
                let set = family.older();
                rule(OLDER, &format!("-p tcp -m set --match-set {set} src,src,dst -j RETURN"));
            } else {
                for s in self.older.iter().filter(|s| family.is(s.from.ip())) {
                    let (source, port) = (from(&Prefix::host(s.from.ip())), s.from.port());
                    let to = s.to.port();
                    let ends = format!("{source} -p tcp -m tcp --sport {port} --dport {to}");
                    rule(OLDER, &format!("{ends} -j RETURN"));
                }
            }
            self.refuse(OLDER, &mut out);
        }
        self.lease(&mut out);
        out
    }
}

/// The rules of our raw chains.
pub(super) fn untracked(shield: &Shield) -> String {
    let mut out = String::new();
    for port in &shield.listening {
        let _ = writeln!(
            out,
            "-A {CHAIN} -p udp -m udp --dport {port} {LOCAL} -j CT --notrack\n\
             -A {OUT} -p udp -m udp --sport {port} -j CT --notrack"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firewall::{Element, Routed};
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

    const NOW: Now = Now { unix: Unix(1_000_000_000_000), mono: Mono(5_000) };

    fn openings() -> Openings {
        let element =
            |from: &str| Element { from: from.parse().unwrap(), to: "tcp/80-90".parse().unwrap() };
        let held = |until| Held { until: Mono(until), plain: true };
        Openings::from([
            (element("192.0.2.1"), held(5_001)),
            (element("192.0.2.2"), held(5_000)),
            (element("2001:db8::/32"), held(9_000)),
        ])
    }

    fn with(shield: &Shield, family: Family, mode: Mode, ask: fn(&Rules<'_>) -> String) -> String {
        let openings = openings();
        ask(&Rules { shield, family, mode, older: &[], openings: &openings, now: NOW })
    }

    #[test]
    fn nothing_is_open_when_shut_and_what_has_ended_gets_no_rule() {
        let rules = |family, mode| with(&Shield::default(), family, mode, |r| r.leases());
        assert!(!rules(Family::V4, Mode::Shut).contains("RETURN"));
        let v4 = rules(Family::V4, Mode::Rules);
        assert!(v4.contains("-s 192.0.2.1/32 -p tcp -m tcp --dport 80:90 -m time"), "{v4}");
        assert_eq!(v4.matches("RETURN").count(), 1);
        assert!(rules(Family::V6, Mode::Rules).contains("-s 2001:db8::/32 "));
        assert_eq!(rules(Family::V6, Mode::Sets).matches("RETURN").count(), 3);
    }

    #[test]
    fn a_port_leads_on_for_lease_holders_of_its_family_only() {
        let to = ["10.0.0.5:22", "[fd00::5]:22"].map(|to| to.parse().unwrap());
        let from = "tcp/85".parse().unwrap();
        let shield =
            Shield { forwards: to.map(|to| Forward { from, to }).to_vec(), ..Shield::default() };
        let ahead = |family, mode| with(&shield, family, mode, |r| r.ahead());
        let timed = ahead(Family::V4, Mode::Rules);
        assert_eq!(timed.lines().count(), 1, "{timed}");
        assert!(
            timed.starts_with("-A OPENSESAME -s 192.0.2.1/32 -p tcp -m tcp --dport 85 -m time")
        );
        assert!(timed.ends_with("--dst-type LOCAL -j DNAT --to-destination 10.0.0.5:22\n"));
        let v6 = ahead(Family::V6, Mode::Sets);
        assert_eq!(v6.matches("--match-set opensesame6").count(), 2, "{v6}");
        assert_eq!(v6.matches("--to-destination [fd00::5]:22").count(), 3);
        assert_eq!(ahead(Family::V6, Mode::Shut), "");
    }

    #[test]
    fn only_a_shield_drops() {
        let at = "2001:db8:5::/64".parse().unwrap();
        let ports: Ports = "tcp/22".parse().unwrap();
        let plain = Shield {
            protected: vec![(ports, Default::default())],
            routed: vec![Routed { at, ports, refuse: Default::default() }],
            trusted: vec!["lan0".to_string()],
            ..Shield::default()
        };
        let chain = |chain: &str| Form::Chain { table: "filter".into(), chain: chain.into() };
        let others = [
            Shield { observe: true, ..plain.clone() },
            Shield { form: Form::Mark(0x40), ..plain.clone() },
            Shield { form: chain("ufw-user-input"), ..plain.clone() },
        ];
        for mode in [Mode::Sets, Mode::Rules, Mode::Shut] {
            let main = |shield: &Shield, family| with(shield, family, mode, |r| r.main());
            assert!(main(&plain, Family::V4).ends_with("-A OPENSESAME-LEASE -j DROP\n"));
            for (n, shield) in others.iter().enumerate() {
                for family in [Family::V4, Family::V6] {
                    let text = main(shield, family);
                    let trusts = text.contains("-i lan0 -j RETURN");
                    assert!(!text.contains("DROP") && trusts == (n == 0), "{text}");
                    assert_eq!(text.contains("-d 2001:db8:5::/64"), family == Family::V6);
                    assert_eq!(text.contains("ACCEPT"), n == 2 && mode != Mode::Shut, "{text}");
                    let listing = format!("-A PREROUTING -j OPENSESAME\n{text}");
                    assert!(!is_in_force(&plain, family, &listing), "{text}");
                }
            }
        }
        let name = |family| main(&others[2], family).commit("", "");
        assert!(name(Family::V4).contains("-I ufw-user-input 1 -j OPENSESAME\n"));
        assert!(name(Family::V6).contains("-I ufw6-user-input 1 -j OPENSESAME\n"));
        let marks = with(&others[1], Family::V4, Mode::Rules, |r| r.leases());
        let lines: Vec<&str> = marks.lines().filter(|l| l.contains("MARK")).collect();
        assert!(lines[0].ends_with("LEASE -j MARK --set-xmark 0x0/0x40"), "{marks}");
        assert!(lines[1].ends_with("-j MARK --set-xmark 0x40/0x40"), "{marks}");
    }
}
