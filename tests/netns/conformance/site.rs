//! A server under test: its doors, tried by real packets from every side, and how they are read.

use super::backend::Backend;
use super::reader::{Reader, Seen, left};
use crate::netns::{
    CLIENT, CLIENT_V4, CLIENT_V6, SERVER, SERVER_V4, SERVER_V6, STRANGER, STRANGER_V4, STRANGER_V6,
    World,
};
use nix::time::{ClockId, clock_gettime};
use opensesame_spa::access::Refuse;
use opensesame_spa::firewall::{Element, Error, Firewall, Opening, Shield};
use opensesame_spa::time::{Mono, Now, Unix};
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::BTreeSet;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

/// Who can come, from where, and where he finds the server.
pub const GUESTS: [(&str, [&str; 2], [&str; 2]); 2] = [
    (CLIENT, [CLIENT_V4, CLIENT_V6], [SERVER_V4, SERVER_V6]),
    (STRANGER, [STRANGER_V4, STRANGER_V6], ["10.77.2.1", "fd77:2::1"]),
];
/// What is protected, unless a scenario says otherwise.
pub const PROTECTED: [&str; 4] = ["tcp/22", "tcp/80", "tcp/8000-8010", "udp/53"];
/// Where something answers.
const TCP: [u16; 3] = [22, 80, 8005];
/// A port that is nobody's to protect.
const OTHER: u16 = 9999;
/// How long an answer is waited for. What has to come is asked for again and again, and what is
/// always open has to come in the same round as what is shut.
const PATIENCE: Duration = Duration::from_millis(200);
const DEADLINE: Duration = Duration::from_secs(30);

#[allow(clippy::disallowed_methods)]
pub fn moment() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
pub fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
    Now { unix: Unix(wall.as_millis() as u64), mono: Mono(boot.as_millis() as u64) }
}

pub fn shield(ports: &[&str]) -> Shield {
    let protected = ports.iter().map(|p| (p.parse().unwrap(), Refuse::Drop)).collect();
    Shield { protected, listening: vec![62201], ..Shield::default() }
}

pub fn element(from: &str, to: &str) -> Element {
    Element { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

pub fn opening(from: &str, to: &str, seconds: u64) -> Opening {
    Opening { element: element(from, to), until: now().mono.plus(seconds * 1_000) }
}

/// The client's two addresses.
pub fn both(to: &str, seconds: u64) -> Vec<Opening> {
    [CLIENT_V4, CLIENT_V6].map(|from| opening(from, to, seconds)).to_vec()
}

/// As many leases of others, half of each family.
pub fn others(count: u32, seconds: u64) -> Vec<Opening> {
    let one = |n: u32| match n % 2 {
        0 => opening(&format!("198.18.{}.{}", n >> 8, n & 0xff), "tcp/22", seconds),
        _ => opening(&format!("2001:db8::{n:x}"), "udp/53", seconds),
    };
    (0..count).map(one).collect()
}

/// Everybody's doors to these ports.
pub fn everybody(ports: &[&str]) -> Vec<String> {
    let ways = ["client v4", "client v6", "stranger v4", "stranger v6"];
    ports.iter().flat_map(|port| ways.map(|way| format!("{way} {port}"))).collect()
}

/// Waits until it is so; a slow machine gets its time.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = moment() + DEADLINE;
    while !is_so() {
        assert!(moment() < end, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The three hosts, the server with something behind each door.
pub struct Site {
    pub world: World,
    pub backend: Backend,
    listeners: Vec<Socket>,
    datagrams: UdpSocket,
}

impl Site {
    pub fn new(backend: Backend) -> Option<Site> {
        let world = World::new(backend.tools())?;
        let (listeners, datagrams) = world.enter(SERVER, || {
            let all: Vec<Socket> = TCP.into_iter().chain([OTHER]).map(listen).collect();
            (all, UdpSocket::bind(("::", 53)).unwrap())
        });
        datagrams.set_nonblocking(true).unwrap();
        Some(Site { world, backend, listeners, datagrams })
    }

    pub fn reader(&self) -> Box<dyn Reader> {
        self.backend.reader()
    }

    /// The backend, as a daemon that has just started has it.
    pub fn wall(&self, ports: &[&str]) -> Wall<'_> {
        let shield = shield(ports);
        let firewall = self.world.enter(SERVER, || self.backend.firewall(&shield)).unwrap();
        Wall { site: self, firewall }
    }

    /// The backend with the usual ports, in force.
    pub fn shielded(&self, openings: &[Opening]) -> Wall<'_> {
        let mut wall = self.wall(&PROTECTED);
        wall.sync(openings).unwrap();
        wall
    }

    pub fn sh(&self, script: &str) -> String {
        self.world.run(SERVER, &["sh", "-ec", script])
    }

    /// What the system's own tool says is open.
    pub fn seen(&self) -> Vec<Seen> {
        self.reader().openings(&self.world)
    }

    /// How many addresses times ports it says are open.
    pub fn count(&self) -> usize {
        self.seen().iter().map(|s| usize::from(s.ports.1 - s.ports.0) + 1).sum()
    }

    /// The seconds that it says are left; 0 if it is not open.
    pub fn left(&self, from: &str, to: &str) -> u64 {
        left(&self.seen(), from, to)
    }

    /// That the tool says these are open, for about so long, and nothing else.
    pub fn says(&self, wanted: &[(&str, &str, u64)]) {
        let seen = self.seen();
        for (from, to, seconds) in wanted {
            let there = left(&seen, from, to);
            let about = seconds.saturating_sub(25)..=seconds + 1;
            assert!(about.contains(&there), "{from} {to}: {there} s of {seconds}; {seen:?}");
        }
        assert_eq!(self.count(), wanted.len(), "{seen:?}");
    }

    /// That exactly these doors are open, as in "client v4 tcp/22"; the server itself and the port
    /// that is not protected always.
    pub fn admits<T: AsRef<str>>(&self, wanted: &[T]) {
        let free = everybody(&[&format!("tcp/{OTHER}")]);
        let own = ["server v4 tcp/22", "server v6 tcp/22"].map(String::from);
        let wanted = wanted.iter().map(|w| w.as_ref().to_string());
        let wanted: BTreeSet<String> = wanted.chain(free).chain(own).collect();
        let end = moment() + DEADLINE;
        loop {
            let open = self.open_doors();
            let more: Vec<_> = open.difference(&wanted).collect();
            assert!(more.is_empty(), "open: {more:?}\n{}", self.reader().state(&self.world));
            if open == wanted {
                return;
            }
            let missing: Vec<_> = wanted.difference(&open).collect();
            let state = || self.reader().state(&self.world);
            assert!(moment() < end, "shut: {missing:?}\n{}", state());
        }
    }

    /// All doors that are open, tried at once from everywhere; none may answer that it is shut.
    fn open_doors(&self) -> BTreeSet<String> {
        while self.datagrams.recv(&mut [0; 64]).is_ok() {}
        let own = (SERVER, ["", ""], ["127.0.0.1", "::1"]);
        let mut open = BTreeSet::new();
        std::thread::scope(|scope| {
            let guests = GUESTS.into_iter().chain([own]);
            let threads = guests.map(|guest| scope.spawn(move || self.tries(guest)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().for_each(|t| open.extend(t.join().unwrap()));
        });
        let mut label = [0; 64];
        while let Ok(n) = self.datagrams.recv(&mut label) {
            open.insert(String::from_utf8(label[..n].to_vec()).unwrap());
        }
        open
    }

    fn tries(&self, (host, _, servers): (&str, [&str; 2], [&str; 2])) -> Vec<String> {
        self.world.enter(host, || {
            let mut sockets = Vec::new();
            for (family, server) in ["v4", "v6"].into_iter().zip(servers) {
                let ports: &[u16] = if host == SERVER { &[22] } else { &[22, 80, 8005, OTHER] };
                for port in ports {
                    let to = SocketAddr::new(server.parse().unwrap(), *port);
                    sockets.push((format!("{host} {family} tcp/{port}"), begin(to)));
                }
                if host != SERVER {
                    let any = if family == "v4" { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(any).unwrap();
                    let label = format!("{host} {family} udp/53");
                    socket.send_to(label.as_bytes(), (server, 53)).unwrap();
                }
            }
            let end = moment() + PATIENCE;
            while moment() < end && sockets.iter().any(|(_, s)| s.peer_addr().is_err()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            let answered = |(door, socket): (String, Socket)| match socket.take_error().unwrap() {
                Some(e) => panic!("{door} answers: {e}"),
                None => socket.peer_addr().is_ok().then_some(door),
            };
            sockets.into_iter().filter_map(answered).collect()
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Whoever waits in `accept` is woken and ends.
        self.listeners.iter().for_each(|l| l.shutdown(Shutdown::Both).unwrap());
    }
}

/// Somebody who takes every connection to a port and drops it.
fn listen(port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::STREAM, None).unwrap();
    let at: SocketAddr = (Ipv6Addr::UNSPECIFIED, port).into();
    socket.bind(&at.into()).unwrap();
    // Long: a full queue drops SYNs, as if the port were shut.
    socket.listen(4096).unwrap();
    let listener = TcpListener::from(socket.try_clone().unwrap());
    std::thread::spawn(move || while listener.accept().is_ok() {});
    socket
}

/// Begins a connection that nobody waits for. It ends with a reset: nothing lingers, which would
/// be a session older than the next `sync`.
pub fn begin(to: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    let _ = socket.connect(&SockAddr::from(to));
    socket
}

/// The backend behind its trait, used on the server.
pub struct Wall<'s> {
    site: &'s Site,
    pub firewall: Box<dyn Firewall + Send>,
}

impl Wall<'_> {
    pub fn with<T: Send>(&mut self, work: impl FnOnce(&mut dyn Firewall, Now) -> T + Send) -> T {
        let firewall = &mut self.firewall;
        self.site.world.enter(SERVER, move || work(firewall.as_mut(), now()))
    }

    pub fn sync(&mut self, openings: &[Opening]) -> Result<(), Error> {
        self.with(|f, now| f.sync(openings, now))
    }

    pub fn open(&mut self, openings: &[Opening]) -> Result<(), Error> {
        self.with(|f, now| f.open(openings, now))
    }

    pub fn close(&mut self, elements: &[Element]) -> Result<(), Error> {
        self.with(|f, now| f.close(elements, now))
    }
}
