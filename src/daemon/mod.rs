//! Runs it: the process tree, the files, the clock, the sockets.
//!
//! `serve` is `[priv]`, the parent: it holds the configuration and the firewall and reads nothing
//! from the network. `[engine]`, its child, holds the sockets, the keys and the journal and no
//! privilege; `[gate]`, another child, only where the HTTP gate is configured, the listeners;
//! `[hook]`, only where a service names a hook, runs commands. They exchange frames of one fixed size.

pub mod claim;
pub mod clients;
pub mod clock;
pub mod config;
pub mod control;
pub mod doctor;
pub mod frame;
pub mod hook;
pub mod log;
pub mod site;
pub mod store;

mod admission;
mod batch;
mod bytes;
mod capture;
mod channel;
mod codes;
mod enforce;
mod engine_process;
mod gate_process;
mod hook_process;
mod last_good;
mod observe;
mod priv_process;
mod rights;
mod sequence;
mod serve;
mod service;
mod suspect;
mod syncer;
mod system;
mod timer;
mod watch;

pub use engine_process::run as run_engine;
pub use gate_process::run as run_gate;
pub use hook_process::run as run_hook;
pub use serve::{Options, serve, session_at_stake, shield_only, uninstall};
pub use system::ServeError;
