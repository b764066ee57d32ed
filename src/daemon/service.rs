//! A service in a frame.

use super::bytes::{Reader, Writer};
use super::codes::{assurance_number, assurance_of};
use super::config::MOST_RANGES;
use crate::access::{OnExpiry, Refuse, Service, ServiceId};

impl Writer {
    pub(super) fn service(&mut self, s: &Service) {
        self.put(&s.id.0).text(&s.name).put(&[s.require.map_or(0, assurance_number)]);
        self.put(&[u8::from(s.on_expiry == OnExpiry::Cut), u8::from(s.refuse == Refuse::Reset)]);
        self.put(&s.while_connected.unwrap_or_default().to_be_bytes());
        self.put(&[s.ports.len().min(MOST_RANGES) as u8]);
        for p in s.ports.iter().take(MOST_RANGES) {
            self.ports(p);
        }
    }
}

impl Reader<'_> {
    pub(super) fn service(&mut self) -> Option<Service> {
        let (id, name, require) = (ServiceId(self.take()?), self.text()?, self.byte()?);
        let on_expiry = if self.flag()? { OnExpiry::Cut } else { OnExpiry::Keep };
        let refuse = if self.flag()? { Refuse::Reset } else { Refuse::Drop };
        let while_connected = Some(self.u32()?).filter(|seconds| *seconds != 0);
        let require = if require == 0 { None } else { Some(assurance_of(require)?) };
        let count = self.byte()?;
        let ports = (0..count).map(|_| self.ports()).collect::<Option<_>>()?;
        Some(Service { id, name, ports, require, on_expiry, while_connected, refuse })
    }
}
