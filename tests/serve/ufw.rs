//! Beside the real ufw, which shuts everything but what it was told to allow.

use super::machine::*;
use super::server::*;
use crate::netns::obstacle;

/// 22 and 443 are ours; 8080 and 9090 are not. ufw allows these.
fn with_ufw(backend: &str, allowed: &[&str]) -> Option<Server> {
    if obstacle(&["ufw", "nft", "iptables", "ip6tables"]).is_some() {
        return None;
    }
    let mut server = Server::new(backend)?;
    server.edit("s/server.toml", |t| t.replace("[\"ssh\"]", "[\"ssh\", \"https\"]"));
    for port in [22, 443, 8080, 9090] {
        server.listen(port);
    }
    install_ufw(&server);
    ufw(&server, &["ufw", "default", "deny"]);
    for what in allowed {
        ufw(&server, &["ufw", "allow", what]);
    }
    ufw(&server, &["ufw", "--force", "enable"]);
    Some(server)
}

fn beside(backend: &str) {
    let Some(mut server) = with_ufw(backend, &["22/tcp", "8080/tcp"]) else { return };
    for (port, expected) in
        [(22, Tried::Open), (443, Tried::Silence), (8080, Tried::Open), (9090, Tried::Silence)]
    {
        is_at(&server, STRANGER, port, expected);
    }
    let before = own_rules(&server);
    assert!(before.contains("filter :INPUT DROP") && before.contains("--dport 8080"), "{before}");
    server.start();
    is_at(&server, STRANGER, 22, Tried::Silence);
    is_at(&server, CLIENT, 22, Tried::Silence);

    // A packet to us passes the machine's own rules, or nothing opens.
    server.open("alice", &[]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.leases().len(), 0, "ufw has let the packet in");
    assert_eq!(own_rules(&server), before, "ours change nothing of ufw's");
    ufw(&server, &["ufw", "allow", "41841/udp"]);
    server.open("alice", &["--for", "30m"]);
    server.becomes_open(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // A lease opens our shield; what ufw denies it denies to the lease holder as well.
    let held = server.order(&["leases"]);
    assert!(held.contains("443"), "{held}");
    is_at(&server, CLIENT, 443, Tried::Silence);
    // What is not ours is as ufw has it.
    for host in [CLIENT, STRANGER] {
        is_at(&server, host, 8080, Tried::Open);
        is_at(&server, host, 9090, Tried::Silence);
    }

    for deed in [&["ufw", "reload"][..], &["ufw", "disable"], &["ufw", "--force", "enable"]] {
        let ninety = if deed == ["ufw", "disable"] { Tried::Open } else { Tried::Silence };
        shut_during(&server, &format!("{deed:?}"), || {
            ufw(&server, deed);
            is_at(&server, STRANGER, 9090, ninety);
        });
        assert_eq!(server.tries(CLIENT), Tried::Open, "after {deed:?}");
    }
    // With MANAGE_BUILTINS=yes ufw empties the built-in chains of mangle too, and so does this.
    ufw(&server, &["/lib/ufw/ufw-init", "flush-all"]);
    server.becomes_shut(STRANGER);
    assert_eq!(server.tries(CLIENT), Tried::Open);
    ufw(&server, &["/lib/ufw/ufw-init", "start"]);
    is_at(&server, STRANGER, 9090, Tried::Silence);
    server.becomes_shut(STRANGER);

    let before = own_rules(&server);
    assert!(before.contains("filter :INPUT DROP") && before.contains("--dport 41841"), "{before}");
    server.stop();
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    server.order(&["uninstall"]);
    assert_eq!(server.tries(STRANGER), Tried::Open);
    assert_eq!(own_rules(&server), before);
}

#[test]
fn nftables_beside_the_real_ufw() {
    beside("nftables");
}

#[test]
fn iptables_beside_the_real_ufw() {
    beside("iptables");
}

/// ufw does not allow 22, nor the port of our packets, but what carries the mark.
fn pinhole_beside(backend: &str) {
    let Some(mut server) = with_ufw(backend, &["8080/tcp"]) else { return };
    server.edit("s/server.toml", |t| t.replace("\"shield\"", "\"pinhole\""));
    let before = own_rules(&server);
    server.start();
    server.open("alice", &[]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.leases().len(), 0, "ufw has let the packet in");
    assert_eq!(own_rules(&server), before, "ours change nothing of ufw's");
    for (name, chain) in [("before", "ufw"), ("before6", "ufw6")] {
        server.edit(&format!("ufw/{name}.rules"), |t| {
            let rule = "-before-input -m mark --mark 0x40000000/0x40000000 -j ACCEPT";
            t.replace("\nCOMMIT", &format!("\n-A {chain}{rule}\nCOMMIT"))
        });
    }
    // While ufw reloads it lets everybody in, and nothing of ours drops.
    ufw(&server, &["ufw", "reload"]);
    server.becomes_shut(STRANGER);
    assert!(own_rules(&server).contains("--mark 0x40000000/0x40000000 -j ACCEPT"));

    server.open("alice", &["--for", "30m"]);
    server.becomes_open(CLIENT);
    is_at(&server, CLIENT, 443, Tried::Open);
    ufw(&server, &["ufw", "reload"]);
    server.becomes_shut(STRANGER);
    server.becomes_open(CLIENT);
    for host in [CLIENT, STRANGER] {
        is_at(&server, host, 8080, Tried::Open);
        is_at(&server, host, 9090, Tried::Silence);
    }
    server.order(&["evict", CLIENT_V4]);
    server.becomes_shut(CLIENT);

    let before = own_rules(&server);
    server.stop();
    server.order(&["uninstall"]);
    assert_eq!(own_rules(&server), before);
    let all = server.world.run(SERVER, &["nft", "list", "ruleset"]).to_lowercase();
    assert!(all.contains("ufw") && !all.contains("opensesame"), "{all}");
    assert_eq!(server.tries(STRANGER), Tried::Silence);
}

#[test]
fn a_pinhole_of_nftables_in_the_real_ufw() {
    pinhole_beside("nftables");
}

#[test]
fn a_pinhole_of_iptables_in_the_real_ufw() {
    pinhole_beside("iptables");
}
