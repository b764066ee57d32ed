//! Whose sessions have been ended, and that they stay so.

use super::{Cover, Element, Error, Iptables, Mode, Opening, sets};
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

    /// Takes those away that an opening covers; which.
    pub(super) fn lift(&mut self, openings: &[Opening]) -> Vec<Element> {
        let open = Cover::new(openings.iter().map(|o| o.element));
        let gone = open.among(&self.cuts);
        gone.iter().for_each(|element| {
            self.cuts.remove(element);
        });
        gone
    }

    /// Tells the kernel about these, which `cuts` has in their new state.
    pub(super) fn tell_cuts(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        if elements.is_empty() {
            return Ok(());
        }
        let families = self.families()?;
        let here = |e: &&Element| families.iter().any(|(family, _)| family.has(e));
        let here: Vec<Element> = elements.iter().filter(here).copied().collect();
        self.ipset(&sets::cuts(&here, &self.cuts, now))
    }
}
