//! Three hosts on this machine: a server, a client and a stranger, each in its own network
//! namespace, joined by veth pairs. Nothing outlives the `World`.
#![allow(dead_code, unreachable_pub)]

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub const CLIENT: &str = "client";
pub const STRANGER: &str = "stranger";
pub const SERVER: &str = "server";
/// Only where [`World::behind`] was called.
pub const INNER: &str = "inner";

/// The addresses: each guest has a link of its own to the server.
pub const SERVER_V4: &str = "10.77.1.1";
pub const SERVER_V6: &str = "fd77:1::1";
pub const CLIENT_V4: &str = "10.77.1.2";
pub const CLIENT_V6: &str = "fd77:1::2";
pub const STRANGER_V4: &str = "10.77.2.2";
pub const STRANGER_V6: &str = "fd77:2::2";
pub const INNER_V4: &str = "10.77.3.2";
pub const INNER_V6: &str = "fd77:3::2";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct World {
    prefix: String,
}

/// What became of a connection attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tried {
    Open,
    Refused,
    Silence,
}

fn must(command: &mut Command) -> Output {
    let shown = format!("{command:?}");
    let out = command.output().unwrap_or_else(|e| panic!("{shown}: {e}"));
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{shown}: {} {text}", out.status);
    out
}

/// Why a namespace test cannot run here, if it cannot. In CI that is a failure.
pub fn obstacle(tools: &[&str]) -> Option<String> {
    let tool = |t: &&str| {
        let found = Command::new("sh").args(["-c", &format!("command -v {t}")]).output();
        !found.is_ok_and(|o| o.status.success())
    };
    let why = if !nix::unistd::geteuid().is_root() {
        Some("needs root".to_string())
    } else {
        tools.iter().chain(&["ip"]).find(|t| tool(t)).map(|t| format!("needs the program `{t}`"))
    };
    if let Some(why) = &why {
        println!("SKIPPED {}: {why}", std::thread::current().name().unwrap_or("?"));
        assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI: {why}");
    }
    why
}

impl World {
    /// The three hosts, or nothing where this machine cannot have them or lacks one of `tools`.
    pub fn new(tools: &[&str]) -> Option<World> {
        if obstacle(tools).is_some() {
            return None;
        }
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let world = World { prefix: format!("os{}-{n}", std::process::id()) };
        for host in [SERVER, CLIENT, STRANGER] {
            must(Command::new("ip").args(["netns", "add", &world.name(host)]));
            world.run(host, &["ip", "link", "set", "lo", "up"]);
        }
        world.join(CLIENT, "to-client", 1);
        world.join(STRANGER, "to-stranger", 2);
        Some(world)
    }

    /// A fourth host, to which the server routes, both families, from now on.
    pub fn behind(&self) {
        must(Command::new("ip").args(["netns", "add", &self.name(INNER)]));
        self.run(INNER, &["ip", "link", "set", "lo", "up"]);
        self.join(INNER, "to-inner", 3);
        let write = "echo 1 > /proc/sys/net/ipv4/ip_forward; \
                     echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        self.run(SERVER, &["sh", "-c", write]);
    }

    fn join(&self, guest: &str, near: &str, net: u8) {
        let (server, name) = (self.name(SERVER), self.name(guest));
        must(Command::new("ip").args([
            "-n", &server, "link", "add", near, "type", "veth", "peer", "name", "eth0", "netns",
            &name,
        ]));
        let set = |host: &str, dev: &str, last: u8| {
            let (v4, v6) = (format!("10.77.{net}.{last}/24"), format!("fd77:{net}::{last}/64"));
            self.run(host, &["ip", "addr", "add", &v4, "dev", dev]);
            self.run(host, &["ip", "-6", "addr", "add", &v6, "dev", dev, "nodad"]);
            self.run(host, &["ip", "link", "set", dev, "up"]);
        };
        set(SERVER, near, 1);
        set(guest, "eth0", 2);
        let (gw4, gw6) = (format!("10.77.{net}.1"), format!("fd77:{net}::1"));
        self.run(guest, &["ip", "route", "add", "default", "via", &gw4]);
        self.run(guest, &["ip", "-6", "route", "add", "default", "via", &gw6]);
    }

    /// The name of a host's namespace.
    pub fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.prefix)
    }

    /// A command that will run on that host.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &self.name(host), program]).stdin(Stdio::null());
        c
    }

    /// Runs a command there, which must succeed, and returns what it printed.
    pub fn run(&self, host: &str, argv: &[&str]) -> String {
        let out = must(self.command(host, argv[0]).args(&argv[1..]));
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    /// Runs a command there, whatever becomes of it.
    pub fn try_run(&self, host: &str, argv: &[&str]) -> Output {
        self.command(host, argv[0]).args(&argv[1..]).output().expect(argv[0])
    }

    /// Runs a closure in a thread of that host; sockets made in it stay there.
    pub fn enter<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(format!("/run/netns/{}", self.name(host))).expect("namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).expect("setns");
                work()
            });
            thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    /// A TCP listener on all of the server's addresses that greets whoever comes; it lives as long
    /// as the returned child.
    pub fn listen(&self, port: u16) -> Guard {
        self.listen_at(SERVER, port)
    }

    /// The same on any host.
    pub fn listen_at(&self, host: &str, port: u16) -> Guard {
        let code = format!(
            "import socket\n\
             s=socket.create_server(('::',{port}),family=socket.AF_INET6,backlog=512,dualstack_ipv6=True)\n\
             print('up',flush=True)\n\
             k=[]\n\
             while True:\n c,_=s.accept(); c.sendall(b'hello\\n'); k.append(c)\n"
        );
        let mut command = self.command(host, "python3");
        let mut child =
            command.args(["-c", &code]).stdout(Stdio::piped()).spawn().expect("python3");
        let mut line = String::new();
        let out = child.stdout.as_mut().expect("stdout");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("up");
        assert_eq!(line, "up\n");
        Guard(child)
    }

    /// Tries a TCP connection from a host; silence is judged after 600 ms.
    pub fn connect(&self, host: &str, address: &str, port: u16) -> Tried {
        let to = SocketAddr::new(address.parse::<IpAddr>().expect("address"), port);
        self.enter(host, || match TcpStream::connect_timeout(&to, Duration::from_millis(600)) {
            Ok(_) => Tried::Open,
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => Tried::Refused,
            Err(_) => Tried::Silence,
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for host in [SERVER, CLIENT, STRANGER, INNER] {
            let name = self.name(host);
            // Whoever still lives there would keep the namespace alive.
            if let Ok(out) = Command::new("ip").args(["netns", "pids", &name]).output() {
                for pid in String::from_utf8_lossy(&out.stdout).split_whitespace() {
                    let _ = Command::new("kill").args(["-9", pid]).output();
                }
            }
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

/// A child that dies with the test.
pub struct Guard(pub std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
