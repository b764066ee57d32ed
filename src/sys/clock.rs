//! Whether the clock has been set (adjtimex(2)).
#![allow(unsafe_code)]

/// Whether a time service keeps the clock; none where the system does not say.
#[must_use]
pub fn clock_is_set() -> Option<bool> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: all of its fields are integers, for which zero is a value; `modes` 0 reads only.
        let mut about: nix::libc::timex = unsafe { std::mem::zeroed() };
        // SAFETY: the structure lives as long as the call, and the kernel writes within it.
        let state = unsafe { nix::libc::adjtimex(&raw mut about) };
        (state >= 0).then_some(about.status & nix::libc::STA_UNSYNC == 0)
    }
    #[cfg(not(target_os = "linux"))]
    None
}
