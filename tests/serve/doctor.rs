//! `doctor` on machines that have one thing wrong each.

use super::server::*;
use serde_json::Value;

/// The exit status, and what is wrong or should be looked at: each with what was seen.
fn examined(server: &Server) -> (i32, Vec<(String, String, String)>) {
    let out = server.run(SERVER, &["doctor", "--json", "--config", "s/server.toml"]);
    let list: Value = serde_json::from_slice(&out.stdout).unwrap();
    let text = |f: &Value, key: &str| f[key].as_str().unwrap_or_default().to_string();
    let ill = list.as_array().unwrap().iter().filter(|f| f["health"] != "ok");
    let row = |f: &Value| {
        assert!(f["mend"].is_string(), "{f}");
        (text(f, "health"), text(f, "what"), text(f, "seen"))
    };
    (out.status.code().unwrap(), ill.map(row).collect())
}

/// What is wrong.
fn wrongs(server: &Server) -> Vec<String> {
    let (status, ill) = examined(server);
    let wrong: Vec<String> = ill.into_iter().filter(|f| f.0 == "wrong").map(|f| f.1).collect();
    assert_eq!(status, i32::from(!wrong.is_empty()), "{wrong:?}");
    wrong
}

#[test]
fn each_thing_that_is_wrong_is_named_with_its_mend() {
    let Some(mut server) = Server::new("nftables") else { return };
    // No server yet, and so no shield.
    assert_eq!(wrongs(&server), ["shield", "server"]);
    let (_, ill) = examined(&server);
    assert!(ill.iter().any(|f| f.1 == "last shield"), "{ill:?}");
    assert!(ill.iter().any(|f| f.2 == "nobody listens on tcp/22 here"), "{ill:?}");
    server.listen(22);
    server.start();
    assert_eq!(wrongs(&server), [""; 0]);
    let (_, ill) = examined(&server);
    assert!(!ill.iter().any(|f| f.1 == "last shield" || f.2.contains("tcp/22 ")), "{ill:?}");
    // It says the same to people.
    let out = server.run(SERVER, &["doctor", "--config", "s/server.toml"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("ok     server       ready") && text.contains("our rules are"), "{text}");
    // One thing after the other.
    server.write("s/clients/alice.toml", "nonsense");
    assert_eq!(wrongs(&server), ["client", "clients"]);
    let keys = server.read("s/server.key");
    server.write("s/server.key", "nonsense");
    assert_eq!(wrongs(&server), ["keys"]);
    server.write("s/server.key", &keys);
    let (_, engine) = server.pids();
    kill("KILL", &[engine]);
    eventually("noticed", || wrongs(&server).contains(&"server".to_string()));
    server.wait_engine();
    server.stop();
    server.world.run(SERVER, &["nft", "flush", "ruleset"]);
    assert!(wrongs(&server).contains(&"shield".to_string()));
    server.edit("s/server.toml", |text| text.replace("[firewall]", "[firewal]"));
    let (status, ill) = examined(&server);
    assert!(status == 1 && ill.len() == 1 && ill[0].2.contains("s/server.toml:"), "{ill:?}");
}
