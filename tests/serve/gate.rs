//! The gate of the real server, with curl from other hosts.

use super::server::*;
use crate::netns::Guard;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

/// A running server with a gate that serves two files, and `more` in its section.
pub fn gated(backend: &str, more: &str) -> Option<Server> {
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
    server.edit("s/server.toml", |text| {
        text.replace("[service.\"ssh\"]\n", "[service.\"ssh\"]\nrefuse = \"reset\"\n") + &section
    });
    server.listen(22);
    server.start();
    Some(server)
}

fn curl_all(server: &Server, host: &str, args: &[&str]) -> Output {
    let mut command = server.world.command(host, "curl");
    command.args(["-s", "--max-time", "20", "--path-as-is"]).args(args).output().unwrap()
}

/// The status of a GET, 000 if there was no answer.
pub fn status(server: &Server, host: &str, path: &str, more: &[&str]) -> String {
    let at = match host {
        STRANGER => SERVER_OF_STRANGER,
        _ => SERVER_V4,
    };
    let url = format!("http://{at}:4444{path}");
    let args = [more, &["-o", "/dev/null", "-w", "%{http_code}", &url]].concat();
    String::from_utf8(curl_all(server, host, &args).stdout).unwrap()
}

pub fn pin(server: &Server) -> String {
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
    let plain = "[[listen]]\nudp = \"0.0.0.0\"\nmode = \"plain\"\n[plain]\nopens = [\"tcp/2222\"]";
    let Some(server) = gated("nftables", &format!("block = \"firewall\"\n{plain}")) else { return };
    server.open("alice", &[]);
    server.becomes_open(CLIENT);
    for _ in 0..6 {
        assert_eq!(status(&server, CLIENT, "/admin", &[]), "303");
    }
    let knocks_at = || server.world.connect(STRANGER, SERVER_OF_STRANGER, 22);
    assert_eq!(knocks_at(), Tried::Refused);
    for _ in 0..4 {
        status(&server, STRANGER, "/admin", &[]);
    }
    eventually("not even refused", || knocks_at() == Tried::Silence);
    let rules = server.world.command(SERVER, "nft").args(["list", "ruleset"]).output().unwrap();
    assert!(String::from_utf8_lossy(&rules.stdout).contains(STRANGER_V4));
    assert!(!server.order(&["bans"]).contains(CLIENT_V4));
    // A weak lease wins over the block while it lasts, and does not end it.
    assert_eq!(status(&server, STRANGER, "/", &[]), "403");
    server.world.run(STRANGER, &[BIN, "say", SERVER_OF_STRANGER, "open_sesame"]);
    eventually("let in by his lease", || status(&server, STRANGER, "/", &[]) == "200");
    assert!(server.order(&["bans"]).contains(STRANGER_V4));
    server.world.run(STRANGER, &[BIN, "say", SERVER_OF_STRANGER, "close_sesame"]);
    eventually("blocked again", || status(&server, STRANGER, "/", &[]) == "403");
    // A sealed packet lifts the block of the address that it names, wherever it comes from.
    server.open("alice", &["--ip", STRANGER_V4]);
    eventually("lifted", || !server.order(&["bans"]).contains(STRANGER_V4));
    assert_eq!(status(&server, STRANGER, "/", &[]), "200");
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
fn files_are_served_as_by_any_file_server() {
    let Some(server) = gated("nftables", "") else { return };
    let url = format!("http://{SERVER_V4}:4444/a.txt");
    eventually("it serves", || status(&server, CLIENT, "/", &[]) == "200");
    let text = |args: &[&str]| {
        let out = curl_all(&server, CLIENT, &[args, &[&url]].concat()).stdout;
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(&[]), "0123456789");
    let head = text(&["-I"]).to_lowercase();
    for line in ["200 ok", "content-length: 10", "content-type: text/plain", "accept-ranges: bytes"]
    {
        assert!(head.contains(line), "{line}: {head}");
    }
    let tag = head.lines().find_map(|l| l.strip_prefix("etag: ")).unwrap().to_string();
    assert_eq!(text(&["-r", "2-4"]), "234");
    assert_eq!(text(&["-r", "-3"]), "789");
    let code = |args: &[&str]| status(&server, CLIENT, "/a.txt", args);
    assert_eq!(code(&["-r", "2-4"]), "206");
    assert_eq!(code(&["-r", "99-"]), "416");
    assert_eq!(code(&["-H", &format!("If-None-Match: {tag}")]), "304");
    assert_eq!(code(&["-H", "If-None-Match: \"other\""]), "200");
    assert_eq!(code(&["-X", "DELETE"]), "405");
}

/// 10,000 of them, from 50 addresses: one alone may have 256.
#[test]
fn ten_thousand_idle_connections_keep_nobody_out() {
    let Some(server) = gated("nftables", "") else { return };
    eventually("it serves", || status(&server, CLIENT, "/", &[]) == "200");
    let script = format!(
        "import os,resource,socket,time\n\
         resource.setrlimit(resource.RLIMIT_NOFILE,(12000,12000))\n\
         link=os.popen('ip -4 -o addr show to {CLIENT_V4}').read().split()[1]\n\
         for n in range(50): os.system(f'ip addr add 10.77.1.{{100+n}}/24 dev {{link}}')\n\
         all=[]\n\
         for n in range(10000):\n \
         all.append(socket.create_connection(('{SERVER_V4}',4444),5,(f'10.77.1.{{100+n%50}}',0)))\n\
         print(len(all),flush=True)\n\
         time.sleep(60)\n"
    );
    let mut python = server.world.command(CLIENT, "python3");
    python.args(["-c", &script]).stdout(std::process::Stdio::piped());
    let mut child = Guard(python.spawn().unwrap());
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line.trim(), "10000");
    let established = || {
        let table = server.world.run(SERVER, &["cat", "/proc/net/tcp"]);
        // Port 4444 here, state ESTABLISHED (proc_net_tcp of the kernel's documentation).
        table.lines().filter(|l| l.contains(":115C ") && l.contains(" 01 ")).count()
    };
    eventually("all of them are taken", || established() >= 10_000);
    for host in [CLIENT, STRANGER] {
        assert_eq!(status(&server, host, "/", &[]), "200", "{host}");
    }
    assert!(established() >= 10_000, "{}", established());
}
