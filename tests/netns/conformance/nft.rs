//! nft(8) as the reader of the nftables backend.

use super::reader::{Damage, Kind, Reader, Seen};
use crate::netns::{SERVER, World};
use serde_json::Value;

pub struct Nft;

/// Rules of the machine's own, in a table of another name and in one of another family.
const FOREIGN: &str = "table ip filter { chain input { type filter hook input priority 0; \
    policy accept; ip saddr 192.0.2.7 counter drop; }; }; \
    table inet mine { set ports { type inet_service; elements = { 1, 2 }; }; \
    chain shield { type filter hook prerouting priority -110; policy accept; \
    tcp dport @ports drop; }; }; \
    table ip opensesame { chain shield { type filter hook prerouting priority -200; \
    policy accept; tcp dport 1 accept; }; }";

fn list(world: &World, what: &[&str]) -> Vec<Value> {
    let text = world.run(SERVER, &[&["nft", "-j", "list"], what].concat());
    let json: Value = serde_json::from_str(&text).unwrap();
    json["nftables"].as_array().unwrap().clone()
}

/// The elements of all sets of our table: the set, the element, the seconds that are left.
fn elements(world: &World) -> Vec<(String, Value, u64)> {
    let mut all = Vec::new();
    if !world.try_run(SERVER, &["nft", "list", "table", "inet", "opensesame"]).status.success() {
        return all;
    }
    for item in list(world, &["table", "inet", "opensesame"]) {
        let Some(set) = item.get("set") else { continue };
        for element in set["elem"].as_array().into_iter().flatten() {
            let name = set["name"].as_str().unwrap().to_string();
            // Without a timeout it is there for good.
            let (value, left) = match element.get("elem") {
                // nft leaves the fraction of a second away.
                Some(e) => (&e["val"], e["expires"].as_u64().map_or(u64::MAX, |s| s + 1)),
                None => (element, u64::MAX),
            };
            all.push((name, value.clone(), left));
        }
    }
    all
}

fn seen(value: &Value, left: u64) -> Seen {
    let Some(parts) = value["concat"].as_array() else {
        // Somebody's set of our name: by address alone.
        return Seen::new(value.as_str().unwrap(), "tcp", (1, u16::MAX), left);
    };
    let number = |v: &Value| u16::try_from(v.as_u64().unwrap()).unwrap();
    let ports = match parts[2].get("range") {
        Some(range) => (number(&range[0]), number(&range[1])),
        None => (number(&parts[2]), number(&parts[2])),
    };
    let protocol = parts[1].as_str().unwrap();
    let address = |v: &Value| v.as_str().unwrap().to_string();
    if let Some(prefix) = parts[0].get("prefix") {
        let text = format!("{}/{}", address(&prefix["addr"]), prefix["len"]);
        return Seen::new(&text, protocol, ports, left);
    }
    if let Some(range) = parts[0].get("range") {
        let [first, last] = [0, 1].map(|i| address(&range[i]).parse().unwrap());
        return Seen { from: (first, last), ..Seen::new("192.0.2.1", protocol, ports, left) };
    }
    Seen::new(&address(&parts[0]), protocol, ports, left)
}

impl Reader for Nft {
    fn openings(&self, world: &World) -> Vec<Seen> {
        let all = elements(world);
        let lease = |(set, ..): &&(String, Value, u64)| {
            ["lease4", "lease6", "wide4", "wide6"].contains(&set.as_str())
        };
        all.iter().filter(lease).map(|(_, value, left)| seen(value, *left)).collect()
    }

    fn state(&self, world: &World) -> String {
        // Without the elements, whose order means nothing, like that of tables, sets and chains.
        let rules = world.run(SERVER, &["nft", "-s", "-t", "list", "ruleset"]);
        let sorted = |table: &str| {
            let (head, rest) = table.split_once('\n').unwrap();
            let mut blocks: Vec<&str> = rest.trim_end_matches("}\n").split("\n\n").collect();
            blocks.iter_mut().for_each(|block| *block = block.trim_end());
            blocks.sort_unstable();
            format!("{head}\n{}\n", blocks.join("\n"))
        };
        let mut tables: Vec<String> = rules.split_inclusive("\n}\n").map(sorted).collect();
        tables.sort_unstable();
        let mut held: Vec<String> =
            elements(world).iter().map(|(set, value, _)| format!("{set} {value}")).collect();
        held.sort_unstable();
        format!("{}{}\n", tables.concat(), held.join("\n"))
    }

    fn foreign(&self, world: &World) {
        world.run(SERVER, &["nft", FOREIGN]);
    }

    fn untrack(&self, world: &World) {
        let rules = "table inet raw { chain in { type filter hook prerouting priority -300; \
            notrack; }; chain out { type filter hook output priority -300; notrack; }; }";
        world.run(SERVER, &["nft", rules]);
    }

    fn damages(&self) -> Vec<Damage> {
        let nft = |kind, script: &str| Damage::new(kind, format!("nft '{script}'"));
        let changed = |end: &str| {
            format!(
                "delete element inet opensesame lease4 {{ 10.77.1.2 . tcp . 22 }}; \
                 add element inet opensesame lease4 {{ 10.77.1.2 . tcp . 22 {end} }}"
            )
        };
        let last = "h=$(nft -a list chain inet opensesame judge | grep -o 'handle [0-9]*' | tail -1); \
                    nft delete rule inet opensesame judge $h";
        vec![
            nft(Kind::RuleRemoved, "flush chain inet opensesame judge").opens(),
            nft(Kind::RuleRemoved, "flush chain inet opensesame shield"),
            nft(Kind::RuleRemoved, "flush table inet opensesame"),
            Damage::new(Kind::RuleRemoved, last).opens(),
            nft(Kind::SetFlushed, "flush set inet opensesame ports").opens(),
            nft(
                Kind::SetFlushed,
                "flush set inet opensesame lease4; flush set inet opensesame lease6",
            ),
            nft(Kind::SetFlushed, "flush set inet opensesame wide4"),
            nft(
                Kind::SetFlushed,
                "add element inet opensesame lease4 { 10.77.2.2 . tcp . 22 timeout 1h }",
            )
            .opens(),
            nft(
                Kind::SetFlushed,
                "add element inet opensesame wide4 { 10.77.2.0/24 . tcp . 1-65535 timeout 1h }",
            ),
            nft(Kind::SetFlushed, "add element inet opensesame older4 { 10.77.2.2 . 40000 . 22 }"),
            nft(Kind::SetFlushed, &changed("timeout 10d")),
            nft(Kind::SetFlushed, &changed("")),
            nft(Kind::ChainDeleted, "delete table inet opensesame").opens(),
            nft(
                Kind::ChainDeleted,
                "flush chain inet opensesame shield; delete chain inet opensesame shield",
            ),
            nft(Kind::ChainDeleted, "add chain inet opensesame shield { policy drop; }"),
            nft(Kind::ChainDeleted, "add table inet opensesame { flags dormant; }").opens(),
            Damage::new(
                Kind::Duplicated,
                "nft list table inet opensesame | sed \"s/inet opensesame/inet twin/\" | nft -f -",
            )
            .undo("nft delete table inet twin"),
            nft(
                Kind::Duplicated,
                "flush table inet opensesame; delete set inet opensesame lease4; \
                 add set inet opensesame lease4 { type ipv4_addr; elements = { 10.77.2.2 }; }; \
                 delete set inet opensesame wide6; \
                 add set inet opensesame wide6 { type inet_service; size 3; }; \
                 add rule inet opensesame shield ip saddr @lease4 accept",
            )
            .opens(),
            nft(
                Kind::Duplicated,
                "delete table inet opensesame; add table inet opensesame; \
                 add set inet opensesame lease4 { type ipv4_addr; size 3; elements = { 10.77.2.2 }; }; \
                 add set inet opensesame ports { type inet_service; flags interval; }; \
                 add chain inet opensesame judge { type filter hook input priority 7; }; \
                 add chain inet opensesame shield { type filter hook prerouting priority -100; }; \
                 add rule inet opensesame shield ip saddr @lease4 accept",
            ),
            nft(Kind::ForeignRule, "insert rule inet opensesame judge accept").opens(),
            nft(Kind::ForeignRule, "insert rule inet opensesame shield tcp dport 22 accept"),
            nft(
                Kind::ForeignRule,
                "add chain inet opensesame x; add rule inet opensesame x accept; \
                 insert rule inet opensesame shield jump x",
            ),
            nft(
                Kind::ForeignRule,
                "add counter inet opensesame c; \
                 add set inet opensesame s { type inet_service; }; \
                 add chain inet opensesame x; add map inet opensesame m { \
                 type inet_service : verdict; elements = { 22 : jump x }; }; \
                 insert rule inet opensesame shield tcp dport @s counter name c accept; \
                 insert rule inet opensesame shield tcp dport vmap @m",
            ),
        ]
    }
}
