//! How the rules and sets come into the kernel: as a whole, by `sync`.

use super::{Error, Family, Iptables, Mode, Rules, Table, Tools, elsewhere, rules, sessions, sets};
use crate::access::Ports;
use crate::time::Now;

impl Iptables {
    pub(super) fn ipset(&self, text: &str) -> Result<(), Error> {
        match &self.ipset {
            Some((ipset, _)) if !text.is_empty() => {
                ipset.run(&["restore", "-exist"], text).map(drop)
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Reads the sessions older than the shield; the last known ones where that fails.
    pub(super) fn look(&mut self) -> bool {
        let protected: Vec<Ports> = self.shield.protected.iter().map(|(p, _)| *p).collect();
        match sessions::read(&protected) {
            Ok(older) => {
                self.older = older;
                self.older.retain(|s| !self.cuts.contains_key(&s.through()));
                true
            }
            Err(e) => {
                if !std::mem::replace(&mut self.told.sessions, true) {
                    log::warn!("sessions older than the shield may be cut: sock_diag says {e}");
                }
                false
            }
        }
    }

    /// The shield of all families; where one fails the others are still done.
    fn protect(&self, families: &[(Family, Tools)], mode: Mode, now: Now) -> Result<(), Error> {
        let mut result = Ok(());
        for (family, tools) in families {
            let table = rules::main(&self.shield, *family);
            let text = self.rules(*family, mode, now).main();
            result = result.and(tools.install(&table, &text));
        }
        result
    }

    /// Fills the sets. A set of ours that is of another kind is made anew, while rules stand in
    /// for it.
    fn fill(&self, families: &[(Family, Tools)], known: bool, now: Now) -> Result<(), Error> {
        let older = known.then_some(self.older.as_slice());
        let lists = sets::Lists { openings: &self.openings, bars: &self.bars, cuts: &self.cuts };
        let one = |family| sets::fill(family, &lists, older, self.shield.observe, now);
        let text = || families.iter().map(|(family, _)| one(*family));
        let Err(error) = self.ipset(&text().collect::<String>()) else { return Ok(()) };
        let Error::Refused(why) = &error else { return Err(error) };
        log::warn!("the sets are made anew: {why}");
        self.protect(families, Mode::Rules, now)?;
        self.lead(families, Mode::Rules, now)?;
        self.destroy()?;
        self.ipset(&text().collect::<String>())
    }

    /// Fills the sets and puts the shield before the ports: with what works, and shut otherwise. How
    /// it stands, if it does, and what has failed first on the way.
    pub(super) fn enforce(
        &self,
        families: &[(Family, Tools)],
        known: bool,
        now: Now,
    ) -> (Option<Mode>, Result<(), Error>) {
        let mut first = Ok(());
        let mut modes = vec![Mode::Rules, Mode::Shut];
        if self.ipset.is_some() {
            first = self.fill(families, known, now);
            if first.is_ok() {
                modes.insert(0, Mode::Sets);
            }
        }
        for mode in modes {
            let done = self.protect(families, mode, now);
            let lesser = matches!(done, Err(Error::Missing(_) | Error::Refused(_)));
            let worked = done.is_ok();
            first = first.and(done);
            if worked {
                return (Some(mode), first);
            }
            // What is locked or forbidden is so for simpler rules too.
            if !lesser {
                break;
            }
        }
        (None, first)
    }

    /// Keeps our own UDP ports out of connection tracking, which is a comfort: a kernel that
    /// cannot is no reason to stay open.
    pub(super) fn untrack(&mut self, families: &[(Family, Tools)]) -> Result<(), Error> {
        if !rules::untracks(&self.shield) {
            return Ok(());
        }
        let text = rules::untracked(&self.shield);
        for (_, tools) in families {
            match tools.install(&Table::raw(), &text) {
                Ok(()) => {}
                Err(e @ (Error::Rights | Error::Busy(_))) => return Err(e),
                Err(e @ (Error::Missing(_) | Error::Refused(_))) => {
                    if !std::mem::replace(&mut self.told.raw, true) {
                        log::warn!("the server's own ports stay in connection tracking: {e}");
                    }
                }
            }
        }
        Ok(())
    }

    /// What the rules of a family are made of.
    pub(super) fn rules(&self, family: Family, mode: Mode, now: Now) -> Rules<'_> {
        let (shield, older, openings) = (&self.shield, &self.older, &self.openings);
        Rules { shield, family, mode, older, openings, now }
    }

    /// Leads lease holders on to the hosts behind this one.
    pub(super) fn lead(
        &self,
        families: &[(Family, Tools)],
        mode: Mode,
        now: Now,
    ) -> Result<(), Error> {
        let mut result = Ok(());
        for (family, tools) in families {
            if elsewhere::leads(&self.shield, *family) {
                let text = self.rules(*family, mode, now).ahead();
                result = result.and(tools.install(&Table::nat(), &text));
            }
        }
        result
    }

    /// Takes away what a run with another shape of shield has left, once.
    pub(super) fn sweep(&mut self, families: &[(Family, Tools)]) -> Result<(), Error> {
        if self.swept {
            return Ok(());
        }
        for (family, tools) in families {
            let wanted = rules::tables(&self.shield, *family);
            for table in tools.left()? {
                if wanted.iter().all(|w| w.name != table.name) {
                    tools.remove(&table)?;
                }
            }
        }
        self.swept = true;
        Ok(())
    }
}
