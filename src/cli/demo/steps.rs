//! The play: who does what, and what the port must look like afterwards.

use super::guest::{CARD, Guest, Order};
use super::place::Place;
use super::report::{Report, Want};
use super::server::{Server, prepare, serve_greetings};
use super::space::Space;
use super::{DOOR, DemoError, Family, Host, SERVICE, TO_CLIENT, TO_STRANGER, Wire, link, wait};
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

/// A port has opened, or closed on demand, by then.
const SOON: Duration = Duration::from_secs(2);
/// The name of the client in the server's directory and log.
const NAME: &str = "demo";
/// A lease that must not end by itself before it is closed.
const LONG: &str = "30s";
/// A lease that must end by itself.
const SHORT: &str = "3s";
/// It has ended by then: [`SHORT`] and a margin for a slow machine.
const SHORT_OVER: Duration = Duration::from_secs(5);
/// What a server needs that would fall for the repeated packet.
const TO_FALL_FOR_IT: Duration = Duration::from_millis(500);

struct Play<'a> {
    report: Report,
    client: Guest,
    stranger: Guest,
    place: &'a Place,
}

/// Sets the stage and plays all steps.
pub(super) fn play(backend: &str, space: &Space, place: &Place) -> Result<(), DemoError> {
    let stage = |e: io::Error| DemoError::Stage(format!("no network between the hosts: {e}"));
    link::loopback().map_err(stage)?;
    let families = families();
    let client = join(Host::Client, TO_CLIENT, &families)?;
    let stranger = join(Host::Stranger, TO_STRANGER, &families)?;
    serve_greetings(&families)?;
    let mut play = Play { report: Report::new(), client, stranger, place };
    play.introduce(backend, space, &families);
    for family in &families {
        play.before(*family);
    }
    let shown = prepare(backend, &families, place)?;
    for argv in &shown {
        play.type_in(Host::Server, argv);
    }
    play.type_in(Host::Server, &["serve", "--config", &place.file("server.toml")].map(Into::into));
    let server = Server::start(place)?;
    for family in &families {
        play.report.line(&format!("\n{}", family.name()));
        play.steps(*family, &server);
    }
    let ended = play.report.end();
    if ended.is_err() {
        eprintln!("\nthe server's log ends with:");
        server.tail().iter().for_each(|line| eprintln!("  {line}"));
    }
    ended
}

/// IPv4, and IPv6 where this kernel has it.
fn families() -> Vec<Family> {
    let six = UdpSocket::bind("[::1]:0").is_ok();
    if six { vec![Family::V4, Family::V6] } else { vec![Family::V4] }
}

/// Starts a guest and lays its cable.
fn join(host: Host, wire: Wire, families: &[Family]) -> Result<Guest, DemoError> {
    let stage = |e: String| DemoError::Stage(format!("no link to the {}: {e}", host.name()));
    let mut guest = Guest::start(host)?;
    let near = format!("to-{}", host.name());
    let lay = || {
        link::cable(&near, CARD, guest.pid())?;
        families.iter().try_for_each(|f| link::address(&near, wire.server(*f)))?;
        link::up(&near)
    };
    lay().map_err(|e: io::Error| stage(e.to_string()))?;
    let own = families.iter().map(|f| wire.guest(*f)).collect();
    guest.tell(&Order::Up(own)).map_err(stage)?;
    Ok(guest)
}

impl Play<'_> {
    fn introduce(&self, backend: &str, space: &Space, families: &[Family]) {
        let rights = if space.mapped { "without root" } else { "as root" };
        let list = |end: fn(Wire, Family) -> IpAddr, wire| {
            let all: Vec<_> = families.iter().map(|f| end(wire, *f).to_string()).collect();
            all.join(" ")
        };
        let (near, far) = (list(Wire::server, TO_CLIENT), list(Wire::server, TO_STRANGER));
        let (client, other) = (list(Wire::guest, TO_CLIENT), list(Wire::guest, TO_STRANGER));
        self.report.line(&format!(
            "Three hosts in namespaces of their own, {rights}; this machine's network is not touched.\n\
             \x20 server    {near}  {far}    a service on tcp/{SERVICE}, protected by {backend}\n\
             \x20 client    {client}    will have a key\n\
             \x20 stranger  {other}    has none"
        ));
        if !families.contains(&Family::V6) {
            self.report.line("  This kernel has no IPv6: everything is shown on IPv4 only.");
        }
        self.report.line("");
    }

    fn type_in(&self, host: Host, argv: &[String]) {
        self.report.command(host.name(), argv, &self.place.path().display().to_string());
    }

    /// Looks at the port from a guest, again and again until it is as it should be or `within` is
    /// over; once only if that is zero.
    fn look(&mut self, at: (u8, Family), text: &str, host: Host, want: Want, within: Duration) {
        let (guest, wire) = match host {
            Host::Client | Host::Server => (&mut self.client, TO_CLIENT),
            Host::Stranger => (&mut self.stranger, TO_STRANGER),
        };
        let to = SocketAddr::new(wire.server(at.1), SERVICE);
        let mut found = guest.connect(to);
        if !within.is_zero() && !want.is(&found) {
            wait::until(within, || {
                found = guest.connect(to);
                want.is(&found).then_some(())
            });
        }
        self.report.port(at, text, wire.guest(at.1), want, &found);
    }

    /// The client runs a command; where that fails the step is marked, and the look that follows
    /// tells what came of it.
    fn client_runs(&mut self, at: (u8, Family), verb: &str, more: &[&str]) {
        let door = SocketAddr::new(TO_CLIENT.server(at.1), DOOR).to_string();
        let key = self.place.file("demo.toml");
        let argv: Vec<String> =
            [verb, &door, "--key", &key].iter().chain(more).map(|a| (*a).into()).collect();
        self.type_in(Host::Client, &argv);
        if let Err(why) = self.client.tell(&Order::Run(argv)) {
            self.report.fact(at, &format!("the client's `{verb}`"), Some(why));
        }
    }

    fn before(&mut self, family: Family) {
        let at = (1, family);
        self.look(at, "before the server starts", Host::Client, Want::Open, SOON);
        self.look(at, "before the server starts", Host::Stranger, Want::Open, SOON);
    }

    fn steps(&mut self, family: Family, server: &Server) {
        let at = |step| (step, family);
        let now = Duration::ZERO;
        self.look(at(2), "the server is up", Host::Client, Want::Shut, now);
        self.look(at(2), "the server is up", Host::Stranger, Want::Shut, now);

        let packet = self.place.file(&format!("packet-{}", family.name()));
        self.client_runs(at(3), "open", &["--for", LONG, "--save", &packet]);
        self.look(at(3), "one packet from the client", Host::Client, Want::Open, SOON);
        self.look(at(4), "the stranger meanwhile", Host::Stranger, Want::Shut, now);

        self.repeat(at(5), &packet);
        self.look(at(5), "the same packet from the stranger", Host::Stranger, Want::Shut, now);

        self.look(at(6), "still open to the client", Host::Client, Want::Open, SOON);
        self.client_runs(at(6), "close", &[]);
        self.look(at(6), "closed by the client", Host::Client, Want::Shut, SOON);

        self.client_runs(at(7), "open", &["--for", SHORT]);
        self.look(at(7), "opened again, for 3s", Host::Client, Want::Open, SOON);
        self.look(at(7), "3s later, by itself", Host::Client, Want::Shut, SHORT_OVER);

        let client = TO_CLIENT.guest(family);
        let named = wait::until(SOON, || {
            server.lines().iter().any(|line| names(line, client)).then_some(())
        });
        let wrong = named.is_none().then(|| "no such line".to_string());
        self.report.fact(at(8), &format!("the log names the client: {NAME}, {client}"), wrong);
    }

    /// The stranger sends what he has seen on the wire.
    fn repeat(&mut self, at: (u8, Family), packet: &str) {
        let door = SocketAddr::new(TO_STRANGER.server(at.1), DOOR);
        let sent = fs::read(packet)
            .map_err(|e| format!("no saved packet: {e}"))
            .and_then(|bytes| self.stranger.tell(&Order::Send(door, bytes)));
        match sent {
            Ok(()) => sleep(TO_FALL_FOR_IT),
            Err(why) => self.report.fact(at, "the stranger sends the packet", Some(why)),
        }
    }
}

/// Whether a line of the log says that this client got in: its name, and its address.
fn names(line: &str, address: IpAddr) -> bool {
    let part = |c: char| !(c.is_alphanumeric() || "-_./:".contains(c));
    let words: Vec<_> = line.split(part).map(|w| w.trim_matches(['.', ':'])).collect();
    let address = address.to_string();
    let from = |w: &&str| w.split('/').next() == Some(address.as_str());
    words.contains(&NAME) && words.iter().any(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_grant_has_the_name_and_the_address() {
        let (four, six) = ("10.99.1.2".parse().unwrap(), "fd99:1::2".parse().unwrap());
        assert!(names("open: client demo from 10.99.1.2 tcp/2222 for 30s", four));
        assert!(names("client=demo address=10.99.1.2/32: opened", four));
        assert!(names("client \"demo\": fd99:1::2, tcp/2222", six));
        assert!(names("[priv] demo: open fd99:1::2/128 -> tcp/2222", six));
        assert!(!names("read /run/opensesame-x/clients/demo.toml for 10.99.1.2", four));
        assert!(!names("demo: open 10.99.1.22 -> tcp/2222", four));
        assert!(!names("demo: open 10.99.1.2 -> tcp/2222", six));
        assert!(!names("open 10.99.1.2 -> tcp/2222", four));
    }

    #[test]
    fn an_order_survives_the_pipe() {
        let to = SocketAddr::new(TO_STRANGER.server(Family::V6), DOOR);
        let line = serde_json::to_string(&Order::Send(to, vec![0, 255])).unwrap();
        let back: Order = serde_json::from_str(&line).unwrap();
        assert!(!line.contains('\n'));
        assert!(matches!(back, Order::Send(t, b) if t == to && b == [0, 255]));
    }
}
