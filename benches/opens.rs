//! What the whole server takes: `cargo bench --bench opens`, as root. A real server with the real
//! nftables in a network namespace of its own; prints a table.
//!
//! Packets of many clients for many addresses are sealed beforehand and sent as fast as the server's
//! socket takes them; what counts is the time from the first packet until the kernel's set has the
//! last address. Then single packets, with nothing else live and with all of that.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("SKIPPED: needs Linux");
}

#[cfg(target_os = "linux")]
fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root");
        return;
    }
    bench::run();
}

#[cfg(target_os = "linux")]
mod bench {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::socket::{
        AddressFamily, MsgFlags, MultiHeaders, NetlinkAddr, SockFlag, SockProtocol, SockType,
        SockaddrIn, bind, recv, sendmmsg, setsockopt, socket, sockopt,
    };
    use nix::sys::time::{TimeVal, TimeValLike};
    use opensesame_spa::access::{Action, ClientId, Request, Services};
    use opensesame_spa::client::Profile;
    use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, hex_of, random};
    use opensesame_spa::proto::seal;
    use opensesame_spa::time::Unix;
    use std::fs::{self, File, OpenOptions};
    use std::io::{IoSlice, Write};
    use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant, SystemTime};

    const PORT: u16 = 41_841;
    /// Clients, and the addresses that each asks for.
    const CLIENTS: u32 = 2_000;
    const EACH: u32 = 25;
    /// Packets of one system call.
    const BATCH: usize = 64;
    /// The most bytes that wait in the server's socket before the sender waits.
    const QUEUE: u64 = 128 << 10;
    /// Single packets whose way is timed.
    const ROUNDS: u32 = 200;
    /// NFNLGRP_NFTABLES is group 7: the seventh bit.
    const GROUPS: u32 = 1 << 6;

    struct Server {
        child: Child,
        dir: tempfile::TempDir,
    }

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Somebody who can ask.
    struct Guest {
        id: ClientId,
        keys: ClientKeys,
    }

    /// The program; `OPENSESAME_BIN` names another build of it.
    fn program() -> String {
        std::env::var("OPENSESAME_BIN").unwrap_or(env!("CARGO_BIN_EXE_opensesame-spa").into())
    }

    fn output(argv: &[&str]) -> String {
        let out = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
        assert!(out.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    }

    fn wall() -> Unix {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Unix(wall.as_millis() as u64)
    }

    fn address(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0001 + n)
    }

    fn ask(
        profile: &Profile,
        door: &Door,
        guest: &Guest,
        from: Ipv4Addr,
        seconds: u32,
    ) -> [u8; 288] {
        let request = Request {
            action: Action::Open,
            reply: false,
            replace: false,
            source: false,
            v4: Some(from.to_string().parse().unwrap()),
            v6: None,
            services: Services::EMPTY,
            time: wall(),
            ttl: seconds,
        };
        seal(&request, guest.id, profile.server, door, &guest.keys, &random().unwrap())
    }

    /// A server with all those clients, running.
    fn start() -> (Server, Profile, Vec<Guest>) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let listen = format!("127.0.0.1:{PORT}");
        let init = ["init", "--dir", &at("s"), "--backend", "nftables"];
        let bin = program();
        output(&[&[bin.as_str()], &init[..], &["--listen", &listen, "--host", &listen]].concat());
        let config = at("s/server.toml");
        let profile = at("alice.toml");
        output(&[&bin, "invite", "alice", "--config", &config, "--out", &profile]);
        let profile = Profile::parse(&fs::read_to_string(profile).unwrap()).unwrap();
        let guests = (0..CLIENTS).map(|n| {
            let (id, key) = (ClientId(random().unwrap()), ClientKey::generate().unwrap());
            let keys = ClientKeys::derive(profile.server, &key, id.0);
            let text = format!(
                "id = \"{}\"\nkey = \"{}\"\nmax-leases = 4096\n",
                hex_of(&id.0),
                key.to_text().as_str()
            );
            let path = dir.path().join(format!("s/clients/c{n}.toml"));
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
            file.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
            Guest { id, keys }
        });
        let guests = guests.collect();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(bin);
        command.args(["serve", "--config", &config]).stdin(Stdio::null()).stderr(log);
        let server = Server { child: command.spawn().unwrap(), dir };
        let began = Instant::now();
        while !fs::read_to_string(server.dir.path().join("log")).unwrap().contains(" ready: ") {
            assert!(began.elapsed() < Duration::from_secs(120), "it does not begin");
            std::thread::sleep(Duration::from_millis(20));
        }
        (server, profile, guests)
    }

    /// [priv] and [engine].
    fn pids(server: &Server) -> [u32; 2] {
        let parent = server.child.id();
        let list = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap();
        [parent, list.split_whitespace().next().unwrap().parse().unwrap()]
    }

    /// The processor time of a process so far: user and system, ms.
    fn spent(pid: u32) -> [u64; 2] {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let rest = text.rsplit(')').next().unwrap();
        let word = |n: usize| rest.split_whitespace().nth(n).unwrap().parse::<u64>().unwrap() * 10;
        [word(11), word(12)]
    }

    /// What waits in the server's socket, in bytes, and what it has dropped.
    fn queue() -> (u64, u64) {
        let text = fs::read_to_string("/proc/thread-self/net/udp").unwrap();
        let line = text.lines().find(|l| l.contains(&format!(":{PORT:04X} "))).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        let waits = u64::from_str_radix(words[4].split(':').nth(1).unwrap(), 16).unwrap();
        (waits, words[12].parse().unwrap())
    }

    /// Sends all of them, as fast as they are taken.
    fn send(packets: &[[u8; 288]]) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT));
        for some in packets.chunks(BATCH) {
            while queue().0 > QUEUE {
                std::thread::sleep(Duration::from_micros(100));
            }
            let mut headers = MultiHeaders::<SockaddrIn>::preallocate(some.len(), None);
            let slices: Vec<[IoSlice<'_>; 1]> = some.iter().map(|p| [IoSlice::new(p)]).collect();
            let addresses = vec![Some(to); some.len()];
            let none: [nix::sys::socket::ControlMessage<'_>; 0] = [];
            let flags = MsgFlags::empty();
            let sent = sendmmsg(socket.as_raw_fd(), &mut headers, &slices, &addresses, none, flags);
            assert_eq!(sent.unwrap().count(), some.len());
        }
    }

    fn is_there(from: Ipv4Addr) -> bool {
        let element = format!("{{ {from} . tcp . 22 }}");
        let argv = ["get", "element", "inet", "opensesame", "lease4", &element];
        Command::new("nft").args(argv).output().unwrap().status.success()
    }

    fn elements() -> usize {
        output(&["nft", "list", "set", "inet", "opensesame", "lease4"]).matches(" expires ").count()
    }

    /// Hears of what is committed.
    fn events() -> OwnedFd {
        let protocol = SockProtocol::NetlinkNetFilter;
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).unwrap();
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(10)).unwrap();
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).unwrap();
        fd
    }

    /// One packet after the other, each until the kernel has told that it has the element: ms.
    fn latency(profile: &Profile, door: &Door, guests: &[Guest], first: u32) -> [f64; 3] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let events = events();
        let mut buffer = vec![0; 64 << 10];
        let mut all: Vec<f64> = (0..ROUNDS)
            .map(|n| {
                let guest = &guests[n as usize % guests.len()];
                let packet = ask(profile, door, guest, address(first + n), 600);
                let began = Instant::now();
                socket.send_to(&packet, ("127.0.0.1", PORT)).unwrap();
                recv(events.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
                let ms = began.elapsed().as_secs_f64() * 1e3;
                std::thread::sleep(Duration::from_millis(5));
                while recv(events.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).is_ok() {}
                ms
            })
            .collect();
        all.sort_by(f64::total_cmp);
        [all[all.len() / 2], all[0], all[all.len() * 99 / 100]]
    }

    pub(super) fn run() {
        if !Path::new("/usr/sbin/nft").exists() {
            println!("SKIPPED: needs nft");
            return;
        }
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        output(&["ip", "link", "set", "lo", "up"]);
        let (server, profile, guests) = start();
        let door = Door::derive(profile.server, &profile.door);
        let total = CLIENTS * EACH;
        let before = latency(&profile, &door, &guests, total);
        let packet = |n: u32| {
            let guest = &guests[(n % CLIENTS) as usize];
            ask(&profile, &door, guest, address(n), 600)
        };
        let packets: Vec<[u8; 288]> = (0..total).map(packet).collect();
        let pids = pids(&server);
        let cpu = pids.map(spent);
        let began = Instant::now();
        send(&packets);
        let sent = began.elapsed();
        let limit = Duration::from_secs(120);
        while !is_there(address(total - 1)) && began.elapsed() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        let all = began.elapsed();
        let have = elements() as u32 - ROUNDS;
        let used: Vec<[u64; 2]> = pids
            .iter()
            .zip(cpu)
            .map(|(pid, [user, system])| {
                let now = spent(*pid);
                [now[0] - user, now[1] - system]
            })
            .collect();
        let after = latency(&profile, &door, &guests, total + ROUNDS);
        println!("| {CLIENTS} clients, {EACH} addresses each | |\n|---|---|");
        println!("| packets sent, and lost before they were read | {total}, {} |", queue().1);
        println!("| in the kernel's set | {have} |");
        println!("| sent in, s | {:.2} |", sent.as_secs_f64());
        println!("| in the kernel in, s | {:.2} |", all.as_secs_f64());
        println!("| opens a second | {:.0} |", f64::from(have) / all.as_secs_f64());
        for (name, [user, system]) in ["priv", "engine"].iter().zip(&used) {
            let each = |ms: u64| ms as f64 * 1e3 / f64::from(total);
            println!(
                "| [{name}]: user and system time, us a packet | {:.1}, {:.1} |",
                each(*user),
                each(*system)
            );
        }
        for (name, [median, least, most]) in [("few", before), (&*total.to_string(), after)] {
            println!(
                "| one packet with {name} leases: median, least, 99 of 100, ms | {median:.2}, {least:.2}, {most:.2} |"
            );
        }
        println!("| median of the second to the first | {:.2} |", after[0] / before[0]);
    }
}
