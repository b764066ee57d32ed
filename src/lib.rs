//! Single-packet authorization: one encrypted and HMAC'd UDP datagram opens the firewall, for one
//! address and a limited time; to everybody else the server is silent and its ports are shut.
//!
//! The rooms, from the ground up; each uses only what stands below it, and a test holds the table
//! (`docs/architecture.md`).
//!
//! | room | what it is | may use |
//! |---|---|---|
//! | [`time`] | the one moment that a turn works with | |
//! | [`crypto`] | keys and primitives | time |
//! | [`sys`] | the only `unsafe` | |
//! | [`access`] | who may have what, for how long | time |
//! | [`proto`] | bytes and their meaning | access crypto time |
//! | [`engine`] | decides: arrivals in, grants out; pure | proto access crypto time |
//! | [`firewall`] | enforces: leases, and the kernel's rules | access sys time |
//! | [`client`] | builds one packet and sends it | proto access crypto sys time |
//! | [`gate`] | serves a few files, reports who asks for others | access sys time |
//! | [`daemon`] | runs it: processes, files, clock, sockets | all but client and cli |
//! | [`cli`] | what people type | everything |

pub mod access;
pub mod cli;
pub mod client;
pub mod crypto;
pub mod daemon;
pub mod engine;
pub mod firewall;
pub mod gate;
pub mod proto;
pub mod sys;
pub mod time;
