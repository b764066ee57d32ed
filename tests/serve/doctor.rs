//! `doctor` on machines that have one thing wrong each.

use super::machine::*;
use super::server::*;
use crate::netns::obstacle;
use serde_json::Value;

/// The exit status, and what is wrong or should be looked at: each with what was seen.
fn examined(server: &Server) -> (i32, Vec<(String, String, String)>) {
    let out = server.run(SERVER, &["doctor", "--json", "--config", "s/server.toml"]);
    let list: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_string();
    let ill = list.as_array().unwrap().iter().filter(|f| f["health"] != "ok");
    let row = |f: &Value| {
        assert!(f["mend"].is_string(), "{f}");
        (text(f, "health"), text(f, "what"), text(f, "seen"))
    };
    (out.status.code().unwrap(), ill.map(row).collect())
}

/// What is wrong.
fn wrongs(server: &Server) -> Vec<String> {
    let (status, ill) = examined(server);
    let wrong: Vec<String> = ill.into_iter().filter(|f| f.0 == "wrong").map(|f| f.1).collect();
    assert_eq!(status, i32::from(!wrong.is_empty()), "{wrong:?}");
    wrong
}

#[test]
fn each_thing_that_is_wrong_is_named_with_its_mend() {
    let Some(mut server) = Server::new("nftables") else { return };
    // No server yet, and so no shield.
    assert_eq!(wrongs(&server), ["shield", "server"]);
    let (_, ill) = examined(&server);
    assert!(ill.iter().any(|f| f.1 == "last shield"), "{ill:?}");
    assert!(ill.iter().any(|f| f.2 == "nobody listens on tcp/22 here"), "{ill:?}");
    server.listen(22);
    server.start();
    assert_eq!(wrongs(&server), [""; 0]);
    let (_, ill) = examined(&server);
    assert!(!ill.iter().any(|f| f.1 == "last shield" || f.2.contains("tcp/22 ")), "{ill:?}");
    // It says the same to people.
    let out = server.run(SERVER, &["doctor", "--config", "s/server.toml"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("ok     server       ready") && text.contains("our rules are"), "{text}");
    // One thing after the other.
    server.write("s/clients/alice.toml", "nonsense");
    assert_eq!(wrongs(&server), ["client", "clients"]);
    let keys = server.read("s/server.key");
    server.write("s/server.key", "nonsense");
    assert_eq!(wrongs(&server), ["keys"]);
    server.write("s/server.key", &keys);
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    eventually("noticed", || wrongs(&server).contains(&"server".to_string()));
    server.wait_engine();
    server.stop();
    server.world.run(SERVER, &["nft", "flush", "ruleset"]);
    assert!(wrongs(&server).contains(&"shield".to_string()));
    server.edit("s/server.toml", |text| text.replace("[firewall]", "[firewal]"));
    let (status, ill) = examined(&server);
    assert!(status == 1 && ill.len() == 1 && ill[0].2.contains("s/server.toml:"), "{ill:?}");
}

/// What it says of the machine's own rules, if it says anything: what was seen, and the mend.
fn of_own_rules(server: &Server) -> Vec<(String, String)> {
    let out = server.run(SERVER, &["doctor", "--json", "--config", "s/server.toml"]);
    let list: Value = serde_json::from_slice(&out.stdout).unwrap();
    let all: Vec<&Value> =
        list.as_array().unwrap().iter().filter(|f| f["what"] == "own rules").collect();
    assert!(!all.is_empty(), "{list}");
    let text = |f: &Value, key: &str| f[key].as_str().unwrap().to_string();
    let ill = all.into_iter().filter(|f| f["health"] == "look");
    ill.map(|f| (text(f, "seen"), text(f, "mend"))).collect()
}

#[test]
fn rules_of_the_machine_that_are_in_the_way_are_named_with_their_mend() {
    if obstacle(&["ufw", "iptables", "ip6tables", "nft"]).is_some() {
        return;
    }
    let Some(server) = Server::new("nftables") else { return };
    let nft = |text: &str| {
        server
            .world
            .run(SERVER, &[&["nft"], text.split(' ').collect::<Vec<_>>().as_slice()].concat())
    };
    let one = |text: &str, mend: &str| {
        let all = of_own_rules(&server);
        assert!(all.len() == 1 && all[0].0.contains(text) && all[0].1.contains(mend), "{all:?}");
    };
    assert_eq!(of_own_rules(&server), []);

    // Plain nft, and the rule of its mend.
    nft("add table inet mine");
    nft("add chain inet mine input { type filter hook input priority 0 ; policy drop ; }");
    nft("add rule inet mine input tcp dport 22 accept");
    let seen = "the machine's own rules may drop udp/41841: inet mine input, inet mine input";
    one(seen, "nft insert rule inet mine input udp dport 41841 accept");
    nft("insert rule inet mine input udp dport 41841 accept");
    assert_eq!(of_own_rules(&server), []);
    // Tracked packets alone: ours are not.
    nft("flush chain inet mine input");
    nft("add rule inet mine input udp dport 41841 ct state new accept");
    one(seen, "nft insert rule");

    // One family alone.
    nft("flush ruleset");
    nft("add table ip mine");
    nft("add chain ip mine input { type filter hook input priority 0 ; policy drop ; }");
    nft("add rule ip mine input udp dport 41841 accept");
    one("they close IPv4, and may leave open over IPv6", "the same rules for IPv6");

    // Protected ports that are not tracked.
    nft("flush ruleset");
    nft("add table inet mine");
    nft("add chain inet mine raw { type filter hook prerouting priority -300 ; }");
    nft("add rule inet mine raw tcp dport 22 notrack");
    one("inet mine raw keeps tcp/22 out of connection tracking", "except tcp/22");

    // firewalld's rules, without the port and with it.
    nft("flush ruleset");
    let rules = include_str!("firewalld.nft");
    server.write("with.nft", rules);
    server.write("without.nft", &rules.replace("udp dport 41841 accept", ""));
    let load = |name: &str| nft(&format!("-f {}", server.path(name).display()));
    load("without.nft");
    one("inet firewalld filter_INPUT", "firewall-cmd --permanent --add-port=41841/udp");
    nft("flush ruleset");
    load("with.nft");
    assert_eq!(of_own_rules(&server), []);

    // The real ufw.
    nft("flush ruleset");
    install_ufw(&server);
    ufw(&server, &["ufw", "--force", "enable"]);
    one("udp/41841: iptables filter INPUT, ip6tables filter INPUT", "ufw allow 41841/udp");
    ufw(&server, &["ufw", "allow", "41841/udp"]);
    assert_eq!(of_own_rules(&server), []);

    // A pinhole asks for the mark, in each family, and for something that drops.
    server.edit("s/server.toml", |text| text.replace("\"shield\"", "\"pinhole\""));
    assert_eq!(of_own_rules(&server), []);
    ufw(&server, &["ufw", "delete", "allow", "41841/udp"]);
    one("udp/41841: iptables filter INPUT", "a rule that accepts what has the mark 0x40000000");
    let mark = "INPUT 1 -m mark --mark 0x40000000/0x40000000 -j ACCEPT";
    for program in ["iptables", "ip6tables"] {
        let rule: Vec<&str> = mark.split(' ').collect();
        server.world.run(SERVER, &[&[program, "-I"], rule.as_slice()].concat());
    }
    assert_eq!(of_own_rules(&server), []);
    server.world.run(SERVER, &["ip6tables", "-P", "INPUT", "ACCEPT"]);
    one("nothing of the machine's own may close IPv6", "mode = \"shield\"");
}
