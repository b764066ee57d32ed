//! The first process of a container inherits the children of others; containers are Linux's.

#[cfg(target_os = "linux")]
mod first;
#[cfg(not(target_os = "linux"))]
mod nobody;

#[cfg(target_os = "linux")]
pub(super) use first::Orphans;
#[cfg(not(target_os = "linux"))]
pub(super) use nobody::Orphans;
