//! Who is banned, for how long, and that a lease wins.

use super::common::*;
use opensesame_spa::firewall::Bar;

fn bar(from: &str, ms: u64) -> Bar {
    Bar { from: from.parse().expect("address"), until: now().mono.plus(ms) }
}

fn resetting(world: &World) -> Nftables {
    let protected = vec![("tcp/22".parse().expect("ports"), Refuse::Reset)];
    backend(world, &Shield { protected, listening: vec![], ..Shield::default() })
}

#[test]
fn a_ban_silences_a_port_that_resets_and_a_lease_wins_over_it() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let mut firewall = resetting(&world);
    firewall.sync(&[], now()).unwrap();
    let client = |address| world.connect(CLIENT, address, 22);
    let both = |v4: Tried, v6: Tried| {
        eventually("an answer as it should be", || client(SERVER_V4) == v4);
        eventually("an answer as it should be", || client(SERVER_V6) == v6);
    };
    both(Tried::Refused, Tried::Refused);
    let bars = [bar(CLIENT_V4, 600_000), bar("fd77:1::/64", 600_000)];
    firewall.bar(&bars, now()).unwrap();
    both(Tried::Silence, Tried::Silence);
    assert_eq!(world.connect(STRANGER, "10.77.2.1", 22), Tried::Refused);
    assert_eq!(world.connect(STRANGER, "fd77:2::1", 22), Tried::Refused);
    firewall.open(&[opening(CLIENT_V4, "tcp/22", 600_000)], now()).unwrap();
    both(Tried::Open, Tried::Silence);
    firewall.close(&[element(CLIENT_V4, "tcp/22")], now()).unwrap();
    both(Tried::Silence, Tried::Silence);
    firewall.unbar(&[bars[0].from, "192.0.2.1".parse().unwrap()], now()).unwrap();
    both(Tried::Refused, Tried::Silence);
    // One address of a /64 is itself alone.
    firewall.unbar(&[bars[1].from], now()).unwrap();
    firewall.bar(&[bar(CLIENT_V6, 600_000)], now()).unwrap();
    both(Tried::Refused, Tried::Silence);
    firewall.bar(&[bar("fd77:1::99", 600_000)], now()).unwrap();
    firewall.unbar(&[CLIENT_V6.parse().unwrap()], now()).unwrap();
    both(Tried::Refused, Tried::Refused);
}

#[test]
fn the_kernel_ends_a_ban_by_itself_and_a_new_end_is_the_end() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let mut firewall = resetting(&world);
    firewall.sync(&[], now()).unwrap();
    firewall.bar(&[bar(CLIENT_V4, 3_000_000)], now()).unwrap();
    firewall.bar(&[bar(CLIENT_V4, 300_000)], now()).unwrap();
    let all = elements(&world, "ban4");
    let [(value, Some(left))] = &all[..] else { panic!("{all:?}") };
    assert!(value.contains(CLIENT_V4) && (200..=300).contains(left), "{all:?}");
    firewall.bar(&[bar(CLIENT_V4, 4_000)], now()).unwrap();
    drop(firewall);
    eventually("the ban ends", || world.connect(CLIENT, SERVER_V4, 22) == Tried::Refused);
}

#[test]
fn a_sync_makes_the_bans_exactly_those_it_was_told() {
    let Some(world) = world(&[]) else { return };
    let mut firewall = resetting(&world);
    firewall.set_bars(&[bar("192.0.2.1", 600_000), bar("2001:db8::/64", 600_000)]);
    firewall.sync(&[], now()).unwrap();
    let sets = || (elements(&world, "ban4").len(), elements(&world, "ban6").len());
    assert_eq!(sets(), (1, 1));
    // Somebody has taken one away and added another one.
    nft(&world, "flush set inet opensesame ban6");
    nft(&world, "add element inet opensesame ban4 { 192.0.2.66 timeout 1h }");
    firewall.sync(&[], now()).unwrap();
    assert_eq!(sets(), (1, 1));
    assert!(elements(&world, "ban4")[0].0.contains("192.0.2.1"));
    nft(&world, "delete table inet opensesame");
    firewall.sync(&[], now()).unwrap();
    assert_eq!(sets(), (1, 1));
    let before = chains(&world);
    firewall.set_bars(&[]);
    firewall.sync(&[], now()).unwrap();
    assert_eq!((sets(), chains(&world)), ((0, 0), before));
}
