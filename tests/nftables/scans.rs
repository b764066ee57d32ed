//! What a stranger's scanner sees.

use super::common::*;

/// What nmap calls a port.
fn scan(world: &World, how: &str, port: u16) -> String {
    let text = world.run(
        STRANGER,
        &["nmap", how, "-Pn", "-n", "--max-retries", "1", "-p", &port.to_string(), "10.77.2.1"],
    );
    let line = text.lines().find(|l| l.starts_with(&format!("{port}/tcp")));
    line.and_then(|l| l.split_whitespace().nth(1)).unwrap_or_else(|| panic!("{text}")).to_string()
}

fn scans(world: &World, port: u16) -> [String; 3] {
    std::thread::scope(|scope| {
        ["-sS", "-sA", "-sF"]
            .map(|how| scope.spawn(move || scan(world, how, port)))
            .map(|thread| thread.join().expect("scan"))
    })
}

#[test]
fn a_protected_port_is_filtered_and_an_unprotected_one_is_as_it_was() {
    let Some(world) = world(&["nmap"]) else { return };
    let _listeners = [22, 80].map(|port| world.listen(port));
    let mut firewall = backend(&world, &shield(&["tcp/22"]));
    // An answer can be late for nmap; silence cannot be early.
    let sees = |port, want: [&str; 3]| {
        eventually(&format!("{port} is {want:?}"), || scans(&world, port) == want);
    };
    sees(22, ["open", "unfiltered", "open|filtered"]);
    firewall.sync(&[], now()).expect("sync");
    assert_eq!(scans(&world, 22), ["filtered", "filtered", "open|filtered"]);
    sees(80, ["open", "unfiltered", "open|filtered"]);
    sees(81, ["closed", "unfiltered", "closed"]);
}

#[test]
fn over_a_firewall_that_drops_it_is_one_port_among_many() {
    let Some(world) = world(&["nmap"]) else { return };
    let _listener = world.listen(22);
    nft(
        &world,
        "table inet filter { chain input { type filter hook input priority 0; policy drop; \
         ct state established accept; tcp dport 22 accept; }; }",
    );
    let _firewall = installed(&world, &shield(&["tcp/22"]), &[]);
    assert_eq!(scans(&world, 22), scans(&world, 81));
    assert_eq!(scans(&world, 22)[..2], ["filtered", "filtered"]);
}
