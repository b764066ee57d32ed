//! Openings of prefixes and port ranges, which overlap.

use super::common::*;

fn state(world: &World) -> Vec<(&'static str, u16, Tried)> {
    [(SERVER_V4, 80), (SERVER_V4, 85), (SERVER_V6, 85)]
        .map(|(to, port)| (to, port, world.connect(CLIENT, to, port)))
        .to_vec()
}

#[test]
fn overlapping_leases_end_one_by_one() {
    let Some(world) = world(&[]) else { return };
    let _listeners = [80, 85].map(|port| world.listen(port));
    let mut firewall = installed(&world, &shield(&["tcp/80-90"]), &[]);
    let (prefix, range) = ("10.77.1.0/24", "tcp/84-86");
    let all = [
        opening(prefix, "tcp/80-90", 600_000),
        opening("10.77.0.0/16", range, 900_000),
        opening(CLIENT_V4, "tcp/85-90", 300_000),
        opening("fd77:1::/64", range, 600_000),
        opening("fd77::/16", "tcp/85", 600_000),
    ];
    let expect = |have: Vec<(&str, u16, Tried)>, want: [Tried; 3]| {
        assert_eq!(have.iter().map(|h| h.2).collect::<Vec<_>>(), want, "{}", table(&world));
    };
    use Tried::{Open, Silence};
    for opening in &all {
        firewall.open(&[*opening], now()).expect("open");
    }
    expect(state(&world), [Open, Open, Open]);
    assert_shut(&world, STRANGER, "10.77.2.1", 80);
    let pieces = elements(&world, "wide4").len();
    firewall.close(&[all[0].element], now()).expect("close");
    expect(state(&world), [Silence, Open, Open]);
    firewall.close(&[all[1].element], now()).expect("close");
    expect(state(&world), [Silence, Open, Open]);
    firewall.close(&[all[2].element, all[3].element], now()).expect("close");
    expect(state(&world), [Silence, Silence, Open]);
    assert!(elements(&world, "wide4").is_empty());
    // All anew at once, by a backend that remembers nothing.
    let mut firewall = installed(&world, &shield(&["tcp/80-90"]), &all);
    assert_eq!(elements(&world, "wide4").len(), pieces);
    assert!(table(&world).contains("tcp dport 80-90 fib daddr type != unicast goto judge"));
    expect(state(&world), [Open, Open, Open]);
    firewall.sync(&all[4..], now()).expect("sync");
    expect(state(&world), [Silence, Silence, Open]);
    firewall.close(&[all[4].element, all[0].element], now()).expect("close");
    expect(state(&world), [Silence, Silence, Silence]);
}

#[test]
fn a_wide_lease_that_races_its_end_can_be_extended() {
    let Some(world) = world(&[]) else { return };
    let mut firewall = installed(&world, &shield(&["tcp/80-90"]), &[]);
    for round in 0..60 {
        let wide = opening("10.77.1.0/24", "tcp/80-90", 1 + round % 9);
        firewall.open(&[wide], now()).expect("open");
        std::thread::sleep(std::time::Duration::from_micros(900 * (round % 11)));
        let longer = opening("10.77.1.0/24", "tcp/80-90", 60_000);
        let narrow = opening("10.77.1.0/25", "tcp/85-86", 70_000 + round);
        firewall.open(&[longer, narrow], now()).expect("extend");
        assert!(elements(&world, "wide4").len() == 4, "{}", table(&world));
        firewall.close(&[narrow.element], now()).expect("close");
    }
    assert_eq!(elements(&world, "wide4").len(), 1);
}

#[test]
fn a_lease_with_a_short_and_a_long_part_ends_in_two_steps() {
    let Some(world) = world(&[]) else { return };
    let _listeners = [80, 85].map(|port| world.listen(port));
    let leases =
        [opening(CLIENT_V4, "tcp/80-90", 2_500), opening("10.77.1.0/24", "tcp/85", 600_000)];
    drop(installed(&world, &shield(&["tcp/80-90"]), &leases));
    assert_open(&world, CLIENT, SERVER_V4, 85);
    eventually("the short one ends", || world.connect(CLIENT, SERVER_V4, 80) == Tried::Silence);
    assert_open(&world, CLIENT, SERVER_V4, 85);
}
