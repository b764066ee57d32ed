//! Leases: who comes in by them, where to, and until when.

use super::clients::grant;
use super::site::*;
use crate::netns::{CLIENT_V4, CLIENT_V6, STRANGER_V4};
use opensesame_spa::firewall::{LeaseTable, Opening};

const NOBODY: [&str; 0] = [];

/// Open to all without us, shut to all with us, open for one with a lease.
pub fn open(site: &Site) {
    site.admits(&everybody(&["tcp/22", "tcp/80", "tcp/8005", "udp/53"]));
    let mut wall = site.wall(&PROTECTED);
    let lease = opening(CLIENT_V4, "tcp/22", 600);
    assert!(wall.open(&[lease]).is_err(), "nothing is opened before the first sync");
    assert_eq!(site.count(), 0);
    wall.sync(&[]).unwrap();
    site.admits(&NOBODY);
    let over = Opening { until: now().mono, ..opening(STRANGER_V4, "tcp/22", 0) };
    wall.open(&[lease, over]).unwrap();
    site.says(&[(CLIENT_V4, "tcp/22", 600)]);
    site.admits(&["client v4 tcp/22"]);
}

/// A new end is the end, later or earlier, and there is one element.
pub fn extend(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    for seconds in [60, 3_000, 300] {
        wall.open(&both("tcp/22", seconds)).unwrap();
        site.says(&[(CLIENT_V4, "tcp/22", seconds), (CLIENT_V6, "tcp/22", seconds)]);
    }
    site.admits(&["client v4 tcp/22", "client v6 tcp/22"]);
}

/// What is closed is shut, and nothing else; what is not there is no error.
pub fn close(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    wall.open(&both("tcp/22", 600)).unwrap();
    site.admits(&["client v4 tcp/22", "client v6 tcp/22"]);
    let one = element(CLIENT_V4, "tcp/22");
    wall.close(&[one]).unwrap();
    site.says(&[(CLIENT_V6, "tcp/22", 600)]);
    site.admits(&["client v6 tcp/22"]);
    wall.close(&[one, element("192.0.2.1", "tcp/8000-8010")]).unwrap();
    site.says(&[(CLIENT_V6, "tcp/22", 600)]);
    wall.close(&[element(CLIENT_V6, "tcp/22")]).unwrap();
    site.says(&[]);
    site.admits(&NOBODY);
}

/// An element lives as long as its last lease, whoever's that is.
pub fn two_clients(site: &Site) {
    let ssh = ["tcp/22".parse().unwrap()];
    let mut table = LeaseTable::default();
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    for (client, seconds, there) in [(1, 600, 600), (2, 900, 900), (3, 60, 900)] {
        let grant = grant(client, CLIENT_V4, seconds);
        let openings = table.insert(&grant, &ssh, 9).unwrap();
        wall.open(&openings).unwrap();
        site.says(&[(CLIENT_V4, "tcp/22", there)]);
    }
    site.admits(&["client v4 tcp/22"]);
    for (client, there) in [(2, 600), (1, 60)] {
        let change = table.remove_of(grant(client, CLIENT_V4, 0).claim().client, |_| true);
        assert!(change.close.is_empty());
        wall.open(&change.open).unwrap();
        site.says(&[(CLIENT_V4, "tcp/22", there)]);
        site.admits(&["client v4 tcp/22"]);
    }
    let change = table.handle_timeout(now().mono.plus(61_000));
    assert!(change.open.is_empty() && table.openings().is_empty());
    wall.close(&change.close).unwrap();
    site.says(&[]);
    site.admits(&NOBODY);
}

/// The kernel ends a lease when nobody calls us any more; not before its time.
pub fn expiry(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let asked = now().mono;
    let leases = [both("tcp/22", 3), vec![opening("10.77.1.0/24", "tcp/8000-8010", 3)]].concat();
    wall.open(&leases).unwrap();
    drop(wall);
    let client = ["client v4 tcp/22", "client v6 tcp/22", "client v4 tcp/8005"];
    site.admits(&client);
    eventually("the tool says that nothing is open", || {
        let before = now().mono;
        let none = site.count() == 0;
        // Not half a second early, whatever the clock's grain.
        assert!(!none || before >= asked.plus(2_500), "after {} ms", before.since(asked));
        none
    });
    site.admits(&NOBODY);
}

/// A thousand in one call, half of them closed in one, all gone in one sync.
pub fn thousand(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let mut leases = others(998, 900);
    leases.extend(both("tcp/22", 900));
    wall.open(&leases).unwrap();
    assert_eq!(site.count(), 1_000);
    let seen = site.seen();
    assert!(seen.iter().all(|s| (870..=901).contains(&s.left)), "{seen:?}");
    site.admits(&["client v4 tcp/22", "client v6 tcp/22"]);
    let gone: Vec<_> = leases.iter().take(500).map(|o| o.element).collect();
    wall.close(&gone).unwrap();
    assert_eq!(site.count(), 500);
    site.admits(&["client v4 tcp/22", "client v6 tcp/22"]);
    wall.sync(&[]).unwrap();
    assert_eq!(site.count(), 0);
    site.admits(&NOBODY);
}

/// A lease for one family leaves the other one shut, whichever it is.
pub fn dual_stack(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    for (address, way) in [(CLIENT_V4, "client v4 tcp/22"), (CLIENT_V6, "client v6 tcp/22")] {
        wall.sync(&[opening(address, "tcp/22", 600)]).unwrap();
        site.says(&[(address, "tcp/22", 600)]);
        site.admits(&[way]);
    }
}

/// Prefixes, also those that lie in each other: each ends alone.
pub fn prefixes(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let all = [
        opening("10.77.1.0/24", "tcp/22", 600),
        opening("fd77:1::/64", "tcp/22", 600),
        opening("10.77.0.0/16", "tcp/80", 300),
        opening("10.77.1.0/28", "tcp/80", 900),
        opening("10.77.1.0/25", "udp/53", 600),
    ];
    all.iter().for_each(|one| wall.open(&[*one]).unwrap());
    assert!(site.left("10.77.1.255", "tcp/22") > 500 && site.left("10.77.2.255", "tcp/80") > 200);
    assert_eq!(site.left("10.77.2.1", "tcp/22") + site.left("fd77:1:0:1::", "tcp/22"), 0);
    assert_eq!(site.left("10.77.1.128", "udp/53"), 0);
    let client = ["client v4 tcp/22", "client v6 tcp/22", "client v4 tcp/80", "client v4 udp/53"];
    site.admits(&[&client[..], &["stranger v4 tcp/80"]].concat());
    wall.close(&[all[2].element]).unwrap();
    site.admits(&client);
    wall.close(&[all[3].element, all[1].element]).unwrap();
    site.admits(&["client v4 tcp/22", "client v4 udp/53"]);
    // All anew at once.
    wall.sync(&all).unwrap();
    site.admits(&[&client[..], &["stranger v4 tcp/80"]].concat());
}

/// Several services: each of them opens and closes without the others.
pub fn services(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let (ssh, web, dns) = (both("tcp/22", 600), both("tcp/80", 600), both("udp/53", 600));
    wall.open(&[&ssh[..], &web[..1]].concat()).unwrap();
    wall.open(&dns).unwrap();
    let [ssh4, ssh6] = ["client v4 tcp/22", "client v6 tcp/22"];
    let [dns4, dns6] = ["client v4 udp/53", "client v6 udp/53"];
    site.admits(&[ssh4, ssh6, "client v4 tcp/80", dns4, dns6]);
    wall.close(&[ssh[0].element, web[0].element]).unwrap();
    site.says(&[
        (CLIENT_V6, "tcp/22", 600),
        (CLIENT_V4, "udp/53", 600),
        (CLIENT_V6, "udp/53", 600),
    ]);
    site.admits(&[ssh6, dns4, dns6]);
    // The same number of the other protocol is another port.
    wall.open(&both("tcp/53", 600)).unwrap();
    wall.close(&[dns[0].element, dns[1].element]).unwrap();
    assert!(site.left(CLIENT_V4, "tcp/53") > 500);
    site.admits(&[ssh6]);
}

/// Ranges of ports, also those that lie in each other: each ends alone.
pub fn ranges(site: &Site) {
    let mut wall = site.shielded(&[]);
    site.admits(&NOBODY);
    let all = [
        opening(CLIENT_V4, "tcp/8000-8010", 600),
        opening(CLIENT_V4, "tcp/8004-8006", 900),
        opening(CLIENT_V6, "tcp/8005", 600),
        opening(CLIENT_V6, "tcp/1-100", 600),
    ];
    wall.open(&all).unwrap();
    assert!(site.left(CLIENT_V4, "tcp/8010") > 500 && site.left(CLIENT_V6, "tcp/100") > 500);
    assert_eq!(site.left(CLIENT_V4, "tcp/8011") + site.left(CLIENT_V6, "tcp/101"), 0);
    assert!(site.left(CLIENT_V4, "tcp/8005") > 800);
    let (v4, v6) = ("client v4 tcp/8005", "client v6 tcp/8005");
    site.admits(&[v4, v6, "client v6 tcp/22", "client v6 tcp/80"]);
    wall.close(&[all[1].element, all[3].element]).unwrap();
    assert!((500..=601).contains(&site.left(CLIENT_V4, "tcp/8005")));
    site.admits(&[v4, v6]);
    wall.close(&[all[0].element]).unwrap();
    site.says(&[(CLIENT_V6, "tcp/8005", 600)]);
    site.admits(&[v6]);
}
