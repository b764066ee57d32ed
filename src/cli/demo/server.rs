//! The server's host: the service behind the port, and `serve` in front of it.

use super::{DOOR, DemoError, Family, GREETING, SERVICE, TO_CLIENT, own, place::Place, wait};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use socket2::{Domain, Socket, Type};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Child;
use std::time::Duration;

/// `serve` has its rules in the kernel by then.
const READY: Duration = Duration::from_secs(10);
/// It has ended by then when it was asked to.
const END: Duration = Duration::from_secs(3);
/// What `serve` logs when its rules are in force and it listens.
const READY_WORD: &str = "ready";
/// The lines of the log that say what went wrong.
const TAIL: usize = 12;

/// Every address of this host, of both families where there are two.
pub(super) fn everywhere(families: &[Family], port: u16) -> SocketAddr {
    if families.contains(&Family::V6) {
        (Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        (Ipv4Addr::UNSPECIFIED, port).into()
    }
}

/// Starts the service: greets whoever connects, and hangs up.
pub(super) fn serve_greetings(families: &[Family]) -> Result<(), DemoError> {
    let listener = listen(everywhere(families, SERVICE))
        .map_err(|e| DemoError::Stage(format!("no service on tcp/{SERVICE}: {e}")))?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // A guest that hangs up early has nothing to be told.
            let _ = stream.write_all(GREETING);
        }
    });
    Ok(())
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
    if at.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&at.into())?;
    socket.listen(64)?;
    Ok(socket.into())
}

/// `init` and `invite`: a server's directory and one client's key file, as anybody makes them.
pub(super) fn prepare(
    backend: &str,
    families: &[Family],
    place: &Place,
) -> Result<[Vec<String>; 2], DemoError> {
    let dir = place.path().display().to_string();
    let (config, key) = (place.file("server.toml"), place.file("demo.toml"));
    let port = format!("tcp/{SERVICE}");
    let listen = everywhere(families, DOOR).to_string();
    let public = SocketAddr::new(TO_CLIENT.server(Family::V4), DOOR).to_string();
    #[rustfmt::skip]
    let commands = [
        vec!["init", "--dir", &dir, "--protect", &port, "--backend", backend, "--listen", &listen, "--host", &public],
        vec!["invite", "demo", "--config", &config, "--out", &key],
    ]
    .map(|argv| argv.into_iter().map(String::from).collect::<Vec<_>>());
    for argv in &commands {
        let failed = |status, said| DemoError::Command(argv.join(" "), status, said);
        let ended = own::run(argv).map_err(|e| failed(None, e.to_string()))?;
        if !ended.status.success() {
            return Err(failed(Some(ended.status), ended.said));
        }
    }
    Ok(commands)
}

/// `serve`, running; it is stopped when this is dropped.
pub(super) struct Server {
    child: Child,
    log: String,
}

impl Server {
    /// Starts it and waits until it says that it is ready.
    pub(super) fn start(place: &Place) -> Result<Server, DemoError> {
        let log = place.file("serve.log");
        let file = File::create(&log).map_err(|e| DemoError::Stage(format!("{log}: {e}")))?;
        let argv = ["serve", "--config", &place.file("server.toml")];
        let pid = std::process::id().to_string();
        let mut command = own::command(&[&["demo-host", "server", &pid][..], &argv].concat());
        let failed = |status, said| DemoError::Command(argv.join(" "), status, said);
        let child = command.stderr(file).spawn().map_err(|e| failed(None, e.to_string()))?;
        let mut server = Server { child, log };
        let up = wait::until(READY, || {
            let ready = server.lines().iter().any(|l| l.contains(READY_WORD));
            if ready { Some(None) } else { server.child.try_wait().ok()?.map(Some) }
        });
        match up {
            Some(None) => Ok(server),
            Some(ended) => Err(failed(ended, server.tail().join("; "))),
            None => Err(failed(None, server.tail().join("; "))),
        }
    }

    /// What it has logged.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(String::from).collect()
    }

    /// The end of its log.
    pub(super) fn tail(&self) -> Vec<String> {
        let lines = self.lines();
        lines[lines.len().saturating_sub(TAIL)..].to_vec()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whatever fails here fails because the process is gone already.
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        if wait::until(END, || self.child.try_wait().transpose()).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Becomes this binary with the arguments after the first, which is the demo's process: when that
/// dies this dies. Returns only an error.
pub(super) fn become_server(argv: &[OsString]) -> DemoError {
    let Some((parent, argv)) = argv.split_first() else {
        return DemoError::Stage("`demo-host server` needs a process to die with".into());
    };
    if let Err(e) = set_pdeathsig(Signal::SIGKILL) {
        return DemoError::Stage(format!("prctl: {e}"));
    }
    if parent.to_str() != Some(getppid().to_string().as_str()) {
        return DemoError::Stage("the demo is gone".into());
    }
    let mut command = own::command(argv);
    command.stderr(std::process::Stdio::inherit());
    DemoError::Stage(format!("exec: {}", command.exec()))
}
