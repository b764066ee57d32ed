//! The rule set: which chains there are, and what each asks in which order.

use super::expression::{ESTABLISHED, Rule, UNTRACKED};
use super::message::Hook;
use super::sets::{
    BAN4, BAN6, CUT4, CUT6, LEASE4, LEASE6, OLDER4, OLDER6, PORTS, RESETS, Set, WIDE4, WIDE6,
};
use super::{Field, Shield};
use std::ffi::CStr;

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
/// NF_IP_PRI_RAW: before connection tracking.
const RAW: i32 = -300;
/// After connection tracking and mangle, before the destination is translated (-100): the port
/// is still the one that the stranger asked for, also where a container will answer.
const SHIELD: i32 = -110;

/// Our chains and their hooks, in the order in which they can be made.
pub(super) const CHAINS: [(&CStr, Option<Hook>); 4] = [
    (c"judge", None),
    (c"untracked", Some(Hook { number: PREROUTING, priority: RAW })),
    (c"untracked-out", Some(Hook { number: OUTPUT, priority: RAW })),
    (c"shield", Some(Hook { number: PREROUTING, priority: SHIELD })),
];

fn rule() -> Rule {
    Rule::default()
}

fn among(rule: Rule, set: &Set) -> Rule {
    rule.among(set.fields, set.name)
}

/// All rules, each with its chain, in order.
pub(super) fn rules(shield: &Shield) -> Vec<(&'static CStr, Rule)> {
    let mut all = Vec::new();
    // A flood of forged datagrams to the ports that everybody may send to fills no conntrack table.
    for port in &shield.listening {
        let to = rule().udp_port(Field::To, *port).local().notrack();
        all.push((c"untracked", to));
        all.push((c"untracked-out", rule().udp_port(Field::From, *port).notrack()));
    }
    all.push((c"shield", rule().loopback().accept()));
    all.push((c"shield", among(rule(), &PORTS).goto(c"judge")));
    // A new set of ranges is empty until a moment after the rules that ask it are in force
    // (`nft_set_pipapo.c`, its commit): the ports would be open for that long.
    for (range, _) in shield.protected.iter().filter(|(ports, _)| !ports.is_single()) {
        all.push((c"shield", rule().ports(range).goto(c"judge")));
    }
    all.extend(judge().into_iter().map(|rule| (c"judge", rule)));
    all
}

/// What happens to a packet for a protected port.
fn judge() -> Vec<Rule> {
    vec![
        // A router's own forwarding is not ours. Broadcast, multicast and anycast reach our
        // sockets too, so it is not enough that the address is not our own.
        rule().elsewhere().accept(),
        among(rule(), &CUT4).drop(),
        among(rule(), &CUT6).drop(),
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
        // A scan with ACK or FIN sees a port that is filtered like any other.
        rule().within().drop(),
        // Lease before ban: a valid packet always works.
        among(rule(), &LEASE4).accept(),
        among(rule(), &WIDE4).accept(),
        among(rule(), &LEASE6).accept(),
        among(rule(), &WIDE6).accept(),
        among(rule(), &BAN4).drop(),
        among(rule(), &BAN6).drop(),
        // The /64 of a ban is in the same set as its first address, which nobody has.
        rule().net64(BAN6.name).drop(),
        among(rule().tcp(), &RESETS).reset(),
        among(rule().udp(), &RESETS).unreachable(),
        rule().counter().drop(),
    ]
}
