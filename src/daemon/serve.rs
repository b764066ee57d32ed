//! `serve`: checks everything, shields, starts `[engine]`, and becomes `[priv]`.

use super::config::{Backend, Block, Config, ConfigError, Place};
use super::priv_process::Priv;
use super::system::{ServeError, backend, load, outlives, system};
use super::{clock, control, last_good};
use crate::access::{Ports, Prefix, Protocol, Service, canonical};
use crate::firewall::{Error, Form, Shield};
use nix::fcntl::{Flock, FlockArg, OFlag, openat};
use nix::libc;
use nix::sys::stat::Mode;
use nix::unistd::{User, geteuid};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long a state directory may still be locked by a server that ends: ms.
const PATIENCE: u64 = 2_000;

/// What `serve` is told on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Say whether the files are sound, and end.
    pub check: bool,
    /// Roll everything back unless it is confirmed within so many seconds.
    pub confirm: Option<u32>,
    /// Say what would be dropped, and drop nothing.
    pub observe: bool,
}

/// Runs the server in the foreground until SIGTERM or SIGINT.
///
/// # Errors
/// Why it could not start; nothing has been opened then.
pub fn serve(path: &Path, options: &Options) -> Result<(), ServeError> {
    let (mut config, key, clients) = match load(path) {
        Err(why) if !options.check && !options.observe => return Err(shut(path, why)),
        loaded => loaded?,
    };
    if options.check {
        return match (clients.faulty.into_iter().next(), config.hooks.faults().pop()) {
            (Some((_, why)), _) => Err(why.into()),
            (None, Some(why)) => Err(ConfigError::new(path, why).into()),
            (None, None) => Ok(()),
        };
    }
    super::log::start("priv");
    config.observe = options.observe;
    if config.observe {
        if config.form != Form::Shield {
            let what = "--observe: with mode = \"pinhole\" nothing of ours drops anything";
            return Err(ServeError::System(what.into()));
        }
        log::warn!(
            "--observe: NOTHING IS PROTECTED, now and until `serve` runs without it: what would be \
             dropped is told and let in"
        );
    }
    for legacy in &config.legacy {
        log::warn!("{} is on: {}", legacy.access.name, legacy.how.weakness());
    }
    if let Some(gate) = &config.gate {
        log::warn!(
            "[http-gate] is on: {} listens to strangers, and whoever knows the recovery PIN is let \
             back in; it opens no port",
            gate.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        );
    }
    for at in config.gate.iter().flat_map(|gate| &gate.listen) {
        let own = Ports::new(Protocol::Tcp, at.port(), at.port());
        let shut = |s: &&Service| own.is_some_and(|own| s.ports.iter().any(|p| p.contains(&own)));
        if let Some(service) = config.services.iter().find(shut) {
            let name = &service.name;
            log::warn!(
                "[service.{name}] protects tcp/{}: only its clients reach the gate",
                at.port()
            );
        }
    }
    config.hooks.faults().iter().for_each(|why| log::warn!("{why}"));
    if let Some(warning) = session_at_stake(&config) {
        log::warn!("{warning}");
    }
    let user = engine_user(&config.server.user)?;
    if !config.hooks.commands.is_empty() {
        hook_user(user, &config.hooks.user)?;
    }
    hooks_have_a_user(&config, user)?;
    let state = state_dir(&config.server.state_dir, user)?;
    let journal = state.try_clone().map_err(system("state directory"))?.into();
    let control = control::listen(&config.server.control).map_err(|e| {
        match e.kind() == io::ErrorKind::AddrInUse {
            true => {
                ServeError::System("a server with this control socket is already running".into())
            }
            false => system(format!("control socket {}", config.server.control.display()))(e),
        }
    })?;
    let control_path = config.server.control.clone();
    let run = || {
        let mut firewall = backend(config.backend, &config.shield())?;
        log::info!("firewall: {}", firewall.describe());
        if config.gate.as_ref().is_some_and(|gate| gate.block == Block::Firewall) {
            firewall.can_bar().map_err(|e| {
                let what = "[http-gate] says block = \"firewall\"; install it, or say \"page\"";
                ServeError::System(format!("{e}: {what}"))
            })?;
        }
        config.needs(firewall.as_mut())?;
        // Whatever goes wrong from here on, the ports are shut. Rules that are there already hold
        // leases that may live: they are brought in step when [engine] has read its journal.
        if !firewall.is_up()? {
            firewall.sync(&[], clock::now())?;
        }
        if options.confirm.is_none() {
            last_good::keep(&config);
        }
        let mut server = Priv::new(config, firewall, control, journal, user)?;
        if let Some(seconds) = options.confirm {
            server.must_be_confirmed(seconds);
        }
        server.run(key, clients)
    };
    let outcome = run();
    let _ = std::fs::remove_file(control_path);
    outcome
}

/// Loads the closed state and ends: for boot, before the network is up.
///
/// # Errors
/// When the shield could not be put up.
pub fn shield_only(path: &Path) -> Result<(), ServeError> {
    super::log::start("priv");
    let config = Config::load(path).map_err(|why| shut(path, why.into()))?;
    if UnixStream::connect(&config.server.control).is_ok() {
        let what = "a server is running here: its shield is up, and its leases would be lost";
        return Err(ServeError::System(what.into()));
    }
    let mut firewall = backend(config.backend, &config.shield())?;
    firewall.sync(&[], clock::now())?;
    log::info!("shielded: {}", firewall.describe());
    last_good::keep(&config);
    Ok(())
}

/// What to tell somebody who is here by ssh, through a port that is protected from now on.
#[must_use]
pub fn session_at_stake(config: &Config) -> Option<String> {
    // Otherwise nobody is shut out by rules of ours.
    if config.observe || config.form != Form::Shield {
        return None;
    }
    let about = std::env::var("SSH_CONNECTION").ok()?;
    // sshd(8): the client's address and port, the server's address and port.
    let mut words = about.split_whitespace();
    let (from, _) = (words.next()?, words.next()?);
    let (here, port): (IpAddr, u16) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let own = Ports::new(Protocol::Tcp, port, port)?;
    let here = Prefix::host(canonical(here));
    let elsewhere = |s: &Service| match config.places.get(&s.id) {
        Some(Place::Hosts(hosts)) => !hosts.iter().any(|net| net.contains(&here)),
        Some(Place::Forward(_)) | None => false,
    };
    let mut shut = config.services.iter().filter(|s| !elsewhere(s));
    let service = shut.find(|s| s.ports.iter().any(|p| p.contains(&own)))?;
    // What no rule with `keep state` let in has no state, and is judged anew with each packet.
    let fate = match config.backend {
        Backend::Pf => "lives on only if it is in `pfctl -s states`",
        Backend::Nftables | Backend::Iptables | Backend::DryRun => "lives on",
    };
    Some(format!(
        "you are here by ssh from {from}, through tcp/{port}, which [service.{}] protects: this \
         session {fate}, and the next one needs `open` first; `serve --confirm 60s` takes it all \
         back if you cannot come in again",
        service.name
    ))
}

/// The files are broken, and yet the ports must not be open: by `server.toml` if only the keys are
/// wrong, by what was good last if it is that file.
fn shut(path: &Path, why: ServeError) -> ServeError {
    let done = match Config::load(path) {
        Ok(config) => last_good::raise(config.backend, &config.shield()).map(Some),
        Err(_) => last_good::stand_in(path),
    };
    match done {
        Ok(Some(done)) => ServeError::System(format!("{why}; {done}")),
        // Where there has never been a good one there is nothing to fall back to.
        Ok(None) => why,
        Err(also) => ServeError::System(format!("{why}; and the ports may be open: {also}")),
    }
}

/// Removes our rules from the kernel, nothing else.
///
/// # Errors
/// When they could not be removed.
pub fn uninstall(path: &Path) -> Result<(), ServeError> {
    super::log::start("priv");
    let config = Config::load(path)?;
    if UnixStream::connect(&config.server.control).is_ok() {
        let what = "a server is running here and would put the rules back: stop it first";
        return Err(ServeError::System(what.into()));
    }
    backend(config.backend, &config.shield())?.uninstall()?;
    last_good::forget(&config);
    if outlives((config.backend, &config.form), (config.backend, &Form::Shield)) {
        // A table of our own, from before the pinhole.
        backend(config.backend, &Shield::default())?.uninstall()?;
    }
    // Rules of a backend that was configured before would keep the ports shut.
    let others = [Backend::Nftables, Backend::Iptables, Backend::Pf];
    for other in others.into_iter().filter(|other| *other != config.backend) {
        let Ok(mut firewall) = backend(other, &Shield::default()) else { continue };
        match firewall.uninstall() {
            // What the machine lacks has left nothing.
            Ok(()) | Err(Error::Missing(_)) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

/// User and group that `[engine]` becomes; none where there is only one user to be.
fn engine_user(name: &str) -> Result<Option<(u32, u32)>, ServeError> {
    if !geteuid().is_root() || is_only_user() {
        return Ok(None);
    }
    let find = |name: &str| User::from_name(name).ok().flatten();
    let user = match find(name) {
        Some(user) => user,
        None => {
            log::warn!("no user `{name}` here: [engine] becomes `nobody`, which others may share");
            find("nobody").ok_or_else(|| {
                ServeError::System(format!(
                    "neither `{name}` nor `nobody` exists: add a system user"
                ))
            })?
        }
    };
    match user.uid.is_root() {
        true => Err(ServeError::System("[server] user: root is no user to become".into())),
        false => Ok(Some((user.uid.as_raw(), user.gid.as_raw()))),
    }
}

/// User and group that `[gate]` becomes.
pub(super) fn gate_user(engine: Option<(u32, u32)>) -> Result<Option<(u32, u32)>, ServeError> {
    other_user(engine, "_opensesame-gate", "[gate]")
}

/// User and group that `[hook]` becomes.
pub(super) fn hook_user(
    engine: Option<(u32, u32)>,
    name: &str,
) -> Result<Option<(u32, u32)>, ServeError> {
    other_user(engine, name, "[hook]")
}

/// Hooks run with the rights of nobody else: not of `[priv]`, whose user they would have where there is
/// only one, and not of `[engine]`, whose journal they could write.
pub(super) fn hooks_have_a_user(
    config: &Config,
    engine: Option<(u32, u32)>,
) -> Result<(), ServeError> {
    if config.hooks.commands.is_empty() {
        return Ok(());
    }
    let wrong = |what: &str| Err(ServeError::System(format!("on-open and on-close: {what}")));
    match (engine, hook_user(engine, &config.hooks.user)?) {
        (None, _) | (_, None) => wrong("they take a user of their own, and there is only one here"),
        (Some(engine), Some(hook)) if engine.0 == hook.0 => {
            wrong("[hook] would share a user with [engine]: add `_opensesame-hook`")
        }
        (Some(_), Some(_)) => Ok(()),
    }
}

/// Never root, and never the user of `[engine]` where there is another one.
fn other_user(
    engine: Option<(u32, u32)>,
    name: &str,
    process: &str,
) -> Result<Option<(u32, u32)>, ServeError> {
    let Some(engine) = engine else { return Ok(None) };
    let find = |name: &str| User::from_name(name).ok().flatten().filter(|u| !u.uid.is_root());
    let user = match find(name) {
        Some(user) => user,
        None => {
            log::warn!(
                "`{name}` is no user without rights here: {process} becomes `nobody`, which others \
                 may share"
            );
            find("nobody").ok_or_else(|| {
                ServeError::System(format!("{process}: no `nobody` either: add a system user"))
            })?
        }
    };
    if user.uid.as_raw() == engine.0 {
        log::warn!("{process} has to share the user `{}` with [engine]: add `{name}`", user.name);
    }
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

/// In a user namespace that maps one id there is nobody else to become.
#[cfg(target_os = "linux")]
fn is_only_user() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut lines = map.lines();
        let one = lines.next().is_some_and(|l| l.split_whitespace().nth(2) == Some("1"));
        one && lines.next().is_none()
    })
}

#[cfg(not(target_os = "linux"))]
fn is_only_user() -> bool {
    false
}

/// Makes the state directory, gives it and the journal to `[engine]`'s user, and locks it: two
/// servers with one state would accept one packet twice.
fn state_dir(path: &Path, user: Option<(u32, u32)>) -> Result<Flock<File>, ServeError> {
    let wrong = |e| system(format!("state directory {}", path.display()))(e);
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(wrong)?;
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(wrong)?;
    if let Some((uid, gid)) = user {
        give(&dir, uid, gid).map_err(wrong)?;
        for entry in std::fs::read_dir(path).map_err(wrong)? {
            let name = entry.map_err(wrong)?.file_name();
            if name.as_encoded_bytes().starts_with(b"journal-") {
                // The directory is not root's: nothing but the file itself is trusted.
                let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
                let file = openat(&dir, name.as_os_str(), flags | OFlag::O_CLOEXEC, Mode::empty());
                // What cannot be opened so is no journal of ours; [engine] says so if it needs it.
                if let Ok(file) = file {
                    give(&File::from(file), uid, gid).map_err(wrong)?;
                }
            }
        }
    }
    // A server that was killed a moment ago may not be gone quite yet.
    let end = clock::now().mono.plus(PATIENCE);
    let mut dir = dir;
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) if clock::now().mono < end => dir = back,
            Err((_, e)) => {
                let what = format!("{}: another server uses this state: {e}", path.display());
                return Err(ServeError::System(what));
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Gives a directory, or a regular file that has no other name, to that user.
fn give(file: &File, uid: u32, gid: u32) -> io::Result<()> {
    let meta = file.metadata()?;
    if meta.uid() == uid || !(meta.is_dir() || meta.is_file() && meta.nlink() == 1) {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(uid), Some(gid))
}
