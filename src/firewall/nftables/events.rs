//! What somebody else does to our table, as the kernel tells it (group NFNLGRP_NFTABLES).

use super::home::{GUEST, Home};
use super::socket::{BUFFER, Messages, NFNL_SUBSYS_NFTABLES, READ};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// NFNLGRP_NFTABLES is group 7: the seventh bit.
const GROUPS: u32 = 1 << 6;
/// The attribute of every message about a table, chain, rule, set or element: the table.
const TABLE_NAME: u16 = 1;
/// The chain of a rule and the set of a set or of elements; and the name of a chain.
const NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
/// The bits of an attribute's kind that are not flags (linux/netlink.h).
const NLA_TYPE_MASK: u16 = 0x3fff;
/// Bytes before the attributes.
const HEADER: usize = 4;

/// A socket that hears of every change of rules in this network namespace.
#[derive(Debug)]
pub(super) struct Events {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Events {
    /// Listens from now on.
    pub(super) fn open() -> Result<Events, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkNetFilter;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &BUFFER)?;
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Events { fd, buffer: vec![0; READ] })
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes all that has been told; whether any of it was about what is ours and not by `own`, the
    /// port of our socket. What was lost may have been.
    pub(super) fn foreign(&mut self, own: u32, home: &Home) -> bool {
        let mut any = false;
        loop {
            let n = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => {
                    any = true;
                    continue;
                }
                Err(_) => return any,
            };
            any |= Messages(&self.buffer[..n.min(READ)]).any(|(header, payload)| {
                header.r#type >> 8 == NFNL_SUBSYS_NFTABLES
                    && header.pid != own
                    && is_ours(header.r#type & 0xff, payload, home)
            });
        }
    }
}

/// Of a foreign table only our chain, our sets and the rules of the chain that asks us matter.
fn is_ours(kind: u16, payload: &[u8], home: &Home) -> bool {
    let attributes = payload.get(HEADER..).unwrap_or_default();
    let named =
        |which| attribute(attributes, which).and_then(|name| CStr::from_bytes_with_nul(name).ok());
    if payload.first() != Some(&home.family) || named(TABLE_NAME) != Some(&home.table) {
        return false;
    }
    let Some(host) = &home.host else { return true };
    let ours = |name: Option<&CStr>| name.is_some_and(|n| n == GUEST || n == host.as_c_str());
    match kind {
        // NFT_MSG_NEWTABLE to NFT_MSG_DELTABLE, and so on.
        0..=2 => true,
        3..=5 => ours(named(CHAIN_NAME)),
        6..=8 => ours(named(NAME)),
        9..=14 => named(NAME).is_some_and(|name| home.meant(name).is_some()),
        _ => false,
    }
}

/// The value of that kind among attributes.
fn attribute(mut bytes: &[u8], which: u16) -> Option<&[u8]> {
    while let Some(([a, b, c, d], _)) = bytes.split_first_chunk::<4>() {
        let (len, kind) = (u16::from_ne_bytes([*a, *b]), u16::from_ne_bytes([*c, *d]));
        let value = bytes.get(4..usize::from(len))?;
        if kind & NLA_TYPE_MASK == which {
            return Some(value);
        }
        bytes = bytes.get(usize::from(len).next_multiple_of(4)..)?;
    }
    None
}
