//! Who has made the first step lately: a Bloom filter (Bloom 1970) whose cells are moments.
//!
//! A cell holds the latest moment at which any key that meets it was put in, so the earliest of a
//! key's cells is never before its own moment: who was put in is found, and found at the right
//! time or later. What is too long ago counts for nothing, so nothing has to be taken out, and a
//! flood makes the answer less exact and the memory no larger.

use super::Place;
use crate::crypto::halfsiphash;
use crate::time::Mono;
use std::net::IpAddr;

/// Cells: 4 MiB.
const CELLS: u32 = 1 << 20;
/// Cells of one key.
const HASHES: u32 = 4;
/// Milliseconds in a unit of a cell's moment, by shift: 16, so that 32 bits last for two years.
const SHIFT: u32 = 4;

/// The filter.
pub(super) struct Filter {
    keys: [[u8; 8]; 2],
    /// 0: nobody yet.
    cells: Vec<u32>,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Filter").finish_non_exhaustive()
    }
}

/// A moment as a cell has it: never 0.
fn unit(now: Mono) -> u32 {
    ((now.0 >> SHIFT) as u32).max(1)
}

impl Filter {
    /// Empty; pages that nobody has touched cost no memory.
    pub(super) fn new(salt: [u8; 16]) -> Filter {
        let [a, b, c, d, e, f, g, h, rest @ ..] = salt;
        Filter { keys: [[a, b, c, d, e, f, g, h], rest], cells: vec![0; CELLS as usize] }
    }

    /// Kirsch and Mitzenmacher 2006: two hashes are as good as many.
    fn cells_of(&self, place: &Place) -> impl Iterator<Item = usize> + use<> {
        let mut bytes = [0; 20];
        match place.0 {
            IpAddr::V4(a) => bytes[..16].copy_from_slice(&a.to_ipv6_mapped().octets()),
            IpAddr::V6(a) => bytes[..16].copy_from_slice(&a.octets()),
        }
        bytes[16..].copy_from_slice(&place.1.to_be_bytes());
        let [one, two] = self.keys.map(|key| halfsiphash(&key, &bytes));
        // An odd stride meets no cell twice.
        (0..HASHES).map(move |i| (one.wrapping_add(i.wrapping_mul(two | 1)) % CELLS) as usize)
    }

    /// This one has made the first step now.
    pub(super) fn put(&mut self, place: &Place, now: Mono) {
        for cell in self.cells_of(place) {
            if let Some(cell) = self.cells.get_mut(cell) {
                *cell = unit(now);
            }
        }
    }

    /// When this one has made the first step, or up to 15 ms later; `None`: never.
    pub(super) fn moment(&self, place: &Place, now: Mono) -> Option<Mono> {
        let at = |cell: usize| self.cells.get(cell).copied().filter(|unit| *unit != 0);
        let ages = self.cells_of(place).map(|cell| Some(unit(now).wrapping_sub(at(cell)?)));
        let age = ages.collect::<Option<Vec<u32>>>()?.into_iter().max()?;
        // The last millisecond of that unit: nobody's time is cut short.
        let unit = (now.0 >> SHIFT).saturating_sub(u64::from(age));
        Some(Mono(now.0.min((unit << SHIFT) | ((1 << SHIFT) - 1))))
    }
}
