//! What was granted and is not open yet when an administrator evicts.

use super::server::*;
use super::slow::send_all;
use opensesame_spa::access::Request;
use opensesame_spa::client::Profile;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// More than [priv] reads of [engine] before it looks for orders, by so many clients.
const GUESTS: u64 = 8;
const EACH: u64 = 800;

fn ask(profile: &Profile, addresses: [&str; 2], change: impl FnOnce(&mut Request)) -> [u8; 288] {
    let [v4, v6] = addresses.map(|a| (!a.is_empty()).then(|| a.parse().unwrap()));
    let mut request = Request { source: false, v4, v6, ttl: 3_600, ..wish(wall()) };
    change(&mut request);
    packet(profile, &request)
}

/// Address and client of each lease.
fn leases(server: &Server) -> Vec<[String; 2]> {
    let said = |l: &serde_json::Value, what: &str| l[what].as_str().unwrap().to_string();
    let list = server.leases();
    let mut all: Vec<_> = list.iter().map(|l| [said(l, "address"), said(l, "client")]).collect();
    all.sort();
    all
}

fn in_kernel(server: &Server) -> usize {
    let set = |name| server.world.run(SERVER, &["nft", "list", "set", "inet", "opensesame", name]);
    ["lease4", "lease6"].map(|name| set(name).matches(" expires ").count()).iter().sum()
}

#[test]
fn what_was_granted_before_an_eviction_does_not_open_after_it() {
    let Some(mut server) = Server::new("nftables") else { return };
    for n in 0..GUESTS {
        server.invite(&format!("guest{n}"), &[]);
        server.amend(&format!("guest{n}"), "max-leases = 1000");
    }
    server.start();
    let guests: Vec<Profile> = (0..GUESTS).map(|n| server.profile(&format!("guest{n}"))).collect();
    // What one of them will replace.
    server.send(CLIENT, &ask(&guests[1], ["198.51.100.1", ""], |_| ()));
    server.knows_leases(1);

    let (parent, _) = server.pids();
    kill("STOP", &[parent]);
    for (n, guest) in guests.iter().enumerate() {
        // The date of a packet is the client's: the clocks of some are ahead.
        let ahead = if n < 4 { 0 } else { 30_000 };
        let some = (0..EACH).map(|m| {
            let address = format!("10.{n}.{}.{}", m / 250, m % 250 + 1);
            ask(guest, [&address, ""], |r| r.time.0 += ahead)
        });
        send_all(&server, CLIENT, &some.collect::<Vec<_>>());
    }
    let last = [
        ask(&guests[0], ["10.99.0.1", "2001:db8::1"], |_| ()),
        ask(&guests[2], ["203.0.113.1", ""], |_| ()),
        ask(&guests[1], ["10.99.0.1", ""], |r| r.replace = true),
    ];
    send_all(&server, CLIENT, &last);
    let mut order = UnixStream::connect(server.path("s/control.sock")).unwrap();
    order.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    order.write_all(b"evict 10.0.0.0/8\n").unwrap();
    kill("CONT", &[parent]);
    let mut answer = String::new();
    BufReader::new(order).read_line(&mut answer).unwrap();
    assert!(answer.contains("ended"), "{answer}");

    // Whatever comes behind it is as good as ever.
    server.send(CLIENT, &ask(&guests[3], ["10.3.0.1", ""], |_| ()));
    let wanted = [["10.3.0.1", "guest3"], ["2001:db8::1", "guest0"], ["203.0.113.1", "guest2"]]
        .map(|lease| lease.map(String::from));
    eventually("what was granted elsewhere, and since", || leases(&server).len() >= wanted.len());
    assert_eq!(leases(&server), wanted);
    assert_eq!(in_kernel(&server), wanted.len());
    assert_eq!(server.status()["accepted"], GUESTS * EACH + 5);
    // The journal says the same.
    server.crash();
    server.start();
    assert_eq!(leases(&server), wanted);
}

#[test]
fn what_engine_could_not_be_told_of_an_eviction_is_evicted_when_it_is_back() {
    let Some(mut server) = Server::running("nftables") else { return };
    server.open("alice", &["--for", "10m", "--wait=20s"]);
    let (_, engine) = server.pids();
    kill("STOP", &[engine]);
    let mut order = UnixStream::connect(server.path("s/control.sock")).unwrap();
    order.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    order.write_all(b"evict 10.0.0.0/8\n").unwrap();
    // It is done before [engine] knows.
    server.becomes_shut(CLIENT);
    kill("KILL", &[engine]);
    let mut answer = String::new();
    BufReader::new(order).read_line(&mut answer).unwrap();
    assert_eq!(answer, "{\"ended\":1}\n");
    server.wait_engine();
    assert_eq!(server.leases().len(), 0);
    server.crash();
    server.start();
    assert_eq!(server.leases().len(), 0);
}
