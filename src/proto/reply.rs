//! The datagram of a reply, 288 bytes, bound to the request that it answers.

use super::request::{TARGET, decode_target, encode_target};
use super::{
    COVERED, DATAGRAM, HMAC, Malformed, NONCE, REPLY_BODY, SEAL_TAG, TIME_LIMIT, VERSION, field,
};
use crate::access::{Prefix, Services};
use crate::crypto::{ClientKeys, ServerId};
use crate::time::Unix;

/// Where addresses and services begin in the body.
const TARGET_AT: usize = 20;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// The firewall is open.
    Open,
    /// The leases are ended.
    Closed,
    /// The policy does not allow it.
    Refused,
    /// The firewall did not take it.
    Failed,
    /// Too much to do; try again.
    Busy,
}

/// An answer to one fresh packet, after the firewall has done what it says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What became of it.
    pub status: Status,
    /// The server's clock.
    pub time: Unix,
    /// When the lease ends; the epoch if there is none.
    pub until: Unix,
    /// The IPv4 prefix that it is about.
    pub v4: Option<Prefix>,
    /// The IPv6 prefix that it is about.
    pub v6: Option<Prefix>,
    /// The services that it is about; empty: the defaults.
    pub services: Services,
}

impl Status {
    fn number(self) -> u8 {
        match self {
            Status::Open => 1,
            Status::Closed => 2,
            Status::Refused => 3,
            Status::Failed => 4,
            Status::Busy => 5,
        }
    }
}

fn encode(reply: &Reply) -> [u8; REPLY_BODY] {
    let mut out = [0; REPLY_BODY];
    out[0] = VERSION;
    out[1] = reply.status.number();
    out[4..12].copy_from_slice(&reply.time.0.to_be_bytes());
    out[12..20].copy_from_slice(&reply.until.0.to_be_bytes());
    let target = encode_target(false, reply.v4, reply.v6, &reply.services);
    out[TARGET_AT..TARGET_AT + TARGET].copy_from_slice(&target);
    out
}

fn decode(bytes: &[u8; REPLY_BODY]) -> Result<Reply, Malformed> {
    if bytes[0] != VERSION {
        return Err(Malformed::Version);
    }
    let status = match bytes[1] {
        1 => Status::Open,
        2 => Status::Closed,
        3 => Status::Refused,
        4 => Status::Failed,
        5 => Status::Busy,
        _ => return Err(Malformed::Action),
    };
    let time = u64::from_be_bytes(field(bytes, 4));
    let until = u64::from_be_bytes(field(bytes, 12));
    if time >= TIME_LIMIT || until >= TIME_LIMIT {
        return Err(Malformed::Time);
    }
    let (source, v4, v6, services) = decode_target(&field(bytes, TARGET_AT))?;
    // A reply names the address that it is about; "your source" would leave it open.
    if source {
        return Err(Malformed::Addresses);
    }
    let reply = Reply { status, time: Unix(time), until: Unix(until), v4, v6, services };
    match encode(&reply) == *bytes {
        true => Ok(reply),
        false => Err(Malformed::NotCanonical),
    }
}

fn associated(server: ServerId, request: &[u8; HMAC]) -> [u8; 16 + HMAC] {
    let mut data = [0; 16 + HMAC];
    data[..16].copy_from_slice(&server.0);
    data[16..].copy_from_slice(request);
    data
}

/// The datagram that answers the request whose HMAC is `request`.
#[must_use]
pub fn seal_reply(
    reply: &Reply,
    request: &[u8; HMAC],
    server: ServerId,
    keys: &ClientKeys,
    nonce: &[u8; NONCE],
) -> [u8; DATAGRAM] {
    let mut out = [0; DATAGRAM];
    let mut body = encode(reply);
    let tag = keys.reply_seal.seal(nonce, &associated(server, request), &mut body);
    out[..NONCE].copy_from_slice(nonce);
    out[NONCE..NONCE + REPLY_BODY].copy_from_slice(&body);
    out[NONCE + REPLY_BODY..COVERED].copy_from_slice(&tag);
    let hmac = keys.reply_mac.tag(&[request, &out[..COVERED]]);
    out[COVERED..].copy_from_slice(&hmac);
    out
}

/// Reads the answer to the request whose HMAC is `request`.
///
/// # Errors
/// When it is no answer to that request from that server.
pub fn open_reply(
    bytes: &[u8],
    request: &[u8; HMAC],
    server: ServerId,
    keys: &ClientKeys,
) -> Result<Reply, Malformed> {
    let bytes: &[u8; DATAGRAM] = bytes.try_into().map_err(|_| Malformed::Length)?;
    if !keys.reply_mac.verify(&[request, &bytes[..COVERED]], &field(bytes, COVERED)) {
        return Err(Malformed::Seal);
    }
    let mut body = field::<REPLY_BODY>(bytes, NONCE);
    let tag = field::<SEAL_TAG>(bytes, NONCE + REPLY_BODY);
    if !keys.reply_seal.open(&field(bytes, 0), &associated(server, request), &mut body, &tag) {
        return Err(Malformed::Seal);
    }
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::ClientKey;

    #[test]
    fn a_reply_answers_its_request_and_no_other() {
        let server = ServerId([7; 16]);
        let keys = ClientKeys::derive(server, &ClientKey::new([1; 32]), [2; 8]);
        let reply = Reply {
            status: Status::Open,
            time: Unix(1_700_000_000_123),
            until: Unix(1_700_000_030_000),
            v4: Some("192.0.2.7".parse().unwrap()),
            v6: None,
            services: Services::EMPTY,
        };
        let sent = seal_reply(&reply, &[3; 32], server, &keys, &[4; 24]);
        assert_eq!(open_reply(&sent, &[3; 32], server, &keys), Ok(reply));
        assert_eq!(open_reply(&sent, &[9; 32], server, &keys), Err(Malformed::Seal));
        assert_eq!(open_reply(&sent[1..], &[3; 32], server, &keys), Err(Malformed::Length));
        for bit in 0..DATAGRAM * 8 {
            let mut bent = sent;
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open_reply(&bent, &[3; 32], server, &keys), Err(Malformed::Seal));
        }
    }
}
