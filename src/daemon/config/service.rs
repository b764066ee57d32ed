//! `[service.NAME]` and `[firewall]`: what is protected, and where it is.

use super::ConfigError;
use super::model::{Backend, MOST_RANGES, is_name};
use super::raw::{
    RawAssurance, RawFirewall, RawMode, RawOnExpiry, RawPinhole, RawRefuse, RawService,
};
use super::server_file::Config;
use crate::access::{Assurance, OnExpiry, Ports, Prefix, Protocol, Refuse, Service, ServiceId};
use crate::crypto::service_name;
use crate::firewall::{Error, Firewall, Form, Forward, Routed, Shield};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use toml::Spanned;

/// The bit of the packet mark that admits where the file says none: far from those that container
/// networks, tunnels and firewalld use.
const MARK: u32 = 0x4000_0000;

/// Where a service is that is not on this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    /// At these addresses, to which this machine routes.
    Hosts(Vec<Prefix>),
    /// Behind this machine's own port; at most one address of each family.
    Forward(Vec<SocketAddr>),
}

/// `[service.NAME]`.
pub(super) fn services(
    path: &Path,
    text: &str,
    raw: &BTreeMap<Spanned<String>, RawService>,
) -> Result<Vec<Service>, ConfigError> {
    let mut services: Vec<Service> = Vec::new();
    for (name, service) in raw {
        let wrong = |what: String| ConfigError::at(path, text, name.span().start, what);
        if !is_name(name.get_ref()) {
            return Err(wrong("a service's name: letters, digits, . - _ @, at most 64".into()));
        }
        if service.ports.is_empty() || service.ports.len() > MOST_RANGES {
            return Err(wrong(format!("ports: one to {MOST_RANGES} are wanted")));
        }
        let id = ServiceId(service_name(name.get_ref()));
        if let Some(other) = services.iter().find(|s| s.id == id) {
            return Err(wrong(format!(
                "the names `{}` and `{}` are the same in a packet: rename one of them",
                other.name,
                name.get_ref()
            )));
        }
        services.push(Service {
            id,
            name: name.get_ref().clone(),
            ports: service.ports.clone(),
            require: service.require.as_ref().map(|r| match r {
                RawAssurance::Knock => Assurance::Knock,
                RawAssurance::PlainKey => Assurance::PlainKey,
                RawAssurance::TimedKnock => Assurance::TimedKnock,
                RawAssurance::Fwknop => Assurance::Fwknop,
                RawAssurance::Sealed => Assurance::Sealed,
            }),
            on_expiry: match service.on_expiry {
                RawOnExpiry::Keep => OnExpiry::Keep,
                RawOnExpiry::Cut => OnExpiry::Cut,
            },
            while_connected: service.while_connected.as_ref().map(|span| span.get_ref().0),
            refuse: match service.refuse {
                RawRefuse::Drop => Refuse::Drop,
                RawRefuse::Reset => Refuse::Reset,
            },
        });
    }
    Ok(services)
}

/// `hosts` and `forward` of the services.
pub(super) fn places(
    path: &Path,
    text: &str,
    raw: &BTreeMap<Spanned<String>, RawService>,
) -> Result<BTreeMap<ServiceId, Place>, ConfigError> {
    let mut places = BTreeMap::new();
    for (name, service) in raw {
        let (hosts, forward) = (&service.hosts, &service.forward);
        let at = forward.as_ref().map(Spanned::span).or(hosts.as_ref().map(Spanned::span));
        let wrong =
            |what: &str| ConfigError::at(path, text, at.clone().unwrap_or_default().start, what);
        let place = match (hosts, forward) {
            (None, None) => continue,
            (Some(_), Some(_)) => return Err(wrong("`hosts` or `forward`, not both")),
            (Some(hosts), None) => {
                let hosts: Vec<Prefix> = hosts.get_ref().iter().map(|p| p.0).collect();
                if hosts.is_empty() || hosts.len() > MOST_RANGES {
                    return Err(wrong("hosts: one to 32 addresses or networks are wanted"));
                }
                Place::Hosts(hosts)
            }
            (None, Some(forward)) => {
                let to = &forward.get_ref().0;
                let mut families: Vec<bool> = to.iter().map(SocketAddr::is_ipv4).collect();
                families.sort_unstable();
                families.dedup();
                let nowhere = |a: &SocketAddr| Prefix::host(a.ip()).is_unusable();
                if to.iter().any(nowhere) {
                    return Err(wrong("forward: no other host has that address"));
                }
                if to.is_empty() || families.len() != to.len() || to.iter().any(|a| a.port() == 0) {
                    return Err(wrong("forward: one ADDR:PORT, or one of each family"));
                }
                if service.ports.len() != 1 || !service.ports.iter().all(Ports::is_single) {
                    return Err(wrong("forward: the service has to have one port, no range"));
                }
                Place::Forward(to.clone())
            }
        };
        places.insert(ServiceId(service_name(name.get_ref())), place);
    }
    Ok(places)
}

/// An opening says which port and not at which host: a port of a service that is elsewhere belongs
/// to no other service.
pub(super) fn alone(
    services: &[Service],
    places: &BTreeMap<ServiceId, Place>,
) -> Result<(), String> {
    for service in services.iter().filter(|s| places.contains_key(&s.id)) {
        let shares = |p: &Ports| service.ports.iter().any(|own| own.overlaps(p));
        let other = |s: &&Service| s.id != service.id && s.ports.iter().any(shares);
        if let Some(other) = services.iter().find(other) {
            let (one, two) = (&service.name, &other.name);
            return Err(format!(
                "{two} has a port of [service.{one}], which is not on this machine: a lease on one \
                 would open the other; give them different ports"
            ));
        }
    }
    Ok(())
}

/// A cut has to hold: in a pinhole the machine's own rules let what they take for established pass,
/// and only a socket of this machine that is gone ends it.
pub(super) fn cuts_hold(
    form: &Form,
    services: &[Service],
    places: &BTreeMap<ServiceId, Place>,
) -> Result<(), String> {
    let udp = |p: &Ports| p.protocol() == Protocol::Udp;
    let cut = |s: &&Service| s.on_expiry == OnExpiry::Cut;
    let loose = |s: &&Service| places.contains_key(&s.id) || s.ports.iter().any(udp);
    match services.iter().filter(cut).find(loose).filter(|_| *form != Form::Shield) {
        Some(service) => Err(format!(
            "[service.{}]: on-expiry = \"cut\" in a pinhole is for tcp ports of this machine alone",
            service.name
        )),
        None => Ok(()),
    }
}

/// `[firewall]` mode and pinhole.
pub(super) fn form(path: &Path, text: &str, raw: &RawFirewall) -> Result<Form, ConfigError> {
    let at = raw.pinhole.as_ref().map(Spanned::span).unwrap_or_default().start;
    let wrong = |what: &str| Err(ConfigError::at(path, text, at, what));
    let default = RawPinhole::default();
    let pinhole = raw.pinhole.as_ref().map_or(&default, Spanned::get_ref);
    match (&raw.mode, raw.backend) {
        (RawMode::Shield, _) if raw.pinhole.is_some() => {
            return wrong("`pinhole` goes with mode = \"pinhole\"");
        }
        (RawMode::Shield, _) => return Ok(Form::Shield),
        (RawMode::Pinhole, _) => {}
    }
    let (table, chain) = (pinhole.table.clone(), pinhole.chain.clone());
    let word = |w: &str| {
        !w.is_empty()
            && w.len() <= 31
            && !w.starts_with('-')
            && w.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    let families = ["ip", "ip6", "inet"];
    match (pinhole.mark, table, chain) {
        (Some(0), ..) => wrong("mark: at least one bit is wanted"),
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => {
            wrong("pinhole: `mark`, or `table` and `chain`, not both")
        }
        (mark, None, None) => Ok(Form::Mark(mark.unwrap_or(MARK))),
        (None, Some(table), Some(chain)) => {
            let name = match raw.backend {
                Backend::Nftables => table.split_once(' ').filter(|(f, _)| families.contains(f)),
                Backend::Iptables if table != "filter" => {
                    return wrong("pinhole: with iptables, table = \"filter\"");
                }
                Backend::Iptables | Backend::Pf | Backend::DryRun => Some(("", table.as_str())),
            };
            if raw.backend == Backend::Nftables && table == "inet opensesame" {
                return wrong("pinhole: that table is our own, and has no chain of yours");
            }
            match name.is_some_and(|(_, name)| word(name)) && word(&chain) {
                true => Ok(Form::Chain { table, chain }),
                false => {
                    wrong("pinhole: table = \"inet filter\" (ip, ip6 or inet), chain = \"input\"")
                }
            }
        }
        (None, ..) => wrong("pinhole: `table` and `chain` are wanted together"),
    }
}

/// Ranges that overlap become one; if they refuse in different ways, in silence.
fn joined(mut all: Vec<(Ports, Refuse)>) -> Vec<(Ports, Refuse)> {
    all.sort_unstable_by_key(|(p, _)| *p);
    let mut joined: Vec<(Ports, Refuse)> = Vec::new();
    for (ports, refuse) in all {
        match joined.last_mut() {
            Some((last, how)) if last.overlaps(&ports) => {
                let end = last.last().max(ports.last());
                *last = Ports::new(last.protocol(), last.first(), end).unwrap_or(*last);
                if *how != refuse {
                    *how = Refuse::Drop;
                }
            }
            Some(_) | None => joined.push((ports, refuse)),
        }
    }
    joined
}

impl Config {
    /// Whether this backend can do what the services say of connections.
    pub(in crate::daemon) fn needs(&self, firewall: &mut dyn Firewall) -> Result<(), Error> {
        if self.services.iter().any(|s| s.on_expiry == OnExpiry::Cut) {
            firewall.can_cut()?;
        }
        if self.services.iter().any(|s| s.while_connected.is_some()) {
            firewall.can_tell()?;
        }
        Ok(())
    }

    /// What the firewall has to protect: every port of every service, ranges joined so that none
    /// overlap; where two services refuse in different ways, in silence.
    #[must_use]
    pub fn shield(&self) -> Shield {
        let mut all: Vec<(Ports, Refuse)> = Vec::new();
        let (mut routed, mut forwards) = (Vec::new(), Vec::new());
        let cut = |s: &&Service| s.on_expiry == OnExpiry::Cut;
        let mut cuts: Vec<Ports> =
            self.services.iter().filter(cut).flat_map(|s| s.ports.iter().copied()).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for service in &self.services {
            let own = joined(service.ports.iter().map(|p| (*p, service.refuse)).collect());
            let own = own.into_iter();
            match self.places.get(&service.id) {
                None => all.extend(own),
                Some(Place::Forward(to)) => {
                    forwards.extend(
                        own.clone().flat_map(|(from, _)| {
                            to.iter().map(move |to| Forward { from, to: *to })
                        }),
                    );
                    all.extend(own);
                }
                Some(Place::Hosts(hosts)) => routed.extend(own.flat_map(|(ports, refuse)| {
                    hosts.iter().map(move |at| Routed { at: *at, ports, refuse })
                })),
            }
        }
        routed.sort_unstable();
        forwards.sort_unstable();
        let mut listening: Vec<u16> = self.listen.iter().map(|l| l.address.port()).collect();
        listening.sort_unstable();
        listening.dedup();
        Shield {
            protected: joined(all),
            listening,
            routed,
            forwards,
            cuts,
            trusted: self.trust.clone(),
            form: self.form.clone(),
            observe: self.observe,
        }
    }
}
