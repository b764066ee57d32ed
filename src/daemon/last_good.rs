//! The last shield that was good: what stays shut when `server.toml` cannot be read any more.
//!
//! It stands beside the state directory, which `[engine]` could write to, and not in it. It says what
//! is protected and nothing else: nobody is let in by it.

use super::config::{Backend, Config, SecretFile, write_new};
use super::system::{ServeError, backend, outlives};
use crate::access::{Ports, Refuse};
use crate::firewall::{Form, Forward, Routed, Shield};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the state is if the file does not say.
const STATE: &str = "/var/lib/opensesame-spa";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Kept {
    backend: Backend,
    listening: Vec<u16>,
    drop: Vec<String>,
    reset: Vec<String>,
    #[serde(default)]
    routed: Vec<(String, String, bool)>,
    #[serde(default)]
    forwards: Vec<(String, SocketAddr)>,
    #[serde(default)]
    cuts: Vec<String>,
    #[serde(default)]
    trusted: Vec<String>,
    #[serde(default)]
    pinhole: Option<KeptPinhole>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum KeptPinhole {
    Mark(u32),
    Chain { table: String, chain: String },
}

/// Beside the state directory.
pub(super) fn place(state: &Path) -> PathBuf {
    let mut name = state.as_os_str().to_os_string();
    name.push(".shield");
    name.into()
}

/// Where the state would be, out of a file that is not right.
fn state_of(text: &str) -> PathBuf {
    let said = |line: &str| {
        let rest = line.trim().strip_prefix("state-dir")?.trim_start().strip_prefix('=')?;
        let quoted = rest.trim_start().strip_prefix('"')?;
        quoted.split_once('"').map(|(path, _)| PathBuf::from(path))
    };
    text.lines().find_map(said).filter(|p| p.is_absolute()).unwrap_or_else(|| STATE.into())
}

/// Keeps the shield of a configuration that is in force; one that only observes is none.
pub(super) fn keep(config: &Config) {
    if config.observe {
        return;
    }
    let path = place(&config.server.state_dir);
    let shield = config.shield();
    let of = |how: Refuse| {
        let these = shield.protected.iter().filter(|(_, refuse)| *refuse == how);
        these.map(|(ports, _)| ports.to_string()).collect()
    };
    let routed = |r: &Routed| (r.at.to_string(), r.ports.to_string(), r.refuse == Refuse::Reset);
    let kept = Kept {
        backend: config.backend,
        listening: shield.listening.clone(),
        drop: of(Refuse::Drop),
        reset: of(Refuse::Reset),
        routed: shield.routed.iter().map(routed).collect(),
        forwards: shield.forwards.iter().map(|f| (f.from.to_string(), f.to)).collect(),
        cuts: shield.cuts.iter().map(ToString::to_string).collect(),
        trusted: shield.trusted.clone(),
        pinhole: match shield.form.clone() {
            Form::Shield => None,
            Form::Mark(bits) => Some(KeptPinhole::Mark(bits)),
            Form::Chain { table, chain } => Some(KeptPinhole::Chain { table, chain }),
        },
    };
    let done = toml::to_string(&kept).map_err(|e| e.to_string()).and_then(|text| {
        let before = SecretFile::read(&path).ok();
        match before.is_some_and(|b| b.text() == text) {
            true => Ok(()),
            false => write_new(&path, &text, true).map_err(|e| e.to_string()),
        }
    });
    if let Err(why) = done {
        log::warn!("a broken server.toml at boot would leave the ports open: {why}");
    }
}

/// Forgets it: the ports are open on purpose.
pub(super) fn forget(config: &Config) {
    let _ = std::fs::remove_file(place(&config.server.state_dir));
}

/// As it was before this configuration: the shield that was good last, or none. What was done.
pub(super) fn restore(config: &Config) -> Result<&'static str, ServeError> {
    // One that is there and cannot be read is no reason to open the ports.
    let before = find(&place(&config.server.state_dir))?;
    let mut present = backend(config.backend, &config.shield())?;
    let Some((kind, shield)) = before else {
        present.uninstall()?;
        return Ok("our rules are gone, and the ports are as the machine has them");
    };
    let other = outlives((config.backend, &config.form), (kind, &shield.form));
    // Two guests of one table would be in each other's way; in a pinhole nobody comes in without us.
    let guest = |form: &Form| matches!(form, Form::Chain { .. });
    let first = other && guest(&config.form) && guest(&shield.form);
    if first {
        present.uninstall()?;
    }
    backend(kind, &shield)?.sync(&[], super::clock::now())?;
    if other && !first {
        present.uninstall()?;
    }
    Ok("the shield is the one that was good before")
}

/// What is kept there; none where nothing ever was.
fn find(path: &Path) -> Result<Option<(Backend, Shield)>, ServeError> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let kept = read(SecretFile::read(path)?.text());
    kept.map(Some).ok_or_else(|| ServeError::System(format!("{} is damaged", path.display())))
}

/// What is protected, and by which backend.
fn read(text: &str) -> Option<(Backend, Shield)> {
    let kept: Kept = toml::from_str(text).ok()?;
    let ports = |list: &[String], how: Refuse| -> Option<Vec<(Ports, Refuse)>> {
        list.iter().map(|text| Some((text.parse().ok()?, how))).collect()
    };
    let mut protected = ports(&kept.drop, Refuse::Drop)?;
    protected.extend(ports(&kept.reset, Refuse::Reset)?);
    protected.sort_unstable_by_key(|(ports, _)| *ports);
    let routed = kept.routed.iter().map(|(at, ports, reset)| {
        let refuse = if *reset { Refuse::Reset } else { Refuse::Drop };
        Some(Routed { at: at.parse().ok()?, ports: ports.parse().ok()?, refuse })
    });
    let forwards = kept.forwards.iter();
    let forwards = forwards.map(|(from, to)| Some(Forward { from: from.parse().ok()?, to: *to }));
    let shield = Shield {
        protected,
        listening: kept.listening,
        routed: routed.collect::<Option<_>>()?,
        forwards: forwards.collect::<Option<_>>()?,
        cuts: kept.cuts.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
        trusted: kept.trusted,
        form: match kept.pinhole {
            None => Form::Shield,
            Some(KeptPinhole::Mark(bits)) => Form::Mark(bits),
            Some(KeptPinhole::Chain { table, chain }) => Form::Chain { table, chain },
        },
        observe: false,
    };
    Some((kept.backend, shield))
}

/// Puts the last good shield up, because this file cannot be read; what was done, if there ever was
/// a good one.
pub(super) fn stand_in(path: &Path) -> Result<Option<&'static str>, ServeError> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let kept = find(&place(&state_of(&text)))?;
    kept.map(|(kind, shield)| raise(kind, &shield)).transpose()
}

/// Puts a shield up where there is none; what was done.
pub(super) fn raise(kind: Backend, shield: &Shield) -> Result<&'static str, ServeError> {
    let mut firewall = backend(kind, shield)?;
    if firewall.is_up()? {
        return Ok("the shield that is up stays, and so do its leases");
    }
    firewall.sync(&[], super::clock::now())?;
    Ok("the last good shield is up, and nobody comes in until this is mended")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_found_in_a_broken_file() {
        for (text, place) in [
            ("[server\nstate-dir = \"/a/b\"\n", "/a/b"),
            ("  state-dir=\"/a\" # comment", "/a"),
            ("state-dir = \"relative\"", STATE),
            ("state-dir = /a", STATE),
            ("", STATE),
        ] {
            assert_eq!(state_of(text), Path::new(place), "{text}");
        }
    }
}
