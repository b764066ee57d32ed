//! The shield and the leases by pf: macOS, FreeBSD, OpenBSD, through pfctl(8).
//!
//! Ours is one anchor, with its tables: who is in a table passes, and blocks are last. pf forgets no
//! address by itself, so an end is kept here, and what an earlier run has left is taken away at the
//! first `sync`. An anchor that the main rules do not evaluate, and a pf that is not enabled, are
//! loaded without a word and protect nothing: each `sync` and each look ask for both.
//!
//! It has not been run on one of these systems yet; its texts are held against what their pfctl said.

mod pfctl;
mod tables;
mod text;
mod token;

use super::{Bar, Element, Error, Firewall, Form, Forward, Opening, Program, Shield};
use crate::access::{Ports, Prefix, Refuse};
use crate::time::{Mono, Now};
use pfctl::{Change, Pfctl};
use std::collections::{BTreeMap, BTreeSet};
use tables::BANNED;
use text::Reference;
pub use text::System;

/// One anchor of pf.
#[derive(Debug)]
pub struct Pf {
    shield: Shield,
    pfctl: Pfctl,
    system: System,
    openings: BTreeMap<Element, Mono>,
    bars: BTreeMap<Prefix, Mono>,
    /// The tables that the loaded rules look into.
    tables: BTreeSet<Ports>,
    /// The rules as pf says them, once a `sync` has succeeded and no step failed since.
    loaded: Option<String>,
    told: Told,
}

/// What the log has been told, once.
#[derive(Debug, Default)]
struct Told {
    reference: Option<Reference>,
    room: bool,
}

impl Pf {
    /// Finds pfctl.
    ///
    /// # Errors
    /// [`Error::Missing`] where there is none.
    pub fn new(shield: &Shield, system: System) -> Result<Pf, Error> {
        text::can(shield, system)?;
        Ok(Pf {
            shield: shield.clone(),
            pfctl: Pfctl::find()?,
            system,
            openings: BTreeMap::new(),
            bars: BTreeMap::new(),
            tables: BTreeSet::new(),
            loaded: None,
            told: Told::default(),
        })
    }

    /// The tables for what is open now; says once if there is no room for all.
    fn wanted(&mut self) -> BTreeSet<Ports> {
        let routed = self.shield.routed.iter().map(|r| r.ports);
        let protected = self.shield.protected.iter().map(|(ports, _)| *ports).chain(routed);
        let wanted = tables::wanted(protected, &self.tables, self.openings.keys());
        let left_out = self.openings.keys().find(|e| !wanted.contains(&e.to));
        match left_out {
            Some(element) if !std::mem::replace(&mut self.told.room, true) => log::warn!(
                "pf: too many different ranges of ports: {} stays shut for {}; make it a service",
                element.to,
                element.from
            ),
            Some(_) | None => {}
        }
        wanted
    }

    /// Loads rules for these tables, and fills those that the rules before did not look into.
    fn load(&mut self, wanted: BTreeSet<Ports>) -> Result<(), Error> {
        self.pfctl.load(&text::rules(&self.shield, &wanted))?;
        let before = std::mem::replace(&mut self.tables, wanted);
        // No rule looks into them; what stood in them must not come back with the next rule.
        for ports in before.difference(&self.tables) {
            self.pfctl.remove_table(&tables::name(ports))?;
        }
        self.fill(self.tables.difference(&before))
    }

    /// Makes these tables hold what is open now.
    fn fill<'a>(&self, some: impl Iterator<Item = &'a Ports>) -> Result<(), Error> {
        let mut contents = tables::contents(self.openings.keys());
        for ports in some {
            let addresses = contents.remove(ports).unwrap_or_default();
            self.pfctl.replace(&tables::name(ports), &addresses)?;
        }
        Ok(())
    }

    /// What pf says about the rules that have just been loaded.
    fn read_back(&self) -> Result<String, Error> {
        let rules = self.pfctl.rules()?;
        let blocks = rules.lines().filter(|l| l.trim_start().starts_with("block")).count();
        let wanted = match self.shield.form {
            Form::Shield => self.shield.protected.len() + self.shield.routed.len(),
            Form::Mark(_) | Form::Chain { .. } => 0,
        };
        match blocks >= wanted {
            true => Ok(rules),
            false => Err(Error::Refused(format!(
                "pf holds {blocks} of our blocks for {wanted} ranges of ports: another program \
                 changes the anchor `{}`",
                text::ANCHOR
            ))),
        }
    }

    /// That pf is enabled and evaluates our rules; where enabling is counted it is done here.
    fn stand(&mut self) -> Result<(), Error> {
        let mut enabled = self.pfctl.is_enabled()?;
        if self.system == System::MacOs && !(enabled && token::is_held()) {
            if !enabled {
                log::warn!("pf was off and is enabled: sessions through protected ports are cut");
            }
            token::keep(&self.pfctl.enable()?);
            enabled = self.pfctl.is_enabled()?;
        }
        match self.reference(enabled) {
            Ok(reference) => self.tell(reference),
            Err(why) => {
                self.told.reference = None;
                return Err(why);
            }
        }
        Ok(())
    }

    /// Where the main rules evaluate our anchor; what to mend if nowhere.
    fn reference(&self, enabled: bool) -> Result<Reference, Error> {
        if !enabled {
            return Err(Error::Refused(self.system.mend_disabled().to_string()));
        }
        match text::reference(&self.pfctl.main_rules()?) {
            Reference::Missing => Err(Error::Refused(text::MEND_REFERENCE.to_string())),
            there @ Reference::There { .. } => Ok(there),
        }
    }

    fn in_force(&mut self) -> Result<bool, Error> {
        let Some(loaded) = &self.loaded else { return Ok(false) };
        if *loaded != self.pfctl.rules()? || !self.pfctl.is_enabled()? {
            return Ok(false);
        }
        let reference = text::reference(&self.pfctl.main_rules()?);
        let there = reference != Reference::Missing;
        if there {
            self.tell(reference);
        }
        Ok(there)
    }

    /// Says once what the administrator's own rules take from the shield.
    fn tell(&mut self, reference: Reference) {
        if self.told.reference.as_ref() == Some(&reference) {
            return;
        }
        if let Reference::There { narrow, earlier } = &reference {
            if let Some(line) = narrow {
                log::warn!("pf: only what this line says is shielded: {line}");
            }
            if let Some(rule) = earlier {
                log::warn!(
                    "pf: a rule before our anchor lets pass what it says, unshielded: {rule}; put \
                     the line of the anchor before it"
                );
            }
        }
        self.told.reference = Some(reference);
    }

    /// What is over is forgotten: pf keeps no ends.
    fn forget(&mut self, now: Now) -> Result<(), Error> {
        let over: Vec<Element> = self
            .openings
            .iter()
            .filter(|(_, until)| **until <= now.mono)
            .map(|(e, _)| *e)
            .collect();
        self.remove(&over)?;
        let bars = self.bars.iter().filter(|(_, until)| **until <= now.mono);
        let bars: BTreeSet<Prefix> = bars.map(|(from, _)| *from).collect();
        bars.iter().for_each(|from| {
            self.bars.remove(from);
        });
        self.pfctl.change(Change::Delete, BANNED, &bars)
    }

    fn remove(&mut self, elements: &[Element]) -> Result<(), Error> {
        elements.iter().for_each(|element| {
            self.openings.remove(element);
        });
        for (ports, addresses) in tables::contents(elements.iter()) {
            if self.tables.contains(&ports) {
                self.pfctl.change(Change::Delete, &tables::name(&ports), &addresses)?;
            }
        }
        Ok(())
    }

    /// Everything, in an order in which nobody passes who should not: first the rules, then what
    /// their tables hold, then whether it counts.
    fn renew(&mut self) -> Result<String, Error> {
        let wanted = self.wanted();
        self.pfctl.load(&text::rules(&self.shield, &wanted))?;
        self.tables = wanted;
        // An earlier run's may hold what has ended since.
        for ports in self.pfctl.tables()?.iter().filter(|p| !self.tables.contains(p)) {
            self.pfctl.remove_table(&tables::name(ports))?;
        }
        self.fill(self.tables.iter())?;
        self.pfctl.replace(BANNED, &self.bars.keys().copied().collect())?;
        let rules = self.read_back()?;
        self.stand()?;
        Ok(rules)
    }

    /// Ends what these have open: connections outlive the address in the table. All states that they
    /// began end, whatever the port; no narrower form works on every system.
    ///
    /// # Errors
    /// What pfctl says, or that it does not say how many states it has ended.
    pub fn kill_states(&mut self, from: &[Prefix]) -> Result<(), Error> {
        from.iter().try_for_each(|from| self.pfctl.kill_states(from))
    }

    /// Does a step, after which the rules are known to be ours only if it has succeeded.
    fn step(&mut self, step: impl FnOnce(&mut Pf) -> Result<(), Error>) -> Result<(), Error> {
        let loaded = self.loaded.take().ok_or_else(|| {
            Error::Refused("the rules are not known to be ours: synchronise first".to_string())
        })?;
        let before = self.tables.clone();
        step(self)?;
        let same = self.tables == before;
        self.loaded = Some(if same { loaded } else { self.read_back()? });
        Ok(())
    }
}

impl Firewall for Pf {
    fn sync(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        self.loaded = None;
        let live = openings.iter().filter(|o| o.until > now.mono);
        self.openings = live.map(|o| (o.element, o.until)).collect();
        self.bars.retain(|_, until| *until > now.mono);
        self.loaded = Some(self.renew()?);
        Ok(())
    }

    fn open(&mut self, openings: &[Opening], now: Now) -> Result<(), Error> {
        self.step(|pf| {
            pf.forget(now)?;
            let live = openings.iter().filter(|o| o.until > now.mono);
            pf.openings.extend(live.clone().map(|o| (o.element, o.until)));
            let there = pf.tables.clone();
            if live.clone().any(|o| !there.contains(&o.element.to)) {
                let wanted = pf.wanted();
                if wanted != there {
                    pf.load(wanted)?;
                }
            }
            // Tables that are new have been filled with their rules. What is in one already is
            // told again: somebody else may have taken it out.
            for (ports, addresses) in tables::contents(live.map(|o| &o.element)) {
                if there.contains(&ports) {
                    pf.pfctl.change(Change::Add, &tables::name(&ports), &addresses)?;
                }
            }
            Ok(())
        })
    }

    fn close(&mut self, elements: &[Element], now: Now) -> Result<(), Error> {
        self.step(|pf| {
            pf.remove(elements)?;
            pf.forget(now)
        })
    }

    fn cut(
        &mut self,
        elements: &[Element],
        spared: &dyn Fn(&Element) -> bool,
        now: Now,
    ) -> Result<(), Error> {
        self.close(elements, now)?;
        let mut from: Vec<Prefix> =
            elements.iter().filter(|e| !spared(e)).map(|e| e.from).collect();
        from.dedup();
        self.kill_states(&from)
    }

    fn can_tell(&mut self) -> Result<(), Error> {
        self.connected(&[]).map(drop)
    }

    fn connected(&mut self, _: &[Element]) -> Result<Vec<Element>, Error> {
        let what = "while-connected with pf, which is not asked for its states yet";
        Err(Error::Missing(what.into()))
    }

    fn can_bar(&self) -> Result<(), Error> {
        match self.shield.form {
            Form::Shield => Ok(()),
            Form::Mark(_) | Form::Chain { .. } => {
                Err(Error::Missing("bans: a pinhole turns nobody away".into()))
            }
        }
    }

    fn set_bars(&mut self, bars: &[Bar]) {
        self.bars = bars.iter().map(|bar| (bar.from, bar.until)).collect();
    }

    fn bar(&mut self, bars: &[Bar], now: Now) -> Result<(), Error> {
        self.step(|pf| {
            pf.forget(now)?;
            pf.bars.extend(bars.iter().map(|bar| (bar.from, bar.until)));
            pf.pfctl.change(Change::Add, BANNED, &bars.iter().map(|bar| bar.from).collect())
        })
    }

    fn unbar(&mut self, from: &[Prefix], now: Now) -> Result<(), Error> {
        self.step(|pf| {
            from.iter().for_each(|prefix| {
                pf.bars.remove(prefix);
            });
            pf.pfctl.change(Change::Delete, BANNED, &from.iter().copied().collect())?;
            pf.forget(now)
        })
    }

    /// Whether what this value has loaded is in force. What an earlier run has left is not: nobody
    /// ends its leases.
    fn is_up(&mut self) -> Result<bool, Error> {
        match self.in_force() {
            // A pfctl that cannot show our rules has none to show.
            Err(Error::Refused(why)) => {
                log::warn!("pf: {why}");
                Ok(false)
            }
            answer => answer,
        }
    }

    fn stands(&mut self) -> Result<bool, Error> {
        self.reference(self.pfctl.is_enabled()?)?;
        Ok(!self.read_back()?.is_empty())
    }

    fn uninstall(&mut self) -> Result<(), Error> {
        self.loaded = None;
        self.tables.clear();
        self.pfctl.flush_rules()?;
        for ports in self.pfctl.tables()? {
            self.pfctl.remove_table(&tables::name(&ports))?;
        }
        self.pfctl.remove_table(BANNED)?;
        match token::take() {
            Some(token) if self.system == System::MacOs => self.pfctl.release(&token),
            Some(_) | None => Ok(()),
        }
    }

    fn describe(&self) -> String {
        let routed = self.shield.routed.iter().map(|r| r.refuse);
        let mut all = self.shield.protected.iter().map(|(_, how)| *how).chain(routed);
        let resets = all.any(|how| how == Refuse::Reset);
        let how = if resets { ", some ports refuse with a reset" } else { "" };
        format!("pf by {}, anchor `{}`{how}", self.pfctl.path(), text::ANCHOR)
    }
}
