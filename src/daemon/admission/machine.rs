//! The machine that classic BPF is written for, instruction by instruction out of its man page
//! (bpf(4)): what a kernel should do.

use crate::sys::Instruction;

/// Where Linux keeps the type of a packet (linux/filter.h).
const PACKET_TYPE: u32 = 0xffff_f004;

/// How much of the packet is taken.
pub(in crate::daemon) fn run(program: &[Instruction], packet: &[u8], packet_type: u32) -> u32 {
    let load = |at: u32, size: usize| {
        let bytes = packet.get(at as usize..at as usize + size)?;
        Some(bytes.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)))
    };
    let (mut a, mut x, mut at, mut memory) = (0u32, 0u32, 0usize, [None; 16]);
    loop {
        let Instruction { code, yes, no, k } = program[at];
        at += 1;
        let loaded = match code {
            0x20 => load(k, 4),
            0x28 => load(k, 2),
            0x30 if k == PACKET_TYPE => Some(packet_type),
            0x30 => load(k, 1),
            0x40 => load(x + k, 4),
            0x48 => load(x + k, 2),
            0x50 => load(x + k, 1),
            0x80 => Some(packet.len() as u32),
            _ => Some(a),
        };
        // A load beyond the packet ends the program.
        let Some(loaded) = loaded else { return 0 };
        a = loaded;
        let jump = |is: bool| usize::from(if is { yes } else { no });
        // Reading what was never written is refused by a kernel; here it ends the test.
        let memory = &mut memory;
        match code {
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 | 0x80 => {}
            0x00 => a = k,
            0x02 => memory[k as usize] = Some(a),
            0x05 => at += k as usize,
            0x06 => return k,
            0x07 => x = a,
            0x0c => a = a.wrapping_add(x),
            0x14 => a = a.wrapping_sub(k),
            0x15 => at += jump(a == k),
            0x1c => a = a.wrapping_sub(x),
            0x1d => at += jump(a == x),
            0x25 => at += jump(a > k),
            0x35 => at += jump(a >= k),
            0x45 => at += jump(a & k != 0),
            0x4c => a |= x,
            0x54 => a &= k,
            0x60 => a = memory[k as usize].unwrap(),
            0x61 => x = memory[k as usize].unwrap(),
            0x64 => a = a.checked_shl(k).unwrap(),
            0x74 => a = a.checked_shr(k).unwrap(),
            0xa4 => a ^= k,
            0xac => a ^= x,
            0xb1 => match load(k, 1) {
                Some(byte) => x = (byte & 0x0f) * 4,
                None => return 0,
            },
            other => panic!("{other:#x} is no instruction that is used here"),
        }
    }
}
