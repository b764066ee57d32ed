//! The timer of `[priv]`: a descriptor that becomes readable at a moment.

#[cfg(target_os = "linux")]
mod boot;
#[cfg(any(test, not(target_os = "linux")))]
mod thread;

#[cfg(target_os = "linux")]
pub(super) use boot::Timer;
#[cfg(not(target_os = "linux"))]
pub(super) use thread::Timer;
