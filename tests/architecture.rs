//! The table of rooms in `docs/architecture.md` is what the code does.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below a directory.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// `src/engine/replay.rs` -> `engine`, `src/time.rs` -> `time`.
fn room(file: &Path) -> String {
    let inside = file.strip_prefix(root().join("src")).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_string()
}

/// The code of a file: no comments, no text in quotes that spans nothing.
fn code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
}

/// The rooms named in `crate::a::..`, `crate::{a::.., b}` and, in the library's own root, `a::`.
fn used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |t: &str| -> String {
            t.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => {
                rooms.insert(word(rest));
            }
            Some(list) => {
                let mut depth = 0;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => {
                            rooms.insert(word(&item));
                            item.clear();
                        }
                        _ => {}
                    }
                    item.push(c);
                }
                rooms.insert(word(item.trim_start_matches(',')));
            }
        }
    }
    rooms.remove("");
    rooms
}

/// Room -> the rooms that it may use, out of the document.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let rows = text.lines().skip_while(|l| !l.starts_with("| room |")).skip(2);
    rows.take_while(|l| l.starts_with('|'))
        .map(|l| {
            let cells: Vec<&str> = l.trim_matches('|').split('|').map(str::trim).collect();
            let may = cells[2].split_whitespace().map(str::to_string).collect();
            (cells[0].to_string(), may)
        })
        .collect()
}

#[test]
fn a_room_uses_only_the_rooms_of_its_line() {
    let table = table();
    let mut seen = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in sources(&root().join("src")) {
        let room = room(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(may) = table.get(&room) else {
            wrong.push(format!("{}: the room `{room}` is not in the table", file.display()));
            continue;
        };
        seen.insert(room.clone());
        for other in used(&code(&file)) {
            if other != room && !may.contains(&other) {
                wrong.push(format!("{}: {room} uses {other}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let rooms: BTreeSet<String> = table.into_keys().collect();
    assert_eq!(seen, rooms, "rooms of the code and rooms of the table");
}

#[test]
fn the_library_shows_the_same_table() {
    let text = std::fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let mods: BTreeSet<String> = text
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';').map(str::to_string))
        .collect();
    assert_eq!(mods, table().into_keys().collect());
    for room in mods {
        assert!(text.contains(&format!("| [`{room}`] |")), "{room} is not in lib.rs' table");
    }
}

#[test]
fn backends_and_proofs_do_not_know_each_other() {
    for (parent, children) in [
        ("firewall", vec!["nftables", "iptables", "pf", "dry_run", "lease", "boxes"]),
        ("engine/auth", vec!["spa"]),
    ] {
        let base = root().join("src").join(parent);
        for file in sources(&base) {
            let inside = file.strip_prefix(&base).unwrap();
            let own = inside.components().next().unwrap().as_os_str().to_string_lossy();
            let own = own.trim_end_matches(".rs").to_string();
            let code = code(&file);
            for child in children.iter().filter(|c| **c != own && own != "mod") {
                let path = parent.replace('/', "::");
                for way in [format!("{path}::{child}::"), format!("super::super::{child}::")] {
                    assert!(!code.contains(&way), "{}: uses its sibling {child}", file.display());
                }
            }
        }
    }
}

#[test]
fn unsafe_stays_in_its_room_and_pure_rooms_forbid_it() {
    for file in sources(&root().join("src")) {
        let code = code(&file);
        let has =
            code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl");
        assert!(!has || room(&file) == "sys", "{}: unsafe outside sys", file.display());
        if has {
            let text = std::fs::read_to_string(&file).unwrap();
            let blocks = text.matches("unsafe {").count();
            assert!(text.matches("SAFETY:").count() >= blocks, "{}: no SAFETY", file.display());
        }
    }
    for room in ["time", "access", "crypto", "proto", "engine", "firewall", "client", "gate"] {
        let dir = root().join("src").join(room).join("mod.rs");
        let file = if dir.exists() { dir } else { root().join(format!("src/{room}.rs")) };
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}", file.display());
    }
}

#[test]
fn a_file_is_one_room_and_not_two() {
    for dir in ["src", "tests", "fuzz", "benches"] {
        let dir = root().join(dir);
        if !dir.exists() {
            continue;
        }
        let own = |f: &PathBuf| !f.components().any(|c| c.as_os_str() == "target");
        for file in sources(&dir).into_iter().filter(own) {
            let lines = std::fs::read_to_string(&file).unwrap().lines().count();
            assert!(lines <= 400, "{}: {lines} lines", file.display());
        }
    }
}

/// The lint that keeps clocks out of pure rooms does so: a line that reads one fails clippy.
#[test]
fn a_clock_read_in_a_pure_room_fails() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::copy(root().join("clippy.toml"), dir.path().join("clippy.toml")).unwrap();
    std::fs::write(
        dir.path().join("Cargo.toml"),
        "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n",
    )
    .unwrap();
    let clippy = |source: &str| {
        std::fs::write(dir.path().join("src/lib.rs"), source).unwrap();
        let out = Command::new(env!("CARGO"))
            .args(["clippy", "--offline", "--quiet", "--", "-D", "clippy::disallowed_methods"])
            .current_dir(dir.path())
            .env("CARGO_TARGET_DIR", dir.path().join("target"))
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .output()
            .unwrap();
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let (good, text) =
        clippy("//! A pure room.\npub fn later(now: u64) -> u64 {\n    now + 1\n}\n");
    assert!(good, "{text}");
    for clock in ["std::time::Instant::now()", "std::time::SystemTime::now()"] {
        let (good, text) =
            clippy(&format!("//! A room.\npub fn f() {{\n    let _ = {clock};\n}}\n"));
        assert!(!good && text.contains("disallowed method"), "{clock}: {text}");
    }
    // The package asks for that lint, and one file alone is excused.
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("disallowed_methods = \"warn\""));
    let excused: Vec<PathBuf> = sources(&root().join("src"))
        .into_iter()
        .filter(|f| std::fs::read_to_string(f).unwrap().contains("clippy::disallowed_methods"))
        .collect();
    assert_eq!(excused, [root().join("src/daemon/clock.rs")]);
}
