//! The messages of a batch: tables, chains, rules, sets and elements.
//!
//! netlink-bindings 0.3.5 writes an element's timeout in host order and counts KEY_END from one
//! too low; both are written raw here, and read raw in `dump`.

use super::expression::Rule;
use super::home::GUEST;
use super::sets::{Key, Set};
use super::socket::{APPEND, CREATE, Message, RULE};
use netlink_bindings::nftables::{
    Nfgenmsg, OpDelchainDo, OpDelruleDo, OpDelsetDo, OpDelsetelemDo, OpDeltableDo, OpNewchainDo,
    OpNewruleDo, OpNewsetDo, OpNewsetelemDo, OpNewtableDo,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils;
use std::ffi::CStr;

/// The most elements of one message: their list has a 16-bit length.
pub(super) const ELEMENTS: usize = 100;

/// NFT_MSG_*.
const NEWTABLE: u8 = 0;
const DELTABLE: u8 = 2;
const NEWCHAIN: u8 = 3;
const DELCHAIN: u8 = 5;
const NEWRULE: u8 = 6;
const DELRULE: u8 = 8;
const NEWSET: u8 = 9;
const DELSET: u8 = 11;
const NEWSETELEM: u8 = 12;
const DELSETELEM: u8 = 14;
/// By which our jump is found again, as nft writes a comment (libnftnl's udata): type 0, length,
/// text, nul.
pub(super) const COMMENT: &[u8] = b"\x00\x0fopensesame-spa\x00";
/// NFTA_SET_GC_INTERVAL, which the bindings write in host order.
pub(super) const GC_INTERVAL: u16 = 12;
/// The kernel counts in ticks, of which the one that runs has begun before: the longest there is, in
/// milliseconds. Nothing ends before its time.
const TICK: u64 = 10;
/// NFTA_SET_ELEM_TIMEOUT and NFTA_SET_ELEM_KEY_END.
pub(super) const TIMEOUT: u16 = 4;
/// As [`TIMEOUT`].
pub(super) const KEY_END: u16 = 10;

/// Where a base chain is hooked in; policy accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hook {
    /// NF_INET_*.
    pub(super) number: u32,
    /// Lower is earlier.
    pub(super) priority: i32,
    /// Of type `nat`, else `filter`.
    pub(super) nat: bool,
}

/// Which table it is about, the socket writes.
fn header() -> Nfgenmsg {
    Nfgenmsg::default()
}

fn message(what: String, kind: u8, flags: u16, write: impl FnOnce(&mut Vec<u8>)) -> Message {
    let mut body = Vec::new();
    write(&mut body);
    utils::align(&mut body);
    body.drain(..header().as_slice().len().min(body.len()));
    Message { what, kind, flags, set: None, body }
}

fn about(set: &Set, message: Message) -> Message {
    Message { set: Some(set.name), ..message }
}

fn shown(name: &CStr) -> std::borrow::Cow<'_, str> {
    name.to_string_lossy()
}

/// Makes our table, or wakes it if it is dormant.
pub(super) fn new_table() -> Message {
    message("add our table".into(), NEWTABLE, CREATE, |body| {
        OpNewtableDo::encode_request(body, &header()).push_flags(0);
    })
}

/// Deletes our table and all that is in it; an error if it is not there.
pub(super) fn delete_table() -> Message {
    message("delete our table".into(), DELTABLE, 0, |body| {
        OpDeltableDo::encode_request(body, &header());
    })
}

/// Makes a chain, or leaves it as it is if it is the same.
pub(super) fn new_chain(name: &CStr, hook: Option<Hook>) -> Message {
    message(format!("add chain {}", shown(name)), NEWCHAIN, CREATE, |body| {
        let chain = OpNewchainDo::encode_request(body, &header()).push_name(name);
        let Some(hook) = hook else { return };
        const ACCEPT: u32 = 1;
        chain
            .nested_hook()
            .push_num(hook.number)
            .push_priority(hook.priority)
            .end_nested()
            .push_policy(ACCEPT)
            .push_type(if hook.nat { c"nat" } else { c"filter" });
    })
}

/// Deletes a chain that no rule jumps to.
pub(super) fn delete_chain(name: &CStr) -> Message {
    message(format!("delete chain {}", shown(name)), DELCHAIN, 0, |body| {
        OpDelchainDo::encode_request(body, &header()).push_name(name);
    })
}

/// Deletes all rules of a chain, or of all chains of the table.
pub(super) fn delete_rules(chain: Option<&CStr>) -> Message {
    message("delete our rules".into(), DELRULE, 0, |body| {
        let rules = OpDelruleDo::encode_request(body, &header());
        if let Some(chain) = chain {
            rules.push_chain(chain);
        }
    })
}

/// Deletes one rule, an error if it is not there.
pub(super) fn delete_rule(chain: &CStr, handle: u64) -> Message {
    message(format!("delete our jump in chain {}", shown(chain)), DELRULE, 0, |body| {
        OpDelruleDo::encode_request(body, &header()).push_chain(chain).push_handle(handle);
    })
}

/// Asks our chain before all other rules of a foreign one.
pub(super) fn new_jump(chain: &CStr) -> Message {
    let rule = Rule::default().jump(GUEST);
    let what = format!("{RULE} of chain {}: {}", shown(chain), rule.text);
    message(what, NEWRULE, CREATE, |body| {
        let mut encode = OpNewruleDo::encode_request(body, &header()).push_chain(chain);
        rule.write(encode.as_vec_mut());
        encode.push_userdata(COMMENT);
    })
}

/// Adds a rule at the end of a chain.
pub(super) fn new_rule(chain: &CStr, rule: &Rule) -> Message {
    let what = format!("{RULE} of chain {}: {}", shown(chain), rule.text);
    message(what, NEWRULE, CREATE | APPEND, |body| {
        let mut encode = OpNewruleDo::encode_request(body, &header()).push_chain(chain);
        rule.write(encode.as_vec_mut());
    })
}

/// Makes a set, or leaves it as it is if it is the same; `id` is different for each of a batch.
pub(super) fn new_set(set: &Set, id: u32) -> Message {
    let message = message(format!("add set {}", shown(set.name)), NEWSET, CREATE, |body| {
        let mut encode = OpNewsetDo::encode_request(body, &header())
            .push_flags(set.flags())
            .push_key_type(set.key_type())
            .push_key_len(set.key_len())
            .push_id(id);
        if let Some(ms) = set.collected() {
            utils::push_header(encode.as_vec_mut(), GC_INTERVAL, 4);
            encode.as_vec_mut().extend(ms.to_be_bytes());
        }
        if set.fields.len() > 1 {
            let mut desc = encode.nested_desc();
            if let Some(most) = set.most {
                desc = desc.push_size(most);
            }
            let mut concat = desc.nested_concat();
            for field in set.fields {
                concat = concat.nested_elem().push_len(field.len()).end_nested();
            }
        }
    });
    about(set, message)
}

/// Deletes a set that no rule looks into.
pub(super) fn delete_set(set: &Set) -> Message {
    let message = message(format!("delete set {}", shown(set.name)), DELSET, 0, |body| {
        OpDelsetDo::encode_request(body, &header());
    });
    about(set, message)
}

/// Adds up to [`ELEMENTS`] elements with their timeouts in milliseconds.
pub(super) fn add(set: &Set, elements: &[(&Key, Option<u64>)]) -> Message {
    let what = format!("add elements to {}", shown(set.name));
    let message = message(what, NEWSETELEM, CREATE, |body| {
        write_elements(OpNewsetelemDo::encode_request(body, &header()).nested_elements(), elements);
    });
    about(set, message)
}

/// Deletes up to [`ELEMENTS`] elements, an error if one is not there.
pub(super) fn delete(set: &Set, elements: &[(&Key, Option<u64>)]) -> Message {
    let what = format!("delete elements of {}", shown(set.name));
    let message = message(what, DELSETELEM, 0, |body| {
        let bare: Vec<_> = elements.iter().map(|(key, _)| (*key, None)).collect();
        write_elements(OpDelsetelemDo::encode_request(body, &header()).nested_elements(), &bare);
    });
    about(set, message)
}

fn write_elements<P: Pusher>(
    mut list: netlink_bindings::nftables::PushSetelemListElemAttrs<P>,
    elements: &[(&Key, Option<u64>)],
) {
    for (key, timeout) in elements {
        let mut element = list.nested_elem().nested_key().push_value(&key.first).end_nested();
        if let Some(last) = &key.last {
            let body = element.as_vec_mut();
            let at = utils::push_nested_header(body, KEY_END);
            const NFTA_DATA_VALUE: u16 = 1;
            utils::push_header(body, NFTA_DATA_VALUE, last.len() as u16);
            body.extend(last);
            utils::finalize_nested_header(body, at);
        }
        if let Some(ms) = timeout {
            let body = element.as_vec_mut();
            utils::push_header(body, TIMEOUT, 8);
            body.extend(ms.saturating_add(TICK).to_be_bytes());
        }
        list = element.end_nested();
    }
}
