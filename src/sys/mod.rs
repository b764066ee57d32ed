//! System calls that no safe interface covers: the only room with `unsafe`.

mod rights;

pub use rights::{receive, send};
