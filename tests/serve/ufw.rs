//! Beside the real ufw, which shuts everything but what it was told to allow.

use super::machine::*;
use super::server::*;
use crate::netns::obstacle;

/// 22 and 443 are ours; 8080 and 9090 are not. ufw allows 22 and 8080.
fn with_ufw(backend: &str) -> Option<Server> {
    if obstacle(&["ufw", "iptables", "ip6tables"]).is_some() {
        return None;
    }
    let mut server = Server::new(backend)?;
    server.edit("s/server.toml", |t| t.replace("[\"ssh\"]", "[\"ssh\", \"https\"]"));
    for port in [22, 443, 8080, 9090] {
        server.listen(port);
    }
    install_ufw(&server);
    for words in ["default deny", "allow 22/tcp", "allow 8080/tcp", "--force enable"] {
        let words: Vec<&str> = words.split(' ').collect();
        ufw(&server, &[&["ufw"], words.as_slice()].concat());
    }
    Some(server)
}

fn beside(backend: &str) {
    let Some(mut server) = with_ufw(backend) else { return };
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
