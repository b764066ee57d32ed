//! `doctor`: what is wrong with this machine's set-up, and the mend for each. It changes nothing.

#[cfg(target_os = "linux")]
mod own_rules;

use super::config::{Config, Listen, Place};
use super::control::{Order, ask};
use super::last_good;
use super::system::{backend, keys, own_addresses};
use crate::access::{Ports, Protocol};
use crate::engine::Mode;
use nix::unistd::User;
use serde_json::Value;
use std::path::Path;

/// How it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// As it should be.
    Well,
    /// Possibly meant so.
    Look,
    /// It does not work, or a port is open that should not be.
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub what: &'static str,
    /// How it is.
    pub health: Health,
    /// What was seen.
    pub seen: String,
    /// What to do, if anything.
    pub mend: Option<String>,
}

fn well(what: &'static str, seen: impl Into<String>) -> Finding {
    Finding { what, health: Health::Well, seen: seen.into(), mend: None }
}

fn look(what: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, health: Health::Look, seen: seen.into(), mend: Some(mend.into()) }
}

fn wrong(what: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { what, health: Health::Wrong, seen: seen.into(), mend: Some(mend.into()) }
}

/// Looks at everything that can be looked at.
#[must_use]
pub fn examine(path: &Path) -> Vec<Finding> {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(why) => {
            let mend = "mend that line: until then the server does not start, and a reload changes nothing";
            return vec![wrong("server.toml", why.to_string(), mend)];
        }
    };
    let mut all = vec![well("server.toml", path.display().to_string())];
    all.extend(files(&config));
    all.push(user(&config));
    all.extend(hooks(&config));
    all.extend(firewall(&config));
    all.push(server(&config));
    all.push(clock());
    all.extend(boot(&config));
    all.extend(listeners(&config));
    all.extend(families(&config));
    #[cfg(target_os = "linux")]
    all.extend(own_rules::own_rules(&config));
    all.extend(forwarding(&config));
    all
}

fn files(config: &Config) -> Vec<Finding> {
    let (_, clients) = match keys(config) {
        Ok(both) => both,
        Err(why) => {
            return vec![wrong("keys", why.to_string(), "mend that file; `init` makes new keys")];
        }
    };
    let mut all: Vec<Finding> = clients
        .faulty
        .iter()
        .map(|(_, why)| wrong("client", why.to_string(), "mend it, or `invite NAME --again`"))
        .collect();
    let legacy = !config.legacy.is_empty();
    all.push(match clients.sound.len() {
        0 if !legacy => wrong("clients", "nobody can come in", "`opensesame-spa invite NAME`"),
        n => well("clients", format!("{n} of them")),
    });
    all
}

fn user(config: &Config) -> Finding {
    let name = &config.server.user;
    match User::from_name(name).ok().flatten() {
        Some(user) if user.uid.is_root() => {
            wrong("user", format!("`{name}` is root"), "name a user without rights in [server]")
        }
        Some(_) => well("user", name.clone()),
        None => look(
            "user",
            format!("no user `{name}`: [engine] becomes `nobody`, which others may share"),
            format!("useradd --system --home-dir / --shell /usr/sbin/nologin {name}"),
        ),
    }
}

fn hooks(config: &Config) -> Vec<Finding> {
    let mend = "give it, and every directory above it, to root alone, and make it executable";
    let mut all: Vec<Finding> =
        config.hooks.faults().into_iter().map(|why| wrong("hooks", why, mend)).collect();
    let name = &config.hooks.user;
    let some = !config.hooks.commands.is_empty();
    if some && User::from_name(name).ok().flatten().is_none_or(|user| user.uid.is_root()) {
        all.push(look(
            "hooks",
            format!("`{name}` is no user without rights: they run as `nobody`"),
            format!("useradd --system --home-dir / --shell /usr/sbin/nologin {name}"),
        ));
    }
    all
}

fn firewall(config: &Config) -> Vec<Finding> {
    let mut firewall = match backend(config.backend, &config.shield()) {
        Ok(firewall) => firewall,
        Err(why) => {
            return vec![wrong(
                "firewall",
                why.to_string(),
                "run this as root; else choose another backend",
            )];
        }
    };
    let shield = match firewall.stands() {
        Ok(true) => well("shield", "our rules are in the kernel"),
        Ok(false) => wrong(
            "shield",
            "no rule of ours: the protected ports are as the machine has them",
            "opensesame-spa serve --shield-only, and start the server",
        ),
        Err(why) => wrong("shield", why.to_string(), "see what the firewall says"),
    };
    vec![well("firewall", firewall.describe()), shield]
}

fn server(config: &Config) -> Finding {
    let status = match ask(&config.server.control, &Order::Status) {
        Ok(status) => status,
        Err(why) => {
            let seen = format!("nobody answers at {}: {why}", config.server.control.display());
            return wrong(
                "server",
                seen,
                "systemctl start opensesame-spa, or `opensesame-spa serve`",
            );
        }
    };
    let yes = |key: &str| status.get(key).and_then(Value::as_bool).unwrap_or(false);
    match (yes("ready"), yes("healthy")) {
        (true, true) => well("server", "ready"),
        (true, false) => wrong("server", "the firewall is not in step", "see the server's log"),
        (false, _) => {
            wrong("server", "[engine] is not running: nothing opens", "see the server's log")
        }
    }
}

/// A packet is dated: a clock that is wrong refuses all of them.
fn clock() -> Finding {
    match crate::sys::clock_is_set() {
        Some(true) => well("clock", "set by a time service"),
        Some(false) => look(
            "clock",
            "no time service has set it since the start of the machine",
            "timedatectl set-ntp true, or install chrony",
        ),
        None => look(
            "clock",
            "this system does not say whether it was set",
            "compare it with another one",
        ),
    }
}

fn boot(config: &Config) -> Vec<Finding> {
    let mut all = Vec::new();
    let kept = last_good::place(&config.server.state_dir);
    all.push(match kept.exists() {
        true => well("last shield", kept.display().to_string()),
        false => look(
            "last shield",
            "none is kept: with a broken server.toml at boot the ports would be open",
            "start the server once with this one",
        ),
    });
    if Path::new("/run/systemd/system").exists() {
        let unit = "opensesame-spa-shield.service";
        let wants = Path::new("/etc/systemd/system/multi-user.target.wants").join(unit);
        all.push(match wants.symlink_metadata().is_ok() {
            true => well("boot", format!("{unit} is enabled")),
            false => wrong(
                "boot",
                format!("{unit} is not enabled: until the server runs, the ports are open"),
                "systemctl enable opensesame-spa-shield opensesame-spa",
            ),
        });
    }
    all
}

/// Behind which protected TCP ports nobody listens, as the kernel says.
fn listeners(config: &Config) -> Vec<Finding> {
    let read = |name: &str| std::fs::read_to_string(name).unwrap_or_default();
    let tables = read("/proc/net/tcp") + &read("/proc/net/tcp6");
    let open: Vec<Ports> = tables.lines().filter_map(listening).collect();
    if tables.is_empty() {
        return Vec::new();
    }
    let empty = |ports: &&Ports| {
        ports.protocol() == Protocol::Tcp && !open.iter().any(|o| ports.contains(o))
    };
    let here = config.services.iter().filter(|s| !config.places.contains_key(&s.id));
    let of = here.map(|s| (s, s.ports.iter().filter(empty)));
    of.flat_map(|(s, ports)| ports.map(move |p| (s, p)))
        .map(|(service, ports)| {
            let seen = format!("nobody listens on {ports} here");
            look("service", seen, format!("start what [service.{}] protects", service.name))
        })
        .collect()
}

/// A line of /proc/net/tcp (proc(5)): the port of a socket that listens.
fn listening(line: &str) -> Option<Ports> {
    let mut words = line.split_whitespace().skip(1);
    let (own, state) = (words.next()?, words.nth(1)?);
    let port = u16::from_str_radix(own.rsplit_once(':')?.1, 16).ok()?;
    // TCP_LISTEN.
    (state == "0A").then(|| Ports::new(Protocol::Tcp, port, port)).flatten()
}

/// Clients come over both families where this machine has both.
fn families(config: &Config) -> Option<Finding> {
    let takes = |l: &&Listen| l.mode == Mode::Spa;
    let mut spa = config.listen.iter().filter(takes).peekable();
    spa.peek()?;
    let six = spa.clone().any(|l| l.takes(true));
    let four = spa.any(|l| l.takes(false));
    let missing = match (has(true) && !six, has(false) && !four) {
        (true, _) => "IPv6",
        (_, true) => "IPv4",
        (false, false) => {
            return Some(well("families", "packets are taken over all that there are"));
        }
    };
    let seen = format!("this machine has {missing}, and no listener takes packets over it");
    Some(look("families", seen, "[[listen]] udp = \"[::]:PORT\" takes both"))
}

/// Whether this machine has an address of that family that others can reach.
fn has(six: bool) -> bool {
    let public = |a: &std::net::IpAddr| !crate::access::Prefix::host(*a).is_unusable();
    own_addresses().iter().any(|a| a.is_ipv6() == six && public(a))
}

/// A service on another host is reached only through a machine that passes packets on.
fn forwarding(config: &Config) -> Vec<Finding> {
    let needs = |six: bool| {
        let there = |place: &Place| match place {
            Place::Hosts(hosts) => hosts.iter().any(|p| p.address().is_ipv6() == six),
            Place::Forward(to) => to.iter().any(|a| a.is_ipv6() == six),
        };
        config.services.iter().find(|s| config.places.get(&s.id).is_some_and(there))
    };
    let one = |(six, name, key): (bool, &str, &str)| {
        let service = &needs(six)?.name;
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let off = std::fs::read_to_string(path).ok()?.trim() == "0";
        Some(match off {
            false => well("forwarding", format!("{name} is passed on")),
            true => wrong(
                "forwarding",
                format!("[service.{service}] is on another host, and {name} is not passed on here"),
                format!(
                    "sysctl -w {key}=1, and the line `{key} = 1` in /etc/sysctl.d/90-forward.conf"
                ),
            ),
        })
    };
    let families =
        [(false, "IPv4", "net.ipv4.ip_forward"), (true, "IPv6", "net.ipv6.conf.all.forwarding")];
    families.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_that_listen_are_found_among_others() {
        // Lines of a real /proc/net/tcp: sshd, and a connection to it.
        let listens = "   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0";
        let talks = "   1: 0100007F:0016 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000     0        0 18 1 0";
        assert_eq!(listening(listens), "tcp/22".parse().ok());
        assert_eq!(listening(talks), None);
        assert_eq!(listening("  sl  local_address rem_address   st tx_queue"), None);
    }
}
