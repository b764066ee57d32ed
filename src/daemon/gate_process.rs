//! `[gate]`: the HTTP listeners and the directory of the mapped files, and no rights.

use super::channel::{Broken, Channel};
use super::clock;
use super::engine_process::wait_for;
use super::frame::Frame;
use super::site::Site as Told;
use crate::engine::suspicion::{Pin, Verdict};
use crate::gate::{Answer, Asked, Gate, Limits, QUESTIONS, Question, Site, serve};
use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::{mpsc, oneshot};

/// Descriptors that are not connections.
const OTHERS: rlim_t = 128;

/// Runs as `[gate]`, with one end of the socket pair as stdin, until `[priv]` is gone.
#[must_use]
pub fn run() -> ExitCode {
    super::system::be("gate", true, start)
}

fn start(mut channel: Channel) -> Result<(), String> {
    let (mut user, mut path, mut early) = (None, None, Vec::new());
    let (mut files, mut ignore, mut proxies) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    let count = loop {
        let frame = wait_for(&mut channel)?.0;
        let Frame::Site(part) = frame else {
            early.push(frame);
            continue;
        };
        match part {
            Told::User(told) => user = Some(told),
            Told::Path(told) => path = Some(told),
            Told::File(file) => {
                let path = path.take().ok_or("a file without a path")?;
                files.insert(path, file.into());
            }
            Told::Ignore(path) => drop(ignore.insert(path)),
            Told::Proxy(prefix) => proxies.push(prefix),
            Told::Go(count) => break count,
        }
    };
    let root = channel.take_fd().ok_or("no root was handed down")?;
    let listeners: Option<Vec<TcpListener>> =
        (0..count).map(|_| channel.take_fd().map(TcpListener::from)).collect();
    let listeners = listeners.ok_or("fewer listeners than said")?;
    super::rights::drop_all(user.ok_or("no user was named")?)?;
    let limits = Limits { connections: room(), ..Limits::default() };
    let (judge, questions) = mpsc::channel(QUESTIONS);
    let now = || clock::now().unix;
    let gate = Rc::new(Gate::new(Site { root, files, ignore, proxies }, limits, judge, now));
    // An answer that is late finds nobody of an earlier life's number.
    let ticket = u64::from_be_bytes(crate::crypto::random().map_err(|e| e.to_string())?);
    let mut talk = Talk { channel, gate: Rc::clone(&gate), open: BTreeMap::new(), ticket };
    early.into_iter().try_for_each(|frame| talk.handle_frame(frame))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime.map_err(|e| e.to_string())?, async move {
        tokio::select! {
            served = serve(listeners, gate) => match served {
                Ok(never) => match never {},
                Err(e) => Err(e.to_string()),
            },
            talked = talk.run(questions) => talked,
        }
    })
}

/// How many connections there is room for, after as many descriptors as may be have been allowed.
fn room() -> usize {
    let most = Limits::default().connections;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 256 };
    let wanted = hard.min(most as rlim_t + OTHERS).max(soft);
    let have = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    most.min(usize::try_from(have.saturating_sub(OTHERS)).unwrap_or(most)).max(16)
}

/// The talk with `[priv]`.
struct Talk {
    channel: Channel,
    gate: Rc<Gate>,
    open: BTreeMap<u64, oneshot::Sender<Answer>>,
    ticket: u64,
}

impl Talk {
    async fn run(&mut self, mut questions: mpsc::Receiver<Asked>) -> Result<(), String> {
        let copy = self.channel.as_fd().try_clone_to_owned().map_err(|e| e.to_string())?;
        let copy = tokio::net::UnixStream::from_std(UnixStream::from(copy));
        let copy = copy.map_err(|e| e.to_string())?;
        // Cleared before the channel is used: what comes meanwhile makes it ready again.
        let clear = |what| {
            let _ = copy.try_io(what, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        };
        let broken = |why: Broken| format!("[priv]: {why}");
        // What came with the last word of the beginning.
        while let Some((frame, _)) = self.channel.next().map_err(broken)? {
            self.handle_frame(frame)?;
        }
        loop {
            self.channel.flush().map_err(broken)?;
            tokio::select! {
                ready = copy.readable() => {
                    ready.map_err(|e| e.to_string())?;
                    clear(Interest::READABLE);
                    while let Some((frame, _)) = self.channel.next().map_err(broken)? {
                        self.handle_frame(frame)?;
                    }
                }
                ready = copy.writable(), if self.channel.is_waiting() => {
                    ready.map_err(|e| e.to_string())?;
                    clear(Interest::WRITABLE);
                }
                asked = questions.recv() => match asked {
                    Some(asked) => self.pass_on(asked),
                    None => return Ok(()),
                },
            }
        }
    }

    fn pass_on(&mut self, (question, answer): Asked) {
        if self.open.len() >= QUESTIONS {
            // Who is no longer waited for.
            self.open.retain(|_, answer| !answer.is_closed());
        }
        if self.channel.is_full() {
            return;
        }
        self.ticket = self.ticket.wrapping_add(1);
        let ticket = self.ticket;
        let frame = match question {
            Question::Strike { from } => Frame::Strike { ticket, from },
            Question::Guess { from, pin } => match Pin::new(&pin) {
                Some(pin) => Frame::Guess { ticket, from, pin },
                None => return,
            },
        };
        self.open.insert(ticket, answer);
        self.channel.push(&frame, 0, vec![]);
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Ban(ban) => self.gate.ban(ban.prefix, ban.until),
            Frame::Unban(prefix) => self.gate.unban(&prefix),
            Frame::Verdict { ticket, verdict } => {
                if let Some(open) = self.open.remove(&ticket) {
                    let _ = open.send(answer(verdict));
                }
            }
            Frame::Site(_)
            | Frame::Begin(_)
            | Frame::Door(_)
            | Frame::Service(_)
            | Frame::Own(_)
            | Frame::Client(..)
            | Frame::Plain(..)
            | Frame::Knock(..)
            | Frame::Line(..)
            | Frame::Capture(_)
            | Frame::Remove(_)
            | Frame::End
            | Frame::Listen(_)
            | Frame::Decided(_)
            | Frame::Evict(_)
            | Frame::Ask
            | Frame::Stop
            | Frame::Grant(_)
            | Frame::Restore(_)
            | Frame::Restored(_)
            | Frame::Counters(_)
            | Frame::Strike { .. }
            | Frame::Guess { .. }
            | Frame::Pardon(_)
            | Frame::Pin(_)
            | Frame::Rules(_)
            | Frame::Hook(_) => return Err(format!("[priv]: {}", Broken::Frame)),
        }
        Ok(())
    }
}

fn answer(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Counted { .. } | Verdict::Exempt => Answer::Pass,
        Verdict::Blocked { .. } => Answer::Blocked,
        Verdict::Pardoned => Answer::Pardoned,
        Verdict::Wrong { left, delay_ms } => {
            Answer::Wrong { left, delay: Duration::from_millis(u64::from(delay_ms)) }
        }
    }
}
