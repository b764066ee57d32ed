//! Beside firewalld: the rules of the real one, loaded, reloaded and removed as it does.
//!
//! By `nft monitor` a reload of firewalld 1.3.3 is, one transaction each: a table that drops
//! everything new, its own table gone and made anew, the first one gone. It never flushes other
//! tables of nftables. But with either of its backends (`FirewallBackend=nftables` too) each start,
//! reload and stop empties every chain that iptables has, and deletes those that it does not know.

use super::machine::*;
use super::server::*;
use crate::netns::obstacle;

const DROP: &str = "table inet firewalld_policy_drop {
    chain filter_input { type filter hook input priority filter + 9; policy drop; ct state { established, related } accept; }
    chain filter_forward { type filter hook forward priority filter + 9; policy drop; ct state { established, related } accept; }
    chain filter_output { type filter hook output priority filter + 9; policy drop; ct state { established, related } accept; }
}";

fn nft(server: &Server, text: &str) {
    server.write("now.nft", text);
    server.world.run(SERVER, &["nft", "-f", server.path("now.nft").to_str().unwrap()]);
}

fn flush_iptables(server: &Server) {
    for program in ["iptables", "ip6tables"] {
        for table in ["raw", "mangle", "nat", "filter"] {
            server.world.run(SERVER, &[program, "-t", table, "-F"]);
            server.world.run(SERVER, &[program, "-t", table, "-X"]);
        }
    }
}

const RULES: &str = include_str!("firewalld.nft");

fn start(server: &Server, rules: &str) {
    flush_iptables(server);
    nft(server, rules);
}

fn reload(server: &Server, rules: &str) {
    nft(server, DROP);
    nft(server, "delete table inet firewalld");
    start(server, rules);
    nft(server, "delete table inet firewalld_policy_drop");
}

fn rules(server: &Server) -> String {
    server.world.run(SERVER, &["nft", "-s", "list", "table", "inet", "firewalld"])
}

/// 22 is ours, 8080 and 9090 are not; firewalld allows 22 and 8080.
fn with_firewalld(backend: &str) -> Option<Server> {
    if obstacle(&["nft", "iptables", "ip6tables"]).is_some() {
        return None;
    }
    let mut server = Server::new(backend)?;
    for port in [22, 8080, 9090] {
        server.listen(port);
    }
    start(&server, RULES);
    // Rejected, with an ICMP error, is what firewalld does with the rest.
    for (port, expected) in [(22, Tried::Open), (8080, Tried::Open), (9090, Tried::Silence)] {
        is_at(&server, STRANGER, port, expected);
    }
    server.start();
    server.becomes_shut(STRANGER);
    server.open("alice", &["--for", "30m"]);
    server.becomes_open(CLIENT);
    Some(server)
}

fn as_documented(server: &Server) {
    server.becomes_shut(STRANGER);
    server.becomes_open(CLIENT);
    for host in [CLIENT, STRANGER] {
        is_at(server, host, 8080, Tried::Open);
        is_at(server, host, 9090, Tried::Silence);
    }
}

#[test]
fn nftables_beside_firewalld() {
    let Some(mut server) = with_firewalld("nftables") else { return };
    let before = rules(&server);
    as_documented(&server);
    let said = server.log().matches("putting them back").count();
    shut_during(&server, "reload", || reload(&server, RULES));
    as_documented(&server);
    shut_during(&server, "stop", || nft(&server, "delete table inet firewalld"));
    is_at(&server, STRANGER, 9090, Tried::Open);
    shut_during(&server, "start", || start(&server, RULES));
    as_documented(&server);
    assert_eq!(
        server.log().matches("putting them back").count(),
        said,
        "nothing of ours was touched"
    );
    server.stop();
    server.order(&["uninstall"]);
    is_at(&server, STRANGER, 22, Tried::Open);
    assert_eq!(rules(&server), before);
}

/// A pinhole in firewalld's own chain: its table goes with each reload, and ours in it comes back.
#[test]
fn a_pinhole_in_a_chain_of_firewalld() {
    if obstacle(&["nft", "iptables", "ip6tables"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    for port in [22, 8080, 9090] {
        server.listen(port);
    }
    server.edit("s/server.toml", |t| {
        let place = "pinhole = { table = \"inet firewalld\", chain = \"filter_INPUT\" }";
        t.replace("= \"shield\"", &format!("= \"pinhole\"\n{place}"))
    });
    // Neither ssh nor the port of our packets is allowed.
    let own = RULES.replace("tcp dport 22 accept", "").replace("udp dport 41841 accept", "");
    start(&server, &own);
    let before = rules(&server);
    server.becomes_shut(STRANGER);
    server.start();
    server.open("alice", &["--for", "30m"]);
    server.becomes_open(CLIENT);
    shut_during(&server, "reload", || reload(&server, &own));
    as_documented(&server);
    server.order(&["evict", CLIENT_V4]);
    server.becomes_shut(CLIENT);
    server.stop();
    server.order(&["uninstall"]);
    server.becomes_shut(STRANGER);
    assert_eq!(rules(&server), before);
}

/// The way that is not advised: ours go with everything else of iptables, and come back.
#[test]
fn iptables_beside_firewalld() {
    let Some(mut server) = with_firewalld("iptables") else { return };
    let before = rules(&server);
    as_documented(&server);
    reload(&server, RULES);
    as_documented(&server);
    server.says("putting them back");
    server.stop();
    server.order(&["uninstall"]);
    is_at(&server, STRANGER, 22, Tried::Open);
    assert_eq!(rules(&server), before);
}
