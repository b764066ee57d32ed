//! The nftables backend with two hands: ours writes, the system's own tools read. All of it in
//! namespaces that the tests make.

#![allow(unreachable_pub, missing_docs)]

#[cfg(target_os = "linux")]
mod netns;

#[cfg(target_os = "linux")]
#[path = "nftables"]
mod nftables {
    mod bans;
    mod common;
    mod confined;
    mod doors;
    mod drift;
    mod gateways;
    mod observe;
    mod pinhole;
    mod router;
    mod scans;
    mod sessions;
    mod strain;
    mod wide;
}
