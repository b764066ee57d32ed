//! The text of iptables-save(8) and ip6tables-save(8).

use super::{Chains, Closed, Does, Holds, Owner, Probe, Rule, ends};
use std::collections::BTreeMap;

/// Modules that ask nothing by themselves, only by their options.
const PLAIN: [&str; 8] =
    ["udp", "tcp", "multiport", "conntrack", "state", "addrtype", "comment", "mark"];

/// A line in words; what stands in quotes is one word.
fn words(line: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' if quoted => word.extend(rest.next()),
            ' ' if !quoted => all.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    all.push(word);
    all.retain(|w| !w.is_empty());
    all
}

/// Whether ports as iptables writes them (`22,1000:2000`) have this one.
fn has(list: &str, port: Option<u16>) -> bool {
    let Some(port) = port else { return false };
    list.split(',').any(|part| match part.split_once(':') {
        Some((from, to)) => {
            let (from, to) = (from.parse().unwrap_or(0), to.parse().unwrap_or(u16::MAX));
            (from..=to).contains(&port)
        }
        None => part.parse() == Ok(port),
    })
}

/// A mark as iptables writes it: `0x1/0xff`, without a mask all bits.
fn mark(text: &str, probe: Probe) -> Holds {
    let number = |t: &str| u32::from_str_radix(t.strip_prefix("0x")?, 16).ok();
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    match (number(value), number(mask)) {
        (Some(value), Some(mask)) => probe.is_marked(value, mask),
        (None, _) | (_, None) => Holds::Maybe,
    }
}

/// What `-A CHAIN ...` does to the probe, and in which chain.
fn rule(line: &str, probe: Probe) -> Option<(String, Rule)> {
    let words = words(line.strip_prefix("-A ")?);
    let mut words = words.iter().map(String::as_str);
    let chain = words.next()?.to_string();
    let (mut holds, mut named, mut inverted) = (Holds::Yes, false, false);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let asked = match word {
            "!" => {
                inverted = true;
                continue;
            }
            "-j" | "-g" => {
                let does = match (value(), word) {
                    ("ACCEPT" | "QUEUE" | "NFQUEUE", _) => Does::Accept,
                    ("DROP" | "REJECT", _) => Does::Drop,
                    ("RETURN", _) => Does::Return,
                    (target, "-g") => Does::Goto(target.to_string()),
                    // A target that goes on (LOG, MARK) is like a chain that does not exist.
                    (target, _) => Does::Jump(target.to_string()),
                };
                return Some((chain, Rule { holds, named, does }));
            }
            "-p" => Holds::sure(["udp", "17", "all"].contains(&value())),
            "-i" if value() == "lo" => Holds::No,
            "-m" if PLAIN.contains(&value()) => continue,
            "--comment" => {
                value();
                continue;
            }
            "--dport" | "--dports" | "--destination-ports" => {
                let has = has(value(), probe.port);
                named |= has;
                Holds::sure(has)
            }
            "--ctstate" | "--state" => {
                Holds::sure(value().split(',').any(|s| s.eq_ignore_ascii_case(probe.state())))
            }
            "--mark" => mark(value(), probe),
            "--dst-type" => Holds::sure(value() == "LOCAL"),
            _ => Holds::Maybe,
        };
        holds = holds.min(asked.unless(inverted));
        inverted = false;
    }
    None
}

/// The chains of each table, and the policies of its built-in chains (`:INPUT DROP [0:0]`).
fn tables(text: &str, probe: Probe) -> BTreeMap<&str, (Chains, BTreeMap<&str, bool>)> {
    let mut all = BTreeMap::<&str, (Chains, BTreeMap<&str, bool>)>::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(table) = line.strip_prefix('*') {
            name = table;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (chain, policy) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let (chains, policies) = all.entry(name).or_default();
            chains.entry(chain.to_string()).or_default();
            policies.insert(chain, policy == "DROP");
        } else if let Some((chain, rule)) = rule(line, probe) {
            all.entry(name).or_default().0.entry(chain).or_default().push(rule);
        }
    }
    all
}

/// The built-in chains on the way in that end the probe.
pub(super) fn closed(text: &str, probe: Probe) -> Vec<Closed> {
    let program = if probe.six { "ip6tables" } else { "iptables" };
    let mut found = Vec::new();
    for (table, (chains, policies)) in tables(text, probe) {
        let has = |part: &str| chains.keys().any(|name| name.starts_with(part));
        let owner = match () {
            () if has("ufw-user-input") || has("ufw6-user-input") => Owner::Ufw,
            () if has("INPUT_ZONES") => Owner::Firewalld,
            () => Owner::Iptables,
        };
        for chain in ["PREROUTING", "INPUT"].iter().filter(|_| table != "nat") {
            let drops = policies.get(chain).copied().unwrap_or(false);
            if ends(&chains, chain, drops) {
                let place = format!("{program} {table} {chain}");
                found.push(Closed { place, owner: owner.clone() });
            }
        }
    }
    found
}

/// The rules of raw that take packets of that TCP port out of connection tracking.
pub(super) fn untrack(text: &str, six: bool, port: u16) -> Vec<String> {
    let program = if six { "ip6tables" } else { "iptables" };
    let raw = text.lines().skip_while(|l| *l != "*raw").skip(1).take_while(|l| *l != "COMMIT");
    let does = |line: &&str| {
        let words = words(line);
        let after = |option: &str| words.iter().skip_while(|w| *w != option).nth(1);
        let tcp = after("-p").is_none_or(|p| p == "tcp");
        let ports = ["--dport", "--dports", "--sport", "--sports"].map(after);
        let ours = ports.iter().flatten().any(|list| has(list, Some(port)))
            || ports.iter().flatten().count() == 0 && after("-i").is_none_or(|i| i != "lo");
        let target = after("-j").map_or("", |t| t.as_str());
        let untracks = target == "NOTRACK" || target == "CT" && words.contains(&"--notrack".into());
        untracks && tcp && ours
    };
    raw.filter(does).map(|line| format!("{program} -t raw {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: Probe = Probe { six: false, port: Some(41_841), tracked: false, mark: None };

    /// A table with these rules: the places that are closed.
    fn places(policy: &str, rules: &str) -> Vec<String> {
        let text = format!("*filter\n:INPUT {policy} [0:0]\n:web - [0:0]\n{rules}\nCOMMIT\n");
        closed(&text, PORT).into_iter().map(|c| c.place).collect()
    }

    #[test]
    fn a_closed_input_is_closed_until_a_rule_lets_the_port_in() {
        let input = ["iptables filter INPUT"];
        assert_eq!(places("ACCEPT", ""), [""; 0]);
        assert_eq!(places("DROP", ""), input);
        for closes in [
            "-A INPUT -i lo -j ACCEPT\n-A INPUT -j DROP",
            "-A INPUT -j REJECT --reject-with icmp-port-unreachable",
            "-A INPUT -j web\n-A web -p tcp -m tcp --dport 22 -j RETURN\n-A web -j DROP",
            "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A INPUT -j DROP",
            "-A INPUT -p udp -m udp --dport 41842 -j ACCEPT\n-A INPUT -j DROP",
            "-A INPUT -p tcp -m tcp --dport 41841 -j ACCEPT\n-A INPUT -g web\n-A web -j DROP",
            // Too late, or for packets that are tracked: ours are not.
            "-A INPUT -j DROP\n-A INPUT -p udp -m udp --dport 41841 -j ACCEPT",
            "-A INPUT -p udp -m state --state NEW -m udp --dport 41841 -j ACCEPT\n-A INPUT -j DROP",
            "-A INPUT -p udp -m udp ! --dport 41841 -j ACCEPT\n-A INPUT -j DROP",
        ] {
            assert_eq!(places("ACCEPT", closes), input, "{closes}");
        }
        for opens in [
            "-A INPUT -p udp -m udp --dport 41841 -j ACCEPT",
            "-A INPUT -s 10.0.0.0/8 -p udp -m multiport --dports 53,41000:42000 -j ACCEPT",
            "-A INPUT -p udp -m comment --comment \"it's \\\"SPA\\\" -j DROP\" -j ACCEPT",
            "-A INPUT -p udp -m udp --dport 41841 -j web\n-A web -j ACCEPT",
            "-A INPUT -m addrtype --dst-type LOCAL -j web\n-A web -j ACCEPT",
            "-A INPUT -j ACCEPT",
        ] {
            assert_eq!(places("DROP", opens), [""; 0], "{opens}");
        }
        // What depends on who sends, and how often, may drop and may not.
        for unsure in [
            "-A INPUT -s 192.0.2.1/32 -j DROP",
            "-A INPUT -p udp -m hashlimit --hashlimit-above 1/sec --hashlimit-name x -j DROP",
            "-A INPUT -i eth0 -j web\n-A web -j DROP",
            "-A INPUT -j web\n-A web -s 192.0.2.1/32 -j RETURN\n-A web -j DROP",
            "-A INPUT -j LOG --log-prefix \"-j DROP \"",
        ] {
            assert_eq!(places("ACCEPT", unsure), [""; 0], "{unsure}");
        }
    }

    #[test]
    fn what_carries_our_mark_is_let_in_by_the_rule_for_it() {
        let closed = |mark, rule: &str| {
            let text = format!("*filter\n:INPUT DROP [0:0]\n{rule}\nCOMMIT\n");
            closed(&text, Probe { tracked: true, mark, ..PORT }).len() == 1
        };
        let rule = "-A INPUT -m mark --mark 0x40000000/0x40000000 -j ACCEPT";
        assert!(!closed(Some(0x4000_0000), rule) && !closed(Some(0x4000_0001), rule));
        assert!(closed(Some(1), rule) && closed(None, rule));
        assert!(closed(Some(0x4000_0001), "-A INPUT -m mark --mark 0x40000000 -j ACCEPT"));
        assert!(!closed(
            Some(1),
            "-A INPUT -p udp -m state --state NEW -m udp --dport 41841 -j ACCEPT"
        ));
    }

    #[test]
    fn who_wrote_it_is_who_mends_it() {
        let owner = |chain: &str| {
            let text = format!("*filter\n:INPUT DROP [0:0]\n:{chain} - [0:0]\nCOMMIT\n");
            closed(&text, PORT)[0].owner.mend(41_841)
        };
        assert_eq!(owner("ufw-user-input"), "ufw allow 41841/udp");
        assert!(owner("INPUT_ZONES").starts_with("firewall-cmd --permanent"));
        assert!(owner("mine").starts_with("iptables -I INPUT -p udp --dport 41841 -j ACCEPT"));
    }

    #[test]
    fn rules_that_untrack_a_port_are_found() {
        let list =
            |rule: &str| untrack(&format!("*raw\n-A PREROUTING {rule}\nCOMMIT\n"), false, 22);
        assert_eq!(
            list("-p tcp -m tcp --dport 22 -j NOTRACK"),
            ["iptables -t raw -A PREROUTING -p tcp -m tcp --dport 22 -j NOTRACK"]
        );
        assert_eq!(list("-p tcp -m multiport --dports 20:25 -j CT --notrack").len(), 1);
        assert_eq!(list("-j CT --notrack").len(), 1);
        for other in [
            "-p tcp -m tcp --dport 80 -j CT --notrack",
            "-p udp -m udp --dport 22 -j CT --notrack",
            "-p tcp -m tcp --dport 22 -j CT --helper ftp",
            "-i lo -j CT --notrack",
        ] {
            assert_eq!(list(other), [""; 0], "{other}");
        }
    }
}
