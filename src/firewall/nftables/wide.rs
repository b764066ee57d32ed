//! Openings that are not one address and one port, and the disjoint pieces that stand for them:
//! an interval set takes no two elements that overlap.

use super::plan::{Unit, exchange};
use super::sets::{Contents, Pair, WIDE4, WIDE6, pair, rectangle};
use super::{Element, Mono, Opening, disjoint};
use std::collections::BTreeMap;

/// The wide openings, and what stands for them in the kernel.
#[derive(Clone, Debug)]
pub(super) struct Wide {
    openings: BTreeMap<Element, Mono>,
    pieces: Pair<Mono>,
}

impl Wide {
    /// These openings, without what is over at `now`.
    pub(super) fn new(mut openings: BTreeMap<Element, Mono>, now: Mono) -> Wide {
        openings.retain(|_, until| *until > now);
        let list: Vec<Opening> =
            openings.iter().map(|(e, until)| Opening { element: *e, until: *until }).collect();
        let sets = [WIDE4, WIDE6];
        let parts = disjoint(&list).into_iter().map(|(r, until)| (rectangle(sets, &r), until));
        Wide { pieces: pair(sets, parts), openings }
    }

    /// As they are after a change.
    pub(super) fn after(
        &self,
        now: Mono,
        change: impl FnOnce(&mut BTreeMap<Element, Mono>),
    ) -> Wide {
        let mut openings = self.openings.clone();
        change(&mut openings);
        Wide::new(openings, now)
    }

    /// What the two sets shall hold.
    pub(super) fn contents(&self, now: Mono) -> Pair<Option<u64>> {
        let left = |until: &Mono| Some(until.since(now).max(1));
        self.pieces.clone().map(|(set, some)| {
            (set, some.into_iter().map(|(key, until)| (key, left(&until))).collect())
        })
    }

    /// What brings the kernel from this to `next`: pieces that stay are not touched.
    pub(super) fn unit(&self, next: &Wide, now: Mono) -> Unit {
        let mut unit = Unit::new();
        for ((set, before), (_, after)) in self.pieces.iter().zip(&next.pieces) {
            let gone = before.iter().filter(|(key, until)| after.get(*key) != Some(*until));
            let have: Contents = gone.map(|(key, _)| (key.clone(), None)).collect();
            let came = after.iter().filter(|(key, until)| before.get(*key) != Some(*until));
            let left = |until: &Mono| Some(until.since(now).max(1));
            let want: Contents = came.map(|(key, until)| (key.clone(), left(until))).collect();
            unit.extend(exchange(set, &have, &want));
        }
        unit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_touches_only_the_pieces_that_it_changes() {
        let element =
            |from: &str, to: &str| Element { from: from.parse().unwrap(), to: to.parse().unwrap() };
        let one = element("10.0.0.0/24", "tcp/80-90");
        let two = element("10.1.0.0/24", "tcp/80-90");
        let wide = Wide::new(BTreeMap::from([(one, Mono(900))]), Mono(0));
        let next = wide.after(Mono(0), |all| all.extend([(two, Mono(900))]));
        let kinds = |unit: Unit| unit.iter().map(|m| m.what.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(wide.unit(&next, Mono(0))), ["add elements to wide4"]);
        assert_eq!(
            kinds(next.unit(&wide, Mono(0))),
            ["add elements to wide4", "delete elements of wide4"]
        );
        let later = wide.after(Mono(0), |all| all.extend([(one, Mono(901))]));
        assert_eq!(wide.unit(&later, Mono(0)).len(), 3);
        assert!(wide.unit(&wide.after(Mono(1), |_| ()), Mono(1)).is_empty());
        assert_eq!(wide.after(Mono(900), |_| ()).contents(Mono(900))[0].1.len(), 0);
    }
}
