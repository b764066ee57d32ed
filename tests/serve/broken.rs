//! Files that are broken at boot: the ports are shut all the same.

use super::server::*;

/// As after a reboot: no rule is left.
fn reboot(server: &Server, backend: &str) {
    let forget = match backend {
        "nftables" => "nft flush ruleset",
        _ => {
            "for t in iptables ip6tables; do $t -t mangle -F; $t -t mangle -X; $t -F; done; ipset destroy"
        }
    };
    server.world.run(SERVER, &["sh", "-c", forget]);
    for (host, address) in
        [(CLIENT, SERVER_V4), (CLIENT, SERVER_V6), (STRANGER, SERVER_OF_STRANGER)]
    {
        assert_eq!(
            server.world.connect(host, address, 22),
            Tried::Open,
            "the machine has no rules"
        );
    }
}

fn is_shut(server: &Server) {
    for (host, address) in
        [(CLIENT, SERVER_V4), (CLIENT, SERVER_V6), (STRANGER, SERVER_OF_STRANGER)]
    {
        assert_eq!(server.world.connect(host, address, 22), Tried::Silence);
    }
}

/// What it says when it cannot begin.
fn fails(server: &Server, more: &[&str]) -> String {
    let config = server.path("s/server.toml").display().to_string();
    let out =
        server.world.try_run(SERVER, &[&[BIN, "serve", "--config", &config][..], more].concat());
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn shut_with_broken_files(backend: &str) {
    let Some(mut server) = Server::new(backend) else { return };
    server.listen(22);
    server.start();
    is_shut(&server);
    server.stop();
    let good = server.read("s/server.toml");
    for (broken, more) in [
        (good.replace("[service", "[servce"), &[][..]),
        (good.replace("[firewall]", "[firewall"), &["--shield-only"]),
        (String::new() + "state-dir" + good.split_once("state-dir").unwrap().1, &[]),
    ] {
        reboot(&server, backend);
        server.write("s/server.toml", &broken);
        let said = fails(&server, more);
        assert!(
            said.contains("server.toml") && said.contains("the last good shield is up"),
            "{said}"
        );
        is_shut(&server);
        // Once more: what is up stays.
        assert!(fails(&server, more).contains("the shield that is up stays"));
        is_shut(&server);
    }
    // Only the keys are wrong.
    server.write("s/server.toml", &good);
    let keys = server.read("s/server.key");
    server.write("s/server.key", "nonsense");
    reboot(&server, backend);
    assert!(fails(&server, &[]).contains("server.key"));
    is_shut(&server);
    // Mended: as if nothing had been.
    server.write("s/server.key", &keys);
    server.start();
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    // A reload keeps what is protected from then on.
    server.edit("s/server.toml", |text| text.replace("\"tcp/22\"", "\"tcp/23\""));
    server.order(&["reload"]);
    server.stop();
    server.world.run(
        SERVER,
        &["sh", "-c", "nft flush ruleset; iptables -t mangle -F; ip6tables -t mangle -F"],
    );
    server.write("s/server.toml", &good.replace("[service", "[servce"));
    assert!(fails(&server, &[]).contains("the last good shield is up"));
    assert_eq!(server.world.connect(STRANGER, SERVER_OF_STRANGER, 22), Tried::Open);
    // Not even that can be read: it is said that the ports may be open.
    server.write("s/state.shield", "nonsense");
    assert!(fails(&server, &[]).contains("the ports may be open: "));
    // Opened on purpose: nothing comes back.
    server.write("s/server.toml", &good);
    let config = server.path("s/server.toml").display().to_string();
    server.world.run(SERVER, &[BIN, "uninstall", "--config", &config]);
    server.write("s/server.toml", "nonsense");
    assert!(!fails(&server, &[]).contains("shield"));
    assert_eq!(server.world.connect(STRANGER, SERVER_OF_STRANGER, 22), Tried::Open);
}

#[test]
fn shut_with_broken_files_on_nftables() {
    shut_with_broken_files("nftables");
}

#[test]
fn shut_with_broken_files_on_iptables() {
    shut_with_broken_files("iptables");
}

#[test]
fn what_is_kept_of_the_shield_belongs_to_root_alone() {
    use std::os::unix::fs::MetadataExt;
    let Some(server) = Server::running("nftables") else { return };
    let about = std::fs::metadata(server.path("s/state.shield")).unwrap();
    assert_eq!((about.mode() & 0o777, about.uid()), (0o600, 0));
    // [engine] could replace what lies in its own directory.
    assert_ne!(std::fs::metadata(server.path("s/state")).unwrap().uid(), 0);
    assert_eq!(std::fs::metadata(server.path("s")).unwrap().uid(), 0);
}
