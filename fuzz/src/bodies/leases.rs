//! What a restart brings back of grants: a list of words in the order in which they were said.

use super::model::{Said, addresses};

/// One grant, or the end of some.
#[derive(Clone, Debug)]
pub struct Word {
    pub said: Said,
    pub until: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    word: Word,
    number: u64,
    /// The same was not said again.
    latest: bool,
}

/// What has been said and is not made meaningless by what was said later in the same words.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    entries: Vec<Entry>,
    /// Client, and the number of his last word that ended leases.
    ended: Vec<(usize, u64)>,
    number: u64,
}

impl Leases {
    /// As the journal is read.
    pub fn read(words: &[Word]) -> Leases {
        let mut leases = Leases::default();
        words.iter().for_each(|w| leases.note(w));
        leases
    }

    pub fn words(&self) -> Vec<Word> {
        self.entries.iter().map(|e| e.word.clone()).collect()
    }

    pub fn note(&mut self, word: &Word) {
        let mut word = word.clone();
        let Said { client, close, replace, .. } = word.said;
        if close {
            if let Some(same) = self.take(&word.said, true, replace) {
                word.said.time = word.said.time.max(same.said.time);
            }
            self.take(&word.said, false, replace);
            if replace {
                let older = |w: &Word| w.said.time <= word.said.time;
                if self.find(&word.said, true, false).is_some_and(|n| older(&self.entries[n].word))
                {
                    self.take(&word.said, true, false);
                }
                self.take(&word.said, false, false);
            }
        } else if let Some(n) = self.find(&word.said, false, replace) {
            let old = self.entries[n].clone();
            word.said.time = word.said.time.max(old.word.said.time);
            if !self.ended.iter().any(|(c, number)| *c == client && *number > old.number) {
                word.until = word.until.max(old.word.until);
            }
            if word.until >= old.word.until {
                self.entries.remove(n);
            } else {
                self.entries[n].latest = false;
            }
        }
        self.number += 1;
        if close || replace {
            self.ended.push((client, self.number));
        }
        self.entries.push(Entry { word, number: self.number, latest: true });
    }

    fn find(&self, said: &Said, close: bool, replace: bool) -> Option<usize> {
        self.entries.iter().position(|e| {
            let other = &e.word.said;
            e.latest
                && (other.client, other.close, other.replace) == (said.client, close, replace)
                && addresses(other) == addresses(said)
                && other.names == said.names
        })
    }

    fn take(&mut self, said: &Said, close: bool, replace: bool) -> Option<Word> {
        self.find(said, close, replace).map(|n| self.entries.remove(n).word)
    }
}
