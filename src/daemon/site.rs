//! The frame that tells `[gate]` what it serves, part by part.

use super::bytes::{Reader, Writer};
use crate::access::Prefix;

/// The longest path in a frame: bytes.
const LONGEST: usize = 255;
/// The most listeners that one frame hands down, besides the root.
pub(super) const MOST_LISTENERS: usize = 16;

/// One part of what `[gate]` is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Site {
    /// The user and group to become; none: the user is shared, and every right is dropped.
    User(Option<(u32, u32)>),
    /// A path that is there; its file follows.
    Path(String),
    /// The file of the path before, below the root.
    File(String),
    /// A path that is not there and costs nothing.
    Ignore(String),
    /// Who may say for whom he asks.
    Proxy(Prefix),
    /// That was all; the root and so many listeners come with this frame.
    Go(u8),
}

impl Writer {
    pub(super) fn site(&mut self, part: &Site) -> &mut Writer {
        match part {
            Site::User(user) => {
                let (uid, gid) = user.unwrap_or_default();
                self.put(&[1, u8::from(user.is_some())]);
                self.put(&uid.to_be_bytes()).put(&gid.to_be_bytes())
            }
            Site::Path(text) => self.put(&[2]).long(text),
            Site::File(text) => self.put(&[3]).long(text),
            Site::Ignore(text) => self.put(&[4]).long(text),
            Site::Proxy(prefix) => self.put(&[5]).prefix(prefix),
            Site::Go(listeners) => self.put(&[6, *listeners]),
        }
    }

    fn long(&mut self, text: &str) -> &mut Writer {
        let bytes = &text.as_bytes()[..text.len().min(LONGEST)];
        self.put(&[bytes.len() as u8]).put(bytes)
    }
}

impl Reader<'_> {
    pub(super) fn site(&mut self) -> Option<Site> {
        Some(match self.byte()? {
            1 => {
                let some = self.flag()?;
                let user = (self.u32()?, self.u32()?);
                Site::User(some.then_some(user))
            }
            2 => Site::Path(self.long()?),
            3 => Site::File(self.long()?),
            4 => Site::Ignore(self.long()?),
            5 => Site::Proxy(self.prefix()?),
            6 => Site::Go(self.byte()?),
            _ => return None,
        })
    }

    fn long(&mut self) -> Option<String> {
        let length = self.byte()?;
        let bytes: Option<Vec<u8>> = (0..length).map(|_| self.byte()).collect();
        String::from_utf8(bytes?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::frame::{Frame, decode, encode};

    #[test]
    fn every_part_goes_through_a_frame() {
        for part in [
            Site::User(Some((1, 2))),
            Site::User(None),
            Site::Path("*".into()),
            Site::File("ü".repeat(127)),
            Site::Ignore("favicon.ico".into()),
            Site::Proxy("10.0.0.0/8".parse().unwrap()),
            Site::Go(16),
        ] {
            let frame = Frame::Site(part);
            assert_eq!(decode(&encode(&frame, 7)), Some((frame, 7)));
        }
    }
}
