//! A shield that only says what it would do.

use super::common::*;
use opensesame_spa::firewall::Bar;

fn observing() -> Shield {
    Shield { observe: true, ..shield(&["tcp/22", "tcp/2000-2010"]) }
}

#[test]
fn nothing_is_dropped_and_strangers_are_remembered() {
    let Some(world) = world(&[]) else { return };
    let _listeners = [22, 23, 2005].map(|port| world.listen(port));
    let mut real = installed(&world, &shield(&["tcp/22"]), &[]);
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let mut firewall = backend(&world, &observing());
    assert!(!firewall.is_up().expect("asked"), "a shield is there, and it does not observe");
    let bar = Bar { from: STRANGER_V4.parse().expect("prefix"), until: now().mono.plus(600_000) };
    firewall.set_bars(&[bar]);
    firewall.sync(&leases, now()).expect("sync");
    assert_eq!(firewall.observed(), Ok(vec![]));
    for (host, at, port) in [
        (CLIENT, SERVER_V4, 22),
        (STRANGER, "10.77.2.1", 22),
        (STRANGER, "10.77.2.1", 23),
        (STRANGER, "fd77:2::1", 22),
        (STRANGER, "fd77:2::1", 2005),
        (CLIENT, SERVER_V6, 22),
    ] {
        assert_open(&world, host, at, port);
    }
    let mut seen = firewall.observed().expect("seen");
    seen.sort_unstable();
    let mut wanted = vec![
        element(STRANGER_V4, "tcp/22"),
        element(STRANGER_V6, "tcp/22"),
        element(STRANGER_V6, "tcp/2005"),
        element(CLIENT_V6, "tcp/22"),
    ];
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    for (_, left) in elements(&world, "seen4") {
        assert!(left.is_some_and(|s| s <= 60), "{left:?}");
    }
    // A sync keeps them, and the whole is no shield.
    firewall.sync(&leases, now()).expect("sync");
    assert_eq!(firewall.observed().expect("seen").len(), 4);
    assert!(firewall.is_up().expect("asked"));
    assert!(!table(&world).contains("drop"), "{}", table(&world));
    assert!(!real.is_up().expect("asked"));
    real.sync(&[], now()).expect("sync");
    assert!(real.is_up().expect("asked"));
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
    assert!(!table(&world).contains("seen4"));
}

#[test]
fn when_there_is_no_room_to_remember_nobody_is_dropped() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let mut firewall = installed(&world, &observing(), &[]);
    let all: Vec<String> =
        (0..4096).map(|n| format!("192.0.{}.{} . tcp . 22 timeout 5m", n / 256, n % 256)).collect();
    let file = tempfile::NamedTempFile::new().expect("file");
    let script = format!("add element inet opensesame seen4 {{ {} }}\n", all.join(", "));
    std::fs::write(file.path(), script).expect("write");
    world.run(SERVER, &["nft", "-f", file.path().to_str().expect("path")]);
    assert_open(&world, STRANGER, "10.77.2.1", 22);
    assert_open(&world, STRANGER, "fd77:2::1", 22);
    let seen = firewall.observed().expect("seen");
    assert_eq!(seen.len(), 4097);
    assert!(!seen.contains(&element(STRANGER_V4, "tcp/22")));
    assert!(seen.contains(&element(STRANGER_V6, "tcp/22")));
}
