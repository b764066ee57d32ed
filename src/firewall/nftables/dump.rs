//! What the kernel holds of ours.

use super::home::{GUEST, Home};
use super::message::{COMMENT, Hook, KEY_END, TIMEOUT};
use super::sets::{Contents, Key, Set};
use super::socket::{Failure, Socket};
use netlink_bindings::nftables::{
    OpGetchainDump, OpGetflowtableDump, OpGetobjDump, OpGetruleDump, OpGetsetDump, OpGettableDump,
    Request,
};
use netlink_bindings::traits::{NetlinkRequest, Protocol};
use netlink_bindings::utils;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

/// NFTA_SET_ELEM_KEY, _EXPIRATION; NFTA_SET_ELEM_LIST_ELEMENTS; NFTA_DATA_VALUE; NFTA_LIST_ELEM.
const KEY: u16 = 1;
const EXPIRATION: u16 = 5;
const ELEMENTS: u16 = 3;
const VALUE: u16 = 1;
const ELEMENT: u16 = 1;
/// Bytes before the attributes.
const HEADER: usize = 4;

/// A chain as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    /// None: not a base chain.
    pub(super) hook: Option<Hook>,
    /// It is of type `filter` or `nat`, for no device, and not offloaded.
    pub(super) plain: bool,
}

/// A set as the kernel has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    flags: u32,
    key_type: u32,
    key_len: u32,
    timeout: u64,
    size: u32,
    collected: u32,
}

impl Shape {
    /// Whether it can be used as this set.
    pub(super) fn fits(&self, set: &Set) -> bool {
        *self
            == Shape {
                flags: set.flags(),
                key_type: set.key_type(),
                key_len: set.key_len(),
                timeout: 0,
                size: set.most.unwrap_or(0),
                collected: set.collected().unwrap_or(0),
            }
    }
}

/// The table: nothing of this if it does not exist. Of a foreign one only what is ours.
#[derive(Clone, Default, Debug)]
pub(super) struct Found {
    /// There is such a table.
    pub(super) table: bool,
    /// Its chains.
    pub(super) chains: BTreeMap<CString, Chain>,
    /// Its sets, by the names that they have in a table of our own.
    pub(super) sets: BTreeMap<CString, Shape>,
    /// Our own has objects or flow tables, of which we make none.
    pub(super) foreign: bool,
    /// The handles of our jumps in the foreign chain.
    pub(super) jumps: Vec<u64>,
}

impl Found {
    /// Whether packets come to that chain of ours.
    pub(super) fn is_up(&self, entrance: &CStr, home: &Home) -> bool {
        self.chains.contains_key(entrance) && (home.host.is_none() || !self.jumps.is_empty())
    }
}

fn ask<R: NetlinkRequest>(
    socket: &mut Socket,
    request: &R,
    each: impl FnMut(&[u8]),
) -> Result<(), Failure> {
    let kind = match request.protocol() {
        Protocol::Raw { request_type, .. } => request_type,
        Protocol::Generic(_) => return Err(Failure::Batch(Errno::EPROTONOSUPPORT)),
    };
    match socket.dump(kind, request.payload(), each) {
        // The table or the set has gone.
        Err(Failure::Batch(Errno::ENOENT)) => Ok(()),
        other => other,
    }
}

/// Whether there is such a table.
pub(super) fn table(socket: &mut Socket, home: &Home) -> Result<bool, Failure> {
    let mut there = false;
    ask(socket, &Request::new().op_gettable_dump(&home.header()), |payload| {
        let name = OpGettableDump::decode_request(payload).1.get_name();
        there |= name.is_ok_and(|n| n == home.table.as_c_str());
    })?;
    Ok(there)
}

/// All that is ours but rules and the elements of sets.
pub(super) fn look(socket: &mut Socket, home: &Home) -> Result<Found, Failure> {
    let (table, header) = (home.table.as_c_str(), home.header());
    let mut found = Found { table: self::table(socket, home)?, ..Found::default() };
    if !found.table && home.host.is_none() {
        return Ok(found);
    }
    let mut hosted = false;
    ask(socket, &Request::new().op_getchain_dump(&header), |payload| {
        let chain = OpGetchainDump::decode_request(payload).1;
        if chain.get_table() != Ok(table) {
            return;
        }
        let Ok(name) = chain.get_name() else { return };
        if let Some(host) = &home.host {
            hosted |= name == host.as_c_str();
            if name != GUEST {
                return;
            }
        }
        let hook = chain.get_hook().ok();
        // NFT_CHAIN_BASE alone.
        let flags = chain.get_flags().unwrap_or(0) & !1;
        let bare = |h: &netlink_bindings::nftables::IterableNftHookAttrs<'_>| {
            h.get_dev().is_err() && h.get_devs().is_err()
        };
        let nat = chain.get_type() == Ok(c"nat");
        let kind = nat || chain.get_type() == Ok(c"filter");
        let plain = flags == 0 && hook.as_ref().is_none_or(|h| bare(h) && kind);
        let hook = hook.map(|h| Hook {
            number: h.get_num().unwrap_or(u32::MAX),
            priority: h.get_priority().unwrap_or(0),
            nat,
        });
        found.chains.insert(name.into(), Chain { hook, plain });
    })?;
    if let Some(host) = home.host.as_ref().filter(|_| !hosted) {
        let (host, shown) = (host.to_string_lossy(), home.shown());
        return Err(Failure::Absent(format!("the chain {host} in the table {shown}")));
    }
    let mut request = Request::new().op_getset_dump(&header);
    request.encode().push_table(table);
    ask(socket, &request, |payload| {
        let set = OpGetsetDump::decode_request(payload).1;
        let Some(name) = set.get_name().ok().and_then(|name| home.meant(name)) else { return };
        if set.get_table() != Ok(table) {
            return;
        }
        let size = set.get_desc().and_then(|d| d.get_size()).unwrap_or(0);
        let shape = Shape {
            flags: set.get_flags().unwrap_or(0),
            key_type: set.get_key_type().unwrap_or(0),
            key_len: set.get_key_len().unwrap_or(0),
            timeout: set.get_timeout().unwrap_or(0),
            size,
            collected: set.get_gc_interval().map_or(0, u32::from_be),
        };
        found.sets.insert(name.into(), shape);
    })?;
    if let Some(host) = &home.host {
        found.jumps = jumps(socket, home, host)?;
        return Ok(found);
    }
    let mut request = Request::new().op_getobj_dump(&header);
    request.encode().push_table(table);
    ask(socket, &request, |payload| {
        found.foreign |= OpGetobjDump::decode_request(payload).1.get_table() == Ok(table);
    })?;
    let mut request = Request::new().op_getflowtable_dump(&header);
    request.encode().push_table(table);
    let flows = ask(socket, &request, |payload| {
        found.foreign |= OpGetflowtableDump::decode_request(payload).1.get_table() == Ok(table);
    });
    match flows {
        // A kernel without flow tables.
        Err(Failure::Batch(Errno::EOPNOTSUPP | Errno::EINVAL)) => {}
        other => other?,
    }
    Ok(found)
}

/// The handles of our rules in a foreign chain.
fn jumps(socket: &mut Socket, home: &Home, host: &CStr) -> Result<Vec<u64>, Failure> {
    let mut jumps = Vec::new();
    let mut request = Request::new().op_getrule_dump(&home.header());
    request.encode().push_table(&home.table).push_chain(host);
    ask(socket, &request, |payload| {
        let rule = OpGetruleDump::decode_request(payload).1;
        let here = rule.get_table() == Ok(&home.table) && rule.get_chain() == Ok(host);
        if here && rule.get_userdata() == Ok(COMMENT) {
            jumps.extend(rule.get_handle());
        }
    })?;
    Ok(jumps)
}

/// What is in a set.
pub(super) fn contents(socket: &mut Socket, home: &Home, set: &Set) -> Result<Contents, Failure> {
    let mut all = Contents::new();
    let mut request = Request::new().op_getsetelem_dump(&home.header());
    request.encode().push_table(&home.table).push_set(&home.named(set.name));
    ask(socket, &request, |payload| read(payload, set, &mut all))?;
    Ok(all)
}

fn value(element: &[u8], kind: u16) -> Option<&[u8]> {
    utils::find_attr(utils::find_attr(element, kind)?, VALUE)
}

fn number(element: &[u8], kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(*utils::find_attr(element, kind)?.first_chunk::<8>()?))
}

/// One message of a dump, read raw for the reasons of `message`.
fn read(payload: &[u8], set: &Set, all: &mut Contents) {
    let attributes = payload.get(HEADER..).unwrap_or_default();
    let list = utils::find_attr(attributes, ELEMENTS).unwrap_or_default();
    for (kind, element) in utils::IterableChunks::new(list) {
        let Some(first) = value(element, KEY).filter(|_| kind.r#type == ELEMENT) else { continue };
        let last = value(element, KEY_END).unwrap_or(first);
        let key = Key { first: first.to_vec(), last: set.interval.then(|| last.to_vec()) };
        // The kernel leaves both out where an element has no end.
        let left = number(element, TIMEOUT)
            .filter(|ms| *ms > 0)
            .map(|ms| number(element, EXPIRATION).unwrap_or(ms));
        all.insert(key, left);
    }
}
