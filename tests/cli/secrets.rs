//! Files that hold keys: refused when others can read them, and never quoted.

use super::place::{Place, leak, secrets};
use std::path::Path;

const SERVE: [&str; 4] = ["serve", "--check", "--config", "s/server.toml"];

/// A place with one client, and all of its secrets.
fn with_keys() -> (Place, Vec<String>) {
    let place = Place::new();
    place.init(&["--host", "127.0.0.1:9"]);
    place.invite("alice", &[]);
    let keys = secrets(&place.read("alice.toml"));
    (place, keys)
}

/// The files with keys, and a command that reads each.
const FILES: [(&str, &[&str]); 3] = [
    ("s/server.key", &SERVE),
    ("s/clients/alice.toml", &SERVE),
    ("alice.toml", &["open", "--key", "alice.toml", "--hex"]),
];

#[test]
fn files_that_others_can_read_are_refused() {
    let (place, _) = with_keys();
    for (name, args) in FILES {
        for mode in [0o604, 0o640, 0o660, 0o622, 0o601] {
            place.chmod(name, mode);
            let why = place.fail(args);
            assert!(why.contains(name) && why.contains("chmod 600"), "{mode:o}: {why}");
        }
        place.chmod(name, 0o600);
        place.ok(args);
        std::fs::rename(place.path(name), place.path("real")).unwrap();
        std::os::unix::fs::symlink(place.path("real"), place.path(name)).unwrap();
        let why = place.fail(args);
        assert!(why.contains(name) && why.contains("symbolic link"), "{why}");
        std::fs::remove_file(place.path(name)).unwrap();
        std::fs::create_dir(place.path(name)).unwrap();
        assert!(place.fail(args).contains("no regular file"), "{name}");
        std::fs::remove_dir(place.path(name)).unwrap();
        std::fs::rename(place.path("real"), place.path(name)).unwrap();
    }
}

#[test]
fn files_of_another_user_are_refused() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: only root can give files away");
        return;
    }
    let (place, _) = with_keys();
    for (name, args) in FILES {
        std::os::unix::fs::chown(place.path(name), Some(65_534), None).unwrap();
        let why = place.fail(args);
        assert!(why.contains(name) && why.contains("65534"), "{why}");
        std::os::unix::fs::chown(place.path(name), Some(0), None).unwrap();
        place.ok(args);
    }
}

/// Ways to break a file, each of which a parser could answer by quoting it.
fn broken(text: &str) -> Vec<String> {
    let mut all = vec![
        text.replace("\"\n", "\n"),
        text.replace("\"\n", "\"\"\n"),
        text.replace("=\"", "\""),
        text.replace("=\"", "==\""),
        text.replace(" = \"", " = \"\\q"),
        text.replace(" = \"", " = '"),
        text.replace(" = \"", " \""),
        text.replace(" = \"", " = \"ä"),
        text.replace("key = \"", "key = [\"").replace("door = \"", "door = [\""),
        text.replace("key =", "kez =").replace("door =", "dor ="),
        text.replace("id = \"", "id = \"x"),
        text.replace('"', ""),
        text.replace("key = ", "id = ").replace("door = ", "id = "),
        text.replace("id = ", "key = "),
        text.replace(" = [", " = ").replace("\"]\n", "\"\n"),
        text.replace("door = [", "door = [1, "),
        text.replace("=\"]", "=\", \"AAAA\"]"),
        text.replace("]\n", ", \"QUFB\", \"QUFC\"]\n"),
        text[..text.len() - 4].to_string(),
        text.replace('\n', " "),
        format!("{text}{text}"),
        format!("{text}\u{0}"),
    ];
    // The key in every other place where a client's file has a text.
    for key in secrets(text) {
        for place in ["ttl", "max-ttl", "expires", "id", "name", "host"] {
            all.push(format!("{text}{place} = \"{key}\"\n"));
        }
        for place in ["sources", "services", "ports"] {
            all.push(format!("{text}{place} = [\"{key}\"]\n"));
        }
        all.push(format!("{text}{key}\n"));
        all.push(format!("{text}\"{key}\" = 1\n"));
        all.push(format!("{text}max-leases = \"{key}\"\n"));
        all.push(format!("{text}[{}]\n", key.trim_end_matches('=')));
    }
    all.retain(|t| t != text);
    all
}

/// `FILE:LINE:COLUMN: ` or, on the client's side, `FILE: line LINE, column COLUMN: `.
fn has_place(why: &str, name: &str) -> bool {
    let Some((_, rest)) = why.split_once(name) else { return false };
    let digit = |t: &str| t.starts_with(|c: char| c.is_ascii_digit());
    let short = rest.strip_prefix(':').filter(|r| digit(r));
    let long = rest.strip_prefix(": line ").filter(|r| digit(r));
    short.and_then(|r| r.split_once(':')).is_some_and(|(_, r)| digit(r))
        || long.and_then(|r| r.split_once(", column ")).is_some_and(|(_, r)| digit(r))
}

#[test]
fn what_is_wrong_in_a_key_file_is_never_quoted() {
    let (place, keys) = with_keys();
    for (name, args) in FILES {
        let text = place.read(name);
        for (number, wrong) in broken(&text).iter().enumerate() {
            place.write(name, wrong);
            let out = place.run(args);
            let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
            if out.status.success() {
                // Some changes do no harm to some of the files: a packet in hex holds no text.
                continue;
            }
            assert_eq!(leak(&said, &keys), None, "{name}, change {number}: {said}");
            assert!(has_place(&said, name), "{name}, change {number}: {said}\n{wrong}");
            assert_eq!(said.lines().count(), 1, "{said}");
            let list = place.run(&["clients", "--config", "s/server.toml"]);
            let list = String::from_utf8_lossy(&[list.stdout, list.stderr].concat()).into_owned();
            assert_eq!(leak(&list, &keys), None, "{name}, change {number}: {list}");
        }
        place.write(name, &text);
        place.ok(args);
        let why = place.fail(&["serve", "--config", name]);
        assert_eq!(leak(&why, &keys), None, "taken for a configuration: {why}");
    }
}

#[test]
fn the_published_test_keys_are_refused() {
    let (place, _) = with_keys();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("keys");
    place.write("s/server.key", std::fs::read(kept.join("test-server.key")).unwrap());
    let why = place.fail(&SERVE);
    assert!(why.contains("server.key") && why.contains("test key"), "{why}");
    let toml = place.read("s/server.toml");
    place.write("s/server.toml", toml.replace("[server]\n", "[server]\nallow-test-keys = true\n"));
    place.ok(&SERVE);
    let (place, _) = with_keys();
    let client = std::fs::read_to_string(kept.join("test-client.toml")).unwrap();
    let key = secrets(&client)[1].clone();
    place.write("s/clients/test.toml", format!("id = \"3031323334353637\"\nkey = \"{key}\"\n"));
    let why = place.fail(&SERVE);
    assert!(why.contains("clients/test.toml") && why.contains("test key"), "{why}");
    place.write("s/clients/test.toml", "");
    let door = secrets(&place.read("s/server.key"))[0].clone();
    place.write("s/clients/test.toml", format!("id = \"3031323334353637\"\nkey = \"{door}\"\n"));
    assert!(place.fail(&SERVE).contains("door key"));
}
