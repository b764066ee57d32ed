//! The server, the clients and the packets of the game that `engine` plays.

use super::KEYS;
use super::model::{Cell, Client as Rules, Said};
use opensesame_spa::access::{
    Access, Action, Assurance, Claim, ClientId, Policy, Prefix, Request, Service, ServiceId,
    Services, Terms, Wanted,
};
use opensesame_spa::crypto::{ClientKey, ClientKeys, service_name};
use opensesame_spa::engine::{Client, Setup, Window};
use opensesame_spa::proto::{DATAGRAM, seal};
use opensesame_spa::time::{Mono, Now, Unix};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// When the game begins.
pub const BEGIN: Now = Now { unix: Unix(1_790_000_000_000), mono: Mono(1_000_000) };
/// A move: bytes.
pub const MOVE: usize = 8;

/// The services and the ports behind them.
const SERVICES: [(&str, &[u16]); 3] = [("ssh", &[22]), ("web", &[80, 443]), ("vpn", &[51_820])];
const OWN: [&str; 2] = ["203.0.113.1", "2001:db8::53"];
const V4: [&str; 4] = ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", OWN[0]];
const V6: [&str; 4] = ["2001:db8::1", "2001:db8:1::5", "2001:db8:1::/64", OWN[1]];
pub const FROM: [&str; 4] = [V4[0], V4[1], V6[0], OWN[0]];

/// Three clients: one with everything, a guest of two uses, and one whose credential ends and who
/// may not use his packet's source. A fourth is nobody here.
const HAS: [&[usize]; 4] = [&[0, 1, 2], &[0, 1], &[0, 2], &[]];
/// What the three may.
pub const RULES: [Rules; 3] = [
    Rules { ttl: 30, max_ttl: 28_800, ends: None, uses: None },
    Rules { ttl: 60, max_ttl: 600, ends: None, uses: Some(2) },
    Rules { ttl: 30, max_ttl: 300, ends: Some(BEGIN.unix.0 + 120_000), uses: None },
];

pub fn id(client: usize) -> ClientId {
    let mut id = KEYS.profile.id;
    id.0[7] ^= client as u8;
    id
}

fn key(client: usize) -> ClientKey {
    let mut key = *KEYS.profile.key.bytes();
    key[31] ^= client as u8;
    ClientKey::new(key)
}

fn named(service: usize) -> ServiceId {
    ServiceId(service_name(SERVICES[service].0))
}

fn port(text: &str) -> Wanted {
    Wanted::Ports(text.parse().expect("a port"))
}

/// The server of the game, on its first boot.
pub fn setup() -> Setup {
    let service = |(name, ports): &(&str, &[u16])| Service {
        id: ServiceId(service_name(name)),
        name: (*name).into(),
        ports: ports
            .iter()
            .map(|p| format!("{}/{p}", protocol(*p)).parse().expect("a port"))
            .collect(),
        require: None,
        on_expiry: Default::default(),
        while_connected: None,
        refuse: Default::default(),
    };
    let client = |(n, rules): (usize, &Rules)| {
        let access = Access::new(
            id(n),
            &format!("client-{n}"),
            Terms {
                assurance: Assurance::Sealed,
                services: HAS[n].iter().map(|s| named(*s)).collect(),
                ttl: rules.ttl as u32,
                max_ttl: rules.max_ttl as u32,
                max_leases: 16,
                sources: vec![],
                source_address: n != 2,
                max_prefix_v4: 32,
                max_prefix_v6: 64,
                not_after: rules.ends.map(Unix),
                uses: rules.uses.map(|n| n as u32),
                hours: Vec::new(),
            },
        );
        Client::new(access, KEYS.profile.server, &key(n))
    };
    Setup {
        plain: None,
        knocks: Vec::new(),
        salt: [0; 16],
        server: KEYS.profile.server,
        doors: vec![KEYS.door.clone()],
        clients: RULES.iter().enumerate().map(client).collect(),
        policy: Policy::new(
            SERVICES.iter().map(service).collect(),
            OWN.iter().map(|a| a.parse().expect("an address")).collect(),
        ),
        rules: opensesame_spa::engine::suspicion::Rules::default(),
        window: Window::default(),
        boot: [1; 16],
    }
}

fn protocol(port: u16) -> &'static str {
    if port == 51_820 { "udp" } else { "tcp" }
}

/// A packet of the game.
pub struct Sent {
    pub bytes: [u8; DATAGRAM],
    pub said: Said,
    /// The explicit addresses and the ports; none where the policy never allows them.
    explicit: Vec<&'static str>,
    source: bool,
    ports: Option<Vec<u16>>,
}

impl Sent {
    pub fn new(b: &[u8; MOVE], number: usize, now: Now) -> Sent {
        let client = usize::from(b[1] & 3);
        let flag = |bit: u8| b[1] & (1 << bit) != 0;
        let (close, replace, source) = (flag(2), flag(3), flag(4));
        let v4 = flag(5).then(|| V4[usize::from(b[2] & 3)]);
        let v6 = flag(6).then(|| V6[usize::from(b[2] >> 2 & 3)]);
        let all = [
            (Wanted::Named(named(0)), 0, &[22][..], "ssh"),
            (port("tcp/80"), 1, &[80], "80"),
            (Wanted::Named(named(1)), 1, &[80, 443], "web"),
            (port("udp/51820"), 2, &[51_820], "51820"),
            (port("tcp/9999"), 3, &[], "9999"),
        ];
        let some = all.iter().enumerate().filter(|(i, _)| b[3] & (1 << i) != 0).map(|(_, w)| w);
        let some: Vec<_> = some.collect();
        let allowed = some.iter().all(|w| HAS[client].contains(&w.1));
        let mut ports: Vec<u16> = some.iter().flat_map(|w| w.2).copied().collect();
        if some.is_empty() {
            ports = HAS[client].iter().flat_map(|s| SERVICES[*s].1).copied().collect();
        }
        ports.sort_unstable();
        ports.dedup();
        let names = some.iter().map(|w| w.3).collect();
        let wanted: Vec<Wanted> = some.iter().map(|w| w.0).collect();
        let ttl = if close && !flag(7) { 0 } else { u64::from(b[4]) * 10 };
        // From about two minutes ago to two minutes ahead.
        let offset = i64::from(b[5] as i8) * 1_000 + i64::from(b[6]) * 4;
        let time = now.unix.0.saturating_add_signed(offset);
        let request = Request {
            action: if close { Action::Close } else { Action::Open },
            reply: false,
            replace,
            source,
            v4: v4.map(|a| a.parse().expect("a prefix")),
            v6: v6.map(|a| a.parse().expect("a prefix")),
            services: Services::new(&wanted).expect("at most eight"),
            time: Unix(time),
            ttl: ttl as u32,
        };
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let server = KEYS.profile.server;
        let bytes = seal(&request, id(client), server, &KEYS.door, &CLIENTS[client], &nonce);
        let known = client < RULES.len();
        let some = source || v4.is_some() || v6.is_some();
        let sound =
            known && some && !(source && v4.is_some() && v6.is_some()) && !(close && ttl > 0);
        let said = Said { client, close, replace, time, ttl, names, cells: None, sound };
        let explicit = v4.into_iter().chain(v6).collect();
        Sent { bytes, said, explicit, source, ports: allowed.then_some(ports) }
    }

    /// What it says when it comes from there.
    pub fn said(&self, from: &'static str) -> Said {
        let is_v6 = |a: &str| a.contains(':');
        let mut addresses = self.explicit.clone();
        let twice = self.source && addresses.iter().any(|a| is_v6(a) == is_v6(from));
        if self.source {
            addresses.push(from);
        }
        let bad = |a: &&str| OWN.contains(a) || *a == V4[2];
        let forbidden = self.source && self.said.client == 2;
        let good = !twice && !forbidden && !addresses.iter().any(bad);
        let cells = |ports: &Vec<u16>| {
            addresses.iter().flat_map(|a| ports.iter().map(move |p| (*a, *p))).collect()
        };
        Said { cells: self.ports.as_ref().filter(|_| good).map(cells), ..self.said.clone() }
    }
}

static CLIENTS: LazyLock<[ClientKeys; 4]> = LazyLock::new(|| {
    std::array::from_fn(|n| ClientKeys::derive(KEYS.profile.server, &key(n), id(n).0))
});

/// One cell of a grant: client, whether it closes, whether it replaces, packet time, cell.
pub type Part = (ClientId, bool, bool, u64, Cell);

/// A claim, cell by cell, with its end.
pub fn parts(claim: &Claim) -> Vec<(Part, u64)> {
    let address = |p: Prefix| {
        let text = p.to_string();
        *V4.iter().chain(&V6).find(|a| **a == text).expect("an address of the game")
    };
    let client = (0..RULES.len()).find(|n| id(*n) == claim.client).expect("a client of the game");
    let of = |service: usize| SERVICES[service].1.to_vec();
    let mut ports: BTreeSet<u16> = BTreeSet::new();
    for wanted in claim.services.iter() {
        match wanted {
            Wanted::Ports(p) => ports.extend(p.first()..=p.last()),
            Wanted::Named(name) => {
                let service = (0..SERVICES.len()).find(|s| named(*s) == name);
                ports.extend(of(service.expect("a service of the game")));
            }
        }
    }
    if claim.services.is_empty() {
        ports.extend(HAS[client].iter().flat_map(|s| of(*s)));
    }
    let close = claim.action == Action::Close;
    let cell =
        |a, p: &u16| ((claim.client, close, claim.replace, claim.time.0, (a, *p)), claim.until.0);
    claim.addresses().flat_map(|a| ports.iter().map(move |p| cell(address(a), p))).collect()
}
