//! The machine's own rules drop, and ours admit.

use super::common::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const MARK: u32 = 0x4000_0000;

/// The machine's own rules: a stranger reaches no port.
const FOREIGN: &str = "table inet filter { set mine { type inet_service; elements = { 1 }; }; \
    chain other { tcp dport @mine drop; }; \
    chain input { type filter hook input priority 0; policy drop; \
    ct state established,related accept; meta l4proto { icmp, ipv6-icmp } accept; \
    meta mark and 0x1 == 0x1 counter; jump other; }; }";

fn ruleset(world: &World) -> String {
    world.run(SERVER, &["nft", "-s", "list", "ruleset"])
}

/// A world with those rules, and one that each form of a pinhole has to leave as they are.
fn shut(rules: &str) -> Option<(World, String)> {
    let world = world(&[])?;
    nft(&world, rules);
    let before = ruleset(&world);
    Some((world, before))
}

fn formed(form: Form) -> Shield {
    Shield { form, ..shield(&["tcp/22", "tcp/8000-8010"]) }
}

fn chain(table: &str) -> Shield {
    formed(Form::Chain { table: table.into(), chain: "input".into() })
}

/// Closed to both guests, over both families.
fn assert_all_shut(world: &World) {
    for (host, at) in [(CLIENT, SERVER_V4), (CLIENT, SERVER_V6), (STRANGER, "10.77.2.1")] {
        assert_eq!(world.connect(host, at, 22), Tried::Silence, "{host} {at}\n{}", ruleset(world));
    }
}

/// Whether a stranger's datagram comes to the server's own port.
fn is_asked(world: &World, socket: &UdpSocket) -> bool {
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("timeout");
    for to in ["10.77.2.1:62201", "[fd77:2::1]:62201"] {
        let own = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let guest = world.enter(STRANGER, || UdpSocket::bind(own)).expect("bind");
        guest.send_to(b"ask", to).expect("send");
        if uninterrupted(|| socket.recv(&mut [0; 8])).is_err() {
            return false;
        }
    }
    true
}

const LEASES: [(&str, u64); 2] = [(CLIENT_V4, 600_000), (CLIENT_V6, 10_000)];

fn leases() -> [Opening; 2] {
    LEASES.map(|(from, ms)| opening(from, "tcp/22", ms))
}

/// Opens for the client alone; the sessions that begin then outlive the leases.
fn lets_in(world: &World, firewall: &mut Nftables, listener: &TcpListener) {
    let leases = leases();
    firewall.open(&leases, now()).expect("open");
    let mut sessions = [SERVER_V4, SERVER_V6].map(|at| {
        let theirs = world.enter(CLIENT, || TcpStream::connect((at, 22))).expect("connect");
        (theirs, listener.accept().expect("accept").0)
    });
    for at in ["10.77.2.1", "fd77:2::1"] {
        assert_eq!(world.connect(STRANGER, at, 22), Tried::Silence, "{at}");
    }
    firewall.close(&[leases[0].element], now()).expect("close");
    assert_eq!(world.connect(CLIENT, SERVER_V4, 22), Tried::Silence);
    listener.set_nonblocking(true).expect("nonblocking");
    eventually("the lease ends", || {
        // A full queue would be silent too.
        while listener.accept().is_ok() {}
        world.connect(CLIENT, SERVER_V6, 22) == Tried::Silence
    });
    listener.set_nonblocking(false).expect("blocking");
    for (theirs, ours) in &mut sessions {
        theirs.write_all(b"x").expect("write");
        ours.set_read_timeout(Some(Duration::from_secs(20))).expect("timeout");
        assert_eq!(uninterrupted(|| ours.read(&mut [0])).expect("the machine's own rule"), 1);
    }
    // A wide one.
    firewall.open(&[opening("10.77.1.0/24", "tcp/20-30", 600_000)], now()).expect("open");
    assert_open(world, CLIENT, SERVER_V4, 22);
    assert_eq!(world.connect(STRANGER, "10.77.2.1", 22), Tried::Silence);
}

#[test]
fn a_mark_admits_who_holds_a_lease() {
    let Some((world, _)) = shut(FOREIGN) else { return };
    nft(&world, "insert rule inet filter input meta mark and 0x40000000 == 0x40000000 accept");
    // Somebody who can set marks has set ours on all that the stranger sends.
    nft(
        &world,
        "add table ip marks; add chain ip marks pre { type filter hook prerouting priority -200; }; \
         add rule ip marks pre ip saddr 10.77.2.2 meta mark set 0x40000001",
    );
    let before = ruleset(&world);
    let listener = world.enter(SERVER, || TcpListener::bind("[::]:22")).expect("bind");
    let own = world.enter(SERVER, || UdpSocket::bind("[::]:62201")).expect("bind");
    assert_open(&world, STRANGER, "10.77.2.1", 22);
    listener.accept().expect("the mark alone lets him in");
    let mut firewall = backend(&world, &formed(Form::Mark(MARK)));
    assert!(!firewall.is_up().expect("asked"));
    firewall.sync(&[], now()).expect("sync");
    assert!(firewall.is_up().expect("asked"));
    assert_all_shut(&world);
    assert!(is_asked(&world, &own), "everybody may ask\n{}", ruleset(&world));
    lets_in(&world, &mut firewall, &listener);
    // The other bits are not ours.
    let text = world.run(SERVER, &["nft", "list", "chain", "inet", "filter", "input"]);
    assert!(!text.contains("counter packets 0 "), "{text}");
    // No judge of ours drops, and no port is kept out of tracking.
    let text = table(&world);
    assert!(!text.contains("drop") && !text.contains("notrack"), "{text}");
    assert!(matches!(firewall.can_bar(), Err(Error::Missing(_))));
    // Whatever somebody does to it.
    firewall.sync(&[], now()).expect("sync");
    let whole = table(&world);
    for deed in [
        "flush chain inet opensesame judge",
        "insert rule inet opensesame judge accept",
        "add element inet opensesame lease4 { 10.77.2.2 . tcp . 22 timeout 1h }",
        "delete table inet opensesame",
    ] {
        assert!(!firewall.is_disturbed());
        nft(&world, deed);
        assert!(firewall.is_disturbed(), "{deed}");
        firewall.sync(&[], now()).expect("sync");
        assert_eq!(table(&world), whole, "{deed}");
    }
    assert_all_shut(&world);
    firewall.uninstall().expect("uninstall");
    assert_eq!(ruleset(&world), before);
}

#[test]
fn a_chain_in_a_foreign_table_admits_who_holds_a_lease() {
    let Some((world, before)) = shut(FOREIGN) else { return };
    let listener = world.enter(SERVER, || TcpListener::bind("[::]:22")).expect("bind");
    let own = world.enter(SERVER, || UdpSocket::bind("[::]:62201")).expect("bind");
    let mut firewall = backend(&world, &chain("inet filter"));
    assert!(!is_asked(&world, &own));
    assert!(!firewall.is_up().expect("asked"));
    firewall.sync(&[], now()).expect("sync");
    assert!(firewall.is_up().expect("asked"));
    assert!(is_asked(&world, &own), "{}", ruleset(&world));
    assert_all_shut(&world);
    lets_in(&world, &mut firewall, &listener);
    assert!(!ruleset(&world).contains("table inet opensesame"));
    firewall.uninstall().expect("uninstall");
    assert!(!firewall.is_up().expect("asked"));
    assert_eq!(ruleset(&world), before);
    firewall.uninstall().expect("uninstall of nothing");
    assert_eq!(ruleset(&world), before);
}

/// The chain's lines without what has an end.
fn input(world: &World, table: &str) -> Vec<String> {
    let (family, name) = table.split_once(' ').expect("two words");
    let text = world.run(SERVER, &["nft", "-s", "list", "chain", family, name, "input"]);
    text.lines().map(|l| l.trim().to_string()).collect()
}

#[test]
fn what_others_do_to_the_chain_is_undone_and_what_is_theirs_is_left() {
    let Some((world, before)) = shut(FOREIGN) else { return };
    let _listener = world.listen(22);
    let mut firewall = backend(&world, &chain("inet filter"));
    let leases = [opening(CLIENT_V4, "tcp/22", 3_600_000), opening(CLIENT_V6, "tcp/22", 3_600_000)];
    firewall.sync(&leases, now()).expect("sync");
    let jump = "jump opensesame comment \"opensesame-spa\"";
    assert_eq!(input(&world, "inet filter")[3], jump, "{}", ruleset(&world));
    // Once more changes nothing.
    firewall.sync(&leases, now()).expect("sync");
    assert_eq!(input(&world, "inet filter").iter().filter(|l| *l == jump).count(), 1);
    let whole = input(&world, "inet filter");
    for (deed, ours) in [
        ("insert rule inet filter input tcp dport 22 drop", true),
        ("flush chain inet filter opensesame", true),
        ("insert rule inet filter opensesame accept", true),
        ("add element inet filter opensesame-lease4 { 10.77.2.2 . tcp . 22 timeout 1h }", true),
        ("flush set inet filter opensesame-lease6", true),
        ("flush chain inet filter input; delete chain inet filter opensesame", true),
        ("add element inet filter mine { 2 }", false),
        ("add rule inet filter other tcp dport 23 drop", false),
        ("add table inet elsewhere", false),
        ("flush ruleset", true),
    ] {
        assert!(!firewall.is_disturbed(), "before {deed}");
        nft(&world, deed);
        assert_eq!(firewall.is_disturbed(), ours, "{deed}");
        if deed == "flush ruleset" {
            // Nobody is there any more to be a guest of.
            assert!(!firewall.is_up().expect("asked"));
            let Err(Error::Missing(why)) = firewall.sync(&leases, now()) else {
                panic!("no error")
            };
            assert!(why.contains("chain input") && why.contains("inet filter"), "{why}");
            assert_eq!(ruleset(&world), "");
            nft(&world, FOREIGN);
        }
        firewall.sync(&leases, now()).expect("sync");
        assert_eq!(input(&world, "inet filter")[3], jump, "{deed}\n{}", ruleset(&world));
        assert!(!ruleset(&world).contains(STRANGER_V4), "{deed}");
        assert_open(&world, CLIENT, SERVER_V4, 22);
        assert_open(&world, CLIENT, SERVER_V6, 22);
        assert_eq!(world.connect(STRANGER, "10.77.2.1", 22), Tried::Silence, "{deed}");
        // Before it drops everything, the machine's own rule is where it was put.
        if deed.starts_with("insert rule inet filter input") {
            assert_eq!(input(&world, "inet filter").len(), whole.len() + 1);
            nft(&world, "flush chain inet filter input");
            nft(&world, FOREIGN);
            firewall.sync(&leases, now()).expect("sync");
            assert!(firewall.is_disturbed());
        }
    }
    firewall.uninstall().expect("uninstall");
    assert_eq!(ruleset(&world), before);
}

#[test]
fn a_table_of_one_family_admits_that_family() {
    for (family, at, other) in [("ip", SERVER_V4, SERVER_V6), ("ip6", SERVER_V6, SERVER_V4)] {
        let rules = |f: &str| {
            format!(
                "table {f} filter {{ chain input {{ type filter hook input priority 0; policy drop; \
                 ct state established accept; meta l4proto {{ icmp, ipv6-icmp }} accept; }}; }}"
            )
        };
        let Some((world, before)) = shut(&(rules("ip") + "; " + &rules("ip6"))) else { return };
        let _listener = world.listen(22);
        let mut firewall = backend(&world, &chain(&format!("{family} filter")));
        firewall.sync(&[], now()).expect("sync");
        assert_all_shut(&world);
        let leases = [opening(CLIENT_V4, "tcp/22", 600_000), opening(CLIENT_V6, "tcp/22", 600_000)];
        firewall.open(&leases, now()).expect("open");
        assert_open(&world, CLIENT, at, 22);
        assert_eq!(world.connect(CLIENT, other, 22), Tried::Silence, "{family} {other}");
        firewall.close(&leases.map(|l| l.element), now()).expect("close");
        assert_all_shut(&world);
        firewall.uninstall().expect("uninstall");
        assert_eq!(ruleset(&world), before);
    }
}

#[test]
fn from_one_form_to_another_nothing_of_the_first_stays() {
    let Some((world, before)) = shut(FOREIGN) else { return };
    let leases = [opening(CLIENT_V4, "tcp/22", 3_600_000)];
    let forms = [Form::Shield, Form::Mark(MARK), Form::Shield, Form::Mark(MARK << 1)];
    let mut last = String::new();
    for form in forms {
        let mut firewall = backend(&world, &formed(form.clone()));
        assert!(
            last.is_empty() || !firewall.is_up().expect("asked") || form == Form::Mark(MARK << 1)
        );
        firewall.sync(&leases, now()).expect("sync");
        assert_ne!(table(&world), last);
        last = table(&world);
        assert_eq!(last.contains("notrack"), form == Form::Shield, "{last}");
        assert_eq!(last.contains("meta mark set"), form != Form::Shield, "{last}");
        assert_eq!(elements(&world, "lease4").len(), 1);
    }
    let mut firewall = backend(&world, &chain("inet filter"));
    firewall.sync(&leases, now()).expect("sync");
    assert!(!ruleset(&world).contains("table inet opensesame"), "{}", ruleset(&world));
    firewall.uninstall().expect("uninstall");
    assert_eq!(ruleset(&world), before);
    let shield = chain("inet filter");
    let routed = vec![Routed {
        at: INNER_V4.parse().expect("prefix"),
        ports: "tcp/22".parse().expect("ports"),
        refuse: Refuse::Drop,
    }];
    let made = world.enter(SERVER, || Nftables::new(&Shield { routed, ..shield }).map(|_| ()));
    assert!(matches!(made, Err(Error::Missing(_))), "{made:?}");
}
