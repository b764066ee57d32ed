//! Services on other hosts, and what has to be shut for a cut to hold: pure.

use super::rules::{LOCAL, ports};
use super::{Family, Form, Protocol, Shield};
use crate::access::Ports;
use crate::firewall::Forward;

/// The ports of a family that lead on.
pub(super) fn forwards(shield: &Shield, family: Family) -> impl Iterator<Item = &Forward> {
    shield.forwards.iter().filter(move |f| family.is(f.to.ip()))
}

/// The ports that lead on in the other family alone.
pub(super) fn dead_ends(shield: &Shield, family: Family) -> impl Iterator<Item = &Ports> {
    let leads = move |from: &Ports| forwards(shield, family).any(|f| f.from == *from);
    shield.forwards.iter().map(|f| &f.from).filter(move |from| !leads(from))
}

pub(super) fn dead(shield: &Shield) -> &'static str {
    match shield.form {
        Form::Shield if !shield.observe => "DROP",
        Form::Shield | Form::Mark(_) | Form::Chain { .. } => "RETURN",
    }
}

/// Where no socket of this machine ends with a cut: what the other side goes on to send would make
/// a new entry of connection tracking, by which the stranger's answer would be established.
pub(super) fn cuts(shield: &Shield, family: Family) -> impl Iterator<Item = String> {
    let cut = |ports: &Ports| shield.cuts.iter().any(|cut| cut.overlaps(ports));
    let routed = shield.routed.iter().filter(move |r| cut(&r.ports) && family.is(r.at.address()));
    let routed = routed
        .map(|r| format!("-d {}/{} {}", r.at.address(), r.at.length(), ports("dport", &r.ports)));
    let own = shield.protected.iter().map(|(ports, _)| ports);
    let own = own.filter(move |p| p.protocol() == Protocol::Udp && cut(p));
    routed.chain(own.map(|p| format!("{} {LOCAL}", ports("dport", p))))
}

/// Whether a port leads on to another host.
pub(super) fn leads(shield: &Shield, family: Family) -> bool {
    forwards(shield, family).next().is_some()
}
