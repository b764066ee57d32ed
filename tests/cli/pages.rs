//! Completions, man pages and help: they name everything that there is.

use super::place::Place;
use std::path::Path;

/// The names of all subcommands that `--help` lists.
fn subcommands(place: &Place) -> Vec<String> {
    let help = place.ok(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let (list, _) = list.split_once("\n\nOptions:").unwrap();
    let first = |l: &str| l.strip_prefix("  ").filter(|l| !l.starts_with(' ')).map(word);
    list.lines().filter_map(first).collect()
}

fn word(line: &str) -> String {
    line.split_whitespace().next().unwrap_or_default().into()
}

/// The long options that a help text lists.
fn options(help: &str) -> Vec<String> {
    let plain = |c: char| !(c.is_ascii_lowercase() || c == '-');
    let listed = help.lines().map(str::trim_start).filter(|l| l.starts_with('-'));
    let long = listed.filter_map(|l| l.find("--").map(|at| &l[at..]));
    long.map(|l| l.split(plain).next().unwrap_or_default().to_string()).collect()
}

#[test]
fn each_shell_gets_completions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = place.ok(&["completions", shell]);
        for name in subcommands(&place) {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        assert!(script.contains("protect"), "{shell}");
    }
    place.usage(&["completions", "cmd.exe"]);
}

#[test]
fn the_man_pages_name_every_subcommand_and_every_option() {
    let place = Place::new();
    place.ok(&["man", "pages"]);
    let names = subcommands(&place);
    assert!(names.len() >= 15, "{names:?}");
    let main = place.read("pages/opensesame-spa.1").replace('\\', "");
    for name in names {
        assert!(main.contains(&format!("opensesame-spa-{name}(1)")), "{name}");
        let page = place.read(&format!("pages/opensesame-spa-{name}.1")).replace('\\', "");
        let help = place.ok(&[&name, "--help"]);
        let options = options(&help);
        assert!(options.contains(&"--help".to_string()), "{help}");
        for option in options {
            assert!(page.contains(&option), "{name}: {option}");
        }
    }
}

/// `opensesame-spa man docs/man` writes them; the pages that people read are those.
#[test]
fn the_pages_in_the_repository_are_those_of_this_program() {
    let place = Place::new();
    place.ok(&["man", "pages"]);
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
    let list = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name());
        let mut names: Vec<String> = entries.map(|n| n.into_string().unwrap()).collect();
        names.sort();
        names
    };
    let names = list(&place.path("pages"));
    assert_eq!(names, list(&kept), "run `opensesame-spa man docs/man`");
    for name in names {
        let same = std::fs::read_to_string(kept.join(&name)).unwrap()
            == place.read(&format!("pages/{name}"));
        assert!(same, "docs/man/{name} is old: run `opensesame-spa man docs/man`");
    }
}

#[test]
fn what_is_not_for_people_is_not_shown() {
    let place = Place::new();
    place.ok(&["man", "pages"]);
    let help = place.ok(&["--help"]) + &place.read("pages/opensesame-spa.1");
    for name in ["engine-process", "gate-process", "demo-host", "container", "container-service"] {
        assert!(!help.contains(name) && !help.contains(&name.replace('-', "\\-")), "{name}");
        assert!(!place.exists(&format!("pages/opensesame-spa-{name}.1")), "{name}");
    }
    let version = place.ok(&["--version"]);
    assert_eq!(version, format!("opensesame-spa {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_second_process_ends_when_nobody_talks_to_it() {
    let place = Place::new();
    let out = place.run(&["engine-process"]);
    assert_eq!(out.status.code(), Some(1), "{out:?}");
}
