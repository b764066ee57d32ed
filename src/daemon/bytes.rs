//! The fields of a frame, written and read one after the other.

use super::claim::{CLAIM, decode_claim};
use super::config::LONGEST_NAME;
use super::frame::{Bytes, FRAME};
use crate::access::{Claim, Ports, Protocol};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Appends fields; there is room, by the sizes of what is written.
pub(super) struct Writer {
    pub(super) bytes: Bytes,
    pub(super) at: usize,
}

impl Writer {
    pub(super) fn put(&mut self, some: &[u8]) -> &mut Writer {
        self.bytes[self.at..self.at + some.len()].copy_from_slice(some);
        self.at += some.len();
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Writer {
        self.text_bytes(text.as_bytes())
    }

    pub(super) fn text_bytes(&mut self, text: &[u8]) -> &mut Writer {
        // Lengths are checked where a text comes from; one that is too long would be cut here.
        let some = &text[..text.len().min(LONGEST_NAME)];
        self.put(&[some.len() as u8]).put(some);
        self.at += LONGEST_NAME - some.len();
        self
    }

    pub(super) fn ports(&mut self, p: &Ports) -> &mut Writer {
        self.put(&[p.protocol().number()])
            .put(&p.first().to_be_bytes())
            .put(&p.last().to_be_bytes())
    }

    pub(super) fn address(&mut self, address: IpAddr) -> &mut Writer {
        match address {
            IpAddr::V4(a) => self.put(&[4]).put(&a.octets()).put(&[0; 12]),
            IpAddr::V6(a) => self.put(&[6]).put(&a.octets()),
        }
    }
}

/// Takes fields; nothing where the frame ends.
pub(super) struct Reader<'a> {
    pub(super) bytes: &'a [u8; FRAME],
    pub(super) at: usize,
}

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let some = self.bytes.get(self.at..self.at + N)?.try_into().ok()?;
        self.at += N;
        Some(some)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take().map(|[b]| b)
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.text_bytes()?).ok()
    }

    pub(super) fn text_bytes(&mut self) -> Option<Vec<u8>> {
        let length = usize::from(self.byte()?);
        let field: [u8; LONGEST_NAME] = self.take()?;
        Some(field.get(..length)?.to_vec())
    }

    pub(super) fn ports(&mut self) -> Option<Ports> {
        let protocol = Protocol::from_number(self.byte()?)?;
        Ports::new(protocol, self.u16()?, self.u16()?)
    }

    pub(super) fn address(&mut self) -> Option<IpAddr> {
        match self.byte()? {
            4 => {
                let address = self.take::<4>()?;
                (self.take::<12>()? == [0; 12]).then(|| Ipv4Addr::from(address).into())
            }
            6 => Some(Ipv6Addr::from(self.take::<16>()?).into()),
            _ => None,
        }
    }

    pub(super) fn claim(&mut self) -> Option<Claim> {
        decode_claim(&self.take::<CLAIM>()?)
    }
}
