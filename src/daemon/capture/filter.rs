//! The classic BPF program (Linux, `Documentation/networking/filter.rst`) that a capture socket runs
//! in the kernel, so that a flood of other packets never wakes anybody.

use super::Family;
use crate::access::{Ports, Protocol};
use crate::crypto::Door;
use crate::daemon::admission::{
    AND, At, IF_ANY_BIT, IF_AT_LEAST, IF_EQUAL, IF_GREATER, JUMP, LD_BYTE, LD_BYTE_X, LD_HALF,
    LD_HALF_X, LD_LEN, LDX_HEADER, Program, RETURN, SUB, SUB_X, current, must, must_not, plain,
    program, sieve,
};
use crate::proto::DATAGRAM;
use crate::sys::Instruction;

/// The most bytes of a packet that a capture takes, from the IP header on.
pub(super) const SNAP: usize = 2_048;

/// Where the kernel keeps a packet's type (SKF_AD_OFF + SKF_AD_PKTTYPE of linux/filter.h).
const PACKET_TYPE: u32 = 0xffff_f004;
/// A packet to this host by its hardware address (PACKET_HOST of linux/if_packet.h).
const TO_US: u32 = 0;
/// FIN, SYN, RST and ACK (RFC 9293), of which a knock has SYN alone.
const FLAGS: u32 = 0x17;
/// See [`FLAGS`].
const SYN: u32 = 0x02;

/// What comes before a datagram behind the IP header (RFC 768).
const UDP_HEADER: u32 = 8;

/// The filter for these ports; `doors`: of UDP only sealed packets that one of them admits.
///
/// It looks at lengths first, then for a packet to this host, whole (no fragment), with UDP or TCP
/// right behind the IP header (extension headers of IPv6 are not walked), to one of the ports; of TCP
/// only a first SYN. What it takes is read once more in user space.
pub(super) fn assemble(family: Family, wanted: &[Ports], doors: Option<&[Door]>) -> Program {
    let (least, version, protocol) = match family {
        Family::V4 => (28, 0x40, 9),
        Family::V6 => (48, 0x60, 6),
    };
    let mut program = program();
    program.push(plain(LD_LEN, 0));
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
        let block = block(family, transport, &ports, doors);
        let number = u32::from(transport.number());
        program.push(Instruction { code: IF_EQUAL, yes: 1, no: 0, k: number });
        // A jump over more than 255 instructions has to be this one.
        program.push(plain(JUMP, block.len() as u32));
        program.extend_from_slice(&block);
    }
    program.push(plain(RETURN, 0));
    program
}

/// What is asked of one protocol; it always ends in a return.
fn block(family: Family, protocol: Protocol, ports: &[Ports], doors: Option<&[Door]>) -> Program {
    // IPv4's header has a length of its own, which is in X by now.
    let load = |of_x: u16, fixed: u16, at: u32| match family {
        Family::V4 => plain(of_x, at),
        Family::V6 => plain(fixed, 40 + at),
    };
    let half = |at| load(LD_HALF_X, LD_HALF, at);
    let doors = doors.filter(|_| protocol == Protocol::Udp).map(current);
    let mut block = program();
    match protocol {
        Protocol::Udp if doors.is_some() => {
            let whole = UDP_HEADER + DATAGRAM as u32;
            block.push(half(4));
            block.extend(must(IF_EQUAL, whole));
            // All of it is there: a frame can end before its headers say so.
            block.push(plain(LD_LEN, 0));
            match family {
                Family::V4 => block.push(plain(SUB_X, 0)),
                Family::V6 => block.push(plain(SUB, 40)),
            }
            block.extend(must(IF_AT_LEAST, whole));
        }
        Protocol::Udp => {}
        Protocol::Tcp => {
            block.extend([load(LD_BYTE_X, LD_BYTE, 13), plain(AND, FLAGS)]);
            block.extend(must(IF_EQUAL, SYN));
        }
    }
    block.push(half(2));
    for (p, behind) in ports.iter().zip((0..ports.len() as u32).rev()) {
        block.push(Instruction { code: IF_AT_LEAST, yes: 0, no: 2, k: u32::from(p.first()) });
        block.push(Instruction { code: IF_GREATER, yes: 1, no: 0, k: u32::from(p.last()) });
        // Over the ports behind it, and the return.
        block.push(plain(JUMP, behind * 3 + 1));
    }
    block.push(plain(RETURN, 0));
    let at = match family {
        Family::V4 => At::BehindIpv4(UDP_HEADER),
        Family::V6 => At::Fixed(40 + UDP_HEADER),
    };
    match doors {
        Some(doors) => sieve(&mut block, at, doors, SNAP as u32),
        None => block.push(plain(RETURN, SNAP as u32)),
    }
    block
}
