//! The only place where a clock is read.
#![allow(clippy::disallowed_methods)]

use crate::time::{Mono, Now, Unix};
use jiff::tz::TimeZone;
use nix::time::{ClockId, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

#[cfg(target_os = "linux")]
const BOOT: ClockId = ClockId::CLOCK_BOOTTIME;
// FreeBSD's and macOS' CLOCK_MONOTONIC; suspended time does not count there.
#[cfg(not(target_os = "linux"))]
const BOOT: ClockId = ClockId::CLOCK_MONOTONIC;

/// Both clocks, read one after the other.
#[must_use]
pub fn now() -> Now {
    let ms = |s: i64, ns: i64| (s.max(0) as u64) * 1_000 + (ns.max(0) as u64) / 1_000_000;
    let mono = clock_gettime(BOOT).map_or(0, |t| ms(t.tv_sec(), t.tv_nsec()));
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    Now { unix: Unix(unix), mono: Mono(mono) }
}

/// Where the machine is, as TZ or /etc/localtime say; UTC where neither does.
#[must_use]
pub fn zone() -> TimeZone {
    TimeZone::system()
}

/// The kernel's random id of this boot.
///
/// # Errors
/// When the kernel does not say; leases and packets from before cannot be told apart then.
#[cfg(target_os = "linux")]
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    crate::crypto::hex(&text.trim().replace('-', ""))
        .ok_or_else(|| std::io::Error::other("the kernel's boot id is no UUID"))
}

/// The moment of this boot stands for its id: BSD kernels have none.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn boot_id() -> std::io::Result<[u8; 16]> {
    let now = now();
    // Within a second of each other after any number of reads; a step of the wall clock makes
    // another boot of it, which refuses more, never less.
    let boot = now.unix.0.saturating_sub(now.mono.0) / 10_000;
    let mut id = [0; 16];
    id[8..].copy_from_slice(&boot.to_be_bytes());
    Ok(id)
}
