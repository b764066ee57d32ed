//! The gate over loopback sockets: what is served, what costs, what tricks come to.
#![allow(clippy::unwrap_used)]

#[path = "gate/running.rs"]
mod running;

use opensesame_spa::gate::Limits;
use running::*;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

#[test]
fn three_unknown_paths_pass_the_fourth_blocks_and_the_pin_lets_back_in() {
    let gate = start(limits(), &[], true);
    for n in 1..=3 {
        let text = gate.get(&format!("/admin{n}"));
        assert_eq!((status(&text), line(&text, "location")), (303, Some("/")), "{text}");
        assert_eq!(status(&gate.get("/")), 200);
    }
    assert_eq!(status(&gate.get("/favicon.ico")), 404);
    assert_eq!(gate.strikes(), 3);
    assert_eq!(status(&gate.get("/admin4")), 403);
    let text = gate.get("/");
    assert_eq!(status(&text), 403);
    assert!(text.contains("Recovery PIN") && !text.contains("first"), "{text}");
    assert_eq!(line(&text, "cache-control"), Some("no-store"));
    assert!(line(&text, "content-security-policy").unwrap().contains("default-src 'none'"));
    assert!(gate.get("/000000").contains("3 tries are left"));
    assert!(gate.post("pin=111").contains("2 tries are left"));
    assert_eq!(gate.strikes(), 4, "who is blocked costs no more");
    let text = gate.post("pin=1234+5678+9012");
    assert_eq!((status(&text), line(&text, "location")), (303, Some("/")));
    assert!(gate.get("/").contains("first"));
    // Digits are a path like any other for who is not blocked.
    assert_eq!(status(&gate.get("/123456789012")), 303);
    assert_eq!(gate.strikes(), 5);
    // The form of somebody whose block has ended meanwhile; nothing else is posted to.
    assert_eq!(status(&gate.post("pin=123456789012")), 303);
    assert_eq!(status(&gate.ask("POST", "/a.txt", "")), 405);
}

#[test]
fn the_pin_as_a_path() {
    let gate = start(limits(), &[], true);
    (0..4).for_each(|_| drop(gate.get("/x")));
    assert_eq!(status(&gate.get("/")), 403);
    assert_eq!(status(&gate.ask("HEAD", "/123456789012", "")), 403);
    assert_eq!(status(&gate.get("/123456789012")), 303);
    assert_eq!(status(&gate.get("/")), 200);
}

#[test]
fn a_body_that_is_too_large_is_no_guess() {
    let gate = start(limits(), &[], true);
    (0..4).for_each(|_| drop(gate.get("/x")));
    let text = gate.post(&format!("x={}&pin=123456789012", "y".repeat(1_100)));
    assert!(text.is_empty() || status(&text) == 403, "{text}");
    assert_eq!(status(&gate.get("/")), 403);
    assert_eq!(status(&gate.post("pin=123456789012")), 303);
    assert_eq!(status(&gate.ask("POST", "/a.txt", "")), 405);
}

#[test]
fn tricks_reach_nothing_and_cost() {
    let tricks = [
        "/../secret.txt",
        "/secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "//a.txt",
        "/./a.txt",
        "/a.txt/",
        "/a%2etxt",
        "/a.txt%00",
        "/%61.txt%20",
        "/%252e",
        "/..\\secret.txt",
        "/a.txt%",
        "/%ff",
        "http://x/a.txt",
        "/index.html/..",
        "/A.TXT",
        "a.txt",
        "/*",
    ];
    for trick in tricks {
        let gate = start(limits(), &[], true);
        let text = gate.get(trick);
        assert_eq!(status(&text), 303, "{trick}: {text}");
        assert!(!text.contains("SECRET") && !text.contains("012345"), "{trick}: {text}");
        assert_eq!(gate.strikes(), 1, "{trick}");
    }
    let gate = start(limits(), &[], true);
    // One way of writing besides the plain one: what has to be encoded may be.
    assert!(gate.get("/d/a%20b.txt").ends_with("0123456789"));
    for nonsense in [&b"\x16\x03\x01\x02\r\n\r\n"[..], b"GET / HTTP/9\r\n\r\n"] {
        let text = gate.raw(nonsense);
        assert!(text.is_empty() || status(&text) == 400, "{text}");
    }
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(40_000));
    let text = gate.raw(long.as_bytes());
    assert!(text.is_empty() || matches!(status(&text), 400 | 414 | 431), "{text}");
    assert_eq!(gate.strikes(), 0);
}

#[test]
fn no_link_leads_out_and_a_missing_file_is_no_strike() {
    let gate = start(limits(), &[], true);
    std::fs::remove_file(gate.dir.path().join("a.txt")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", gate.dir.path().join("a.txt")).unwrap();
    for path in ["/a.txt", "/gone.txt"] {
        let text = gate.get(path);
        assert_eq!(status(&text), 500, "{text}");
        assert!(!text.contains("root:"));
    }
    assert_eq!(gate.strikes(), 0);
}

#[test]
fn parts_tags_and_dates() {
    let gate = start(limits(), &[], true);
    let whole = gate.get("/a.txt");
    assert_eq!(line(&whole, "content-type"), Some("text/plain; charset=utf-8"));
    let tag = line(&whole, "etag").unwrap();
    let date = line(&whole, "last-modified").unwrap();
    let head = gate.ask("HEAD", "/a.txt", "Range: bytes=1-2\r\n");
    assert_eq!((status(&head), line(&head, "content-length")), (200, Some("10")));
    assert!(head.ends_with("\r\n\r\n"));
    let with = |lines: &str| gate.ask("GET", "/a.txt", lines);
    let part = with("Range: bytes=2-4\r\n");
    assert_eq!((status(&part), line(&part, "content-range")), (206, Some("bytes 2-4/10")));
    assert!(part.ends_with("\r\n\r\n234"), "{part}");
    let past = with("Range: bytes=10-\r\n");
    assert_eq!((status(&past), line(&past, "content-range")), (416, Some("bytes */10")));
    for (lines, wanted) in [
        ("Range: bytes=0-1,4-5\r\n".to_string(), 200),
        (format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n"), 206),
        (format!("Range: bytes=0-1\r\nIf-Range: {date}\r\n"), 206),
        ("Range: bytes=0-1\r\nIf-Range: \"other\"\r\n".into(), 200),
        (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        ("If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT\r\n".into(), 200),
    ] {
        assert_eq!(status(&with(&lines)), wanted, "{lines}");
    }
    let text = gate.ask("DELETE", "/a.txt", "");
    assert_eq!((status(&text), line(&text, "allow")), (405, Some("GET, HEAD")));
    let mut stream = gate.connect();
    stream.write_all(b"GET /big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert!(all.len() > 20_000_000 && all.ends_with(&[7; 100]));
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let gate = start(limits(), &[], true);
    let text = gate.raw(
        b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /nothing HTTP/1.1\r\nHost: x\r\n\r\n\
          GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    assert!(at("0123456789") < at("303") && at("303") < at("first"), "{text}");
}

#[test]
fn without_a_judge_nothing_unknown_is_answered_and_files_go_on() {
    let gate = start(limits(), &[], false);
    let text = gate.get("/nothing");
    assert_eq!(status(&text), 503);
    assert!(text.ends_with("\r\n\r\n"));
    assert_eq!(status(&gate.get("/a.txt")), 200);
}

#[test]
fn a_named_proxy_says_for_whom_it_asks() {
    let gate = start(limits(), &["127.0.0.0/8"], true);
    let with = |line: &str| gate.ask("GET", "/nothing", line);
    assert_eq!(status(&with("X-Forwarded-For: 198.51.100.9, 203.0.113.7\r\n")), 303);
    assert_eq!(*gate.from.lock().unwrap(), ["203.0.113.7".parse::<IpAddr>().unwrap()]);
    for nobody in ["", "X-Forwarded-For: 203.0.113.7, nonsense\r\n"] {
        assert_eq!(status(&with(nobody)), 400);
        assert_eq!(status(&gate.ask("GET", "/", nobody)), 400);
    }
    assert_eq!(gate.strikes(), 1);
    let gate = start(limits(), &["192.0.2.1"], true);
    let text = gate.ask("GET", "/nothing", "X-Forwarded-For: 203.0.113.7\r\n");
    assert_eq!(status(&text), 303);
    assert_eq!(*gate.from.lock().unwrap(), ["127.0.0.1".parse::<IpAddr>().unwrap()]);
}

#[test]
fn the_slow_and_the_silent_are_ended_and_many_do_not_keep_anybody_out() {
    let short = Limits { patience: Duration::from_millis(500), ..limits() };
    let gate = start(short, &[], true);
    let mut slow = gate.connect();
    slow.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    let mut silent = gate.connect();
    let mut bytes = Vec::new();
    // Ends before the read's own limit, which would be an error of its own kind.
    let ended = |r: std::io::Result<usize>| match r {
        Ok(_) => true,
        Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(ended(silent.read_to_end(&mut bytes)));
    assert!(ended(slow.read_to_end(&mut bytes)));
    let few = Limits { connections: 200, of_one: 150, ..limits() };
    let gate = start(few, &[], true);
    let idle: Vec<TcpStream> = (0..400).map(|_| gate.connect()).collect();
    assert_eq!(status(&gate.get("/")), 200);
    let mut first = &idle[0];
    assert!(ended(first.read(&mut [0; 1])), "the oldest has made room");
    drop(idle);
}

#[test]
fn the_policy_of_the_page_names_the_hash_of_its_style() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let page = include_str!("../src/gate/page.html");
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(style));
    let source = include_str!("../src/gate/page.rs");
    assert!(source.contains(&format!("'sha256-{hash}'")), "it is sha256-{hash}");
}

#[test]
fn who_is_banned_alone_sees_the_page_and_gets_out_by_the_pin() {
    let gate = start(limits(), &["127.0.0.0/8"], true);
    let of = |who: &str| format!("X-Forwarded-For: {ALONE}{who}\r\n");
    for _ in 0..4 {
        gate.ask("GET", "/nothing", &of(":7"));
    }
    assert_eq!(status(&gate.ask("GET", "/", &of(":7"))), 403);
    assert_eq!(status(&gate.ask("GET", "/", &of(":8"))), 200, "his neighbour is not");
    let pin = String::from_utf8_lossy(PIN).into_owned();
    assert_eq!(status(&gate.ask("GET", &format!("/{pin}"), &of(":7"))), 303);
    assert_eq!(status(&gate.ask("GET", "/", &of(":7"))), 200);
}

#[test]
fn a_lease_wins_over_a_block() {
    let gate = start(limits(), &["127.0.0.0/8"], true);
    let line = format!("X-Forwarded-For: {HOLDER}\r\n");
    for _ in 0..6 {
        assert_eq!(status(&gate.ask("GET", "/nothing", &line)), 303);
    }
    assert_eq!(status(&gate.ask("GET", "/", &line)), 200);
    // What he types while the lease lasts is no guess, and leaves the block to others' addresses.
    assert_eq!(status(&gate.ask("GET", "/a.txt", &line)), 200);
}

#[test]
fn a_file_of_any_date_is_served_and_a_part_of_another_one_is_not() {
    use std::time::SystemTime;
    let gate = start(limits(), &[], true);
    let day = Duration::from_secs(86_400);
    let file = std::fs::File::options().write(true).open(gate.dir.path().join("a.txt")).unwrap();
    for when in [SystemTime::UNIX_EPOCH - day, SystemTime::UNIX_EPOCH + 4_000_000 * day] {
        file.set_modified(when).unwrap();
        let text = gate.get("/a.txt");
        assert!(status(&text) == 200 && text.ends_with("0123456789"), "{text}");
    }
    let text = gate.get("/a.txt").to_lowercase();
    let tag = text.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_string();
    let with = |line: String| status(&gate.ask("GET", "/a.txt", &line));
    assert_eq!(with(format!("If-Match: \"x\", {tag}\r\nRange: bytes=1-2\r\n")), 206);
    assert_eq!(with("If-Match: \"x\"\r\nRange: bytes=1-2\r\n".into()), 412);
    assert_eq!(with(format!("If-Match: W/{tag}\r\n")), 412);
    assert_eq!(with("If-Match: *\r\n".into()), 200);
}
