//! Keys and primitives: the only room that uses the crypto crates.
//!
//! | job | primitive | source |
//! |---|---|---|
//! | randomness | the system's generator, through ring | getrandom(2) |
//! | sealed body | XChaCha20-Poly1305 | draft-irtf-cfrg-xchacha-03 |
//! | mask over the client id | ChaCha20 | RFC 8439 |
//! | outer proof | HMAC-SHA-256 | RFC 2104, FIPS 180-4 |
//! | key derivation | HKDF-SHA-256 | RFC 5869 |
//! | admission tag | HalfSipHash-2-4, 32 bits | Aumasson, Bernstein: SipHash |
#![forbid(unsafe_code)]

mod halfsip;
mod keys;
mod primitive;
mod text;

pub use halfsip::halfsiphash;
pub use keys::{
    ClientKey, ClientKeys, Door, DoorKey, KeyError, KnockKey, Root, SecretText, ServerId,
};
pub use primitive::{
    Mac, NoRandomness, Opener, Print, digest, equal, mask_stream, random, service_name,
};
pub use text::{from_url_text, hex, hex_of, is_published, to_url_text};
