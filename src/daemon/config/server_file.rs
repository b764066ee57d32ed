//! `server.toml`.

use super::ConfigError;
use super::gate::{self, Gate};
use super::legacy::{self, Legacy};
use super::model::{
    Backend, MOST_ALL, MOST_RANGES, MOST_SERVICES, PolicyDefaults, Server, is_name,
};
use super::raw::{Raw, RawAssurance, RawListen, RawListenMode, RawOnExpiry, RawRefuse, RawService};
use crate::access::{Assurance, OnExpiry, Ports, Protocol, Refuse, Service, ServiceId};
use crate::crypto::service_name;
use crate::engine::{Mode, Window};
use crate::firewall::Shield;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// The whole of `server.toml`, checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// `[server]`.
    pub server: Server,
    /// `[firewall]`.
    pub backend: Backend,
    /// `[[listen]]`: the UDP addresses, and what each takes.
    pub listen: Vec<Listen>,
    /// `[service.NAME]`.
    pub services: Vec<Service>,
    /// `[policy]`.
    pub policy: PolicyDefaults,
    /// `[plain]`.
    pub legacy: Vec<Legacy>,
    /// `[http-gate]`.
    pub gate: Option<Gate>,
}

/// One of `[[listen]]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// What it takes.
    pub mode: Mode,
}

/// The port of the plain mode where none is said.
const PLAIN_PORT: u16 = 12_345;

fn listen(raw: &RawListen) -> Result<Listen, String> {
    let text = raw.udp.get_ref();
    let (mode, default) = match raw.mode {
        RawListenMode::Spa => (Mode::Spa, None),
        RawListenMode::Plain => (Mode::Plain, Some(PLAIN_PORT)),
    };
    let alone = || Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, default?));
    let address = text.parse().ok().or_else(alone);
    let address = address.ok_or_else(|| format!("`{text}` is no ADDR:PORT"))?;
    match address.port() {
        0 => Err("port 0 is no port".into()),
        _ => Ok(Listen { address, mode }),
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// What is wrong, with line and column where the file says it.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigError::new(path, e))?;
        Config::parse(path, &text)
    }

    /// Checks the text of such a file.
    ///
    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
        let raw: Raw = toml::from_str(text).map_err(|e| ConfigError::of_toml(path, text, &e))?;
        let wrong = |what: String| ConfigError::new(path, what);
        if raw.listen.is_empty() || raw.listen.len() > 16 {
            return Err(wrong("[[listen]]: one to 16 of them are wanted".into()));
        }
        if raw.service.len() > MOST_ALL || raw.service.is_empty() && raw.plain.is_none() {
            return Err(wrong(format!("[service.NAME]: one to {MOST_ALL} are wanted")));
        }
        let mut services = services(path, text, &raw.service)?;
        let legacy = legacy::read(path, text, &raw, &mut services)?;
        let listen = listeners(path, text, &raw, &services)?;
        if legacy.is_empty() && listen.iter().any(|l| l.mode == Mode::Plain) {
            return Err(wrong("a listener has mode \"plain\", and there is no [plain]".into()));
        }
        let state = raw.server.state_dir.get_ref();
        let gate = raw.http_gate.as_ref().map(|g| gate::read(path, text, g, state)).transpose()?;
        let p = raw.policy;
        for name in p.services.get_ref() {
            if !services.iter().any(|s| s.name == *name.get_ref()) {
                let what = format!("no [service.{}] in this file", name.get_ref());
                return Err(ConfigError::at(path, text, name.span().start, what));
            }
        }
        let (ttl, max_ttl) = (p.ttl.get_ref().0, p.max_ttl.get_ref().0);
        let (age, future) = (p.max_age.get_ref().0, p.max_future.get_ref().0);
        let (v4, v6) = (*p.max_prefix_v4.get_ref(), *p.max_prefix_v6.get_ref());
        let (state, control) = (&raw.server.state_dir, &raw.server.control);
        let checks = [
            (
                ttl <= max_ttl,
                p.ttl.span().start.max(p.max_ttl.span().start),
                "ttl is longer than max-ttl",
            ),
            (
                *p.max_leases.get_ref() > 0,
                p.max_leases.span().start,
                "max-leases = 0 would never let anybody in",
            ),
            ((8..=32).contains(&v4), p.max_prefix_v4.span().start, "8 to 32 is possible"),
            ((32..=128).contains(&v6), p.max_prefix_v6.span().start, "32 to 128 is possible"),
            (p.services.get_ref().len() <= MOST_SERVICES, p.services.span().start, "at most 24"),
            (age <= 3_600, p.max_age.span().start, "at most 1h"),
            (future <= 3_600, p.max_future.span().start, "at most 1h"),
            (
                state.get_ref().is_absolute(),
                state.span().start,
                "state-dir: an absolute path is wanted",
            ),
            (
                control.get_ref().is_absolute(),
                control.span().start,
                "control: an absolute path is wanted",
            ),
        ];
        if let Some((_, at, what)) = checks.iter().find(|(good, ..)| !good) {
            return Err(ConfigError::at(path, text, *at, what));
        }
        Ok(Config {
            path: path.to_path_buf(),
            server: Server {
                state_dir: raw.server.state_dir.into_inner(),
                control: raw.server.control.into_inner(),
                user: raw.server.user,
                public: raw.server.public,
                allow_test_keys: raw.server.allow_test_keys,
            },
            backend: raw.firewall.backend,
            listen,
            legacy,
            gate,
            services,
            policy: PolicyDefaults {
                services: p.services.into_inner().into_iter().map(Spanned::into_inner).collect(),
                ttl,
                max_ttl,
                max_leases: p.max_leases.into_inner(),
                max_prefix_v4: v4,
                max_prefix_v6: v6,
                source_address: p.source_address,
                window: Window { past: u64::from(age) * 1_000, future: u64::from(future) * 1_000 },
            },
        })
    }

    /// A port where the server listens and a service that would keep all packets from it.
    #[must_use]
    pub fn shut_out(&self) -> Option<(u16, &str)> {
        let ports = self.listen.iter().map(|l| l.address.port());
        ports.filter_map(|p| shut_out(&self.services, p).map(|name| (p, name))).next()
    }

    /// The directory of the file.
    #[must_use]
    pub fn dir(&self) -> PathBuf {
        self.path.parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Where the clients' files are.
    #[must_use]
    pub fn clients_dir(&self) -> PathBuf {
        self.dir().join("clients")
    }

    /// Where the server's keys are.
    #[must_use]
    pub fn key_path(&self) -> PathBuf {
        self.dir().join("server.key")
    }

    /// What the firewall has to protect: every port of every service, ranges joined so that none
    /// overlap; where two services refuse in different ways, in silence.
    #[must_use]
    pub fn shield(&self) -> Shield {
        let mut all: Vec<(Ports, Refuse)> =
            self.services.iter().flat_map(|s| s.ports.iter().map(|p| (*p, s.refuse))).collect();
        all.sort_unstable_by_key(|(p, _)| *p);
        let mut protected: Vec<(Ports, Refuse)> = Vec::new();
        for (ports, refuse) in all {
            match protected.last_mut() {
                Some((last, how)) if last.overlaps(&ports) => {
                    let end = last.last().max(ports.last());
                    *last = Ports::new(last.protocol(), last.first(), end).unwrap_or(*last);
                    if *how != refuse {
                        *how = Refuse::Drop;
                    }
                }
                Some(_) | None => protected.push((ports, refuse)),
            }
        }
        let mut listening: Vec<u16> = self.listen.iter().map(|l| l.address.port()).collect();
        listening.sort_unstable();
        listening.dedup();
        Shield { protected, listening }
    }
}

/// The listeners, none on a port that is shut.
fn listeners(
    path: &Path,
    text: &str,
    raw: &Raw,
    services: &[Service],
) -> Result<Vec<Listen>, ConfigError> {
    let one = |raw: &RawListen| {
        let wrong = |what| ConfigError::at(path, text, raw.udp.span().start, what);
        let listen = listen(raw).map_err(wrong)?;
        let port = listen.address.port();
        match shut_out(services, port) {
            None => Ok(listen),
            Some(name) => Err(wrong(format!(
                "[service.{name}] protects udp/{port}, so that no packet would come in: listen on another port",
            ))),
        }
    };
    raw.listen.iter().map(one).collect()
}

/// The service that protects that UDP port.
fn shut_out(services: &[Service], port: u16) -> Option<&str> {
    let own = Ports::new(Protocol::Udp, port, port)?;
    let shut = |s: &&Service| s.ports.iter().any(|p| p.contains(&own));
    services.iter().find(shut).map(|s| s.name.as_str())
}

fn services(
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
        let RawOnExpiry::Keep = service.on_expiry;
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
            on_expiry: OnExpiry::Keep,
            refuse: match service.refuse {
                RawRefuse::Drop => Refuse::Drop,
                RawRefuse::Reset => Refuse::Reset,
            },
        });
    }
    Ok(services)
}
