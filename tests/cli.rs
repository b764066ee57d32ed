//! The program from outside, without rights: what people type, what they get, and what they must
//! never see.

#![allow(unreachable_pub, missing_docs, clippy::unwrap_used)]

#[path = "cli"]
mod cli {
    mod config;
    mod files;
    mod packets;
    mod pages;
    mod place;
    mod secrets;
}
