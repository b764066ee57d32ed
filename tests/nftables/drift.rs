//! Other shields and others' elements.

use super::common::*;

#[test]
fn a_new_configuration_keeps_live_leases_and_no_strange_cuts() {
    let Some(world) = world(&[]) else { return };
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let _firewall = installed(&world, &shield(&["tcp/22"]), &leases);
    nft(&world, "add element inet opensesame cut6 { 2001:db8::1 . tcp . 22 timeout 1h }");
    for ports in [&["tcp/22", "tcp/8000-8010"][..], &["tcp/22", "udp/9"], &["udp/1-9"]] {
        installed(&world, &shield(ports), &leases);
        // Ranges are rules, not elements.
        let ranges = ports.iter().filter(|p| p.contains('-')).count();
        assert_eq!(elements(&world, "ports").len(), ports.len() - ranges);
        assert_eq!(table(&world).matches("goto judge").count(), 1 + ranges);
        assert_eq!(elements(&world, "lease4").len(), 1, "{ports:?}");
        assert_eq!(elements(&world, "cut6").len(), 0, "{ports:?}");
    }
    // Also where the table has to be replaced.
    nft(&world, "add chain inet opensesame foreign");
    installed(&world, &shield(&["tcp/22"]), &leases);
    assert!(!table(&world).contains("foreign"));
    for set in ["ports", "lease4"] {
        assert_eq!(elements(&world, set).len(), 1, "{set}");
    }
}

#[test]
fn a_ban_shuts_and_a_lease_overrules_it() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    nft(&world, "add element inet opensesame ban4 { 10.77.1.2 timeout 1h }");
    firewall.open(&[opening(CLIENT_V4, "tcp/22", 600_000)], now()).expect("open");
    assert_open(&world, CLIENT, SERVER_V4, 22);
    nft(&world, "add element inet opensesame cut4 { 10.77.1.2 . tcp . 22 timeout 1h }");
    assert_shut(&world, CLIENT, SERVER_V4, 22);
}
