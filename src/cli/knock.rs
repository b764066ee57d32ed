//! `knock`: ports touched in order, an older way in.

use super::print;
use crate::access::{Ports, Protocol};
use crate::client::{Target, knock, resolve, wait_for};
use crate::daemon::clock;
use crate::daemon::config::{duration, timed};
use crate::proto::TimedKnock;
use clap::Args;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// How long the port that is checked may take to answer: ms.
const PATIENCE: u64 = 5_000;
/// The longest pause between two knocks.
const LONGEST: Duration = Duration::from_secs(600);

#[derive(Args)]
pub(super) struct Knock {
    /// The server: a name or an address
    host: String,
    /// The ports in their order, as 1560 (UDP) or tcp/7000
    #[arg(value_name = "PORT", default_values = ["1560", "6580", "8153"], value_parser = step)]
    ports: Vec<Ports>,
    /// The pause between two knocks, as 300ms or 2s
    #[arg(long, value_name = "TIME", default_value = "300ms", value_parser = pause)]
    delay: Duration,
    /// Try this port afterwards, as tcp/2222; exit 1 if it does not answer within 5 s
    #[arg(long, value_name = "PORT", value_parser = door)]
    check: Option<Ports>,
    /// A port without a protocol is TCP: a SYN, which a server that captures takes
    #[arg(long)]
    tcp: bool,
    /// The ports of this moment, out of the secret that the server has too
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ports", "tcp"])]
    secret: Option<PathBuf>,
}

fn one(text: &str) -> Result<Ports, String> {
    let ports: Ports = text.parse().map_err(|e| format!("{e}"))?;
    if ports.first() == ports.last() { Ok(ports) } else { Err("one port, no range".into()) }
}

/// `--tcp` is not known yet: a bare number is UDP until then, and nothing else is written so.
fn step(text: &str) -> Result<Ports, String> {
    match text.parse::<u16>() {
        Ok(port) => Ports::new(Protocol::Udp, port, port).ok_or("port 0 is no port".into()),
        Err(_) => one(text),
    }
}

fn door(text: &str) -> Result<Ports, String> {
    let ports = one(text)?;
    match ports.protocol() {
        Protocol::Tcp => Ok(ports),
        Protocol::Udp => Err("only a tcp port can be tried".into()),
    }
}

fn pause(text: &str) -> Result<Duration, String> {
    let pause = match text.strip_suffix("ms").map(str::parse::<u32>) {
        Some(ms) => Duration::from_millis(u64::from(ms.map_err(|e| e.to_string())?)),
        None => Duration::from_secs(u64::from(duration(text)?)),
    };
    if pause > LONGEST { Err("at most 10m".into()) } else { Ok(pause) }
}

impl Knock {
    pub(super) fn run(self) -> Result<(), String> {
        let target = Target { host: self.host.clone(), port: 1 };
        let known = Target::parse(&self.host, Some(1)).filter(|t| t.port == 1);
        let target = known.unwrap_or(target);
        let wrong = |e: std::io::Error| format!("{}: {e}", self.host);
        let addresses: Vec<IpAddr> =
            resolve(&target).map_err(wrong)?.iter().map(SocketAddr::ip).collect();
        let steps: Vec<Ports> = match &self.secret {
            Some(file) => {
                let timed = timed(file).map_err(|e| e.to_string())?;
                let ports = timed.ports(TimedKnock::period(clock::now().unix));
                ports.iter().filter_map(|p| Ports::new(Protocol::Udp, *p, *p)).collect()
            }
            None => self.ports.iter().map(|p| self.of_protocol(*p)).collect(),
        };
        let names: Vec<String> = steps.iter().map(shown).collect();
        print(&format!("[*] Sending knock sequence: [{}]\n", names.join(", ")))?;
        for (index, (step, name)) in steps.iter().zip(&names).enumerate() {
            if index > 0 {
                std::thread::sleep(self.delay);
            }
            print(&format!("[*] Knocking on port {name}\n"))?;
            knock(&addresses, *step).map_err(wrong)?;
        }
        print("[+] Knock sequence complete\n")?;
        let Some(door) = self.check else { return Ok(()) };
        let port = door.first();
        print(&format!("[*] Checking access to protected port {port}...\n"))?;
        let to: Vec<SocketAddr> = addresses.iter().map(|a| SocketAddr::new(*a, port)).collect();
        let end = clock::now().mono.plus(PATIENCE);
        let left = || {
            let ms = end.since(clock::now().mono);
            (ms > 0).then(|| Duration::from_millis(ms))
        };
        match wait_for(&to, left) {
            Some(_) => print(&format!("[+] Connected to protected port {port}\n")),
            None => {
                print(&format!("[-] No access to protected port {port}\n"))?;
                Err(format!("{door} does not answer: a wrong sequence, or the server is not there"))
            }
        }
    }

    /// With `--tcp`, numbers mean SYNs; what names its protocol keeps it.
    fn of_protocol(&self, ports: Ports) -> Ports {
        match (self.tcp, ports.protocol()) {
            (true, Protocol::Udp) => {
                Ports::new(Protocol::Tcp, ports.first(), ports.last()).unwrap_or(ports)
            }
            _ => ports,
        }
    }
}

fn shown(step: &Ports) -> String {
    match step.protocol() {
        Protocol::Udp => step.first().to_string(),
        Protocol::Tcp => step.to_string(),
    }
}
