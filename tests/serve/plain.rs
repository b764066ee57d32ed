//! The plain key, with clients that were not written here: netcat and a few lines of Python.

use super::server::*;
use crate::netns::obstacle;

/// The plain key on its own port.
pub const PLAIN: &str =
    "\n[[listen]]\nudp = \"0.0.0.0\"\nmode = \"plain\"\n\n[plain]\nopens = [\"tcp/2222\"]\n";

/// A running server that opens tcp/2222 to the plain key; 12345 is the port where none is said.
fn plain(backend: &str, more: &str) -> Option<Server> {
    if obstacle(&["nc"]).is_some() {
        return None;
    }
    let mut server = Server::new(backend)?;
    server.edit("s/server.toml", |text| format!("{text}{PLAIN}{more}"));
    server.listen(2222);
    server.start();
    Some(server)
}

/// What `nc -u` prints when it has sent exactly these bytes: `printf` understands `\n` and `\377`.
fn netcat(server: &Server, host: &str, to: &str, bytes: &str) -> String {
    let line = format!("printf '{bytes}' | nc -u -w 1 {to} 12345");
    server.world.run(host, &["sh", "-c", &line])
}

fn is(server: &Server, host: &str, to: &str, tried: Tried) -> bool {
    server.world.connect(host, to, 2222) == tried
}

fn life(backend: &str) {
    let Some(server) = plain(backend, "") else { return };
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    // A newline makes another text, and so does every other byte.
    for wrong in
        ["open_sesame\\n", "open_sesam", "Open_sesame", "\\377\\376\\000", "", " open_sesame"]
    {
        netcat(&server, CLIENT, SERVER_V4, wrong);
    }
    assert_eq!(server.leases().len(), 0);
    assert_eq!(netcat(&server, CLIENT, SERVER_V4, "open_sesame"), "");
    eventually("open to the sender", || is(&server, CLIENT, SERVER_V4, Tried::Open));
    assert!(is(&server, STRANGER, SERVER_OF_STRANGER, Tried::Silence));
    server.says_all(&["open client=[plain]", "address=10.77.1.2", "ports=tcp/2222"]);
    let first = server.leases()[0]["until"].clone();
    eventually("a second open extends", || {
        netcat(&server, CLIENT, SERVER_V4, "open_sesame");
        server.leases().len() == 1 && server.leases()[0]["until"] != first
    });
    // What a stranger says ends his own lease, of which he has none.
    netcat(&server, STRANGER, SERVER_OF_STRANGER, "close_sesame");
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Open));
    // Six lines of Python close it.
    let code = format!(
        "import socket\n\
         s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
         s.settimeout(1)\n\
         s.sendto(b'close_sesame', ('{SERVER_V4}', 12345))\n\
         try: print(s.recv(99))\n\
         except TimeoutError: print('silence')\n"
    );
    assert_eq!(server.world.run(CLIENT, &["python3", "-c", &code]), "silence\n");
    eventually("closed", || is(&server, CLIENT, SERVER_V4, Tried::Silence));
    assert_eq!(server.leases().len(), 0);
    let status = server.order(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    assert!(status["accepted-by"]["plain"].as_u64().unwrap() >= 3, "{status}");
    server.says_all(&["[plain] is on"]);
}

/// Taken out of the network: no port is open, and rules that drop the packets do not matter.
#[test]
fn plain_key_by_capture() {
    if obstacle(&["nc"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    let captured = PLAIN.replace("udp = \"0.0.0.0\"", "capture = \"any\"");
    server.edit("s/server.toml", |text| text + &captured);
    server.listen(2222);
    server.start();
    let drops = "add table inet other; add chain inet other in { type filter hook input priority -200; }; \
                 add rule inet other in udp dport 12345 drop";
    server.world.run(SERVER, &["nft", drops]);
    let sockets = server.world.run(SERVER, &["cat", "/proc/net/udp", "/proc/net/udp6"]);
    assert!(!sockets.contains(&format!(":{:04X} ", 12_345)), "{sockets}");
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    netcat(&server, CLIENT, SERVER_V4, "open_sesame\\n");
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    netcat(&server, CLIENT, SERVER_V4, "open_sesame");
    eventually("open to the sender", || is(&server, CLIENT, SERVER_V4, Tried::Open));
    netcat(&server, CLIENT, SERVER_V4, "close_sesame");
    eventually("closed", || is(&server, CLIENT, SERVER_V4, Tried::Silence));
}

#[test]
fn plain_key_on_nftables() {
    life("nftables");
}

#[test]
fn plain_key_on_iptables() {
    life("iptables");
}

#[test]
fn plain_replies_go_to_those_who_know_the_key() {
    let Some(server) = plain("nftables", "replies = true\nttl = \"5m\"\n") else { return };
    let text = netcat(&server, CLIENT, SERVER_V4, "open_sesame");
    assert_eq!(text, "Your IP has been authorized. You can now access this port.");
    let text = netcat(&server, CLIENT, SERVER_V4, "close_sesame");
    assert_eq!(text, "Your IP has been de-authorized. You can no longer access this port.");
    assert_eq!(netcat(&server, STRANGER, SERVER_OF_STRANGER, "open sesame"), "");
    assert_eq!(server.leases().len(), 0);
}

/// A restart keeps the lease, a key that the file does not name any more opens nothing.
#[test]
fn plain_leases_live_over_a_restart_and_end_with_the_entry() {
    let Some(mut server) = plain("nftables", "ttl = \"5m\"\n") else { return };
    netcat(&server, CLIENT, SERVER_V4, "open_sesame");
    server.knows_leases(1);
    server.stop();
    server.start();
    server.knows_leases(1);
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Open));
    server.edit("s/server.toml", |text| text.replace("[plain]", "[plain]\nopen = \"other\""));
    server.order(&["reload"]);
    netcat(&server, STRANGER, SERVER_OF_STRANGER, "open_sesame");
    assert!(is(&server, STRANGER, SERVER_OF_STRANGER, Tried::Silence));
    netcat(&server, STRANGER, SERVER_OF_STRANGER, "other");
    eventually("by the new key", || is(&server, STRANGER, SERVER_OF_STRANGER, Tried::Open));
}

/// Our own client says exactly what it is told, and can wait for the reply.
#[test]
fn plain_key_by_say() {
    let Some(server) = plain("nftables", "replies = true\nttl = \"5m\"\n") else { return };
    let say = |host: &str, input: &str, args: &[&str]| {
        let line = format!("printf '{input}' | \"$@\"");
        let shell = ["sh", "-c", &line, "sh", BIN, "say"];
        server.world.try_run(host, &[&shell[..], args].concat())
    };
    for wrong in ["open_sesame\n", "open_sesame "] {
        let done = say(STRANGER, "", &[SERVER_OF_STRANGER, wrong, "--reply"]);
        assert_eq!(done.status.code(), Some(1), "{wrong:?}");
        assert!(done.stdout.is_empty());
    }
    let newline = say(STRANGER, "open_sesame\\n", &[SERVER_OF_STRANGER, "-"]);
    assert!(newline.status.success());
    assert!(is(&server, STRANGER, SERVER_OF_STRANGER, Tried::Silence));
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Silence));
    let opened = say(CLIENT, "open_sesame", &[SERVER_V4, "-", "--reply"]);
    let text = String::from_utf8_lossy(&opened.stdout);
    assert_eq!(text, "Your IP has been authorized. You can now access this port.\n");
    eventually("open", || is(&server, CLIENT, SERVER_V4, Tried::Open));
    let to = format!("{SERVER_V4}:12345");
    let closed = say(CLIENT, "", &[&to, "close_sesame"]);
    assert!(closed.status.success() && closed.stdout.is_empty());
    eventually("closed", || is(&server, CLIENT, SERVER_V4, Tried::Silence));
    let usage = say(CLIENT, "", &["a:b:c", "open_sesame"]);
    assert_eq!(usage.status.code(), Some(1));
}

/// The test server: it says what it would do, and the kernel is left alone.
#[test]
fn plain_key_on_dry_run() {
    let Some(server) = plain("dry-run", "") else { return };
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Open));
    netcat(&server, CLIENT, SERVER_V4, "open_sesame");
    server.knows_leases(1);
    server.says_all(&["would open tcp/2222 for 10.77.1.2"]);
    netcat(&server, CLIENT, SERVER_V4, "close_sesame");
    server.knows_leases(0);
    assert!(is(&server, CLIENT, SERVER_V4, Tried::Open));
}
