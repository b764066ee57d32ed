//! `open`, `close`, `proxy`, `add`: the client's side.

use super::print;
use crate::access::{Action, Ports, Prefix, Protocol, ServiceId, Services, Wanted};
use crate::client::{Profile, Target, Wish, outbound, packet, resolve, send, wait_for};
use crate::crypto::{hex_of, service_name};
use crate::daemon::clock;
use crate::daemon::config::{SecretFile, duration, is_name, write_new};
use crate::proto::DATAGRAM;
use clap::{Args, ValueHint};
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
pub(super) struct Common {
    /// The server: HOST or HOST:PORT, an IPv6 address in brackets; not needed where the key file
    /// says it
    #[arg(value_name = "HOST[:PORT]")]
    host: Option<String>,
    #[command(flatten)]
    key: Key,
    /// A service by its name at the server; may be repeated
    #[arg(long, value_name = "NAME")]
    service: Vec<String>,
    /// A port or range, as tcp/22 or udp/5000-5010; may be repeated
    #[arg(long, value_name = "PORT", conflicts_with = "service")]
    port: Vec<Ports>,
    /// Whose address: `source` (the packet's own), `auto` (this machine's towards the server), an
    /// address or a prefix; twice for one IPv4 and one IPv6
    #[arg(long, value_name = "ADDR", default_value = "source", value_parser = whose)]
    ip: Vec<Whose>,
    /// End my leases on the same services at all other addresses as well: I have moved
    #[arg(long)]
    replace: bool,
    /// Print the datagram as hex instead of sending it
    #[arg(long)]
    hex: bool,
    /// Write the datagram's bytes to a file as well
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    save: Option<PathBuf>,
}

/// Whose address is meant.
#[derive(Clone, Copy)]
enum Whose {
    Source,
    Auto,
    Given(Prefix),
}

fn whose(text: &str) -> Result<Whose, String> {
    match text {
        "source" => Ok(Whose::Source),
        "auto" => Ok(Whose::Auto),
        _ => text.parse().map(Whose::Given).map_err(|e| format!("{e}")),
    }
}

#[derive(Args)]
pub(super) struct Key {
    /// The client file, or its name in your key directory
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    key: String,
}

#[derive(Args)]
pub(super) struct Open {
    #[command(flatten)]
    common: Common,
    /// How long, as 30s, 5m or 2h; else the server's default
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    ttl: Option<u32>,
    /// Wait until the port answers, at most so long; exit 1 if it does not
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "5s", value_parser = duration)]
    wait: Option<u32>,
}

#[derive(Args)]
pub(super) struct Close {
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(super) struct Proxy {
    /// The host to connect to
    host: String,
    /// The TCP port to connect to
    port: u16,
    #[command(flatten)]
    key: Key,
    /// How long to wait for the port
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    wait: u32,
}

impl Key {
    fn load(&self) -> Result<Profile, String> {
        let path = self.path()?;
        let file = SecretFile::read(&path).map_err(|e| e.to_string())?;
        Profile::parse(file.text()).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// A bare name is looked up in the key directory, anything else is a path.
    fn path(&self) -> Result<PathBuf, String> {
        match self.key.contains('/') || self.key.ends_with(".toml") {
            true => Ok(PathBuf::from(&self.key)),
            false => Ok(key_dir()?.join(format!("{}.toml", self.key))),
        }
    }
}

fn key_dir() -> Result<PathBuf, String> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("opensesame-spa"))
        .ok_or_else(|| "no key directory: neither XDG_CONFIG_HOME nor HOME is set".into())
}

/// Stores a client file in the key directory.
pub(super) fn add(source: &str) -> Result<(), String> {
    let profile = if source == "-" {
        let mut text = zeroize::Zeroizing::new(String::new());
        std::io::stdin().take(1 << 16).read_to_string(&mut text).map_err(|e| e.to_string())?;
        Profile::parse(&text).map_err(|e| e.to_string())?
    } else if source.starts_with("sesame://") {
        eprintln!("warning: others on this machine may have seen the link on the command line");
        Profile::parse(source).map_err(|e| e.to_string())?
    } else {
        Key { key: if source.contains('/') { source.into() } else { format!("./{source}") } }
            .load()?
    };
    if !is_name(&profile.name) {
        return Err("the client's name is no file name: use letters, digits, . - _ @".into());
    }
    let dir = key_dir()?;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .map_err(|e| format!("{}: {e}", dir.display()))?;
    let path = dir.join(format!("{}.toml", profile.name));
    write_new(&path, &profile.to_text(), false).map_err(|e| e.to_string())?;
    print(&format!("stored {}: use it as --key {}\n", path.display(), profile.name))
}

impl Common {
    fn target(&self, profile: &Profile) -> Result<Target, String> {
        let known = profile.host.as_deref().and_then(|h| Target::parse(h, None));
        let port = known.as_ref().map(|t| t.port);
        match &self.host {
            Some(text) => Target::parse(text, port)
                .ok_or_else(|| format!("`{text}` is no HOST:PORT, and the key file knows no port")),
            None => known.ok_or_else(|| {
                "which server? the key file does not say: give HOST:PORT".to_string()
            }),
        }
    }

    fn services(&self) -> Result<Services, String> {
        let named = self.service.iter().map(|n| Wanted::Named(ServiceId(service_name(n))));
        let all: Vec<Wanted> = named.chain(self.port.iter().map(|p| Wanted::Ports(*p))).collect();
        Services::new(&all).ok_or_else(|| "at most eight services in one packet".into())
    }

    fn wish(
        &self,
        action: Action,
        ttl: u32,
        to: impl Fn() -> Result<Vec<SocketAddr>, String>,
    ) -> Result<Wish, String> {
        let mut wish = Wish {
            action,
            source: false,
            v4: None,
            v6: None,
            services: self.services()?,
            ttl,
            reply: false,
            replace: self.replace,
        };
        for whose in &self.ip {
            match whose {
                Whose::Source => wish.source = true,
                Whose::Auto => {
                    let to = to()?;
                    let own = to.iter().find_map(|a| outbound(*a).ok());
                    let own = own.ok_or("no way to the server from here: give --ip ADDR")?;
                    take(&mut wish, Prefix::host(own))?;
                }
                Whose::Given(prefix) => take(&mut wish, *prefix)?,
            }
        }
        match wish.source && wish.v4.is_some() && wish.v6.is_some() {
            true => Err("--ip: the packet's source and two addresses are one too many".into()),
            false => Ok(wish),
        }
    }

    fn send(&self, profile: &Profile, action: Action, ttl: u32) -> Result<(), String> {
        let addresses = || {
            let target = self.target(profile)?;
            resolve(&target).map_err(|e| format!("{}: {e}", target.host))
        };
        let wish = self.wish(action, ttl, addresses)?;
        let datagram = packet(profile, &wish, clock::now().unix).map_err(|e| e.to_string())?;
        if let Some(path) = &self.save {
            std::fs::write(path, datagram).map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if self.hex {
            return print(&format!("{}\n", hex_of(&datagram)));
        }
        send_all(profile, &wish, &addresses()?, datagram)
    }
}

/// Sends to every address of the server. A name can have addresses of both families, and the
/// source that the server sees is another one on each: then each gets a packet of its own, since
/// the second copy of one would be a replay.
fn send_all(
    profile: &Profile,
    wish: &Wish,
    to: &[SocketAddr],
    first: [u8; DATAGRAM],
) -> Result<(), String> {
    // An explicit address of a family leaves the other one for the source.
    let fits = |a: &&SocketAddr| {
        !wish.source || if a.is_ipv4() { wish.v4.is_none() } else { wish.v6.is_none() }
    };
    let (four, six): (Vec<SocketAddr>, Vec<SocketAddr>) =
        to.iter().filter(fits).partition(|a| a.is_ipv4());
    let mut last = Err("not sent: the server has no address of the wanted family".to_string());
    let mut datagram = first;
    for some in [four, six].iter().filter(|some| !some.is_empty()) {
        match send(some, &datagram) {
            Ok(_) => last = Ok(()),
            Err(e) if last.is_err() => last = Err(format!("not sent: {e}")),
            Err(_) => {}
        }
        if wish.source {
            // It would end what the first has just opened.
            let next = Wish { replace: wish.replace && last.is_err(), ..*wish };
            // Of one date, an open that replaces would keep the other one out.
            datagram =
                packet(profile, &next, clock::now().unix.plus(1)).map_err(|e| e.to_string())?;
        }
    }
    last
}

fn take(wish: &mut Wish, prefix: Prefix) -> Result<(), String> {
    if prefix.is_unusable() {
        return Err(format!("--ip {prefix}: no server gives that address a lease"));
    }
    let (place, widest) = match prefix.address() {
        IpAddr::V4(_) => (&mut wish.v4, crate::proto::WIDEST.0),
        IpAddr::V6(_) => (&mut wish.v6, crate::proto::WIDEST.1),
    };
    if prefix.length() < widest {
        return Err(format!("--ip {prefix}: a packet carries nothing wider than /{widest}"));
    }
    match place.replace(prefix) {
        None => Ok(()),
        Some(_) => Err("--ip: at most one IPv4 and one IPv6 address".into()),
    }
}

impl Open {
    pub(super) fn run(self) -> Result<(), String> {
        let profile = self.common.key.load()?;
        let door = match self.wait {
            Some(seconds) => Some((self.door(&profile)?, seconds)),
            None => None,
        };
        self.common.send(&profile, Action::Open, self.ttl.unwrap_or(0))?;
        match door {
            Some((addresses, seconds)) if !self.common.hex => wait(&addresses, seconds).map(|_| ()),
            Some(_) | None => Ok(()),
        }
    }

    /// The TCP ports that tell whether the door is open.
    fn door(&self, profile: &Profile) -> Result<Vec<SocketAddr>, String> {
        let ports = if self.common.port.is_empty() { &profile.ports } else { &self.common.port };
        let port = ports.iter().find(|p| p.protocol() == Protocol::Tcp).map(Ports::first);
        let port = port.ok_or("--wait: which port? say --port tcp/N")?;
        let target = self.common.target(profile)?;
        resolve(&Target { port, ..target }).map_err(|e| e.to_string())
    }
}

impl Close {
    pub(super) fn run(self) -> Result<(), String> {
        let profile = self.common.key.load()?;
        self.common.send(&profile, Action::Close, 0)
    }
}

fn wait(addresses: &[SocketAddr], seconds: u32) -> Result<TcpStream, String> {
    let end = clock::now().mono.plus(u64::from(seconds) * 1_000);
    let left = || match end.since(clock::now().mono) {
        0 => None,
        ms => Some(Duration::from_millis(ms)),
    };
    wait_for(addresses, left).ok_or_else(|| {
        let port = addresses.first().map_or(0, SocketAddr::port);
        format!("tcp/{port} did not answer within {seconds} s: a server never says why")
    })
}

impl Proxy {
    pub(super) fn run(self) -> Result<(), String> {
        let profile = self.key.load()?;
        let known = profile.host.as_deref().and_then(|h| Target::parse(h, None));
        let knock = match known {
            Some(target) => target,
            None => return Err("the key file does not say where the server listens".into()),
        };
        let port = Ports::new(Protocol::Tcp, self.port, self.port).ok_or("port 0 is no port")?;
        let wish = Wish {
            action: Action::Open,
            source: true,
            v4: None,
            v6: None,
            services: Services::new(&[Wanted::Ports(port)]).unwrap_or_default(),
            ttl: 0,
            reply: false,
            replace: false,
        };
        let datagram = packet(&profile, &wish, clock::now().unix).map_err(|e| e.to_string())?;
        let to = resolve(&knock).map_err(|e| format!("{}: {e}", knock.host))?;
        send_all(&profile, &wish, &to, datagram)?;
        let door = Target { host: self.host.clone(), port: self.port };
        let door = resolve(&door).map_err(|e| format!("{}: {e}", self.host))?;
        // The connection that answers is the one that is used: sshd counts those that say nothing.
        join(wait(&door, self.wait)?)
    }
}

/// Joins stdin and stdout to a connection until the other side ends it.
fn join(stream: TcpStream) -> Result<(), String> {
    let mut up = stream.try_clone().map_err(|e| e.to_string())?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut up);
        let _ = up.shutdown(Shutdown::Write);
    });
    let (mut stream, mut out) = (stream, std::io::stdout().lock());
    let mut bytes = [0; 16 << 10];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(n) => {
                out.write_all(&bytes[..n]).and_then(|()| out.flush()).map_err(|e| e.to_string())?
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.to_string()),
        }
    }
}
