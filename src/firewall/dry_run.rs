//! Changes nothing and says what it would: for tests and try-outs.

use super::{Bar, Element, Error, Firewall, Opening, Shield};
use crate::access::Prefix;
use crate::time::{Mono, Now, Seconds};
use std::collections::BTreeMap;

/// A firewall without a kernel, which remembers what would be open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DryRun {
    shield: Shield,
    openings: BTreeMap<Element, Mono>,
    bars: BTreeMap<Prefix, Mono>,
    up: bool,
}

impl DryRun {
    /// One in which nothing is open.
    #[must_use]
    pub fn new(shield: &Shield) -> DryRun {
        DryRun {
            shield: shield.clone(),
            openings: BTreeMap::new(),
            bars: BTreeMap::new(),
            up: false,
        }
    }

    /// What would be open at `now`.
    #[must_use]
    pub fn openings(&self, now: Now) -> Vec<Opening> {
        let live = self.openings.iter().filter(|(_, until)| **until > now.mono);
        live.map(|(element, until)| Opening { element: *element, until: *until }).collect()
    }

    /// Who would be banned at `now`.
    #[must_use]
    pub fn bars(&self, now: Now) -> Vec<Bar> {
        let live = self.bars.iter().filter(|(_, until)| **until > now.mono);
        live.map(|(from, until)| Bar { from: *from, until: *until }).collect()
    }

    fn put(&mut self, openings: &[Opening], now: Now) {
        for Opening { element, until } in openings.iter().filter(|o| o.until > now.mono) {
            let left = Seconds(until.since(now.mono).div_ceil(1_000));
            log::info!("would open {} for {} ({left})", element.to, element.from);
            self.openings.insert(*element, *until);
        }
    }
}

impl Firewall for DryRun {
    fn sync(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        for (ports, _) in &self.shield.protected {
            log::info!("would shut {ports}");
        }
        self.up = true;
        self.openings.clear();
        self.put(openings, now);
        for Bar { from, .. } in self.bars(now) {
            log::info!("would ban {from}");
        }
        Ok(())
    }

    fn cut(
        &mut self,
        elements: &[Element],
        _: &dyn Fn(&Element) -> bool,
        now: Now,
    ) -> Result<(), Error> {
        self.close(elements, now)
    }

    fn connected(&mut self, _: &[Element]) -> Result<Vec<Element>, Error> {
        Ok(Vec::new())
    }

    fn set_bars(&mut self, bars: &[Bar]) {
        self.bars = bars.iter().map(|bar| (bar.from, bar.until)).collect();
    }

    fn bar(&mut self, bars: &[Bar], now: Now) -> Result<(), Error> {
        self.bars.retain(|_, until| *until > now.mono);
        for Bar { from, until } in bars {
            let left = Seconds(until.since(now.mono).div_ceil(1_000));
            log::info!("would ban {from} ({left})");
            self.bars.insert(*from, *until);
        }
        Ok(())
    }

    fn unbar(&mut self, from: &[Prefix], _: Now) -> Result<(), Error> {
        for prefix in from.iter().filter(|p| self.bars.remove(p).is_some()) {
            log::info!("would ban {prefix} no more");
        }
        Ok(())
    }

    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        self.openings.retain(|_, until| *until > now.mono);
        self.put(openings, now);
        Ok(())
    }

    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        self.openings.retain(|_, until| *until > now.mono);
        for element in elements {
            if self.openings.remove(element).is_some() {
                log::info!("would close {} for {}", element.to, element.from);
            }
        }
        Ok(())
    }

    fn is_up(&mut self) -> Result<bool, Error> {
        Ok(self.up)
    }

    fn uninstall(&mut self) -> Result<(), Error> {
        log::info!("would take the shield away");
        self.up = false;
        self.openings.clear();
        self.bars.clear();
        Ok(())
    }

    fn describe(&self) -> String {
        "dry run: no packet filter is changed".to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Unix;

    #[test]
    fn it_remembers_what_would_be_open_and_until_when() {
        let at = |mono| Now { unix: Unix(0), mono: Mono(mono) };
        let open = |from: &str, until| Opening {
            element: Element { from: from.parse().unwrap(), to: "tcp/22".parse().unwrap() },
            until: Mono(until),
        };
        let (a, b) = (open("192.0.2.1", 50), open("192.0.2.2", 70));
        let mut dry = DryRun::new(&Shield::default());
        dry.sync(&[a, open("192.0.2.3", 10)], at(10)).unwrap();
        dry.open(&[b], at(10)).unwrap();
        assert_eq!(dry.openings(at(10)), [a, b]);
        let longer = open("192.0.2.1", 90);
        dry.open(&[longer], at(20)).unwrap();
        assert_eq!(dry.openings(at(50)), [longer, b]);
        assert_eq!(dry.openings(at(70)), [longer]);
        dry.close(&[a.element, open("192.0.2.9", 0).element], at(70)).unwrap();
        assert_eq!(dry.openings(at(70)), []);
        dry.sync(&[b], at(20)).unwrap();
        dry.uninstall().unwrap();
        assert_eq!(dry.openings(at(20)), []);
    }
}
