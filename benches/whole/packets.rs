//! Datagrams that are made before they are needed.

use opensesame_spa::access::{Action, ClientId, Prefix, Request, Services};
use opensesame_spa::crypto::{ClientKey, ClientKeys, Door, DoorKey, ServerId, random};
use opensesame_spa::proto::{DATAGRAM, seal};
use opensesame_spa::time::Unix;
use std::net::{IpAddr, Ipv4Addr};
use std::time::SystemTime;

pub type Datagram = [u8; DATAGRAM];

/// A client as the server knows it.
pub type Client = (ClientId, ClientKey);

/// What all clients of one server share.
pub struct Secret {
    pub server: ServerId,
    pub door: DoorKey,
}

fn wall() -> Unix {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Unix(now.as_millis() as u64)
}

/// An open of the default services for that address and so many seconds, dated now.
fn open(address: Ipv4Addr, ttl: u32) -> Request {
    Request {
        action: Action::Open,
        reply: false,
        replace: false,
        source: false,
        v4: Some(Prefix::host(IpAddr::V4(address))),
        v6: None,
        services: Services::EMPTY,
        time: wall(),
        ttl,
    }
}

impl Secret {
    fn sealed(&self, client: &Client, requests: impl Iterator<Item = Request>) -> Vec<Datagram> {
        let door = Door::derive(self.server, &self.door);
        let keys = ClientKeys::derive(self.server, &client.1, client.0.0);
        let one = |r: Request| seal(&r, client.0, self.server, &door, &keys, &random().unwrap());
        requests.map(one).collect()
    }

    /// Valid opens, one for each address, by all clients in turn.
    pub fn opens(&self, clients: &[Client], addresses: &[Ipv4Addr], ttl: u32) -> Vec<Datagram> {
        let each = addresses.len().div_ceil(clients.len()).max(1);
        let turns = addresses.chunks(each).zip(clients);
        turns.flat_map(|(some, c)| self.sealed(c, some.iter().map(|a| open(*a, ttl)))).collect()
    }

    /// As good as valid, of these clients in a random order: the tag is right, the id is known, and one
    /// bit of the HMAC is wrong.
    pub fn forged(&self, clients: &[Client], count: usize) -> Vec<Datagram> {
        let door = Door::derive(self.server, &self.door);
        let pick = |_| {
            let n = u64::from_le_bytes(random().unwrap());
            let (id, key) = &clients[(n % clients.len() as u64) as usize];
            let keys = ClientKeys::derive(self.server, key, id.0);
            let request = open(Ipv4Addr::new(10, 79, 0, 1), 60);
            let mut out = seal(&request, *id, self.server, &door, &keys, &random().unwrap());
            out[DATAGRAM - 1] ^= 1;
            out
        };
        (0..count).map(pick).collect()
    }

    /// The tag is right, and nobody has the id.
    pub fn unknown(&self, count: usize) -> Vec<Datagram> {
        let stranger = |_| (ClientId(random().unwrap()), ClientKey::generate().unwrap());
        (0..count).flat_map(|n| self.forged(&[stranger(n)], 1)).collect()
    }
}

/// What strangers send.
pub fn garbage(count: usize) -> Vec<Datagram> {
    (0..count).map(|_| random().unwrap()).collect()
}
