//! letmein (crates.io), over UDP, with nftables. The client is written here by its protocol's
//! description: a knock, the server's challenge, the response to it.

use crate::peers::{Peer, eventually, start};
use crate::space::{Host, SERVER, Space};
use hmac::{KeyInit, Mac, SimpleHmac};
use opensesame_spa::crypto::{hex_of, random};
use sha3::Sha3_256;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command};
use std::time::Duration;

const PORT: u16 = 5_800;
const MAGIC: u32 = 0x3b1b_b719;
const KNOCK: u32 = 0;
const CHALLENGE: u32 = 1;
const RESPONSE: u32 = 2;
const MESSAGE: usize = 56;
const AUTH: std::ops::Range<usize> = 24..56;
const USER: u32 = 1;
const RESOURCE: u32 = 0x22;

/// What its own example has, with the drop that leaves strangers in silence.
const RULES: &str = "table inet filter {
    chain LETMEIN-INPUT { }
    chain INPUT {
        type filter hook input priority filter; policy accept;
        ct state related,established accept
        jump LETMEIN-INPUT
        tcp dport 22 drop
    }
}";

pub struct Letmein {
    space: Space,
    children: Vec<Child>,
    key: [u8; 32],
    addresses: Vec<Ipv4Addr>,
}

fn programs(folder: &str) -> [String; 2] {
    ["letmeinfwd", "letmeind"].map(|name| match folder {
        "" => name.to_string(),
        folder => format!("{folder}/{name}"),
    })
}

/// Why it cannot be measured here.
pub fn obstacle(folder: &str) -> Option<String> {
    let all = programs(folder).into_iter().chain(["nft".into(), "unshare".into()]);
    let missing = all.into_iter().find(|program| !crate::peers::has(program));
    missing.map(|program| format!("no `{program}` here: cargo install letmeind letmeinfwd"))
}

pub fn version(folder: &str) -> String {
    crate::space::output(&[&programs(folder)[1], "--version"]).trim().replace("version ", "")
}

impl Letmein {
    pub fn new(folder: &str) -> Letmein {
        let space = Space::new();
        let key: [u8; 32] = random().unwrap();
        let path = |name: &str| space.dir().join(name).to_str().unwrap().to_string();
        let conf = format!(
            "[GENERAL]\nport = {PORT}/udp\ncontrol-error-policy = basic-auth\n\
             [NFTABLES]\nexe = nft\nfamily = inet\ntable = filter\nchain-input = LETMEIN-INPUT\n\
             timeout = 600\nmax-nr-rules = 1000\n\
             [KEYS]\n{USER:08X} = {}\n[RESOURCES]\n{RESOURCE:08X} = port: 22\n",
            hex_of(&key).to_uppercase()
        );
        std::fs::write(path("letmeind.conf"), conf).unwrap();
        std::fs::write(path("rules"), RULES).unwrap();
        space.run(Host::Server, &["nft", "-f", &path("rules")]);
        // It wants a user of its own: one is there for its eyes alone.
        for (file, line) in
            [("passwd", "letmeind:x:0:0::/:/bin/false\n"), ("group", "letmeind:x:0:\n")]
        {
            let text = std::fs::read_to_string(format!("/etc/{file}")).unwrap_or_default();
            std::fs::write(path(file), text + line).unwrap();
        }
        std::fs::create_dir(path("run")).unwrap();
        let dir = path("");
        let dir = dir.trim_end_matches('/');
        let run = |program: &str| {
            let mut command = Command::new("unshare");
            let script = format!(
                "mount --bind {dir}/passwd /etc/passwd && mount --bind {dir}/group /etc/group && \
                 exec {program} --config {dir}/letmeind.conf --rundir {dir}/run --no-systemd"
            );
            command.args(["-m", "sh", "-c", &script]);
            start(&space, command)
        };
        let [firewall, server] = programs(folder);
        let mut children = vec![run(&firewall)];
        let socket = space.dir().join("run/letmeinfwd/letmeinfwd.sock");
        eventually("letmeinfwd starts", || socket.exists());
        children.push(run(&server));
        let pid = space.dir().join("run/letmeind/letmeind.pid");
        eventually("letmeind starts", || pid.exists());
        std::thread::sleep(Duration::from_millis(300));
        Letmein { space, children, key, addresses: Vec::new() }
    }

    fn message(&self, operation: u32, challenge: &[u8; 32]) -> [u8; MESSAGE] {
        let mut out = [0; MESSAGE];
        let words = [MAGIC, operation, USER, RESOURCE];
        for (place, word) in out.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        out[16..24].copy_from_slice(&random::<8>().unwrap());
        let mut mac = SimpleHmac::<Sha3_256>::new_from_slice(&self.key).unwrap();
        mac.update(&out[4..24]);
        mac.update(challenge);
        out[AUTH].copy_from_slice(&mac.finalize().into_bytes());
        out
    }
}

impl Peer for Letmein {
    fn name(&self) -> String {
        "letmein, UDP".into()
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn prepare(&mut self, addresses: Vec<Ipv4Addr>) {
        self.addresses = addresses;
    }

    fn address(&self, n: u32) -> Ipv4Addr {
        self.addresses[n as usize]
    }

    /// The source of the datagrams is whom it lets in.
    fn knock(&self, n: usize) {
        let socket = UdpSocket::bind((self.addresses[n], 0)).unwrap();
        socket.connect((SERVER, PORT)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket.send(&self.message(KNOCK, &[0; 32])).unwrap();
        let mut bytes = [0; 128];
        let Ok(MESSAGE) = socket.recv(&mut bytes) else { return };
        if bytes[4..8] == CHALLENGE.to_be_bytes() {
            let challenge = bytes[AUTH].try_into().unwrap();
            socket.send(&self.message(RESPONSE, &challenge)).unwrap();
        }
    }

    fn admitted(&self) -> BTreeSet<Ipv4Addr> {
        let chain = ["nft", "-n", "list", "chain", "inet", "filter", "LETMEIN-INPUT"];
        crate::door::listed(&self.space.run(Host::Server, &chain))
    }
}

impl Drop for Letmein {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
