//! Whose sessions have been ended, and that they stay so.

use super::{Element, Error, Iptables, Mode, Opening, sets};
use crate::time::{Mono, Now};
use std::collections::BTreeMap;

/// How long what still comes of an ended connection is dropped, in milliseconds: its other side
/// gives up in that time, or learns of the end by a reset.
const ECHO: u64 = 300_000;

/// Address and port, and until when what comes by them is dropped unless a lease lets it in.
pub(super) type Cuts = BTreeMap<Element, Mono>;

impl Iptables {
    /// Drops what comes from these addresses to these ports from now on.
    pub(super) fn shut(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        self.cuts.retain(|_, until| *until > now.mono);
        let until = now.mono.plus(ECHO);
        self.cuts.extend(elements.iter().map(|element| (*element, until)));
        match self.mode {
            Some(Mode::Sets) => self.tell_cuts(elements, now),
            Some(Mode::Rules | Mode::Shut) | None => Ok(()),
        }
    }

    /// Takes those away that an opening covers.
    pub(super) fn lift(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        let covers = |e: &Element, o: &Opening| {
            o.element.from.contains(&e.from) && o.element.to.contains(&e.to)
        };
        let gone: Vec<Element> =
            self.cuts.keys().filter(|e| openings.iter().any(|o| covers(e, o))).copied().collect();
        gone.iter().for_each(|element| {
            self.cuts.remove(element);
        });
        self.tell_cuts(&gone, now)
    }

    fn tell_cuts(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        let families = self.families()?;
        let here = |e: &&Element| families.iter().any(|(family, _)| family.has(e));
        let here: Vec<Element> = elements.iter().filter(here).copied().collect();
        self.ipset(&sets::cuts(&here, &self.cuts, now))
    }
}
