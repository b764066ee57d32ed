//! Published ports of containers: the real engine of Docker and its own rules.

use super::machine::*;
use super::server::*;
use crate::containers::{Engine, done};
use crate::netns::obstacle;

/// The server as the stranger reaches it over IPv6.
const SERVER_V6_OF_STRANGER: &str = "fd77:2::1";

/// Containers that answer on 443, which is ours, and on 8080, which is not. They come back with the
/// engine.
fn publish(server: &Server, engine: &Engine) {
    let busybox = server.world.run(SERVER, &["sh", "-c", "command -v busybox"]);
    let (image, tree) = (server.path("image.tar"), server.path("tree"));
    std::fs::create_dir(&tree).unwrap();
    std::fs::copy(busybox.trim(), tree.join("busybox")).unwrap();
    let (image, tree) = (image.to_str().unwrap(), tree.to_str().unwrap());
    server.world.run(SERVER, &["tar", "-C", tree, "-cf", image, "busybox"]);
    done(&mut engine.docker(&["import", image, "web"]));
    for port in ["443", "8080"] {
        let run = format!(
            "run -d --restart always --stop-signal KILL --name c{port} -p {port}:80 web /busybox \
             httpd -f -p 80"
        );
        done(&mut engine.docker(&run.split(' ').collect::<Vec<_>>()));
    }
}

fn answers(server: &Server) {
    for (host, port, expected) in [
        (CLIENT, 443, Tried::Open),
        (CLIENT, 8080, Tried::Open),
        (STRANGER, 8080, Tried::Open),
        (STRANGER, 443, Tried::Silence),
    ] {
        is_at(server, host, port, expected);
    }
    assert_eq!(server.world.connect(STRANGER, SERVER_V6_OF_STRANGER, 443), Tried::Silence);
}

#[test]
fn published_ports_are_open_to_lease_holders_alone() {
    if obstacle(&["dockerd", "docker", "busybox", "iptables", "ip6tables"]).is_some() {
        return;
    }
    let Some(mut server) = Server::new("nftables") else { return };
    server.edit("s/server.toml", |t| t.replace("[\"ssh\"]", "[\"https\"]"));
    let mut engine = Engine::start(server.world.name(SERVER));
    publish(&server, &engine);
    for port in [443, 8080] {
        is_at(&server, STRANGER, port, Tried::Open);
    }
    assert_eq!(server.world.connect(STRANGER, SERVER_V6_OF_STRANGER, 443), Tried::Open);

    for backend in ["nftables", "iptables"] {
        configure(&server, backend, "shield");
        let before = own_rules(&server);
        assert!(before.contains("nat -A DOCKER") && before.contains("--dport 443"), "{before}");
        server.start();
        is_at(&server, STRANGER, 443, Tried::Silence);
        is_at(&server, CLIENT, 443, Tried::Silence);
        server.open("alice", &["--for", "30m"]);
        answers(&server);
        assert_eq!(own_rules(&server), before, "ours change nothing of Docker's");
        engine.restart();
        answers(&server);
        leave(&mut server);
        is_at(&server, STRANGER, 443, Tried::Open);
    }

    // A pinhole: Docker lets everybody in, but for a rule in the chain that it leaves to us.
    for backend in ["nftables", "iptables"] {
        configure(&server, backend, "pinhole");
        server.start();
        is_at(&server, STRANGER, 443, Tried::Open);
        let rule = "-p tcp -m conntrack --ctstate NEW --ctorigdstport 443 -m mark ! --mark 0x40000000/0x40000000 -j DROP";
        let rule: Vec<&str> = rule.split(' ').collect();
        let user = |what: &str| {
            server
                .world
                .run(SERVER, &[&["iptables", what, "DOCKER-USER"], rule.as_slice()].concat())
        };
        user("-I");
        is_at(&server, STRANGER, 443, Tried::Silence);
        is_at(&server, CLIENT, 443, Tried::Silence);
        server.open("alice", &["--for", "30m"]);
        is_at(&server, CLIENT, 443, Tried::Open);
        is_at(&server, STRANGER, 443, Tried::Silence);
        is_at(&server, STRANGER, 8080, Tried::Open);
        user("-D");
        leave(&mut server);
    }
}

fn configure(server: &Server, backend: &str, mode: &str) {
    server.edit("s/server.toml", |text| {
        let line = |l: &str| match l.split(' ').next() {
            Some("backend") => format!("backend = \"{backend}\"\n"),
            Some("mode") if !l.contains("spa") => format!("mode = \"{mode}\"\n"),
            _ => format!("{l}\n"),
        };
        text.lines().map(line).collect()
    });
}

/// Ends the lease, the server and what is ours, and nothing else.
fn leave(server: &mut Server) {
    server.order(&["evict", CLIENT_V4]);
    let before = own_rules(server);
    server.stop();
    server.order(&["uninstall"]);
    assert_eq!(own_rules(server), before);
}
