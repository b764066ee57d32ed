//! `container`: what the container of the port knocking demo runs.

use crate::daemon::config::{ServerKey, write_new};
use crate::daemon::{self, Options};
use clap::Args;
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a guest may take to read the greeting.
const PATIENCE: Duration = Duration::from_secs(1);

/// The user and the group of nobody, as `passwd` of the image has them.
const NOBODY: u32 = 65_534;

#[derive(Args)]
pub(super) struct Container {
    /// The server's configuration file
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// The port of the service that is protected
    #[arg(long, value_name = "PORT")]
    service: u16,
}

impl Container {
    /// Shuts the ports, then starts the service behind them, then becomes the server.
    pub(super) fn run(self) -> Result<(), String> {
        make_key(&self.config)?;
        daemon::shield_only(&self.config).map_err(|e| e.to_string())?;
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        // Process 1 buries it, if this is process 1.
        Command::new(program)
            .args(["container-service", &self.service.to_string()])
            .spawn()
            .map_err(|e| format!("the service on tcp/{}: {e}", self.service))?;
        daemon::serve(&self.config, &Options::default()).map_err(|e| e.to_string())
    }
}

/// New keys beside the file, where there are none, and nobody who has one: the image has only the
/// file.
fn make_key(config: &Path) -> Result<(), String> {
    let path = config.with_file_name("server.key");
    let clients = config.with_file_name("clients");
    std::fs::create_dir_all(&clients).map_err(|e| format!("{}: {e}", clients.display()))?;
    if path.exists() {
        return Ok(());
    }
    let keys = ServerKey::generate().map_err(|e| e.to_string())?;
    write_new(&path, &keys.to_text(), false).map_err(|e| e.to_string())
}

/// The service: greets everybody who gets in.
pub(super) fn service(port: u16) -> Result<(), String> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
        .or_else(|_| TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))
        .map_err(|e| format!("tcp/{port}: {e}"))?;
    // Guests talk to a process without rights.
    if geteuid().is_root() {
        let nobody = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
        let dropped =
            setgroups(&[]).and_then(|()| setgid(nobody.0)).and_then(|()| setuid(nobody.1));
        dropped.map_err(|e| format!("could not become user {NOBODY}: {e}"))?;
    }
    loop {
        // One guest after the other; a guest who is gone is no error.
        if let Ok((mut guest, _)) = listener.accept() {
            let _ = guest.set_write_timeout(Some(PATIENCE));
            let _ = guest.write_all(b"welcome\n");
        }
    }
}
