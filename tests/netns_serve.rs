//! The whole server from outside: real processes, real packets, real packet filters, in namespaces
//! that the tests make.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

#[cfg(target_os = "linux")]
mod containers;
#[cfg(target_os = "linux")]
mod netns;

#[cfg(target_os = "linux")]
#[path = "serve"]
mod serve {
    mod admission;
    mod bad;
    mod bans;
    mod broken;
    mod browser;
    mod capture;
    mod clients;
    mod confirm;
    mod cut;
    mod doctor;
    mod evictions;
    mod firewalld;
    mod flood;
    mod gate;
    mod gateway;
    mod heal;
    mod hooks;
    mod hostile;
    mod kills;
    mod knock;
    mod machine;
    mod many;
    mod mistakes;
    mod observe;
    mod orders;
    mod pinhole;
    mod plain;
    mod policy;
    mod published;
    mod reload;
    mod replay;
    mod sequences;
    mod server;
    mod six;
    mod slow;
    mod ufw;
}
