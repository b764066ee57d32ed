//! Whose sessions have been ended, and that they stay so.

use super::plan::{self, Unit};
use super::sets::{self, CUT4, CUT6, Key, Pair, pair};
use super::{Cover, Element, Error, Form, Nftables, Opening, Patience};
use crate::time::Mono;
use std::collections::BTreeMap;

/// How long what still comes of an ended connection is dropped, in milliseconds: its other side
/// gives up in that time, or learns of the end by a reset.
const ECHO: u64 = 300_000;

/// Address and port, and until when what comes by them is dropped unless a lease lets it in.
pub(super) type Cuts = BTreeMap<Element, Mono>;

fn keys<T>(cuts: impl Iterator<Item = (Element, T)>) -> Pair<T> {
    pair([CUT4, CUT6], cuts.filter_map(|(element, value)| Some((sets::cut(&element)?, value))))
}

/// What the two sets shall hold.
pub(super) fn contents(cuts: &Cuts, now: Mono) -> Pair<Option<u64>> {
    let live = cuts.iter().filter(|(_, until)| **until > now);
    keys(live.map(|(element, until)| (*element, Some(until.since(now)))))
}

/// Takes those away that an opening covers; what that is in the kernel.
pub(super) fn lift(cuts: &mut Cuts, openings: &[Opening]) -> Vec<Unit> {
    let open = Cover::new(openings.iter().map(|o| o.element));
    let gone = open.among(cuts);
    gone.iter().for_each(|element| {
        cuts.remove(element);
    });
    let gone = keys(gone.into_iter().map(|element| (element, ())));
    gone.iter().flat_map(|(set, all)| plan::remove(set, all.keys())).collect()
}

impl Nftables {
    /// Drops what comes from these addresses to these ports from now on.
    pub(super) fn shut(&mut self, elements: &[Element], now: Mono) -> Result<(), Error> {
        // There are no such sets, and the machine's own rules drop what belongs to no connection.
        if matches!(self.shield.form, Form::Chain { .. }) {
            return Ok(());
        }
        self.cuts.retain(|_, until| *until > now);
        let until = now.plus(ECHO);
        self.cuts.extend(elements.iter().map(|element| (*element, until)));
        let fresh = keys(elements.iter().map(|element| (*element, Some(ECHO))));
        let units: Vec<Unit> = fresh
            .iter()
            .flat_map(|(set, all)| {
                let all: Vec<(&Key, Option<u64>)> =
                    all.iter().map(|(k, left)| (k, *left)).collect();
                plan::renew(set, &all)
            })
            .collect();
        Ok(self.commit(&units, self.socket.room(), &mut Patience::default())?)
    }
}
