//! The two other hosts: a child each, in a network namespace of its own, that does what it is
//! told. Orders and answers are JSON, one on a line.

use super::{DemoError, GREETING, Host, link, own, space};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The guest's end of its cable.
pub(super) const CARD: &str = "eth0";
/// A port that has said nothing for so long is silent.
const SILENCE: Duration = Duration::from_millis(600);
/// The longest that an order takes, with a command of our own in it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a guest can be told.
#[derive(Serialize, Deserialize, Debug)]
pub(super) enum Order {
    /// Take these addresses.
    Up(Vec<IpAddr>),
    /// Try to reach the service there.
    Connect(SocketAddr),
    /// Send one UDP datagram there.
    Send(SocketAddr, Vec<u8>),
    /// Run this program with these arguments.
    Run(Vec<String>),
}

/// What it says afterwards.
#[derive(Serialize, Deserialize, Debug)]
pub(super) enum Answer {
    Done,
    Tried(Tried),
    Failed(String),
}

/// What became of an attempt to reach the service.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(super) enum Tried {
    /// Connected, and the service greeted.
    Open,
    /// The host said no.
    Refused,
    /// No answer at all.
    Silence,
    /// Something else; the text says what.
    Odd(String),
}

/// A guest, as the demo sees it; it dies when this is dropped.
pub(super) struct Guest {
    host: Host,
    child: Child,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Guest {
    /// Starts it and waits until it has its namespace.
    pub(super) fn start(host: Host) -> Result<Guest, DemoError> {
        let fail = |e: String| DemoError::Stage(format!("the host {}: {e}", host.name()));
        let mut command = own::command(&["demo-host", host.name()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|e| fail(e.to_string()))?;
        let (Some(orders), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail("has no pipes".into()));
        };
        let (line, answers) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.map(|l| line.send(l)).take_while(Result::is_ok).for_each(drop);
        });
        let guest = Guest { host, child, orders, answers };
        match guest.answer() {
            Ok(Answer::Done) => Ok(guest),
            Ok(Answer::Failed(why)) => Err(space::forbidden("unshare", io::Error::other(why))),
            Ok(other) => Err(fail(format!("said {other:?}"))),
            Err(why) => Err(fail(why)),
        }
    }

    /// The process whose namespace it is.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Gives an order that only has to be done.
    pub(super) fn tell(&mut self, order: &Order) -> Result<(), String> {
        match self.ask(order)? {
            Answer::Done => Ok(()),
            Answer::Failed(why) => Err(why),
            Answer::Tried(tried) => Err(format!("{tried:?}")),
        }
    }

    /// Tries to reach the service at that address.
    pub(super) fn connect(&mut self, to: SocketAddr) -> Tried {
        match self.ask(&Order::Connect(to)) {
            Ok(Answer::Tried(tried)) => tried,
            Ok(Answer::Done) => Tried::Odd("no answer to the question".into()),
            Ok(Answer::Failed(why)) | Err(why) => Tried::Odd(why),
        }
    }

    fn ask(&mut self, order: &Order) -> Result<Answer, String> {
        let line = serde_json::to_string(order).map_err(|e| e.to_string())?;
        let gone = |e: io::Error| format!("the host {} is gone: {e}", self.host.name());
        writeln!(self.orders, "{line}").map_err(gone)?;
        self.answer()
    }

    fn answer(&self) -> Result<Answer, String> {
        let gone = |_| format!("the host {} does not answer", self.host.name());
        let line = self.answers.recv_timeout(PATIENCE).map_err(gone)?;
        serde_json::from_str(&line).map_err(|e| e.to_string())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only where the child is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The guest's own side: obeys until standard input ends.
pub(super) fn obey() -> Result<(), DemoError> {
    let lost = |e: io::Error| DemoError::Stage(format!("the demo is gone: {e}"));
    let say = |answer: &Answer| {
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, answer)?;
        out.write_all(b"\n")?;
        out.flush()
    };
    set_pdeathsig(Signal::SIGKILL).map_err(|e| lost(e.into()))?;
    if let Err(e) = space::network() {
        return say(&Answer::Failed(e.desc().into())).map_err(lost);
    }
    say(&Answer::Done).map_err(lost)?;
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line.map_err(lost)?);
        let answer = match order {
            Ok(order) => carry_out(order),
            Err(e) => Answer::Failed(e.to_string()),
        };
        say(&answer).map_err(lost)?;
    }
    Ok(())
}

fn carry_out(order: Order) -> Answer {
    let done = match order {
        Order::Up(addresses) => raise(&addresses),
        Order::Connect(to) => return Answer::Tried(attempt(to)),
        Order::Send(to, bytes) => send(to, &bytes),
        Order::Run(argv) => run(&argv),
    };
    match done {
        Ok(()) => Answer::Done,
        Err(e) => Answer::Failed(e.to_string()),
    }
}

fn raise(addresses: &[IpAddr]) -> io::Result<()> {
    link::loopback()?;
    addresses.iter().try_for_each(|a| link::address(CARD, *a))?;
    link::up(CARD)
}

fn send(to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    UdpSocket::bind(any)?.send_to(bytes, to).map(drop)
}

fn run(argv: &[String]) -> io::Result<()> {
    let ended = own::run(argv)?;
    if ended.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{}: {}", ended.status, ended.said)))
}

fn attempt(to: SocketAddr) -> Tried {
    let mut stream = match TcpStream::connect_timeout(&to, SILENCE) {
        Ok(stream) => stream,
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => return Tried::Refused,
        Err(e) if e.kind() == ErrorKind::TimedOut => return Tried::Silence,
        Err(e) => return Tried::Odd(e.to_string()),
    };
    let mut heard = [0; GREETING.len()];
    let greeted =
        stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.read_exact(&mut heard));
    match greeted {
        Ok(()) if heard == GREETING => Tried::Open,
        Ok(()) => Tried::Odd("a strange greeting".into()),
        Err(e) => Tried::Odd(format!("connected, but no greeting: {e}")),
    }
}
