//! Whatever somebody has done to our table, `sync` makes it ours again.

use super::common::*;

/// What somebody does, as nft scripts.
const DRIFTS: [(&str, &str); 20] = [
    ("a table that is gone", "delete table inet opensesame"),
    ("rules removed", "flush chain inet opensesame judge"),
    ("a chain deleted", "flush chain inet opensesame shield; delete chain inet opensesame shield"),
    ("all rules removed", "flush table inet opensesame"),
    ("a foreign rule before ours", "insert rule inet opensesame judge accept"),
    ("a foreign rule in the base chain", "insert rule inet opensesame shield tcp dport 22 accept"),
    ("protected ports flushed", "flush set inet opensesame ports"),
    ("leases flushed", "flush set inet opensesame lease4; flush set inet opensesame lease6"),
    ("a wide lease flushed", "flush set inet opensesame wide4"),
    (
        "a lease for the stranger",
        "add element inet opensesame lease4 { 10.77.2.2 . tcp . 22 timeout 1h }",
    ),
    (
        "a wide lease for the stranger",
        "add element inet opensesame wide4 { 10.77.2.0/24 . tcp . 1-65535 timeout 1h }",
    ),
    ("a session for the stranger", "add element inet opensesame older4 { 10.77.2.2 . 40000 . 22 }"),
    (
        "a lease that lasts too long",
        "delete element inet opensesame lease4 { 10.77.1.2 . tcp . 22 }; \
         add element inet opensesame lease4 { 10.77.1.2 . tcp . 22 timeout 10d }",
    ),
    (
        "a lease that lasts for ever",
        "delete element inet opensesame lease4 { 10.77.1.2 . tcp . 22 }; \
         add element inet opensesame lease4 { 10.77.1.2 . tcp . 22 }",
    ),
    ("a policy that drops", "add chain inet opensesame shield { policy drop; }"),
    ("a dormant table", "add table inet opensesame { flags dormant; }"),
    (
        "a foreign chain that ours jumps to",
        "add chain inet opensesame x; add rule inet opensesame x accept; \
         insert rule inet opensesame shield jump x",
    ),
    (
        "foreign sets, maps and counters",
        "add counter inet opensesame c; add set inet opensesame s { type inet_service; }; \
         add chain inet opensesame x; \
         add map inet opensesame m { type inet_service : verdict; elements = { 22 : jump x }; }; \
         insert rule inet opensesame shield tcp dport @s counter name c accept; \
         insert rule inet opensesame shield tcp dport vmap @m",
    ),
    (
        "sets of another kind",
        "flush table inet opensesame; delete set inet opensesame lease4; \
         add set inet opensesame lease4 { type ipv4_addr; elements = { 10.77.2.2 }; }; \
         delete set inet opensesame wide6; \
         add set inet opensesame wide6 { type inet_service; size 3; }; \
         add rule inet opensesame shield ip saddr @lease4 accept",
    ),
    (
        "another table of our name",
        "delete table inet opensesame; add table inet opensesame; \
         add set inet opensesame lease4 { type ipv4_addr; size 3; elements = { 10.77.2.2 }; }; \
         add set inet opensesame ports { type inet_service; flags interval; }; \
         add chain inet opensesame judge { type filter hook input priority 7; }; \
         add chain inet opensesame shield { type filter hook prerouting priority -100; }; \
         add rule inet opensesame shield ip saddr @lease4 accept",
    ),
];

fn seconds(list: &[(String, Option<u64>)]) -> Vec<(&str, bool)> {
    list.iter()
        .map(|(v, left)| (&v[..], left.is_some_and(|s| (3000..=3600).contains(&s))))
        .collect()
}

#[test]
fn sync_heals_every_drift() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let leases = [
        opening(CLIENT_V4, "tcp/22", 3_600_000),
        opening(CLIENT_V6, "tcp/22", 3_600_000),
        opening("192.0.2.0/24", "tcp/22-23", 3_600_000),
    ];
    let shield = shield(&["tcp/22", "tcp/23", "udp/53"]);
    let mut firewall = installed(&world, &shield, &leases);
    let contents = || {
        ["ports", "resets", "older4", "older6", "lease4", "lease6", "wide4", "wide6"]
            .map(|set| elements(&world, set))
    };
    let (rules, before) = (chains(&world), contents());
    for (what, script) in DRIFTS {
        nft(&world, script);
        firewall.sync(&leases, now()).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(chains(&world), rules, "{what}");
        for (have, want) in contents().iter().zip(&before) {
            assert_eq!(seconds(have), seconds(want), "{what}");
        }
        let all = world.run(SERVER, &["nft", "list", "ruleset"]);
        assert!(!all.contains("flags dormant") && !all.contains("counter c"), "{what}: {all}");
        assert_eq!(all.matches("\tset ").count(), 12, "{what}: {all}");
    }
    assert_open(&world, CLIENT, SERVER_V4, 22);
    assert_open(&world, CLIENT, SERVER_V6, 22);
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
    // Woken up, it filters again.
    nft(&world, "add table inet opensesame { flags dormant; }");
    assert_open(&world, STRANGER, "10.77.2.1", 22);
    firewall.sync(&leases, now()).expect("sync");
    assert_shut(&world, STRANGER, "10.77.2.1", 22);
}

#[test]
fn a_new_configuration_keeps_live_leases_and_cuts() {
    let Some(world) = world(&[]) else { return };
    let leases = [opening(CLIENT_V4, "tcp/22", 600_000)];
    let _firewall = installed(&world, &shield(&["tcp/22"]), &leases);
    nft(&world, "add element inet opensesame cut6 { 2001:db8::1 . tcp . 22 timeout 1h }");
    for ports in [&["tcp/22", "tcp/8000-8010"][..], &["tcp/22", "udp/9"], &["udp/1-9"]] {
        installed(&world, &shield(ports), &leases);
        assert_eq!(elements(&world, "ports").len(), ports.len());
        for set in ["lease4", "cut6"] {
            assert_eq!(elements(&world, set).len(), 1, "{set} with {ports:?}");
        }
    }
    // Also where the table has to be replaced.
    nft(&world, "add chain inet opensesame foreign");
    installed(&world, &shield(&["tcp/22"]), &leases);
    assert!(!table(&world).contains("foreign"));
    for set in ["ports", "lease4", "cut6"] {
        assert_eq!(elements(&world, set).len(), 1, "{set}");
    }
}

#[test]
fn a_ban_shuts_and_a_lease_overrules_it() {
    let Some(world) = world(&[]) else { return };
    let _listener = world.listen(22);
    let mut firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    nft(&world, "add element inet opensesame ban4 { 10.77.1.2 timeout 1h }");
    firewall.open(&[opening(CLIENT_V4, "tcp/22", 600_000)], now()).expect("open");
    assert_open(&world, CLIENT, SERVER_V4, 22);
    nft(&world, "add element inet opensesame cut4 { 10.77.1.2 . tcp . 22 timeout 1h }");
    assert_shut(&world, CLIENT, SERVER_V4, 22);
}
