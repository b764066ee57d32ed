//! HalfSipHash-2-4 as a classic BPF program: the tag of a packet's token, compared with the one it
//! carries, under one key after the other.
//!
//! The machine has two registers, A and X, sixteen words of memory, no rotation and no loop; so a
//! key is about 700 instructions in a row.

use super::code::{
    ADD_X, AND, IF_EQUAL_X, LD_IMM, LD_MEM, LD_WORD, LD_WORD_X, LDX_HEADER, LDX_MEM, LSH, OR_X,
    Program, RETURN, RSH, ST, TAX, XOR, XOR_X, plain,
};
use crate::crypto::Door;
use crate::proto::{NONCE, TOKEN};
use crate::sys::Instruction;

/// Memory: the state v0 to v3, the token's two words, the tag, and a word to work with.
const V: [u32; 4] = [0, 1, 2, 3];
const WORDS: [u32; 2] = [4, 5];
const TAG: u32 = 6;
const SPARE: u32 = 7;

/// The token's length, in the top byte of the last word (HalfSipHash's padding).
const LAST: u32 = (TOKEN as u32) << 24;

/// Where the datagram begins in what the program sees.
#[derive(Clone, Copy, Debug)]
pub(in crate::daemon) enum At {
    /// At this offset.
    Fixed(u32),
    /// At this offset behind an IPv4 header, whose own length says how long it is.
    BehindIpv4(u32),
}

/// Takes `keep` bytes of a packet whose tag is one of these doors', and nothing of any other: the
/// end of a program. A packet too short to have a tag is not taken.
pub(in crate::daemon) fn sieve(program: &mut Program, at: At, doors: &[Door], keep: u32) {
    let words = [(0, WORDS[0]), (4, WORDS[1]), (NONCE as u32, TAG)];
    words.into_iter().for_each(|(offset, place)| load(program, at, offset, place));
    for door in doors {
        tag(program, door.admit());
        // A is the tag that is right.
        program.push(plain(LDX_MEM, TAG));
        program.push(Instruction { code: IF_EQUAL_X, yes: 0, no: 1, k: 0 });
        program.push(plain(RETURN, keep));
    }
    program.push(plain(RETURN, 0));
}

/// Puts the little-endian word at `offset` of the datagram into memory.
fn load(program: &mut Program, at: At, offset: u32, place: u32) {
    match at {
        At::Fixed(start) => program.push(plain(LD_WORD, start + offset)),
        At::BehindIpv4(start) => {
            program.extend([plain(LDX_HEADER, 0), plain(LD_WORD_X, start + offset)]);
        }
    }
    // The machine reads big-endian words.
    program.extend([
        plain(ST, SPARE),
        plain(RSH, 24),
        plain(TAX, 0),
        plain(LD_MEM, SPARE),
        plain(RSH, 8),
        plain(AND, 0xff00),
        plain(OR_X, 0),
        plain(TAX, 0),
        plain(LD_MEM, SPARE),
        plain(LSH, 8),
        plain(AND, 0xff_0000),
        plain(OR_X, 0),
        plain(TAX, 0),
        plain(LD_MEM, SPARE),
        plain(LSH, 24),
        plain(OR_X, 0),
        plain(ST, place),
    ]);
}

/// Leaves the token's tag under `key` in A; see `crypto::halfsiphash`, line by line.
fn tag(program: &mut Program, key: &[u8; 8]) {
    let [a, b, c, d, e, f, g, h] = *key;
    let (k0, k1) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    let start = [k0, k1, 0x6c79_6765 ^ k0, 0x7465_6462 ^ k1];
    for (v, word) in V.into_iter().zip(start) {
        program.extend([plain(LD_IMM, word), plain(ST, v)]);
    }
    for word in WORDS {
        mix(program, V[3], word);
        rounds(program, 2);
        mix(program, V[0], word);
    }
    flip(program, V[3], LAST);
    rounds(program, 2);
    flip(program, V[0], LAST);
    flip(program, V[2], 0xff);
    rounds(program, 4);
    program.extend([plain(LD_MEM, V[1]), plain(LDX_MEM, V[3]), plain(XOR_X, 0)]);
}

fn rounds(program: &mut Program, count: usize) {
    for _ in 0..count {
        add(program, V[0], V[1]);
        rotate_and_mix(program, V[1], 5, V[0]);
        rotate(program, V[0], 16);
        add(program, V[2], V[3]);
        rotate_and_mix(program, V[3], 8, V[2]);
        add(program, V[0], V[3]);
        rotate_and_mix(program, V[3], 7, V[0]);
        add(program, V[2], V[1]);
        rotate_and_mix(program, V[1], 13, V[2]);
        rotate(program, V[2], 16);
    }
}

/// `v += other`
fn add(program: &mut Program, v: u32, other: u32) {
    program.extend([plain(LD_MEM, v), plain(LDX_MEM, other), plain(ADD_X, 0), plain(ST, v)]);
}

/// `v ^= other`
fn mix(program: &mut Program, v: u32, other: u32) {
    program.extend([plain(LD_MEM, v), plain(LDX_MEM, other), plain(XOR_X, 0), plain(ST, v)]);
}

/// `v ^= constant`
fn flip(program: &mut Program, v: u32, constant: u32) {
    program.extend([plain(LD_MEM, v), plain(XOR, constant), plain(ST, v)]);
}

/// Leaves `v` in A, rotated to the left.
fn rotated(program: &mut Program, v: u32, bits: u32) {
    program.extend([
        plain(LD_MEM, v),
        plain(RSH, 32 - bits),
        plain(TAX, 0),
        plain(LD_MEM, v),
        plain(LSH, bits),
        plain(OR_X, 0),
    ]);
}

/// `v = v rotated to the left`
fn rotate(program: &mut Program, v: u32, bits: u32) {
    rotated(program, v, bits);
    program.push(plain(ST, v));
}

/// `v = v rotated to the left ^ other`
fn rotate_and_mix(program: &mut Program, v: u32, bits: u32, other: u32) {
    rotated(program, v, bits);
    program.extend([plain(LDX_MEM, other), plain(XOR_X, 0), plain(ST, v)]);
}
