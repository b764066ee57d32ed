//! The port knocking demo in real containers, by an engine of the test's own, in a namespace of
//! its own.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)]

mod containers;
mod netns;

use containers::{Engine, done};
use netns::{CLIENT, SERVER, SERVER_V4, STRANGER, Tried, World, obstacle};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const BIN: &str = env!("CARGO_BIN_EXE_opensesame-spa");
const TARGET: &str = "x86_64-unknown-linux-musl";
const HOME: &str = "packaging/docker/port-knocking";

const TRANSCRIPT: [&str; 7] = [
    "[*] Sending knock sequence: [1560, 6580, 8153]",
    "[*] Knocking on port 1560",
    "[*] Knocking on port 6580",
    "[*] Knocking on port 8153",
    "[+] Knock sequence complete",
    "[*] Checking access to protected port 2222...",
    "[+] Connected to protected port 2222",
];

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..300 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not within 30 s: {what}");
}

/// The engine and where it runs, if there can be one here; dropped in this order.
struct Demo {
    engine: Engine,
    world: World,
}

impl Demo {
    fn start() -> Option<Demo> {
        // `docker compose` where it is a plug-in, `docker-compose` on older systems.
        if obstacle(&["dockerd", "docker", "musl-gcc"]).is_some() {
            return None;
        }
        if !composes(&["docker", "compose"]) && obstacle(&["docker-compose"]).is_some() {
            return None;
        }
        let world = World::new(&["dockerd", "iptables"])?;
        Some(Demo { engine: Engine::start(world.name(SERVER)), world })
    }

    fn compose(&self, args: &[&str]) -> Command {
        let mut command = match composes(&["docker", "compose"]) {
            true => Command::new("docker"),
            false => Command::new("docker-compose"),
        };
        if command.get_program() == "docker" {
            command.arg("compose");
        }
        command.env("DOCKER_HOST", self.engine.socket()).env("COMPOSE_PROJECT_NAME", "os");
        command.args(args).current_dir(root().join(HOME));
        command
    }
}

fn composes(program: &[&str]) -> bool {
    let out = Command::new(program[0]).args(&program[1..]).arg("version").output();
    out.is_ok_and(|o| o.status.success())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The static binary, where the image takes it from: quickly made, and not as small as it could be.
fn build() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--target", TARGET]).current_dir(root());
    for (what, how) in [("LTO", "off"), ("CODEGEN_UNITS", "16"), ("OPT_LEVEL", "1")] {
        cargo.env(format!("CARGO_PROFILE_RELEASE_{what}"), how);
    }
    done(cargo.env("CARGO_TARGET_DIR", root().join("target")));
}

/// The state of a process, as ps(1) has it; nothing if there is none.
fn state(pid: &str) -> Option<char> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

#[test]
fn knocks_open_a_port_of_a_container() {
    let Some(demo) = Demo::start() else { return };
    let engine = &demo.engine;
    build();

    // `docker compose up`: what the visitor says is what the first of these systems said.
    let up = ["up", "--build", "--no-color", "--abort-on-container-exit", "--exit-code-from"];
    let text = done(demo.compose(&up).arg("visitor"));
    let of_visitor = |l: &str| {
        Some(
            l.split_once("| ").filter(|(who, _)| who.contains("visitor"))?.1.trim_end().to_string(),
        )
    };
    let said: Vec<String> = text.lines().filter_map(of_visitor).collect();
    assert_eq!(said, TRANSCRIPT, "{text}");
    done(&mut demo.compose(&["down"]));

    // `docker run` with published ports.
    let run = "run -d --name one --cap-add=NET_ADMIN -p 1560:1560/udp -p 6580:6580/udp \
               -p 8153:8153/udp -p 2222:2222/tcp portknock";
    done(&mut engine.docker(&run.split_whitespace().collect::<Vec<_>>()));
    let healthy = || {
        let status = engine.docker(&["exec", "one", "/opensesame-spa", "status"]).output().unwrap();
        String::from_utf8_lossy(&status.stdout).contains("ready")
    };
    eventually("ready", healthy);
    let tries = |host: &str, address: &str| demo.world.connect(host, address, 2222);
    let stranger = demo.world.run(STRANGER, &["ip", "-4", "route", "show", "default"]);
    let of_stranger = stranger.split_whitespace().nth(2).unwrap();
    assert_eq!(tries(CLIENT, SERVER_V4), Tried::Silence);
    assert_eq!(tries(STRANGER, of_stranger), Tried::Silence);
    let knock = [BIN, "knock", SERVER_V4, "1560", "6580", "8153", "--check", "tcp/2222"];
    let text = demo.world.run(CLIENT, &knock);
    assert_eq!(text.lines().collect::<Vec<_>>(), TRANSCRIPT);
    assert_eq!(tries(CLIENT, SERVER_V4), Tried::Open);
    assert_eq!(tries(STRANGER, of_stranger), Tried::Silence);

    // The duties of the first process: it buries whom nobody else does, and a signal ends it.
    let first = engine.inspect("one", "{{.State.Pid}}");
    let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
    let is_service = |pid: &&str| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        line.contains("container-service")
    };
    let service = children.split_whitespace().find(is_service).unwrap();
    assert!(state(service).is_some_and(|s| s != 'Z'));
    done(Command::new("kill").args(["-9", service]));
    eventually("buried", || state(service).is_none());
    assert!(healthy());
    done(&mut engine.docker(&["stop", "-t", "60", "one"]));
    assert_eq!(engine.inspect("one", "{{.State.ExitCode}}"), "0");
}
