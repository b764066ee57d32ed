//! One rule, put together clause by clause in the order in which the kernel runs them.

use crate::access::Ports;
use netlink_bindings::nftables::{
    CmpOps, CtKeys, FibFlags, MetaKeys, PayloadBase, PushExprListAttrs, RangeOps, RejectInetCode,
    RejectTypes, VerdictCode,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils;
use std::ffi::CStr;

/// The first of the kernel's sixteen 4-byte registers (NFT_REG32_00), of which sets take their keys.
const REGISTER: u32 = 8;
/// Where a verdict goes (NFT_REG_VERDICT).
const VERDICT: u32 = 0;
/// NFT_FIB_RESULT_ADDRTYPE; the enumeration of the bindings counts from one too low.
const ADDRTYPE: u32 = 3;
/// The bindings count this one from one too high.
const NFTA_LOOKUP_SREG: u16 = 2;
/// RTN_UNICAST and RTN_LOCAL of rtnetlink(7).
const UNICAST: u32 = 1;
/// As [`UNICAST`].
const LOCAL: u32 = 2;
/// The loopback device has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// NFPROTO_IPV4 and NFPROTO_IPV6.
const FAMILIES: (u8, u8) = (2, 10);
const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
/// FIN, SYN, RST and ACK of the TCP header (RFC 9293 3.1).
const OPENING_FLAGS: u8 = 0x17;
/// NF_CT_STATE_BIT(IP_CT_ESTABLISHED): not new and not related.
pub(super) const ESTABLISHED: u32 = 1 << 1;
/// NF_CT_STATE_UNTRACKED_BIT: `notrack`ed by the machine's own rules.
pub(super) const UNTRACKED: u32 = 1 << 6;

/// What a set's key is made of, in the order of the registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    /// The IPv4 source address.
    V4,
    /// The IPv6 source address.
    V6,
    /// The transport protocol's number.
    Protocol,
    /// The transport source port.
    From,
    /// The transport destination port.
    To,
}

impl Field {
    /// Bytes in a packet.
    pub(super) fn len(self) -> u32 {
        match self {
            Field::V4 => 4,
            Field::V6 => 16,
            Field::Protocol => 1,
            Field::From | Field::To => 2,
        }
    }

    /// The data type by which nft shows it (`enum datatypes` of nft).
    pub(super) fn shown(self) -> u32 {
        match self {
            Field::V4 => 7,
            Field::V6 => 8,
            Field::Protocol => 12,
            Field::From | Field::To => 13,
        }
    }
}

/// A rule: its expressions, and how nft would write it.
#[derive(Clone, Default, Debug)]
pub(super) struct Rule {
    /// For messages.
    pub(super) text: String,
    /// The elements of NFTA_RULE_EXPRESSIONS.
    pub(super) bytes: Vec<u8>,
}

impl Rule {
    fn add(&mut self) -> PushExprListAttrs<&mut Vec<u8>> {
        PushExprListAttrs::new(&mut self.bytes)
    }

    fn say(mut self, text: &str) -> Rule {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(text);
        self
    }

    fn meta(mut self, key: MetaKeys, register: u32) -> Rule {
        self.add().nested_elem().nested_data_meta().push_key(key as u32).push_dreg(register);
        self
    }

    fn compare(mut self, how: CmpOps, value: &[u8]) -> Rule {
        let compare = self.add().nested_elem().nested_data_cmp().push_sreg(REGISTER);
        compare.push_op(how as u32).nested_data().push_value(value);
        self
    }

    fn mask(mut self, mask: &[u8]) -> Rule {
        let bitwise = self.add().nested_elem().nested_data_bitwise();
        let bitwise = bitwise.push_sreg(REGISTER).push_dreg(REGISTER).push_len(mask.len() as u32);
        let bitwise = bitwise.nested_mask().push_value(mask).end_nested();
        bitwise.nested_xor().push_value(&vec![0; mask.len()]);
        self
    }

    fn payload(mut self, base: PayloadBase, offset: u32, len: u32, register: u32) -> Rule {
        let payload = self.add().nested_elem().nested_data_payload().push_dreg(register);
        payload.push_base(base as u32).push_offset(offset).push_len(len);
        self
    }

    fn protocol(self, number: u8) -> Rule {
        self.meta(MetaKeys::L4Proto, REGISTER).compare(CmpOps::Eq, &[number])
    }

    /// `iif lo`: what came in by the loopback device.
    pub(super) fn loopback(self) -> Rule {
        self.say("iif lo")
            .meta(MetaKeys::Iif, REGISTER)
            .compare(CmpOps::Eq, &LOOPBACK.to_ne_bytes())
    }

    /// `meta l4proto tcp`.
    pub(super) fn tcp(self) -> Rule {
        self.say("meta l4proto tcp").protocol(TCP)
    }

    /// `meta l4proto udp`.
    pub(super) fn udp(self) -> Rule {
        self.say("meta l4proto udp").protocol(UDP)
    }

    fn kind(mut self, kind: u32) -> Rule {
        let fib = self.add().nested_elem().nested_data_fib().push_dreg(REGISTER);
        fib.push_result(ADDRTYPE).push_flags(FibFlags::Daddr as u32);
        self.compare(CmpOps::Eq, &kind.to_ne_bytes())
    }

    /// `fib daddr type local`: for this machine.
    pub(super) fn local(self) -> Rule {
        self.say("fib daddr type local").kind(LOCAL)
    }

    /// `fib daddr type unicast`: for another machine, to be forwarded.
    pub(super) fn elsewhere(self) -> Rule {
        self.say("fib daddr type unicast").kind(UNICAST)
    }

    /// `udp dport` or `udp sport` is this port.
    pub(super) fn udp_port(self, end: Field, port: u16) -> Rule {
        let offset = if end == Field::From { 0 } else { 2 };
        let name = if end == Field::From { "sport" } else { "dport" };
        self.protocol(UDP)
            .say(&format!("udp {name} {port}"))
            .payload(PayloadBase::TransportHeader, offset, 2, REGISTER)
            .compare(CmpOps::Eq, &port.to_be_bytes())
    }

    /// The destination port is one of a range.
    pub(super) fn ports(self, ports: &Ports) -> Rule {
        let mut rule = self.protocol(ports.protocol().number()).payload(
            PayloadBase::TransportHeader,
            2,
            2,
            REGISTER,
        );
        let range = rule.add().nested_elem().nested_data_range().push_sreg(REGISTER);
        let range = range.push_op(RangeOps::Eq as u32).nested_from_data();
        let range = range.push_value(&ports.first().to_be_bytes()).end_nested();
        range.nested_to_data().push_value(&ports.last().to_be_bytes());
        rule.say(&format!("{} dport {}-{}", ports.protocol(), ports.first(), ports.last()))
    }

    /// `ct state` is one of `states`.
    pub(super) fn state(mut self, states: u32, text: &str) -> Rule {
        let ct = self.add().nested_elem().nested_data_ct();
        ct.push_key(CtKeys::State as u32).push_dreg(REGISTER);
        self.say(&format!("ct state {text}"))
            .mask(&states.to_ne_bytes())
            .compare(CmpOps::Neq, &0u32.to_ne_bytes())
    }

    /// A TCP segment that cannot open a connection: `tcp flags & (fin|syn|rst|ack) != syn`.
    pub(super) fn within(self) -> Rule {
        self.protocol(TCP)
            .say("tcp flags & (fin|syn|rst|ack) != syn")
            .payload(PayloadBase::TransportHeader, 13, 1, REGISTER)
            .mask(&[OPENING_FLAGS])
            .compare(CmpOps::Neq, &[SYN])
    }

    /// The packet's fields, one behind the other, are in the set; an address asks for its family.
    pub(super) fn among(mut self, fields: &[Field], set: &CStr) -> Rule {
        let family = fields.iter().find_map(|f| match f {
            Field::V4 => Some(FAMILIES.0),
            Field::V6 => Some(FAMILIES.1),
            Field::Protocol | Field::From | Field::To => None,
        });
        if let Some(family) = family {
            self = self.meta(MetaKeys::Nfproto, REGISTER).compare(CmpOps::Eq, &[family]);
        }
        let mut register = REGISTER;
        for field in fields {
            use PayloadBase::{NetworkHeader as Network, TransportHeader as Transport};
            self = match field {
                Field::V4 => self.payload(Network, 12, 4, register),
                Field::V6 => self.payload(Network, 8, 16, register),
                Field::Protocol => self.meta(MetaKeys::L4Proto, register),
                Field::From => self.payload(Transport, 0, 2, register),
                Field::To => self.payload(Transport, 2, 2, register),
            };
            register += field.len().div_ceil(4);
        }
        self.lookup(set).say(&format!("@{}", set.to_string_lossy()))
    }

    /// The first address of the /64 of an IPv6 source is in the set.
    pub(super) fn net64(self, set: &CStr) -> Rule {
        let mut mask = [0; 16];
        mask[..8].fill(0xff);
        self.meta(MetaKeys::Nfproto, REGISTER)
            .compare(CmpOps::Eq, &[FAMILIES.1])
            .payload(PayloadBase::NetworkHeader, 8, 16, REGISTER)
            .mask(&mask)
            .lookup(set)
            .say(&format!("ip6 saddr & ffff:ffff:ffff:ffff:: @{}", set.to_string_lossy()))
    }

    fn lookup(mut self, set: &CStr) -> Rule {
        let mut lookup = self.add().nested_elem().nested_data_lookup().push_set(set);
        utils::push_header(lookup.as_vec_mut(), NFTA_LOOKUP_SREG, 4);
        lookup.as_vec_mut().extend(REGISTER.to_be_bytes());
        drop(lookup);
        self
    }

    /// Counts packets and bytes.
    pub(super) fn counter(mut self) -> Rule {
        self.add().nested_elem().nested_data_counter().push_bytes(0).push_packets(0);
        self.say("counter")
    }

    /// Answers a TCP segment as a port does where nobody listens. In prerouting since 5.9.
    pub(super) fn reset(mut self) -> Rule {
        let reject = self.add().nested_elem().nested_data_reject();
        reject.push_type(RejectTypes::TcpRst as u32).push_icmp_code(0);
        self.say("reject with tcp reset")
    }

    /// Answers a datagram as a port does where nobody listens, for both families.
    pub(super) fn unreachable(mut self) -> Rule {
        let reject = self.add().nested_elem().nested_data_reject();
        reject
            .push_type(RejectTypes::IcmpxUnreach as u32)
            .push_icmp_code(RejectInetCode::IcmpxPortUnreach as u8);
        self.say("reject with icmpx port-unreachable")
    }

    /// The packet is not tracked.
    pub(super) fn notrack(mut self) -> Rule {
        self.add().nested_elem().push_name(c"notrack");
        self.say("notrack")
    }

    fn verdict(mut self, code: VerdictCode, chain: Option<&CStr>) -> Rule {
        let immediate = self.add().nested_elem().nested_data_immediate().push_dreg(VERDICT);
        let verdict = immediate.nested_data().nested_verdict().push_code(code as u32);
        match chain {
            Some(name) => drop(verdict.push_chain(name)),
            None => drop(verdict),
        }
        self
    }

    /// The end of our judgement: the machine's other rules decide.
    pub(super) fn accept(self) -> Rule {
        self.say("accept").verdict(VerdictCode::Accept, None)
    }

    /// The end of the packet.
    pub(super) fn drop(self) -> Rule {
        self.say("drop").verdict(VerdictCode::Drop, None)
    }

    /// On with another chain, and not back.
    pub(super) fn goto(self, chain: &CStr) -> Rule {
        self.say(&format!("goto {}", chain.to_string_lossy()))
            .verdict(VerdictCode::Goto, Some(chain))
    }

    /// Writes NFTA_RULE_EXPRESSIONS.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        const NFTA_RULE_EXPRESSIONS: u16 = 4;
        let at = utils::push_nested_header(into, NFTA_RULE_EXPRESSIONS);
        into.extend(&self.bytes);
        utils::finalize_nested_header(into, at);
    }
}
