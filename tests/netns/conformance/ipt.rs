//! iptables-save(8), ip6tables-save(8) and ipset(8) as the readers of the iptables backend.

use super::reader::{Damage, Kind, Reader, Seen};
use super::site::now;
use crate::netns::{SERVER, STRANGER_V4, STRANGER_V6, World};

pub struct Ipt {
    pub legacy: bool,
    pub ipset: bool,
}

impl Ipt {
    fn tool(&self, v6: bool, rest: &str) -> String {
        let variant = if self.legacy { "legacy" } else { "nft" };
        format!("ip{}tables-{variant}{rest}", if v6 { "6" } else { "" })
    }

    fn saved(&self, world: &World, v6: bool) -> String {
        world.run(SERVER, &[&self.tool(v6, "-save")])
    }

    fn restore(&self, world: &World, v6: bool, rules: &str) {
        let tool = self.tool(v6, "-restore");
        world.run(SERVER, &["sh", "-c", &format!("printf '%s' '{rules}' | {tool} -w 20")]);
    }
}

/// The lines of a save without comments, counters and dates, and without tables that hold nothing:
/// the tools leave those behind.
fn plain(saved: &str) -> String {
    let mut out = String::new();
    let mut table = Vec::new();
    for line in saved.lines().filter(|l| !l.starts_with('#')) {
        let line = line.split(" [").next().unwrap();
        table.push(line.split(" --datestart ").next().unwrap());
        if line == "COMMIT" {
            let says =
                |l: &&str| l.starts_with("-A") || (l.starts_with(':') && !l.ends_with(" ACCEPT"));
            if table.iter().any(says) {
                out += &(table.join("\n") + "\n");
            }
            table.clear();
        }
    }
    out
}

/// The word behind another one.
fn after<'a>(words: &[&'a str], word: &str) -> Option<&'a str> {
    words.iter().position(|w| *w == word).and_then(|at| words.get(at + 1)).copied()
}

/// A lease that is a rule with a time.
fn of_rule(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let stop = after(&words, "--datestop")?;
    let stop: jiff::Timestamp = format!("{stop}Z").parse().unwrap();
    // The stop second is the last one that matches.
    let end = u64::try_from(stop.as_second() + 1).unwrap() * 1_000;
    let left = end.saturating_sub(now().unix.0).div_ceil(1_000);
    let ports = after(&words, "--dport").unwrap();
    let (first, last) = ports.split_once(':').unwrap_or((ports, ports));
    let ports = (first.parse().unwrap(), last.parse().unwrap());
    Some(Seen::new(after(&words, "-s").unwrap(), after(&words, "-p").unwrap(), ports, left))
}

/// A lease that is an element, as in `192.0.2.1,tcp:22 timeout 59`.
fn of_element(line: &str) -> Option<Seen> {
    let words: Vec<&str> = line.split(' ').collect();
    let left = after(&words, "timeout").map_or(u64::MAX, |t| t.parse().unwrap());
    let (from, to) = words.first()?.split_once(',')?;
    let (protocol, port) = to.split_once(':').unwrap();
    let port = port.parse().unwrap();
    Some(Seen::new(from, protocol, (port, port), left))
}

/// The members of all sets with the sets' names.
fn members(world: &World) -> Vec<(String, String)> {
    let text = world.run(SERVER, &["ipset", "list"]);
    let mut all = Vec::new();
    for set in text.split("Name: ").skip(1) {
        let name = set.lines().next().unwrap();
        let lines = set.lines().skip_while(|l| *l != "Members:").skip(1);
        let lines = lines.filter(|l| !l.is_empty()).map(|l| (name.to_string(), l.to_string()));
        all.push((name.to_string(), String::new()));
        all.extend(lines);
    }
    all
}

impl Reader for Ipt {
    fn openings(&self, world: &World) -> Vec<Seen> {
        let leases = ["opensesame4", "opensesame6", "opensesame4-net", "opensesame6-net"];
        let rules = [false, true].map(|v6| self.saved(world, v6)).concat();
        let rules = rules.lines().filter(|l| l.starts_with("-A OPENSESAME-LEASE"));
        let mut all: Vec<Seen> = rules.filter_map(of_rule).collect();
        let members = members(world);
        let sets = members.iter().filter(|(set, _)| leases.contains(&set.as_str()));
        all.extend(sets.filter_map(|(_, member)| of_element(member)));
        all.retain(|s| s.left > 0);
        all
    }

    fn state(&self, world: &World) -> String {
        let rules = [false, true].map(|v6| plain(&self.saved(world, v6))).concat();
        let word = |(set, member): (String, String)| {
            format!("{set} {}\n", member.split(' ').next().unwrap_or_default())
        };
        let mut sets: Vec<String> = members(world).into_iter().map(word).collect();
        sets.sort_unstable();
        rules + &sets.concat()
    }

    fn foreign(&self, world: &World) {
        let filter = "*filter\n-A INPUT -p tcp -m tcp --dport 9 -j DROP\nCOMMIT\n";
        let more = "*mangle\n:MINE - [0:0]\n-A PREROUTING -j MINE\n\
            -A MINE -p udp -m udp --dport 9 -j MARK --set-xmark 0x7/0xffffffff\nCOMMIT\n\
            *raw\n-A PREROUTING -p udp -m udp --dport 9 -j CT --notrack\n\
            -A OUTPUT -p udp -m udp --sport 9 -j CT --notrack\nCOMMIT\n";
        self.restore(world, false, &format!("{filter}{more}"));
        // Here the tables that ours go to do not exist before.
        self.restore(world, true, filter);
        world.run(SERVER, &["ipset", "create", "opensesame", "hash:ip"]);
    }

    fn untrack(&self, world: &World) {
        for v6 in [false, true] {
            let rules = "*raw\n-A PREROUTING -j CT --notrack\n-A OUTPUT -j CT --notrack\nCOMMIT\n";
            self.restore(world, v6, rules);
        }
    }

    fn damages(&self) -> Vec<Damage> {
        // For both families.
        let twice = |text: &str| {
            [false, true]
                .map(|v6| {
                    text.replace("T ", &format!("{} -w 20 -t mangle ", self.tool(v6, "")))
                        .replace("RAW ", &format!("{} -w 20 -t raw ", self.tool(v6, "")))
                })
                .join("; ")
        };
        let rules = |kind, text: &str| Damage::new(kind, twice(text));
        let chains = ["OPENSESAME", "OPENSESAME-JUDGE", "OPENSESAME-OLDER", "OPENSESAME-LEASE"];
        let all = |verb: &str| chains.map(|c| format!("T -{verb} {c}")).join("; ");
        let gone = format!("T -D PREROUTING -j OPENSESAME; {}; {}", all("F"), all("X"));
        let mut damages = vec![
            rules(Kind::RuleRemoved, "T -F OPENSESAME").opens(),
            rules(Kind::RuleRemoved, "T -D OPENSESAME 1"),
            rules(Kind::RuleRemoved, "T -D OPENSESAME-LEASE 1"),
            rules(Kind::RuleRemoved, "T -F OPENSESAME-JUDGE").opens(),
            rules(Kind::RuleRemoved, "T -D PREROUTING -j OPENSESAME").opens(),
            rules(Kind::RuleRemoved, "RAW -D PREROUTING -j OPENSESAME; RAW -F OPENSESAME-OUT"),
            rules(Kind::SetFlushed, "T -F OPENSESAME-LEASE").opens(),
            rules(Kind::ChainDeleted, &gone).opens(),
            rules(Kind::ChainDeleted, "T -F PREROUTING")
                .undo(format!("{} -w 20 -t mangle -A PREROUTING -j MINE", self.tool(false, ""))),
            rules(Kind::Duplicated, "T -A PREROUTING -j OPENSESAME"),
            rules(Kind::Duplicated, "T -A OPENSESAME-LEASE -j DROP"),
            rules(Kind::ForeignRule, "T -I OPENSESAME 1 -j RETURN").opens(),
            rules(Kind::ForeignRule, "T -I OPENSESAME-JUDGE 1 -p tcp -j RETURN").opens(),
            // Others' rules stay, behind ours.
            rules(Kind::ForeignRule, "T -I PREROUTING 1 -p tcp -j ACCEPT")
                .undo(twice("T -D PREROUTING -p tcp -j ACCEPT")),
        ];
        if self.ipset {
            let fill = |from: &str, set: &str| format!("ipset add {set} {from},tcp:22");
            // The nf_tables variant lets go of a set a moment after the rule has gone.
            let free = format!(
                "{}; sleep 0.3; ipset destroy opensesame4; ipset destroy opensesame6",
                twice("T -F OPENSESAME-LEASE")
            );
            damages.extend([
                Damage::new(Kind::SetFlushed, "ipset flush opensesame4; ipset flush opensesame6"),
                Damage::new(Kind::SetFlushed, "ipset flush opensesame4-net"),
                Damage::new(Kind::SetFlushed, fill(STRANGER_V4, "opensesame4")).opens(),
                Damage::new(Kind::SetFlushed, fill(STRANGER_V6, "opensesame6")),
                Damage::new(
                    Kind::SetFlushed,
                    "ipset add -exist opensesame4 10.77.1.2,tcp:22 timeout 864000",
                ),
                Damage::new(Kind::ChainDeleted, &*free),
                Damage::new(Kind::Duplicated, "ipset create opensesame4-new hash:ip,port"),
                Damage::new(Kind::Duplicated, format!("{free}; ipset create opensesame4 hash:ip")),
            ]);
        }
        damages
    }
}
