//! The machine's own rules, as the system's tools say them: would they let a packet to us in?
//!
//! A guess that never claims more than it knows: conditions that depend on who sends or on how
//! often (an address, an interface, a rate) are neither held nor broken, and then only what surely
//! ends the packet counts. Nothing here decides about access; `doctor` asks.

mod nft;
mod save;

use super::Program;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long a tool may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The deepest chain that is followed: as deep as the kernel does (`NFT_JUMP_STACK_SIZE`).
const DEEPEST: usize = 16;

/// A first UDP packet of a stranger to this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Over IPv6.
    pub six: bool,
    /// The port that it is for; none: one that no rule names.
    pub port: Option<u16>,
    /// Whether connection tracking sees it: a shield of ours keeps packets to us out of it.
    pub tracked: bool,
    /// The bits of the packet mark that a pinhole of ours has set.
    pub mark: Option<u32>,
}

impl Probe {
    fn state(self) -> &'static str {
        if self.tracked { "new" } else { "untracked" }
    }

    /// Whether it carries this value in these bits of its mark.
    fn is_marked(self, value: u32, mask: u32) -> Holds {
        self.mark.map_or(Holds::Maybe, |mark| Holds::sure(mark & mask == value))
    }
}

/// Who writes the rules that end a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Owner {
    /// ufw(8).
    Ufw,
    /// firewalld(1).
    Firewalld,
    /// A table of nft(8): where a rule has to go (`inet filter input`).
    Nft(String),
    /// iptables(8).
    Iptables,
}

/// A chain that ends a packet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Closed {
    /// Family or program, table and chain.
    pub place: String,
    /// Who writes it.
    pub owner: Owner,
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}

impl Owner {
    /// What lets packets to that UDP port in.
    #[must_use]
    pub fn mend(&self, port: u16) -> String {
        match self {
            Owner::Ufw => format!("ufw allow {port}/udp"),
            Owner::Firewalld => {
                format!("firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload")
            }
            Owner::Nft(chain) => format!(
                "nft insert rule {chain} udp dport {port} accept, and the same in the file that is \
                 loaded at boot"
            ),
            Owner::Iptables => format!(
                "iptables -I INPUT -p udp --dport {port} -j ACCEPT, ip6tables too, and keep it for \
                 the next boot"
            ),
        }
    }
}

/// Whether what a rule asks for holds for the probe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Holds {
    No,
    Maybe,
    Yes,
}

impl Holds {
    fn sure(yes: bool) -> Holds {
        if yes { Holds::Yes } else { Holds::No }
    }

    fn unless(self, inverted: bool) -> Holds {
        match self {
            Holds::Yes if inverted => Holds::No,
            Holds::No if inverted => Holds::Yes,
            Holds::No | Holds::Maybe | Holds::Yes => self,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Does {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

/// What a rule does to the probe. `named`: it speaks of the probe's very port.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Rule {
    holds: Holds,
    named: bool,
    does: Does,
}

/// The chains of one table.
type Chains = BTreeMap<String, Vec<Rule>>;

/// What becomes of the probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Passes,
    Ends,
    Returns,
}

/// Follows the probe. What is unsure counts as passing where it could accept, and as nothing where
/// it could drop.
fn follow(chains: &Chains, name: &str, depth: usize) -> Fate {
    let Some(rules) = chains.get(name).filter(|_| depth < DEEPEST) else { return Fate::Returns };
    let mut sure = true;
    for rule in rules.iter().filter(|r| r.holds != Holds::No) {
        let holds = sure && rule.holds == Holds::Yes;
        match &rule.does {
            Does::Accept if holds || rule.named => return Fate::Passes,
            Does::Drop if holds => return Fate::Ends,
            Does::Return if holds => return Fate::Returns,
            Does::Return => sure = false,
            Does::Accept | Does::Drop => {}
            Does::Jump(to) | Does::Goto(to) => match follow(chains, to, depth + 1) {
                Fate::Passes => return Fate::Passes,
                Fate::Ends if holds => return Fate::Ends,
                Fate::Returns if holds && matches!(rule.does, Does::Goto(_)) => {
                    return Fate::Returns;
                }
                Fate::Ends | Fate::Returns => {}
            },
        }
    }
    Fate::Returns
}

/// Whether a base chain ends the probe.
fn ends(chains: &Chains, name: &str, drops: bool) -> bool {
    match follow(chains, name, 0) {
        Fate::Passes => false,
        Fate::Ends => true,
        Fate::Returns => drops,
    }
}

/// What the tools say; a tool that is not there or refuses says nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OwnRules {
    /// `nft -j list ruleset`.
    nft: Option<serde_json::Value>,
    /// What the programs like iptables-save(8) print, each with whether it is IPv6's.
    saved: Vec<(bool, String)>,
}

impl OwnRules {
    /// Asks the tools.
    #[must_use]
    pub fn read() -> OwnRules {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
        let ask = |name: &str, arguments: &[&str]| {
            let answer = Program::find(&places, name)?.ask(LIMIT, arguments, "").ok()?;
            (answer.code == Some(0)).then_some(answer.out)
        };
        let programs = [
            (false, "iptables-save"),
            (false, "iptables-legacy-save"),
            (true, "ip6tables-save"),
            (true, "ip6tables-legacy-save"),
        ];
        let saved = |(six, name)| ask(name, &[]).map(|text| (six, text));
        OwnRules {
            nft: ask("nft", &["-j", "list", "ruleset"]).and_then(|t| serde_json::from_str(&t).ok()),
            saved: programs.into_iter().filter_map(saved).collect(),
        }
    }

    /// Whether any tool has said anything.
    #[must_use]
    pub fn are_known(&self) -> bool {
        self.nft.is_some() || !self.saved.is_empty()
    }

    /// The chains on the way in that end the probe.
    #[must_use]
    pub fn closed_to(&self, probe: Probe) -> Vec<Closed> {
        let saved = self.saved.iter().filter(|(six, _)| *six == probe.six);
        let mut all: Vec<Closed> = saved.flat_map(|(_, text)| save::closed(text, probe)).collect();
        if let Some(list) = &self.nft {
            all.extend(nft::closed(list, probe, |table| self.is_saved(probe.six, table)));
        }
        all.sort();
        all.dedup();
        all
    }

    /// iptables prints the tables that are its own.
    fn is_saved(&self, six: bool, table: &str) -> bool {
        let has = |text: &str| text.lines().any(|l| l.strip_prefix('*') == Some(table));
        self.saved.iter().any(|(of, text)| *of == six && has(text))
    }

    /// The rules that keep packets to or from that TCP port out of connection tracking.
    #[must_use]
    pub fn untrack(&self, port: u16) -> Vec<String> {
        let mut all: Vec<String> =
            self.saved.iter().flat_map(|(six, text)| save::untrack(text, *six, port)).collect();
        if let Some(list) = &self.nft {
            all.extend(nft::untrack(list, port));
        }
        all.sort();
        all.dedup();
        all
    }
}
