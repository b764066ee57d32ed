//! What must hold for every input: one function for each fuzz target, which panics where it does
//! not. The published test keys of `keys/` reach what lies behind the proof.
#![allow(dead_code, unreachable_pub)]

mod disk;
mod engine;
mod files;
mod journal;
mod leases;
mod model;
pub mod seeds;
mod table;
mod wire;

pub use engine::{engine, engine_by};
pub use files::{client_file, config, keeps_silent};
pub use journal::journal;
pub use model::Client as Rules;
pub use table::RULES;
pub use wire::{frame, request, spa_packet};

use opensesame_spa::client::Profile;
use opensesame_spa::crypto::{ClientKeys, Door};
use std::sync::LazyLock;

/// A target's name and body.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 7] = [
    ("spa_packet", spa_packet),
    ("request", request),
    ("frame", frame),
    ("config", config),
    ("client_file", client_file),
    ("journal", journal),
    ("engine", engine),
];

/// The published test keys, and what is derived from them.
struct Keys {
    profile: Profile,
    door: Door,
    own: ClientKeys,
}

const TEST_CLIENT: &str = include_str!("../../../keys/test-client.toml");

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let profile = Profile::parse(TEST_CLIENT).expect("the test keys are a client file");
    Keys {
        door: Door::derive(profile.server, &profile.door),
        own: ClientKeys::derive(profile.server, &profile.key, profile.id.0),
        profile,
    }
});

/// The first `N` bytes, and zeros where there are fewer.
fn padded<const N: usize>(data: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    let some = data.len().min(N);
    out[..some].copy_from_slice(&data[..some]);
    out
}
