//! The token by which macOS counts that we want pf enabled.
//!
//! It outlives the process, so that after a stop the ports stay shut; `uninstall` gives it back. Where
//! it is kept is emptied at boot, as are all tokens.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

/// Root's.
const FILE: &str = "/var/run/opensesame-spa.pf-token";

/// Longer than any token.
const LONGEST: u64 = 64;

/// Whether one was taken since boot.
pub(super) fn is_held() -> bool {
    std::fs::symlink_metadata(FILE).is_ok_and(|m| m.is_file())
}

/// Keeps one, instead of the one before.
pub(super) fn keep(token: &str) {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.custom_flags(nix::libc::O_NOFOLLOW).open(FILE);
    if let Err(e) = file
        .as_mut()
        .map_err(|e| e.kind())
        .and_then(|file| file.write_all(token.as_bytes()).map_err(|e| e.kind()))
    {
        log::warn!("{FILE}: {e}; pf stays enabled until `pfctl -X {token}` or the next boot");
    }
}

/// The one that is kept, which is forgotten.
pub(super) fn take() -> Option<String> {
    let mut text = String::new();
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(FILE).ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    // It is void in any case.
    let _ = std::fs::remove_file(FILE);
    let right = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    right.then_some(text)
}
