//! Ways to prove who you are: one file for each.

mod knock;
mod plain;
mod spa;

pub(in crate::engine) use knock::Knocks;
pub use knock::{Knock, Sequence, Step};
pub use plain::Plain;

use super::{Refusal, Reject};
use crate::access::{Access, Action, Assurance, ClientId, Request, Services};
use crate::crypto::{ClientKey, Door, Mac, Opener, Root, ServerId};
use crate::time::Unix;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::net::IpAddr;

/// What a listener takes: one mode each, nothing is guessed from the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// This program's own sealed packets.
    Spa,
    /// A fixed text.
    Plain,
    /// Ports in the right order.
    Knock,
}

/// Somebody sent bytes; nothing about them is known.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The datagram.
    pub bytes: &'a [u8],
    /// Where it says that it comes from.
    pub from: IpAddr,
    /// What the listener takes.
    pub mode: Mode,
}

/// A client on its way to the engine: its access entry and its keys.
#[derive(Debug)]
pub struct Client {
    access: Access,
    keys: Box<Keys>,
}

impl Client {
    /// What the client's keys follow from is derived at once, the keys when they are needed.
    #[must_use]
    pub fn new(access: Access, server: ServerId, key: &ClientKey) -> Client {
        let keys =
            Keys { root: Root::of(server, key), mac: OnceCell::new(), seal: OnceCell::new() };
        Client { access, keys: Box::new(keys) }
    }

    /// Its access entry and its keys.
    pub(in crate::engine) fn parts(self) -> (Access, Box<Keys>) {
        (self.access, self.keys)
    }
}

/// The keys of one client. They stay where they were made, and are wiped there: a table of clients
/// that grows moves nothing of them.
#[derive(Debug)]
pub(in crate::engine) struct Keys {
    root: Root,
    /// Whoever can name the client makes this one be derived, so its room is there beforehand.
    mac: OnceCell<Mac>,
    /// For those alone who have come: a packet that is not proven needs none.
    seal: OnceCell<Box<Opener>>,
}

impl Keys {
    fn mac(&self, id: ClientId) -> &Mac {
        self.mac.get_or_init(|| self.root.mac(id.0))
    }

    fn seal(&self, id: ClientId) -> &Opener {
        self.seal.get_or_init(|| Box::new(self.root.seal(id.0)))
    }
}

/// The sender holds the key: made by the children of this room alone.
#[derive(Debug)]
pub(in crate::engine) struct Authenticated {
    client: ClientId,
    request: Request,
    assurance: Assurance,
    proof: [u8; 16],
    spends: Option<ClientId>,
}

impl Authenticated {
    /// Who sent it.
    pub(in crate::engine) fn client(&self) -> ClientId {
        self.client
    }

    /// What he asks for.
    pub(in crate::engine) fn request(&self) -> &Request {
        &self.request
    }

    /// How well he proved it.
    pub(in crate::engine) fn assurance(&self) -> Assurance {
        self.assurance
    }

    /// What must never be accepted from him again.
    pub(in crate::engine) fn proof(&self) -> [u8; 16] {
        self.proof
    }

    /// What is used up by it for good, beyond the replay cache's memory.
    pub(in crate::engine) fn spends(&self) -> Option<ClientId> {
        self.spends
    }
}

/// A proof that can be repeated, and so proves little: made by the children of this room alone.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Repeatable {
    client: ClientId,
    action: Action,
    assurance: Assurance,
}

impl Repeatable {
    pub(in crate::engine) fn client(&self) -> ClientId {
        self.client
    }

    pub(in crate::engine) fn action(&self) -> Action {
        self.action
    }

    pub(in crate::engine) fn assurance(&self) -> Assurance {
        self.assurance
    }
}

/// What somebody asks for who can say nothing but open or close: his own address, and what his
/// access entry opens.
pub(in crate::engine) fn bare(action: Action, time: Unix) -> Request {
    Request {
        action,
        reply: false,
        replace: false,
        source: true,
        v4: None,
        v6: None,
        services: Services::EMPTY,
        time,
        ttl: 0,
    }
}

/// What a datagram proves.
#[derive(Debug)]
pub(in crate::engine) enum Proof {
    /// Made for this one time; the replay cache decides.
    Once(Authenticated),
    /// The same as ever.
    Again(Repeatable),
}

/// Checks the proof that the listener's mode asks for.
pub(super) fn authenticate(
    arrival: &Arrival<'_>,
    plain: Option<&Plain>,
    server: ServerId,
    doors: &[Door],
    clients: &HashMap<ClientId, Box<Keys>>,
) -> Result<Proof, Refusal> {
    match arrival.mode {
        Mode::Spa => spa::authenticate(arrival.bytes, server, doors, clients).map(Proof::Once),
        Mode::Plain => {
            let proof = plain.and_then(|p| plain::authenticate(arrival.bytes, p));
            proof.map(Proof::Again).ok_or_else(|| Reject::Unauthentic.into())
        }
        // What it says is where it came to, see [`Knocks`].
        Mode::Knock => Err(Reject::Unauthentic.into()),
    }
}

impl From<Reject> for Refusal {
    fn from(reason: Reject) -> Refusal {
        Refusal { reason, client: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Terms;
    use crate::crypto::{ClientKeys, DoorKey, random};
    use crate::proto::{DATAGRAM, seal};

    const SERVER: ServerId = ServerId([7; 16]);
    const ID: ClientId = ClientId([1; 8]);

    #[test]
    fn keys_follow_when_they_are_needed_and_are_those_of_the_client() {
        let (key, door) = (ClientKey::new([5; 32]), Door::derive(SERVER, &DoorKey::new([6; 32])));
        let terms = Terms {
            assurance: Assurance::Sealed,
            services: Vec::new(),
            ttl: 30,
            max_ttl: 60,
            max_leases: 1,
            sources: Vec::new(),
            source_address: true,
            max_prefix_v4: 32,
            max_prefix_v6: 128,
            not_after: None,
            uses: None,
            hours: Vec::new(),
        };
        let client = Client::new(Access::new(ID, "a", terms), SERVER, &key);
        let clients = HashMap::from([(ID, client.parts().1)]);
        let ready = |clients: &HashMap<ClientId, Box<Keys>>| {
            (clients[&ID].mac.get().is_some(), clients[&ID].seal.get().is_some())
        };
        let packet = |id: ClientId, key: &ClientKey| -> [u8; DATAGRAM] {
            let keys = ClientKeys::derive(SERVER, key, id.0);
            seal(&bare(Action::Open, Unix(9)), id, SERVER, &door, &keys, &random().unwrap())
        };
        let come = |id, key: &ClientKey| {
            let packet = packet(id, key);
            let come = spa::authenticate(&packet, SERVER, std::slice::from_ref(&door), &clients);
            (come.map(|a| a.client()).map_err(|r| r.reason), ready(&clients))
        };
        let stranger = ClientKey::new([9; 32]);
        assert_eq!(come(ClientId([2; 8]), &stranger), (Err(Reject::UnknownClient), (false, false)));
        assert_eq!(come(ID, &stranger), (Err(Reject::Unauthentic), (true, false)));
        assert_eq!(come(ID, &key), (Ok(ID), (true, true)));
        assert_eq!(come(ID, &stranger), (Err(Reject::Unauthentic), (true, true)));
    }
}
