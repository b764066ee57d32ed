//! `serve --observe`: everything is as open as before, and the log names who would be shut out.

use super::server::*;

fn observing() -> Option<Server> {
    let mut server = Server::new("nftables")?;
    server.listen(22);
    let mut command = server.world.command(SERVER, BIN);
    command.args(["serve", "--observe", "--config", "s/server.toml"]);
    let command = server.logged(command);
    server.start_as(command);
    Some(server)
}

#[test]
fn a_stranger_comes_in_and_is_named() {
    let Some(mut server) = observing() else { return };
    server.says("NOTHING IS PROTECTED");
    server.open("alice", &["--for", "10m"]);
    server.says("open client=alice");
    server.knows_leases(1);
    eventually("open", || server.tries(CLIENT) == Tried::Open);
    assert_eq!(server.tries(STRANGER), Tried::Open);
    let named = format!("would be dropped address={STRANGER_V4} ports=tcp/22");
    server.says(&named);
    assert!(!server.log().contains(&format!("would be dropped address={CLIENT_V4}")));
    // He is named once, as long as he stays.
    assert_eq!(server.log().matches(&named).count(), 1);
    // It keeps no last good shield, and doctor does not take it for one.
    assert!(!server.path("s/state.shield").exists());
    let out = server.run(SERVER, &["doctor", "--config", "s/server.toml"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("no rule of ours"), "{text}");
    server.stop();
    // What it leaves is no shield: the next one shuts before it has read anything.
    assert_eq!(server.tries(STRANGER), Tried::Open);
    server.order(&["serve", "--shield-only"]);
    assert_eq!(server.tries(STRANGER), Tried::Silence);
}

#[test]
fn a_broken_key_shuts_what_an_observer_has_left_open() {
    let Some(mut server) = observing() else { return };
    server.stop();
    assert_eq!(server.tries(STRANGER), Tried::Open);
    server.write("s/server.key", "nonsense");
    let out = server.run(SERVER, &["serve", "--config", "s/server.toml"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(server.tries(STRANGER), Tried::Silence);
}
