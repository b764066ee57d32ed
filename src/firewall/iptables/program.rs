//! How iptables, ip6tables and ipset are run, and what it means when they fail.

use crate::firewall::{Error, Program};
use std::time::Duration;

/// How long a tool may take; the lock is waited for within it.
const LIMIT: Duration = Duration::from_secs(10);

/// How long iptables waits for another one's lock, in seconds (`-w`, iptables(8)).
pub(super) const WAIT: &str = "5";

/// The same once the shield is up: whoever waits for it answers nobody else, and a `sync` a second
/// later tries again.
pub(super) const BRIEFLY: &str = "1";

impl Program {
    /// Runs it with these arguments and this input, and returns what it printed.
    ///
    /// # Errors
    /// What it said if it failed; [`Error::Busy`] if it took too long, and then it is dead.
    pub(super) fn run(&self, arguments: &[&str], input: &str) -> Result<String, Error> {
        let answer = self.ask(LIMIT, arguments, input)?;
        match answer.code {
            Some(0) => Ok(answer.out),
            code => Err(refusal(&self.path().display().to_string(), code, &answer.err)),
        }
    }
}

/// What a tool that failed means. The legacy variant says 4 for its lock, the nf_tables variant
/// says 4 for nearly everything (iptables sources, `xtables.h` and `nft.c`), so the text decides.
fn refusal(name: &str, code: Option<i32>, said: &str) -> Error {
    let has = |texts: &[&str]| texts.iter().any(|t| said.contains(t));
    let text: String = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let short: String = text.chars().take(400).collect();
    let code = code.map_or("a signal".to_string(), |c| c.to_string());
    if has(&["Permission denied", "Operation not permitted", "must be root"]) {
        return Error::Rights;
    }
    if has(&["xtables lock", "Resource temporarily unavailable", "Device or resource busy"]) {
        return Error::Busy(format!(
            "{name}: {short}; another program holds the packet filter, the next try waits again"
        ));
    }
    if has(&["do you need to insmod", "Couldn't load", "Cannot open session to kernel"]) {
        return Error::Missing(format!(
            "{name}: {short}; load the kernel module or install the tool's extensions"
        ));
    }
    if has(&["is incompatible"]) {
        return Error::Refused(format!(
            "{name}: {short}; rules of nft are in that table: choose the nftables backend"
        ));
    }
    let advice = match code.as_str() {
        "2" => "; it may be older than 1.6.2, which is needed",
        "3" => "; the kernel and the tool are of different times: install what fits this kernel",
        "4" => "; the kernel lacks memory or a module, or a rule is there that it cannot take",
        _ => "",
    };
    Error::Refused(format!("{name} ended with {code}: {short}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_say_what_to_do() {
        let broken = refusal("tool", Some(2), "it is   broken\n").to_string();
        assert!(broken.contains("tool ended with 2: it is broken; it may be older"), "{broken}");
        let killed = refusal("tool", None, "").to_string();
        assert!(killed.ends_with("tool ended with a signal: "), "{killed}");
        let lock = "Another app is currently holding the xtables lock; still 0s 0us";
        assert!(matches!(refusal("t", Some(4), lock), Error::Busy(_)));
        assert_eq!(refusal("t", Some(4), "Permission denied (you must be root)"), Error::Rights);
        assert_eq!(refusal("t", Some(1), "Kernel error: Operation not permitted"), Error::Rights);
        let set = "Couldn't load match `set':No such file or directory";
        assert!(matches!(refusal("t", Some(2), set), Error::Missing(_)));
        assert!(matches!(refusal("t", Some(4), "RULE_APPEND failed"), Error::Refused(_)));
        let mixed = refusal("t", Some(1), "table `mangle' is incompatible, use 'nft' tool.");
        assert!(mixed.to_string().ends_with("choose the nftables backend"), "{mixed}");
    }
}
