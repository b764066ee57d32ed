//! The fields of the frames about strikes, bans and the recovery PIN.

use super::bytes::{Reader, Writer};
use crate::access::Prefix;
use crate::engine::suspicion::{Ban, LONGEST_PIN, Pin, Rules, Verdict};
use crate::time::Unix;

impl Writer {
    pub(super) fn prefix(&mut self, prefix: &Prefix) -> &mut Writer {
        self.address(prefix.address()).put(&[prefix.length()])
    }

    pub(super) fn pin(&mut self, pin: &Pin) -> &mut Writer {
        let digits = pin.digits();
        self.put(&[digits.len() as u8]).put(digits);
        self.at += LONGEST_PIN - digits.len();
        self
    }

    pub(super) fn ban(&mut self, ban: &Ban) -> &mut Writer {
        self.prefix(&ban.prefix).put(&ban.until.0.to_be_bytes()).put(&[ban.times])
    }

    pub(super) fn verdict(&mut self, verdict: &Verdict) -> &mut Writer {
        let (kind, left, number) = match *verdict {
            Verdict::Counted { left } => (1, left, 0),
            Verdict::Blocked { until } => (2, 0, until.0),
            Verdict::Pardoned => (3, 0, 0),
            Verdict::Wrong { left, delay_ms } => (4, left, u64::from(delay_ms)),
            Verdict::Exempt => (5, 0, 0),
        };
        self.put(&[kind, left]).put(&number.to_be_bytes())
    }

    pub(super) fn rules(&mut self, rules: &Rules) -> &mut Writer {
        let Rules { budget, guesses, first, longest, never } = rules;
        self.put(&[*budget, *guesses]).put(&first.to_be_bytes()).put(&longest.to_be_bytes());
        self.put(&[never.len().min(MOST_NEVER) as u8]);
        never.iter().take(MOST_NEVER).for_each(|net| {
            self.prefix(net);
        });
        self
    }
}

/// The most networks that are never banned: as many as a frame holds, and a round number.
pub(super) const MOST_NEVER: usize = 24;

impl Reader<'_> {
    pub(super) fn prefix(&mut self) -> Option<Prefix> {
        let address = self.address()?;
        Prefix::new(address, self.byte()?).ok()
    }

    pub(super) fn pin(&mut self) -> Option<Pin> {
        let length = usize::from(self.byte()?);
        let field = zeroize::Zeroizing::new(self.take::<LONGEST_PIN>()?);
        Pin::new(field.get(..length)?)
    }

    pub(super) fn ban(&mut self) -> Option<Ban> {
        Some(Ban { prefix: self.prefix()?, until: Unix(self.u64()?), times: self.byte()? })
    }

    pub(super) fn verdict(&mut self) -> Option<Verdict> {
        let (kind, left, number) = (self.byte()?, self.byte()?, self.u64()?);
        Some(match kind {
            1 => Verdict::Counted { left },
            2 => Verdict::Blocked { until: Unix(number) },
            3 => Verdict::Pardoned,
            4 => Verdict::Wrong { left, delay_ms: u32::try_from(number).ok()? },
            5 => Verdict::Exempt,
            _ => return None,
        })
    }

    pub(super) fn rules(&mut self) -> Option<Rules> {
        let (budget, guesses) = (self.byte()?, self.byte()?);
        let (first, longest) = (self.u32()?, self.u32()?);
        let count = self.byte()?;
        let never = (0..count).map(|_| self.prefix()).collect::<Option<_>>()?;
        Some(Rules { budget, guesses, first, longest, never })
    }
}

#[cfg(test)]
mod tests {
    use crate::daemon::frame::{Frame, decode, encode};
    use crate::engine::suspicion::{Ban, Pin, Rules, Verdict};
    use crate::time::Unix;

    #[test]
    fn frames_about_suspects_go_both_ways() {
        let prefix = "2001:db8:1:2::/64".parse().unwrap();
        let from = "2001:db8::1".parse().unwrap();
        let pin = Pin::new(b"12345678901234567890123456789012").unwrap();
        let never = vec!["10.0.0.0/8".parse().unwrap(); super::MOST_NEVER];
        let verdict = |verdict| Frame::Verdict { ticket: u64::MAX, verdict };
        let frames = [
            Frame::Strike { ticket: 7, from },
            Frame::Guess { ticket: 8, from: "192.0.2.1".parse().unwrap(), pin: pin.clone() },
            verdict(Verdict::Counted { left: 2 }),
            verdict(Verdict::Blocked { until: Unix(u64::MAX) }),
            verdict(Verdict::Pardoned),
            verdict(Verdict::Wrong { left: 3, delay_ms: u32::MAX }),
            verdict(Verdict::Exempt),
            Frame::Ban(Ban { prefix, until: Unix(9), times: 255 }),
            Frame::Unban(prefix),
            Frame::Pardon("192.0.2.0/24".parse().unwrap()),
            Frame::Evict(prefix),
            Frame::Pin(pin),
            Frame::Rules(Rules { never, ..Rules::default() }),
        ];
        for frame in frames {
            let bytes = encode(&frame, 5);
            assert_eq!(decode(&bytes), Some((frame.clone(), 5)));
            let mut longer = bytes.clone();
            longer[511] = 1;
            assert_eq!(decode(&longer), None, "{frame:?}");
        }
        let mut letters = encode(&Frame::Pin(Pin::new(b"12345678").unwrap()), 0);
        letters[12] = b'x';
        assert_eq!(decode(&letters), None);
    }
}
