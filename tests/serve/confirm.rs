//! Nobody locks himself out: what is not confirmed is rolled back.

use super::server::*;
use crate::netns::Guard;

fn started(server: &mut Server, seconds: &str) {
    let mut command = server.world.command(SERVER, BIN);
    let config = server.path("s/server.toml");
    command.args(["serve", "--confirm", seconds, "--config"]).arg(config);
    command.env("SSH_CONNECTION", format!("{CLIENT_V4} 50022 {SERVER_V4} 22"));
    let command = server.logged(command);
    server.start_as(command);
}

fn tries(server: &Server, port: u16) -> Tried {
    server.world.connect(STRANGER, SERVER_OF_STRANGER, port)
}

fn rolled_back_and_kept(backend: &str, rules: &[&str]) {
    let Some(mut server) = Server::new(backend) else { return };
    server.listen(22);
    server.listen(23);
    let before = server.world.run(SERVER, rules);
    assert_eq!(tries(&server, 22), Tried::Open);
    started(&mut server, "2s");
    server.says("you are here by ssh from 10.77.1.2, through tcp/22");
    assert_eq!(tries(&server, 22), Tried::Silence);
    server.ends();
    server.says("not confirmed in time: our rules are gone");
    assert_eq!(tries(&server, 22), Tried::Open);
    // iptables leaves empty tables behind.
    let after = server.world.run(SERVER, rules);
    assert!(backend == "iptables" || after == before, "{after}");
    assert!(!after.to_lowercase().contains("opensesame"), "{after}");
    // Nor does it stay when the server ends before anybody has confirmed it,
    started(&mut server, "60s");
    assert_eq!(tries(&server, 22), Tried::Silence);
    server.stop();
    server.says("rolled back: our rules are gone");
    assert_eq!(tries(&server, 22), Tried::Open);
    // or cannot even begin.
    let port = UDP.to_string();
    let mut other = server.world.command(SERVER, "nc");
    let _other = Guard(other.args(["-6", "-u", "-l", &port]).spawn().unwrap());
    eventually("the port is taken", || {
        let sockets = server.world.run(SERVER, &["cat", "/proc/net/udp6"]);
        sockets.contains(&format!(":{UDP:04X} "))
    });
    let config = server.path("s/server.toml").display().to_string();
    let serve = [BIN, "serve", "--confirm", "60s", "--config", &config];
    let out = server.world.try_run(SERVER, &serve);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.code() == Some(1) && said.contains("cannot listen on"), "{said}");
    assert_eq!(tries(&server, 22), Tried::Open, "{said}");
    drop(_other);
    // Confirmed, it stays.
    started(&mut server, "3s");
    assert_eq!(server.order(&["confirm"]), "confirmed: it stays\n");
    assert_eq!(server.order(&["confirm"]), "nothing waits to be confirmed\n");
    std::thread::sleep(std::time::Duration::from_millis(3_500));
    assert_eq!(tries(&server, 22), Tried::Silence);
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    server.stop();
    // What is not confirmed now gives way to what was.
    server.edit("s/server.toml", |text| text.replace("\"tcp/22\"", "\"tcp/23\""));
    started(&mut server, "2s");
    assert_eq!((tries(&server, 22), tries(&server, 23)), (Tried::Open, Tried::Silence));
    server.ends();
    server.says("the shield is the one that was good before");
    assert_eq!((tries(&server, 22), tries(&server, 23)), (Tried::Silence, Tried::Open));
    // What was good cannot be read any more: nothing is opened for that.
    server.write("s/state.shield", "nonsense");
    started(&mut server, "2s");
    server.ends();
    server.says("state.shield is damaged");
    assert_eq!(tries(&server, 23), Tried::Silence);
}

#[test]
fn what_is_not_confirmed_is_rolled_back_on_nftables() {
    rolled_back_and_kept("nftables", &["nft", "list", "ruleset"]);
}

#[test]
fn what_is_not_confirmed_is_rolled_back_on_iptables() {
    rolled_back_and_kept("iptables", &["iptables-save"]);
}
