//! `init`: a working configuration and new keys; nothing is overwritten.

use super::print;
use crate::access::{Ports, Protocol};
use crate::client::Target;
use crate::crypto::random;
use crate::daemon::config::{CONTROL, Config, ServerKey, write_new};
use crate::daemon::session_at_stake;
use crate::firewall::Form;
use clap::{Args, ValueHint};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const DIR: &str = "/etc/opensesame-spa";

#[derive(Args)]
pub(super) struct Init {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = DIR, value_hint = ValueHint::DirPath)]
    dir: PathBuf,
    /// A port to protect, as tcp/22; may be repeated
    #[arg(long, value_name = "PORT", default_value = "tcp/22")]
    protect: Vec<Ports>,
    /// The packet filter: nftables, iptables, pf or dry-run
    #[arg(long, default_value = if cfg!(target_os = "linux") { "nftables" } else { "pf" }, value_parser = ["nftables", "iptables", "pf", "dry-run"])]
    backend: String,
    /// For a machine whose own rules drop already: they admit who holds a lease, by a mark
    #[arg(long)]
    pinhole: bool,
    /// Where the server listens (UDP); else all addresses and a random port
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// The public name or address of this server, which invitations carry
    #[arg(long, value_name = "NAME[:PORT]")]
    host: Option<String>,
}

/// A name for a service on these ports.
fn name(ports: &Ports) -> String {
    let known =
        [("tcp/22", "ssh"), ("tcp/80", "http"), ("tcp/443", "https"), ("udp/51820", "wireguard")];
    let text = ports.to_string();
    match known.iter().find(|(port, _)| *port == text) {
        Some((_, name)) => (*name).into(),
        None => text.replace('/', "-"),
    }
}

/// A port that nobody can guess, none of the protected ones, and below those that the system gives
/// to other programs (ip_local_port_range).
fn any_port(protect: &[Ports]) -> Result<u16, String> {
    let is_free = |port: &u16| {
        Ports::new(Protocol::Udp, *port, *port)
            .is_some_and(|p| !protect.iter().any(|q| q.contains(&p)))
    };
    let free: Vec<u16> = (10_000..=32_767).filter(is_free).collect();
    // 64 bits: no port is more likely than another by more than one in 2^48.
    let draw = u64::from_be_bytes(random().map_err(|e| e.to_string())?);
    let index = draw.checked_rem(free.len() as u64).unwrap_or(0) as usize;
    free.get(index).copied().ok_or_else(|| "no free port: give --listen".into())
}

/// All addresses: of both families where this machine has IPv6.
fn everywhere() -> IpAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// How the machine's own rules let in what carries this mark: one rule, in the words of each tool.
fn admission(bits: u32) -> String {
    let mark = format!("-m mark --mark {bits:#x}/{bits:#x} -j ACCEPT");
    format!(
        "\nyour own rules go on to drop strangers; add one that admits what carries our mark, before \
         those that drop:\n\
         nftables (your table and chain, and in the file that your machine loads at boot)\n  \
         nft insert rule inet filter input meta mark and {bits:#x} == {bits:#x} accept\n\
         iptables\n  iptables -I INPUT {mark}\n  ip6tables -I INPUT {mark}\n\
         ufw: before COMMIT in /etc/ufw/before.rules and in /etc/ufw/before6.rules, then `ufw reload`\n  \
         -A ufw-before-input {mark}\n  -A ufw6-before-input {mark}\n\
         firewalld asks for no marks: say pinhole = {{ table = \"inet firewalld\", chain = \
         \"filter_INPUT\" }} in [firewall],\n  and NftablesTableOwner=no in /etc/firewalld/firewalld.conf; \
         with FirewallBackend=iptables\n  \
         firewall-cmd --permanent --direct --add-rule ipv4 filter INPUT 0 {mark}\n  \
         firewall-cmd --permanent --direct --add-rule ipv6 filter INPUT 0 {mark}\n\
         note: what your rules let in anyway, nobody needs a lease for\n"
    )
}

impl Init {
    pub(super) fn run(self) -> Result<(), String> {
        if self.pinhole && self.backend == "pf" {
            return Err("--pinhole: with nftables and iptables only".into());
        }
        let listen = match self.listen {
            Some(address) => address,
            None => SocketAddr::new(everywhere(), any_port(&self.protect)?),
        };
        let public = match &self.host {
            None => None,
            Some(text) => Some(
                Target::parse(text, Some(listen.port()))
                    .ok_or_else(|| format!("--host {text}: no NAME or NAME:PORT"))?,
            ),
        };
        let dir = std::path::absolute(&self.dir).map_err(|e| e.to_string())?;
        let text = self.text(&dir, listen, public.as_ref());
        let (config, key) = (dir.join("server.toml"), dir.join("server.key"));
        let sound = Config::parse(&config, &text)
            .map_err(|e| format!("this would make no sound file: {e}"))?;
        for path in [&config, &key] {
            if path.symlink_metadata().is_ok() {
                return Err(format!("{} exists already: nothing was written", path.display()));
            }
        }
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir.join("clients"))
            .map_err(|e| format!("{}: {e}", dir.display()))?;
        let keys = ServerKey::generate().map_err(|e| e.to_string())?;
        write_new(&key, &keys.to_text(), false).map_err(|e| e.to_string())?;
        write_new(&config, &text, false).map_err(|e| e.to_string())?;
        let (config, key, clients) = (config.display(), key.display(), dir.join("clients"));
        print(&format!(
            "wrote {config}\nwrote {key}\nmade  {}\n\n\
             next: opensesame-spa invite NAME --config {config}\n      \
             opensesame-spa serve --config {config}\n\
             {}",
            clients.display(),
            match sound.form {
                Form::Mark(bits) => admission(bits),
                Form::Shield | Form::Chain { .. } =>
                    "note: from the first `serve` on the protected ports are shut to everybody \
                     without a lease\n"
                        .into(),
            },
        ))?;
        if self.backend == "pf" {
            print(
                "note: pf evaluates our rules where /etc/pf.conf says `anchor \"opensesame\"`: a line of \
                 its own, before the first rule that says `pass` or `block`; `serve` refuses to start \
                 without it\n",
            )?;
        }
        match session_at_stake(&sound) {
            Some(warning) => print(&format!("note: {warning}\n")),
            None => Ok(()),
        }
    }

    fn text(&self, dir: &Path, listen: SocketAddr, public: Option<&Target>) -> String {
        let (state, control) = match dir == Path::new(DIR) {
            true => ("/var/lib/opensesame-spa".into(), CONTROL.into()),
            false => (dir.join("state"), dir.join("control.sock")),
        };
        let public = match public {
            Some(t) if t.host.contains(':') => format!("public    = \"[{}]:{}\"", t.host, t.port),
            Some(t) => format!("public    = \"{}:{}\"", t.host, t.port),
            None => format!(
                "# public  = \"gate.example.org:{}\"   # what invitations carry",
                listen.port()
            ),
        };
        let mut services = String::new();
        let mut names: Vec<String> = Vec::new();
        for ports in &self.protect {
            let name = name(ports);
            if names.contains(&name) {
                continue;
            }
            services.push_str(&format!("\n[service.\"{name}\"]\nports     = [\"{ports}\"]\n"));
            names.push(name);
        }
        let list = names.iter().map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
        // TOML's basic strings escape what JSON's do.
        let quoted =
            |path: &PathBuf| serde_json::Value::from(path.display().to_string()).to_string();
        format!(
            "# opensesame-spa: the server. `opensesame-spa serve --check --config THIS` reads it.\n\
             [server]\nstate-dir = {}\ncontrol   = {}\nuser      = \"_opensesame\"\n{public}\n\n\
             [firewall]\nbackend   = \"{}\"\nmode      = \"{}\"\n\n\
             [[listen]]\nudp       = \"{listen}\"\nmode      = \"spa\"\n\
             {services}\n\
             [policy]                          # each client's file can say otherwise\n\
             services  = [{list}]\nttl       = \"30s\"\nmax-ttl   = \"8h\"\n",
            quoted(&state),
            quoted(&control),
            self.backend,
            if self.pinhole { "pinhole" } else { "shield" },
        )
    }
}
