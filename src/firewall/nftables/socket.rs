//! The netlink socket: dumps, single requests, and batches that the kernel commits as one transaction.
//!
//! Only the last message of a batch asks for an acknowledgement, so a long batch cannot overrun
//! the receive buffer with them; a message that fails is reported whether it asked or not, and
//! comes first (kernel: `net/netfilter/nfnetlink.c`).

use super::super::Error;
use super::home::Home;
use netlink_bindings::builtin::Nlmsghdr;
use netlink_bindings::nftables::Nfgenmsg;
use netlink_bindings::utils;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname,
    getsockopt, recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Nobody waits longer than this for the kernel, in seconds. It answers before `send` returns.
const WAIT: i64 = 5;
/// Bytes asked for in each direction; the kernel doubles them. The longest sync has to fit.
pub(super) const BUFFER: usize = 16 << 20;
/// Bytes of messages in one transaction, if it can be divided: the kernel lets nobody else change
/// its rules meanwhile.
const TRANSACTION: usize = 1 << 20;
/// Bytes of one read: more than any one message of the kernel, an echoed one included.
pub(super) const READ: usize = 256 << 10;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
/// Create what is not there.
pub(super) const CREATE: u16 = 0x400;
/// Behind the others.
pub(super) const APPEND: u16 = 0x800;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
pub(super) const NFNL_SUBSYS_NFTABLES: u16 = 10;
const HEADER: usize = 16;
/// More bytes than what a message has before its own attributes: the headers, the table's name and
/// the set's.
const ENVELOPE: usize = 112;
/// NFTA_*_TABLE, and NFTA_TABLE_NAME of a message about a table.
const NAME_OF_TABLE: u16 = 1;
/// NFTA_SET_NAME and NFTA_SET_ELEM_LIST_SET.
const NAME_OF_SET: u16 = 2;
const TRIES_OF_A_DUMP: usize = 50;

/// How the description of a message with a rule begins.
pub(super) const RULE: &str = "add the rule";

/// One message of a batch.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// What it does, for the error.
    pub(super) what: String,
    /// NFT_MSG_*.
    pub(super) kind: u8,
    /// NLM_F_*, without REQUEST and ACK.
    pub(super) flags: u16,
    /// The set that it is about.
    pub(super) set: Option<&'static CStr>,
    /// The attributes, but for the names of the table and of that set.
    pub(super) body: Vec<u8>,
}

impl Message {
    /// Bytes in a batch, at most.
    pub(super) fn size(&self) -> usize {
        ENVELOPE + self.body.len().next_multiple_of(4)
    }

    fn write(&self, home: &Home) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size());
        bytes.extend(home.header().as_slice());
        let mut name = |kind, name: &CStr| {
            let name = name.to_bytes_with_nul();
            utils::push_header(&mut bytes, kind, name.len() as u16);
            bytes.extend(name);
            utils::align(&mut bytes);
        };
        name(NAME_OF_TABLE, &home.table);
        if let Some(set) = self.set {
            name(NAME_OF_SET, &home.named(set));
        }
        bytes.extend(&self.body);
        bytes
    }
}

/// Why a transaction or a dump has not succeeded.
#[derive(Debug)]
pub(in crate::firewall) enum Failure {
    /// The kernel refused this message, and changed nothing.
    Refused(Errno, String),
    /// The kernel refused the batch as a whole, and changed nothing.
    Batch(Errno),
    /// The answer is lost: it may have happened.
    Lost,
    /// What others should have made is not there; the text says what.
    Absent(String),
}

impl Failure {
    /// The reason, if the kernel gave one.
    pub(super) fn errno(&self) -> Option<Errno> {
        match self {
            Failure::Refused(errno, _) | Failure::Batch(errno) => Some(*errno),
            Failure::Lost | Failure::Absent(_) => None,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Error {
        use Errno::{
            EAGAIN, EBUSY, EINTR, ENFILE, ENOBUFS, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP, EPERM,
        };
        match failure {
            Failure::Batch(EPERM) => Error::Rights,
            Failure::Batch(EOPNOTSUPP) => Error::Missing("nf_tables in this kernel".into()),
            Failure::Batch(errno @ (EBUSY | EAGAIN | EINTR | ENOMEM | ENOBUFS | ENOSPC)) => {
                Error::Busy(format!("nftables: {}; the next sync tries again", errno.desc()))
            }
            Failure::Batch(errno) => Error::Refused(format!("nftables: {}", errno.desc())),
            Failure::Refused(EPERM, what) => {
                Error::Refused(format!("{what}: another program owns the table"))
            }
            Failure::Refused(errno @ (EBUSY | EAGAIN | EINTR | ENOMEM), what) => {
                Error::Busy(format!("{what}: {}", errno.desc()))
            }
            Failure::Refused(ENOENT, what) if what.starts_with(RULE) => {
                Error::Missing(format!("in this kernel, to {what}"))
            }
            Failure::Refused(EOPNOTSUPP, what) => {
                Error::Missing(format!("in this kernel, to {what}"))
            }
            // Sets of ours have no limit: somebody has put another in the place.
            Failure::Refused(ENFILE | ENOSPC, what) => {
                Error::Refused(format!("{what}: the set is full; the next sync makes it anew"))
            }
            Failure::Refused(errno, what) => Error::Refused(format!("{what}: {}", errno.desc())),
            Failure::Absent(what) => Error::Missing(what),
            Failure::Lost => Error::Busy("the kernel's answer is lost; sync compares".into()),
        }
    }
}

/// A socket of one netlink protocol in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(in crate::firewall) struct Socket {
    fd: OwnedFd,
    seq: u32,
    room: usize,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens it, with a bound on every wait.
    pub(in crate::firewall) fn open(protocol: SockProtocol) -> Result<Socket, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(WAIT))?;
        setsockopt(&fd, sockopt::SendTimeout, &TimeVal::seconds(WAIT))?;
        // Without the right (in a user namespace) the machine's limit holds, and batches are shorter.
        if setsockopt(&fd, sockopt::SndBufForce, &BUFFER).is_err() {
            setsockopt(&fd, sockopt::SndBuf, &BUFFER)?;
        }
        if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &BUFFER)?;
        }
        // The kernel takes messages up to its buffer less 32 bytes; begin and end are 40.
        let room = getsockopt(&fd, sockopt::SndBuf)?.saturating_sub(128);
        Ok(Socket { fd, seq: 1, room, buffer: vec![0; READ] })
    }

    /// The port by which the kernel knows this socket, once something was sent.
    pub(super) fn port(&self) -> u32 {
        getsockname::<NetlinkAddr>(self.fd.as_raw_fd()).map_or(0, |address| address.pid())
    }

    /// The bytes that the messages of one batch may have together.
    pub(super) fn room(&self) -> usize {
        self.room.min(TRANSACTION)
    }

    /// The same for a batch that is better not divided.
    pub(super) fn most(&self) -> usize {
        self.room
    }

    /// Sends these messages about a table as one transaction and waits for its end.
    pub(super) fn transact(&mut self, home: &Home, messages: &[&Message]) -> Result<(), Failure> {
        let Some(last) = messages.len().checked_sub(1) else { return Ok(()) };
        let first = self.seq;
        self.seq = self.seq.wrapping_add(messages.len() as u32 + 2);
        let mut bytes = Vec::with_capacity(messages.iter().map(|m| m.size()).sum::<usize>() + 64);
        let mut edge = Nfgenmsg::new();
        edge.set_res_id(NFNL_SUBSYS_NFTABLES);
        put(&mut bytes, NFNL_MSG_BATCH_BEGIN, 0, first, edge.as_slice());
        for (i, message) in messages.iter().enumerate() {
            let flags = message.flags | if i == last { NLM_F_ACK } else { 0 };
            let kind = NFNL_SUBSYS_NFTABLES << 8 | u16::from(message.kind);
            put(&mut bytes, kind, flags, first.wrapping_add(1 + i as u32), &message.write(home));
        }
        put(&mut bytes, NFNL_MSG_BATCH_END, 0, self.seq.wrapping_sub(1), edge.as_slice());
        self.drain();
        self.send(&bytes).map_err(Failure::Batch)?;
        let outcome = self.outcome(first, last as u32 + 1);
        let failed = match outcome {
            Outcome::Done => return Ok(()),
            Outcome::Lost => return Err(Failure::Lost),
            Outcome::Failed(index, errno) => (index, errno),
        };
        Err(match failed.0.checked_sub(1).and_then(|i| messages.get(i as usize)) {
            Some(message) => Failure::Refused(failed.1, message.what.clone()),
            None => Failure::Batch(failed.1),
        })
    }

    /// Sends one message that is no batch, and waits for its acknowledgement.
    pub(in crate::firewall) fn ask(&mut self, kind: u16, body: &[u8]) -> Result<(), Failure> {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        let mut bytes = Vec::new();
        put(&mut bytes, kind, NLM_F_ACK, seq, body);
        self.drain();
        self.send(&bytes).map_err(Failure::Batch)?;
        match self.outcome(seq, 0) {
            Outcome::Done => Ok(()),
            Outcome::Failed(_, errno) => Err(Failure::Batch(errno)),
            Outcome::Lost => Err(Failure::Lost),
        }
    }

    /// Reads answers until the batch that began with sequence number `first` is decided.
    fn outcome(&mut self, first: u32, last: u32) -> Outcome {
        let mut flags = MsgFlags::empty();
        loop {
            let n = match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                // Some answers did not fit; those that did are still there.
                Err(Errno::ENOBUFS) => {
                    flags = MsgFlags::MSG_DONTWAIT;
                    continue;
                }
                Err(_) => return Outcome::Lost,
            };
            for (header, payload) in Messages(&self.buffer[..n.min(READ)]) {
                let index = header.seq.wrapping_sub(first);
                if header.r#type != NLMSG_ERROR || index > last + 1 {
                    continue;
                }
                match code(payload) {
                    Some(0) if index == last => return Outcome::Done,
                    Some(0) => {}
                    Some(n) => return Outcome::Failed(index, Errno::from_raw(-n)),
                    None => return Outcome::Lost,
                }
            }
        }
    }

    /// Asks for a list and hands each message's type and payload to `each`.
    pub(in crate::firewall) fn dump(
        &mut self,
        kind: u16,
        body: &[u8],
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), Failure> {
        let mut out = Vec::new();
        for _ in 0..TRIES_OF_A_DUMP {
            out.clear();
            match self.dump_once(kind, body, &mut out) {
                Ok(true) => {
                    out.iter().for_each(|payload: &Vec<u8>| each(payload));
                    return Ok(());
                }
                // Somebody changed the list meanwhile.
                Ok(false) | Err(Errno::EINTR | Errno::EAGAIN | Errno::ENOBUFS) => {}
                Err(errno) => return Err(Failure::Batch(errno)),
            }
        }
        Err(Failure::Batch(Errno::EBUSY))
    }

    fn dump_once(&mut self, kind: u16, body: &[u8], out: &mut Vec<Vec<u8>>) -> Result<bool, Errno> {
        let seq = self.seq;
        self.seq = self.seq.wrapping_add(1);
        let mut bytes = Vec::new();
        put(&mut bytes, kind, NLM_F_DUMP, seq, body);
        self.drain();
        self.send(&bytes)?;
        let mut whole = true;
        loop {
            let n = match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(n) => n,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                Err(errno) => return Err(errno),
            };
            for (header, payload) in Messages(&self.buffer[..n.min(READ)]) {
                if header.seq != seq {
                    continue;
                }
                whole &= header.flags & NLM_F_DUMP_INTR == 0;
                match header.r#type {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return match code(payload) {
                            Some(n) if n < 0 => Err(Errno::from_raw(-n)),
                            Some(_) | None => Ok(whole),
                        };
                    }
                    _ => out.push(payload.to_vec()),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        loop {
            match send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Throws away what is left of earlier answers.
    fn drain(&mut self) {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}

enum Outcome {
    Done,
    Failed(u32, Errno),
    Lost,
}

fn put(bytes: &mut Vec<u8>, kind: u16, flags: u16, seq: u32, body: &[u8]) {
    let len = (HEADER + body.len()) as u32;
    let flags = flags | NLM_F_REQUEST;
    let header = Nlmsghdr { len, r#type: kind, flags, seq, pid: 0 };
    bytes.extend(header.as_slice());
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn code(payload: &[u8]) -> Option<i32> {
    payload.first_chunk::<4>().map(|c| i32::from_ne_bytes(*c))
}

/// The messages of one read: header and payload.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Nlmsghdr, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = Nlmsghdr::new_from_slice(self.0.get(..HEADER)?)?;
        let payload = self.0.get(HEADER..header.len as usize)?;
        let next = (header.len as usize).next_multiple_of(4);
        self.0 = self.0.get(next..).unwrap_or_default();
        Some((header, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_their_lengths_and_garbage_ends_the_list() {
        let mut bytes = Vec::new();
        put(&mut bytes, 5, 0, 7, b"abc");
        put(&mut bytes, 6, NLM_F_ACK, 8, b"");
        let list: Vec<_> =
            Messages(&bytes).map(|(h, p)| (h.r#type, h.flags, h.seq, p.to_vec())).collect();
        assert_eq!(list, [(5, 1, 7, b"abc".to_vec()), (6, 5, 8, vec![])]);
        bytes[0] = 15;
        assert_eq!(Messages(&bytes).count(), 0);
        bytes[0] = 255;
        assert_eq!(Messages(&bytes).count(), 0);
        assert_eq!(Messages(&[]).count(), 0);
    }
}
