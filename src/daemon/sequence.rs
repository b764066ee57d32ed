//! The older ways in as they stand in frames.

use super::bytes::{Reader, Writer};
use super::config::{How, MOST_STEPS};
use super::frame::Frame;
use crate::access::{Access, ClientId, Protocol};
use crate::crypto::KnockKey;
use crate::engine::{Knock, Sequence, Step};
use crate::proto::{MOST_AVOIDED, TimedKnock};

/// The frames that tell `[engine]` of one entry.
pub(super) fn frames(access: Access, how: How) -> Vec<Frame> {
    let knock = match how {
        How::Plain(plain) => return vec![Frame::Plain(access, plain)],
        How::Knock(knock) => knock,
    };
    let line = |steps: &Vec<Step>| Frame::Line(knock.client, steps.clone());
    let lines: Vec<Frame> = match &knock.sequence {
        Sequence::OneTime(lines) => lines.iter().map(line).collect(),
        Sequence::Fixed { .. } | Sequence::Timed(_) => Vec::new(),
    };
    std::iter::once(Frame::Knock(access, knock)).chain(lines).collect()
}

impl Writer {
    /// The one-time sequences follow in frames of their own.
    pub(super) fn knock(&mut self, knock: &Knock) -> &mut Writer {
        self.put(&knock.client.0).put(&knock.window.to_be_bytes());
        self.put(&[u8::from(knock.total.is_some())]);
        self.put(&knock.total.unwrap_or_default().to_be_bytes());
        match &knock.sequence {
            Sequence::Fixed { open, close } => self.put(&[0]).steps(open).steps(close),
            Sequence::OneTime(_) => self.put(&[1]),
            Sequence::Timed(timed) => {
                self.put(&[2]).put(timed.key.bytes()).put(&[timed.steps]);
                self.put(&[timed.avoid.len().min(MOST_AVOIDED) as u8]);
                for port in timed.avoid.iter().take(MOST_AVOIDED) {
                    self.put(&port.to_be_bytes());
                }
                self
            }
        }
    }

    pub(super) fn steps(&mut self, steps: &[Step]) -> &mut Writer {
        self.put(&[steps.len().min(MOST_STEPS) as u8]);
        for step in steps.iter().take(MOST_STEPS) {
            self.put(&[step.protocol.number()]).put(&step.port.to_be_bytes());
        }
        self
    }
}

impl Reader<'_> {
    pub(super) fn knock(&mut self) -> Option<Knock> {
        let (client, window) = (ClientId(self.take()?), self.u64()?);
        let (some, total) = (self.flag()?, self.u64()?);
        let sequence = match self.byte()? {
            0 => Sequence::Fixed { open: self.steps()?, close: self.steps()? },
            1 => Sequence::OneTime(Vec::new()),
            2 => {
                let (key, steps) = (KnockKey::new(self.take()?), self.byte()?);
                let count = self.byte()?;
                let avoid = (0..count).map(|_| self.u16()).collect::<Option<_>>()?;
                Sequence::Timed(TimedKnock { key, steps, avoid })
            }
            _ => return None,
        };
        Some(Knock { client, sequence, window, total: some.then_some(total) })
    }

    pub(super) fn steps(&mut self) -> Option<Vec<Step>> {
        let count = self.byte()?;
        let mut step = || {
            let protocol = Protocol::from_number(self.byte()?)?;
            Some(Step { protocol, port: self.u16()? })
        };
        (0..count).map(|_| step()).collect()
    }
}
