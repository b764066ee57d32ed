//! Many clients in one file.

use super::server::*;
use opensesame_spa::crypto::ClientKey;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const STAFF: &str = "s/clients/staff.toml";
/// More than wait for [engine] at one time, and than a socket holds.
const OTHERS: usize = 5_000;

fn entry(name: &str, text: &str) -> String {
    format!("[[client]]\nname = \"{name}\"\n{text}\n")
}

/// Clients who never come.
fn others() -> String {
    let one = |n: usize| {
        let key = ClientKey::generate().unwrap();
        let text = format!("id = \"{:016x}\"\nkey = \"{}\"\n", n + 1, *key.to_text());
        entry(&format!("user-{n}"), &text)
    };
    (0..OTHERS).map(one).collect()
}

/// A server with alice in a file of her own, and with bob and carol among thousands in another one.
fn server() -> Option<Server> {
    let mut server = Server::new("nftables")?;
    server.listen(22);
    let mut text = String::from("# The staff.\nmax-ttl = \"1h\"\n\n");
    for (name, more) in [("bob", others()), ("carol", String::new())] {
        server.invite(name, &[]);
        let own = format!("s/clients/{name}.toml");
        text.push_str(&(entry(name, &server.read(&own)) + &more));
        std::fs::remove_file(server.path(&own)).unwrap();
    }
    text.push_str("# The end.\n");
    server.write(STAFF, &text);
    mode(&server, 0o600);
    server.start();
    Some(server)
}

fn mode(server: &Server, mode: u32) {
    std::fs::set_permissions(server.path(STAFF), Permissions::from_mode(mode)).unwrap();
}

/// Waits until the files have been read once more, and [engine] works with them.
fn reloads(server: &Server, change: impl FnOnce()) {
    let count = || server.log().matches("engine: told of ").count();
    let before = count();
    change();
    eventually("reloaded", || count() > before);
}

#[test]
fn one_of_thousands_comes_and_is_revoked() {
    let Some(mut server) = server() else { return };
    server.says(&format!("ready: {} clients", OTHERS + 3));
    server.open("bob", &["--for", "10m", "--wait=20s"]);
    server.open("carol", &["--for", "10m", "--ip", STRANGER_V4]);
    server.becomes_open(STRANGER);
    // The head of the file counts for all of them.
    server.open("bob", &["--for", "8h", "--ip", "10.88.0.1"]);
    server.says_all(&["open client=bob", "10.88.0.1", "ttl=1h"]);
    let list = server.order(&["clients"]);
    let names = list.lines().filter_map(|l| l.split_whitespace().next());
    assert_eq!(names.count(), OTHERS + 3 + 1);
    std::fs::rename(server.path("bob.toml"), server.path("before.toml")).unwrap();
    server.invite("bob", &["--again"]);
    assert_eq!(server.profile("bob").key, server.profile("before").key);
    let out = server.run(SERVER, &["invite", "carol", "--config", "s/server.toml", "--out", "x"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("carol is a client already"));

    // What is as it was, [engine] is not told again.
    reloads(&server, || drop(server.order(&["reload"])));
    server.says("told of 0 clients that are new");
    let before = server.read(STAFF);
    let said = server.order(&["revoke", "bob"]);
    assert!(said.contains("its leases have ended"), "{said}");
    assert_eq!(server.tries(CLIENT), Tried::Silence, "the order is done when it is answered");
    assert_eq!(server.tries(STRANGER), Tried::Open);
    let (head, rest) = before.split_once("[[client]]").unwrap();
    let rest = rest.split_once("[[client]]").unwrap().1;
    assert_eq!(server.read(STAFF), format!("{head}[[client]]{rest}"), "his entry and no more");
    let rights = std::fs::metadata(server.path(STAFF)).unwrap().permissions();
    assert_eq!(rights.mode() & 0o777, 0o600);
    server.open("bob", &[]);
    eventually("unknown", || server.refused("unknown-client") == 1);
    // A whole file by the name of nobody is nobody.
    let out = server.run(SERVER, &["revoke", "staff", "--config", "s/server.toml"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("no client `staff`"));
    // A new [engine] is told of the others, and not of him.
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    server.open("bob", &["--ip", "10.88.0.2"]);
    server.open("carol", &["--for", "10m", "--ip", "10.88.0.3"]);
    server.says_all(&["open client=carol", "10.88.0.3"]);
    assert_eq!(server.leases().len(), 2);
    // Without its file nobody of it is left.
    reloads(&server, || std::fs::remove_file(server.path(STAFF)).unwrap());
    server.says("and 4981 more such lines");
    server.becomes_shut(STRANGER);
    assert_eq!(server.leases().len(), 0);
    server.open("alice", &["--wait=20s"]);
}

#[test]
fn a_faulty_entry_costs_nobody_else_anything() {
    let Some(mut server) = server() else { return };
    let good = server.read(STAFF);
    let opens = |server: &Server, name: &str, address: &str| {
        server.open(name, &["--for", "10m", "--ip", address]);
        server.says_all(&[&format!("open client={name} "), address]);
    };
    // Carol's entry: broken, without its key, and with somebody else's id.
    let (others, carol) = good.split_at(good.find("[[client]]\nname = \"carol\"").unwrap());
    let line = others.lines().count();
    let wrong = |from: &str, to: &str| format!("{others}{}", carol.replace(from, to));
    let stays = "client=carol stays as it was";
    for (n, (bad, place)) in [
        (wrong("key = \"", "key = \"AAAA"), format!(":{}:7", line + 5)),
        (wrong("id = ", "idd = "), format!(":{}:1", line + 4)),
        (wrong("name = \"carol\"", "name = \"carol\"\nid = "), format!(":{}:", line + 3)),
    ]
    .into_iter()
    .enumerate()
    {
        let bob = good.replace("max-ttl = \"1h\"", &format!("max-ttl = \"{}m\"", n + 2));
        let bad = bad.replace(good.get(..30).unwrap(), bob.get(..30).unwrap());
        reloads(&server, || server.write(STAFF, &bad));
        server.says_all(&[stays, "staff.toml", &place]);
        opens(&server, "carol", &format!("10.88.1.{}", n + 1));
        server.says(&format!("told of {} clients that are new", OTHERS + 1));
        // The others count as the file says now.
        opens(&server, "bob", &format!("10.88.2.{}", n + 1));
        server.says_all(&[
            "open client=bob",
            &format!("10.88.2.{}", n + 1),
            &format!("ttl={}m", n + 2),
        ]);
    }
    // A file that cannot be read, or taken apart, leaves all of them as they were.
    reloads(&server, || {
        server.write(STAFF, &good);
        mode(&server, 0o644);
        server.order(&["reload"]);
    });
    server.says_all(&[&format!("{} clients stay as they were", OTHERS + 2), "chmod 600"]);
    opens(&server, "carol", "10.88.3.1");
    // A new [engine] cannot know them; with their file they are back, and nothing else has to change.
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    server.open("carol", &["--ip", "10.88.3.2"]);
    eventually("unknown", || server.refused("unknown-client") == 1);
    mode(&server, 0o600);
    server.order(&["reload"]);
    opens(&server, "carol", "10.88.3.3");
    // Two of one name: the one in the first file counts.
    let own = carol.split_once('\n').unwrap().1.split_once('\n').unwrap().1;
    reloads(&server, || {
        server.write("s/clients/carol.toml.new", own);
        let (new, path) = (server.path("s/clients/carol.toml.new"), "s/clients/carol.toml");
        std::fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, server.path(path)).unwrap();
    });
    server.says_all(&["client=carol is left out", "staff.toml", "of another client"]);
    opens(&server, "carol", "10.88.3.4");
    // And both are taken out together.
    server.order(&["revoke", "carol"]);
    assert!(!server.path("s/clients/carol.toml").exists());
    assert!(!server.read(STAFF).contains("\"carol\""));
    server.open("carol", &["--ip", "10.88.3.5"]);
    eventually("unknown", || server.refused("unknown-client") == 2);
}
