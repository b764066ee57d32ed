//! The filter, in an interpreter of its instructions, and the parser, beside each other.

use super::Family;
use super::filter::{SNAP, assemble};
use super::local::Local;
use super::parse::{is_wanted, parse};
use crate::access::{Ports, Protocol};
use crate::crypto::{Door, DoorKey, ServerId};
use crate::daemon::admission::machine::run;
use crate::time::Mono;
use proptest::prelude::*;
use std::net::IpAddr;

const PAYLOAD: &[u8] = b"open sesame";

fn ports(list: &[&str]) -> Vec<Ports> {
    list.iter().map(|t| t.parse().unwrap()).collect()
}

fn transport(protocol: Protocol, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x9c, 0x40];
    bytes.extend(port.to_be_bytes());
    match protocol {
        Protocol::Udp => {
            bytes.extend((8 + payload.len() as u16).to_be_bytes());
            bytes.extend([0, 0]);
        }
        // Sequence numbers, offset, flags, window, checksum, urgent.
        Protocol::Tcp => bytes.extend([1, 2, 3, 4, 0, 0, 0, 0, 0x50, 0x02, 1, 1, 0, 0, 0, 0]),
    }
    bytes.extend(payload);
    bytes
}

fn packet(family: Family, protocol: Protocol, port: u16, payload: &[u8]) -> Vec<u8> {
    let body = transport(protocol, port, payload);
    let mut bytes = match family {
        Family::V4 => {
            let [high, low] = (20 + body.len() as u16).to_be_bytes();
            let number = protocol.number();
            vec![0x45, 0, high, low, 7, 7, 0x40, 0, 64, number, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1]
        }
        Family::V6 => {
            let [high, low] = (body.len() as u16).to_be_bytes();
            let mut bytes = vec![0x60, 0, 0, 0, high, low, protocol.number(), 64];
            for last in [2, 1] {
                bytes.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
            }
            bytes
        }
    };
    bytes.extend(body);
    bytes
}

/// Where the transport header begins.
fn header(family: Family) -> usize {
    if family == Family::V4 { 20 } else { 40 }
}

fn both(mut each: impl FnMut(Family)) {
    [Family::V4, Family::V6].into_iter().for_each(&mut each);
}

#[test]
fn what_is_wanted_passes_and_is_read() {
    let wanted = ports(&["udp/1000-1010", "udp/41841", "tcp/7000"]);
    both(|family| {
        let program = assemble(family, &wanted, None);
        for (protocol, port) in [
            (Protocol::Udp, 1_000),
            (Protocol::Udp, 1_010),
            (Protocol::Udp, 41_841),
            (Protocol::Tcp, 7_000),
        ] {
            let bytes = packet(family, protocol, port, PAYLOAD);
            assert_eq!(run(&program, &bytes, 0), SNAP as u32);
            let captured = parse(family, &bytes).unwrap();
            assert_eq!((captured.protocol, captured.port), (protocol, port));
            assert_eq!(captured.payload, PAYLOAD);
            let (from, to) = match family {
                Family::V4 => ("10.0.0.2", "10.0.0.1"),
                Family::V6 => ("fd00::2", "fd00::1"),
            };
            assert_eq!(captured.from, from.parse::<IpAddr>().unwrap());
            assert_eq!(captured.to, to.parse::<IpAddr>().unwrap());
            assert!(is_wanted(&captured, &wanted));
        }
        for (protocol, port) in [
            (Protocol::Udp, 999),
            (Protocol::Udp, 1_011),
            (Protocol::Udp, 7_000),
            (Protocol::Tcp, 41_841),
            (Protocol::Tcp, 6_999),
            (Protocol::Tcp, 7_001),
        ] {
            let bytes = packet(family, protocol, port, PAYLOAD);
            assert_eq!(run(&program, &bytes, 0), 0, "{protocol}/{port}");
            assert!(!is_wanted(&parse(family, &bytes).unwrap(), &wanted));
        }
    });
}

#[test]
fn only_to_this_host_by_its_hardware_address() {
    both(|family| {
        let program = assemble(family, &ports(&["udp/1"]), None);
        let bytes = packet(family, Protocol::Udp, 1, PAYLOAD);
        assert_eq!(run(&program, &bytes, 0), SNAP as u32);
        // Broadcast, multicast, to another host, going out.
        (1..=4).for_each(|kind| assert_eq!(run(&program, &bytes, kind), 0));
    });
}

#[test]
fn the_length_that_counts_is_udps_own() {
    both(|family| {
        let door = Door::derive(ServerId([1; 16]), &DoorKey::new([2; 32]));
        let program = assemble(family, &ports(&["udp/1"]), Some(std::slice::from_ref(&door)));
        let mut payload = [7; 288];
        payload[24..28].copy_from_slice(&door.tag(&[7; 8]));
        let mut bytes = packet(family, Protocol::Udp, 1, &payload);
        // Padding of a short frame.
        bytes.extend([0; 6]);
        assert_eq!(run(&program, &bytes, 0), SNAP as u32);
        assert_eq!(parse(family, &bytes).unwrap().payload, payload);
        for other in [&payload[..287], &[&payload[..], b"!"].concat()] {
            assert_eq!(run(&program, &packet(family, Protocol::Udp, 1, other), 0), 0);
        }
        // UDP says more than IP, less than its own header, nothing at all.
        for length in [9 + payload.len() as u16, 7, 0, u16::MAX] {
            let at = header(family) + 4;
            bytes[at..at + 2].copy_from_slice(&length.to_be_bytes());
            assert_eq!(run(&program, &bytes, 0), 0);
            assert!(parse(family, &bytes).is_none(), "{length}");
        }
    });
}

#[test]
fn of_tcp_only_a_first_syn() {
    both(|family| {
        let program = assemble(family, &ports(&["tcp/7000"]), None);
        for flags in 0..=u8::MAX {
            let mut bytes = packet(family, Protocol::Tcp, 7_000, b"");
            bytes[header(family) + 13] = flags;
            // PSH, URG and the bits of ECN say nothing about it.
            let first = flags & 0x17 == 0x02;
            assert_eq!(run(&program, &bytes, 0) > 0, first, "{flags:#x}");
            assert_eq!(parse(family, &bytes).is_some(), first, "{flags:#x}");
        }
    });
}

#[test]
fn no_fragments_and_no_extension_headers() {
    let program = assemble(Family::V4, &ports(&["udp/1"]), None);
    let sound = packet(Family::V4, Protocol::Udp, 1, PAYLOAD);
    for (high, low) in [(0x20, 0), (0, 1), (0x1f, 0xff), (0x20, 8), (0x01, 0)] {
        let mut bytes = sound.clone();
        bytes[6..8].copy_from_slice(&[high, low]);
        assert_eq!(run(&program, &bytes, 0), 0);
        assert!(parse(Family::V4, &bytes).is_none());
    }
    let program = assemble(Family::V6, &ports(&["udp/1"]), None);
    let sound = packet(Family::V6, Protocol::Udp, 1, PAYLOAD);
    // Hop-by-hop, routing, fragment, destination options, none.
    for next in [0, 43, 44, 60, 59] {
        let mut bytes = sound.clone();
        bytes[6] = next;
        assert_eq!(run(&program, &bytes, 0), 0);
        assert!(parse(Family::V6, &bytes).is_none());
    }
}

#[test]
fn ipv4_options_move_the_ports() {
    let wanted = ports(&["udp/1"]);
    let program = assemble(Family::V4, &wanted, None);
    let mut bytes = packet(Family::V4, Protocol::Udp, 1, PAYLOAD);
    bytes[0] = 0x46;
    bytes[3] += 4;
    bytes.splice(20..20, [1, 1, 1, 0]);
    assert_eq!(run(&program, &bytes, 0), SNAP as u32);
    assert_eq!(parse(Family::V4, &bytes).unwrap().payload, PAYLOAD);
    // A header shorter than any, and one longer than the packet.
    for first in [0x44, 0x4f] {
        bytes[0] = first;
        assert!(parse(Family::V4, &bytes).is_none());
    }
}

#[test]
fn sources_that_nobody_has_count_for_nothing() {
    let mut bytes = packet(Family::V4, Protocol::Udp, 1, PAYLOAD);
    for from in [[0, 0, 0, 0], [224, 0, 0, 1], [255, 255, 255, 255]] {
        bytes[12..16].copy_from_slice(&from);
        assert!(parse(Family::V4, &bytes).is_none());
    }
    let mut bytes = packet(Family::V6, Protocol::Udp, 1, PAYLOAD);
    for from in ["::", "ff02::1", "::ffff:10.0.0.2"] {
        let from: std::net::Ipv6Addr = from.parse().unwrap();
        bytes[8..24].copy_from_slice(&from.octets());
        assert!(parse(Family::V6, &bytes).is_none());
    }
}

#[test]
fn the_longest_list_of_ports_is_still_a_program() {
    let all: Vec<Ports> =
        (0..80).filter_map(|n| Ports::new(Protocol::Tcp, 100 * n + 1, 100 * n + 9)).collect();
    both(|family| {
        let program = assemble(family, &all, None);
        // BPF_MAXINSNS
        assert!(program.len() <= 4_096);
        let bytes = |port| packet(family, Protocol::Tcp, port, b"");
        assert_eq!(run(&program, &bytes(7_905), 0), SNAP as u32);
        assert_eq!(run(&program, &bytes(7_910), 0), 0);
    });
}

#[test]
fn addresses_are_looked_up_again_at_most_once_a_second() {
    let (mut local, mut asked) = (Local::default(), 0);
    let [a, b]: [IpAddr; 2] = ["10.0.0.1", "10.0.0.2"].map(|t| t.parse().unwrap());
    let mut has = |to, ms, list: &[IpAddr]| {
        let answer = local.has(to, Mono(ms), || {
            asked += 1;
            list.to_vec()
        });
        (answer, asked)
    };
    assert_eq!(has(a, 5_000, &[a]), (true, 1));
    assert_eq!(has(a, 5_001, &[]), (true, 1));
    assert_eq!(has(b, 5_002, &[a, b]), (false, 1));
    assert_eq!(has(b, 6_000, &[a, b]), (true, 2));
}

proptest! {
    /// Whatever the bytes are: no panic, and what user space takes the kernel would have let through.
    #[test]
    fn the_filter_keeps_nothing_back_that_is_read(
        v6: bool,
        tcp: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..40),
        changes in proptest::collection::vec((0usize..80, any::<u8>()), 0..4),
        cut in 0usize..120,
    ) {
        let family = if v6 { Family::V6 } else { Family::V4 };
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut bytes = packet(family, protocol, 500, &payload);
        for (at, value) in changes {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if cut < bytes.len() && cut % 3 == 0 {
            bytes.truncate(cut);
        }
        let wanted = ports(&["udp/400-600", "tcp/400-600"]);
        let taken = run(&assemble(family, &wanted, None), &bytes, 0);
        if let Some(captured) = parse(family, &bytes) {
            prop_assert_eq!(taken > 0, is_wanted(&captured, &wanted));
            prop_assert!(captured.payload.len() <= bytes.len());
        }
    }
}
