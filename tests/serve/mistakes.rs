//! Mistakes in the clients' files: who stays, who is out, and who can be taken out all the same.

use super::server::*;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

const STAFF: &str = "s/clients/staff.toml";
const HEAD: &str = "max-ttl = \"1h\"\n\n";
const BOB: &str = "10.88.0.1";
const CAROL: &str = "10.88.0.2";

/// A server whose clients bob and carol stand in one file, each with a lease; and their entries.
fn server() -> Option<(Server, String, String)> {
    server_with("nftables")
}

fn server_with(backend: &str) -> Option<(Server, String, String)> {
    let server = Server::running(backend)?;
    let entry = |name: &str| {
        server.invite(name, &[]);
        let own = format!("s/clients/{name}.toml");
        let text = format!("[[client]]\nname = \"{name}\"\n{}\n", server.read(&own));
        std::fs::remove_file(server.path(&own)).unwrap();
        text
    };
    let (bob, carol) = (entry("bob"), entry("carol"));
    put(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
    server.open("bob", &["--for", "1h", "--ip", BOB]);
    server.open("carol", &["--for", "1h", "--ip", CAROL]);
    open(&server, &[BOB, CAROL]);
    Some((server, bob, carol))
}

/// Replaces a file by another one, and has the server read it.
fn put(server: &Server, name: &str, mode: u32, text: &str) {
    place(server, name, mode, text);
    server.order(&["reload"]);
}

fn place(server: &Server, name: &str, mode: u32, text: &str) {
    let draft = server.path("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::set_permissions(&draft, Permissions::from_mode(mode)).unwrap();
    std::fs::rename(draft, server.path(name)).unwrap();
}

/// Waits until exactly these addresses are let in.
fn open(server: &Server, addresses: &[&str]) {
    eventually(&format!("{addresses:?} are let in"), || {
        let leases = server.leases();
        let mut all: Vec<_> = leases.iter().filter_map(|l| l["address"].as_str()).collect();
        all.sort_unstable();
        all == addresses
    });
}

fn revoke(server: &Server, name: &str) -> Output {
    server.run(SERVER, &["revoke", name, "--config", "s/server.toml"])
}

/// Revokes one, which fails: why.
fn cannot_revoke(server: &Server, name: &str) -> String {
    let out = revoke(server, name);
    assert_eq!(out.status.code(), Some(1), "{}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stderr).unwrap()
}

fn is_revoked(server: &Server, name: &str) {
    let said = server.order(&["revoke", name]);
    assert!(said.contains("its leases have ended"), "{said}");
}

/// Lets a client ask once more, and waits until it is let in.
fn comes(server: &Server, name: &str, address: &str, ttl: &str) {
    server.open(name, &["--for", "8h", "--ip", address]);
    server.says_all(&[&format!("open client={name} "), address, &format!("ttl={ttl}")]);
}

#[test]
fn a_broken_head_keeps_nobody_who_is_revoked() {
    let Some((server, bob, carol)) = server() else { return };
    put(&server, STAFF, 0o600, &format!("hours = 5\n{bob}{carol}"));
    server.says_all(&["2 clients stay as they were", "staff.toml:1:"]);
    open(&server, &[BOB, CAROL]);
    std::fs::write(server.path("s/clients/staff.toml.123.new"), "key").unwrap();
    is_revoked(&server, "bob");
    assert_eq!(server.leases().len(), 1, "the order is done when it is answered");
    open(&server, &[CAROL]);
    assert!(!server.path("s/clients/staff.toml.123.new").exists(), "a draft with keys");
    comes(&server, "carol", "10.88.0.3", "1h");
    // The last one of the file.
    is_revoked(&server, "carol");
    open(&server, &[]);
    assert!(server.read(STAFF).starts_with("hours = 5\n#"));
    for name in ["bob", "carol"] {
        server.open(name, &["--ip", BOB]);
    }
    eventually("unknown", || server.refused("unknown-client") == 2);
}

#[test]
fn a_file_that_cannot_be_looked_through_keeps_nobody_who_is_revoked() {
    let Some((server, ..)) = server() else { return };
    put(&server, "s/clients/other.toml", 0o644, "x");
    let why = cannot_revoke(&server, "bob");
    assert!(why.contains("bob is removed; its leases have ended; "), "{why}");
    assert!(why.contains("bob may still be in ") && why.contains("other.toml"), "{why}");
    assert_eq!(server.leases().len(), 1, "the order is done when it is answered");
    open(&server, &[CAROL]);
    let why = cannot_revoke(&server, "bob");
    assert!(why.contains("no client `bob`") && why.contains("other.toml"), "{why}");
    std::fs::remove_file(server.path("s/clients/other.toml")).unwrap();
    // An editor's lock.
    std::os::unix::fs::symlink("nowhere", server.path("s/clients/.#staff.toml")).unwrap();
    is_revoked(&server, "carol");
    // What a server knows of a list that cannot be read, nobody is told to be gone.
    let why = cannot_revoke(&server, "bob");
    assert!(why.contains("no client `bob`") && !why.contains("may still"), "{why}");
}

#[test]
fn a_list_that_cannot_be_read_is_said_to_keep_its_clients() {
    let Some((server, bob, carol)) = server() else { return };
    put(&server, STAFF, 0o644, &format!("{HEAD}{bob}{carol}"));
    let why = cannot_revoke(&server, "bob");
    assert!(why.contains("the server still knows it") && why.contains("chmod 600"), "{why}");
    open(&server, &[BOB, CAROL]);
    // Whoever is in it no more is out, whatever its mode is.
    put(&server, STAFF, 0o644, &format!("{HEAD}{carol}"));
    open(&server, &[CAROL]);
}

#[test]
fn a_mistyped_header_costs_nobody_anything() {
    let Some((server, bob, carol)) = server() else { return };
    let text = |header: &str| format!("{HEAD}{bob}{}", carol.replace("[[client]]\n", header));
    let headers = ["[client]\n", "[[clinet]]\n", "[[client]] "];
    for (n, header) in headers.into_iter().enumerate() {
        put(&server, STAFF, 0o600, &text(header));
        eventually("said", || server.log().matches("client=carol stays as it was").count() > n);
        open(&server, &[BOB, CAROL]);
    }
    comes(&server, "carol", CAROL, "1h");
    assert!(!server.log().contains("client=bob stays"), "he is sound");
    // Joined with the one before him: neither can be taken out without the other.
    put(&server, STAFF, 0o600, &format!("{HEAD}{}{carol}", bob.trim_end()));
    server.says("client=bob stays as it was");
    open(&server, &[BOB, CAROL]);
    let why = cannot_revoke(&server, "carol");
    assert!(why.contains("more than one client stands in this entry"), "{why}");
    open(&server, &[BOB, CAROL]);
    put(&server, STAFF, 0o600, &text("[client]\n"));
    is_revoked(&server, "carol");
    open(&server, &[BOB]);
    assert_eq!(server.read(STAFF), format!("{HEAD}{bob}"));
}

#[test]
fn an_old_copy_does_not_take_over_from_a_faulty_entry() {
    let Some((server, bob, carol)) = server() else { return };
    let old = bob.clone() + "max-ttl = \"8h\"\n";
    put(&server, "s/clients/zold.toml", 0o600, &old);
    server.says_all(&["client=bob is left out", "zold.toml", "of another client"]);
    comes(&server, "bob", BOB, "1h");
    // His entry is faulty, without its name, with its id alone; and then the file is.
    for (n, bad) in [
        format!("{HEAD}{}{carol}", bob.replace("key = \"", "key = \"AA")),
        format!("{HEAD}{}{carol}", bob.replace("id = ", "idd = ")),
        format!("hours = 5\n{bob}{carol}"),
    ]
    .into_iter()
    .enumerate()
    {
        put(&server, STAFF, 0o600, &bad);
        comes(&server, "bob", &format!("10.88.1.{n}"), "1h");
    }
    // Nobody has what a client of a faulty file has, not even one who comes first.
    put(&server, "s/clients/aold.toml", 0o600, &old);
    server.says_all(&["client=bob is left out", "aold.toml", "stays as it was"]);
    comes(&server, "bob", "10.88.2.1", "1h");
    let mallory = old.replace("\"bob\"", "\"mallory\"");
    put(&server, "s/clients/aold.toml", 0o600, &mallory);
    server.says_all(&["client=mallory is left out", "aold.toml"]);
    comes(&server, "bob", "10.88.2.2", "1h");
    // With a sound file it is as it was written: the first counts.
    put(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
    server.says_all(&["client=bob is left out", "staff.toml", "of another client"]);
    server.open("bob", &["--for", "8h", "--ip", "10.88.2.3"]);
    server.says_all(&["open client=mallory ", "10.88.2.3", "ttl=8h"]);
}

#[test]
fn who_has_what_another_one_has_is_out() {
    let Some((server, bob, carol)) = server() else { return };
    let line = |text: &str, key: &str| {
        text.lines().find(|l| l.starts_with(key)).unwrap().to_string() + "\n"
    };
    let copied = |key: &str| carol.replace(&line(&carol, key), &line(&bob, key));
    // Bob's key is his, and carol is out with all that she had.
    put(&server, STAFF, 0o600, &format!("{HEAD}{bob}{}", copied("key = ")));
    server.says_all(&["client=carol is left out", "staff.toml", "the key of another client"]);
    open(&server, &[BOB]);
    assert_eq!(server.status()["clients"], 2);
    put(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
    comes(&server, "carol", CAROL, "1h");
    // Carol is the first with bob's id: nothing that was his becomes hers.
    put(&server, STAFF, 0o600, &format!("{HEAD}{}{bob}", copied("id = ")));
    server.says_all(&["client=bob is left out", "staff.toml", "the id of another client"]);
    open(&server, &[]);
    assert_eq!(server.status()["clients"], 2);
    server.open("bob", &["--ip", BOB]);
    eventually("refused", || server.refused("unauthentic") == 1);
    // Who only changes his name takes along what he has.
    put(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
    comes(&server, "bob", BOB, "1h");
    put(&server, STAFF, 0o600, &format!("{HEAD}{}{carol}", bob.replace("\"bob\"", "\"robert\"")));
    open(&server, &[BOB]);
}

#[test]
fn a_faulty_entry_of_nobody_keeps_nobody_out() {
    let Some((mut server, bob, carol)) = server() else { return };
    server.invite("zoe", &[]);
    server.order(&["reload"]);
    let (zoe, own) = ("10.88.0.3", server.read("s/clients/zoe.toml"));
    server.open("zoe", &["--for", "1h", "--ip", zoe]);
    open(&server, &[BOB, CAROL, zoe]);
    // On the way into a file that comes first: without a name, and with a wrong one.
    for entry in ["", "name = \"zo\"\nhours = 5\n", "name = \"zo\"\nuses = \"x\"\n"] {
        let text = format!("{HEAD}{bob}{carol}[[client]]\n{entry}{own}");
        put(&server, STAFF, 0o600, &text);
        open(&server, &[BOB, CAROL, zoe]);
    }
    assert_eq!(server.log().matches("client=zoe is").count(), 0, "{}", server.log());
    // A start knows nobody who could stay; a copy that cannot be read locks nobody out.
    server.stop();
    place(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
    place(&server, "s/clients/all.toml", 0o644, &format!("{HEAD}{bob}{carol}"));
    server.start();
    comes(&server, "bob", "10.88.1.1", "1h");
}

#[test]
fn names_that_go_round_take_their_leases_along() {
    let Some((server, bob, carol)) = server() else { return };
    let named = |text: &str, old: &str, new: &str| text.replace(old, new);
    let (bob, carol) = (named(&bob, "\"bob\"", "\"carol\""), named(&carol, "\"carol\"", "\"bob\""));
    for text in [format!("{HEAD}{bob}{carol}"), format!("{HEAD}{carol}{bob}")] {
        put(&server, STAFF, 0o600, &text);
        open(&server, &[BOB, CAROL]);
    }
    // Along a chain, with one who is new at its end.
    let text = format!("{HEAD}{}{carol}", named(&bob, "\"carol\"", "\"dora\""));
    put(&server, STAFF, 0o600, &text.replace("\"bob\"", "\"carol\""));
    open(&server, &[BOB, CAROL]);
    assert_eq!(server.log().matches("revoked").count(), 0, "{}", server.log());
}

#[test]
fn who_moves_into_a_faulty_file_stays() {
    let Some((server, bob, carol)) = server() else { return };
    let own = bob.lines().skip(2).map(|l| format!("{l}\n")).collect::<String>();
    // Without its id and key it is nobody's text: a mistake.
    for (mode, text) in
        [(0o644, &own), (0o600, &own.replace("id", "ID")), (0o600, &"ttl = \"1m\"\n".into())]
    {
        place(&server, "s/clients/bob.toml", mode, text);
        put(&server, STAFF, 0o600, &format!("{HEAD}{carol}"));
        open(&server, &[BOB, CAROL]);
        std::fs::remove_file(server.path("s/clients/bob.toml")).unwrap();
        place(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
        server.order(&["reload"]);
    }
    for (n, (mode, head)) in [(0o644, ""), (0o600, "hours = 5\n")].into_iter().enumerate() {
        place(&server, &format!("s/clients/team{n}.toml"), mode, &format!("{head}{bob}{carol}"));
        std::fs::remove_file(server.path(STAFF)).unwrap();
        server.order(&["reload"]);
        open(&server, &[BOB, CAROL]);
        place(&server, STAFF, 0o600, &format!("{HEAD}{bob}{carol}"));
        std::fs::remove_file(server.path(&format!("s/clients/team{n}.toml"))).unwrap();
        server.order(&["reload"]);
    }
    assert_eq!(server.log().matches(" is gone").count(), 0);
    // A head of which nobody is left by hand is nobody's.
    put(&server, STAFF, 0o600, HEAD);
    open(&server, &[]);
}

#[test]
fn the_firewall_is_told_once_of_all_who_are_gone() {
    let Some((server, ..)) = server_with("dry-run") else { return };
    std::fs::remove_file(server.path(STAFF)).unwrap();
    server.order(&["reload"]);
    open(&server, &[]);
    let log = server.log();
    let lines = log.lines().filter_map(|line| {
        ["revoked client=", "would close "].into_iter().find(|what| line.contains(what))
    });
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines, ["revoked client=", "revoked client=", "would close ", "would close "]);
}
