//! Our part of a table: its chains, where they hang, and the commit that makes it so. Pure.

use std::fmt::Write;

/// Our chain that a built-in chain jumps to.
pub(super) const CHAIN: &str = "OPENSESAME";
/// Whether a packet for a protected port may pass.
pub(super) const JUDGE: &str = "OPENSESAME-JUDGE";
/// TCP packets of no tracked flow: only those of sessions older than the shield pass.
pub(super) const OLDER: &str = "OPENSESAME-OLDER";
/// The leases, and the end of everything else.
pub(super) const LEASE: &str = "OPENSESAME-LEASE";
/// Our chain in raw OUTPUT.
pub(super) const OUT: &str = "OPENSESAME-OUT";

/// A table of ours.
pub(super) struct Table {
    /// Its name.
    pub(super) name: &'static str,
    /// Somebody else's chain, and our chain that must be its first rule.
    jumps: Vec<(String, &'static str)>,
    /// All chains of ours; users before the used.
    pub(super) chains: &'static [&'static str],
}

impl Table {
    /// The shield, right after conntrack and before NAT: ports are seen as they were addressed.
    pub(super) fn mangle() -> Table {
        let jumps = vec![("PREROUTING".to_string(), CHAIN)];
        Table { name: "mangle", jumps, chains: &[CHAIN, JUDGE, OLDER, LEASE] }
    }

    /// No connection tracking for the server's own ports: a flood of forged datagrams would fill it.
    pub(super) fn raw() -> Table {
        let jumps = vec![("PREROUTING".to_string(), CHAIN), ("OUTPUT".to_string(), OUT)];
        Table { name: "raw", jumps, chains: &[CHAIN, OUT] }
    }

    /// Who holds a lease is led on to another host.
    pub(super) fn nat() -> Table {
        let jumps = vec![("PREROUTING".to_string(), CHAIN)];
        Table { name: "nat", jumps, chains: &[CHAIN] }
    }

    /// Who holds a lease is admitted at the head of that chain of the machine's own.
    pub(super) fn filter(chain: &str) -> Table {
        Table { name: "filter", jumps: vec![(chain.to_string(), CHAIN)], chains: &[CHAIN, LEASE] }
    }

    /// The tables that have something of ours, in what iptables-save(8) says about all that are
    /// there. (A question about a table that is not there would make it.)
    pub(super) fn left(save: &str) -> Vec<Table> {
        let all = [Table::mangle(), Table::raw(), Table::nat(), Table::filter("INPUT")];
        let part = |table: &Table| {
            let (_, rest) = save.split_once(&format!("*{}\n", table.name))?;
            rest.split("\nCOMMIT").next()
        };
        all.into_iter().filter(|t| part(t).is_some_and(|part| t.remains(part))).collect()
    }

    /// Every rule of somebody else's chain that is nothing but a jump to ours.
    pub(super) fn hooks(&self, listing: &str) -> Vec<(String, &'static str)> {
        let mut out = Vec::new();
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["-A", hook, "-j", to] = words[..] else { continue };
            let chain = self.jumps.iter().find(|(_, chain)| *chain == to);
            if let (Some((_, chain)), false) = (chain, self.chains.contains(&hook)) {
                out.push((hook.to_string(), *chain));
            }
        }
        out
    }

    /// Whether our jump stands in that chain once, as its first rule.
    fn stands(&self, listing: &str, jump: &(String, &str)) -> bool {
        let (hook, chain) = jump;
        let ours = format!("-A {hook} -j {chain}");
        let mut rules =
            listing.lines().map(str::trim_end).filter(|l| l.starts_with(&format!("-A {hook} ")));
        rules.next() == Some(&ours) && rules.all(|l| l != ours)
    }

    /// Whether each jump is there, once and first.
    pub(super) fn hangs(&self, listing: &str) -> bool {
        self.jumps.iter().all(|jump| self.stands(listing, jump))
    }

    /// Whether each jump is there, wherever in its chain.
    pub(super) fn is_asked(&self, listing: &str) -> bool {
        let there = self.hooks(listing);
        self.jumps.iter().all(|jump| there.contains(jump))
    }

    /// Whether anything of ours is in the listing, of iptables or of iptables-save.
    pub(super) fn remains(&self, listing: &str) -> bool {
        let ours = |line: &str, chain: &str| {
            line.trim_end() == format!("-N {chain}") || line.starts_with(&format!(":{chain} "))
        };
        let chain = |l: &str| self.chains.iter().any(|chain| ours(l, chain));
        !self.hooks(listing).is_empty() || listing.lines().any(chain)
    }

    /// One commit that makes our part of the table exactly `rules`, with the jumps once and first,
    /// and in no other chain.
    pub(super) fn commit(&self, listing: &str, rules: &str) -> String {
        let mut out = format!("*{}\n", self.name);
        for chain in self.chains {
            let _ = writeln!(out, ":{chain} - [0:0]");
        }
        out += rules;
        let right =
            |jump: &(String, &'static str)| self.jumps.contains(jump) && self.stands(listing, jump);
        for (hook, chain) in self.hooks(listing).iter().filter(|jump| !right(jump)) {
            let _ = writeln!(out, "-D {hook} -j {chain}");
        }
        for (hook, chain) in self.jumps.iter().filter(|jump| !right(jump)) {
            let _ = writeln!(out, "-I {hook} 1 -j {chain}");
        }
        out + "COMMIT\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(table: &Table, listing: &str) -> Vec<String> {
        let text = table.commit(listing, "");
        let change = |l: &&str| l.starts_with("-D") || l.starts_with("-I");
        text.lines().filter(change).map(str::to_string).collect()
    }

    #[test]
    fn a_jump_that_is_missing_late_or_doubled_is_put_in_place_once() {
        let jump = "-A PREROUTING -j OPENSESAME\n";
        let other = "-A PREROUTING -j OTHER\n";
        let mangle = Table::mangle();
        let changes = |listing: &str| changes(&mangle, listing);
        let (delete, insert) = ("-D PREROUTING -j OPENSESAME", "-I PREROUTING 1 -j OPENSESAME");
        assert_eq!(changes(other), [insert]);
        assert_eq!(changes(&format!("-P PREROUTING ACCEPT\n{jump}{other}")), [""; 0]);
        assert_eq!(changes(&format!("{other}{jump}")), [delete, insert]);
        assert_eq!(changes(&format!("{jump}{other}{jump}")), [delete, delete, insert]);
        assert_eq!(changes("-A PREROUTING -j OPENSESAME-JUDGE\n"), [insert]);
        assert!(mangle.hangs(&format!("{jump}{other}")));
        assert!(!mangle.hangs(&format!("{other}{jump}")) && !mangle.hangs(""));
        assert!(mangle.is_asked(&format!("{other}{jump}")) && !mangle.is_asked(other));
        assert!(mangle.remains("-N OPENSESAME-OLDER\n") && mangle.remains(jump));
        assert!(!mangle.remains("-N OPENSESAME-MINE\n-A PREROUTING -j OPENSESAME-MINE\n"));
    }

    #[test]
    fn a_jump_in_another_chain_than_the_one_that_is_named_goes() {
        let listing = "-N OPENSESAME\n-A INPUT -j OPENSESAME\n-A OPENSESAME -j OPENSESAME-LEASE\n\
                       -A ufw-user-input -p tcp -j OPENSESAME\n";
        let wanted = ["-D INPUT -j OPENSESAME", "-I ufw-user-input 1 -j OPENSESAME"];
        assert_eq!(changes(&Table::filter("ufw-user-input"), listing), wanted);
        assert_eq!(changes(&Table::filter("INPUT"), listing), [""; 0]);
    }

    #[test]
    fn what_is_left_is_found_in_whatever_table_it_is() {
        let save = "# comment\n*filter\n:INPUT DROP [0:0]\n:OPENSESAME - [0:0]\nCOMMIT\n\
                    *nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -j MINE\nCOMMIT\n\
                    *raw\n-A OUTPUT -j OPENSESAME-OUT\nCOMMIT\n";
        let names = |save| Table::left(save).iter().map(|t| t.name).collect::<Vec<_>>();
        assert_eq!(names(save), ["raw", "filter"]);
        assert_eq!(names(""), [""; 0]);
    }
}
