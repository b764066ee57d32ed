//! The classic BPF program (Linux, `Documentation/networking/filter.rst`) that a capture socket runs
//! in the kernel, so that a flood of other packets never wakes anybody.

use super::Family;
use crate::access::{Ports, Protocol};

/// The most bytes of a packet that a capture takes, from the IP header on.
pub(super) const SNAP: usize = 2_048;

const LD_LEN: u16 = 0x80;
const LD_BYTE: u16 = 0x30;
const LD_HALF: u16 = 0x28;
const LD_BYTE_X: u16 = 0x50;
const LD_HALF_X: u16 = 0x48;
const LDX_HEADER: u16 = 0xb1;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_GREATER: u16 = 0x25;
const IF_AT_LEAST: u16 = 0x35;
const IF_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Where the kernel keeps a packet's type (SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h).
const PACKET_TYPE: u32 = 0xffff_f004;
/// A packet to this host by its hardware address (PACKET_HOST of linux/if_packet.h).
const TO_US: u32 = 0;
/// FIN, SYN, RST and ACK (RFC 9293), of which a knock has SYN alone.
const FLAGS: u32 = 0x17;
/// See [`FLAGS`].
const SYN: u32 = 0x02;

/// One instruction, as the kernel takes it (`struct sock_filter`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) yes: u8,
    pub(super) no: u8,
    pub(super) k: u32,
}

const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, k }
}

/// Goes on if the comparison holds, else the packet is not taken.
fn must(code: u16, k: u32) -> [Instruction; 2] {
    [Instruction { code, yes: 1, no: 0, k }, plain(RETURN, 0)]
}

/// Goes on if the comparison does not hold.
fn must_not(code: u16, k: u32) -> [Instruction; 2] {
    [Instruction { code, yes: 0, no: 1, k }, plain(RETURN, 0)]
}

/// The filter for these ports; `length`: the one length that a UDP payload may have.
///
/// It looks at lengths first, then for a packet to this host, whole (no fragment), with UDP or TCP
/// right behind the IP header (extension headers of IPv6 are not walked), to one of the ports; of TCP
/// only a first SYN. What it takes is read once more in user space.
pub(super) fn assemble(family: Family, wanted: &[Ports], length: Option<u16>) -> Vec<Instruction> {
    let (least, version, protocol) = match family {
        Family::V4 => (28, 0x40, 9),
        Family::V6 => (48, 0x60, 6),
    };
    let mut program = vec![plain(LD_LEN, 0)];
    program.extend(must(IF_AT_LEAST, least));
    program.push(plain(LD_BYTE, PACKET_TYPE));
    program.extend(must(IF_EQUAL, TO_US));
    program.extend([plain(LD_BYTE, 0), plain(AND, 0xf0)]);
    program.extend(must(IF_EQUAL, version));
    if family == Family::V4 {
        // More fragments, or an offset.
        program.push(plain(LD_HALF, 6));
        program.extend(must_not(IF_ANY_BIT, 0x3fff));
        program.push(plain(LDX_HEADER, 0));
    }
    program.push(plain(LD_BYTE, protocol));
    for transport in [Protocol::Udp, Protocol::Tcp] {
        let ports: Vec<Ports> =
            wanted.iter().filter(|p| p.protocol() == transport).copied().collect();
        let block = block(family, transport, &ports, length);
        let number = u32::from(transport.number());
        program.push(Instruction { code: IF_EQUAL, yes: 1, no: 0, k: number });
        // A jump over more than 255 instructions has to be this one.
        program.push(plain(JUMP, block.len() as u32));
        program.extend(block);
    }
    program.push(plain(RETURN, 0));
    program
}

/// What is asked of one protocol; it always ends in a return.
fn block(
    family: Family,
    protocol: Protocol,
    ports: &[Ports],
    length: Option<u16>,
) -> Vec<Instruction> {
    // IPv4's header has a length of its own, which is in X by now.
    let load = |of_x: u16, fixed: u16, at: u32| match family {
        Family::V4 => plain(of_x, at),
        Family::V6 => plain(fixed, 40 + at),
    };
    let half = |at| load(LD_HALF_X, LD_HALF, at);
    let mut block = Vec::new();
    match (protocol, length) {
        (Protocol::Udp, None) => {}
        (Protocol::Udp, Some(length)) => {
            block.push(half(4));
            block.extend(must(IF_EQUAL, 8 + u32::from(length)));
        }
        (Protocol::Tcp, _) => {
            block.extend([load(LD_BYTE_X, LD_BYTE, 13), plain(AND, FLAGS)]);
            block.extend(must(IF_EQUAL, SYN));
        }
    }
    block.push(half(2));
    for p in ports {
        block.push(Instruction { code: IF_AT_LEAST, yes: 0, no: 2, k: u32::from(p.first()) });
        block.push(Instruction { code: IF_GREATER, yes: 1, no: 0, k: u32::from(p.last()) });
        block.push(plain(RETURN, SNAP as u32));
    }
    block.push(plain(RETURN, 0));
    block
}
