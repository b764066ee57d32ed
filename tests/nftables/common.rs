//! What all of these tests need.

pub use crate::netns::{
    CLIENT, CLIENT_V4, CLIENT_V6, INNER, INNER_V4, INNER_V6, SERVER, SERVER_V4, SERVER_V6,
    STRANGER, STRANGER_V4, STRANGER_V6, Tried, World,
};
pub use opensesame_spa::access::Refuse;
pub use opensesame_spa::firewall::{
    Element, Error, Firewall, Form, Forward, Nftables, Opening, Routed, Shield,
};
use opensesame_spa::time::{Mono, Now};
use serde_json::Value;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(moment);

#[allow(clippy::disallowed_methods)]
pub fn moment() -> Instant {
    Instant::now()
}

/// A boot clock that has run for a while already.
pub fn now() -> Now {
    let ms = moment().saturating_duration_since(*START).as_millis() as u64;
    Now { mono: Mono(1_000_000 + ms), ..Now::default() }
}

pub fn world(tools: &[&str]) -> Option<World> {
    World::new(&[&["nft", "python3"], tools].concat())
}

pub fn shield(ports: &[&str]) -> Shield {
    let protected = ports.iter().map(|p| (p.parse().expect("ports"), Refuse::Drop)).collect();
    Shield { protected, listening: vec![62201], ..Shield::default() }
}

pub fn element(from: &str, to: &str) -> Element {
    Element { from: from.parse().expect("prefix"), to: to.parse().expect("ports") }
}

pub fn opening(from: &str, to: &str, ms: u64) -> Opening {
    Opening { element: element(from, to), until: now().mono.plus(ms) }
}

/// Our backend on the server; its sockets stay there wherever it is used.
pub fn backend(world: &World, shield: &Shield) -> Nftables {
    world.enter(SERVER, || Nftables::new(shield)).expect("backend")
}

pub fn installed(world: &World, shield: &Shield, openings: &[Opening]) -> Nftables {
    let mut backend = backend(world, shield);
    backend.sync(openings, now()).expect("sync");
    backend
}

pub fn nft(world: &World, script: &str) {
    world.run(SERVER, &["nft", script]);
}

/// Our table without counters and handles.
pub fn table(world: &World) -> String {
    world.run(SERVER, &["nft", "-s", "list", "table", "inet", "opensesame"])
}

/// The chains alone: what must be the same after every sync.
pub fn chains(world: &World) -> String {
    let text = table(world);
    text[text.find("\tchain").expect("a chain")..].to_string()
}

/// The elements of one of our sets as nft sees them: the values, and the seconds left.
pub fn elements(world: &World, set: &str) -> Vec<(String, Option<u64>)> {
    let text = world.run(SERVER, &["nft", "-j", "list", "set", "inet", "opensesame", set]);
    let json: Value = serde_json::from_str(&text).expect("json");
    let list = json["nftables"].as_array().expect("a list");
    let set = list.iter().find_map(|item| item.get("set")).expect("a set");
    let shown = |v: &Value| v.to_string().replace('"', "");
    let all = set["elem"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|e| match e.get("elem") {
            Some(e) => (shown(&e["val"]), e["expires"].as_u64()),
            None => (shown(e), None),
        })
        .collect()
}

/// Asks again until it is so; the machine may be slow.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = moment() + Duration::from_secs(20);
    while !holds() {
        assert!(moment() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A call with a time limit is not begun again by the system when a signal interrupts it.
pub fn uninterrupted<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// That the connection is possible: a single silence may be the machine's.
pub fn assert_open(world: &World, host: &str, address: &str, port: u16) {
    eventually(&format!("{host} reaches {address} port {port}"), || {
        world.connect(host, address, port) == Tried::Open
    });
}

pub fn assert_shut(world: &World, host: &str, address: &str, port: u16) {
    let tried = world.connect(host, address, port);
    assert_eq!(tried, Tried::Silence, "{host} to {address} port {port}\n{}", table(world));
}
