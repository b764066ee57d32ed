//! `server.toml` that cannot be meant so: where, and a piece of what is said.

use super::place::Place;

const GOOD: &str = "[server]
state-dir = \"/nowhere/state\"
control = \"/nowhere/control.sock\"

[firewall]
backend = \"dry-run\"

[[listen]]
udp = \"127.0.0.1:41841\"

[service.ssh]
ports = [\"tcp/22\"]

[policy]
services = [\"ssh\"]
";

/// What is replaced, by what, and the line, the column and a piece of the message.
const WRONG: [(&str, &str, &str, &str); 75] = [
    ("[server]\n", "[server]\ncolour = 1\n", ":2:1: ", "unknown field `colour`"),
    ("[policy]", "[polcy]", ":14:2: ", "unknown field `polcy`"),
    ("[policy]\n", "[policy]\nmax_ttl = \"1h\"\n", ":15:1: ", "unknown field `max_ttl`"),
    ("[server]", "[server", ":1:8: ", ""),
    ("\"/nowhere/state\"", "7", ":2:13: ", "invalid type"),
    ("\"/nowhere/state\"", "\"state\"", ":2:13: ", "absolute path"),
    ("\"/nowhere/control.sock\"", "\"control.sock\"", ":3:11: ", "absolute path"),
    ("\"/nowhere/state\"", "\"/nowhere/state", ":2:", ""),
    ("state-dir", "control = \"/a\"\nstate-dir", ":4:1: ", "duplicate key"),
    ("[server]\n", "[server]\nallow-test-keys = \"yes\"\n", ":2:19: ", "boolean"),
    ("\"dry-run\"", "\"ufw\"", ":6:11: ", "unknown variant `ufw`"),
    ("\"dry-run\"", "\"dry-run\"\nmode = \"fence\"", ":7:8: ", "unknown variant `fence`"),
    ("backend = \"dry-run\"", "", ":5:1: ", "missing field `backend`"),
    ("127.0.0.1:41841", "127.0.0.1:0", ":9:7: ", "port 0"),
    ("127.0.0.1:41841", "127.0.0.1", ":9:7: ", "no ADDR:PORT"),
    ("127.0.0.1:41841", "127.0.0.1:70000", ":9:7: ", "no ADDR:PORT"),
    ("127.0.0.1:41841\"", "127.0.0.1:41841\"\nmode = \"shout\"", ":10:8: ", "unknown variant"),
    (
        "127.0.0.1:41841\"\n",
        "127.0.0.1:25\"\n[service.x]\nports = [\"udp/20-30\"]\n",
        ":9:7: ",
        "udp/25",
    ),
    ("[[listen]]\nudp = \"127.0.0.1:41841\"\n", "", "", "one to 16 of them"),
    ("[[listen]]\nudp", "listen = []\n[server.x]\nudp", "", ""),
    ("[service.ssh]", "[service.\"a b\"]", ":11:", "name"),
    ("[service.ssh]", "[service.\"\"]", ":11:", "name"),
    ("tcp/22", "tcp/0", ":12:", "`tcp/0`"),
    ("tcp/22", "tcp/70000", ":12:", "`tcp/70000`"),
    ("tcp/22", "tcp/30-20", ":12:", "`tcp/30-20`"),
    ("tcp/22", "22", ":12:", "`22`"),
    ("tcp/22", "sctp/22", ":12:", "`sctp/22`"),
    ("[\"tcp/22\"]", "[]", ":11:", "ports"),
    ("[\"tcp/22\"]", "\"tcp/22\"", ":12:9: ", "invalid type"),
    ("[\"tcp/22\"]", "[\"tcp/22\"]\non-expiry = \"end\"", ":13:13: ", "unknown variant `end`"),
    ("[\"tcp/22\"]", "[\"tcp/22\"]\nrequire = \"much\"", ":13:11: ", "unknown variant `much`"),
    ("[\"ssh\"]", "[\"shh\"]", ":15:13: ", "no [service.shh]"),
    ("[\"ssh\"]", "[]\nttl = \"forever\"", ":16:7: ", "`forever` is no duration"),
    ("[\"ssh\"]", "[]\nttl = 30", ":16:7: ", "invalid type"),
    ("[\"ssh\"]", "[]\nttl = \"2h\"\nmax-ttl = \"1h\"", ":17:11: ", "longer than max-ttl"),
    ("[\"ssh\"]", "[]\nmax-leases = 0", ":16:14: ", "max-leases"),
    ("[\"ssh\"]", "[]\nmax-leases = 70000", ":16:14: ", ""),
    ("[\"ssh\"]", "[]\nmax-prefix-v4 = 33", ":16:17: ", "8 to 32"),
    ("[\"ssh\"]", "[]\nmax-prefix-v4 = 7", ":16:17: ", "8 to 32"),
    ("[\"ssh\"]", "[]\nmax-prefix-v6 = 129", ":16:17: ", "32 to 128"),
    ("[\"ssh\"]", "[]\nmax-age = \"2h\"", ":16:11: ", "at most 1h"),
    // Captures.
    ("udp = \"127.0.0.1:41841\"", "", ":8:1: ", "`udp` or `capture`"),
    ("udp = \"127.0.0.1:41841\"", "capture = \"any\"", ":9:11: ", "a `port`"),
    ("udp = \"127.0.0.1:41841\"", "capture = \"any\"\nport = 0", ":10:8: ", "port 0"),
    ("udp = \"127.0.0.1:41841\"", "capture = \"any\"\nport = 70000", ":10:8: ", ""),
    ("udp = \"127.0.0.1:41841\"", "capture = \"\"\nport = 1", ":9:11: ", "no name"),
    ("udp = \"127.0.0.1:41841\"", "capture = \"a/b\"\nport = 1", ":9:11: ", "no name"),
    ("41841\"\n", "41841\"\ncapture = \"any\"\n", ":10:11: ", "not both"),
    ("41841\"\n", "41841\"\nport = 41841\n", ":10:8: ", "belongs to `capture`"),
    (
        "41841\"\n",
        "41841\"\n[[listen]]\ncapture = \"any\"\nport = 41841\n",
        ":11:11: ",
        "count twice",
    ),
    (
        "udp = \"127.0.0.1:41841\"\n",
        "capture = \"a\"\nport = 1\n[[listen]]\ncapture = \"any\"\nport = 1\n",
        ":12:11: ",
        "already",
    ),
    (
        "udp = \"127.0.0.1:41841\"\n",
        "capture = \"any\"\nmode = \"plain\"\n",
        "",
        "there is no [plain]",
    ),
    // Knocks.
    ("127.0.0.1:41841\"", "127.0.0.1:41841\"\nmode = \"knock\"", ":9:7: ", "or `capture`"),
    ("[policy]", "[knock]\n[policy]", ":14:1: ", "missing field `opens`"),
    ("[policy]", "[knock]\nopens = []\n[policy]", ":15:9: ", "one to"),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nsequence = [1, 2]\n[policy]",
        ":16:12: ",
        "3 to 8 steps",
    ),
    ("[policy]", "[knock]\nopens = [\"tcp/1\"]\nsequence = [1, 0, 2]\n[policy]", ":16:", "no port"),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nsequence = [1, \"tcp/2\", 3]\n[policy]",
        ":15:9: ",
        "captured",
    ),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nclose = [1560, 6580, 8153]\n[policy]",
        ":16:9: ",
        "the same",
    ),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nwindow = \"11m\"\n[policy]",
        ":16:10: ",
        "1 to 600",
    ),
    ("[policy]", "[knock]\nopens = [\"tcp/1\"]\ntotal = \"11m\"\n[policy]", ":16:9: ", "1 to 600"),
    ("[policy]", "[knock]\nopens = [\"tcp/1\"]\nttl = \"11m\"\n[policy]", ":16:7: ", "10m"),
    ("[policy]", "[knock]\nopens = [\"tcp/1\"]\nlabel = \"a b\"\n[policy]", ":16:9: ", "label"),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nsequence = [1, 41841, 2]\n[policy]",
        ":15:9: ",
        "another listener",
    ),
    (
        "[policy]",
        "[knock]\nopens = [\"tcp/1\"]\nsequence = [1, 2, 2]\n[policy]",
        ":16:12: ",
        "twice in a row",
    ),
    (
        "ports = [\"tcp/22\"]\n",
        "ports = [\"tcp/22\"]\nrequire = \"timed-knock\"\n[knock]\nopens = [\"tcp/22\"]\n",
        ":15:9: ",
        "a stronger proof",
    ),
    // The plain key.
    ("[policy]", "[plain]\n[policy]", ":14:1: ", "missing field `opens`"),
    ("[policy]", "[plain]\nopens = []\n[policy]", ":15:9: ", "one to"),
    ("[policy]", "[plain]\nopens = [\"2222\"]\n[policy]", ":15:", "`2222`"),
    ("[policy]", "[plain]\nopens = [\"tcp/1\"]\nttl = \"11m\"\n[policy]", ":16:7: ", "at most 10m"),
    ("[policy]", "[plain]\nopens = [\"tcp/1\"]\nopen = \"\"\n[policy]", ":16:8: ", "1 to 64"),
    (
        "[policy]",
        "[plain]\nopens = [\"tcp/1\"]\nopen = \"close_sesame\"\n[policy]",
        "",
        "the same text",
    ),
    (
        "[\"tcp/22\"]\n",
        "[\"tcp/22\"]\nrequire = \"sealed\"\n[plain]\nopens = [\"tcp/22\"]\n",
        ":15:9: ",
        "[service.ssh] has one of these ports and requires a stronger proof",
    ),
    // The same four bytes in a packet.
    (
        "[service.ssh]",
        "[service.svc24848]\nports = [\"tcp/1\"]\n[service.svc93803]",
        ":13:",
        "svc24848",
    ),
    ("[[listen]]", "\u{0}[[listen]]", ":8:2: ", ""),
];

fn check(place: &Place, text: impl AsRef<[u8]>) -> String {
    place.write("s/server.toml", text);
    place.fail(&["serve", "--check", "--config", "s/server.toml"])
}

#[test]
fn every_mistake_is_shown_where_it_is() {
    let place = Place::with_server();
    place.write("s/server.toml", GOOD);
    assert_eq!(place.check(), "configuration OK\n");
    for (from, to, at, piece) in WRONG {
        assert!(GOOD.contains(from), "{from}");
        let why = check(&place, GOOD.replacen(from, to, 1));
        assert!(why.contains(&format!("s/server.toml{at}")), "{to}: {at} is not in {why}");
        assert!(why.contains(piece), "{to}: {piece} is not in {why}");
    }
}

#[test]
fn the_samples_are_sound() {
    let place = Place::with_server();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples");
    let mut samples = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        place.write("s/server.toml", std::fs::read(entry.unwrap().path()).unwrap());
        assert_eq!(place.check(), "configuration OK\n");
        samples += 1;
    }
    assert!(samples >= 4);
}

/// A capture may watch a port that is shut, and two interfaces the same port.
#[test]
fn captures_that_can_be_meant_so() {
    let place = Place::with_server();
    let sound = [
        "capture = \"any\"\nport = 41841\n",
        "capture = \"eth0.7\"\nport = 53\n[service.dns]\nports = [\"udp/53\"]\n",
        "capture = \"a\"\nport = 1\n[[listen]]\ncapture = \"b\"\nport = 1\n",
        "capture = \"any\"\nmode = \"plain\"\n[plain]\nopens = [\"tcp/2222\"]\n",
    ];
    for listen in sound {
        let text = GOOD.replace("udp = \"127.0.0.1:41841\"\n", listen);
        place.write("s/server.toml", &text);
        assert_eq!(place.check(), "configuration OK\n", "{text}");
    }
}

#[test]
fn what_is_no_text_is_no_configuration() {
    let place = Place::with_server();
    let mut bytes = GOOD.as_bytes().to_vec();
    bytes[40] = 0xff;
    assert!(check(&place, &bytes).contains("UTF-8"));
    assert!(check(&place, "").contains("missing field"));
    std::fs::remove_file(place.path("s/server.toml")).unwrap();
    for order in [&["serve"][..], &["serve", "--check"], &["serve", "--shield-only"], &["clients"]]
    {
        let why = place.fail(&[order, &["--config", "s/server.toml"]].concat());
        assert!(why.contains("s/server.toml: "), "{why}");
    }
}

#[test]
fn a_check_sees_the_programs_of_hooks_too() {
    let place = Place::with_server();
    let program = place.path("hook");
    let line = format!("[\"tcp/22\"]\non-close = [\"{}\", \"{{client}}\"]\n", program.display());
    place.write("s/server.toml", GOOD.replace("[\"tcp/22\"]\n", &line));
    let refused = |what: &str| {
        let why = place.fail(&["serve", "--check", "--config", "s/server.toml"]);
        assert!(why.contains("s/server.toml: hook /") && why.contains(what), "{why}");
    };
    refused("No such file");
    place.write("hook", "#!/bin/sh\n");
    refused("may be executed");
    place.chmod("hook", 0o757);
    refused("others than root can write to");
    place.chmod("hook", 0o755);
    assert_eq!(place.check(), "configuration OK\n");
}

#[test]
fn a_check_sees_the_clients_too() {
    let place = Place::with_server();
    place.invite("alice", &[]);
    let text = place.read("s/clients/alice.toml");
    let wrong = [
        ("services = [\"ssl\"]", "ssl"),
        ("ttl = \"9h\"", "max-ttl"),
        ("max-leases = 0", "max-leases"),
        ("max-prefix-v4 = 40", "max-prefix-v4"),
        ("sources = [\"10.0.0.0/33\"]", "sources"),
        ("expires = \"tomorrow\"", "expires"),
        ("services = []", "services"),
        ("uses = -1", ":4:"),
        ("colour = 1", ":4:"),
    ];
    for (line, piece) in wrong {
        place.write("s/clients/alice.toml", format!("{text}{line}\n"));
        let why = place.fail(&["serve", "--check", "--config", "s/server.toml"]);
        // What only server.toml makes wrong has no place in this file.
        let at = if line.contains("ssl") || line.contains("9h") { ": " } else { ":4:" };
        assert!(why.contains(&format!("clients/alice.toml{at}")), "{line}: {why}");
        assert!(why.contains(piece), "{line}: {why}");
    }
    place.write("s/clients/alice.toml", &text);
    place.write("s/clients/bob.toml", &text);
    let why = place.fail(&["serve", "--check", "--config", "s/server.toml"]);
    assert!(why.contains("clients/bob.toml") && why.contains("another client"), "{why}");
}
