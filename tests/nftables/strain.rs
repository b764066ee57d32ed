//! Many elements, short lives, and a shield that is exchanged under fire.

use super::common::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn many(from: u32, to: u32, ms: u64) -> Vec<Opening> {
    (from..to)
        .map(|n| match n % 2 {
            0 => opening(&std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string(), "tcp/22", ms),
            _ => opening(&format!("2001:db8::{:x}:{:x}", n >> 16, n & 0xffff), "udp/53", ms),
        })
        .collect()
}

fn count(world: &World) -> usize {
    elements(world, "lease4").len() + elements(world, "lease6").len()
}

#[test]
fn fifty_thousand_openings_in_one_sync_and_one_more() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let shield = shield(&["tcp/22", "udp/53"]);
    let mut firewall = installed(&world, &shield, &many(0, 50_000, 900_000));
    assert_eq!(count(&world), 50_000);
    assert_shut(&world, CLIENT, SERVER_V4, 22);
    firewall.open(&[opening(CLIENT_V4, "tcp/22", 900_000)], now()).expect("open");
    assert_eq!(count(&world), 50_001);
    assert_open(&world, CLIENT, SERVER_V4, 22);
    // Half of them go, as many come, and a restarted daemon finds the rest.
    drop(firewall);
    firewall = installed(&world, &shield, &many(25_000, 75_000, 900_000));
    assert_eq!(count(&world), 50_000);
    assert!(elements(&world, "lease4").iter().all(|(_, left)| left.is_some_and(|s| s > 600)));
    assert_shut(&world, CLIENT, SERVER_V4, 22);
    // All ends moved at once, then all closed at once.
    firewall.open(&many(25_000, 75_000, 90_000_000), now()).expect("open");
    assert_eq!(count(&world), 50_000);
    assert!(elements(&world, "lease6").iter().all(|(_, left)| left.is_some_and(|s| s > 80_000)));
    let all: Vec<Element> = many(25_000, 74_999, 1).iter().map(|o| o.element).collect();
    firewall.close(&all, now()).expect("close");
    assert_eq!(count(&world), 1);
}

#[test]
fn a_set_that_is_full_says_so_and_the_next_sync_makes_room() {
    let Some(world) = world(&[]) else { return };
    let lease = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &lease);
    let scripts = [
        "flush chain inet opensesame judge; delete set inet opensesame lease4",
        "add set inet opensesame lease4 { type ipv4_addr . inet_proto . inet_service; \
         flags timeout; size 2; }",
    ];
    nft(&world, &scripts.join("; "));
    let more = [1, 2, 3].map(|n| opening(&format!("192.0.2.{n}"), "tcp/22", 600_000));
    let said = firewall.open(&more, now()).unwrap_err().to_string();
    assert!(said.contains("the set is full; the next sync makes it anew"), "{said}");
    firewall.sync(&[&lease[..], &more].concat(), now()).expect("sync");
    assert_eq!(elements(&world, "lease4").len(), 4);
}

#[test]
fn it_works_where_no_nft_is_installed() {
    let Some(world) = world(&["mount"]) else { return };
    let program = env!("CARGO_BIN_EXE_opensesame-spa");
    let dir = tempfile::tempdir().expect("directory");
    let s = dir.path().join("s").display().to_string();
    world.run(SERVER, &[program, "init", "--dir", &s, "--backend", "nftables"]);
    let _listener = world.listen(22);
    assert_open(&world, STRANGER, "10.77.2.1", 22);
    // `ip netns exec` has a mount namespace of its own: nobody else misses nft.
    let script = format!(
        "nft=$(command -v nft); mount --bind /dev/null $nft; ! $nft --version 2>/dev/null; \
         PATH=/nowhere exec {program} serve --shield-only --config {s}/server.toml"
    );
    world.run(SERVER, &["sh", "-ec", &script]);
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
}

#[test]
fn an_extension_that_races_the_end_leaves_the_door_open() {
    let Some(world) = world(&[]) else { return };
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    let key = format!("{{ {CLIENT_V4} . tcp . 22 }}");
    for round in 0..1000 {
        firewall.open(&[opening(CLIENT_V4, "tcp/22", 1 + round % 5)], now()).expect("open");
        std::thread::sleep(Duration::from_micros(700 * (round % 9)));
        firewall.open(&[opening(CLIENT_V4, "tcp/22", 60_000)], now()).expect("extend");
        if round % 20 == 0 {
            // Fails if it is not there.
            nft(&world, &format!("get element inet opensesame lease4 {key}"));
        }
    }
    assert_eq!(count(&world), 1);
}

#[test]
fn many_short_lives_of_many_keys_end_open() {
    let Some(world) = world(&[]) else { return };
    let mut firewall = installed(&world, &shield(&["tcp/22", "udp/53"]), &[]);
    let mut busy = 0;
    for round in 0..12 {
        let (short, long) = (many(0, 10_000, 1 + round % 7), many(0, 10_000, 600_000));
        std::thread::sleep(Duration::from_millis(round % 9));
        for openings in [&short, &long] {
            // What the daemon does when the kernel has no room in its chains: it syncs, and a
            // little later once more if there still is none.
            let mut outcome = firewall.open(openings, now());
            busy += u32::from(outcome.is_err());
            for _ in 0..10 {
                let Err(Error::Busy(why)) = &outcome else { break };
                println!("{why}");
                outcome = firewall.sync(openings, now());
                if outcome.is_err() {
                    std::thread::sleep(Duration::from_millis(300));
                }
            }
            outcome.expect("open, or a sync");
        }
    }
    println!("{busy} times busy");
    assert_eq!(count(&world), 10_000);
    assert!(elements(&world, "lease4").iter().all(|(_, left)| left.is_some_and(|s| s > 400)));
}

#[test]
fn a_timeout_comes_back_as_it_went() {
    let Some(world) = world(&[]) else { return };
    let leases = [opening(CLIENT_V4, "tcp/22", 30_000), opening("192.0.2.0/24", "tcp/22", 30_000)];
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &leases);
    for set in ["lease4", "wide4"] {
        let all = elements(&world, set);
        assert!(matches!(all[..], [(_, Some(15..=30))]), "{all:?}");
    }
    // An end that is off by less than a second stays, and what is off by more is corrected.
    let (before, same) = (table(&world), handles(&world));
    assert_eq!(same.len(), 17, "{same:?}");
    firewall.sync(&leases, now()).expect("sync");
    assert_eq!((table(&world), handles(&world)), (before, same));
    let longer = leases.map(|o| Opening { until: o.until.plus(30_000), ..o });
    firewall.sync(&longer, now()).expect("sync");
    for set in ["lease4", "wide4"] {
        let all = elements(&world, set);
        assert!(matches!(all[..], [(_, Some(31..=60))]), "{all:?}");
    }
}

/// The kernel's numbers of the table, its chains and its sets: they change if it is made anew.
fn handles(world: &World) -> Vec<String> {
    let text = world.run(SERVER, &["nft", "-a", "list", "table", "inet", "opensesame"]);
    let named = |l: &&str| ["table ", "chain ", "set "].iter().any(|w| l.trim().starts_with(w));
    text.lines().filter(named).map(str::to_string).collect()
}

/// A connection attempt that nobody waits for.
fn knock(to: &str) -> Socket {
    let address: SocketAddr = to.parse().expect("address");
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).expect("socket");
    socket.set_nonblocking(true).expect("nonblocking");
    let _ = socket.connect(&SockAddr::from(address));
    socket
}

#[test]
fn an_exchange_under_fire_opens_no_gap_and_breaks_no_lease() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000), opening("fd77:1::/64", "tcp/22", 600_000)];
    let shields = [shield(&["tcp/22"]), shield(&["tcp/22", "udp/53"])];
    let mut firewall = installed(&world, &shields[0], &leases);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let strangers = scope.spawn(|| {
            world.enter(STRANGER, || {
                let mut all = Vec::new();
                while !done.load(Ordering::Relaxed) && all.len() < 900 {
                    all.push(knock("10.77.2.1:22"));
                    all.push(knock("[fd77:2::1]:22"));
                    std::thread::sleep(Duration::from_micros(500));
                }
                std::thread::sleep(Duration::from_millis(500));
                all.iter().filter(|s| s.peer_addr().is_ok()).count()
            })
        });
        let clients = scope.spawn(|| {
            let (mut tries, mut lost) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                for to in [SERVER_V4, SERVER_V6] {
                    tries += 1;
                    lost += usize::from(world.connect(CLIENT, to, 22) != Tried::Open);
                }
            }
            (tries, lost)
        });
        for round in 0..150 {
            if round % 25 == 0 {
                firewall = backend(&world, &shields[round / 25 % 2]);
            }
            firewall.sync(&leases, now()).expect("sync");
        }
        done.store(true, Ordering::Relaxed);
        let (tries, lost) = clients.join().expect("clients");
        // The machine may be too slow for one, but not for many.
        assert!(lost <= 2 + tries / 20, "{lost} of {tries} attempts with a lease failed");
        assert_eq!(strangers.join().expect("strangers"), 0, "strangers that came in");
    });
}
