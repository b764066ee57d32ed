//! A machine with a firewall of its own: what `init --pinhole` prints works.

use super::server::*;
use crate::netns::obstacle;

/// The lines that begin so, as they are printed.
fn lines<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
    let all: Vec<&str> = text.lines().map(str::trim).filter(|l| l.starts_with(begin)).collect();
    assert!(!all.is_empty(), "{begin}\n{text}");
    all
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

const OWN: &str = "table inet filter { chain input { type filter hook input priority 0; \
    policy drop; iif lo accept; ct state established,related accept; \
    meta l4proto { icmp, ipv6-icmp } accept; }; }";

fn pinhole(server: &Server) -> String {
    let args = ["init", "--dir", "p", "--pinhole", "--listen", "[::]:41841"];
    let text = server.at(SERVER, &args);
    assert!(server.read("p/server.toml").contains("mode      = \"pinhole\""));
    server.edit("s/server.toml", |text| text.replace("\"shield\"", "\"pinhole\""));
    text
}

#[test]
fn the_printed_line_is_all_that_nft_needs() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    let text = pinhole(&server);
    server.world.run(SERVER, &["nft", OWN]);
    server.start();
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.open("alice", &["--for", "10m"]);
    // Our own port is shut as well until the machine's rules know the mark.
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(server.leases().len(), 0);
    for line in lines(&text, "nft ") {
        server.world.run(SERVER, &words(line));
    }
    server.open("alice", &["--for", "10m"]);
    server.becomes_open(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // Somebody flushes everything and loads his own rules again.
    server.world.run(SERVER, &["nft", "flush", "ruleset"]);
    server.world.run(SERVER, &["nft", OWN]);
    for line in lines(&text, "nft ") {
        server.world.run(SERVER, &words(line));
    }
    server.becomes_open(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    server.at(CLIENT, &["close", "--key", "alice.toml"]);
    server.becomes_shut(CLIENT);
}

#[test]
fn the_printed_lines_are_all_that_iptables_needs() {
    if obstacle(&["iptables", "ip6tables", "iptables-restore"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    let text = pinhole(&server);
    let own = |tool: &str| {
        for rule in [
            "-P INPUT DROP",
            "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
            if tool == "iptables" {
                "-A INPUT -p icmp -j ACCEPT"
            } else {
                "-A INPUT -p icmpv6 -j ACCEPT"
            },
        ] {
            server.world.run(SERVER, &words(&format!("{tool} -w {rule}")));
        }
    };
    own("iptables");
    own("ip6tables");
    let command = server.command();
    server.start_as(command);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    for line in [lines(&text, "iptables "), lines(&text, "ip6tables ")].concat() {
        server.world.run(SERVER, &words(line));
    }
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.open("alice", &["--ip", CLIENT_V4, "--ip", CLIENT_V6, "--for", "10m"]);
    server.becomes_open(CLIENT);
    eventually("open", || server.world.connect(CLIENT, SERVER_V6, 22) == Tried::Open);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // The lines for ufw are read by iptables-restore, in the chains that ufw makes.
    for (begin, restore) in [
        ("-A ufw-before-input ", "iptables-restore"),
        ("-A ufw6-before-input ", "ip6tables-restore"),
    ] {
        for line in lines(&text, begin) {
            let chain = words(line)[1];
            server.write("rules", &format!("*filter\n:{chain} - [0:0]\n{line}\nCOMMIT\n"));
            let path = server.path("rules").display().to_string();
            server.world.run(SERVER, &["sh", "-c", "\"$0\" --noflush < \"$1\"", restore, &path]);
        }
    }
}

/// In a chain of the machine's own, with no rule of the administrator's.
#[test]
fn a_server_is_a_guest_in_a_foreign_chain() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    let chain = "\"pinhole\"\npinhole = { table = \"inet filter\", chain = \"input\" }";
    server.edit("s/server.toml", |text| text.replace("\"shield\"", chain));
    let out = server.run(SERVER, &["serve", "--config", "s/server.toml"]);
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && why.contains("chain input"), "{why}");
    server.world.run(SERVER, &["nft", OWN]);
    let list = ["nft", "-s", "list", "ruleset"];
    let before = server.world.run(SERVER, &list);
    server.start();
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    server.open("alice", &["--for", "10m"]);
    server.becomes_open(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // Gone for a while: it is tried again until it is there.
    server.world.run(SERVER, &["nft", "flush", "ruleset"]);
    server.says("trying again");
    server.world.run(SERVER, &["nft", OWN]);
    server.says("in step again");
    server.becomes_open(CLIENT);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    // What is not confirmed leaves no guest behind, whatever comes back in its place.
    server.stop();
    server.order(&["uninstall"]);
    assert_eq!(server.world.run(SERVER, &list), before);
    server.edit("s/server.toml", |text| text.replace(chain, "\"shield\""));
    server.order(&["serve", "--shield-only"]);
    let shield = server.world.run(SERVER, &list);
    server.edit("s/server.toml", |text| text.replace("\"shield\"", chain));
    let out = server.run(SERVER, &["serve", "--confirm", "1s", "--config", "s/server.toml"]);
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(why.contains("the shield is the one that was good before"), "{why}");
    assert_eq!(server.world.run(SERVER, &list), shield);
    server.start();
    server.open("alice", &["--for", "10m"]);
    server.becomes_open(CLIENT);
    // A reload takes it elsewhere and leaves nothing.
    server.edit("s/server.toml", |text| text.replace(chain, "\"shield\""));
    server.order(&["reload"]);
    let after = server.world.run(SERVER, &list);
    assert!(after.contains("table inet opensesame") && !after.contains("jump"), "{after}");
    server.stop();
    server.order(&["uninstall"]);
    assert_eq!(server.world.run(SERVER, &list), before);
}
