//! The numbers that stand for words in frames and in the journal: never given to another word.

use crate::access::Assurance;
use crate::engine::Mode;

pub(super) fn assurance_number(a: Assurance) -> u8 {
    match a {
        Assurance::Knock => 1,
        Assurance::PlainKey => 2,
        Assurance::TimedKnock => 3,
        Assurance::Fwknop => 4,
        Assurance::Sealed => 5,
    }
}

pub(super) fn assurance_of(number: u8) -> Option<Assurance> {
    match number {
        1 => Some(Assurance::Knock),
        2 => Some(Assurance::PlainKey),
        3 => Some(Assurance::TimedKnock),
        4 => Some(Assurance::Fwknop),
        5 => Some(Assurance::Sealed),
        _ => None,
    }
}

pub(super) fn mode_number(mode: Mode) -> u8 {
    match mode {
        Mode::Spa => 1,
        Mode::Plain => 2,
        Mode::Knock => 3,
    }
}

pub(super) fn mode_of(number: u8) -> Option<Mode> {
    match number {
        1 => Some(Mode::Spa),
        2 => Some(Mode::Plain),
        3 => Some(Mode::Knock),
        _ => None,
    }
}
