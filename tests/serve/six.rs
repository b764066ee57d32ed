//! IPv6, and IPv4 in its clothes.

use super::server::*;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

fn six(backend: &str) {
    let Some(mut server) = Server::new(backend) else { return };
    server.invite("wide", &[]);
    server.amend("wide", "max-prefix-v6 = 64");
    server.listen(22);
    server.start();
    let try_six = || server.world.connect(CLIENT, SERVER_V6, 22);
    assert_eq!(try_six(), Tried::Silence);
    // Source on IPv6.
    let to = format!("[{SERVER_V6}]:{UDP}");
    server.open("alice", &[&to, "--for", "10m"]);
    eventually("open", || try_six() == Tried::Open);
    assert_eq!(server.tries(CLIENT), Tried::Silence, "IPv4 was not asked for");
    server.at(CLIENT, &["close", &to, "--key", "alice.toml"]);
    server.knows_leases(0);
    assert_eq!(try_six(), Tried::Silence);
    // One packet for both families.
    server.open("alice", &["--ip", CLIENT_V4, "--ip", CLIENT_V6]);
    server.knows_leases(2);
    eventually("open", || try_six() == Tried::Open && server.tries(CLIENT) == Tried::Open);
    server.at(CLIENT, &["close", "--key", "alice.toml", "--ip", CLIENT_V4, "--ip", CLIENT_V6]);
    server.knows_leases(0);
    assert_eq!(try_six(), Tried::Silence);
    // The source, and an address of the other family.
    server.open("alice", &["--ip", "source", "--ip", CLIENT_V6]);
    server.knows_leases(2);
    server.order(&["evict", CLIENT_V6]);
    server.order(&["evict", CLIENT_V4]);
    server.knows_leases(0);
    // A network.
    server.open("wide", &["--ip", "fd77:1::/64"]);
    eventually("open", || try_six() == Tried::Open);
    assert_eq!(server.world.connect(STRANGER, "fd77:2::1", 22), Tried::Silence);
}

#[test]
fn six_with_nftables() {
    six("nftables");
}

#[test]
fn six_with_iptables() {
    six("iptables");
}

#[test]
fn a_mapped_source_is_ipv4_and_a_link_local_one_is_nobody() {
    let Some(server) = Server::running("nftables") else { return };
    let alice = server.profile("alice");
    let bytes = packet(&alice, &wish(wall()));
    server.world.enter(CLIENT, || {
        let socket = UdpSocket::bind("[::]:0").unwrap();
        socket.send_to(&bytes, (format!("::ffff:{SERVER_V4}").as_str(), UDP)).unwrap();
    });
    server.says_all(&["open client=alice", &format!("address={CLIENT_V4} ")]);
    server.becomes_open(CLIENT);

    let local = |host: &str, dev: &str| -> Option<Ipv6Addr> {
        let shown = ["ip", "-6", "-o", "addr", "show", "dev", dev, "scope", "link"];
        let text = server.world.run(host, &shown);
        let address = text.split_whitespace().find(|w| w.starts_with("fe80"))?;
        address.split('/').next()?.parse().ok()
    };
    let link = server.world.run(CLIENT, &["ip", "-o", "link", "show", "eth0"]);
    let scope: u32 = link.split(':').next().unwrap().parse().unwrap();
    // The addresses of a new link take a moment.
    eventually("refused", || {
        let (Some(to), Some(from)) = (local(SERVER, "to-client"), local(CLIENT, "eth0")) else {
            return false;
        };
        let bytes = packet(&alice, &wish(wall()));
        server.world.enter(CLIENT, || {
            if let Ok(socket) = UdpSocket::bind(SocketAddrV6::new(from, 0, 0, scope)) {
                let _ = socket.send_to(&bytes, SocketAddrV6::new(to, UDP, 0, scope));
            }
        });
        server.log().contains("from=fe80")
    });
    server.says_all(&["refused client=alice from=fe80", "can hold no lease"]);
    assert_eq!(server.leases().len(), 1);
}

/// A name with addresses of both families: the client is let in from both of its own.
#[test]
fn a_name_of_both_families_opens_for_both() {
    let Some(server) = Server::running("nftables") else { return };
    server.write("hosts", &format!("{SERVER_V4} gate\n{SERVER_V6} gate\n"));
    let hosts = server.path("hosts").display().to_string();
    let key = server.path("alice.toml").display().to_string();
    let line =
        format!("mount --bind {hosts} /etc/hosts && {BIN} open gate:{UDP} --key {key} --wait");
    server.world.run(CLIENT, &["unshare", "--mount", "sh", "-c", &line]);
    server.knows_leases(2);
    for to in [SERVER_V4, SERVER_V6] {
        eventually(to, || server.world.connect(CLIENT, to, 22) == Tried::Open);
    }
    assert_eq!(server.refused("replayed") + server.refused("duplicate"), 0);
}
