//! Packets that are captured: no port is open, and a valid packet opens all the same.

use super::server::*;
use crate::netns::obstacle;
use opensesame_spa::crypto::hex_of;
use std::net::UdpSocket;
use std::time::Duration;

/// The server's addresses as the stranger reaches them.
const OF_STRANGER: [&str; 2] = [SERVER_OF_STRANGER, "fd77:2::1"];

/// A server whose only listener captures on that interface.
fn capturing(backend: &str, interface: &str, tools: &[&str]) -> Option<Server> {
    if obstacle(tools).is_some() {
        return None;
    }
    let server = Server::new(backend)?;
    server.capture(interface);
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

/// What nmap calls the port and its two neighbours, by UDP and by TCP, in both families.
fn scan(server: &Server) -> Vec<[String; 3]> {
    let ports = format!("{},{UDP},{}", UDP - 1, UDP + 1);
    let one = |how: &str, address: &str| {
        let family: &[&str] = if address.contains(':') { &["-6"] } else { &[] };
        let common = ["nmap", how, "-Pn", "-n", "--max-retries", "2", "-p", &ports, address];
        let text = server.world.run(STRANGER, &[&common, family].concat());
        let state = |port: u16| {
            let line = text.lines().find(|l| l.starts_with(&format!("{port}/")));
            let state = line.and_then(|l| l.split_whitespace().nth(1));
            state.unwrap_or_else(|| panic!("{text}")).to_string()
        };
        [state(UDP - 1), state(UDP), state(UDP + 1)]
    };
    OF_STRANGER.iter().flat_map(|a| ["-sU", "-sS"].map(|how| one(how, a))).collect()
}

/// A busy machine can be too late for nmap once, so it may look again; it never sees a difference
/// that is not there twice.
fn looks_like_its_neighbours(server: &Server, state: &str, when: &str) {
    // The kernel of a host answers only so often (icmp_ratelimit), also with nobody there.
    eventually(&format!("{state} like its neighbours, {when}"), || {
        let seen = scan(server);
        let even = seen.iter().all(|ports| ports.iter().all(|p| p == state));
        if !even {
            println!("{when}: {seen:?}");
            std::thread::sleep(Duration::from_millis(1_200));
        }
        even
    });
}

/// A service of the config that is shut, a firewall that drops, and nothing tells the port from others.
#[test]
fn a_scan_sees_no_port_whether_the_server_is_up_stopped_or_crashed() {
    let Some(mut server) = capturing("nftables", "any", &["nmap"]) else { return };
    server.listen(22);
    looks_like_its_neighbours(&server, "closed", "before it starts");
    server.start();
    looks_like_its_neighbours(&server, "closed", "while it is up");
    opens(&server);
    server.stop();
    looks_like_its_neighbours(&server, "closed", "when it has been stopped");
    server.start();
    server.crash();
    looks_like_its_neighbours(&server, "closed", "when it has crashed");
}

/// Over a firewall that drops everything the packet still counts: the capture sees it first.
#[test]
fn behind_a_firewall_that_drops_it_is_filtered_like_its_neighbours() {
    let Some(mut server) = capturing("nftables", "any", &["nmap"]) else { return };
    let rules = "table inet own { chain input { type filter hook input priority 0; policy drop; \
                 iif lo accept; icmpv6 type { 135, 136 } accept; tcp dport 22 accept; }; }";
    server.world.run(SERVER, &["nft", rules]);
    server.listen(22);
    server.start();
    opens(&server);
    let before = scan(&server);
    assert!(before.iter().all(|p| p[0] == p[1] && p[1] == p[2]), "{before:?}");
    assert!(before.iter().flatten().all(|p| p.contains("filtered")), "{before:?}");
    server.crash();
    assert_eq!(scan(&server), before);
}

/// Sends alice's packet in a frame of that kind; the rest of the packet is right.
fn frame(server: &Server, how: &str) {
    let bytes = packet(&server.profile("alice"), &wish(wall()));
    server.world.run(CLIENT, &["python3", "-c", FRAME, how, &hex_of(&bytes)]);
}

/// Six ways to put a datagram on a wire; only `whole` is one to this machine in one piece.
const FRAME: &str = r#"
import socket, struct, sys
how, data = sys.argv[1], bytes.fromhex(sys.argv[2])
line = [l.split() for l in open('/proc/net/arp') if l.startswith('10.77.1.1 ')][0]
us = bytes.fromhex(line[3].replace(':', ''))
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
me = s.getsockname()[4]
to = socket.inet_aton('10.77.2.2' if how == 'forwarded' else '10.77.1.255' if how == 'directed' else '10.77.1.1')
udp = struct.pack('!HHHH', 40000, 41841, 8 + len(data), 0) + data
def ip(body, flags, protocol=17):
    h = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 7, flags, 64, protocol, 0, socket.inet_aton('10.77.1.2'), to)
    n = sum(struct.unpack('!10H', h))
    n = (n & 0xffff) + (n >> 16)
    n = (n & 0xffff) + (n >> 16)
    return h[:10] + struct.pack('!H', ~n & 0xffff) + h[12:] + body
there = {'broadcast': b'\xff' * 6, 'directed': b'\xff' * 6, 'other': b'\x02\0\0\0\0\x01'}.get(how, us)
if how == 'fragments':
    # The datagram in two pieces; and a first piece that holds all of it.
    packets = [ip(udp[:200], 0x2000), ip(udp[200:], 200 // 8), ip(udp, 0x2000), ip(bytes(8), len(udp) // 8)]
elif how == 'six':
    # IPv6 with an empty header of destination options before UDP, to the server's own address.
    a = [socket.inet_pton(socket.AF_INET6, x) for x in ('fd77:1::2', 'fd77:1::1')]
    pseudo = a[0] + a[1] + struct.pack('!IBBBB', len(udp), 0, 0, 0, 17) + udp + b'\0' * (len(udp) % 2)
    n = sum(struct.unpack('!%dH' % (len(pseudo) // 2), pseudo))
    while n >> 16: n = (n & 0xffff) + (n >> 16)
    udp = udp[:6] + struct.pack('!H', ~n & 0xffff) + udp[8:]
    packets = [struct.pack('!IHBB', 6 << 28, 8 + len(udp), 60, 64) + a[0] + a[1] + b'\x11\0\x01\x04\0\0\0\0' + udp]
else:
    packets = [ip(udp, 0x4000)]
for p in packets:
    s.send(there + me + struct.pack('!H', p[0] >> 4 == 6 and 0x86dd or 0x0800) + p)
"#;

#[test]
fn fragments_and_what_is_for_others_count_for_nothing() {
    let Some(server) = running("nftables", "any") else { return };
    // A router: what passes through is not for it.
    server.world.run(SERVER, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    // Shut, and the client has the server's hardware address from now on.
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    for how in ["fragments", "six", "forwarded", "broadcast", "directed", "other"] {
        frame(&server, how);
    }
    // Packets of one sender come in their order: when this one counts, the others have been there.
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    frame(&server, "whole");
    server.becomes_open(CLIENT);
    let status = server.status();
    assert_eq!(status["accepted"], 1, "{status}");
    let refused = status["refused"].as_object().unwrap().values();
    assert_eq!(refused.filter_map(serde_json::Value::as_u64).sum::<u64>(), 0, "{status}");
}

#[test]
fn another_engine_captures_again() {
    let Some(mut server) = running("nftables", "any") else { return };
    for _ in 0..3 {
        let (_, engine) = server.pids();
        kill("KILL", &[engine]);
        server.wait_engine();
        ask(&server, SERVER_V6);
        eventually("open", || is(&server, CLIENT, SERVER_V6, Tried::Open));
        server.order(&["evict", CLIENT_V6]);
        eventually("shut", || is(&server, CLIENT, SERVER_V6, Tried::Silence));
    }
    let (parent, _) = server.pids();
    // [priv] keeps none of the packet sockets.
    let own = server.world.run(SERVER, &["sh", "-c", &format!("ls -l /proc/{parent}/fd")]);
    let inodes = server.world.run(SERVER, &["cat", "/proc/net/packet"]);
    let inodes: Vec<&str> =
        inodes.lines().skip(1).filter_map(|l| l.split_whitespace().last()).collect();
    assert_eq!(inodes.len(), 2, "one for each family");
    assert!(inodes.iter().all(|i| !own.contains(&format!("[{i}]"))), "{own}");
}

#[test]
fn one_interface_hears_only_its_own_and_may_come_back() {
    let Some(server) = running("nftables", "to-client") else { return };
    let bytes = open_for(&server.profile("alice"), "10.77.2.2/32");
    send(&server, STRANGER, SERVER_OF_STRANGER, &bytes);
    opens(&server);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    assert_eq!(server.status()["accepted"], 2);
    // Gone, and back under the same name.
    let ip = |args: &[&str]| server.world.run(SERVER, &[&["ip"], args].concat());
    ip(&["link", "set", "to-client", "name", "elsewhere"]);
    ip(&["link", "add", "to-client", "type", "veth", "peer", "name", "spare"]);
    ip(&["link", "del", "to-client"]);
    ip(&["link", "set", "elsewhere", "down"]);
    server.says("capture on to-client: ");
    ip(&["link", "set", "elsewhere", "name", "to-client"]);
    ip(&["link", "set", "to-client", "up"]);
    server.says("capture on to-client: back again");
    server.order(&["evict", CLIENT_V4]);
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    ask(&server, SERVER_V4);
    eventually("open", || is(&server, CLIENT, SERVER_V4, Tried::Open));
}

/// A kernel that takes no filter (here: no room for one, net.core.optmem_max) is told of, and the
/// same is asked in user space.
#[test]
fn without_a_filter_the_same_packets_count() {
    let Some(mut server) = capturing("nftables", "any", &[]) else { return };
    let small = "echo 256 >/proc/sys/net/core/optmem_max";
    if !server.world.try_run(SERVER, &["sh", "-c", small]).status.success() {
        println!("SKIPPED capture without a filter: needs an optmem_max of the namespace's own");
        return;
    }
    server.listen(22);
    server.start();
    server.says("capture: the kernel takes no filter");
    opens(&server);
    // What the filter would not have let through does not count here either.
    let good = packet(&server.profile("alice"), &wish(wall()));
    server.order(&["evict", "10.77.1.0/24"]);
    send(&server, CLIENT, SERVER_V4, &good[..287]);
    send(&server, CLIENT, SERVER_V4, &[&good[..], &[0]].concat());
    std::thread::sleep(Duration::from_millis(200));
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    send(&server, CLIENT, SERVER_V4, &good);
    eventually("open", || is(&server, CLIENT, SERVER_V4, Tried::Open));
}
