//! The instructions of classic BPF that are used here, by the names of bpf(4).

use crate::sys::Instruction;
use zeroize::Zeroizing;

/// Instructions; wiped when they are dropped, because constants in them can be a key's.
pub(in crate::daemon) type Program = Zeroizing<Vec<Instruction>>;

/// What a program has room for, so that nothing of it is left behind where it would grow: more than
/// the kernel takes.
const ROOM: usize = 4_096;

pub(in crate::daemon) const LD_IMM: u16 = 0x00;
pub(in crate::daemon) const ST: u16 = 0x02;
pub(in crate::daemon) const JUMP: u16 = 0x05;
pub(in crate::daemon) const RETURN: u16 = 0x06;
pub(in crate::daemon) const TAX: u16 = 0x07;
pub(in crate::daemon) const ADD_X: u16 = 0x0c;
pub(in crate::daemon) const SUB: u16 = 0x14;
pub(in crate::daemon) const IF_EQUAL: u16 = 0x15;
pub(in crate::daemon) const SUB_X: u16 = 0x1c;
pub(in crate::daemon) const IF_EQUAL_X: u16 = 0x1d;
pub(in crate::daemon) const LD_WORD: u16 = 0x20;
pub(in crate::daemon) const IF_GREATER: u16 = 0x25;
pub(in crate::daemon) const LD_HALF: u16 = 0x28;
pub(in crate::daemon) const LD_BYTE: u16 = 0x30;
pub(in crate::daemon) const IF_AT_LEAST: u16 = 0x35;
pub(in crate::daemon) const LD_WORD_X: u16 = 0x40;
pub(in crate::daemon) const IF_ANY_BIT: u16 = 0x45;
pub(in crate::daemon) const LD_HALF_X: u16 = 0x48;
pub(in crate::daemon) const OR_X: u16 = 0x4c;
pub(in crate::daemon) const LD_BYTE_X: u16 = 0x50;
pub(in crate::daemon) const AND: u16 = 0x54;
pub(in crate::daemon) const LD_MEM: u16 = 0x60;
pub(in crate::daemon) const LDX_MEM: u16 = 0x61;
pub(in crate::daemon) const LSH: u16 = 0x64;
pub(in crate::daemon) const RSH: u16 = 0x74;
pub(in crate::daemon) const LD_LEN: u16 = 0x80;
pub(in crate::daemon) const XOR: u16 = 0xa4;
pub(in crate::daemon) const XOR_X: u16 = 0xac;
pub(in crate::daemon) const LDX_HEADER: u16 = 0xb1;

/// An empty program.
pub(in crate::daemon) fn program() -> Program {
    Zeroizing::new(Vec::with_capacity(ROOM))
}

pub(in crate::daemon) const fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, yes: 0, no: 0, k }
}

/// Goes on if the comparison holds, else the packet is not taken.
pub(in crate::daemon) fn must(code: u16, k: u32) -> [Instruction; 2] {
    [Instruction { code, yes: 1, no: 0, k }, plain(RETURN, 0)]
}

/// Goes on if the comparison does not hold.
pub(in crate::daemon) fn must_not(code: u16, k: u32) -> [Instruction; 2] {
    [Instruction { code, yes: 0, no: 1, k }, plain(RETURN, 0)]
}
