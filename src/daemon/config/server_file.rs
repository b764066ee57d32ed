//! `server.toml`.

use super::ConfigError;
use super::capture::{self, Capturing};
use super::gate::{self, Gate};
use super::hook::{self, Hooks};
use super::knock;
use super::legacy::{self, How, Legacy};
use super::model::{Backend, MOST_ALL, MOST_SERVICES, PolicyDefaults, Server};
use super::raw::{Raw, RawListen, RawListenMode};
use super::service::{self, Place};
use crate::access::{Ports, Protocol, Service, ServiceId};
use crate::engine::{Mode, Window};
use crate::firewall::Form;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
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
    /// `[firewall]` mode and pinhole.
    pub form: Form,
    /// `[firewall]` trust: interfaces.
    pub trust: Vec<String>,
    /// Nothing is dropped: said on the command line, never in the file.
    pub observe: bool,
    /// `[[listen]]`: the UDP addresses, and what each takes.
    pub listen: Vec<Listen>,
    /// `[[listen]]`: what is captured.
    pub captures: Vec<Capturing>,
    /// `[service.NAME]`.
    pub services: Vec<Service>,
    /// Where those services are that are not on this machine.
    pub places: BTreeMap<ServiceId, Place>,
    /// `[policy]`.
    pub policy: PolicyDefaults,
    /// `[plain]`.
    pub legacy: Vec<Legacy>,
    /// `[http-gate]`.
    pub gate: Option<Gate>,
    /// `on-open` and `on-close` of the services, and `[hook]`.
    pub hooks: Hooks,
}

/// One of `[[listen]]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listen {
    /// Where.
    pub address: SocketAddr,
    /// What it takes.
    pub mode: Mode,
}

impl Listen {
    /// Whether packets of that family come to it: an IPv6 wildcard takes IPv4 as well.
    #[must_use]
    pub fn takes(&self, six: bool) -> bool {
        self.address.is_ipv6() == six || !six && self.address.ip().is_unspecified()
    }
}

/// The most sockets that are bound: one frame hands them all down.
pub const MOST_LISTENERS: usize = 32;
/// The port of the plain mode where none is said.
pub const PLAIN_PORT: u16 = 12_345;

/// A listener's mode, and its port where none is said.
fn mode(raw: &RawListen) -> (Mode, Option<u16>) {
    match raw.mode {
        RawListenMode::Spa => (Mode::Spa, None),
        RawListenMode::Plain => (Mode::Plain, Some(PLAIN_PORT)),
        RawListenMode::Knock => (Mode::Knock, None),
    }
}

fn listen(text: &str, (mode, default): (Mode, Option<u16>)) -> Result<Listen, String> {
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
        if raw.listen.is_empty() && raw.knock.0.is_empty() || raw.listen.len() > 16 {
            return Err(wrong("[[listen]]: one to 16 of them are wanted".into()));
        }
        if raw.service.len() > MOST_ALL
            || raw.service.is_empty() && raw.plain.is_none() && raw.knock.0.is_empty()
        {
            return Err(wrong(format!("[service.NAME]: one to {MOST_ALL} are wanted")));
        }
        let mut services = service::services(path, text, &raw.service)?;
        let places = service::places(path, text, &raw.service)?;
        let form = service::form(path, text, &raw.firewall)?;
        let mut legacy = legacy::read(path, text, &raw, &mut services)?;
        legacy.extend(knock::read(path, text, &raw.knock, &mut services)?);
        service::alone(&services, &places).map_err(wrong)?;
        service::cuts_hold(&form, &services, &places).map_err(wrong)?;
        let (listen, captures) = listeners(path, text, &raw, &services, &knock::steps(&legacy))?;
        let plain = |raw: &Spanned<RawListen>| mode(raw.get_ref()).0 == Mode::Plain;
        let has = |l: &Legacy| matches!(l.how, How::Plain(_));
        if !legacy.iter().any(has) && raw.listen.iter().any(plain) {
            return Err(wrong("a listener has mode \"plain\", and there is no [plain]".into()));
        }
        let state = raw.server.state_dir.get_ref();
        let gate = raw.http_gate.as_ref().map(|g| gate::read(path, text, g, state)).transpose()?;
        let hooks = hook::read(path, text, raw.hook, &raw.service)?;
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
        let timed = knock::is_timed(&legacy);
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
            (!timed || age >= 30, p.max_age.span().start, "timed knocks take at least 30s"),
            (!timed || future >= 30, p.max_future.span().start, "timed knocks take at least 30s"),
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
            form,
            trust: raw.firewall.trust.into_iter().map(|i| i.0).collect(),
            observe: false,
            listen,
            captures,
            legacy,
            gate,
            hooks,
            services,
            places,
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

    /// A port where a knock would come and nobody listens, if so.
    #[must_use]
    pub fn unheard(&self) -> Option<Ports> {
        let bound = self.listen.iter().filter(|l| l.mode == Mode::Knock);
        let bound =
            bound.filter_map(|l| Ports::new(Protocol::Udp, l.address.port(), l.address.port()));
        let captured = self.captures.iter().filter(|c| c.mode == Mode::Knock);
        let captured = captured.flat_map(|c| c.ports.iter().copied());
        knock::unheard(&self.legacy, &bound.chain(captured).collect::<Vec<_>>())
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
}

/// The listeners, none bound to a port that is shut; a capture sees its packets before the shield.
fn listeners(
    path: &Path,
    text: &str,
    raw: &Raw,
    services: &[Service],
    steps: &[Ports],
) -> Result<(Vec<Listen>, Vec<Capturing>), ConfigError> {
    let (mut bound, mut captures) = (Vec::new(), Vec::new());
    for spanned in &raw.listen {
        let raw = spanned.get_ref();
        let wrong = |at: usize, what: String| ConfigError::at(path, text, at, what);
        match (&raw.udp, &raw.capture, &raw.port) {
            (Some(_), Some(capture), _) => {
                let what = "`udp` or `capture`, not both: use two [[listen]]";
                return Err(wrong(capture.span().start, what.into()));
            }
            (Some(_), None, Some(port)) => {
                let what = "`port` belongs to `capture`; with `udp` the port stands in the address";
                return Err(wrong(port.span().start, what.into()));
            }
            (None, None, _) => {
                return Err(wrong(spanned.span().start, "`udp` or `capture` is wanted".into()));
            }
            (Some(udp), None, None) if matches!(raw.mode, RawListenMode::Knock) => {
                let what = "knocks come to the ports of their sequences: leave this listener out, or `capture`";
                return Err(wrong(udp.span().start, what.into()));
            }
            (Some(udp), None, None) => {
                let at = udp.span().start;
                let listen = listen(udp.get_ref(), mode(raw)).map_err(|what| wrong(at, what))?;
                let port = listen.address.port();
                if let Some(name) = shut_out(services, port) {
                    return Err(wrong(
                        at,
                        format!(
                            "[service.{name}] protects udp/{port}, so that no packet would come in: listen on another port",
                        ),
                    ));
                }
                if bound.len() == MOST_LISTENERS {
                    return Err(wrong(at, format!("at most {MOST_LISTENERS} sockets are bound")));
                }
                bound.push(listen);
            }
            (None, Some(place), _) => {
                let (mode, port) = mode(raw);
                let capturing = capture::capturing(raw, place.get_ref(), mode, port, steps);
                let one = capturing.map_err(|(at, what)| wrong(at, what))?;
                captures.push((one, place.span().start));
            }
        }
    }
    let captured = captures.iter().any(|(c, _)| c.mode == Mode::Knock);
    if let Some(first) = raw.knock.0.first().filter(|_| !captured) {
        let at = first.opens.span().start;
        bind_knocks(steps, services, &mut bound)
            .map_err(|what| ConfigError::at(path, text, at, what))?;
    }
    let mut sound: Vec<Capturing> = Vec::new();
    for (one, at) in captures {
        if let Some(what) = capture::conflict(&one, &sound, &bound) {
            return Err(ConfigError::at(path, text, at, what));
        }
        sound.push(one);
    }
    Ok((bound, sound))
}

/// One socket for each step, of both families where there are both.
fn bind_knocks(
    steps: &[Ports],
    services: &[Service],
    bound: &mut Vec<Listen>,
) -> Result<(), String> {
    if let Some(what) = knock::unbound(steps) {
        return Err(what);
    }
    for step in steps {
        let port = step.first();
        if let Some(name) = shut_out(services, port) {
            return Err(format!("{name} protects udp/{port}, where a knock would not come in"));
        }
        if bound.iter().any(|l| l.address.port() == port) {
            return Err(format!("another listener has udp/{port}, where a knock would come"));
        }
        bound.push(Listen { address: (Ipv6Addr::UNSPECIFIED, port).into(), mode: Mode::Knock });
    }
    match bound.len() {
        0..=MOST_LISTENERS => Ok(()),
        more => Err(format!("{more} sockets would be bound: at most {MOST_LISTENERS}, or capture")),
    }
}

/// The service that protects that UDP port.
fn shut_out(services: &[Service], port: u16) -> Option<&str> {
    let own = Ports::new(Protocol::Udp, port, port)?;
    let shut = |s: &&Service| s.ports.iter().any(|p| p.contains(&own));
    services.iter().find(shut).map(|s| s.name.as_str())
}
