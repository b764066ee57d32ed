//! `init`, `invite`, `clients`, `revoke`: the files that they write.

use super::place::{Place, leak, secrets};
use opensesame_spa::client::Profile;
use qrcode::{Color, EcLevel, QrCode};
use serde_json::Value;
use std::process::Stdio;

#[test]
fn init_writes_what_serve_takes_and_nobody_else_reads() {
    let place = Place::new();
    let said = place.init(&["--host", "gate.example.org"]);
    assert_eq!(place.check(), "configuration OK\n");
    assert_eq!(place.mode("s"), 0o700);
    assert_eq!(place.mode("s/clients"), 0o700);
    for name in ["s/server.toml", "s/server.key"] {
        assert_eq!(place.mode(name), 0o600, "{name}");
    }
    assert_eq!(leak(&said, &secrets(&place.read("s/server.key"))), None);
    assert_eq!(secrets(&place.read("s/server.key")).len(), 1);
    let toml = place.read("s/server.toml");
    let dir = place.path("s").canonicalize().unwrap();
    for path in ["state", "control.sock"] {
        assert!(toml.contains(&format!("\"{}\"", dir.join(path).display())), "{toml}");
    }
}

#[test]
fn init_overwrites_nothing() {
    for there in ["s/server.toml", "s/server.key"] {
        let place = Place::new();
        std::fs::create_dir(place.path("s")).unwrap();
        place.write(there, "mine");
        let why = place.fail(&["init", "--dir", "s"]);
        assert!(why.contains(there) && why.contains("nothing was written"), "{why}");
        assert_eq!(place.read(there), "mine");
        assert_eq!(std::fs::read_dir(place.path("s")).unwrap().count(), 1);
    }
}

#[test]
fn init_takes_ports_names_and_addresses() {
    let place = Place::new();
    let protect = ["--protect", "tcp/22", "--protect", "udp/51820", "--protect", "tcp/8000-8010"];
    let more = ["--listen", "127.0.0.1:41841", "--host", "[2001:db8::1]"];
    place.init(&[&protect[..], &["--protect", "tcp/22"], &more].concat());
    assert_eq!(place.check(), "configuration OK\n");
    let toml = place.read("s/server.toml");
    for piece in ["[service.\"ssh\"]", "[service.\"wireguard\"]", "tcp/8000-8010"] {
        assert!(toml.contains(piece), "{piece}: {toml}");
    }
    assert!(toml.contains("udp       = \"127.0.0.1:41841\""), "{toml}");
    assert!(toml.contains("\"[2001:db8::1]:41841\""), "{toml}");
    let alice = place.invite("alice", &["--out", "-"]);
    assert!(alice.contains("host = \"[2001:db8::1]:41841\""));
    for wrong in
        [["--protect", "22"], ["--protect", "tcp/0"], ["--backend", "ufw"], ["--listen", "41841"]]
    {
        place.usage(&[&["init", "--dir", "t"], &wrong[..]].concat());
    }
    for host in ["a b", "", "a:0", "a\"b", "-x"] {
        let why = place.fail(&["init", "--dir", "t", &format!("--host={host}")]);
        assert!(why.contains("--host"), "{why}");
    }
    let own = ["--protect", "udp/4000", "--listen", "[::]:4000"];
    let why = place.fail(&[&["init", "--dir", "t"], &own[..]].concat());
    assert!(why.contains("udp/4000"), "{why}");
    assert!(!place.exists("t"));
}

#[test]
fn the_port_is_random_and_never_a_protected_one() {
    let place = Place::new();
    let mut ports = Vec::new();
    for n in 0..6 {
        let dir = format!("s{n}");
        // All but a few of them are protected.
        let all = ["--protect", "udp/10000-32000", "--protect", "udp/32010-40000"];
        place.ok(&[&["init", "--dir", &dir, "--backend", "dry-run"], &all[..]].concat());
        let toml = place.read(&format!("{dir}/server.toml"));
        let line = toml.lines().find(|l| l.starts_with("udp ")).unwrap();
        let port: u16 = line.trim_end_matches('"').rsplit(':').next().unwrap().parse().unwrap();
        assert!((32_001..32_010).contains(&port), "{line}");
        ports.push(port);
    }
    ports.dedup();
    assert!(ports.len() > 1, "{ports:?}");
}

#[test]
fn an_invitation_makes_two_files_for_two_people() {
    let place = Place::with_server();
    let said = place.invite("alice", &[]);
    assert!(said.contains("alice.toml"), "{said}");
    assert_eq!(place.mode("alice.toml"), 0o600);
    assert_eq!(place.mode("s/clients/alice.toml"), 0o600);
    let keys = secrets(&place.read("alice.toml"));
    assert_eq!(keys.len(), 2, "the door's and her own");
    assert_eq!(leak(&said, &keys), None);
    assert_eq!(secrets(&place.read("s/clients/alice.toml")), keys[1..]);
    assert_eq!(place.check(), "configuration OK\n");
    let again = place.invite("alice", &["--again", "--out", "-"]);
    assert_eq!(again, place.read("alice.toml"));
    assert_ne!(secrets(&place.invite("bob", &["--out", "-"]))[1], keys[1]);
    assert!(!place.exists("bob.toml"));
}

#[test]
fn an_invitation_says_what_it_is_good_for() {
    let place = Place::new();
    place.init(&["--protect", "tcp/22", "--protect", "tcp/443"]);
    let limits = ["--service", "https", "--ttl", "90s", "--expires", "7d", "--uses", "1"];
    place.invite("guest", &limits);
    let file = place.read("s/clients/guest.toml");
    for line in ["services = [\"https\"]", "uses = 1"] {
        assert!(file.lines().any(|l| l == line), "{line}: {file}");
    }
    assert!(file.contains("ttl = \"1m 30s\"") || file.contains("ttl = \"90s\""), "{file}");
    assert!(place.read("guest.toml").contains("ports = [\"tcp/443\"]"));
    assert_eq!(place.check(), "configuration OK\n");
    let list = place.ok(&["clients", "--config", "s/server.toml", "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["services"], "https");
    assert_eq!(list[0]["uses"], 1);
    assert!(list[0]["expires"].as_str().unwrap().ends_with('Z'));
    // Longer than the policy's max-ttl: whoever invites decides.
    place.invite("long", &["--ttl", "2d"]);
    assert_eq!(place.check(), "configuration OK\n");
    let why = place.invite_fails("other", &["--service", "htpps"]);
    assert!(why.contains("htpps"), "{why}");
    for wrong in [["--uses", "0"], ["--ttl", "0s"], ["--expires", "tomorrow"], ["--ttl", "30"]] {
        let args = [&["invite", "other", "--config", "s/server.toml"], &wrong[..]].concat();
        place.usage(&args);
    }
    assert!(!place.exists("s/clients/other.toml") && !place.exists("other.toml"));
}

#[test]
fn an_invitation_that_fails_leaves_nothing() {
    let place = Place::with_server();
    place.write("alice.toml", "mine");
    place.invite_fails("alice", &[]);
    assert_eq!(place.read("alice.toml"), "mine");
    place.invite_fails("alice", &["--out", "no/such/dir/alice.toml"]);
    assert!(!place.exists("s/clients/alice.toml"));
    place.invite("bob", &[]);
    let before = place.read("s/clients/bob.toml");
    let why = place.invite_fails("bob", &["--out", "new.toml"]);
    assert!(why.contains("--again") && !place.exists("new.toml"), "{why}");
    assert_eq!(place.read("s/clients/bob.toml"), before);
    place.invite_fails("nobody", &["--again"]);
    // A reader that is gone has not got the key.
    let mut command = place.command(&["invite", "eve", "--config", "s/server.toml", "--out", "-"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(command.stdout(writer).stderr(Stdio::null()).status().unwrap().code(), Some(1));
    assert!(!place.exists("s/clients/eve.toml"));
}

#[test]
fn names_that_could_be_something_else_are_refused() {
    let place = Place::with_server();
    let long = "x".repeat(65);
    let names = ["../x", "a/b", "", ".x", "-x", "a b", "a\nb", "ä", "a\u{1b}[2J", "a\"b", &long];
    for name in names {
        for order in ["invite", "revoke"] {
            place.fail(&[order, "--config", "s/server.toml", "--", name]);
        }
    }
    // Without `--` it is an option that there is not.
    place.usage(&["invite", "-x", "--config", "s/server.toml"]);
    assert_eq!(std::fs::read_dir(place.path("s/clients")).unwrap().count(), 0);
    place.invite(&"x".repeat(64), &[]);
}

#[test]
fn a_qr_code_is_drawn_and_no_file_is_written() {
    let place = Place::new();
    place.init(&["--host", "gate.example.org"]);
    let picture = place.invite("alice", &["--qr"]);
    let link =
        Profile::parse(&place.invite("alice", &["--again", "--out", "-"])).unwrap().to_link();
    // What a camera has to see: the modules of the link, with four light ones around.
    let code = QrCode::with_error_correction_level(link.as_bytes(), EcLevel::L).unwrap();
    let (width, colors) = (code.width(), code.to_colors());
    let rows: Vec<Vec<char>> = picture.lines().map(|l| l.chars().collect()).collect();
    let is_dark = |x: usize, y: usize| match (rows[y / 2][x], y % 2) {
        ('\u{2588}', _) | ('\u{2580}', 0) | ('\u{2584}', 1) => true,
        (' ' | '\u{2580}' | '\u{2584}', _) => false,
        (other, _) => panic!("{other:?}"),
    };
    for (x, y) in (0..width + 8).flat_map(|x| (0..width + 8).map(move |y| (x, y))) {
        let inside = (4..width + 4).contains(&x) && (4..width + 4).contains(&y);
        let wanted = inside && colors[(y - 4) * width + (x - 4)] == Color::Dark;
        assert_eq!(is_dark(x, y), wanted, "{x} {y}\n{picture}");
    }
    assert!(place.exists("s/clients/alice.toml") && !place.exists("alice.toml"));
    place.usage(&["invite", "bob", "--config", "s/server.toml", "--qr", "--out", "x"]);
}

#[test]
fn a_public_name_that_no_client_could_use_is_refused() {
    for public in ["gate.example.org", "a b:1", "a\\\"b:1", "gate.example.org:0"] {
        let place = Place::with_server();
        let line = format!("[server]\npublic = \"{public}\"\n");
        place.write("s/server.toml", place.read("s/server.toml").replace("[server]\n", &line));
        let why = place.invite_fails("alice", &[]);
        assert!(why.contains("public"), "{why}");
        assert!(!place.exists("s/clients/alice.toml"));
    }
}

#[test]
fn clients_are_listed_and_revoked_without_a_key_in_sight() {
    let place = Place::with_server();
    let mut keys = secrets(&place.read("s/server.key"));
    for name in ["alice", "bob"] {
        place.invite(name, &[]);
        keys.extend(secrets(&place.read(&format!("{name}.toml"))));
    }
    place.write("s/clients/broken.toml", place.read("s/clients/bob.toml").replace("\"\n", "\n"));
    let list = place.ok(&["clients", "--config", "s/server.toml"]);
    let json = place.ok(&["clients", "--config", "s/server.toml", "--json"]);
    assert_eq!(leak(&list, &keys).or(leak(&json, &keys)), None);
    assert_eq!(list.lines().count(), 4, "{list}");
    let json: Value = serde_json::from_str(&json).unwrap();
    let names: Vec<&str> =
        json.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bob", "broken"]);
    assert!(json[2]["error"].as_str().unwrap().contains("broken.toml:"), "{json}");
    let said = place.ok(&["revoke", "alice", "--config", "s/server.toml"]);
    assert!(said.contains("no server is running"), "{said}");
    place.ok(&["revoke", "broken", "--config", "s/server.toml"]);
    let why = place.fail(&["revoke", "alice", "--config", "s/server.toml"]);
    assert!(why.contains("no client `alice`"), "{why}");
    assert_eq!(place.ok(&["clients", "--config", "s/server.toml"]).lines().count(), 2);
    for order in ["status", "leases", "reload"] {
        let why = place.fail(&[order, "--config", "s/server.toml"]);
        assert!(why.contains("no server answers at"), "{why}");
    }
}
