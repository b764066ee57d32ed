//! The vector files: what they accept is read and written the same, what they refuse is refused
//! for the reason that they name.
#![allow(clippy::unwrap_used)]

mod wire;

use opensesame_spa::crypto::{ClientKey, DoorKey, service_name};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use wire::{Keys, Message, bytes, has_python, hex, python, unhex};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Vectors come, they never go.
const ACCEPTED: usize = 43;
const REFUSED: usize = 194;

/// The name and the text of every file in a directory.
fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        (name, std::fs::read_to_string(&path).unwrap())
    };
    entries.map(|entry| read(entry.unwrap().path())).collect()
}

fn vectors(kind: &str) -> BTreeMap<String, Value> {
    let parse = |(name, text): (String, String)| {
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name, value)
    };
    files(&Path::new(ROOT).join("tests/vectors").join(kind)).into_iter().map(parse).collect()
}

fn read(item: &Value) -> Result<Message, &'static str> {
    let (keys, datagram) = (Keys::of(item), unhex(item["datagram"].as_str().unwrap()));
    match item["kind"].as_str() {
        Some("request") => keys.request(&datagram),
        Some("reply") => keys.reply(&datagram, bytes(item, "request_hmac")),
        Some(_) | None => panic!("neither a request nor a reply"),
    }
}

#[test]
fn accepted_vectors_are_read_and_written_the_same() {
    let all = vectors("accept");
    assert!(all.len() >= ACCEPTED, "{} files to accept, {ACCEPTED} there were", all.len());
    for (name, item) in &all {
        let message = read(item).unwrap_or_else(|defect| panic!("{name}: {defect}"));
        assert_eq!(message.meaning(), item["meaning"], "{name}");
        let datagram = item["datagram"].as_str().unwrap();
        let nonce = unhex(&datagram[..48]).try_into().unwrap();
        assert_eq!(hex(&Keys::of(item).seal(&message, &nonce)), datagram, "{name}");
    }
}

#[test]
fn refused_vectors_fail_where_they_say() {
    let all = vectors("reject");
    assert!(all.len() >= REFUSED, "{} files to refuse, {REFUSED} there were", all.len());
    for (name, item) in &all {
        let found = read(item).map(|message| message.meaning());
        assert_eq!(found, Err(item["defect"].as_str().unwrap()), "{name}");
    }
    for defect in ["length", "admission", "client", "hmac", "seal", "encoding"] {
        assert!(all.values().any(|item| item["defect"] == defect), "no vector for {defect}");
    }
}

#[test]
fn named_services_are_in_the_vectors_by_their_names() {
    let all = vectors("accept");
    let services = &all["services-named.json"]["meaning"]["services"];
    for name in ["ssh", "web"] {
        let text = format!("#{}", hex(&service_name(name)));
        assert!(services.as_array().unwrap().contains(&text.as_str().into()), "{name}");
    }
}

#[test]
fn the_vectors_are_those_that_the_script_writes() {
    if !has_python() {
        return;
    }
    let fresh = tempfile::tempdir().unwrap();
    python(["vectors", fresh.path().to_str().unwrap()], &[]);
    for kind in ["accept", "reject"] {
        let here = files(&Path::new(ROOT).join("tests/vectors").join(kind));
        let there = files(&fresh.path().join(kind));
        let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&here), names(&there), "{kind}");
        here.iter().for_each(|(name, text)| assert_eq!(*text, there[name], "{kind}/{name}"));
    }
}

/// The published keys in `keys/` are those of every vector.
#[test]
fn the_vectors_are_made_with_the_published_test_keys() {
    let toml = |name: &str| {
        let text = std::fs::read_to_string(Path::new(ROOT).join("keys").join(name)).unwrap();
        text.parse::<toml::Table>().unwrap()
    };
    let (server, client) = (toml("test-server.key"), toml("test-client.toml"));
    let text = |value: &toml::Value| value.as_str().unwrap().to_string();
    let server_id = text(&server["server-id"]);
    let doors = server["door"].as_array().unwrap();
    assert_eq!(doors.len(), 1);
    assert_eq!(text(&client["server"]["door"]), text(&doors[0]));
    assert_eq!(text(&client["server"]["id"]), server_id);
    let door = hex(DoorKey::from_text(&text(&doors[0])).unwrap().bytes());
    let key = hex(ClientKey::from_text(&text(&client["client"]["key"])).unwrap().bytes());
    for (name, item) in vectors("accept").into_iter().chain(vectors("reject")) {
        assert_eq!(item["server_id"], *server_id, "{name}");
        assert_eq!(item["door_key"], *door, "{name}");
        assert_eq!(item["client_id"], *text(&client["client"]["id"]), "{name}");
        assert_eq!(item["client_key"], *key, "{name}");
    }
}
