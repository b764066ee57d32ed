//! What `serve` and `[priv]` take from the system: files, packet filter, sockets, the other process.

use super::capture;
use super::channel::Channel;
use super::clients::Clients;
use super::config::{Backend, Config, ConfigError, ServerKey};
use crate::firewall::{self, DryRun, Firewall, Form, Shield};
use socket2::{Domain, Protocol, Socket, Type};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// Why there is no server, and what to do.
#[derive(Debug)]
pub enum ServeError {
    /// A file.
    Config(ConfigError),
    /// The packet filter.
    Firewall(firewall::Error),
    /// Anything else of the system: what was tried, and why it failed.
    System(String),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Config(e) => write!(f, "{e}"),
            ServeError::Firewall(e) => write!(f, "firewall: {e}"),
            ServeError::System(e) => f.write_str(e),
        }
    }
}

impl std::error::Error for ServeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServeError::Config(e) => Some(e),
            ServeError::Firewall(e) => Some(e),
            ServeError::System(_) => None,
        }
    }
}

impl From<ConfigError> for ServeError {
    fn from(e: ConfigError) -> ServeError {
        ServeError::Config(e)
    }
}

impl From<firewall::Error> for ServeError {
    fn from(e: firewall::Error) -> ServeError {
        ServeError::Firewall(e)
    }
}

pub(super) fn system(what: impl fmt::Display) -> impl FnOnce(io::Error) -> ServeError {
    move |e| ServeError::System(format!("{what}: {e}"))
}

/// Whether what the first has put up stays when the second is in force, and has to be taken away: a
/// table of our own is replaced, a foreign one keeps its guests.
pub(super) fn outlives(first: (Backend, &Form), second: (Backend, &Form)) -> bool {
    let guest = first.0 == Backend::Nftables && matches!(first.1, Form::Chain { .. });
    first.0 != second.0 || guest && first.1 != second.1
}

/// The backend that the configuration names.
pub(super) fn backend(
    kind: Backend,
    shield: &Shield,
) -> Result<Box<dyn Firewall>, firewall::Error> {
    match kind {
        #[cfg(target_os = "linux")]
        Backend::Nftables => Ok(Box::new(firewall::Nftables::new(shield)?)),
        #[cfg(target_os = "linux")]
        Backend::Iptables => Ok(Box::new(firewall::Iptables::new(shield)?)),
        #[cfg(not(target_os = "linux"))]
        Backend::Nftables | Backend::Iptables => {
            Err(firewall::Error::Missing(format!("{kind} is Linux's: choose another backend")))
        }
        #[cfg(target_os = "linux")]
        Backend::Pf => Err(firewall::Error::Missing(
            "pf, which Linux does not have: choose nftables or iptables".into(),
        )),
        #[cfg(not(target_os = "linux"))]
        Backend::Pf => Ok(Box::new(firewall::Pf::new(shield, pf_of())?)),
        Backend::DryRun => Ok(Box::new(DryRun::new(shield))),
    }
}

/// Whose pf it is.
#[cfg(not(target_os = "linux"))]
fn pf_of() -> firewall::pf::System {
    use firewall::pf::System;
    match () {
        () if cfg!(target_os = "macos") => System::MacOs,
        () if cfg!(target_os = "openbsd") => System::OpenBsd,
        () => System::FreeBsd,
    }
}

/// The files, read and checked together.
pub(super) fn load(path: &Path) -> Result<(Config, ServerKey, Clients), ServeError> {
    let config = Config::load(path)?;
    let (key, clients) = keys(&config)?;
    Ok((config, key, clients))
}

/// The files with keys, checked against a configuration.
pub(super) fn keys(config: &Config) -> Result<(ServerKey, Clients), ServeError> {
    let key = ServerKey::load(&config.key_path())?;
    if key.is_published() && !config.server.allow_test_keys {
        let what = "holds a published test key: make a new one with `opensesame-spa init`";
        return Err(ConfigError::new(&config.key_path(), what).into());
    }
    let clients = Clients::load(config, &key)?;
    Ok((key, clients))
}

/// A UDP socket on that address; an IPv6 wildcard takes IPv4 as well.
pub(super) fn bind(address: SocketAddr) -> Result<UdpSocket, ServeError> {
    let wrong = |e: io::Error| {
        let hint = match e.kind() == io::ErrorKind::AddrInUse {
            true => "; another program has it: `ss -ulpn` says which",
            false => "",
        };
        ServeError::System(format!("cannot listen on udp {address}: {e}{hint}"))
    };
    let make = |address: SocketAddr| -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        // An address that comes later (DHCP) is no reason to stay down.
        #[cfg(target_os = "linux")]
        match address.is_ipv6() {
            true => socket.set_freebind_v6(true)?,
            false => socket.set_freebind_v4(true)?,
        }
        socket.set_nonblocking(true)?;
        // As much room as the system gives: what waits there is not lost.
        let _ = socket.set_recv_buffer_size(4 << 20);
        socket.bind(&address.into())?;
        Ok(UdpSocket::from(socket))
    };
    let everywhere = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match make(address) {
        // A kernel without IPv6.
        Err(e) if everywhere && e.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) => {
            make((Ipv4Addr::UNSPECIFIED, address.port()).into()).map_err(wrong)
        }
        outcome => outcome.map_err(wrong),
    }
}

/// The addresses of this machine, which never hold a lease.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let Ok(list) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let address = |a: nix::ifaddrs::InterfaceAddress| {
        let storage = a.address?;
        let v4 = storage.as_sockaddr_in().map(|s| IpAddr::V4(s.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|s| IpAddr::V6(s.ip())))
    };
    let mut own: Vec<IpAddr> = list.filter_map(address).collect();
    own.sort_unstable();
    own.dedup();
    own.truncate(1_024);
    own
}

/// The packet sockets of one capture, IPv4's and IPv6's; nothing arrives at them yet.
pub(super) fn open_capture() -> io::Result<Vec<OwnedFd>> {
    let explained = |e: io::Error| match e.kind() == io::ErrorKind::PermissionDenied {
        true => io::Error::new(e.kind(), format!("{e}: `capture` takes CAP_NET_RAW")),
        false => e,
    };
    (0..2).map(|_| capture::open()).collect::<io::Result<_>>().map_err(explained)
}

/// The other process; it dies with this value.
pub(super) struct Partner {
    pub(super) child: Child,
    pub(super) channel: Channel,
}

impl Drop for Partner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A TCP socket that listens on that address; an IPv6 wildcard takes IPv4 as well.
pub(super) fn bind_tcp(address: SocketAddr) -> Result<TcpListener, ServeError> {
    let wrong = |e: io::Error| {
        let hint = match e.kind() == io::ErrorKind::AddrInUse {
            true => "; another program has it: `ss -tlpn` says which",
            false => "",
        };
        ServeError::System(format!("cannot listen on tcp {address}: {e}{hint}"))
    };
    let make = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        #[cfg(target_os = "linux")]
        match address.is_ipv6() {
            true => socket.set_freebind_v6(true)?,
            false => socket.set_freebind_v4(true)?,
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(1_024)?;
        Ok(TcpListener::from(socket))
    };
    make().map_err(wrong)
}

/// Starts another process in this `role`: this program once more, with a socket as its stdin and an empty environment.
pub(super) fn spawn(role: &str) -> io::Result<Partner> {
    let (ours, theirs) = UnixStream::pair()?;
    let program = if cfg!(target_os = "linux") {
        // The program that runs, even if the file has been replaced since.
        Path::new("/proc/self/exe").to_path_buf()
    } else {
        std::env::current_exe()?
    };
    let mut command = Command::new(program);
    command
        .arg0("opensesame-spa")
        .arg(role)
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null());
    for name in ["OPENSESAME_LOG", "JOURNAL_STREAM", "TZ"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    let child = command.spawn()?;
    Ok(Partner { child, channel: Channel::new(ours, false)? })
}

/// Runs as that process, with one end of the socket pair as stdin: out of the terminal's session, as
/// Ctrl-C is `[priv]`'s to handle and nothing can be typed here.
pub(super) fn be(
    name: &'static str,
    waits: bool,
    work: impl FnOnce(Channel) -> Result<(), String>,
) -> ExitCode {
    super::log::start(name);
    let _ = nix::unistd::setsid();
    let end = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from);
    let channel = end.and_then(|end| Channel::new(end, waits)).map_err(|e| e.to_string());
    match channel.and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("{why}");
            ExitCode::FAILURE
        }
    }
}
