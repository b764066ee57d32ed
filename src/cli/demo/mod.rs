//! Shows on this machine, in namespaces of its own, that the shield does what it promises.
//!
//! The process that runs becomes the host `server`; two children of the same binary become the
//! hosts `client` and `stranger` and do what they are told over a pipe. The firewall, the server
//! and the client are the real ones: the demo runs `init`, `invite`, `serve`, `open` and `close`
//! as anybody would, and looks at the port from both sides after each of them.
//!
//! Nothing here needs another program, and nothing of the machine's own network is touched.
#![forbid(unsafe_code)]

mod guest;
mod link;
mod own;
mod place;
mod report;
mod server;
mod space;
mod steps;
mod wait;

use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitStatus;

/// The protected port, TCP.
const SERVICE: u16 = 2222;
/// Where the server listens for packets, UDP.
const DOOR: u16 = 41841;
/// What the service says to whoever gets in.
const GREETING: &[u8] = b"hello\n";

/// One of the three hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Host {
    Server,
    Client,
    Stranger,
}

impl Host {
    fn name(self) -> &'static str {
        match self {
            Host::Server => "server",
            Host::Client => "client",
            Host::Stranger => "stranger",
        }
    }
}

/// IPv4 or IPv6: every step is shown on both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// The link between the server and one guest: 10.99.N.0/24 and fd99:N::/64, the server's end is 1
/// and the guest's end is 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wire(u8);

const TO_CLIENT: Wire = Wire(1);
const TO_STRANGER: Wire = Wire(2);

impl Wire {
    fn at(self, family: Family, end: u8) -> IpAddr {
        match family {
            Family::V4 => Ipv4Addr::new(10, 99, self.0, end).into(),
            Family::V6 => Ipv6Addr::new(0xfd99, self.0.into(), 0, 0, 0, 0, 0, end.into()).into(),
        }
    }

    /// The server's address on this link.
    fn server(self, family: Family) -> IpAddr {
        self.at(family, 1)
    }

    /// The guest's address on this link.
    fn guest(self, family: Family) -> IpAddr {
        self.at(family, 2)
    }
}

/// Why the demo did not show what it should, and what to do.
#[derive(Debug)]
pub(crate) enum DemoError {
    /// The machine does not let this process make namespaces; the text says what forbids it.
    Forbidden(String),
    /// A program that the chosen backend runs is not installed.
    Missing(&'static str),
    /// The stage could not be set; the text says which part and why.
    Stage(String),
    /// A command of our own failed before the first check: which one, how it ended, what it said.
    Command(String, Option<ExitStatus>, String),
    /// Some checks came out otherwise than they should; the text lists them.
    Checks {
        /// How many.
        failed: usize,
        /// Out of how many.
        of: usize,
        /// Which steps.
        steps: String,
    },
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DemoError::Forbidden(why) => f.write_str(why),
            DemoError::Missing(program) => write!(
                f,
                "the program `{program}` is not installed: install iptables, or run \
                 `opensesame-spa demo --backend nftables`, which needs no program"
            ),
            DemoError::Stage(what) => f.write_str(what),
            DemoError::Command(command, Some(status), said) => {
                write!(f, "`{command}` failed ({status}): {said}")
            }
            DemoError::Command(command, None, said) => {
                write!(f, "`{command}` did not come up: {said}")
            }
            DemoError::Checks { failed, of, steps } => {
                write!(f, "{failed} of {of} checks are not as they should be: {steps}")
            }
        }
    }
}

impl std::error::Error for DemoError {}

/// Sets the stage, shows every step on standard output and takes everything down again.
///
/// The calling process must have one thread only (user_namespaces(7)), and it never leaves the
/// namespaces that it enters here: call this last. `backend` is `nftables` or `iptables`.
///
/// # Errors
/// Where namespaces are forbidden, where something on the stage fails, and when a check comes out
/// otherwise than it should.
pub(crate) fn run(backend: &str) -> Result<(), DemoError> {
    if backend == "iptables" {
        let absent = ["iptables", "ip6tables"].into_iter().find(|p| !own::installed(p));
        absent.map_or(Ok(()), |program| Err(DemoError::Missing(program)))?;
    }
    let space = space::enter()?;
    let place = place::Place::new(space.tmpfs)?;
    steps::play(backend, &space, &place)
}

/// The hidden subcommand `demo-host NAME [ARGV]...`: what the demo runs for its other hosts.
///
/// `client` and `stranger` take a network namespace of their own and then obey the orders that
/// come on standard input until it ends. `server PID ARGV...` becomes this binary with those
/// arguments, and dies when PID does.
///
/// # Errors
/// Where the namespace is forbidden, where standard output is gone, and for any other NAME.
pub(crate) fn host(name: &str, argv: &[OsString]) -> Result<(), DemoError> {
    match name {
        "client" | "stranger" => guest::obey(),
        "server" => Err(server::become_server(argv)),
        _ => Err(DemoError::Stage("`demo-host` is run by `opensesame-spa demo` only".into())),
    }
}
