//! Bans from the journal to the kernel and back, and the file of the recovery PIN.

use super::server::*;
use opensesame_spa::access::Policy;
use opensesame_spa::crypto::ServerId;
use opensesame_spa::daemon::store::{Directory, Journal};
use opensesame_spa::engine::suspicion::Rules;
use opensesame_spa::engine::{Engine, Setup, Window};
use opensesame_spa::time::{Mono, Now};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;

const GATE: &str = "\n[http-gate]\nlisten = \"0.0.0.0:4444\"\nroot = \"/\"\n\
    files = { \"*\" = \"index.html\" }\nblock = \"firewall\"\nnever = [\"10.77.2.2\"]\n";

/// A server whose journal remembers strikes as if its gate had reported them.
fn server(backend: &str, struck: &[&str]) -> Option<Server> {
    let mut server = Server::new(backend)?;
    server.edit("s/server.toml", |text| {
        text.replace("[service.\"ssh\"]\n", "[service.\"ssh\"]\nrefuse = \"reset\"\n") + GATE
    });
    assert!(server.read("s/server.toml").contains("reset"));
    // Once, so that the directory is there as the server makes it.
    server.start();
    server.stop();
    let folder = std::fs::File::open(server.path("s/state")).unwrap();
    let (mut journal, history) = Journal::open(Directory::new(folder.into())).unwrap();
    let setup = Setup {
        server: ServerId([0; 16]),
        doors: vec![],
        clients: vec![],
        plain: None,
        knocks: Vec::new(),
        salt: [0; 16],
        policy: Policy::new(vec![], vec![SERVER_V6.parse().unwrap()]),
        rules: Rules::default(),
        window: Window::default(),
        boot: [0; 16],
    };
    let now = Now { unix: wall(), mono: Mono(1) };
    let mut engine = Engine::start(setup, &history, now);
    journal.mend(&mut engine).unwrap();
    for from in struck {
        (0..4).for_each(|n| engine.handle_strike(n, from.parse().unwrap(), 0, now));
    }
    assert!(journal.turn(&mut engine, now).failed.is_none());
    server.listen(22);
    Some(server)
}

fn banned(server: &Server) -> Vec<String> {
    let list: Value = serde_json::from_str(&server.order(&["bans", "--json"])).unwrap();
    let address = |b: &Value| b["address"].as_str().unwrap().to_string();
    list.as_array().unwrap().iter().map(address).collect()
}

#[test]
fn bans_are_restored_before_anybody_is_heard_and_pardoned_for_good() {
    let struck = [CLIENT_V4, CLIENT_V6, "10.77.2.2", "127.0.0.1", SERVER_V4, "192.0.2.1"];
    let Some(mut server) = server("nftables", &struck) else { return };
    server.start();
    // Who is never banned is not, whatever the journal says.
    assert_eq!(banned(&server), [CLIENT_V4, "192.0.2.1", CLIENT_V6]);
    let text = server.order(&["bans"]);
    assert!(text.starts_with("ADDRESS") && text.contains("192.0.2.1"), "{text}");
    let tried = |server: &Server, host, address| server.world.connect(host, address, 22);
    assert_eq!(tried(&server, CLIENT, SERVER_V4), Tried::Silence);
    assert_eq!(tried(&server, CLIENT, SERVER_V6), Tried::Silence);
    assert_eq!(tried(&server, STRANGER, SERVER_OF_STRANGER), Tried::Refused);
    // Killed, and all of it again.
    server.crash();
    server.start();
    assert_eq!(banned(&server).len(), 3);
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    assert_eq!(banned(&server).len(), 3);
    assert_eq!(tried(&server, CLIENT, SERVER_V4), Tried::Silence);
    // A valid packet is let in, and its sender is banned no more.
    server.open("alice", &["--for", "1m", "--port", "tcp/22", "--wait=20s"]);
    server.says(&format!("pardoned address={CLIENT_V4}"));
    eventually("one ban less", || banned(&server).len() == 2);
    let text = server.order(&["pardon", "fd77:1::/64"]);
    assert!(text.contains("1 bans ended"), "{text}");
    assert_eq!(banned(&server), ["192.0.2.1"]);
    eventually("no ban", || tried(&server, CLIENT, SERVER_V6) == Tried::Refused);
    let status = server.status();
    assert_eq!((&status["bans"], &status["strikes"]), (&1.into(), &0.into()));
    // A pardon is remembered too: the journal is asked again.
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    server.wait_engine();
    assert_eq!(banned(&server), ["192.0.2.1"]);
    // Pardoned while nobody is there who remembers: heard when he is back, and for that ban alone.
    let (_, engine) = server.pids();
    kill("STOP", &[engine]);
    kill("KILL", &[engine]);
    server.order(&["pardon", "0.0.0.0/0"]);
    server.wait_engine();
    assert_eq!(banned(&server).len(), 0);
    server.crash();
    server.start();
    assert_eq!(banned(&server).len(), 0);
}

/// The console: a terminal, as script(1) makes one.
#[test]
fn a_new_pin_is_shown_on_a_terminal() {
    let Some(mut server) = server("nftables", &[]) else { return };
    std::fs::remove_file(server.path("s/state/recovery-pin")).unwrap();
    let line = format!("{BIN} serve --config '{}'", server.path("s/server.toml").display());
    let mut command = server.world.command(SERVER, "script");
    command.args(["-qafec", &line]).arg(server.path("log"));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    server.start_as(command);
    let pin = server.read("s/state/recovery-pin");
    assert_eq!(pin.trim().len(), 12);
    eventually("it is shown", || server.log().contains(&format!("recovery PIN: {}", pin.trim())));
}

#[test]
fn the_recovery_pin_is_kept_in_its_file_and_nowhere_else() {
    let Some(mut server) = server("nftables", &[]) else { return };
    let file = server.path("s/state/recovery-pin");
    let digits = || {
        let text = std::fs::read_to_string(&file).unwrap();
        let pin = text.trim_end().to_string();
        assert!(pin.len() == 12 && pin.bytes().all(|b| b.is_ascii_digit()), "{text}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        pin
    };
    let first = digits();
    server.says("a new recovery PIN is in ");
    server.start();
    assert_eq!(digits(), first, "a start keeps it");
    server.stop();
    let readable = || {
        let mode = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(&file, mode).unwrap();
    };
    let short = || std::fs::write(&file, "1234567\n").unwrap();
    let link = || {
        let other = file.with_file_name("other");
        std::fs::rename(&file, &other).unwrap();
        std::os::unix::fs::symlink(&other, &file).unwrap();
    };
    let gone = || std::fs::remove_file(&file).unwrap();
    let broken: [&dyn Fn(); 4] = [&readable, &short, &link, &gone];
    let mut before = first;
    for (what, breaks) in broken.iter().enumerate() {
        breaks();
        server.start();
        server.stop();
        let after = digits();
        assert_ne!(after, before, "{what}");
        assert!(file.symlink_metadata().unwrap().is_file(), "{what}");
        before = after;
    }
    assert!(!server.log().contains(&before), "a PIN in the log");
    assert!(server.log().contains("[http-gate] is on"));
}

#[test]
fn a_file_that_climbs_out_of_the_root_is_refused_with_its_place() {
    let Some(server) = Server::new("dry-run") else { return };
    server.edit("s/server.toml", |text| text + GATE);
    assert!(server.order(&["serve", "--check"]).contains("configuration OK"));
    for climbs in ["../shadow", "/etc/shadow", "a/../../b", "./index.html", ""] {
        let sound = "= \"index.html\" }";
        server.edit("s/server.toml", |text| text.replace(sound, &format!("= {climbs:?} }}")));
        let out = server.run(SERVER, &["serve", "--check", "--config", "s/server.toml"]);
        let why = String::from_utf8(out.stderr).unwrap();
        let line =
            server.read("s/server.toml").lines().position(|l| l.starts_with("files")).unwrap();
        let place = format!("server.toml:{}:17: ", line + 1);
        assert!(out.status.code() == Some(1) && why.contains(&place), "{climbs}: {why}");
        assert!(why.contains("below root"), "{why}");
        server.edit("s/server.toml", |text| text.replace(&format!("= {climbs:?} }}"), sound));
    }
}
