//! Memory that is not needed any more.
#![allow(unsafe_code)]

/// Gives what is free back to the system, where the allocator would keep it (glibc).
pub fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim(3) takes a number, is safe between threads, and touches free memory alone.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
