//! What the scenarios share: the backend on the server, and the judges.

pub(crate) mod bans;
pub(crate) mod gateway;
pub(crate) mod healing;
pub(crate) mod leases;
pub(crate) mod observe;
pub(crate) mod pinhole;
pub(crate) mod turns;

use crate::netns::{
    CLIENT, CLIENT_V4, CLIENT_V6, SERVER, SERVER_V4, SERVER_V6, STRANGER, STRANGER_V4, STRANGER_V6,
    Tried, World,
};
use nix::time::{ClockId, clock_gettime};
use opensesame_spa::access::{Ports, Refuse};
use opensesame_spa::firewall::iptables::Options;
use opensesame_spa::firewall::{Element, Error, Firewall, Iptables, Opening, Shield};
use opensesame_spa::time::{Mono, Now, Unix};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

pub(crate) const TOOLS: [&str; 6] =
    ["iptables-nft", "iptables-legacy", "ipset", "nmap", "conntrack", "python3"];
pub(crate) const LONG: Duration = Duration::from_secs(10);
pub(crate) const PORT: u16 = 7000;
pub(crate) const BOTH: [(&str, &str, &str); 2] =
    [(SERVER_V4, CLIENT_V4, STRANGER_V4), (SERVER_V6, CLIENT_V6, STRANGER_V6)];

pub(crate) const SERVERS: [&str; 2] = [SERVER_V4, SERVER_V6];

/// Variant and way of keeping leases.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) legacy: bool,
    pub(crate) ipset: bool,
}

impl Kind {
    pub(crate) fn tool(self, v6: bool, rest: &str) -> String {
        let variant = if self.legacy { "legacy" } else { "nft" };
        format!("ip{}tables-{variant}{rest}", if v6 { "6" } else { "" })
    }

    pub(crate) fn options(self) -> Options {
        Options { ipset: self.ipset, legacy: Some(self.legacy), ..Options::default() }
    }
}

pub(crate) fn shield() -> Shield {
    let protect = |text: &str| (text.parse::<Ports>().unwrap(), Refuse::Drop);
    let protected = ["tcp/7000", "tcp/7100-7110", "tcp/7200-7400", "udp/7000"];
    Shield {
        protected: protected.map(protect).to_vec(),
        listening: vec![62201],
        ..Shield::default()
    }
}

#[allow(clippy::disallowed_methods)]
pub(crate) fn now() -> Now {
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap());
    Now { unix: Unix(wall.as_millis() as u64), mono: Mono(boot.as_millis() as u64) }
}

pub(crate) fn element(from: &str, to: &str) -> Element {
    Element { from: from.parse().unwrap(), to: to.parse().unwrap() }
}

pub(crate) fn opening(from: &str, to: &str, seconds: u64) -> Opening {
    Opening { element: element(from, to), until: now().mono.plus(seconds * 1_000) }
}

pub(crate) fn both(seconds: u64) -> [Opening; 2] {
    [CLIENT_V4, CLIENT_V6].map(|from| opening(from, "tcp/7000", seconds))
}

/// The backend, and a way to use it on the server.
pub(crate) struct Wall<'w> {
    world: &'w World,
    pub(crate) backend: Iptables,
}

impl<'w> Wall<'w> {
    pub(crate) fn new(world: &'w World, options: Options) -> Wall<'w> {
        Wall::of(world, &shield(), options)
    }

    pub(crate) fn of(world: &'w World, shield: &Shield, options: Options) -> Wall<'w> {
        let backend = world.enter(SERVER, || Iptables::with(shield, options)).unwrap();
        Wall { world, backend }
    }

    pub(crate) fn with<T: Send>(&mut self, work: impl FnOnce(&mut Iptables, Now) -> T + Send) -> T {
        let backend = &mut self.backend;
        self.world.enter(SERVER, move || work(backend, now()))
    }

    pub(crate) fn sync(&mut self, openings: &[Opening]) -> Result<(), Error> {
        self.with(|b, now| b.sync(openings, now))
    }

    pub(crate) fn open(&mut self, openings: &[Opening]) -> Result<(), Error> {
        self.with(|b, now| b.open(openings, now))
    }
}

pub(crate) fn reach(world: &World, host: &str, address: &str, port: u16) -> Option<TcpStream> {
    let to = SocketAddr::new(address.parse::<IpAddr>().unwrap(), port);
    world.enter(host, || TcpStream::connect_timeout(&to, LONG)).ok()
}

pub(crate) fn open(world: &World, host: &str, address: &str, port: u16) {
    assert!(reach(world, host, address, port).is_some(), "{host} to {address} {port}");
}

pub(crate) fn shut(world: &World, host: &str, address: &str, port: u16) {
    assert_eq!(world.connect(host, address, port), Tried::Silence, "{host} {address} {port}");
}

/// All at once: the silence of each takes its time.
pub(crate) fn all_shut(world: &World, hosts: &[&str], addresses: [&str; 2], port: u16) {
    std::thread::scope(|scope| {
        for host in hosts {
            for address in addresses {
                scope.spawn(move || shut(world, host, address, port));
            }
        }
    });
}

/// What a system tool saves, without comments and counters, and without times.
pub(crate) fn saved(world: &World, kind: Kind) -> String {
    let mut out = String::new();
    for v6 in [false, true] {
        for line in world.run(SERVER, &[&kind.tool(v6, "-save")]).lines() {
            let line = line.split(" [").next().unwrap();
            match line.split_once(" --datestart ") {
                Some((a, _)) => out += &format!("{a}\n"),
                None if line.starts_with('#') => {}
                None => out += &format!("{line}\n"),
            }
        }
    }
    out
}

/// Names and elements of all sets, without their timeouts.
pub(crate) fn sets(world: &World) -> Vec<String> {
    let mut name = String::new();
    let mut out = Vec::new();
    for line in world.run(SERVER, &["ipset", "list"]).lines() {
        match line.split_once(": ") {
            Some(("Name", n)) => {
                name = n.to_string();
                out.push(name.clone());
            }
            None if line.contains(',') => {
                out.push(format!("{name} {}", line.split(' ').next().unwrap()));
            }
            Some(_) | None => {}
        }
    }
    out.sort();
    out
}

/// The kernel closes the port by itself, soon.
pub(crate) fn ends(world: &World, host: &str, addresses: [&str; 2], port: u16) {
    let end = now().mono.plus(15_000);
    for address in addresses {
        while world.connect(host, address, port) != Tried::Silence {
            assert!(now().mono < end, "{host} to {address} {port} is still open");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

pub(crate) fn count(text: &str, part: &str) -> usize {
    text.lines().filter(|l| l.contains(part)).count()
}

/// Feeds a program of the server.
pub(crate) fn feed(world: &World, argv: &[&str], input: &str) {
    let mut command = world.command(SERVER, argv[0]);
    let mut child = command.args(&argv[1..]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{argv:?}");
}

pub(crate) fn foreign(world: &World, kind: Kind) {
    for v6 in [false, true] {
        let rules = "*mangle\n:MINE - [0:0]\n-A PREROUTING -j MINE\n\
             -A MINE -p udp -m udp --dport 9 -j MARK --set-xmark 0x7/0xffffffff\nCOMMIT\n\
             *raw\n-A PREROUTING -p udp -m udp --dport 9 -j CT --notrack\n\
             -A OUTPUT -p udp -m udp --sport 9 -j CT --notrack\nCOMMIT\n\
             *filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";
        feed(world, &[&kind.tool(v6, "-restore"), "-w", "20"], rules);
    }
    world.run(SERVER, &["ipset", "create", "opensesame", "hash:ip"]);
}

/// A directory of programs that do what the system's do, after a few lines of shell.
pub(crate) fn disguised(lines: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let names = [false, true].map(|v6| {
        [false, true]
            .map(|legacy| Kind { legacy, ipset: true })
            .map(|k| ["", "-restore", "-save"].map(|rest| k.tool(v6, rest)))
    });
    for name in names.iter().flatten().flatten().map(String::as_str).chain(["ipset"]) {
        let text = format!(
            "#!/bin/sh\nd={}\nme={name}\n{lines}\nexec /usr/sbin/{name} \"$@\"\n",
            dir.path().display()
        );
        // Written by another process: a program that is open for writing does not start.
        let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
        let path = dir.path().join(name);
        let done = Command::new("sh").args(["-c", write, "sh", &text]).arg(&path).status();
        assert!(done.unwrap().success());
    }
    dir
}

pub(crate) fn masked(kind: Kind, dir: &Path) -> Options {
    Options { directories: vec![dir.to_path_buf()], ..kind.options() }
}
