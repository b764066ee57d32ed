//! `open`, `close`, `add`: the client's side, without a server.

use super::place::{Place, leak, secrets};
use std::net::UdpSocket;
use std::time::Duration;

/// A place with the client file `alice.toml`, whose server is a socket of ours.
fn with_client() -> (Place, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let place = Place::new();
    place.init(&["--host", &socket.local_addr().unwrap().to_string()]);
    place.invite("alice", &[]);
    (place, socket)
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn what_is_shown_saved_and_sent_is_the_same() {
    let (place, socket) = with_client();
    for order in ["open", "close"] {
        let hex = place.ok(&[order, "--key", "alice.toml", "--hex", "--save", "p"]);
        let saved = std::fs::read(place.path("p")).unwrap();
        assert_eq!(saved.len(), 288);
        assert_eq!(hex, hex_of(&saved) + "\n");
        let other = place.ok(&[order, "--key", "alice.toml", "--hex"]);
        assert_ne!(hex[..48], other[..48], "a nonce of its own");
        assert_eq!(place.ok(&[order, "--key", "alice.toml", "--save", "p"]), "");
        let mut buffer = [0; 2_048];
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], std::fs::read(place.path("p")).unwrap()[..]);
    }
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(socket.recv_from(&mut [0; 2_048]).is_err(), "--hex sends nothing");
}

#[test]
fn addresses_ports_and_services_are_checked_before_anything_is_sent() {
    fn run(more: &str) -> Vec<&str> {
        let words: Vec<&str> = more.split(' ').filter(|w| !w.is_empty()).collect();
        [&["open", "--key", "alice.toml", "--hex"], &words[..]].concat()
    }
    let (place, _socket) = with_client();
    let good = [
        "--ip source",
        "--ip auto",
        "--ip 192.0.2.1",
        "--ip 2001:db8::1",
        "--ip 192.0.2.0/24",
        "--ip 2001:db8::/64",
        "--ip 192.0.2.1 --ip 2001:db8::1",
        "--ip source --ip 2001:db8::1",
        "--for 30s --port tcp/22",
        "--for 2h --port tcp/22 --port udp/5000-5010",
        "--service ssh --service https",
        "10.0.0.1:5",
        "[2001:db8::1]:5",
        "example.org",
    ];
    for more in good {
        // `auto` finds this machine's loopback address, which no server lets in.
        match more {
            "--ip auto" => drop(place.fail(&run(more))),
            _ => assert_eq!(place.ok(&run(more)).len(), 577, "{more}"),
        }
    }
    let bad = [
        "--ip 192.0.2.1 --ip 192.0.2.2",
        "--ip source --ip 192.0.2.1 --ip 2001:db8::1",
        "--ip 127.0.0.1",
        "--ip 0.0.0.0/0",
        "--ip fe80::1",
        "--ip 2000::/16",
        "--ip 10.0.0.0/7",
    ];
    for more in bad {
        assert!(place.fail(&run(more)).contains("--ip"), "{more}");
    }
    let many: Vec<String> = (1..10).map(|n| format!("--port tcp/{n}")).collect();
    assert!(place.fail(&run(&many.join(" "))).contains("eight"));
    let wrong = [
        "--for 0s",
        "--for 30",
        "--port tcp/0",
        "--port 22",
        "--port tcp/9-8",
        "--port tcp/22 --service ssh",
        "--nonsense",
        "--wait=soon",
        "a b",
        "--ip house",
        "--ip ::ffff:192.0.2.1",
        "--ip 192.0.2.1/33",
    ];
    for more in wrong {
        place.usage(&run(more));
    }
    place.usage(&["open"]);
    place.usage(&["open", "--key"]);
    place.usage(&[]);
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let (place, _socket) = with_client();
    let keys = secrets(&place.read("alice.toml"));
    let fail = |args: &[&str]| {
        let why = place.fail(args);
        assert_eq!(leak(&why, &keys), None, "{why}");
        why
    };
    assert!(fail(&["open", "--key", "no.toml"]).contains("no.toml"));
    assert!(fail(&["open", "--key", "nobody"]).contains("xdg/opensesame-spa/nobody.toml"));
    assert!(fail(&["open", "a:b:c", "--key", "alice.toml"]).contains("HOST:PORT"));
    assert!(fail(&["open", "host.invalid:5", "--key", "alice.toml"]).contains("host.invalid"));
    assert!(
        fail(&["open", "--key", "alice.toml", "--save", "no/such/dir"]).contains("no/such/dir")
    );
    // Nobody listens there. A port that the system hands out could be another test's, or even the
    // connection's own.
    let why = fail(&["open", "--key", "alice.toml", "--port", "tcp/1", "--wait=1s"]);
    assert!(why.contains("tcp/1 "), "{why}");
    fail(&["open", "--key", "alice.toml", "--port", "udp/5", "--wait"]);
    place.write("alice.toml", place.read("alice.toml").replace("host = ", "# host = "));
    assert!(fail(&["open", "--key", "alice.toml"]).contains("which server?"));
    assert!(fail(&["open", "10.0.0.1", "--key", "alice.toml"]).contains("no port"));
}

#[test]
fn wait_ends_well_when_the_port_answers() {
    let (place, _socket) = with_client();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp/{}", tcp.local_addr().unwrap().port());
    place.ok(&["open", "--key", "alice.toml", "--port", &port, "--wait=20s"]);
}

#[test]
fn a_file_a_link_and_stdin_are_stored_as_the_same_key() {
    let (place, socket) = with_client();
    let text = place.read("alice.toml");
    let said = place.ok(&["add", "alice.toml"]);
    let stored = "xdg/opensesame-spa/alice.toml";
    assert!(said.contains("--key alice") && place.read(stored) == text, "{said}");
    assert_eq!(place.mode(stored), 0o600);
    assert_eq!(place.mode("xdg/opensesame-spa"), 0o700);
    assert!(place.fail(&["add", "alice.toml"]).contains("not overwritten"));
    place.ok(&["open", "--key", "alice"]);
    assert_eq!(socket.recv(&mut [0; 2_048]).unwrap(), 288);
    std::fs::remove_file(place.path(stored)).unwrap();
    place.ok_with(&["add", "-"], &text);
    assert_eq!(place.read(stored), text);

    let profile = opensesame_spa::client::Profile::parse(&text).unwrap();
    let link = profile.to_link();
    std::fs::remove_file(place.path(stored)).unwrap();
    let out = place.run(&["add", &link]);
    assert!(out.status.success() && !out.stderr.is_empty(), "a warning");
    place.ok(&["open", "--key", "alice"]);
    std::fs::remove_file(place.path(stored)).unwrap();
    place.ok_with(&["add", "-"], &format!("{}\n", *link));
    assert_eq!(secrets(&place.read(stored)), secrets(&text));

    let broken = &link[..link.len() - 5];
    let out = place.run(&["add", broken]);
    assert_eq!(out.status.code(), Some(1));
    let why = String::from_utf8(out.stderr).unwrap();
    assert_eq!(leak(&why, &[broken.split('#').nth(1).unwrap().to_string()]), None, "{why}");
    place.fail(&["add", "-"]);
    let evil = link.replace("alice@", "../../evil@");
    assert!(place.run(&["add", &evil]).status.code() == Some(1) && !place.exists("evil.toml"));
}

#[test]
fn without_xdg_the_keys_are_under_home() {
    let (place, _socket) = with_client();
    let mut command = place.command(&["add", "alice.toml"]);
    assert!(command.env_remove("XDG_CONFIG_HOME").output().unwrap().status.success());
    assert!(place.exists(".config/opensesame-spa/alice.toml"));
}
