//! One server, one client, and its packets.

use crate::access::{
    Access, Action, Assurance, Claim, ClientId, OnExpiry, Policy, Prefix, Refuse, Request, Service,
    ServiceId, Services, Terms,
};
use crate::crypto::{ClientKey, ClientKeys, Door, DoorKey, ServerId};
use crate::engine::suspicion::Rules;
use crate::engine::{Client, Setup, Window};
use crate::proto;
use crate::time::Unix;
use std::net::{IpAddr, Ipv4Addr};

const SERVER: ServerId = ServerId([7; 16]);
const CLIENT: ClientId = ClientId([1; 8]);
const SSH: ServiceId = ServiceId([1; 4]);

fn key() -> ClientKey {
    ClientKey::new([3; 32])
}

fn door() -> Door {
    Door::derive(SERVER, &DoorKey::new([4; 32]))
}

/// A datagram of the client.
pub(in crate::daemon) struct Packet {
    pub(in crate::daemon) id: usize,
    pub(in crate::daemon) time: Unix,
    pub(in crate::daemon) from: IpAddr,
    pub(in crate::daemon) bytes: [u8; proto::DATAGRAM],
}

/// The client's machine.
pub(in crate::daemon) struct Sender {
    door: Door,
    keys: ClientKeys,
}

impl Sender {
    pub(in crate::daemon) fn new() -> Sender {
        Sender { door: door(), keys: ClientKeys::derive(SERVER, &key(), CLIENT.0) }
    }

    /// A packet that asks for the address that its number makes.
    pub(in crate::daemon) fn packet(&self, id: usize, time: Unix, nonce: &[u8; 24]) -> Packet {
        let number = u32::try_from(id).expect("a small number");
        let address: IpAddr = Ipv4Addr::from_bits((10 << 24) + number).into();
        let request = Request {
            action: Action::Open,
            reply: false,
            replace: false,
            source: false,
            v4: Some(Prefix::host(address)),
            v6: None,
            services: Services::EMPTY,
            time,
            ttl: 30,
        };
        let bytes = proto::seal(&request, CLIENT, SERVER, &self.door, &self.keys, nonce);
        Packet { id, time, from: address, bytes }
    }
}

/// The number of the packet that a claim came from.
pub(in crate::daemon) fn id(claim: &Claim) -> usize {
    match claim.addresses().next().map(|a| a.address()) {
        Some(IpAddr::V4(a)) => (a.to_bits() - (10 << 24)) as usize,
        Some(IpAddr::V6(_)) | None => panic!("a claim of somebody else"),
    }
}

pub(in crate::daemon) fn setup(boot: u8) -> Setup {
    let service = Service {
        id: SSH,
        name: "ssh".into(),
        ports: vec!["tcp/22".parse().expect("a port")],
        require: None,
        on_expiry: OnExpiry::Keep,
        while_connected: None,
        refuse: Refuse::Drop,
    };
    let access = Access::new(
        CLIENT,
        "a",
        Terms {
            assurance: Assurance::Sealed,
            services: vec![SSH],
            ttl: 30,
            max_ttl: 60,
            max_leases: 16,
            sources: vec![],
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: None,
            uses: None,
            hours: Vec::new(),
        },
    );
    Setup {
        plain: None,
        knocks: Vec::new(),
        salt: [0; 16],
        server: SERVER,
        doors: vec![door()],
        clients: vec![Client::new(access, SERVER, &key())],
        policy: Policy::new(vec![service], vec![]),
        rules: Rules::default(),
        window: Window::default(),
        boot: [boot; 16],
    }
}
