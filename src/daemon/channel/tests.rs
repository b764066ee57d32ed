use super::*;
use crate::access::ClientId;
use std::io::Write;

fn pair() -> (Channel, Channel) {
    let (a, b) = UnixStream::pair().unwrap();
    (Channel::new(a, false).unwrap(), Channel::new(b, true).unwrap())
}

fn frame(n: u64) -> Frame {
    Frame::Remove(ClientId(n.to_be_bytes()))
}

#[test]
fn every_frame_comes_once_and_in_its_order_however_many_wait() {
    let (mut down, mut up) = pair();
    let (mut pushed, mut taken) = (0, 0);
    // More than the socket holds, in turns of different lengths.
    for turn in 0..400u64 {
        for _ in 0..turn % 97 {
            down.push(&frame(pushed), 7, vec![]);
            pushed += 1;
        }
        down.flush().unwrap();
        for _ in 0..turn % 89 {
            let Some(next) = up.next().unwrap() else { break };
            assert_eq!(next, (frame(taken), 7));
            taken += 1;
        }
        assert!(pushed - taken >= down.waiting() as u64);
    }
    assert!(down.is_waiting() && up.is_ready(), "both sides had some left");
    while taken < pushed {
        down.flush().unwrap();
        while let Some(next) = up.next().unwrap() {
            assert_eq!(next, (frame(taken), 7));
            taken += 1;
        }
    }
    assert_eq!((down.waiting(), down.is_waiting(), up.is_ready()), (0, false, false));
}

#[test]
fn a_descriptor_comes_no_later_than_its_frame() {
    let (mut down, mut up) = pair();
    let file = || OwnedFd::from(tempfile::tempfile().unwrap());
    for n in 0..200 {
        let with = (0..n % 3).map(|_| file()).collect();
        down.push(&frame(n), 0, with);
    }
    for n in 0..200 {
        down.flush().unwrap();
        assert_eq!(up.next().unwrap(), Some((frame(n), 0)));
        let fds = (0..n % 3).filter_map(|_| up.take_fd()).count();
        assert_eq!(fds as u64, n % 3, "{n}");
    }
    assert!(up.take_fd().is_none());
}

#[test]
fn half_a_frame_waits_for_its_other_half_and_a_wrong_one_is_the_end() {
    let (mut raw, b) = UnixStream::pair().unwrap();
    let mut up = Channel::new(b, false).unwrap();
    let bytes = encode(&frame(1), 3);
    // They come in one read.
    raw.write_all(&[&bytes.repeat(10)[..], &bytes[..100]].concat()).unwrap();
    for _ in 0..10 {
        assert_eq!(up.next().unwrap(), Some((frame(1), 3)));
    }
    assert_eq!(up.next().unwrap(), None);
    assert!(!up.is_ready());
    raw.write_all(&bytes[100..]).unwrap();
    assert_eq!(up.next().unwrap(), Some((frame(1), 3)));
    raw.write_all(&[0xff; FRAME]).unwrap();
    assert!(matches!(up.next(), Err(Broken::Frame)));
    drop(raw);
    assert!(matches!(up.next(), Err(Broken::Gone)));
}

#[test]
fn what_was_sent_and_taken_is_wiped() {
    let (mut down, mut up) = pair();
    down.push(&frame(u64::MAX), 0, vec![]);
    down.flush().unwrap();
    let spare = down.spare.as_ref().unwrap();
    assert!(spare.bytes.is_empty() && spare.bytes.capacity() >= FRAME);
    up.next().unwrap().unwrap();
    assert!(up.incoming.bytes.iter().all(|b| *b == 0));
}
