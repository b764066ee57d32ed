//! One contract, every backend that this machine has: `docs/conformance.md` is what passes here.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, unreachable_pub, missing_docs)]

#[path = "netns/conformance/mod.rs"]
mod conformance;
mod netns;
mod packets;

use conformance::page;

/// Scenarios: a module's function, what it shows, and the backends that must show it.
macro_rules! contract {
    ($($room:ident $scenario:ident $what:literal: $($backend:ident)*;)*) => {
        $(mod $scenario {
            $(#[test]
            fn $backend() {
                let backend = crate::conformance::backend::all::$backend;
                let scenario = crate::conformance::$room::$scenario;
                crate::page::passes(stringify!($scenario), stringify!($backend), backend, scenario);
            })*
        })*
        /// The same as text.
        pub const CONTRACT: &[page::Row] =
            &[$((stringify!($scenario), $what, &[$(stringify!($backend)),*])),*];
    };
}

macro_rules! every_backend {
    ($($room:ident $scenario:ident $what:literal;)*) => { contract! { $($room $scenario $what:
        nftables iptables_nft_ipset iptables_nft_time iptables_legacy_ipset iptables_legacy_time;)* }
    };
}

every_backend! {
    leases open "shut before the lease, open with it, for who has it";
    leases extend "a new end is the end, later or earlier; one element";
    leases close "what is closed is shut, and nothing else";
    leases two_clients "an element lives as long as its last lease";
    leases expiry "the kernel ends a lease by itself, not before its time";
    leases thousand "1,000 leases in one call";
    leases dual_stack "a lease of one family leaves the other one shut";
    leases prefixes "prefixes, also inside each other";
    leases services "several services, each alone";
    leases ranges "ranges of ports, also inside each other";
    drift rule_removed "sync after rules were removed";
    drift set_flushed "sync after sets were flushed or filled";
    drift chain_deleted "sync after chains, sets, the table were deleted";
    drift duplicated "sync after a table, jump or set was doubled or replaced";
    drift foreign_rule "sync after others' rules came among ours";
    lives restart "live leases over a restart: no gap, none twice";
    lives reload "other ports: leases go on without a gap";
    lives reboot "after a reboot nothing is open";
    lives uninstall "what was before is left, no more";
    lives older_session "a session older than the shield goes on";
    lives untracked "a host that tracks no connections";
    faults killed "killed before each call to the kernel: never open, then healed";
    faults refused "each call to the kernel or a tool fails: never open, then healed";
}

#[test]
fn the_page_says_what_is_tested() {
    page::is_up_to_date();
}

#[test]
fn inside() {
    conformance::faults::inside();
}
