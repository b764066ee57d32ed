//! One command: its words, its environment, its output and its end.

use crate::daemon::config::{Value, Word};
use crate::daemon::hook::Order;
use crate::sys;
use crate::time::{Mono, Now};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

/// So much of what a command says, on both of its outputs together, is kept: bytes.
const MOST: usize = 64 << 10;
/// How long the pipe of a command that has ended is still read, if somebody else holds it: ms.
const GRACE: u64 = 200;
/// The most reads of one pipe before the others get their turn.
const READS: usize = 16;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that runs, or has ended and may still be heard.
pub(super) struct Running {
    order: Order,
    child: Child,
    begun: Mono,
    deadline: Mono,
    /// It was killed because its time was over.
    late: bool,
    output: Vec<u8>,
    pipe: Option<PipeReader>,
    /// How it ended, and until when its pipe is read.
    ended: Option<(ExitStatus, Mono)>,
}

fn value(value: Value, order: &Order) -> OsString {
    match value {
        Value::Client => OsStr::from_bytes(order.client.bytes()).to_os_string(),
        Value::Service => order.service.clone().into(),
        Value::Address => order.from.to_string().into(),
        Value::Ports => order.to.to_string().into(),
        Value::Seconds => order.seconds.to_string().into(),
    }
}

/// Each word of the file is one word of the command, whatever is in it.
fn argv(words: &[Word], order: &Order) -> Vec<OsString> {
    let one = |word: &Word| match word {
        Word::Text(text) => text.into(),
        Word::Value(what) => value(*what, order),
    };
    words.iter().map(one).collect()
}

/// The whole environment of a command.
fn environment(order: &Order) -> Vec<(String, OsString)> {
    let name = |v: &Value| format!("OPENSESAME_{}", v.name().to_uppercase());
    let values = Value::ALL.iter().map(|v| (name(v), value(*v, order)));
    let fixed = [("PATH", PATH), ("OPENSESAME_EVENT", order.event.name())];
    fixed.map(|(name, value)| (name.into(), value.into())).into_iter().chain(values).collect()
}

fn shown(order: &Order) -> String {
    let Order { event, client, service, from, to, .. } = order;
    format!("on-{} client={client} service={service} address={from} ports={to}", event.name())
}

impl Running {
    /// Starts it.
    ///
    /// # Errors
    /// Why not, and whether that passes by itself.
    pub(super) fn start(order: Order, words: &[Word], now: Now) -> Result<Running, (String, bool)> {
        let what = shown(&order);
        let mut argv = argv(words, &order).into_iter();
        let program = argv.next().unwrap_or_default();
        log::info!("{what}: runs {}", program.display());
        let spawn = || -> io::Result<(Child, PipeReader)> {
            let (reader, writer) = io::pipe()?;
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            let mut command = Command::new(&program);
            command.args(argv).env_clear().envs(environment(&order)).stdin(Stdio::null());
            command.stdout(writer.try_clone()?).stderr(writer);
            sys::detach(&mut command);
            // The writers go with the command: at the end of the others the pipe has ended.
            command.spawn().map(|child| (child, reader))
        };
        let passes = |e: &io::Error| {
            use nix::libc::{EAGAIN, EMFILE, ENFILE, ENOMEM};
            e.raw_os_error().is_some_and(|e| [EAGAIN, EMFILE, ENFILE, ENOMEM].contains(&e))
        };
        let (child, reader) = spawn().map_err(|e| (format!("{what}: not run: {e}"), passes(&e)))?;
        Ok(Running {
            child,
            begun: now.mono,
            deadline: now.mono.plus(u64::from(order.timeout) * 1_000),
            late: false,
            output: Vec::new(),
            pipe: Some(reader),
            ended: None,
            order,
        })
    }

    pub(super) fn pipe(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// When to look at it, whatever happens.
    pub(super) fn due(&self) -> Mono {
        match self.ended {
            Some((_, until)) => until,
            // What has been killed and does not end yet is up to the kernel.
            None if self.late => self.deadline.plus(u64::from(u32::MAX)),
            None => self.deadline,
        }
    }

    /// Ends its process group.
    pub(super) fn kill(&self) {
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        // There is none any more: all have ended.
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
    }

    /// Reads what it says, ends it in time; its ticket when all is over.
    pub(super) fn look(&mut self, now: Now) -> Option<u64> {
        self.read();
        if self.ended.is_none() {
            // A child that cannot be waited for is gone.
            let status = match self.child.try_wait() {
                Ok(status) => status,
                Err(_) => Some(ExitStatus::from_raw(0)),
            };
            if let Some(status) = status {
                // Whatever it has left behind in its process group would count for nobody.
                self.kill();
                self.ended = Some((status, now.mono.plus(GRACE)));
                self.read();
            } else if self.deadline <= now.mono && !self.late {
                self.late = true;
                self.kill();
            }
        }
        let (status, until) = self.ended?;
        if self.pipe.is_some() && until > now.mono {
            return None;
        }
        self.report(status, now);
        Some(self.order.ticket)
    }

    fn read(&mut self) {
        let mut bytes = [0; 16 << 10];
        for _ in 0..READS {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut bytes) {
                Ok(n) if n > 0 => {
                    // What is too much is read all the same: nobody waits for room in the pipe.
                    let room = MOST - self.output.len();
                    self.output.extend_from_slice(&bytes[..n.min(room)]);
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.pipe = None,
            }
        }
    }

    fn report(&self, status: ExitStatus, now: Now) {
        let (what, ms) = (shown(&self.order), now.mono.since(self.begun));
        let how = match (self.late, status.code(), status.signal()) {
            (true, ..) => format!("killed after its {} s", self.order.timeout),
            (false, Some(code), _) => format!("exit status {code} after {ms} ms"),
            (false, None, signal) => {
                format!("killed by signal {} after {ms} ms", signal.unwrap_or_default())
            }
        };
        let said = String::from_utf8_lossy(&self.output);
        let said = match said.trim_end() {
            "" => String::new(),
            said => format!("; it said: {said}"),
        };
        match status.success() && !self.late {
            true => log::info!("{what}: {how}{said}"),
            false => log::warn!("{what}: {how}{said}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::hook::Event;
    use crate::engine::Name;

    fn order(client: &str) -> Order {
        Order {
            ticket: 1,
            timeout: 10,
            event: Event::Close,
            client: Name::new(client),
            service: "ssh".into(),
            from: "10.0.0.0/24".parse().unwrap(),
            to: "tcp/8000-8010".parse().unwrap(),
            seconds: 0,
        }
    }

    #[test]
    fn hostile_bytes_stay_one_word() {
        let words = [
            Word::Text("/bin/x".into()),
            Word::Text("--".into()),
            Word::Value(Value::Client),
            Word::Text("a b".into()),
            Word::Value(Value::Address),
            Word::Value(Value::Ports),
        ];
        for name in [
            "-rf",
            "--help",
            "a\nb",
            "it's",
            "\"",
            "$(reboot)",
            "`id`",
            "a b",
            "*",
            "{ports}",
            "%s\\",
        ] {
            let argv = argv(&words, &order(name));
            assert_eq!(argv, ["/bin/x", "--", name, "a b", "10.0.0.0/24", "tcp/8000-8010"]);
            let environment = environment(&order(name));
            assert!(environment.contains(&("OPENSESAME_CLIENT".into(), name.into())));
            assert_eq!(environment.len(), 7);
        }
    }
}
