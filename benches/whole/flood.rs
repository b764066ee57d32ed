//! The flooder: a process of its own that sends prepared datagrams as fast as it is told to, or as it
//! can, for a bounded time, and says how many they were.

use crate::packets::Datagram;
use crate::space::{Host, SERVER, Space};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, setsockopt, sockopt};
use nix::sys::time::TimeValLike;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The word by which this program knows that it is the flooder.
pub const ROLE: &str = "--flood";
/// Datagrams of one call.
const BATCH: usize = 64;
/// A flood may last so long, whatever it is told.
const LONGEST: Duration = Duration::from_secs(60);
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

static NEXT: AtomicU32 = AtomicU32::new(0);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sources {
    One,
    /// Each datagram has one of its own, forged.
    Random,
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub port: u16,
    pub sources: Sources,
    /// Datagrams a second; 0 is as many as one core can send.
    pub rate: u64,
    pub time: Duration,
    /// Where 8 bytes of each datagram are made anew, so that no two are the same.
    pub stir: Option<usize>,
}

pub struct Flood {
    child: Option<Child>,
    before: u64,
    file: PathBuf,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub sent: u64,
    /// Counted by the server's end of the link, with all else that came.
    pub arrived: u64,
    pub time: Duration,
    /// The flooder's own processor time, with what the kernel did for it up to the server's socket.
    pub cpu: Duration,
}

impl Report {
    pub fn rate(&self) -> u64 {
        (self.sent as f64 / self.time.as_secs_f64()) as u64
    }

    /// Whether it was what it is taken for.
    pub fn is_real(&self) -> bool {
        self.arrived >= self.sent / 100 * 99
    }
}

impl Flood {
    /// Starts it on the clients' host; returns when the first datagrams arrive.
    pub fn start(space: &Space, plan: Plan, datagrams: &[impl AsRef<[u8]>]) -> Flood {
        let file = space.dir().join(format!("flood-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let size = datagrams[0].as_ref().len();
        let bytes: Vec<u8> = datagrams.iter().flat_map(|d| d.as_ref()).copied().collect();
        std::fs::write(&file, bytes).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ROLE).arg(&file);
        let stir = plan.stir.map_or(-1, |at| at as i64);
        let numbers = [
            size as i64,
            i64::from(plan.port),
            i64::from(plan.sources == Sources::Random),
            plan.rate as i64,
            plan.time.as_millis() as i64,
            stir,
        ];
        command.args(numbers.map(|n| n.to_string())).stdout(Stdio::piped());
        let before = space.arrived();
        let mut flood = Flood { child: Some(space.spawn(Host::Clients, command)), before, file };
        let limit = Instant::now() + Duration::from_secs(5);
        while space.arrived() < before + 100 {
            if Instant::now() > limit {
                let _ = flood.child.take().map(|mut c| c.kill());
                panic!("the flood does not arrive");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        flood
    }

    pub fn wait(mut self, space: &Space) -> Report {
        let child = self.child.take().unwrap();
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        let mut numbers = text.split_whitespace().map(|w| w.parse::<u64>().unwrap());
        let mut next = || numbers.next().expect("the flooder ended early");
        let (sent, time) = (next(), Duration::from_micros(next()));
        let cpu = Duration::from_micros(next());
        let report = Report { sent, arrived: space.arrived() - self.before, time, cpu };
        if !report.is_real() {
            println!("  NOT REAL: {report:?}");
        }
        report
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

/// The flooder itself: `ROLE FILE SIZE PORT RANDOM RATE MILLISECONDS STIR`.
pub fn run(args: &[String]) {
    let bytes = std::fs::read(&args[0]).unwrap();
    let numbers: Vec<i64> = args[1..].iter().map(|a| a.parse().unwrap()).collect();
    let [size, port, random, rate, time, stir] = numbers[..] else { panic!("six numbers") };
    let to = SocketAddrV4::new(SERVER, port as u16);
    let time = Duration::from_millis(time as u64).min(LONGEST);
    let mut sender = Sender::new(to, random == 1, bytes, size as usize, usize::try_from(stir).ok());
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let before = usage.user_time() + usage.system_time();
    let start = Instant::now();
    let mut sent: u64 = 0;
    let mut spent = Duration::ZERO;
    while spent < time {
        let due = match rate {
            0 => BATCH as u64,
            rate => ((rate as f64 * spent.as_secs_f64()) as u64).saturating_sub(sent),
        };
        match due {
            0 => std::thread::sleep(Duration::from_micros(100)),
            due => sent += sender.send(BATCH.min(due as usize)) as u64,
        }
        spent = start.elapsed();
    }
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let cpu = usage.user_time() + usage.system_time() - before;
    println!("{sent} {} {}", spent.as_micros(), cpu.num_microseconds());
}

struct Sender {
    socket: Socket,
    /// To whom each one goes; a connected socket knows it.
    to: Vec<Option<SockaddrIn>>,
    raw: bool,
    bytes: Vec<u8>,
    size: usize,
    stir: Option<usize>,
    /// Where the next one begins.
    at: usize,
    state: u64,
    batch: Vec<Vec<u8>>,
    headers: MultiHeaders<SockaddrIn>,
}

impl Sender {
    fn new(
        to: SocketAddrV4,
        raw: bool,
        bytes: Vec<u8>,
        size: usize,
        stir: Option<usize>,
    ) -> Sender {
        let socket: Socket = match raw {
            false => {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                // The way is looked up once.
                socket.connect(to).unwrap();
                socket.into()
            }
            true => {
                let kind = Type::RAW;
                let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(255))).unwrap();
                socket.set_header_included_v4(true).unwrap();
                socket
            }
        };
        let front = if raw { frame(to, size) } else { Vec::new() };
        let batch = vec![[&front[..], &vec![0; size][..]].concat(); BATCH];
        let headers = MultiHeaders::preallocate(BATCH, None);
        let state = u64::from_le_bytes(opensesame_spa::crypto::random().unwrap()) | 1;
        let to = vec![raw.then(|| SockaddrIn::from(to)); BATCH];
        Sender { socket, to, raw, bytes, size, stir, at: 0, state, batch, headers }
    }

    /// Xorshift (Marsaglia 2003): each one differs, and no more is asked of it.
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn send(&mut self, count: usize) -> usize {
        let front = if self.raw { IP_HEADER + UDP_HEADER } else { 0 };
        for n in 0..count {
            let (draw, source) = (self.next().to_le_bytes(), self.next());
            let datagram = &self.bytes[self.at..self.at + self.size];
            let one = &mut self.batch[n];
            one[front..].copy_from_slice(datagram);
            if let Some(stir) = self.stir {
                one[front + stir..front + stir + 8].copy_from_slice(&draw);
            }
            if self.raw {
                one[12..16].copy_from_slice(&forged(source).octets());
                one[20..22].copy_from_slice(&(1_024 | (source >> 48) as u16).to_be_bytes());
            }
            self.at = (self.at + self.size) % self.bytes.len();
        }
        let slices: Vec<[IoSlice<'_>; 1]> =
            self.batch[..count].iter().map(|b| [IoSlice::new(b)]).collect();
        let fd = self.socket.as_raw_fd();
        match sendmmsg(fd, &mut self.headers, &slices, &self.to, [], MsgFlags::empty()) {
            Ok(results) => results.count(),
            // An ICMP answer to an earlier one, or no room for a moment.
            Err(_) => 0,
        }
    }
}

/// An address that a stranger of the internet could have.
fn forged(draw: u64) -> Ipv4Addr {
    let [_, b, c, d, e, ..] = draw.to_le_bytes();
    Ipv4Addr::new(11 + b % 100, c, d, e)
}

/// IPv4 and UDP headers (RFC 791, RFC 768); the kernel adds the checksum of the first, and the second
/// goes without.
fn frame(to: SocketAddrV4, size: usize) -> Vec<u8> {
    let mut out = vec![0; IP_HEADER + UDP_HEADER];
    out[0] = 0x45;
    out[2..4].copy_from_slice(&((IP_HEADER + UDP_HEADER + size) as u16).to_be_bytes());
    out[8] = 64;
    out[9] = 17;
    out[16..20].copy_from_slice(&to.ip().octets());
    out[22..24].copy_from_slice(&to.port().to_be_bytes());
    out[24..26].copy_from_slice(&((UDP_HEADER + size) as u16).to_be_bytes());
    out
}

/// A flood to a socket that takes everything: how many were sent, and how many it saw.
pub fn arrives(space: &Space, sources: Sources, datagrams: &[Datagram]) -> (u64, u64) {
    const PORT: u16 = 9_999;
    const ROOM: usize = 64 << 20;
    let socket = space.enter(Host::Server, || UdpSocket::bind((SERVER, PORT)).unwrap());
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &ROOM).unwrap();
    let (rate, time) = (50_000, Duration::from_secs(1));
    let plan = Plan { port: PORT, sources, rate, time, stir: Some(0) };
    let counter = std::thread::spawn(move || {
        let mut bytes = [0; 2_048];
        let (mut seen, limit) = (0, Instant::now() + LONGEST);
        let mut begun = false;
        while Instant::now() < limit {
            match socket.recv(&mut bytes) {
                Ok(_) => (seen, begun) = (seen + 1, true),
                Err(_) if begun => break,
                Err(_) => {}
            }
        }
        seen
    });
    let report = Flood::start(space, plan, datagrams).wait(space);
    (report.sent, counter.join().unwrap())
}
