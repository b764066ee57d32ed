//! In a user namespace the send buffer cannot be forced: a long sync takes several transactions.

use super::common::*;
use std::process::{Command, Stdio};

/// Set in the process that is inside.
const INSIDE: &str = "OPENSESAME_TEST_INSIDE";
const NAME: &str = "nftables::confined::a_long_sync_in_a_user_namespace";

fn many(ms: u64) -> Vec<Opening> {
    (0..32_000u32)
        .map(|n| opening(&std::net::Ipv4Addr::from(0x0b00_0000 + n).to_string(), "tcp/22", ms))
        .collect()
}

#[test]
fn a_long_sync_in_a_user_namespace() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    if crate::netns::obstacle(&["nft", "unshare"]).is_some() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--net"]);
    if !command.arg("true").stderr(Stdio::null()).status().is_ok_and(|s| s.success()) {
        println!("SKIPPED {NAME}: no user namespaces here");
        return;
    }
    let out = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", NAME, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare");
    let text = String::from_utf8_lossy(&out.stdout);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && text.contains("inside"), "{text} {errors}");
}

fn count(set: &str) -> usize {
    let out =
        Command::new("nft").args(["list", "set", "inet", "opensesame", set]).output().expect("nft");
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).matches("tcp . 22").count()
}

fn inside() {
    println!("inside");
    let mut firewall = Nftables::new(&shield(&["tcp/22"])).expect("backend");
    let all = many(900_000);
    firewall.sync(&all, now()).expect("sync");
    assert_eq!((count("lease4"), count("ports")), (32_000, 1));
    firewall.open(&many(9_000_000)[..15_000], now()).expect("open");
    firewall.sync(&all[..10_000], now()).expect("sync");
    assert_eq!(count("lease4"), 10_000);
    let gone: Vec<Element> = all.iter().map(|o| o.element).collect();
    firewall.close(&gone, now()).expect("close");
    assert_eq!(count("lease4"), 0);
}
