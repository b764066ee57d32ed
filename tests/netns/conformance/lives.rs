//! From one run to the next, and what is left at the end.

use super::site::*;
use crate::netns::{CLIENT, CLIENT_V4, CLIENT_V6, SERVER, SERVER_V4, SERVER_V6};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(10);
const NOBODY: [&str; 0] = [];
const IN: [&str; 2] = ["client v4 tcp/22", "client v6 tcp/22"];

/// SYNs that the client had to send again: each is a moment at which the port was shut.
fn repeated(site: &Site) -> u64 {
    let text = site.world.run(CLIENT, &["cat", "/proc/net/netstat"]);
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|n| n == "TCPSynRetrans").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// Does something while the client keeps connecting to tcp/22, and never in vain.
fn without_a_gap(site: &Site, work: impl FnOnce()) {
    site.admits(&IN);
    // What waits for nobody's answer is over: only the connections below count.
    let before = repeated(site);
    let over = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            site.world.enter(CLIENT, || {
                let mut made = 0;
                while !over.load(Ordering::Relaxed) {
                    let to = [SERVER_V4, SERVER_V6][made % 2].parse().unwrap();
                    let socket = begin(SocketAddr::new(to, 22));
                    eventually("open", || socket.peer_addr().is_ok());
                    made += 1;
                    std::thread::sleep(Duration::from_millis(1));
                }
                made
            })
        });
        work();
        over.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    assert!(made > 3, "{made}");
    assert_eq!(repeated(site) - before, 0, "of {made}");
}

/// A new run is told of all live leases: none is missing for a moment, none is there twice.
pub fn restart(site: &Site) {
    let all = |seconds| [both("tcp/22", seconds), others(500, seconds)].concat();
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    wall.sync(&all(600)).unwrap();
    without_a_gap(site, || {
        wall.open(&both("tcp/22", 610)).unwrap();
        wall.sync(&all(620)).unwrap();
        drop(wall);
        for seconds in [630, 900] {
            site.shielded(&all(seconds));
        }
    });
    assert_eq!(site.count(), 502);
    let seen = site.seen();
    assert!(seen.iter().all(|s| (860..=901).contains(&s.left)), "{seen:?}");
    site.admits(&IN);
}

/// Other ports are protected: what came is shut, what went is free, and leases go on.
pub fn reload(site: &Site) {
    let mut wall = site.wall(&["tcp/22", "tcp/80"]);
    wall.sync(&[]).unwrap();
    let free = everybody(&["tcp/8005", "udp/53"]);
    site.admits(&free);
    let leases = [both("tcp/22", 600), vec![opening(CLIENT_V4, "udp/53", 600)]].concat();
    wall.sync(&leases).unwrap();
    drop(wall);
    let mut wall = site.wall(&["tcp/22", "tcp/8000-8010", "udp/53"]);
    // The same as `without_a_gap`, which wants the usual ports.
    wall.sync(&leases).unwrap();
    let free = everybody(&["tcp/80"]);
    let wanted = || IN.iter().map(ToString::to_string).chain(free.iter().cloned());
    site.admits(&wanted().chain(["client v4 udp/53".into()]).collect::<Vec<_>>());
    for ports in [&["tcp/22", "tcp/80", "udp/53", "tcp/8005"][..], &PROTECTED] {
        wall = site.wall(ports);
        wall.sync(&leases[..2]).unwrap();
        site.admits(&IN);
    }
    without_a_gap(site, || {
        for ports in [&["tcp/22"][..], &["tcp/1-100", "udp/53"], &PROTECTED] {
            wall = site.wall(ports);
            wall.sync(&leases[..2]).unwrap();
        }
    });
    site.says(&[(CLIENT_V4, "tcp/22", 600), (CLIENT_V6, "tcp/22", 600)]);
    site.admits(&IN);
}

/// A machine that has just started knows nothing of what was open. (That leases of another boot are
/// not restored from the journal: `tests/serve`.)
pub fn reboot(site: &Site) {
    let _wall = site.shielded(&both("tcp/22", 600));
    site.admits(&IN);
    let Some(later) = Site::new(site.backend) else { return };
    later.admits(&everybody(&["tcp/22", "tcp/80", "tcp/8005", "udp/53"]));
    let mut wall = later.wall(&PROTECTED);
    assert!(!wall.with(|f, _| f.is_up()).unwrap());
    wall.sync(&[]).unwrap();
    assert!(wall.with(|f, _| f.is_up()).unwrap());
    later.says(&[]);
    later.admits(&NOBODY);
}

/// After `uninstall` the machine has what it had before, and no more.
pub fn uninstall(site: &Site) {
    let reader = site.reader();
    reader.foreign(&site.world);
    let before = reader.state(&site.world);
    let free = everybody(&["tcp/22", "tcp/80", "tcp/8005", "udp/53"]);
    let mut wall = site.wall(&PROTECTED);
    for round in 0..2 {
        site.admits(&free);
        wall.sync(&both("tcp/22", 600)).unwrap();
        let wide = [opening("10.77.1.0/24", "tcp/80", 600), opening(CLIENT_V6, "tcp/1-999", 600)];
        wall.open(&wide).unwrap();
        assert_ne!(reader.state(&site.world), before);
        site.admits(&[&IN[..], &["client v4 tcp/80", "client v6 tcp/80"]].concat());
        if round == 1 {
            // By a run that knows of nothing.
            wall = site.wall(&["tcp/9"]);
        }
        for _ in 0..2 {
            wall.with(|f, _| f.uninstall()).unwrap();
            assert_eq!(reader.state(&site.world), before);
        }
    }
    site.admits(&free);
    assert!(wall.open(&both("tcp/22", 600)).is_err(), "there is nothing to open");
}

/// A session older than the shield goes on though conntrack has never seen it, and only that.
pub fn older_session(site: &Site) {
    let listener = site.world.enter(SERVER, || TcpListener::bind(("::", 8010))).unwrap();
    let mut pairs = [SERVER_V4, SERVER_V6].map(|server| {
        let to = SocketAddr::new(server.parse().unwrap(), 8010);
        let near = site.world.enter(CLIENT, || TcpStream::connect_timeout(&to, LONG)).unwrap();
        let far = listener.accept().unwrap().0;
        [&near, &far].iter().for_each(|s| s.set_read_timeout(Some(LONG)).unwrap());
        (near, far)
    });
    let mut talk = |when: &str| {
        for (near, far) in &mut pairs {
            let mut heard = [0; 4];
            near.write_all(b"ping").unwrap();
            far.read_exact(&mut heard).unwrap_or_else(|e| panic!("{when}: {e}"));
            far.write_all(&heard).unwrap();
            near.read_exact(&mut heard).unwrap_or_else(|e| panic!("{when}: {e}"));
        }
    };
    let mut wall = site.shielded(&[]);
    talk("after the shield has come");
    wall.sync(&[]).unwrap();
    site.world.run(SERVER, &["conntrack", "-F"]);
    talk("after a second sync, conntrack flushed");
    site.admits(&NOBODY);
}

/// On a host that tracks no connections strangers are kept out and lease holders served.
pub fn untracked(site: &Site) {
    let reader = site.reader();
    reader.untrack(&site.world);
    site.admits(&everybody(&["tcp/22", "tcp/80", "tcp/8005", "udp/53"]));
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let listener = site.world.enter(SERVER, || TcpListener::bind(("::", 8010))).unwrap();
    wall.open(&[both("tcp/22", 600), both("tcp/8010", 600)].concat()).unwrap();
    site.admits(&IN);
    for server in [SERVER_V4, SERVER_V6] {
        // Not the SYN alone: what is said after it arrives too.
        let to = SocketAddr::new(server.parse().unwrap(), 8010);
        let near = site.world.enter(CLIENT, || TcpStream::connect_timeout(&to, LONG)).unwrap();
        let mut far = listener.accept().unwrap().0;
        far.set_read_timeout(Some(LONG)).unwrap();
        (&near).write_all(b"ping").unwrap();
        far.read_exact(&mut [0; 4]).unwrap();
    }
    let tracked = site.world.run(SERVER, &["conntrack", "-L", "-p", "tcp"]);
    assert!(!tracked.contains("dport"), "{tracked}");
}
