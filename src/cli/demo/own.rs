//! Runs this program's own binary, as a person would from a shell.

use super::wait;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// The running binary, even where its path is hidden or gone (proc_pid_exe(5)).
const SELF: &str = "/proc/self/exe";
/// What a command may take that does its work and ends.
const PATIENCE: Duration = Duration::from_secs(15);
/// Where system programs lie that an ordinary user's PATH leaves out.
const SYSTEM: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that ended: how, and what it wrote to standard error.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    pub(super) said: String,
}

/// This binary with these arguments, no input and a bare environment.
pub(super) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(SELF);
    command.arg0("opensesame-spa").args(args).env_clear().env("PATH", path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs it to its end, at most [`PATIENCE`].
pub(super) fn run<S: AsRef<OsStr>>(args: &[S]) -> io::Result<Ended> {
    let mut child = command(args).stderr(Stdio::piped()).spawn()?;
    let ended = wait::until(PATIENCE, || child.try_wait().transpose());
    let Some(status) = ended.transpose()? else {
        child.kill()?;
        child.wait()?;
        return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end by itself"));
    };
    let mut said = String::new();
    if let Some(pipe) = &mut child.stderr {
        pipe.take(8192).read_to_string(&mut said)?;
    }
    Ok(Ended { status, said: said.trim_end().into() })
}

/// Whether a program lies where the server will find it.
pub(super) fn installed(program: &str) -> bool {
    path().split(':').any(|dir| Path::new(dir).join(program).is_file())
}

fn path() -> String {
    match std::env::var("PATH") {
        Ok(path) if !path.is_empty() => format!("{path}:{SYSTEM}"),
        Ok(_) | Err(_) => SYSTEM.into(),
    }
}
