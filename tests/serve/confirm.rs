//! Nobody locks himself out: what is not confirmed is rolled back.

use super::server::*;

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
}

#[test]
fn what_is_not_confirmed_is_rolled_back_on_nftables() {
    rolled_back_and_kept("nftables", &["nft", "list", "ruleset"]);
}

#[test]
fn what_is_not_confirmed_is_rolled_back_on_iptables() {
    rolled_back_and_kept("iptables", &["iptables-save"]);
}
