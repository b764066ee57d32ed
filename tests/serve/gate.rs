//! The gate of the real server, with curl from other hosts.

use super::server::*;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// A running server with a gate that serves two files, and `more` in its section.
fn gated(backend: &str, more: &str) -> Option<Server> {
    let mut server = Server::new(backend)?;
    let site = server.path("site");
    std::fs::create_dir(&site).unwrap();
    std::fs::set_permissions(&site, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in
        [("index.html", "<h1>first</h1>"), ("a.txt", "0123456789"), ("secret", "SECRET")]
    {
        std::fs::write(site.join(name), text).unwrap();
    }
    let section = format!(
        "\n[http-gate]\nlisten = [\"0.0.0.0:4444\", \"[{SERVER_V6}]:4444\"]\nroot = \"{}\"\n\
         files = {{ \"*\" = \"index.html\", \"a.txt\" = \"a.txt\" }}\nignore = [\"favicon.ico\"]\n{more}\n",
        site.display()
    );
    server.edit("s/server.toml", |text| text + &section);
    server.listen(22);
    server.start();
    Some(server)
}

fn curl_all(server: &Server, host: &str, args: &[&str]) -> Output {
    let mut command = server.world.command(host, "curl");
    command.args(["-s", "--max-time", "20", "--path-as-is"]).args(args).output().unwrap()
}

/// The status of a GET, 000 if there was no answer.
fn status(server: &Server, host: &str, path: &str, more: &[&str]) -> String {
    let at = match host {
        STRANGER => SERVER_OF_STRANGER,
        _ => SERVER_V4,
    };
    let url = format!("http://{at}:4444{path}");
    let args = [more, &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat();
    String::from_utf8(curl_all(server, host, &args).stdout).unwrap()
}

fn pin(server: &Server) -> String {
    let path = server.path("s/state/recovery-pin");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::read_to_string(path).unwrap().trim().to_string()
}

fn block(server: &Server) {
    for _ in 0..3 {
        assert_eq!(status(server, CLIENT, "/admin", &[]), "303");
        assert_eq!(status(server, CLIENT, "/", &[]), "200");
    }
    assert_eq!(status(server, CLIENT, "/favicon.ico", &[]), "404");
    assert_eq!(status(server, CLIENT, "/../secret", &[]), "403");
    assert_eq!(status(server, CLIENT, "/", &[]), "403");
}

#[test]
fn the_fourth_unknown_path_blocks_and_each_pin_lets_back_in_once() {
    let Some(mut server) = gated("nftables", "") else { return };
    block(&server);
    assert_eq!(status(&server, STRANGER, "/", &[]), "200", "nobody else is blocked");
    server.stop();
    server.start();
    eventually("still blocked", || status(&server, CLIENT, "/", &[]) == "403");
    assert_eq!(status(&server, CLIENT, "/000000000000", &[]), "403");
    let first = pin(&server);
    assert_eq!(status(&server, CLIENT, "/", &["-d", &format!("pin={first}")]), "303");
    assert_eq!(status(&server, CLIENT, "/", &[]), "200");
    let second = pin(&server);
    assert_ne!(first, second);
    block(&server);
    assert_eq!(status(&server, CLIENT, &format!("/{first}"), &[]), "403");
    assert_eq!(status(&server, CLIENT, &format!("/{second}"), &[]), "303");
    assert_eq!(status(&server, CLIENT, "/", &[]), "200");
    assert!(!server.log().contains(&first) && !server.log().contains(&second));
}

#[test]
fn a_block_in_the_firewall_drops_and_a_lease_holder_is_never_struck() {
    let Some(server) = gated("nftables", "block = \"firewall\"") else { return };
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    for _ in 0..6 {
        assert_eq!(status(&server, CLIENT, "/admin", &[]), "303");
    }
    for _ in 0..4 {
        status(&server, STRANGER, "/admin", &[]);
    }
    let rules = server.world.command(SERVER, "nft").args(["list", "ruleset"]).output().unwrap();
    assert!(String::from_utf8_lossy(&rules.stdout).contains(STRANGER_V4));
    assert!(!server.order(&["bans"]).contains(CLIENT_V4));
}

#[test]
fn both_children_come_back_and_the_gate_has_no_rights() {
    let Some(mut server) = gated("nftables", "") else { return };
    let (parent, engine) = server.pids();
    let children = || -> Vec<u32> {
        let list = format!("/proc/{parent}/task/{parent}/children");
        let list = std::fs::read_to_string(list).unwrap();
        list.split_whitespace().map(|p| p.parse().unwrap()).collect()
    };
    let gate = *children().iter().find(|p| **p != engine).unwrap();
    eventually("it has begun", || status(&server, CLIENT, "/", &[]) == "200");
    let about = std::fs::read_to_string(format!("/proc/{gate}/status")).unwrap();
    let field =
        |name: &str| about.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_string();
    assert_eq!(field("CapPrm:"), "0000000000000000");
    assert!(!field("Uid:").split_whitespace().any(|uid| uid == "0"));
    block(&server);
    kill("KILL", &[gate]);
    eventually("it is back, and knows who is blocked", || {
        status(&server, CLIENT, "/", &[]) == "403"
    });
    assert_eq!(status(&server, STRANGER, "/a.txt", &[]), "200");
    kill("KILL", &[engine]);
    server.wait_engine();
    assert_eq!(status(&server, CLIENT, "/", &[]), "403");
    server.crash();
}

#[test]
fn a_proxy_speaks_for_others_and_ipv6_is_one_network() {
    let Some(server) = gated("nftables", &format!("proxies = [\"{CLIENT_V4}\"]")) else { return };
    let as_of = |who: &str, path: &str| {
        status(&server, CLIENT, path, &["-H", &format!("X-Forwarded-For: {who}")])
    };
    for n in 0..4 {
        as_of(&format!("203.0.113.1, 2001:db8::{n}"), "/x");
    }
    assert_eq!(as_of("2001:db8::ffff", "/"), "403");
    assert_eq!(as_of("2001:db8:0:1::1", "/"), "200");
    assert_eq!(as_of("203.0.113.1", "/"), "200");
    assert_eq!(as_of("nonsense", "/"), "400");
    assert!(server.order(&["bans"]).contains("2001:db8::/64"));
}

#[test]
fn thousands_of_idle_connections_keep_nobody_out() {
    let Some(server) = gated("nftables", "") else { return };
    let script = format!(
        "import socket,resource,time\n\
         hard=resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
         resource.setrlimit(resource.RLIMIT_NOFILE,(min(hard,12000),hard))\n\
         all=[]\n\
         for n in range(10000):\n \
         s=socket.socket(); s.settimeout(5)\n \
         try:\n  s.connect(('{SERVER_V4}',4444)); all.append(s)\n \
         except OSError: break\n\
         print(len(all),flush=True)\n\
         time.sleep(60)\n"
    );
    let mut python = server.world.command(CLIENT, "python3");
    python.args(["-c", &script]).stdout(std::process::Stdio::piped());
    let mut child = python.spawn().unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let served = [CLIENT, STRANGER].map(|host| status(&server, host, "/", &[]));
    let _ = child.kill();
    let _ = child.wait();
    assert!(line.trim().parse::<u32>().unwrap() > 900, "{line}");
    assert_eq!(served, ["200", "200"]);
}
