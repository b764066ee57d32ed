//! The frames about hooks: what `[engine]` remembers of them, and what `[hook]` runs.

use super::bytes::{Reader, Writer};
use super::config::{LONGEST_WORD, Value, Word};
use super::store::{NOTE, decode_note, encode_note};
use crate::access::{Ports, Prefix};
use crate::engine::{NAME, Name, Note};

/// The kind of these frames.
pub(super) const KIND: u8 = 41;

/// What a frame about hooks says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Hook {
    /// To `[engine]`: to be remembered. From it: this is remembered, or owed since before a start.
    Note(Note),
    /// To `[hook]`: the user and group to become; none: the user is shared.
    User(Option<(u32, u32)>),
    /// To `[hook]`: one more word of the command that follows.
    Word(Word),
    /// To `[hook]`: run the words before.
    Run(Order),
    /// From `[hook]`: it has ended, or was ended.
    Ended(u64),
}

/// What is to be run, and what it is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Names it.
    pub ticket: u64,
    /// How long it may take: seconds.
    pub timeout: u32,
    /// A lease begins, or ends.
    pub event: Event,
    /// Whose.
    pub client: Name,
    /// To what.
    pub service: String,
    /// From where.
    pub from: Prefix,
    /// To which ports.
    pub to: Ports,
    /// How long it lasts from now on.
    pub seconds: u64,
}

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// A lease begins.
    Open,
    /// It has ended.
    Close,
}

impl Event {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Event::Open => "open",
            Event::Close => "close",
        }
    }
}

impl Writer {
    /// Writes it, and says which kind of frame that is.
    pub(super) fn hook(&mut self, what: &Hook) -> u8 {
        match what {
            Hook::Note(note) => self.put(&[1]).put(&encode_note(note)),
            Hook::User(user) => {
                let (uid, gid) = user.unwrap_or_default();
                self.put(&[2, u8::from(user.is_some())]);
                self.put(&uid.to_be_bytes()).put(&gid.to_be_bytes())
            }
            Hook::Word(Word::Text(text)) => {
                // Checked where it comes from.
                let bytes = &text.as_bytes()[..text.len().min(LONGEST_WORD)];
                self.put(&[3, bytes.len() as u8]).put(bytes)
            }
            Hook::Word(Word::Value(value)) => {
                let number = Value::ALL.iter().position(|v| v == value).unwrap_or_default();
                self.put(&[4, number as u8])
            }
            Hook::Run(o) => {
                self.put(&[5]).put(&o.ticket.to_be_bytes()).put(&o.timeout.to_be_bytes());
                self.put(&[u8::from(o.event == Event::Close)]).put(&o.client.0).text(&o.service);
                self.prefix(&o.from).ports(&o.to).put(&o.seconds.to_be_bytes())
            }
            Hook::Ended(ticket) => self.put(&[6]).put(&ticket.to_be_bytes()),
        };
        KIND
    }
}

impl Reader<'_> {
    pub(super) fn hook(&mut self) -> Option<Hook> {
        Some(match self.byte()? {
            1 => Hook::Note(decode_note(&self.take::<NOTE>()?)?),
            2 => {
                let some = self.flag()?;
                let user = (self.u32()?, self.u32()?);
                Hook::User(some.then_some(user))
            }
            3 => {
                let length = self.byte()?;
                let bytes: Option<Vec<u8>> = (0..length).map(|_| self.byte()).collect();
                Hook::Word(Word::Text(String::from_utf8(bytes?).ok()?))
            }
            4 => Hook::Word(Word::Value(*Value::ALL.get(usize::from(self.byte()?))?)),
            5 => Hook::Run(Order {
                ticket: self.u64()?,
                timeout: self.u32()?,
                event: if self.flag()? { Event::Close } else { Event::Open },
                client: Name(self.take::<NAME>()?),
                service: self.text()?,
                from: self.prefix()?,
                to: self.ports()?,
                seconds: self.u64()?,
            }),
            6 => Hook::Ended(self.u64()?),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{ClientId, ServiceId};
    use crate::daemon::frame::{Frame, decode, encode};
    use crate::engine::{Moment, Subject};

    #[test]
    fn every_part_goes_through_a_frame() {
        let (from, to) = ("2001:db8:1::/48".parse().unwrap(), "udp/1-65535".parse().unwrap());
        let subject = Subject { service: ServiceId([1; 4]), client: ClientId([2; 8]), from, to };
        // A name is bytes; what they say to a shell or a terminal is nobody's business here.
        let name = Name::new("-x\n\"'$(id)\u{1b}[0m");
        let order = |event| Order {
            ticket: u64::MAX,
            timeout: 600,
            event,
            client: name,
            service: "s".repeat(64),
            from,
            to,
            seconds: 30,
        };
        for part in [
            Hook::Note(Note { moment: Moment::Closing, subject, name }),
            Hook::User(Some((1, 2))),
            Hook::User(None),
            Hook::Word(Word::Text("ü".repeat(127))),
            Hook::Word(Word::Text(String::new())),
            Hook::Word(Word::Value(Value::Seconds)),
            Hook::Run(order(Event::Open)),
            Hook::Run(order(Event::Close)),
            Hook::Ended(7),
        ] {
            let frame = Frame::Hook(part);
            let mut bytes = encode(&frame, 7);
            assert_eq!(decode(&bytes), Some((frame.clone(), 7)));
            bytes[511] = 1;
            assert_eq!(decode(&bytes), None, "{frame:?}");
        }
    }
}
