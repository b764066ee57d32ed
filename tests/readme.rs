//! What the README shows is what happens.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

const PROGRAM: &str = env!("CARGO_BIN_EXE_opensesame-spa");

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    std::fs::read_to_string(path).unwrap()
}

/// The indented commands, without prompt.
fn commands(text: &str) -> Vec<Vec<String>> {
    text.lines()
        .filter_map(|l| l.strip_prefix("    "))
        .map(|l| l.trim().trim_start_matches("ProxyCommand "))
        .filter(|l| l.starts_with("opensesame-spa "))
        .map(|l| l.split_whitespace().skip(1).map(str::to_string).collect())
        .collect()
}

#[test]
fn its_commands_and_flags_exist() {
    let commands = commands(&readme());
    assert!(commands.len() >= 5, "{commands:?}");
    for words in commands {
        let help = Command::new(PROGRAM).args([words[0].as_str(), "--help"]).output().unwrap();
        assert!(help.status.success(), "{words:?}: no such command");
        let help = String::from_utf8_lossy(&help.stdout).into_owned();
        for flag in words.iter().filter(|w| w.starts_with("--")) {
            let name = flag.split('=').next().unwrap();
            assert!(help.contains(name), "{words:?}: {name} is no flag of it:\n{help}");
        }
    }
}

#[test]
fn its_links_lead_somewhere() {
    let text = readme();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let links: Vec<&str> = text
        .match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split(')').next())
        .filter(|l| !l.contains("://"))
        .collect();
    assert!(links.len() >= 8);
    for link in links {
        assert!(root.join(link).exists(), "{link}");
    }
}

/// The transcript is the one that the demo prints as root.
#[test]
fn its_transcript_is_the_demos() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED its_transcript_is_the_demos: needs root");
        assert!(std::env::var_os("CI").is_none(), "a skipped test is a failure in CI");
        return;
    }
    let text = readme();
    let shown = text.split("```text\n").nth(1).unwrap().split("\n```").next().unwrap().trim_end();
    let out = Command::new(PROGRAM).arg("demo").env("NO_COLOR", "1").output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{error}");
    assert_eq!(said.trim_end(), shown);
}
