//! A server's host and its clients' host: two network namespaces and a pair of veth between them,
//! with no way to anywhere else.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};

pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// The clients' addresses, all of them on one host.
const GUESTS: &str = "10.80.0.0/12";
/// The server's end of the pair, as fwknopd is told to listen there.
pub const LINK: &str = "door0";
const STEM: &str = "osbench";

static NEXT: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Server,
    Clients,
}

pub struct Space {
    prefix: String,
    dir: PathBuf,
}

/// The address of the n-th client.
pub fn guest(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 80, 0, 1)) + n)
}

pub fn is_guest(address: &Ipv4Addr) -> bool {
    address.octets()[0] == 10 && (80..96).contains(&address.octets()[1])
}

/// What a command prints, which must succeed.
pub fn output(argv: &[&str]) -> String {
    let out = Command::new(argv[0]).args(&argv[1..]).output();
    let out = out.unwrap_or_else(|e| panic!("{argv:?}: {e}"));
    assert!(out.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

impl Space {
    pub fn new() -> Space {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{STEM}{}-{n}", std::process::id());
        // On a disk, as a journal is: /tmp is memory on many machines.
        let dir = PathBuf::from("/var/tmp").join(&prefix);
        std::fs::create_dir(&dir).unwrap();
        let space = Space { prefix, dir };
        let (server, clients) = (space.name(Host::Server), space.name(Host::Clients));
        for name in [&server, &clients] {
            output(&["ip", "netns", "add", name]);
            output(&["ip", "-n", name, "link", "set", "lo", "up"]);
        }
        let pair = ["link", "add", LINK, "type", "veth", "peer", "name", "eth0", "netns", &clients];
        output(&[&["ip", "-n", &server], &pair[..]].concat());
        let ip = |host, words: String| {
            let name = space.name(host);
            let words: Vec<&str> = words.split(' ').collect();
            output(&[&["ip", "-n", &name], &words[..]].concat());
        };
        ip(Host::Server, format!("addr add {SERVER}/30 dev {LINK}"));
        ip(Host::Clients, format!("addr add {GATEWAY}/30 dev eth0"));
        ip(Host::Server, format!("link set {LINK} up"));
        ip(Host::Clients, "link set eth0 up".into());
        ip(Host::Server, format!("route add default via {GATEWAY}"));
        ip(Host::Clients, format!("route add local {GUESTS} dev lo"));
        for host in [Host::Server, Host::Clients] {
            // Random sources come in by the one link that there is.
            space.enter(host, || {
                for name in ["all", "default", LINK, "eth0"] {
                    let _ =
                        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0");
                }
            });
        }
        space
    }

    pub fn name(&self, host: Host) -> String {
        let last = match host {
            Host::Server => "server",
            Host::Clients => "clients",
        };
        format!("{}-{last}", self.prefix)
    }

    /// A directory that goes with the space.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs a closure in a thread of that host; sockets and processes made in it stay there.
    pub fn enter<T: Send>(&self, host: Host, work: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(self.name(host))).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
        })
    }

    pub fn spawn(&self, host: Host, mut command: Command) -> Child {
        self.enter(host, move || {
            let shown = format!("{command:?}");
            command.spawn().unwrap_or_else(|e| panic!("{shown}: {e}"))
        })
    }

    /// What a command prints there.
    pub fn run(&self, host: Host, argv: &[&str]) -> String {
        self.enter(host, || output(argv))
    }

    /// All processes on the server's host.
    pub fn processes(&self) -> Vec<u32> {
        pids(&self.name(Host::Server))
    }

    /// How many packets the server's host has received.
    pub fn arrived(&self) -> u64 {
        let text = self.enter(Host::Server, || read("/proc/thread-self/net/dev"));
        let line = text
            .lines()
            .find_map(|l| l.trim().strip_prefix(&format!("{LINK}:")).map(str::to_string));
        line.unwrap().split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many connections the server's kernel follows.
    pub fn tracked(&self) -> u64 {
        let path = "/proc/sys/net/netfilter/nf_conntrack_count";
        self.enter(Host::Server, || std::fs::read_to_string(path))
            .map_or(0, |text| text.trim().parse().unwrap())
    }
}

pub fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn pids(namespace: &str) -> Vec<u32> {
    let out = Command::new("ip").args(["netns", "pids", namespace]).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Ends all that lives in a namespace, and the namespace.
fn remove(namespace: &str) {
    for pid in pids(namespace) {
        let pid = nix::unistd::Pid::from_raw(pid as i32);
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    let _ = Command::new("ip").args(["netns", "del", namespace]).output();
}

impl Drop for Space {
    fn drop(&mut self) {
        for host in [Host::Server, Host::Clients] {
            remove(&self.name(host));
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Everything of this run, and what a run has left that was killed with no time to clean up.
pub fn sweep() {
    let names = |dir: &str| -> Vec<String> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().into_string().ok()).collect()
    };
    let is_over = |name: &String| {
        let rest = name.strip_prefix(STEM)?;
        let pid: u32 = rest.split('-').next()?.parse().ok()?;
        let runs = Path::new("/proc").join(pid.to_string()).exists();
        (pid == std::process::id() || !runs).then_some(())
    };
    for name in names("/run/netns").iter().filter(|n| is_over(n).is_some()) {
        remove(name);
    }
    for name in names("/var/tmp").iter().filter(|n| is_over(n).is_some()) {
        let _ = std::fs::remove_dir_all(Path::new("/var/tmp").join(name));
    }
}
