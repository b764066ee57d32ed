//! The datagram of a request, 288 bytes.

use super::{
    BODY, CLIENT, COVERED, DATAGRAM, HEADER, HMAC, Malformed, NONCE, REQUEST, SEAL_TAG, TAG, TOKEN,
    decode, encode, field,
};
use crate::access::{ClientId, Request};
use crate::crypto::{ClientKeys, Door, Mac, Opener, ServerId};
use zeroize::Zeroizing;

/// Bytes of the right shape; nothing else is known about them.
#[derive(Clone, Copy)]
pub struct Packet<'a>(&'a [u8; DATAGRAM]);

impl<'a> Packet<'a> {
    /// Takes bytes of the one length.
    ///
    /// # Errors
    /// [`Malformed::Length`] for every other.
    pub fn parse(bytes: &'a [u8]) -> Result<Packet<'a>, Malformed> {
        bytes.try_into().map(Packet).map_err(|_| Malformed::Length)
    }

    /// The random nonce.
    #[must_use]
    pub fn nonce(&self) -> [u8; NONCE] {
        field(self.0, 0)
    }

    /// Whether the admission tag is the door's: a sieve, not a proof.
    #[must_use]
    pub fn is_admitted(&self, door: &Door) -> bool {
        // Not in constant time on purpose: 32 bits that the kernel compares as well.
        door.tag(&field::<TOKEN>(self.0, 0)) == field::<TAG>(self.0, NONCE)
    }

    /// The id that the door key unmasks.
    #[must_use]
    pub fn client(&self, door: &Door) -> ClientId {
        ClientId(door.mask(&field(self.0, 12), field::<CLIENT>(self.0, NONCE + TAG)))
    }

    /// Whether the HMAC over all received bytes before it is right.
    #[must_use]
    pub fn is_proven(&self, mac: &Mac) -> bool {
        mac.verify(&[&self.0[..COVERED]], &field::<HMAC>(self.0, COVERED))
    }

    /// The HMAC: what a reply is bound to.
    #[must_use]
    pub fn hmac(&self) -> [u8; HMAC] {
        field(self.0, COVERED)
    }

    /// Opens the seal and reads the request.
    ///
    /// # Errors
    /// When the seal does not open or the request is not written in its one encoding.
    pub fn open(&self, seal: &Opener, server: ServerId) -> Result<Request, Malformed> {
        let mut body = Zeroizing::new(field::<BODY>(self.0, HEADER));
        let tag = field::<SEAL_TAG>(self.0, HEADER + BODY);
        if !seal.open(&self.nonce(), &self.associated(server), body.as_mut_slice(), &tag) {
            return Err(Malformed::Seal);
        }
        let request = decode(&field(body.as_slice(), 0))?;
        match body[REQUEST..].iter().all(|b| *b == 0) {
            true => Ok(request),
            false => Err(Malformed::NotCanonical),
        }
    }

    fn associated(&self, server: ServerId) -> [u8; 16 + HEADER] {
        let mut data = [0; 16 + HEADER];
        data[..16].copy_from_slice(&server.0);
        data[16..].copy_from_slice(&self.0[..HEADER]);
        data
    }
}

/// The datagram that says `request`; the nonce must be fresh from [`crate::crypto::random`].
#[must_use]
pub fn seal(
    request: &Request,
    client: ClientId,
    server: ServerId,
    door: &Door,
    keys: &ClientKeys,
    nonce: &[u8; NONCE],
) -> [u8; DATAGRAM] {
    let mut out = [0; DATAGRAM];
    out[..NONCE].copy_from_slice(nonce);
    out[NONCE..NONCE + TAG].copy_from_slice(&door.tag(&field(nonce, 0)));
    out[NONCE + TAG..HEADER].copy_from_slice(&door.mask(&field(nonce, 12), client.0));
    let data = Packet(&out).associated(server);
    let mut body = Zeroizing::new([0; BODY]);
    body[..REQUEST].copy_from_slice(&encode(request));
    let tag = keys.seal.seal(nonce, &data, body.as_mut_slice());
    out[HEADER..HEADER + BODY].copy_from_slice(body.as_slice());
    out[HEADER + BODY..COVERED].copy_from_slice(&tag);
    let hmac = keys.mac.tag(&[&out[..COVERED]]);
    out[COVERED..].copy_from_slice(&hmac);
    out
}
