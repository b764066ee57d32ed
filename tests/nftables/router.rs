//! Where the server passes packets on.

use super::common::*;
use std::net::TcpListener;

#[test]
fn forwarding_is_untouched_and_a_published_port_is_protected() {
    let Some(world) = world(&["sysctl"]) else { return };
    world.run(SERVER, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    // Behind the server: the client's host plays the container.
    let _container = world.enter(CLIENT, || TcpListener::bind("0.0.0.0:22")).expect("bind");
    nft(
        &world,
        "table ip nat { chain pre { type nat hook prerouting priority -100; \
         ip daddr 10.77.2.1 tcp dport 8022 dnat to 10.77.1.2:22; }; }",
    );
    let mut firewall = backend(&world, &shield(&["tcp/22", "tcp/8022"]));
    assert_open(&world, STRANGER, "10.77.2.1", 8022);
    firewall.sync(&[], now()).expect("sync");
    assert_shut(&world, STRANGER, "10.77.2.1", 8022);
    assert_open(&world, STRANGER, CLIENT_V4, 22);
    firewall.open(&[opening(STRANGER_V4, "tcp/8022", 600_000)], now()).expect("open");
    assert_open(&world, STRANGER, "10.77.2.1", 8022);
}
