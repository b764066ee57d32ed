//! What strangers send ends in the kernel; and what gets behind it costs little and delays nobody.

use super::server::*;
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{DoorKey, hex_of, random};
use opensesame_spa::daemon::config::ServerKey;
use std::net::UdpSocket;
use std::process::Stdio;

/// What a socket may have beside its buffers, on kernels before 6.7: bytes.
const OLD_OPTMEM: &str = "20480";

/// Puts a new door key before the one that is there; the new one.
fn rotate(server: &Server, keep: bool) -> DoorKey {
    let path = server.path("s/server.key");
    let mut key = ServerKey::load(&path).unwrap();
    let fresh = DoorKey::generate().unwrap();
    key.doors.truncate(usize::from(keep));
    key.doors.insert(0, fresh.clone());
    server.write("s/server.key", &key.to_text());
    fresh
}

fn optmem(server: &Server, bytes: &str) {
    let write = format!("echo {bytes} > /proc/sys/net/core/optmem_max");
    server.world.run(SERVER, &["sh", "-c", &write]);
}

/// Bytes of the one length that nobody has made.
fn garbage(server: &Server, count: usize) {
    let packets: Vec<[u8; 288]> = (0..count).map(|_| random().unwrap()).collect();
    server.world.enter(STRANGER, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let to = (SERVER_OF_STRANGER, UDP);
        packets.iter().for_each(|p| assert_eq!(socket.send_to(p, to).unwrap(), p.len()));
    });
}

fn dropped(server: &Server) -> u64 {
    server.status()["dropped-by-kernel"].as_u64().unwrap()
}

/// How often a process has begun to run again.
fn switches(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let counts = status.lines().filter_map(|l| l.split_once("ctxt_switches:"));
    counts.map(|(_, n)| n.trim().parse::<u64>().unwrap()).sum()
}

/// alice opens for that address with the door key that she has, or with another; a reload may still
/// be on its way.
fn opens(server: &Server, profile: &Profile, address: &str) {
    eventually(address, || {
        server.send(CLIENT, &open_for(profile, address));
        let open = |l: &serde_json::Value| l["address"].as_str().unwrap().contains(address);
        server.leases().iter().any(open)
    });
}

#[test]
fn garbage_wakes_nobody_even_with_little_memory_for_filters() {
    let Some(mut server) = Server::new("nftables") else { return };
    let mut alice = server.profile("alice");
    optmem(&server, OLD_OPTMEM);
    let second = rotate(&server, true);
    server.start();
    let (_, engine) = server.pids();
    opens(&server, &alice, "192.0.2.1");
    let before = (switches(engine), dropped(&server));
    let after_asking = switches(engine);
    garbage(&server, 5_000);
    assert_eq!(switches(engine), after_asking, "before it was {before:?}");
    assert_eq!(dropped(&server), before.1 + 5_000);
    assert_eq!(server.refused("not-admitted"), 0);
    alice.door = second;
    opens(&server, &alice, "192.0.2.2");
    // Two keys in place of two others: both filters together are more than the memory is for.
    alice.door = rotate(&server, true);
    server.order(&["reload"]);
    opens(&server, &alice, "192.0.2.3");
    kill("KILL", &[engine]);
    server.wait_engine();
    let (_, engine) = server.pids();
    opens(&server, &alice, "192.0.2.4");
    let quiet = switches(engine);
    garbage(&server, 5_000);
    assert_eq!(switches(engine), quiet);
    assert!(!server.log().contains("does not refuse"), "{}", server.log());
}

#[test]
fn where_the_kernel_takes_no_filter_everything_is_checked_all_the_same() {
    let Some(mut server) = Server::new("nftables") else { return };
    let alice = server.profile("alice");
    optmem(&server, "1024");
    server.start();
    server.says("the kernel does not refuse strangers' packets");
    garbage(&server, 50);
    eventually("counted", || server.refused("not-admitted") == 50);
    opens(&server, &alice, "192.0.2.1");
    server.order(&["reload"]);
    opens(&server, &alice, "192.0.2.2");
    assert_eq!(server.log().matches("does not refuse").count(), 1, "said once");
}

/// A new door key counts from the reload on, in the kernel too; one that is gone does no longer.
fn follows_the_keys(server: &Server) {
    let old = server.profile("alice");
    opens(server, &old, "192.0.2.1");
    let mut new = old.clone();
    new.door = rotate(server, true);
    let refused = |n: u64| {
        let status = server.status();
        let at_all: u64 =
            status["refused"].as_object().unwrap().values().filter_map(|v| v.as_u64()).sum();
        at_all == n
    };
    assert!(refused(0));
    server.order(&["reload"]);
    opens(server, &new, "192.0.2.2");
    opens(server, &old, "192.0.2.3");
    rotate(server, false);
    let mut newest = old.clone();
    newest.door = ServerKey::load(&server.path("s/server.key")).unwrap().doors.remove(0);
    server.order(&["reload"]);
    opens(server, &newest, "192.0.2.4");
    // By now the keys before it count nowhere.
    for gone in [&old, &new] {
        server.send(CLIENT, &open_for(gone, "192.0.2.5"));
    }
    opens(server, &newest, "192.0.2.6");
    assert!(refused(0), "refused by the kernel, not here");
    assert_eq!(server.leases().len(), 5);
}

#[test]
fn the_filter_of_a_socket_follows_the_door_keys() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.start();
    follows_the_keys(&server);
}

#[test]
fn the_filter_of_a_capture_follows_the_door_keys() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.capture("any");
    server.start();
    follows_the_keys(&server);
    let (_, engine) = server.pids();
    let before = switches(engine);
    garbage(&server, 5_000);
    assert_eq!(switches(engine), before);
    // Each [engine] gets sockets of its own, with a filter of its own.
    kill("KILL", &[engine]);
    server.wait_engine();
    let mut alice = server.profile("alice");
    alice.door = ServerKey::load(&server.path("s/server.key")).unwrap().doors.remove(0);
    opens(&server, &alice, "192.0.2.9");
}

#[test]
fn a_train_of_segments_is_as_many_packets() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.start();
    let alice = server.profile("alice");
    let addresses: Vec<String> = (1..=10).map(|n| format!("192.0.2.{n}")).collect();
    let train: Vec<u8> = addresses.iter().flat_map(|a| open_for(&alice, a)).collect();
    server.world.enter(CLIENT, || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        setsockopt(&socket, UdpGsoSegment, &288).unwrap();
        assert_eq!(socket.send_to(&train, (SERVER_V4, UDP)).unwrap(), 2_880);
    });
    server.knows_leases(10);
}

#[test]
fn captures_follow_the_keys_behind_a_long_configuration() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.capture("any");
    let one = |n: u32| {
        let (id, key) = (format!("{n:016x}"), DoorKey::generate().unwrap());
        format!("[[client]]\nname = \"c{n}\"\nid = \"{id}\"\nkey = \"{}\"\n", *key.to_text())
    };
    let list: String = (1..=2_000).map(one).collect();
    server.write("s/clients/list.toml", &list);
    server
        .world
        .run(SERVER, &["chmod", "600", server.path("s/clients/list.toml").to_str().unwrap()]);
    server.start();
    let mut alice = server.profile("alice");
    opens(&server, &alice, "192.0.2.1");
    // Everybody has changed, and the doors with them.
    alice.door = rotate(&server, true);
    server.edit("s/server.toml", |text| text.replace("[policy]", "[policy]\nmax-leases = 17"));
    server.order(&["reload"]);
    server.says("told of 2001 clients");
    opens(&server, &alice, "192.0.2.2");
}

/// Sends stdin, hex, as UDP in a frame with a tag of IEEE 802.1Q: which, and to whose hardware address.
const TAGGED: &str = r#"
import socket, struct, sys
tag, to, port = int(sys.argv[1]), bytes.fromhex(sys.argv[2].replace(":", "")), int(sys.argv[3])
data = bytes.fromhex(sys.stdin.read().strip())
udp = struct.pack("!HHHH", 40000, port, 8 + len(data), 0) + data
ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + bytes([10, 77, 1, 2, 10, 77, 1, 1])
n = sum(struct.unpack("!10H", ip)); n = (n & 0xffff) + (n >> 16); n = ~((n & 0xffff) + (n >> 16)) & 0xffff
ip = ip[:10] + struct.pack("!H", n) + ip[12:]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
s.send(to + s.getsockname()[4] + struct.pack("!HHH", 0x8100, tag, 0x0800) + ip + udp)
"#;

#[test]
fn a_tagged_frame_is_captured_if_the_tag_is_a_priority_only() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.capture("any");
    server.start();
    let alice = server.profile("alice");
    let near = server.world.run(SERVER, &["cat", "/sys/class/net/to-client/address"]);
    // The network of somebody else, and then none.
    for (tag, address) in [("42", "192.0.2.1"), ("57344", "192.0.2.2")] {
        server.write("hex", &hex_of(&open_for(&alice, address)));
        let hex = std::fs::File::open(server.path("hex")).unwrap();
        let mut command = server.world.command(CLIENT, "python3");
        let port = UDP.to_string();
        command.args(["-c", TAGGED, tag, near.trim(), &port]).stdin(hex);
        assert!(command.status().unwrap().success());
    }
    server.says_all(&["open client=alice", "192.0.2.2"]);
    assert_eq!(server.leases().len(), 1);
}

/// The packet with another byte in its body: the token is right and the HMAC is not.
fn forged(packet: &[u8; 288], byte: u8) -> [u8; 288] {
    let mut forged = *packet;
    forged[100] ^= byte;
    forged
}

#[test]
fn who_races_a_packet_with_its_token_does_not_silence_it() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.invite("bob", &[]);
    server.start();
    let (_, engine) = server.pids();
    let (alice, bob) = (server.profile("alice"), server.profile("bob"));
    let raced = open_for(&alice, "192.0.2.1");
    server.send(STRANGER, &forged(&raced, 1));
    eventually("refused", || server.refused("unauthentic") == 1);
    // All of this is one batch.
    kill("STOP", &[engine]);
    (2..=40).for_each(|n| server.send(CLIENT, &forged(&raced, n)));
    server.send(CLIENT, &raced);
    server.send(CLIENT, &open_for(&bob, "192.0.2.2"));
    kill("CONT", &[engine]);
    server.knows_leases(2);
    assert_eq!(server.refused("unauthentic"), 40);
    let log = server.log();
    let place = |name: &str| log.find(&format!("open client={name}")).unwrap();
    assert!(place("bob") < place("alice"), "who came last was not kept waiting");
}

#[test]
fn a_refused_packet_takes_no_call_of_its_own() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.start();
    let (_, engine) = server.pids();
    let alice = server.profile("alice");
    let trace = server.path("trace");
    let mut strace = server.world.command(SERVER, "strace");
    strace.args(["-f", "-q", "-o", trace.to_str().unwrap(), "-p", &engine.to_string()]);
    let child = Guard(strace.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("traced", || {
        server.send(CLIENT, &forged(&open_for(&alice, "192.0.2.1"), 1));
        std::fs::read_to_string(&trace).is_ok_and(|t| t.contains("recvmmsg"))
    });
    let before = server.refused("unauthentic");
    let calls = || std::fs::read_to_string(&trace).unwrap().lines().count();
    kill("STOP", &[engine]);
    let start = calls();
    let bad: Vec<[u8; 288]> =
        (0..=255).map(|n| forged(&open_for(&alice, "192.0.2.1"), n | 1)).collect();
    bad.iter().for_each(|packet| server.send(CLIENT, packet));
    kill("CONT", &[engine]);
    eventually("all are counted", || server.refused("unauthentic") == before + 256);
    let made = calls() - start;
    drop(child);
    let text = std::fs::read_to_string(&trace).unwrap();
    // Four batches, the counting, and the signals: not one for each packet.
    assert!((4..150).contains(&made), "{made} calls for 256 packets:\n{text}");
}
