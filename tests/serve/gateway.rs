//! A service on a host behind the server, through the server's own port.

use super::server::*;
use crate::netns::INNER;

fn wrong(server: &Server) -> Vec<String> {
    let out = server.run(SERVER, &["doctor", "--config", "s/server.toml"]);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines().filter(|l| l.contains("forwarding")).map(ToString::to_string).collect()
}

fn write(server: &Server, key: &str, value: &str) {
    let order = format!("echo {value} > /proc/sys/net/{key}");
    server.world.run(SERVER, &["sh", "-c", &order]);
}

#[test]
fn a_client_reaches_the_inner_host_and_a_stranger_does_not() {
    let Some(mut server) = Server::new("nftables") else { return };
    server.world.behind();
    let _inner = server.world.listen_at(INNER, 22);
    server.edit("s/server.toml", |text| {
        let service = "[service.inner]\nports = [\"tcp/2222\"]\n\
                       forward = [\"10.77.3.2:22\", \"[fd77:3::2]:22\"]\n[policy]";
        text.replace("[policy]", service)
    });
    server.invite("bob", &["--service", "inner"]);
    server.start();
    // Each family that a service needs is looked at.
    let well = wrong(&server);
    assert!(well.len() == 2 && well.iter().all(|l| l.starts_with("ok")), "{well:?}");
    write(&server, "ipv6/conf/all/forwarding", "0");
    let ill = wrong(&server).join("\n");
    assert!(ill.contains("[service.inner]") && ill.contains("IPv6 is not passed on"), "{ill}");
    write(&server, "ipv6/conf/all/forwarding", "1");
    let tries = |host: &str, at: &str| server.world.connect(host, at, 2222);
    let strangers = [SERVER_OF_STRANGER, "fd77:2::1"];
    for at in [SERVER_V4, SERVER_V6] {
        assert_eq!(tries(CLIENT, at), Tried::Silence, "{at}");
    }
    let both = ["--ip", CLIENT_V4, "--ip", CLIENT_V6, "--for", "10m"];
    server.open("bob", &both);
    for at in [SERVER_V4, SERVER_V6] {
        eventually("the inner host answers", || tries(CLIENT, at) == Tried::Open);
    }
    for at in strangers {
        assert_eq!(tries(STRANGER, at), Tried::Silence, "{at}");
    }
    server.at(CLIENT, &["close", "--key", "bob.toml", "--ip", CLIENT_V4, "--ip", CLIENT_V6]);
    for at in [SERVER_V4, SERVER_V6] {
        eventually("shut again", || tries(CLIENT, at) == Tried::Silence);
    }
    server.stop();
    server.order(&["uninstall"]);
    // Nobody leads on any more, and nobody listens there.
    assert_eq!(server.world.connect(STRANGER, strangers[0], 2222), Tried::Refused);
}
