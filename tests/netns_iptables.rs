//! The iptables backend against the kernel, in both variants, with ipset and without: ours
//! writes, the system's tools and real connections judge.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod iptables;
mod netns;

use iptables::{Kind, TOOLS, Wall, disguised, masked, shield};
use netns::{SERVER, World};
use opensesame_spa::firewall::iptables::Options;
use opensesame_spa::firewall::{Error, Iptables};
use std::time::Duration;

macro_rules! each {
    ($($room:ident $scenario:ident: $($kind:ident)*;)*) => { $(mod $scenario {
        $(#[test]
        fn $kind() {
            crate::iptables::$room::$scenario(crate::$kind)
        })*
    })* };
}

#[allow(non_upper_case_globals)]
const nft_sets: Kind = Kind { legacy: false, ipset: true };
#[allow(non_upper_case_globals)]
const nft_times: Kind = Kind { legacy: false, ipset: false };
#[allow(non_upper_case_globals)]
const legacy_sets: Kind = Kind { legacy: true, ipset: true };
#[allow(non_upper_case_globals)]
const legacy_times: Kind = Kind { legacy: true, ipset: false };

each! {
    leases datagrams: nft_sets legacy_times;
    leases scan: nft_sets legacy_times;
    healing failure: nft_sets legacy_times;
    turns turn: nft_sets nft_times legacy_sets legacy_times;
    turns codes: legacy_times;
    turns busy_sets: nft_sets legacy_sets;
    bans bans: nft_sets nft_times legacy_sets;
    leases remembered: nft_sets legacy_times;
    gateway routed: nft_sets legacy_times;
    gateway forward: nft_times legacy_sets;
    pinhole chain: nft_sets legacy_times;
    pinhole mark: nft_times legacy_sets;
    observe observed: nft_sets legacy_sets nft_times;
}

#[test]
fn a_lock_that_another_holds_is_waited_for_with_a_limit() {
    let Some(world) = World::new(&TOOLS) else { return };
    // A lock file of its own: the system's one is shared by all namespaces.
    let dir = disguised("export XTABLES_LOCKFILE=$d/lock");
    let path = dir.path().join("lock");
    let file = std::fs::File::create(&path).unwrap();
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let mut wall = Wall::new(&world, masked(legacy_sets, dir.path()));
    let error = wall.sync(&[]).unwrap_err();
    assert!(matches!(error, Error::Busy(_)), "{error}");
    let released = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        lock.unlock().unwrap();
    });
    wall.sync(&[]).unwrap();
    released.join().unwrap();
}

#[test]
fn without_rights_or_tools_it_says_so() {
    let Some(world) = World::new(&TOOLS) else { return };
    for kind in [nft_times, legacy_times] {
        let dir = disguised(
            "case $me in *restore) ;; *) exec /usr/bin/setpriv --reuid 65534 --clear-groups \
             /usr/sbin/$me \"$@\";; esac",
        );
        let mut wall = Wall::new(&world, masked(kind, dir.path()));
        assert_eq!(wall.sync(&[]), Err(Error::Rights));
    }
    let empty = tempfile::tempdir().unwrap();
    for legacy in [None, Some(true)] {
        let options =
            Options { legacy, directories: vec![empty.path().to_path_buf()], ..Options::default() };
        let error = Iptables::with(&shield(), options).unwrap_err();
        assert!(matches!(&error, Error::Missing(t) if t.contains("package iptables")), "{error}");
    }
    assert!(world.enter(SERVER, || Iptables::new(&shield())).is_ok());
}
