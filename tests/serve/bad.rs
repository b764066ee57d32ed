//! A machine that does not give what the server needs.

use super::server::*;
use std::net::UdpSocket;
use std::process::Command;

/// A server that must not start: its one line.
fn fails(mut command: Command) -> String {
    command.stderr(std::process::Stdio::piped());
    let out = command.env_remove("OPENSESAME_LOG").output().unwrap();
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{text}");
    let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{text}");
    errors[0].to_string()
}

#[test]
fn a_port_that_is_taken_ends_the_start_and_leaves_the_door_shut() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    let taken = server.world.enter(SERVER, || UdpSocket::bind(("::", UDP)).unwrap());
    let why = fails(server.command());
    assert!(why.contains("41841") && why.contains("another program has it"), "{why}");
    assert_eq!(server.tries(STRANGER), Tried::Silence);
    assert!(!server.path("s/control.sock").exists());
    assert_eq!(server.processes().len(), 1, "the listener alone");
    drop(taken);
    server.start();
    server.open("alice", &["--wait=20s"]);
}

#[test]
fn a_second_server_is_refused_and_the_first_goes_on() {
    let Some(server) = Server::running("nftables") else { return };
    let why = fails(server.command());
    assert!(why.contains("another server uses this state"), "{why}");
    // Another control socket does not help.
    server.edit("s/server.toml", |t| t.replace("control.sock", "other.sock"));
    let why = fails(server.command());
    assert!(why.contains("another server uses this state"), "{why}");
    // Another state directory and the same socket do not either.
    server.edit("s/server.toml", |t| {
        t.replace("other.sock", "control.sock").replace("/state\"", "/state2\"")
    });
    let why = fails(server.command());
    assert!(why.contains("control socket"), "{why}");
    server.edit("s/server.toml", |t| t.replace("/state2\"", "/state\""));
    server.open("alice", &["--wait=20s"]);
}

#[test]
fn without_the_right_to_filter_nothing_starts() {
    for backend in ["nftables", "iptables"] {
        let Some(server) = Server::new(backend) else { return };
        let mut command = server.world.command(SERVER, "setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", BIN]);
        command.args(["serve", "--config", "s/server.toml"]);
        command.current_dir(server.path("."));
        let why = fails(command);
        assert!(why.contains("CAP_NET_ADMIN"), "{backend}: {why}");
        assert!(server.processes().is_empty(), "nobody is left");
        assert!(!server.path("s/control.sock").exists(), "nothing to knock at");
    }
}

#[test]
fn no_record_no_grant_and_all_is_well_when_there_is_room_again() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.listen(22);
    server.amend("alice", "max-leases = 1000");
    let state = server.path("s/state");
    std::fs::create_dir(&state).unwrap();
    // Only the server's processes see this disk.
    let script = format!(
        "mount -t tmpfs -o size=20m,mode=700 tmpfs {0} && exec {BIN} serve --config s/server.toml",
        state.display()
    );
    let mut command = server.world.command(SERVER, "unshare");
    command.args(["-m", "sh", "-c", &script]);
    let command = server.logged(command);
    server.start_as(command);
    let inside = format!("/proc/{}/root{}", server.pids().0, state.display());
    server.open("alice", &["--ip", "10.88.0.1"]);
    server.knows_leases(1);
    // The room that the journal has reserved is taken away from it.
    let names = std::fs::read_dir(&inside).unwrap().map(|e| e.unwrap().path());
    let journal = names.max_by_key(|p| p.metadata().unwrap().len()).unwrap();
    let size = journal.metadata().unwrap().len();
    let length = (size - 8_192).to_string();
    let mut punch = Command::new("fallocate");
    punch.args(["--punch-hole", "--offset", "8192", "--length", &length]).arg(&journal);
    assert!(punch.status().unwrap().success());
    let fill = format!("{inside}/fill");
    let mut dd = Command::new("dd");
    dd.args(["if=/dev/zero", &format!("of={fill}"), "bs=4k"]).stderr(std::process::Stdio::null());
    assert!(!dd.status().unwrap().success(), "it is full");
    let alice = server.profile("alice");
    let mut sent = 0;
    eventually("full", || {
        sent += 1;
        let address = format!("10.88.{}.{}", 1 + sent / 200, 1 + sent % 200);
        server.send(CLIENT, &open_for(&alice, &address));
        server.log().contains("the journal cannot be written")
    });
    let before = server.leases().len();
    assert!(before <= sent + 1, "{before} leases for {sent} packets");
    for _ in 0..3 {
        server.open("alice", &[]);
    }
    eventually("refused", || server.refused("no-record") >= 3);
    assert_eq!(server.tries(CLIENT), Tried::Silence);
    assert_eq!(server.leases().len(), before);
    std::fs::remove_file(fill).unwrap();
    server.says("the journal can be written again");
    server.open("alice", &["--wait=20s"]);
}
