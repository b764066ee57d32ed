//! This program's server, as `init` configures it.

use crate::packets::{Client, Datagram, Secret};
use crate::peers::{Peer, eventually, send, start};
use crate::queue::Queue;
use crate::space::{Host, SERVER, Space, output};
use opensesame_spa::access::ClientId;
use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{ClientKey, random};
use opensesame_spa::daemon::config::ServerKey;
use opensesame_spa::daemon::control::{Order, ask};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const PORT: u16 = 41_841;
/// Seconds that a lease of a prepared packet lasts: longer than the run.
const TTL: u32 = 1_800;
/// The most clients that get a file each.
const FILES: usize = 2_000;
/// Packets between two looks at the queue.
const BATCH: usize = 64;
/// How long a start may take.
const START: Duration = Duration::from_secs(120);

pub struct Ours {
    space: Space,
    program: String,
    child: Child,
    pub secret: Secret,
    pub clients: Vec<Client>,
    packets: Vec<Datagram>,
    addresses: Vec<Ipv4Addr>,
    /// From the start of the process to the answer that it is ready.
    pub started: Duration,
}

/// The clients, as the server reads them from its directory: one file each, or many in one.
fn write_clients(dir: &Path, clients: &[Client]) {
    let text = |(id, key): &Client| format!("id = \"{id}\"\nkey = \"{}\"\n", *key.to_text());
    if clients.len() <= FILES {
        for (n, client) in clients.iter().enumerate() {
            write_secret(&dir.join(format!("client-{n}.toml")), &text(client));
        }
        return;
    }
    let entry = |(n, client)| format!("[[client]]\nname = \"client-{n}\"\n{}\n", text(client));
    let all: String = clients.iter().enumerate().map(entry).collect();
    write_secret(&dir.join("all.toml"), &all);
}

fn write_secret(path: &Path, text: &str) {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

impl Ours {
    /// A server with so many clients, ready.
    pub fn new(program: &str, clients: usize) -> Ours {
        let space = Space::new();
        let dir = space.dir().join("s");
        let dir = dir.to_str().unwrap();
        let listen = format!("[::]:{PORT}");
        let protect = ["--protect", "tcp/22", "--backend", "nftables", "--listen", &listen];
        output(&[&[program, "init", "--dir", dir], &protect[..]].concat());
        let config = space.dir().join("s/server.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        // Each of the clients may hold all the leases that a measurement wants.
        std::fs::write(&config, text.replace("[policy]", "[policy]\nmax-leases = 10000\n#"))
            .unwrap();
        let key = ServerKey::load(&space.dir().join("s/server.key")).unwrap();
        let secret = Secret { server: key.id, door: key.doors[0].clone() };
        let new = |_| (ClientId(random().unwrap()), ClientKey::generate().unwrap());
        let clients: Vec<Client> = (0..clients).map(new).collect();
        write_clients(&space.dir().join("s/clients"), &clients);
        let (child, started) = launch(&space, program);
        let (packets, addresses) = (Vec::new(), Vec::new());
        let program = program.to_string();
        let new = Ours { space, program, child, secret, clients, packets, addresses, started };
        let known = new.status()["clients"].as_u64();
        assert_eq!(known, Some(new.clients.len() as u64), "not all clients: {}", new.log());
        new
    }

    /// Ends it and starts it again, with everything where it was: how long it took to be ready.
    pub fn restart(&mut self) -> Duration {
        self.stop();
        (self.child, self.started) = launch(&self.space, &self.program);
        self.started
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let child = &mut self.child;
        eventually("the server ends", || child.try_wait().unwrap().is_some());
    }

    pub fn status(&self) -> Value {
        ask(&self.space.dir().join("s/control.sock"), &Order::Status).unwrap()
    }

    /// How many packets were refused for that reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.status()["refused"][reason].as_u64().unwrap()
    }

    pub fn accepted(&self) -> u64 {
        self.status()["accepted"].as_u64().unwrap()
    }

    /// A file for the client program.
    pub fn key_file(&self) -> String {
        let (id, key) = self.clients[0].clone();
        let profile = Profile {
            name: "client-0".into(),
            host: Some(format!("{}:{PORT}", SERVER)),
            ports: vec!["tcp/22".parse().unwrap()],
            server: self.secret.server,
            door: self.secret.door.clone(),
            id,
            key,
        };
        let path = self.space.dir().join("client-0.toml");
        let _ = std::fs::remove_file(&path);
        write_secret(&path, &profile.to_text());
        path.to_str().unwrap().to_string()
    }

    /// Opens for all these addresses, as fast as it takes them: how many it accepted, and how many a
    /// second.
    pub fn fill(&mut self, addresses: Vec<Ipv4Addr>) -> (u64, f64) {
        self.prepare(addresses);
        let mut queue = Queue::new(&self.space, PORT);
        let socket = self.space.enter(Host::Clients, || UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.connect((SERVER, PORT)).unwrap();
        let (before, count) = (self.accepted(), self.packets.len() as u64);
        let begin = Instant::now();
        for some in self.packets.chunks(BATCH) {
            while queue.is_full() {
                assert!(begin.elapsed() < START, "it takes no more: {}", self.status());
                std::thread::sleep(Duration::from_micros(200));
            }
            some.iter().for_each(|packet| assert!(socket.send(packet).is_ok()));
        }
        let (mut accepted, mut last) = (0, begin.elapsed());
        // Until all are in, or no more come.
        while accepted < count && begin.elapsed() < last + Duration::from_secs(1) {
            let now = self.accepted() - before;
            if now > accepted {
                (accepted, last) = (now, begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        (accepted, accepted as f64 / last.as_secs_f64())
    }
}

/// Starts the server and waits until it says that it is ready.
fn launch(space: &Space, program: &str) -> (Child, Duration) {
    let mut command = Command::new(program);
    command.args(["serve", "--config"]).arg(space.dir().join("s/server.toml"));
    let control = space.dir().join("s/control.sock");
    let begin = Instant::now();
    let mut child = start(space, command);
    let is_ready = || ask(&control, &Order::Status).is_ok_and(|s| s["ready"] == Value::Bool(true));
    while !is_ready() {
        let over = child.try_wait().unwrap().is_some() || begin.elapsed() > START;
        assert!(!over, "it does not start: {}", space.dir().join("log").display());
        std::thread::sleep(Duration::from_millis(1));
    }
    (child, begin.elapsed())
}

impl Peer for Ours {
    fn name(&self) -> String {
        "opensesame-spa".into()
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn prepare(&mut self, addresses: Vec<Ipv4Addr>) {
        self.packets = self.secret.opens(&self.clients, &addresses, TTL);
        assert_eq!(self.packets.len(), addresses.len());
        self.addresses = addresses;
    }

    fn address(&self, n: u32) -> Ipv4Addr {
        self.addresses[n as usize]
    }

    fn knock(&self, n: usize) {
        send(&self.packets[n], PORT);
    }

    fn admitted(&self) -> BTreeSet<Ipv4Addr> {
        crate::door::listed(&self.space.run(Host::Server, &["nft", "list", "ruleset"]))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
