//! fwknopd (Debian's fwknop-server), with iptables as it is packaged.

use crate::peers::{Peer, eventually, send, start};
use crate::space::{Host, LINK, SERVER, Space, output};
use opensesame_spa::crypto::random;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::{Child, Command};

const PORT: u16 = 62_201;
/// Seconds that an address is let in: longer than a measurement.
const TTL: u32 = 600;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `ENABLE_UDP_SERVER Y`
    Udp,
    /// The default: libpcap on the link.
    Capture,
}

pub struct Fwknop {
    space: Space,
    child: Child,
    mode: Mode,
    keys: (String, String),
    packets: Vec<Vec<u8>>,
    addresses: Vec<Ipv4Addr>,
}

/// Why it cannot be measured here.
pub fn obstacle() -> Option<String> {
    let missing = ["fwknopd", "fwknop", "iptables"].into_iter().find(|p| !crate::peers::has(p));
    missing.map(|program| {
        format!("no `{program}` here: install fwknop-server, fwknop-client, iptables")
    })
}

pub fn version() -> String {
    let text = output(&["fwknopd", "--version"]);
    text.split(',')
        .next()
        .unwrap_or_default()
        .replace("fwknopd server", "fwknopd")
        .trim()
        .to_string()
}

fn base64(bytes: &[u8]) -> String {
    opensesame_spa::crypto::ClientKey::new(bytes.try_into().unwrap()).to_text().to_string()
}

fn keys() -> (String, String) {
    (base64(&random::<32>().unwrap()), base64(&random::<32>().unwrap()))
}

/// The client's command line for one address.
pub fn client(keys: &(String, String), args_file: &str, address: Ipv4Addr) -> Command {
    let mut command = Command::new("fwknop");
    command.args(["-A", "tcp/22", "-a", &address.to_string(), "-D", &SERVER.to_string()]);
    command.args(["--key-base64-rijndael", &keys.0, "--key-base64-hmac", &keys.1, "--use-hmac"]);
    command.args(["--no-home-dir", "--no-rc-file", "-E", args_file]);
    command.stdout(std::process::Stdio::null());
    command
}

impl Fwknop {
    /// A server with so many stanzas of one user each; the one whose key is used is the last.
    pub fn new(mode: Mode, stanzas: usize) -> Fwknop {
        let space = Space::new();
        let all: Vec<(String, String)> = (0..stanzas).map(|_| keys()).collect();
        let stanza = |(key, hmac): &(String, String)| {
            format!(
                "SOURCE ANY\nKEY_BASE64 {key}\nHMAC_KEY_BASE64 {hmac}\n\
                 OPEN_PORTS tcp/22\nFW_ACCESS_TIMEOUT {TTL}\n\n"
            )
        };
        let text: String = all.iter().map(stanza).collect();
        let udp = if mode == Mode::Udp { "Y" } else { "N" };
        let conf = format!("PCAP_INTF {LINK};\nENABLE_UDP_SERVER {udp};\nUDPSERV_PORT {PORT};\n");
        let path = |name: &str| space.dir().join(name).to_str().unwrap().to_string();
        for (name, text) in [("access.conf", &text), ("fwknopd.conf", &conf)] {
            std::fs::write(path(name), text).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path(name), mode).unwrap();
        }
        for rule in [
            "iptables -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
            "iptables -A INPUT -p tcp --dport 22 -j DROP",
        ] {
            space.run(Host::Server, &rule.split(' ').collect::<Vec<_>>());
        }
        let mut command = Command::new("fwknopd");
        command.args(["-f", "-c", &path("fwknopd.conf"), "-a", &path("access.conf")]);
        command.args(["-r", &path("run"), "-p", &path("pid"), "-d", &path("digests")]);
        std::fs::create_dir(path("run")).unwrap();
        let child = start(&space, command);
        let keys = all.last().unwrap().clone();
        let mut new =
            Fwknop { space, child, mode, keys, packets: Vec::new(), addresses: Vec::new() };
        eventually("fwknopd starts", || {
            assert!(new.child.try_wait().unwrap().is_none(), "fwknopd ended: {}", new.log());
            let log = new.log();
            log.contains("Kicking off UDP server")
                || log.contains("Starting fwknopd main event loop")
        });
        // Its parent has said so, and the socket is bound a moment later.
        std::thread::sleep(std::time::Duration::from_millis(500));
        new
    }

    fn args_file(&self) -> String {
        self.space.dir().join("args").to_str().unwrap().to_string()
    }

    pub fn client(&self, address: Ipv4Addr) -> Command {
        client(&self.keys, &self.args_file(), address)
    }

    fn packet(&self, keys: &(String, String), address: Ipv4Addr) -> Vec<u8> {
        let path = self.space.dir().join("packet");
        let out = client(keys, &self.args_file(), address).arg("-T").arg("-B").arg(&path).output();
        let out = out.unwrap();
        assert!(out.status.success(), "fwknop: {}", String::from_utf8_lossy(&out.stderr));
        std::fs::read_to_string(&path).unwrap().trim().as_bytes().to_vec()
    }

    /// Packets of the right form, of nobody that it knows.
    pub fn unknown(&self, count: usize) -> Vec<Vec<u8>> {
        let size = self.packet(&keys(), crate::space::guest(0)).len();
        let one = |n: usize| {
            let mut packet = self.packet(&keys(), crate::space::guest(n as u32));
            packet.resize(size, b'A');
            packet
        };
        (0..count).map(one).collect()
    }
}

impl Peer for Fwknop {
    fn name(&self) -> String {
        let mode = if self.mode == Mode::Udp { "UDP server" } else { "capture" };
        format!("fwknopd, {mode}")
    }

    fn space(&self) -> &Space {
        &self.space
    }

    fn port(&self) -> u16 {
        PORT
    }

    fn prepare(&mut self, addresses: Vec<Ipv4Addr>) {
        self.packets = addresses.iter().map(|a| self.packet(&self.keys, *a)).collect();
        self.addresses = addresses;
    }

    fn address(&self, n: u32) -> Ipv4Addr {
        self.addresses[n as usize]
    }

    fn knock(&self, n: usize) {
        send(&self.packets[n], PORT);
    }

    fn admitted(&self) -> BTreeSet<Ipv4Addr> {
        crate::door::listed(&self.space.run(Host::Server, &["iptables", "-S", "FWKNOP_INPUT"]))
    }
}

impl Drop for Fwknop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
