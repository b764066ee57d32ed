//! What is measured side by side: each server on a host of its own, with a door that it opens.

use crate::flood::Flood;
use crate::space::{Host, SERVER, Space};
use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where each peer waits for the end of what it was told to do.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server and the knocks that were made for it beforehand.
pub trait Peer: Sync {
    fn name(&self) -> String;
    fn space(&self) -> &Space;
    /// The UDP port that it listens to.
    fn port(&self) -> u16;
    /// Makes one knock for each address; called not long before they are used.
    fn prepare(&mut self, addresses: Vec<Ipv4Addr>);
    /// Whom the n-th knock lets in.
    fn address(&self, n: u32) -> Ipv4Addr;
    /// Sends the n-th knock; on the clients' host.
    fn knock(&self, n: usize);
    /// All whom the kernel lets in now, as the system's own tool says.
    fn admitted(&self) -> BTreeSet<Ipv4Addr>;

    fn processes(&self) -> Vec<u32> {
        self.space().processes()
    }

    /// Bytes that it has logged.
    fn logged(&self) -> u64 {
        std::fs::metadata(self.space().dir().join("log")).map_or(0, |meta| meta.len())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.space().dir().join("log")).unwrap_or_default()
    }
}

/// Sends one datagram to the server; on the clients' host.
pub fn send(bytes: &[u8], port: u16) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.send_to(bytes, (SERVER, port)).unwrap();
}

/// Starts a server on its host; what it says goes to the log.
pub fn start(space: &Space, mut command: Command) -> Child {
    let path = space.dir().join("log");
    let log = File::options().create(true).append(true).open(path).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    space.spawn(Host::Server, command)
}

/// Waits until something is so.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a program can be found.
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    program.contains('/') && Path::new(program).is_file()
        || std::env::split_paths(&paths).any(|dir| dir.join(program).is_file())
}

/// Sends the knocks one by one, evenly over a time, whatever else goes on; returns when each was sent.
pub fn knocks(peer: &dyn Peer, count: u32, over: Duration) -> Vec<Instant> {
    let begin = Instant::now();
    peer.space().enter(Host::Clients, || {
        (0..count)
            .map(|n| {
                let due = begin + over * n / count;
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                let sent = Instant::now();
                peer.knock(n as usize);
                sent
            })
            .collect()
    })
}

/// How many of the prepared addresses are let in, after a while for those that are late.
pub fn let_in(peer: &dyn Peer, count: u32, wait: Duration) -> u32 {
    let start = Instant::now();
    loop {
        let admitted = peer.admitted();
        let here = (0..count).filter(|n| admitted.contains(&peer.address(*n))).count() as u32;
        if here == count || start.elapsed() > wait {
            return here;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Knocks while a flood comes, all of them before it ends.
pub fn in_flood(
    peer: &dyn Peer,
    flood: Flood,
    count: u32,
    over: Duration,
) -> (crate::flood::Report, Vec<Instant>) {
    let sent = knocks(peer, count, over);
    (flood.wait(peer.space()), sent)
}
