//! System calls that no safe interface covers: the only room with `unsafe`.

mod child;
mod clock;
mod filter;
#[cfg(target_os = "macos")]
mod groups;
mod memory;
#[cfg(target_os = "linux")]
mod packet;
mod rights;

pub use child::{close_on_exec, detach};
pub use clock::clock_is_set;
pub use filter::Instruction;
#[cfg(target_os = "linux")]
pub use filter::{attach_filter, detach_filter, dropped, lock_filter};
#[cfg(target_os = "macos")]
pub use groups::leave_groups;
pub use memory::trim;
#[cfg(target_os = "linux")]
pub use packet::bind_packet;
pub use rights::{receive, send};
