//! The keys: two kinds that are kept, six that are derived from them.

use super::{Mac, NoRandomness, Opener, halfsiphash, mask_stream, random};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// What the salt of every derivation begins with.
const SALT: &[u8; 16] = b"opensesame-spa/1";

/// Text that holds a secret: wiped on drop, not shown by Debug.
pub type SecretText = Zeroizing<String>;

/// A text that is no key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a key: 32 bytes in base64 are wanted")
    }
}

impl std::error::Error for KeyError {}

/// The 16 bytes that name a server; part of every derivation, so a packet is worthless elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ServerId(pub [u8; 16]);

fn expand(prk: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    // Expand fails above 255 * 32 bytes only (RFC 5869, 2.3); everything here is 8 or 32.
    let done = prk.expand_multi_info(info, out);
    debug_assert!(done.is_ok());
}

fn salt(server: ServerId) -> [u8; 32] {
    let mut salt = [0; 32];
    salt[..16].copy_from_slice(SALT);
    salt[16..].copy_from_slice(&server.0);
    salt
}

macro_rules! kept_key {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Zeroize, ZeroizeOnDrop)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The key out of its bytes.
            #[must_use]
            pub fn new(bytes: [u8; 32]) -> $name {
                $name(bytes)
            }

            /// A fresh key.
            ///
            /// # Errors
            /// When the system has no randomness to give.
            pub fn generate() -> Result<$name, NoRandomness> {
                random().map($name)
            }

            /// The key out of base64 text (RFC 4648, with padding).
            ///
            /// # Errors
            /// When the text is not exactly 32 bytes in base64.
            pub fn from_text(text: &str) -> Result<$name, KeyError> {
                let bytes = Zeroizing::new(STANDARD.decode(text.trim()).map_err(|_| KeyError)?);
                bytes.as_slice().try_into().map($name).map_err(|_| KeyError)
            }

            /// The key as base64 text.
            #[must_use]
            pub fn to_text(&self) -> SecretText {
                Zeroizing::new(STANDARD.encode(self.0))
            }

            /// The bytes.
            #[must_use]
            pub fn bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

kept_key!(DoorKey, "The key that a server shares with all of its clients.");
kept_key!(ClientKey, "The key that one client shares with the server.");
kept_key!(KnockKey, "The secret that knock sequences follow from, step by step.");

/// What is derived from a door key: the sieve before everything, and the mask over client ids.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Door {
    admit: [u8; 8],
    mask: [u8; 32],
}

impl Door {
    /// Derives `admit` and `mask`.
    #[must_use]
    pub fn derive(server: ServerId, key: &DoorKey) -> Door {
        let prk = Hkdf::<Sha256>::new(Some(&salt(server)), &key.0);
        let mut door = Door { admit: [0; 8], mask: [0; 32] };
        expand(&prk, &[b"admit"], &mut door.admit);
        expand(&prk, &[b"mask"], &mut door.mask);
        door
    }

    /// The key of the admission tag.
    #[must_use]
    pub fn admit(&self) -> &[u8; 8] {
        &self.admit
    }

    /// The admission tag of the first 8 bytes of a nonce.
    #[must_use]
    pub fn tag(&self, token: &[u8; 8]) -> [u8; 4] {
        halfsiphash(&self.admit, token).to_le_bytes()
    }

    /// Masks a client id, or unmasks it, with the last 12 bytes of the nonce.
    #[must_use]
    pub fn mask(&self, nonce: &[u8; 12], id: [u8; 8]) -> [u8; 8] {
        let stream: [u8; 8] = mask_stream(&self.mask, nonce);
        std::array::from_fn(|i| id[i] ^ stream[i])
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door(..)")
    }
}

/// What all keys of one client at one server follow from; the client's key does not follow from it,
/// nor what it is at another server.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Root([u8; 32]);

impl Root {
    /// What follows from that key at that server.
    #[must_use]
    pub fn of(server: ServerId, key: &ClientKey) -> Root {
        let mut prk = Hkdf::<Sha256>::extract(Some(&salt(server)), &key.0).0;
        let root = Root(prk.into());
        prk.zeroize();
        root
    }

    fn one(&self, label: &[u8], id: [u8; 8]) -> Zeroizing<[u8; 32]> {
        // Expand to the hash's own length (RFC 5869, 2.3): the first block, T(1), is all of it.
        Zeroizing::new(Mac::new(&self.0).tag(&[label, &[0], &id, &[1]]))
    }

    /// What proves the requests of the client of that id.
    #[must_use]
    pub fn mac(&self, id: [u8; 8]) -> Mac {
        Mac::new(&self.one(b"mac", id))
    }

    /// What seals and opens the requests of the client of that id.
    #[must_use]
    pub fn seal(&self, id: [u8; 8]) -> Opener {
        Opener::new(&self.one(b"seal", id))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Root(..)")
    }
}

/// What is derived from a client key, ready for use.
#[derive(Debug)]
pub struct ClientKeys {
    /// Seals and opens requests.
    pub seal: Opener,
    /// Proves requests.
    pub mac: Mac,
    /// Seals and opens replies.
    pub reply_seal: Opener,
    /// Proves replies.
    pub reply_mac: Mac,
}

impl ClientKeys {
    /// Derives the four keys of the client of that id at that server.
    #[must_use]
    pub fn derive(server: ServerId, key: &ClientKey, id: [u8; 8]) -> ClientKeys {
        let root = Root::of(server, key);
        ClientKeys {
            seal: root.seal(id),
            mac: root.mac(id),
            reply_seal: Opener::new(&root.one(b"reply-seal", id)),
            reply_mac: Mac::new(&root.one(b"reply-mac", id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_key() {
        let key = ClientKey::new([0x41; 32]);
        let door = Door::derive(ServerId([1; 16]), &DoorKey::new([0x41; 32]));
        let keys = ClientKeys::derive(ServerId([1; 16]), &key, [2; 8]);
        let root = Root::of(ServerId([1; 16]), &key);
        let shown = format!("{key:?} {door:?} {root:?} {keys:?}");
        assert_eq!(
            shown,
            "ClientKey(..) Door(..) Root(..) ClientKeys { seal: Opener(..), mac: Mac(..), \
             reply_seal: Opener(..), reply_mac: Mac(..) }"
        );
    }

    #[test]
    fn key_text_goes_both_ways_and_nothing_else_passes() {
        let key = ClientKey::generate().unwrap();
        assert!(ClientKey::from_text(&key.to_text()) == Ok(key));
        for text in ["", "AAAA", "not base64!", &"A".repeat(44), &"A".repeat(88)] {
            assert_eq!(ClientKey::from_text(text), Err(KeyError), "{text}");
        }
    }

    #[test]
    fn every_input_of_the_derivation_matters() {
        let tag = |server, key, id| {
            ClientKeys::derive(ServerId(server), &ClientKey::new(key), id).mac.tag(&[b"x"])
        };
        let base = tag([1; 16], [2; 32], [3; 8]);
        assert_ne!(base, tag([9; 16], [2; 32], [3; 8]));
        assert_ne!(base, tag([1; 16], [9; 32], [3; 8]));
        assert_ne!(base, tag([1; 16], [2; 32], [9; 8]));
    }
}
