//! Three judges: HalfSipHash as `crypto` computes it, the machine of bpf(4), and the kernel.
#![allow(clippy::unwrap_used)]

use super::machine::run;
use super::{Program, assemble, attach};
use crate::access::{Ports, Protocol};
use crate::crypto::{Door, DoorKey, ServerId};
use crate::daemon::capture::{Family, filter_of, reads};
use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

/// Packets of one kind: a million in all.
const UDP: usize = 500_000;
const CAPTURED: usize = 250_000;
/// Packets that are in the kernel at one time.
const SOME: usize = 64;

const PORT: u16 = 41_841;

fn doors(count: u8) -> Vec<Door> {
    let server = ServerId([7; 16]);
    (1..=count).map(|n| Door::derive(server, &DoorKey::new([n; 32]))).collect()
}

/// xorshift64*, so that a failure comes again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 56) as u8).collect()
    }

    /// Mostly of the one length, else of any up to 400; half with a right tag, a tenth with a right
    /// tag and one bit flipped.
    fn datagram(&mut self, doors: &[Door]) -> Vec<u8> {
        let length = if self.one_in(3) { self.below(401) } else { 288 };
        let mut bytes = self.bytes(length);
        let kind = self.below(10);
        if kind < 6 && length >= 28 {
            let door = &doors[self.below(doors.len())];
            let tag = door.tag(bytes.first_chunk().unwrap());
            bytes[24..28].copy_from_slice(&tag);
            if kind == 5 {
                let bit = self.below(28 * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
        bytes
    }

    /// A datagram in an IP packet, which some of the time is not quite one.
    fn packet(&mut self, family: Family, doors: &[Door]) -> Vec<u8> {
        let payload = self.datagram(doors);
        let port = if self.one_in(20) { PORT + 1 } else { PORT };
        let mut body = vec![0x9c, 0x40];
        body.extend(port.to_be_bytes());
        body.extend((8 + payload.len() as u16).to_be_bytes());
        body.extend([0, 0]);
        body.extend(payload);
        let protocol = if self.one_in(20) { 6 } else { 17 };
        let mut packet = match family {
            Family::V4 => {
                let words = if self.one_in(3) { self.below(11) } else { 0 };
                let header = 20 + 4 * words;
                let [high, low] = ((header + body.len()) as u16).to_be_bytes();
                let part = if self.one_in(20) { 0x20 } else { 0x40 };
                let first = 0x45 + words as u8;
                let mut bytes = vec![first, 0, high, low, 7, 7, part, 0, 64, protocol, 0, 0];
                bytes.extend([10, 0, 0, 2, 10, 0, 0, 1]);
                bytes.resize(header, 1);
                bytes
            }
            Family::V6 => {
                // A hop-by-hop header of eight bytes (RFC 8200, 4.3), some of the time.
                let extended = self.one_in(5);
                let behind = if extended { vec![protocol, 0, 1, 4, 0, 0, 0, 0] } else { vec![] };
                let [high, low] = ((behind.len() + body.len()) as u16).to_be_bytes();
                let next = if extended { 0 } else { protocol };
                let mut bytes = vec![0x60, 0, 0, 0, high, low, next, 64];
                bytes.extend([[0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]; 2].concat());
                bytes.extend(behind);
                bytes
            }
        };
        packet.extend(body);
        if self.one_in(20) {
            // A tag of IEEE 802.1Q that nobody has taken off.
            packet.splice(0..0, [0x00, 0x2a, 0x08, 0x00]);
        }
        if self.one_in(20) {
            packet.truncate(self.below(packet.len()));
        }
        packet
    }
}

fn is_right(bytes: &[u8], doors: &[Door]) -> bool {
    let admitted = |door: &Door| bytes[24..28] == door.tag(bytes.first_chunk().unwrap());
    bytes.len() == 288 && doors.iter().any(admitted)
}

/// Counts what is taken, of packets of which each is judged by `right`, by the machine, and by what
/// comes out of `receive` after `send`.
fn judge(
    count: usize,
    mut one: impl FnMut() -> Vec<u8>,
    right: impl Fn(&[u8]) -> bool,
    machine: impl Fn(&[u8]) -> bool,
    send: impl Fn(&[u8]),
    receive: impl Fn(&mut [u8]) -> Option<usize>,
) -> usize {
    let (mut taken, mut buffer) = (0, [0; 2_048]);
    for _ in 0..count.div_ceil(SOME) {
        let packets: Vec<Vec<u8>> = (0..SOME).map(|_| one()).collect();
        packets.iter().for_each(|packet| send(packet));
        for packet in &packets {
            assert_eq!(machine(packet), right(packet), "{packet:02x?}");
            if right(packet) {
                let length = receive(&mut buffer);
                assert_eq!(length.map(|n| &buffer[..n]), Some(&packet[..]));
                taken += 1;
            }
        }
        // What is left was taken against the judgement of the others.
        assert_eq!(receive(&mut buffer), None);
    }
    taken
}

#[test]
fn three_judges_agree_about_datagrams() {
    for count in [1, 2] {
        let doors = doors(count);
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        receiver.set_nonblocking(true).unwrap();
        attach(receiver.as_fd(), &doors).unwrap();
        let program = assemble(&doors);
        let machine = |packet: &[u8]| run(&program, &[&[0; 8], packet].concat(), 0) > 0;
        let mut dice = Dice(0x5eed + u64::from(count));
        let taken = judge(
            UDP / 2,
            || dice.datagram(&doors),
            |packet| is_right(packet, &doors),
            machine,
            |packet| assert_eq!(sender.send(packet).unwrap(), packet.len()),
            |buffer| receiver.recv(buffer).ok(),
        );
        // Two thirds have the length, half of them the tag, and some of the flipped bits hit neither.
        assert!(taken > UDP / 8, "{taken}");
    }
}

#[test]
fn three_judges_agree_about_packets() {
    let wanted: Vec<Ports> = vec![Ports::new(Protocol::Udp, PORT, PORT).unwrap()];
    for family in [Family::V4, Family::V6] {
        let doors = doors(2);
        let program = filter_of(family, &wanted, &doors);
        // A socket of another kind, but the kernel's own machine; packets are to this host there.
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        crate::sys::attach_filter(receiver.as_fd(), &program).unwrap();
        let mut dice = Dice(0xf00d);
        let taken = judge(
            CAPTURED,
            || dice.packet(family, &doors),
            |packet| {
                reads(family, packet, &wanted).is_some_and(|payload| is_right(payload, &doors))
            },
            |packet| run(&program, packet, 0) > 0,
            |packet| assert_eq!(sender.send(packet).unwrap(), packet.len()),
            |buffer| receiver.recv(buffer).ok(),
        );
        assert!(taken > CAPTURED / 8, "{taken}");
    }
}

/// BPF_MAXINSNS is 4,096; each costs 8 bytes and more of what a socket may have.
#[test]
fn programs_for_two_keys_are_short() {
    let wanted: Vec<Ports> = vec![Ports::new(Protocol::Udp, PORT, PORT).unwrap()];
    let captures = [Family::V4, Family::V6].map(|f| filter_of(f, &wanted, &doors(2)));
    let all = [assemble(&doors(2))].into_iter().chain(captures);
    all.for_each(|program| assert!(program.len() < 2_400, "{}", program.len()));
    // A third door admits nobody.
    assert!(assemble(&doors(3)) == assemble(&doors(2)));
    assert!(assemble(&doors(2)) != assemble(&doors(1)));
}

#[test]
fn without_a_door_nobody_is_admitted() {
    let program: Program = assemble(&[]);
    let mut dice = Dice(1);
    let packet = |dice: &mut Dice| [&[0; 8][..], &dice.datagram(&doors(1))].concat();
    assert!((0..1_000).all(|_| run(&program, &packet(&mut dice), 0) == 0));
}
