//! Which single addresses and ports a list of elements covers, without going through all of it.

use super::Element;
#[cfg(target_os = "linux")]
use crate::time::Mono;
#[cfg(target_os = "linux")]
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Elements: those of one address and one port are looked up, the few others gone through.
#[derive(Clone, Debug, Default)]
pub(super) struct Cover {
    hosts: BTreeSet<Element>,
    wide: BTreeSet<Element>,
}

fn is_host(element: &Element) -> bool {
    element.from.is_host() && element.to.is_single()
}

impl Cover {
    /// Of the lists of a whole turn.
    #[cfg(target_os = "linux")]
    pub(super) fn new(elements: impl Iterator<Item = Element>) -> Cover {
        let (hosts, wide) = elements.partition(is_host);
        Cover { hosts, wide }
    }

    pub(super) fn insert(&mut self, element: Element) {
        match is_host(&element) {
            true => self.hosts.insert(element),
            false => self.wide.insert(element),
        };
    }

    pub(super) fn remove(&mut self, element: &Element) {
        match is_host(element) {
            true => self.hosts.remove(element),
            false => self.wide.remove(element),
        };
    }

    /// Which of many elements of one address and one port lie in one of them.
    #[cfg(target_os = "linux")]
    pub(super) fn among(&self, many: &BTreeMap<Element, Mono>) -> Vec<Element> {
        match self.wide.is_empty() {
            true => self.hosts.iter().filter(|e| many.contains_key(e)).copied().collect(),
            false => many.keys().filter(|e| self.covers(e)).copied().collect(),
        }
    }

    /// Whether all of `through` lies in one of them.
    pub(super) fn covers(&self, through: &Element) -> bool {
        let holds = |e: &Element| e.from.contains(&through.from) && e.to.contains(&through.to);
        self.hosts.contains(through) || self.wide.iter().any(holds)
    }
}
