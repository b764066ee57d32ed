//! What the machine's own rules mean for us, as far as `doctor` can tell.

use super::{Finding, has, look, well};
use crate::access::Protocol;
use crate::daemon::config::Config;
use crate::firewall::Form;
use crate::firewall::own_rules::{OwnRules, Probe};

/// Whether the machine's own rules let packets to us in, and what else in them concerns us.
pub(super) fn own_rules(config: &Config) -> Vec<Finding> {
    const WHAT: &str = "own rules";
    let rules = OwnRules::read();
    if !rules.are_known() {
        return Vec::new();
    }
    let families: Vec<bool> = [false, true].into_iter().filter(|six| has(*six)).collect();
    let shield = config.shield();
    let pinhole = shield.form != Form::Shield;
    // A shield keeps packets to us out of connection tracking; a pinhole marks them.
    let tracked = pinhole;
    let mark = match shield.form {
        Form::Mark(bits) if tracked => Some(bits),
        Form::Shield | Form::Mark(_) | Form::Chain { .. } => None,
    };
    let closed = |six: bool, port: Option<u16>| match port {
        Some(_) => rules.closed_to(Probe { six, port, tracked, mark }),
        None => rules.closed_to(Probe { six, port, tracked: true, mark: None }),
    };
    let mut all = Vec::new();
    for listen in config.listen.iter().filter(|l| !l.address.ip().is_loopback()) {
        let port = listen.address.port();
        let taken = families.iter().filter(|six| listen.takes(**six));
        let closed: Vec<_> = taken.flat_map(|six| closed(*six, Some(port))).collect();
        all.push(match closed.first() {
            None => well(WHAT, format!("nothing is seen in them that drops udp/{port}")),
            Some(first) => {
                let places: Vec<String> = closed.iter().map(ToString::to_string).collect();
                let places = places.join(", ");
                let seen = format!("the machine's own rules may drop udp/{port}: {places}");
                let mend = match mark {
                    Some(bits) => format!(
                        "a rule that accepts what has the mark {bits:#x}, before those that drop: \
                         docs/pinhole.md"
                    ),
                    None => first.owner.mend(port),
                };
                look(WHAT, seen, mend)
            }
        });
    }
    let any = families.iter().any(|six| !closed(*six, None).is_empty());
    for six in families.iter().filter(|six| (any || pinhole) && closed(**six, None).is_empty()) {
        let (family, other) = if *six { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
        let (seen, mend) = match pinhole {
            true => (
                format!(
                    "nothing of the machine's own may close {family}: the ports are open over it"
                ),
                "rules that drop what they do not name, for both families; or mode = \"shield\""
                    .into(),
            ),
            false => (
                format!(
                    "they close {other}, and may leave open over {family} what is not protected here"
                ),
                format!("the same rules for {family}"),
            ),
        };
        all.push(look(WHAT, seen, mend));
    }
    for (ports, _) in shield.protected.iter().filter(|(p, _)| p.protocol() == Protocol::Tcp) {
        for place in rules.untrack(ports.first()) {
            all.push(look(
                WHAT,
                format!("{place} keeps {ports} out of connection tracking: segments that open no connection reach it unjudged"),
                format!("except {ports} from that rule"),
            ));
        }
    }
    all
}
