//! The door from outside: who can come in, and since when.

use crate::peers::Peer;
use crate::space::{Host, SERVER, Space, guest, is_guest};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use nix::sys::time::{TimeSpec, TimeValLike};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The port behind the door.
pub const PORT: u16 = 22;
/// How long one connection attempt waits before the next one.
const STEP: Duration = Duration::from_micros(100);
/// How long a shut door is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// So many doors that do not open are enough.
const MOST_FAILED: usize = 5;
/// When a door counts as one that does not open.
const LIMIT: Duration = Duration::from_secs(5);

/// What answers behind the door.
pub struct Listener(Socket);

impl Listener {
    pub fn new(space: &Space) -> Listener {
        space.enter(Host::Server, || {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&SocketAddrV4::new(SERVER, PORT).into()).unwrap();
            socket.listen(1_024).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            Listener(socket)
        })
    }
}

/// One SYN from that address, and a wait for the answer.
fn connects(from: Ipv4Addr, wait: Duration) -> bool {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    // No FIN and no TIME_WAIT: the next attempt is another connection.
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    socket.bind(&SocketAddrV4::new(from, 0).into()).unwrap();
    if socket.connect(&SocketAddrV4::new(SERVER, PORT).into()).is_ok() {
        return true;
    }
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let wait = TimeSpec::nanoseconds(wait.as_nanos() as i64);
    let ready = ppoll(&mut fds, Some(wait), None).unwrap_or(0);
    ready == 1 && socket.take_error().unwrap().is_none() && socket.peer_addr().is_ok()
}

/// From the knock to the accepted connection, for each of these clients. Every one of them finds the
/// door shut first.
///
/// # Panics
/// When it is open to somebody who has not knocked.
pub fn openings(
    space: &Space,
    listener: &Listener,
    peer: &dyn Peer,
    which: Range<u32>,
) -> Vec<Option<Duration>> {
    space.enter(Host::Clients, || {
        // The steps are shorter than the slack that timers have by default.
        nix::sys::prctl::set_timerslack(1).unwrap();
        let mut failed = 0;
        let once = |n| {
            let opened = opening(listener, peer, n);
            failed += usize::from(opened.is_none());
            // One that opens for nobody would take minutes to say so.
            (failed <= MOST_FAILED).then_some(opened)
        };
        which.map_while(once).collect()
    })
}

fn opening(listener: &Listener, peer: &dyn Peer, n: u32) -> Option<Duration> {
    let from = peer.address(n);
    assert!(!connects(from, LOOK), "the door is open to {from}, who has not knocked");
    let start = Instant::now();
    peer.knock(n as usize);
    while start.elapsed() < LIMIT {
        if connects(from, STEP) {
            let _accepted = listener.0.accept().unwrap();
            return Some(start.elapsed());
        }
    }
    None
}

/// Hears from the kernel itself which addresses come into its sets, and when.
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<BTreeMap<Ipv4Addr, Instant>>,
}

impl Watch {
    /// nf_tables' multicast group 7 (NFNLGRP_NFTABLES).
    const GROUP: u32 = 1 << 6;
    /// Subsystem 10, message 12 (NFT_MSG_NEWSETELEM).
    const NEW_ELEMENT: u16 = 10 << 8 | 12;
    const ROOM: usize = 64 << 20;

    pub fn new(space: &Space) -> Watch {
        let fd = space.enter(Host::Server, || {
            let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
            let protocol = SockProtocol::NetlinkNetFilter;
            let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, Watch::GROUP)).unwrap();
            setsockopt(&fd, sockopt::RcvBufForce, &Watch::ROOM).unwrap();
            let wait = nix::sys::time::TimeVal::milliseconds(50);
            setsockopt(&fd, sockopt::ReceiveTimeout, &wait).unwrap();
            fd
        });
        let over = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || Watch::listen(&fd, &over)
        });
        Watch { over, thread }
    }

    fn listen(fd: &OwnedFd, over: &AtomicBool) -> BTreeMap<Ipv4Addr, Instant> {
        let mut seen = BTreeMap::new();
        let mut bytes = vec![0; 1 << 16];
        while !over.load(Ordering::Relaxed) {
            let Ok(size) = recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty()) else { continue };
            let now = Instant::now();
            let mut rest = &bytes[..size];
            // struct nlmsghdr: length and type, each message padded to 4 bytes.
            while rest.len() >= 16 {
                let size = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
                let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
                let message = &rest[..size.clamp(16, rest.len())];
                if kind == Watch::NEW_ELEMENT {
                    let words =
                        message.chunks_exact(4).map(|w| Ipv4Addr::new(w[0], w[1], w[2], w[3]));
                    for address in words.filter(is_guest) {
                        seen.entry(address).or_insert(now);
                    }
                }
                rest = rest.get(size.next_multiple_of(4).max(16)..).unwrap_or_default();
            }
        }
        seen
    }

    /// When each address came.
    pub fn end(self) -> BTreeMap<Ipv4Addr, Instant> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// The addresses of clients that are named in what a tool lists, whatever else is.
pub fn listed(text: &str) -> std::collections::BTreeSet<Ipv4Addr> {
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    words.filter_map(|word| word.parse().ok()).filter(is_guest).collect()
}

/// The addresses of the clients from `first` on.
pub fn guests(first: u32, count: u32) -> Vec<Ipv4Addr> {
    (first..first + count).map(guest).collect()
}
