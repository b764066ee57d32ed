//! Keys and ids as text.

use super::SecretText;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// `N` bytes out of hex digits.
#[must_use]
pub fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut out = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// Hex digits out of bytes.
#[must_use]
pub fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The published test keys, which every reader of this program has: bytes 0, 1, 2, ... from a
/// start on. A server that used them would be open to everybody.
#[must_use]
pub fn is_published(key: &[u8; 32]) -> bool {
    key.windows(2).all(|w| w[1] == w[0].wrapping_add(1))
}

/// Bytes as base64url without padding (RFC 4648, section 5): for links.
#[must_use]
pub fn to_url_text(bytes: &[u8]) -> SecretText {
    Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes))
}

/// The bytes of such a text.
#[must_use]
pub fn from_url_text(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    URL_SAFE_NO_PAD.decode(text).ok().map(Zeroizing::new)
}
