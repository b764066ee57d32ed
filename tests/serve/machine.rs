//! What else is on the server's machine: its own rules, and the programs that write them.

use super::server::*;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// The machine's own rules as iptables-save(8) says them, of both families: no counters, no
/// comments, none of ours, nothing of the empty built-in chains that the tools leave behind.
pub fn own_rules(server: &Server) -> String {
    let mut all = String::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let mut table = String::new();
        for line in server.world.run(SERVER, &[program]).lines() {
            let line = line.split(" [").next().unwrap();
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_string();
            }
            let rules =
                line.starts_with("-A") || line.starts_with(':') && !line.ends_with(" ACCEPT");
            if rules && !line.contains("OPENSESAME") {
                all.push_str(&format!("{program} {table} {line}\n"));
            }
        }
    }
    all
}

/// Does that while a stranger tries tcp/22 all the time, and some times after it: he is never let in.
pub fn shut_during(server: &Server, what: &str, deed: impl FnOnce()) {
    let over = AtomicBool::new(false);
    let (tries, opened) = std::thread::scope(|scope| {
        let stranger = scope.spawn(|| {
            let to: SocketAddr = format!("{SERVER_OF_STRANGER}:22").parse().unwrap();
            server.world.enter(STRANGER, || {
                let (mut tries, mut opened) = (0, 0);
                while (!over.load(Ordering::Relaxed) || tries < 10) && tries < 1_000 {
                    let limit = std::time::Duration::from_millis(50);
                    tries += 1;
                    opened += i32::from(TcpStream::connect_timeout(&to, limit).is_ok());
                }
                (tries, opened)
            })
        });
        deed();
        over.store(true, Ordering::Relaxed);
        stranger.join().unwrap()
    });
    assert_eq!(opened, 0, "{what}: {opened} of {tries} times the stranger was let in");
}

/// Something on a port answers that host, or becomes silent to it.
pub fn is_at(server: &Server, host: &str, port: u16, expected: Tried) {
    let to = if host == STRANGER { SERVER_OF_STRANGER } else { SERVER_V4 };
    eventually(&format!("{expected:?} for {host} at {port}"), || {
        server.world.connect(host, to, port) == expected
    });
}

/// Lays out the files of a ufw that has never been used.
pub fn install_ufw(server: &Server) {
    let copy = |from: &str, to: &str| {
        let to = server.path(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap_or_else(|e| panic!("{from}: {e}"));
    };
    copy("/usr/share/ufw/ufw.conf", "ufw/ufw.conf");
    copy("/etc/ufw/sysctl.conf", "ufw/sysctl.conf");
    for name in ["before", "before6", "after", "after6", "user", "user6"] {
        let rules = format!("{name}.rules");
        copy(&format!("/usr/share/ufw/iptables/{rules}"), &format!("ufw/{rules}"));
    }
    std::fs::create_dir(server.path("ufw/applications.d")).unwrap();
    copy("/etc/default/ufw", "default");
}

/// The real ufw in the server's network, with those files in the place of the machine's: in a mount
/// namespace that ends with it (`ip netns exec` makes it).
pub fn ufw(server: &Server, argv: &[&str]) -> String {
    const PLACES: &str = "mount --bind \"$0/ufw\" /etc/ufw && \
         mount --bind \"$0/default\" /etc/default/ufw && mount -t tmpfs none /run && exec \"$@\"";
    let dir = server.path("");
    let dir = Path::new(&dir).to_str().unwrap();
    server.world.run(SERVER, &[&["sh", "-c", PLACES, dir], argv].concat())
}
