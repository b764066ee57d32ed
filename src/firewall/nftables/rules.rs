//! The rule set: which chains there are, and what each asks in which order.

use super::super::{Forward, Routed};
use super::expression::{ESTABLISHED, Rule, UNTRACKED};
use super::home::{GUEST, Home};
use super::message::Hook;
use super::sets::{
    BAN4, BAN6, CUT4, CUT6, LEASE4, LEASE6, OLDER4, OLDER6, PORTS, RESETS, ROUTED4, ROUTED6, SEEN4,
    SEEN6, Set, WIDE4, WIDE6,
};
use super::{Field, Form, Shield, statics};
use crate::access::{Ports, Protocol};
use std::ffi::CStr;

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
/// NF_IP_PRI_RAW: before connection tracking.
const RAW: i32 = -300;
/// After connection tracking and mangle, before the destination is translated (-100): the port
/// is still the one that the stranger asked for, also where a container will answer.
const SHIELD: i32 = -110;
/// Where the destination is translated (NF_IP_PRI_NAT_DST).
const TRANSLATION: i32 = -100;
/// How long who would have been dropped is remembered, in milliseconds.
const REMEMBERED: u64 = 60_000;

/// The chain where packets come in, by its name what our rules are: one that drops nothing is not
/// taken for a shield.
pub(super) fn entrance(shield: &Shield) -> &'static CStr {
    match &shield.form {
        Form::Shield if shield.observe => c"observe",
        Form::Shield => c"shield",
        Form::Mark(_) => c"pinhole",
        Form::Chain { .. } => GUEST,
    }
}

/// Our chains and their hooks, in the order in which they can be made.
pub(super) fn chains(shield: &Shield) -> Vec<(&'static CStr, Option<Hook>)> {
    let hook = |number, priority, nat| Some(Hook { number, priority, nat });
    let entrance = (entrance(shield), hook(PREROUTING, SHIELD, false));
    let mut all = match &shield.form {
        Form::Chain { .. } => return vec![(GUEST, None)],
        Form::Mark(_) => vec![(c"judge", None), entrance],
        Form::Shield => vec![
            (c"judge", None),
            (c"untracked", hook(PREROUTING, RAW, false)),
            (c"untracked-out", hook(OUTPUT, RAW, false)),
            entrance,
        ],
    };
    if !shield.forwards.is_empty() {
        all.push((c"forward", hook(PREROUTING, TRANSLATION, true)));
    }
    all
}

fn rule() -> Rule {
    Rule::default()
}

fn among(rule: Rule, set: &Set) -> Rule {
    rule.among(set.fields, set.name)
}

/// The rules for a datagram to one of our own ports that comes in.
fn asking(shield: &Shield) -> impl Iterator<Item = Rule> {
    shield.listening.iter().map(|port| rule().port(Protocol::Udp, Field::To, *port).local())
}

/// All rules, each with its chain, in order.
pub(super) fn rules(shield: &Shield, home: &Home) -> Vec<(&'static CStr, Rule)> {
    let judge = match &shield.form {
        Form::Chain { .. } => return guests(shield, home).map(|rule| (GUEST, rule)).collect(),
        Form::Mark(bits) => mark(shield, *bits),
        Form::Shield if shield.observe => observe(),
        Form::Shield => judge(shield),
    };
    let mut all = Vec::new();
    let entrance = entrance(shield);
    all.push((entrance, rule().loopback().accept()));
    match &shield.form {
        // A mark that came from elsewhere, or went with a packet through a tunnel, admits nobody.
        Form::Mark(bits) => all.push((entrance, rule().mark(*bits, false))),
        Form::Shield | Form::Chain { .. } => {
            let trusted = |name: &String| (entrance, rule().interface(name).accept());
            all.extend(shield.trusted.iter().map(trusted));
        }
    }
    if shield.form == Form::Shield && !shield.observe {
        all.extend(cuts(shield).map(|rule| (entrance, rule.reply().drop())));
    }
    if !shield.routed.is_empty() {
        all.push((entrance, among(rule(), &ROUTED4).goto(c"judge")));
        all.push((entrance, among(rule(), &ROUTED6).goto(c"judge")));
    }
    // A new set of ranges is empty until a moment after the rules that ask it are in force
    // (`nft_set_pipapo.c`, its commit): the ports would be open for that long.
    for Routed { at, ports, .. } in statics::ranges(shield) {
        all.push((entrance, rule().at(at).ports(ports).goto(c"judge")));
    }
    // All else of a router's forwarding is not ours. Broadcast, multicast and anycast reach our
    // sockets too, so it is not enough that the address is not our own.
    all.push((entrance, among(rule(), &PORTS).here().goto(c"judge")));
    for (range, _) in shield.protected.iter().filter(|(ports, _)| !ports.is_single()) {
        all.push((entrance, rule().ports(range).here().goto(c"judge")));
    }
    match &shield.form {
        // The machine's own rules have to let everybody ask, and may look at the state.
        Form::Mark(bits) => {
            all.extend(asking(shield).map(|rule| (entrance, rule.mark(*bits, true))));
        }
        // A flood of forged datagrams to the ports that everybody may send to fills no conntrack
        // table.
        Form::Shield | Form::Chain { .. } => {
            all.extend(asking(shield).map(|rule| (c"untracked", rule.notrack())));
            let from = |port: &u16| rule().port(Protocol::Udp, Field::From, *port).notrack();
            all.extend(shield.listening.iter().map(|port| (c"untracked-out", from(port))));
        }
    }
    for forward in &shield.forwards {
        let leases = if forward.to.is_ipv4() { [LEASE4, WIDE4] } else { [LEASE6, WIDE6] };
        for set in leases {
            // Nobody else gets this far, but where the machine's own rules do the dropping.
            let of = rule().port(forward.from.protocol(), Field::To, forward.from.first()).local();
            all.push((c"forward", among(of, &set).dnat(forward.to)));
        }
    }
    all.extend(judge.into_iter().map(|rule| (c"judge", rule)));
    all
}

/// Where no socket of this machine ends with a cut: what the other side goes on to send would make
/// a new entry of connection tracking, by which the stranger's answer would be established.
fn cuts(shield: &Shield) -> impl Iterator<Item = Rule> {
    let cut = |ports: &Ports| shield.cuts.iter().any(|cut| cut.overlaps(ports));
    let routed = shield.routed.iter().filter(move |r| cut(&r.ports));
    let own = shield.protected.iter().map(|(ports, _)| ports);
    let own = own.filter(move |p| p.protocol() == Protocol::Udp && cut(p));
    let routed = routed.map(|r| rule().at(&r.at).ports(&r.ports));
    routed.chain(own.map(|ports| rule().ports(ports).here()))
}

/// A port leads on in the families that it has an address for; in the other one to nobody, and
/// never to what listens here.
fn dead_ends(shield: &Shield) -> impl Iterator<Item = Rule> {
    let alone = |f: &&Forward| {
        shield.forwards.iter().all(|o| o.from != f.from || o.to.is_ipv4() == f.to.is_ipv4())
    };
    shield.forwards.iter().filter(alone).map(|f| rule().of(!f.to.is_ipv4()).ports(&f.from).here())
}

/// What happens to a packet for a protected port.
fn judge(shield: &Shield) -> Vec<Rule> {
    let mut all = vec![among(rule(), &CUT4).drop(), among(rule(), &CUT6).drop()];
    all.extend(older());
    // A scan with ACK or FIN sees a port that is filtered like any other.
    all.push(rule().within().drop());
    all.extend(dead_ends(shield).map(Rule::drop));
    // Lease before ban: a valid packet always works.
    all.extend(leases().map(Rule::accept));
    all.extend([
        among(rule(), &BAN4).drop(),
        among(rule(), &BAN6).drop(),
        // The /64 of a ban is in the same set as its first address, which nobody has.
        rule().net64(BAN6.name).drop(),
        among(rule().tcp(), &RESETS).reset(),
        among(rule().udp(), &RESETS).unreachable(),
        rule().counter().drop(),
    ]);
    all
}

/// Packets of sessions that go on.
fn older() -> Vec<Rule> {
    vec![
        // `established`, never `related`: a helper's expectation would open protected ports.
        rule().udp().state(ESTABLISHED, "established").accept(),
        // A SYN always needs a lease. Connection tracking counts a SYN to a closed connection's
        // entry as established for as long as it remembers that one: whoever has the same
        // address and port then would come in. Untracked: the machine has `notrack` rules.
        rule().within().state(ESTABLISHED | UNTRACKED, "established,untracked").accept(),
        // Sessions older than the shield. No SYN: what a forgotten entry lets through belongs
        // to no connection, and TCP answers it with a reset.
        among(rule().within(), &OLDER4).accept(),
        among(rule().within(), &OLDER6).accept(),
    ]
}

/// Packets of who holds a lease.
fn leases() -> impl Iterator<Item = Rule> {
    [LEASE4, WIDE4, LEASE6, WIDE6].into_iter().map(|set| among(rule(), &set))
}

/// The same where nothing is dropped: who would have been is remembered.
fn observe() -> Vec<Rule> {
    let mut all = older();
    all.extend(leases().map(Rule::accept));
    all.extend([SEEN4, SEEN6].map(|set| rule().remember(set.fields, set.name, REMEMBERED)));
    all.push(rule().counter().accept());
    all
}

/// The same where the machine's own rules drop what is not marked.
fn mark(shield: &Shield, bits: u32) -> Vec<Rule> {
    let mut all: Vec<Rule> = [CUT4, CUT6].iter().map(|set| among(rule(), set).accept()).collect();
    all.extend(dead_ends(shield).map(Rule::accept));
    all.extend(leases().map(|rule| rule.mark(bits, true).accept()));
    all
}

/// The rules of our chain in a foreign table, which drops itself.
fn guests<'a>(shield: &'a Shield, home: &'a Home) -> impl Iterator<Item = Rule> + 'a {
    let sets = [LEASE4, WIDE4, LEASE6, WIDE6];
    let leases = sets.map(|set| rule().among(set.fields, &home.named(set.name)).here());
    asking(shield).chain(leases).map(Rule::accept)
}

#[cfg(test)]
mod tests {
    use super::super::message::new_rule;
    use super::super::{Error, Failure};
    use super::*;
    use crate::access::Refuse;
    use nix::errno::Errno;

    #[test]
    fn what_a_kernel_lacks_is_named_by_the_expression() {
        let protected = vec![("tcp/80-90".parse().unwrap(), Refuse::Drop)];
        let shield = Shield { protected, listening: vec![1], ..Default::default() };
        let named = [
            ("fib daddr type", 2),
            ("ct state", 2),
            ("tcp dport 80-90", 1),
            ("notrack", 2),
            ("@lease4", 1),
            ("reject with tcp reset", 1),
            ("counter", 1),
        ];
        let all: Vec<String> = rules(&shield, &Home::own())
            .iter()
            .map(|(chain, rule)| new_rule(chain, rule).what)
            .map(|what| Error::from(Failure::Refused(Errno::ENOENT, what)).to_string())
            .collect();
        assert!(all.iter().all(|t| t.starts_with("missing: in this kernel, to add the rule")));
        for (text, least) in named {
            assert!(all.iter().filter(|t| t.contains(text)).count() >= least, "{text}: {all:?}");
        }
        let set = Failure::Refused(Errno::EOPNOTSUPP, "add set wide4".into());
        assert_eq!(Error::from(set), Error::Missing("in this kernel, to add set wide4".into()));
        for errno in [Errno::ENOBUFS, Errno::ENOSPC, Errno::ENOMEM, Errno::EBUSY] {
            let said = Error::from(Failure::Batch(errno));
            assert!(matches!(&said, Error::Busy(t) if t.ends_with("tries again")), "{said}");
        }
    }
}
