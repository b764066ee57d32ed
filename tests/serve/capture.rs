//! Packets that are captured: no port is open, and a valid packet opens all the same.

use super::server::*;
use crate::netns::obstacle;
use std::net::UdpSocket;

/// The server's addresses as the stranger reaches them.
const OF_STRANGER: [&str; 2] = [SERVER_OF_STRANGER, "fd77:2::1"];

/// A server whose only listener captures on that interface.
fn capturing(backend: &str, interface: &str, tools: &[&str]) -> Option<Server> {
    if obstacle(tools).is_some() {
        return None;
    }
    let server = Server::new(backend)?;
    server.edit("s/server.toml", |text| {
        let (before, after) = text.split_once("udp  ").expect("a listener");
        let rest = after.split_once('\n').unwrap().1;
        format!("{before}capture = \"{interface}\"\nport = {UDP}\n{rest}")
    });
    Some(server)
}

fn running(backend: &str, interface: &str) -> Option<Server> {
    let mut server = capturing(backend, interface, &[])?;
    server.listen(22);
    server.start();
    Some(server)
}

/// One packet of alice from her own host, over that family.
fn ask(server: &Server, address: &str) {
    let bytes = packet(&server.profile("alice"), &wish(wall()));
    send(server, CLIENT, address, &bytes);
}

fn send(server: &Server, host: &str, address: &str, bytes: &[u8]) {
    server.world.enter(host, || {
        let own = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        UdpSocket::bind(own).unwrap().send_to(bytes, (address, UDP)).unwrap();
    });
}

fn is(server: &Server, host: &str, address: &str, tried: Tried) -> bool {
    server.world.connect(host, address, 22) == tried
}

fn opens(server: &Server) {
    for address in [SERVER_V4, SERVER_V6] {
        assert!(is(server, CLIENT, address, Tried::Silence), "shut before, on {address}");
        ask(server, address);
        eventually("open", || is(server, CLIENT, address, Tried::Open));
    }
    for address in OF_STRANGER {
        assert!(is(server, STRANGER, address, Tried::Silence));
    }
    // Nobody is bound to the port.
    let sockets = server.world.run(SERVER, &["cat", "/proc/net/udp", "/proc/net/udp6"]);
    assert!(!sockets.contains(&format!(":{UDP:04X} ")), "{sockets}");
}

#[test]
fn one_captured_packet_opens_with_nftables() {
    let Some(server) = running("nftables", "any") else { return };
    opens(&server);
    server.says_all(&["ready: ", "capture any udp/41841"]);
}

#[test]
fn one_captured_packet_opens_with_iptables() {
    let Some(server) = running("iptables", "to-client") else { return };
    opens(&server);
}
