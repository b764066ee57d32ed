//! One server in a namespace of its own: its files, its processes and its log.

pub use crate::netns::{
    CLIENT, CLIENT_V4, CLIENT_V6, Guard, SERVER, SERVER_V4, SERVER_V6, STRANGER, STRANGER_V4,
    Tried, World,
};
use opensesame_spa::access::{Action, Prefix, Request, Services};
use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{ClientKeys, Door, hex_of, random};
use opensesame_spa::proto::seal;
use opensesame_spa::time::Unix;
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

pub const BIN: &str = env!("CARGO_BIN_EXE_opensesame-spa");
pub const UDP: u16 = 41_841;
/// The server as the stranger reaches it.
pub const SERVER_OF_STRANGER: &str = "10.77.2.1";

#[allow(clippy::disallowed_methods)]
pub fn moment() -> Instant {
    Instant::now()
}

#[allow(clippy::disallowed_methods)]
pub fn wall() -> Unix {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Unix(u64::try_from(now.as_millis()).unwrap())
}

/// Waits until something is so; a slow machine gets its time.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = moment();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn kill(signal: &str, pids: &[u32]) {
    let mut command = Command::new("kill");
    command.arg(format!("-{signal}")).args(pids.iter().map(ToString::to_string));
    assert!(command.status().unwrap().success(), "kill -{signal} {pids:?}");
}

/// An open without services for the default time.
pub fn wish(time: Unix) -> Request {
    Request {
        action: Action::Open,
        reply: false,
        replace: false,
        source: true,
        v4: None,
        v6: None,
        services: Services::EMPTY,
        time,
        ttl: 0,
    }
}

/// A packet of that client.
pub fn packet(profile: &Profile, request: &Request) -> [u8; 288] {
    let door = Door::derive(profile.server, &profile.door);
    let keys = ClientKeys::derive(profile.server, &profile.key, profile.id.0);
    seal(request, profile.id, profile.server, &door, &keys, &random().unwrap())
}

/// An open for that address.
pub fn open_for(profile: &Profile, address: &str) -> [u8; 288] {
    let prefix: Prefix = address.parse().unwrap();
    let mut request = Request { source: false, ..wish(wall()) };
    match prefix.address().is_ipv4() {
        true => request.v4 = Some(prefix),
        false => request.v6 = Some(prefix),
    }
    packet(profile, &request)
}

/// Fields are dropped in this order: first the processes, then the world, then the files.
pub struct Server {
    child: Option<Child>,
    listeners: Vec<Guard>,
    pub world: World,
    dir: TempDir,
    starts: usize,
}

impl Server {
    /// The files of a server that protects tcp/22 and tcp/443, with the client alice; it does not
    /// run yet.
    pub fn new(backend: &str) -> Option<Server> {
        let tools: &[&str] = match backend {
            "iptables" => &["iptables", "ip6tables", "python3"],
            _ => &["nft", "python3"],
        };
        let world = World::new(tools)?;
        let dir = tempfile::tempdir().unwrap();
        let server = Server { child: None, listeners: Vec::new(), world, dir, starts: 0 };
        server.must(&["init", "--dir", "s", "--backend", backend, "--listen", "[::]:41841"]);
        server.edit("s/server.toml", |text| {
            let more = "[service.https]\nports = [\"tcp/443\"]\n[policy]";
            text.replace("[policy]", more)
                .replace("[server]\n", "[server]\npublic = \"10.77.1.1:41841\"\n")
        });
        server.invite("alice", &[]);
        Some(server)
    }

    /// The same, running, with something that answers on tcp/22.
    pub fn running(backend: &str) -> Option<Server> {
        let mut server = Server::new(backend)?;
        server.listen(22);
        server.start();
        Some(server)
    }

    pub fn listen(&mut self, port: u16) {
        let guard = self.world.listen(port);
        self.listeners.push(guard);
    }

    /// Another process of the server's host that lives as long.
    pub fn keep(&mut self, guard: Guard) {
        self.listeners.push(guard);
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Changes a file where it is.
    pub fn edit(&self, name: &str, change: impl FnOnce(String) -> String) {
        let text = change(self.read(name));
        std::fs::write(self.path(name), text).unwrap();
    }

    /// Its only listener captures on that interface.
    pub fn capture(&self, interface: &str) {
        self.edit("s/server.toml", |text| {
            let (before, after) = text.split_once("udp  ").expect("a listener");
            let rest = after.split_once('\n').unwrap().1;
            format!("{before}capture = \"{interface}\"\nport = {UDP}\n{rest}")
        });
    }

    /// Adds a line to the client's file on the server.
    pub fn amend(&self, client: &str, line: &str) {
        self.edit(&format!("s/clients/{client}.toml"), |text| format!("{text}{line}\n"));
    }

    /// The program on a host, in the directory of the files.
    pub fn run(&self, host: &str, args: &[&str]) -> Output {
        let mut command = self.world.command(host, BIN);
        command.args(args).current_dir(self.dir.path()).output().unwrap()
    }

    /// The program on a host, which must succeed: what it prints.
    pub fn at(&self, host: &str, args: &[&str]) -> String {
        let out = self.run(host, args);
        let why = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{args:?}: {} {why}", out.status);
        String::from_utf8(out.stdout).unwrap()
    }

    fn must(&self, args: &[&str]) {
        self.at(SERVER, args);
    }

    /// An order on the server's side.
    pub fn order(&self, args: &[&str]) -> String {
        self.at(SERVER, &[args, &["--config", "s/server.toml"]].concat())
    }

    pub fn invite(&self, name: &str, more: &[&str]) {
        self.order(&[&["invite", name], more].concat());
    }

    pub fn profile(&self, name: &str) -> Profile {
        Profile::parse(&self.read(&format!("{name}.toml"))).unwrap()
    }

    /// What a client types, on the client's host.
    pub fn open(&self, name: &str, more: &[&str]) {
        self.at(CLIENT, &[&["open", "--key", &format!("{name}.toml")], more].concat());
    }

    /// Sends bytes to the server from a host.
    pub fn send(&self, host: &str, bytes: &[u8]) {
        let to = if host == STRANGER { SERVER_OF_STRANGER } else { SERVER_V4 };
        self.world.enter(host, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            assert_eq!(socket.send_to(bytes, (to, UDP)).unwrap(), bytes.len());
        });
    }

    /// The command that serves; its log goes where all of them go.
    pub fn command(&self) -> Command {
        let mut command = self.world.command(SERVER, BIN);
        command.args(["serve", "--config", "s/server.toml"]);
        self.logged(command)
    }

    pub fn logged(&self, mut command: Command) -> Command {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        command.current_dir(self.dir.path()).env("OPENSESAME_LOG", "debug").stderr(log);
        command
    }

    pub fn start(&mut self) {
        let command = self.command();
        self.start_as(command);
    }

    pub fn start_as(&mut self, mut command: Command) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(command.spawn().unwrap());
        self.starts += 1;
        self.wait_ready(self.starts);
    }

    /// Waits until [engine] has been ready so many times.
    fn wait_ready(&self, times: usize) {
        eventually("ready", || self.log().matches(" ready: ").count() >= times);
    }

    /// Waits until [engine] is back after its death.
    pub fn wait_engine(&mut self) {
        self.starts += 1;
        self.wait_ready(self.starts);
    }

    /// The number of the process [priv], and of [engine].
    pub fn pids(&self) -> (u32, u32) {
        let parent = self.child.as_ref().expect("it runs").id();
        let children = format!("/proc/{parent}/task/{parent}/children");
        let list = std::fs::read_to_string(&children).unwrap();
        // The gate, where there is one, is a child too.
        let is_engine = |pid: &&str| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"engine-process")
        };
        let engine = list.split_whitespace().find(is_engine);
        (parent, engine.unwrap_or_else(|| panic!("{children}: {list}")).parse().unwrap())
    }

    /// SIGTERM, and the end of it all.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill("TERM", &[child.id()]);
        assert!(child.wait().unwrap().success());
    }

    /// It ends by itself, and says that something was wrong.
    pub fn ends(&mut self) {
        let mut child = self.child.take().expect("it runs");
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }

    /// kill -9 of both processes.
    pub fn crash(&mut self) {
        let (parent, engine) = self.pids();
        kill("KILL", &[engine, parent]);
        self.bury();
    }

    /// After a kill -9 of [priv]: nobody is left.
    pub fn bury(&mut self) {
        let mut child = self.child.take().expect("it ran");
        assert!(!child.wait().unwrap().success());
        let listeners: Vec<u32> = self.listeners.iter().map(|g| g.0.id()).collect();
        eventually("all processes are gone", || {
            self.processes().iter().all(|p| listeners.contains(p))
        });
    }

    /// All processes on the server's host.
    pub fn processes(&self) -> Vec<u32> {
        let out = Command::new("ip").args(["netns", "pids", &self.world.name(SERVER)]).output();
        let text = String::from_utf8(out.unwrap().stdout).unwrap();
        text.split_whitespace().map(|p| p.parse().unwrap()).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log says this.
    pub fn says(&self, piece: &str) {
        eventually(piece, || self.log().contains(piece));
    }

    /// Waits until a line says all of this.
    pub fn says_all(&self, pieces: &[&str]) {
        eventually(&pieces.join(" ... "), || {
            self.log().lines().any(|l| pieces.iter().all(|p| l.contains(p)))
        });
    }

    pub fn leases(&self) -> Vec<Value> {
        let list: Value = serde_json::from_str(&self.order(&["leases", "--json"])).unwrap();
        list.as_array().unwrap().clone()
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.order(&["status", "--json"])).unwrap()
    }

    /// How many packets were refused for that reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.status()["refused"][reason].as_u64().unwrap()
    }

    pub fn knows_leases(&self, count: usize) {
        eventually(&format!("{count} leases"), || self.leases().len() == count);
    }

    /// A client's own connection to tcp/22.
    pub fn tries(&self, host: &str) -> Tried {
        let to = if host == STRANGER { SERVER_OF_STRANGER } else { SERVER_V4 };
        self.world.connect(host, to, 22)
    }

    pub fn becomes_open(&self, host: &str) {
        eventually("open", || self.tries(host) == Tried::Open);
    }

    pub fn becomes_shut(&self, host: &str) {
        eventually("shut", || self.tries(host) == Tried::Silence);
    }

    /// All that is secret, in every form that a log could hold.
    fn secrets(&self) -> Vec<String> {
        let mut all = Vec::new();
        let names = std::fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().path());
        let toml = |p: &PathBuf| p.extension().is_some_and(|e| e == "toml");
        for path in names.filter(toml) {
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            let Ok(profile) = Profile::parse(&text) else { continue };
            for bytes in [profile.key.bytes(), profile.door.bytes()] {
                all.extend([hex_of(bytes), format!("{bytes:?}")]);
            }
            all.extend([profile.key.to_text().to_string(), profile.door.to_text().to_string()]);
        }
        all
    }

    /// A file with other contents and the same rights.
    pub fn write(&self, name: &str, text: &str) {
        File::create(self.path(name)).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let log = self.log();
        if std::thread::panicking() {
            println!("--- the log of the server ---\n{log}---");
            return;
        }
        // Every test looks for keys in the log of its server.
        let secrets = self.secrets();
        assert!(secrets.len() >= 6, "at least alice's");
        for secret in secrets {
            let pieces = (0..secret.len() - 7).step_by(4).map(|i| &secret[i..i + 8]);
            let mut pieces = pieces.filter(|p| !p.contains(", "));
            assert!(!pieces.any(|p| log.contains(p)), "a key in the log");
            assert!(!log.contains(&secret), "a key in the log");
        }
    }
}
