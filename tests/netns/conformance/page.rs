//! `docs/conformance.md`: made out of a run in which everything passed.

use super::backend::{BACKENDS, Backend};
use super::site::Site;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

/// A scenario, what it shows, and the backends that must show it.
pub type Row = (&'static str, &'static str, &'static [&'static str]);

/// What has passed in this run.
static PASSED: Mutex<BTreeSet<(&str, &str)>> = Mutex::new(BTreeSet::new());

/// Set: a run in which all pass writes the page.
const WRITE: &str = "OPENSESAME_WRITE";

const HEAD: &str = "# Conformance

One contract for every firewall: `tests/conformance.rs` runs each scenario against each backend, through the same trait, in
network namespaces. The system's own tool (`nft -j`, `iptables-save`, `ip6tables-save`, `ipset list`) reads what is there, and
real connections are tried by a client and a stranger over both families, shut before open.

This page is written by those tests: `OPENSESAME_WRITE=1 cargo test --test conformance` (as root) writes it at the end of a run in which every
test of the table passed, with the versions of the machine that ran it. A plain run fails if a scenario or a backend of the
tests is not in the table, or the other way round.

";

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md")
}

/// Runs a scenario. What is skipped has not passed.
pub fn passes(
    scenario: &'static str,
    name: &'static str,
    backend: Backend,
    work: impl FnOnce(&Site),
) {
    let Some(site) = Site::new(backend) else { return };
    work(&site);
    let mut passed = PASSED.lock().unwrap();
    passed.insert((scenario, name));
    let all = crate::CONTRACT.iter().flat_map(|(s, _, b)| b.iter().map(move |b| (*s, *b)));
    if std::env::var_os(WRITE).is_some() && all.into_iter().all(|one| passed.contains(&one)) {
        std::fs::write(path(), format!("{HEAD}{}\n{}", versions(), table())).unwrap();
    }
}

fn versions() -> String {
    let first = |argv: &[&str]| {
        let out = Command::new(argv[0]).args(&argv[1..]).output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.split([',', '\n']).next().unwrap().trim().to_string()
    };
    let kernel = format!("Linux {}", first(&["uname", "-r"]));
    let nft = first(&["nft", "--version"]);
    let [variant, legacy] = ["iptables-nft", "iptables-legacy"].map(|t| first(&[t, "--version"]));
    let ipset = first(&["ipset", "--version"]);
    format!("Made with: {kernel}; {nft}; {variant}; {legacy}; {ipset}.\n")
}

fn table() -> String {
    let names = BACKENDS.map(|(_, shown)| shown).join(" | ");
    let mut out = format!("| scenario | what holds | {names} | pf |\n|{}\n", "---|".repeat(8));
    for (scenario, what, backends) in crate::CONTRACT {
        let cell = |name| if backends.contains(&name) { "passes" } else { "does not apply" };
        let cells = BACKENDS.map(|(name, _)| cell(name)).join(" | ");
        out += &format!("| `{scenario}` | {what} | {cells} | *not run here* |\n");
    }
    out
}

/// The page has the rows and columns that are tested, and says with which versions.
pub fn is_up_to_date() {
    let text = std::fs::read_to_string(path()).unwrap_or_default();
    let made = text.lines().find(|l| l.starts_with("Made with: Linux "));
    let want = format!("{HEAD}{}\n\n{}", made.unwrap_or_default(), table());
    let how = format!("{WRITE}=1 cargo test --test conformance");
    assert!(made.is_some() && text == want, "docs/conformance.md is not this; {how}\n{want}");
    assert!(crate::CONTRACT.len() > 20);
}
