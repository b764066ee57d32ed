//! The text of `nft -j list ruleset` (libnftables-json(5)).

use super::{Chains, Closed, Does, Holds, Owner, Probe, Rule, ends};
use serde_json::Value;

/// Statements that ask nothing and end nothing.
const PLAIN: [&str; 6] = ["counter", "log", "mangle", "ct helper", "notrack", "last"];

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The objects of a kind: `chain`, `rule`, `set`, `map`.
fn objects<'a>(list: &'a Value, kind: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let kind = kind.to_string();
    list.get("nftables")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(move |o| o.get(&kind))
}

/// What reads one table for one probe.
struct Reader<'a> {
    list: &'a Value,
    family: &'a str,
    table: &'a str,
    probe: Probe,
}

impl Reader<'_> {
    fn is_here(&self, object: &Value) -> bool {
        text(object, "family") == self.family && text(object, "table") == self.table
    }

    /// The elements behind `@name`, or what stands there itself.
    fn elements<'a>(&'a self, value: &'a Value) -> Option<&'a [Value]> {
        if let Some(name) = value.as_str().and_then(|t| t.strip_prefix('@')) {
            let mut all = objects(self.list, "set").chain(objects(self.list, "map"));
            let set = all.find(|s| self.is_here(s) && text(s, "name") == name)?;
            // A set without elements prints none.
            return Some(set.get("elem").and_then(Value::as_array).map_or(&[], Vec::as_slice));
        }
        let one = value.get("set").unwrap_or(value);
        Some(one.as_array().map_or_else(|| std::slice::from_ref(one), Vec::as_slice))
    }

    /// Whether one of the values is among those of the right side.
    fn among(&self, right: &Value, is: impl Fn(&Value) -> Option<bool>) -> Holds {
        let Some(all) = self.elements(right) else { return Holds::Maybe };
        let each = all.iter().map(|e| is(e.pointer("/elem/val").unwrap_or(e)));
        each.fold(Holds::No, |so_far, one| so_far.max(one.map_or(Holds::Maybe, Holds::sure)))
    }

    /// A port, or a range of them.
    fn port(&self, value: &Value) -> Option<bool> {
        let Some(port) = self.probe.port.map(u64::from) else { return Some(false) };
        let range = value.get("range").and_then(Value::as_array);
        match range.map(|r| (r.first().and_then(Value::as_u64), r.get(1).and_then(Value::as_u64))) {
            Some((Some(from), Some(to))) => Some((from..=to).contains(&port)),
            Some(_) => None,
            None => Some(value.as_u64()? == port),
        }
    }

    /// Whether the left side has one of the values; and whether it is the probe's port.
    fn holds(&self, left: &Value, right: &Value) -> (Holds, bool) {
        let word = |words: &'static [&'static str]| {
            move |v: &Value| Some(v.as_str().is_some_and(|t| words.contains(&t)) || v == 17)
        };
        let key = left.pointer("/meta/key").and_then(Value::as_str);
        let payload = left.get("payload");
        let (of, field) = payload.map_or(("", ""), |p| (text(p, "protocol"), text(p, "field")));
        let fib = left.get("fib").is_some_and(|f| text(f, "result") == "type");
        let holds = match (key, of, field) {
            (Some("l4proto"), ..) | (_, "ip", "protocol") | (_, "ip6", "nexthdr")
                if !self.is_other(of) =>
            {
                self.among(right, word(&["udp"]))
            }
            (Some("nfproto"), ..) => {
                self.among(right, word(if self.probe.six { &["ipv6"] } else { &["ipv4"] }))
            }
            (Some("iif" | "iifname"), ..) => {
                let name = |v: &Value| if v == "lo" { Some(false) } else { None };
                self.among(right, name)
            }
            (_, "udp" | "th", "dport") => {
                let holds = self.among(right, |v| self.port(v));
                return (holds, holds != Holds::No && self.probe.port.is_some());
            }
            (_, "udp" | "th" | "", _) if payload.is_some() => Holds::Maybe,
            (_, "ip" | "ip6", _) if !self.is_other(of) => Holds::Maybe,
            // Another protocol's header, or the other family's.
            _ if payload.is_some() && of != "ether" => Holds::No,
            // A first packet has a state and nothing else.
            _ if left.get("ct").is_some_and(|ct| text(ct, "key") == "state") => {
                self.among(right, |v| Some(v == self.probe.state()))
            }
            _ if left.get("ct").is_some() => Holds::No,
            _ if left.pointer("/&/0/meta/key").is_some_and(|k| k == "mark") => {
                let number = |v: Option<&Value>| u32::try_from(v?.as_u64()?).ok();
                match (number(Some(right)), number(left.pointer("/&/1"))) {
                    (Some(value), Some(mask)) => self.probe.is_marked(value, mask),
                    (None, _) | (_, None) => Holds::Maybe,
                }
            }
            _ if fib => self.among(right, word(&["local"])),
            _ => Holds::Maybe,
        };
        // Several values at once of which one may be the port: it is taken for it.
        let port = |part: &Value| part.pointer("/payload/field").is_some_and(|f| f == "dport");
        let concat = left.get("concat").and_then(Value::as_array);
        (holds, concat.is_some_and(|all| all.iter().any(port)) && self.probe.port.is_some())
    }

    /// Whether a header of that family is not in the probe.
    fn is_other(&self, protocol: &str) -> bool {
        protocol == if self.probe.six { "ip" } else { "ip6" }
    }

    fn does(&self, statement: &Value) -> Option<Does> {
        let target = |kind: &str| statement.get(kind).map(|t| text(t, "target").to_string());
        let is = |names: &[&str]| names.iter().any(|n| statement.get(n).is_some());
        match () {
            // Whoever it is queued to decides.
            () if is(&["accept", "queue"]) => Some(Does::Accept),
            () if is(&["drop", "reject"]) => Some(Does::Drop),
            () if is(&["return"]) => Some(Does::Return),
            () => target("jump").map(Does::Jump).or_else(|| target("goto").map(Does::Goto)),
        }
    }

    /// What a rule does: one answer, or one for each entry of a verdict map.
    fn rules(&self, rule: &Value) -> Vec<Rule> {
        let (mut holds, mut named) = (Holds::Yes, false);
        let statements = rule.get("expr").and_then(Value::as_array);
        for statement in statements.into_iter().flatten() {
            if let Some(does) = self.does(statement) {
                return vec![Rule { holds, named: named && holds != Holds::No, does }];
            }
            if let Some(asked) = statement.get("match") {
                let (left, right) = (&asked["left"], &asked["right"]);
                let (one, is_port) = self.holds(left, right);
                let inverted = text(asked, "op") == "!=";
                named |= is_port && !inverted;
                holds = holds.min(one.unless(inverted));
            } else if let Some(map) = statement.get("vmap") {
                let entries = self.elements(&map["data"]).unwrap_or_default();
                let entry = |entry: &Value| {
                    let value = entry.get(0)?;
                    let (one, is_port) = self.holds(&map["key"], value);
                    let holds = holds.min(one);
                    let named = (named || is_port) && holds != Holds::No;
                    Some(Rule { holds, named, does: self.does(entry.get(1)?)? })
                };
                return entries.iter().filter_map(entry).collect();
            } else if !PLAIN.iter().any(|plain| statement.get(plain).is_some()) {
                holds = holds.min(Holds::Maybe);
            }
        }
        Vec::new()
    }

    fn chains(&self) -> Chains {
        let mut chains = Chains::new();
        for rule in objects(self.list, "rule").filter(|r| self.is_here(r)) {
            chains.entry(text(rule, "chain").to_string()).or_default().extend(self.rules(rule));
        }
        chains
    }
}

/// The base chains on the way in that end the probe; tables that iptables prints are left to it.
pub(super) fn closed(list: &Value, probe: Probe, is_saved: impl Fn(&str) -> bool) -> Vec<Closed> {
    let mut found = Vec::new();
    let other = if probe.six { "ip" } else { "ip6" };
    for base in objects(list, "chain") {
        let (family, table, name) = (text(base, "family"), text(base, "table"), text(base, "name"));
        let judges = ["prerouting", "input"].contains(&text(base, "hook"))
            && text(base, "type") == "filter"
            && ["ip", "ip6", "inet"].contains(&family)
            && family != other;
        let ours = (family, table) == ("inet", "opensesame");
        if !judges || ours || family != "inet" && is_saved(table) {
            continue;
        }
        let reader = Reader { list, family, table, probe };
        if ends(&reader.chains(), name, text(base, "policy") == "drop") {
            let place = format!("{family} {table} {name}");
            let owner = match table {
                "firewalld" => Owner::Firewalld,
                _ => Owner::Nft(place.clone()),
            };
            found.push(Closed { place, owner });
        }
    }
    found
}

/// The rules that take packets to or from that TCP port out of connection tracking.
pub(super) fn untrack(list: &Value, port: u16) -> Vec<String> {
    let mut found = Vec::new();
    for rule in objects(list, "rule") {
        let (family, table, chain) =
            (text(rule, "family"), text(rule, "table"), text(rule, "chain"));
        let all: Vec<&Value> =
            rule.get("expr").and_then(Value::as_array).into_iter().flatten().collect();
        if (family, table) == ("inet", "opensesame")
            || !all.iter().any(|s| s.get("notrack").is_some())
        {
            continue;
        }
        let probe = Probe { six: false, port: Some(port), tracked: true, mark: None };
        let reader = Reader { list, family, table, probe };
        let speaks = |s: &&&Value| {
            let left = s.pointer("/match/left");
            left.and_then(|l| l.pointer("/payload/protocol"))
                .is_some_and(|p| p == "tcp" || p == "th")
        };
        let is = |s: &&Value| reader.among(&s["match"]["right"], |v| reader.port(v)) == Holds::Yes;
        if all.iter().find(speaks).is_some_and(is) {
            found.push(format!("{family} {table} {chain}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUR: Probe = Probe { six: false, port: Some(41_841), tracked: false, mark: None };
    const SIX: Probe = Probe { six: true, ..FOUR };

    /// A ruleset as nft 1.0.6 prints one, with these statements in `inet filter input`, each rule on a
    /// line, and a chain `web`.
    fn ruleset(policy: &str, rules: &str) -> Value {
        let place = |chain: &str| format!(r#""family":"inet","table":"filter","chain":"{chain}""#);
        let mut all = vec![
            r#"{"metainfo":{"version":"1.0.6","json_schema_version":1}}"#.to_string(),
            r#"{"table":{"family":"inet","name":"filter"}}"#.to_string(),
            r#"{"set":{"family":"inet","name":"ports","table":"filter","type":"inet_service","flags":["interval"],"elem":[22,{"range":[40000,50000]}]}}"#.to_string(),
            r#"{"set":{"family":"inet","name":"none","table":"filter","type":"inet_service"}}"#.to_string(),
            r#"{"map":{"family":"inet","name":"ways","table":"filter","type":"inet_service","map":"verdict","elem":[[41841,{"accept":null}]]}}"#.to_string(),
            format!(r#"{{"chain":{{"family":"inet","table":"filter","name":"input","type":"filter","hook":"input","prio":0,"policy":"{policy}"}}}}"#),
            r#"{"chain":{"family":"inet","table":"filter","name":"web"}}"#.to_string(),
        ];
        for line in rules.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let (chain, expr) = line.strip_prefix("web:").map_or(("input", line), |e| ("web", e));
            all.push(format!(r#"{{"rule":{{{},"expr":[{expr}]}}}}"#, place(chain)));
        }
        serde_json::from_str(&format!(r#"{{"nftables":[{}]}}"#, all.join(","))).unwrap()
    }

    fn is_closed(probe: Probe, policy: &str, rules: &str) -> bool {
        let found = closed(&ruleset(policy, rules), probe, |_| false);
        assert!(found.iter().all(|c| c.place == "inet filter input"), "{found:?}");
        !found.is_empty()
    }

    const UDP: &str = r#"{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":PORTS}}"#;

    fn udp(ports: &str, rest: &str) -> String {
        format!("{},{rest}", UDP.replace("PORTS", ports))
    }

    const ACCEPT: &str = r#"{"accept":null}"#;

    #[test]
    fn a_closed_input_is_closed_until_a_rule_lets_the_port_in() {
        assert!(is_closed(FOUR, "drop", "") && is_closed(SIX, "drop", ""));
        assert!(!is_closed(FOUR, "accept", ""));
        assert!(is_closed(
            FOUR,
            "accept",
            r#"{"reject":{"type":"icmpx","expr":"port-unreachable"}}"#
        ));
        assert!(is_closed(FOUR, "accept", "{\"jump\":{\"target\":\"web\"}}\nweb:{\"drop\":null}"));
        for ports in ["22", r#"{"set":[{"range":[1,5]},53]}"#, "\"@none\""] {
            assert!(is_closed(FOUR, "drop", &udp(ports, ACCEPT)), "{ports}");
        }
        for ports in [
            "41841",
            r#"{"range":[41840,41850]}"#,
            r#"{"set":[{"range":[1,5]},41841]}"#,
            "\"@ports\"",
            "\"@gone\"",
        ] {
            assert!(!is_closed(FOUR, "drop", &udp(ports, ACCEPT)), "{ports}");
            assert!(!is_closed(SIX, "drop", &udp(ports, ACCEPT)), "{ports}");
        }
        // For some senders only: the administrator has thought of it.
        let some = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"192.0.2.1"}},"#;
        assert!(!is_closed(FOUR, "drop", &format!("{some}{}", udp("41841", ACCEPT))));
        assert!(is_closed(SIX, "drop", &format!("{some}{}", udp("41841", ACCEPT))), "IPv4's alone");
        assert!(is_closed(FOUR, "drop", &format!("{some}{ACCEPT}")));
        let drop = r#"{"drop":null}"#;
        assert!(!is_closed(FOUR, "accept", &format!("{some}{drop}")));
        assert!(!is_closed(
            FOUR,
            "accept",
            &format!(r#"{{"limit":{{"rate":9,"per":"second","inv":true}}}},{drop}"#)
        ));
        let both = r#"{"match":{"op":"==","left":{"concat":[{"meta":{"key":"l4proto"}},{"payload":{"protocol":"th","field":"dport"}}]},"right":{"set":[{"concat":["udp",41841]}]}}},{"accept":null}"#;
        assert!(!is_closed(FOUR, "drop", both));
    }

    #[test]
    fn our_packets_are_not_tracked_and_not_from_loopback() {
        let state = |right: &str| {
            let state = format!(
                r#"{{"match":{{"op":"in","left":{{"ct":{{"key":"state"}}}},"right":{right}}}}}"#
            );
            is_closed(FOUR, "drop", &udp("41841", &format!("{state},{ACCEPT}")))
        };
        assert!(state("\"new\"") && state(r#"["established","related"]"#));
        assert!(!state(r#"["new","untracked"]"#) && !state(r#"{"set":["new","untracked"]}"#));
        for (left, right, closed) in [
            (r#"{"meta":{"key":"iifname"}}"#, "\"lo\"", true),
            (r#"{"meta":{"key":"l4proto"}}"#, r#"{"set":["tcp","udp"]}"#, false),
            (r#"{"meta":{"key":"l4proto"}}"#, "\"tcp\"", true),
            (r#"{"payload":{"protocol":"ip","field":"protocol"}}"#, "\"udp\"", false),
            (r#"{"payload":{"protocol":"ip6","field":"nexthdr"}}"#, "\"udp\"", true),
            (r#"{"payload":{"protocol":"icmpv6","field":"type"}}"#, "\"nd-router-advert\"", true),
            (r#"{"meta":{"key":"nfproto"}}"#, "\"ipv4\"", false),
            (r#"{"meta":{"key":"nfproto"}}"#, "\"ipv6\"", true),
            (r#"{"ct":{"key":"status"}}"#, "\"dnat\"", true),
            (r#"{"fib":{"result":"type","flags":["daddr"]}}"#, "\"local\"", false),
        ] {
            let rule =
                format!(r#"{{"match":{{"op":"==","left":{left},"right":{right}}}}},{ACCEPT}"#);
            assert_eq!(is_closed(FOUR, "drop", &rule), closed, "{left} {right}");
        }
    }

    #[test]
    fn what_carries_our_mark_is_let_in_by_the_rule_for_it() {
        let rule = r#"{"match":{"op":"==","left":{"&":[{"meta":{"key":"mark"}},1073741824]},"right":1073741824}},{"accept":null}"#;
        let closed = |mark| is_closed(Probe { mark, ..FOUR }, "drop", rule);
        assert!(!closed(Some(0x4000_0000)) && closed(Some(1)) && closed(None));
        let new =
            r#"{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":"new"}},{"accept":null}"#;
        assert!(is_closed(FOUR, "drop", new));
        assert!(!is_closed(Probe { tracked: true, ..FOUR }, "drop", new));
    }

    #[test]
    fn verdict_maps_are_followed() {
        let map = |key: &str, data: &str| format!(r#"{{"vmap":{{"key":{key},"data":{data}}}}}"#);
        let port = r#"{"payload":{"protocol":"udp","field":"dport"}}"#;
        assert!(!is_closed(FOUR, "drop", &map(port, "\"@ways\"")));
        assert!(is_closed(FOUR, "drop", &map(port, r#"{"set":[[53,{"accept":null}]]}"#)));
        let to_web = r#"{"set":[["eth0",{"jump":{"target":"web"}}]]}"#;
        let by_interface = map(r#"{"meta":{"key":"iifname"}}"#, to_web);
        assert!(!is_closed(FOUR, "drop", &format!("{by_interface}\nweb:{}", udp("41841", ACCEPT))));
        assert!(is_closed(FOUR, "drop", &format!("{by_interface}\nweb:{}", udp("53", ACCEPT))));
        let states = r#"{"set":[["invalid",{"drop":null}],["established",{"accept":null}]]}"#;
        assert!(!is_closed(FOUR, "accept", &map(r#"{"ct":{"key":"state"}}"#, states)));
    }

    #[test]
    fn what_iptables_prints_is_left_to_it_and_ours_is_ours() {
        let base = |family: &str, table: &str| {
            let chain = format!(
                r#"{{"family":"{family}","table":"{table}","name":"INPUT","type":"filter","hook":"input","prio":0,"policy":"drop"}}"#
            );
            let list: Value =
                serde_json::from_str(&format!(r#"{{"nftables":[{{"chain":{chain}}}]}}"#)).unwrap();
            closed(&list, FOUR, |table| table == "filter").len()
        };
        assert_eq!((base("ip", "filter"), base("ip", "mine"), base("ip6", "mine")), (0, 1, 0));
        assert_eq!(
            (base("inet", "opensesame"), base("inet", "filter"), base("bridge", "mine")),
            (0, 1, 0)
        );
    }

    #[test]
    fn rules_that_untrack_a_port_are_found() {
        let list = |protocol: &str, ports: &str| {
            let rule = format!(
                r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"{protocol}","field":"dport"}}}},"right":{ports}}}}},{{"notrack":null}}"#
            );
            untrack(&ruleset("accept", &rule), 22)
        };
        assert_eq!(list("tcp", "22"), ["inet filter input"]);
        assert_eq!(list("th", "\"@ports\"").len(), 1);
        assert_eq!(list("tcp", "80").len() + list("udp", "22").len(), 0);
    }
}
