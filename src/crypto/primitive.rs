//! The primitives behind small, exact functions.

use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305};
use hmac::block_api::HmacCore;
use hmac::digest::block_api::{Buffer, CoreProxy};
use hmac::{Hmac, Mac as _};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use std::fmt;
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// The system's random generator did not answer: nothing may be made without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRandomness;

impl fmt::Display for NoRandomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the system's random generator does not answer")
    }
}

impl std::error::Error for NoRandomness {}

/// `N` bytes from the system's random generator.
///
/// # Errors
/// When the system has none to give.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Whether two secrets are the same, in time that does not depend on where they differ.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    // Both sides are hashed under one key that nobody knows, and the tags are compared.
    let Ok(key) = random::<32>() else { return false };
    let mac = Mac::new(&key);
    mac.verify(&[a], &mac.tag(&[b]))
}

/// What tells secrets apart and says nothing about them: a tag under a key that this process has made
/// for itself and keeps to itself. Two that are the same are of the same secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Print([u8; 16]);

impl Print {
    /// The print of a secret, in this process.
    ///
    /// # Errors
    /// When the system has no randomness for the key.
    pub fn of(secret: &[u8]) -> Result<Print, NoRandomness> {
        static KEY: OnceLock<Mac> = OnceLock::new();
        let mac = match KEY.get() {
            Some(mac) => mac,
            None => {
                let fresh = Mac::new(&Zeroizing::new(random()?));
                KEY.get_or_init(|| fresh)
            }
        };
        let tag = mac.tag(&[secret]);
        Ok(Print(std::array::from_fn(|i| tag[i])))
    }
}

/// SHA-256 (FIPS 180-4).
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The first 4 bytes of SHA-256 of a service's name.
#[must_use]
pub fn service_name(name: &str) -> [u8; 4] {
    let hash = digest(name.as_bytes());
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The first `N` bytes of ChaCha20 (RFC 8439, counter 0).
#[must_use]
pub fn mask_stream<const N: usize>(key: &[u8; 32], nonce: &[u8; 12]) -> [u8; N] {
    let mut bytes = [0; N];
    chacha20::ChaCha20::new(key.into(), nonce.into()).apply_keystream(&mut bytes);
    bytes
}

/// HMAC-SHA-256 under one key, with the key's two blocks hashed beforehand; the place for the bytes
/// of a message is made when there is one, so that what is kept for each client is small.
#[derive(Clone)]
pub struct Mac(HmacCore<Sha256>);

impl Mac {
    /// A MAC under `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Mac {
        // A key shorter than the hash's block is padded with zeros (RFC 2104, section 2).
        let mut block = Zeroizing::new([0; 64]);
        block[..32].copy_from_slice(key);
        Mac(HmacCore::new((&*block).into()))
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::compose(self.0.clone(), Buffer::<HmacCore<Sha256>>::default());
        parts.iter().for_each(|part| mac.update(part));
        mac
    }

    /// The tag over the parts, one after the other.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; 32] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag over the parts, in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        self.over(parts).verify_slice(tag).is_ok()
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mac(..)")
    }
}

/// XChaCha20-Poly1305 under one key.
pub struct Opener(XChaCha20Poly1305);

impl Opener {
    /// A cipher under `key`.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Opener {
        Opener(XChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts `body` in place and returns its tag.
    #[must_use]
    pub fn seal(&self, nonce: &[u8; 24], data: &[u8], body: &mut [u8]) -> [u8; 16] {
        let sealed = self.0.encrypt_inout_detached(nonce.into(), data, body.into());
        // It fails above 256 GiB only, and no message here is longer than a datagram.
        sealed.map_or([0; 16], Into::into)
    }

    /// Decrypts `body` in place; false, and `body` unchanged, if the tag does not fit.
    #[must_use]
    pub fn open(&self, nonce: &[u8; 24], data: &[u8], body: &mut [u8], tag: &[u8; 16]) -> bool {
        let tag: Tag = (*tag).into();
        self.0.decrypt_inout_detached(nonce.into(), data, body.into(), &tag).is_ok()
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let pair = |i| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(pair).collect()
    }

    /// draft-irtf-cfrg-xchacha-03, appendix A.3.1.
    #[test]
    fn xchacha20_poly1305_of_the_draft() {
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
for the future, sunscreen would be it.";
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + i as u8);
        let nonce: [u8; 24] = std::array::from_fn(|i| 0x40 + i as u8);
        let data = hex("50515253c0c1c2c3c4c5c6c7");
        let mut body = text.to_vec();
        let opener = Opener::new(&key);
        let tag = opener.seal(&nonce, &data, &mut body);
        assert_eq!(body[..8], hex("bd6d179d3e83d43b"));
        assert_eq!(tag[..], hex("c0875924c1c7987947deafd8780acf49"));
        assert!(opener.open(&nonce, &data, &mut body, &tag));
        assert_eq!(body, text);
        assert!(!opener.open(&nonce, &data[1..], &mut body, &tag));
    }

    /// RFC 8439, appendix A.1, test vectors 1 and 4: block 0 of two keys.
    #[test]
    fn chacha20_of_the_rfc() {
        let zero: [u8; 16] = mask_stream(&[0; 32], &[0; 12]);
        assert_eq!(zero[..], hex("76b8e0ada0f13d90405d6ae55386bd28"));
    }

    /// RFC 4231, test case 1, with its 20-byte key padded to the block as HMAC does.
    #[test]
    fn hmac_of_the_rfc() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let tag = Mac::new(&key).tag(&[b"Hi ", b"There"]);
        let rfc = hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(tag[..], rfc);
        assert!(Mac::new(&key).verify(&[b"Hi There"], &tag));
        assert!(!Mac::new(&key).verify(&[b"Hi there"], &tag));
    }

    #[test]
    fn equal_means_equal() {
        assert!(equal(b"open_sesame", b"open_sesame"));
        assert!(!equal(b"open_sesame", b"open_sesamf"));
        assert!(!equal(b"open_sesame", b"open_sesame\n"));
    }

    #[test]
    fn a_print_is_that_of_one_secret() {
        let print = |secret: &[u8]| Print::of(secret).unwrap();
        assert_eq!(print(&[1; 32]), print(&[1; 32]));
        assert_ne!(print(&[1; 32]), print(&[2; 32]));
        assert_ne!(print(&[1; 32]).0[..], Mac::new(&[0; 32]).tag(&[&[1; 32]])[..16]);
    }

    #[test]
    fn a_name_is_the_head_of_its_hash() {
        // sha256("abc"), FIPS 180-4 example.
        assert_eq!(service_name("abc")[..], hex("ba7816bf"));
    }
}
