//! Whatever somebody has done to our rules, a `sync` makes them what a fresh one makes.

use super::reader::Kind;
use super::site::*;
use crate::netns::{CLIENT_V4, CLIENT_V6, STRANGER};
use opensesame_spa::firewall::Opening;
use std::time::Duration;

fn leases() -> Vec<Opening> {
    let mut all = both("tcp/22", 3_600);
    all.push(opening("192.0.2.0/24", "tcp/8000-8003", 3_600));
    all
}

/// Whether the stranger reaches tcp/22, the client being in anyway.
fn stranger_is_in(site: &Site) -> bool {
    let try_it = |to: &str| {
        site.world.enter(STRANGER, || {
            let socket = begin(format!("{to}:22").parse().unwrap());
            let end = moment() + Duration::from_secs(2);
            while moment() < end && socket.peer_addr().is_err() {
                std::thread::sleep(Duration::from_millis(5));
            }
            socket.peer_addr().is_ok()
        })
    };
    try_it("10.77.2.1") || try_it("[fd77:2::1]")
}

fn heals(site: &Site, kind: Kind) {
    let reader = site.reader();
    let in_by_lease = ["client v4 tcp/22", "client v6 tcp/22"];
    site.admits(&everybody(&["tcp/22", "tcp/80", "tcp/8005", "udp/53"]));
    reader.foreign(&site.world);
    let mut wall = site.shielded(&leases());
    let fresh = reader.state(&site.world);
    site.admits(&in_by_lease);
    let damages: Vec<_> = reader.damages().into_iter().filter(|d| d.kind == kind).collect();
    assert!(damages.iter().any(|d| d.opens) || kind == Kind::Duplicated, "none would be noticed");
    for damage in damages {
        site.sh(&damage.deed);
        let deed = &damage.deed;
        if damage.opens {
            assert!(stranger_is_in(site), "it was to open the door: {deed}");
        }
        let before = reader.state(&site.world);
        let moved = site.left(CLIENT_V4, "tcp/22") != site.left(CLIENT_V6, "tcp/22");
        let dormant = deed.contains("dormant");
        assert!(before != fresh || moved || dormant, "no damage: {deed}");
        wall.sync(&leases()).unwrap_or_else(|e| panic!("{deed}: {e}"));
        if damage.opens {
            assert!(!stranger_is_in(site), "not healed: {deed}");
        }
        if !damage.undo.is_empty() {
            site.sh(&damage.undo);
        }
        assert_eq!(reader.state(&site.world), fresh, "{deed}");
        let ends = |to: &str| site.left(to, "tcp/22");
        let all = [ends(CLIENT_V4), ends(CLIENT_V6), site.left("192.0.2.200", "tcp/8003")];
        assert!(all.iter().all(|s| (3_570..=3_601).contains(s)), "{deed}: {all:?}");
    }
    site.admits(&in_by_lease);
}

/// Rules that somebody has removed.
pub fn rule_removed(site: &Site) {
    heals(site, Kind::RuleRemoved);
}

/// Sets that somebody has emptied, filled for a stranger, or given other ends.
pub fn set_flushed(site: &Site) {
    heals(site, Kind::SetFlushed);
}

/// Chains, sets and tables that are gone or do not filter.
pub fn chain_deleted(site: &Site) {
    heals(site, Kind::ChainDeleted);
}

/// A second table or jump, or one of our name that is not ours.
pub fn duplicated(site: &Site) {
    heals(site, Kind::Duplicated);
}

/// Others' rules, chains and sets in what is ours.
pub fn foreign_rule(site: &Site) {
    heals(site, Kind::ForeignRule);
}
