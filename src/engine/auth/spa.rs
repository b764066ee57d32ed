//! The sealed packet: shape, admission, client, HMAC, seal, request; cheapest first.

use super::{Authenticated, Keys, Refusal, Reject};
use crate::access::{Assurance, ClientId};
use crate::crypto::{Door, ServerId};
use crate::proto::Packet;
use std::collections::HashMap;

/// The current door key and the one before it.
const DOORS: usize = 2;

pub(super) fn authenticate(
    bytes: &[u8],
    server: ServerId,
    doors: &[Door],
    clients: &HashMap<ClientId, Box<Keys>>,
) -> Result<Authenticated, Refusal> {
    let packet = Packet::parse(bytes).map_err(Reject::Malformed)?;
    let door =
        doors.iter().take(DOORS).find(|d| packet.is_admitted(d)).ok_or(Reject::NotAdmitted)?;
    let id = packet.client(door);
    let keys = clients.get(&id).ok_or(Reject::UnknownClient)?;
    if !packet.is_proven(keys.mac(id)) {
        return Err(Reject::Unauthentic.into());
    }
    // From here on the sender holds the client's key, whatever he sent.
    let request = packet
        .open(keys.seal(id), server)
        .map_err(|why| Refusal { reason: Reject::Malformed(why), client: Some(id) })?;
    let nonce = packet.nonce();
    let mut proof = [0; 16];
    proof.copy_from_slice(&nonce[..16]);
    let assurance = Assurance::Sealed;
    Ok(Authenticated { client: id, request, assurance, proof, spends: None })
}
