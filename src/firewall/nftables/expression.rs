//! One rule, put together clause by clause in the order in which the kernel runs them.

mod ranges;

use crate::access::Protocol;
use netlink_bindings::nftables::{
    CmpOps, CtKeys, FibFlags, MetaKeys, PayloadBase, PushExprListAttrs, RejectInetCode,
    RejectTypes, VerdictCode,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};

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
/// IFNAMSIZ of netdevice(7).
const NAME: usize = 16;
/// NFT_NAT_DNAT.
const DNAT: u32 = 1;
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
    /// The IPv4 destination address.
    At4,
    /// The IPv6 destination address.
    At6,
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
            Field::V4 | Field::At4 => 4,
            Field::V6 | Field::At6 => 16,
            Field::Protocol => 1,
            Field::From | Field::To => 2,
        }
    }

    /// The data type by which nft shows it (`enum datatypes` of nft).
    pub(super) fn shown(self) -> u32 {
        match self {
            Field::V4 | Field::At4 => 7,
            Field::V6 | Field::At6 => 8,
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

    fn mask(self, mask: &[u8]) -> Rule {
        self.bitwise(mask, &vec![0; mask.len()])
    }

    /// Only the bits of the mask stay, and then those of `xor` are turned over.
    fn bitwise(mut self, mask: &[u8], xor: &[u8]) -> Rule {
        let bitwise = self.add().nested_elem().nested_data_bitwise();
        let bitwise = bitwise.push_sreg(REGISTER).push_dreg(REGISTER).push_len(mask.len() as u32);
        let bitwise = bitwise.nested_mask().push_value(mask).end_nested();
        bitwise.nested_xor().push_value(xor);
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

    /// `iifname`: what came in by the interface of that name, now or later.
    pub(super) fn interface(self, name: &str) -> Rule {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(NAME, 0);
        self.say(&format!("iifname {name}"))
            .meta(MetaKeys::Iifname, REGISTER)
            .compare(CmpOps::Eq, &bytes)
    }

    /// `meta l4proto tcp`.
    pub(super) fn tcp(self) -> Rule {
        self.say("meta l4proto tcp").protocol(TCP)
    }

    /// `meta l4proto udp`.
    pub(super) fn udp(self) -> Rule {
        self.say("meta l4proto udp").protocol(UDP)
    }

    fn kind(mut self, how: CmpOps, kind: u32) -> Rule {
        let fib = self.add().nested_elem().nested_data_fib().push_dreg(REGISTER);
        fib.push_result(ADDRTYPE).push_flags(FibFlags::Daddr as u32);
        self.compare(how, &kind.to_ne_bytes())
    }

    /// `fib daddr type local`: for this machine.
    pub(super) fn local(self) -> Rule {
        self.say("fib daddr type local").kind(CmpOps::Eq, LOCAL)
    }

    /// `fib daddr type != unicast`: not for another machine, to be forwarded.
    pub(super) fn here(self) -> Rule {
        self.say("fib daddr type != unicast").kind(CmpOps::Neq, UNICAST)
    }

    /// `tcp dport`, `udp sport` and so on is this port.
    pub(super) fn port(self, protocol: Protocol, end: Field, port: u16) -> Rule {
        let offset = if end == Field::From { 0 } else { 2 };
        let name = if end == Field::From { "sport" } else { "dport" };
        self.protocol(protocol.number())
            .say(&format!("{protocol} {name} {port}"))
            .payload(PayloadBase::TransportHeader, offset, 2, REGISTER)
            .compare(CmpOps::Eq, &port.to_be_bytes())
    }

    /// `ct state` is one of `states`.
    pub(super) fn state(mut self, states: u32, text: &str) -> Rule {
        let ct = self.add().nested_elem().nested_data_ct();
        ct.push_key(CtKeys::State as u32).push_dreg(REGISTER);
        self.say(&format!("ct state {text}"))
            .mask(&states.to_ne_bytes())
            .compare(CmpOps::Neq, &0u32.to_ne_bytes())
    }

    /// `ct direction reply`: by an entry that the packet's receiver has begun.
    pub(super) fn reply(mut self) -> Rule {
        let ct = self.add().nested_elem().nested_data_ct();
        ct.push_key(CtKeys::Direction as u32).push_dreg(REGISTER);
        self.say("ct direction reply").compare(CmpOps::Eq, &[1])
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
    pub(super) fn among(self, fields: &[Field], set: &CStr) -> Rule {
        self.fields(fields).lookup(set).say(&format!("@{}", set.to_string_lossy()))
    }

    fn fields(mut self, fields: &[Field]) -> Rule {
        let family = fields.iter().find_map(|f| match f {
            Field::V4 | Field::At4 => Some(FAMILIES.0),
            Field::V6 | Field::At6 => Some(FAMILIES.1),
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
                Field::At4 => self.payload(Network, 16, 4, register),
                Field::At6 => self.payload(Network, 24, 16, register),
                Field::Protocol => self.meta(MetaKeys::L4Proto, register),
                Field::From => self.payload(Transport, 0, 2, register),
                Field::To => self.payload(Transport, 2, 2, register),
            };
            register += field.len().div_ceil(4);
        }
        self
    }

    /// Puts the packet's fields into the set, for so many milliseconds from now; where the set is
    /// full the rule ends here. The bindings lack this expression (linux/netfilter/nf_tables.h).
    pub(super) fn remember(self, fields: &[Field], set: &CStr, ms: u64) -> Rule {
        // NFTA_DYNSET_SET_NAME, _OP, _SREG_KEY and _TIMEOUT.
        const KINDS: [u16; 4] = [1, 3, 4, 6];
        const NFTA_EXPR_DATA: u16 = 2;
        const NFT_DYNSET_OP_UPDATE: u32 = 1;
        let mut rule = self.fields(fields);
        let mut element = rule.add().nested_elem().push_name(c"dynset");
        let body = element.as_vec_mut();
        let at = utils::push_nested_header(body, NFTA_EXPR_DATA);
        let values: [&[u8]; 4] = [
            set.to_bytes_with_nul(),
            &NFT_DYNSET_OP_UPDATE.to_be_bytes(),
            &REGISTER.to_be_bytes(),
            &ms.to_be_bytes(),
        ];
        for (kind, value) in KINDS.into_iter().zip(values) {
            utils::push_header(body, kind, value.len() as u16);
            body.extend(value);
        }
        utils::finalize_nested_header(body, at);
        drop(element);
        rule.say(&format!("update @{}", set.to_string_lossy()))
    }

    /// These bits of the packet mark are set, or cleared, and the others stay.
    pub(super) fn mark(self, bits: u32, set: bool) -> Rule {
        let xor = if set { bits } else { 0 };
        let mut rule =
            self.meta(MetaKeys::Mark, REGISTER).bitwise(&(!bits).to_ne_bytes(), &xor.to_ne_bytes());
        let meta = rule.add().nested_elem().nested_data_meta();
        meta.push_key(MetaKeys::Mark as u32).push_sreg(REGISTER);
        rule.say(&format!("meta mark set {} {bits:#x}", if set { "with" } else { "without" }))
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

    fn load(mut self, value: &[u8], register: u32) -> Rule {
        let immediate = self.add().nested_elem().nested_data_immediate().push_dreg(register);
        immediate.nested_data().push_value(value);
        self
    }

    /// The first packet's destination, and so its whole connection's, is another one.
    pub(super) fn dnat(self, to: SocketAddr) -> Rule {
        let (rule, family, length) = match to.ip() {
            IpAddr::V4(a) => (self.load(&a.octets(), REGISTER), FAMILIES.0, Field::V4.len()),
            IpAddr::V6(a) => (self.load(&a.octets(), REGISTER), FAMILIES.1, Field::V6.len()),
        };
        let behind = REGISTER + length / 4;
        let mut rule = rule.load(&to.port().to_be_bytes(), behind);
        let nat = rule.add().nested_elem().nested_data_nat().push_type(DNAT);
        let nat = nat.push_family(family.into()).push_reg_addr_min(REGISTER);
        nat.push_reg_proto_min(behind);
        rule.say(&format!("dnat to {to}"))
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

    /// Into another chain, and back if that decides nothing.
    pub(super) fn jump(self, chain: &CStr) -> Rule {
        self.say(&format!("jump {}", chain.to_string_lossy()))
            .verdict(VerdictCode::Jump, Some(chain))
    }

    /// Writes NFTA_RULE_EXPRESSIONS.
    pub(super) fn write(&self, into: &mut Vec<u8>) {
        const NFTA_RULE_EXPRESSIONS: u16 = 4;
        let at = utils::push_nested_header(into, NFTA_RULE_EXPRESSIONS);
        into.extend(&self.bytes);
        utils::finalize_nested_header(into, at);
    }
}
