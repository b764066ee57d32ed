//! Each thing that pfctl(8) is asked to do, and how its success is told.
//!
//! `-d` is never used: on macOS it takes pf from every program that wants it.

use super::text::{self, ANCHOR};
use super::{Error, Ports, Prefix, Program};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How long a call may take, and how many addresses make it a second longer.
const LIMIT: (u64, usize) = (10, 10_000);

/// The most addresses of one call.
const MOST: usize = 20_000;

/// What becomes of addresses of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    Add,
    Delete,
}

/// The program.
#[derive(Debug)]
pub(super) struct Pfctl {
    program: Program,
}

impl Pfctl {
    pub(super) fn find() -> Result<Pfctl, Error> {
        let places = ["/sbin", "/usr/sbin"].map(PathBuf::from);
        let missing = || Error::Missing("/sbin/pfctl: this system has no pf".to_string());
        Program::find(&places, "pfctl").map(|program| Pfctl { program }).ok_or_else(missing)
    }

    pub(super) fn path(&self) -> String {
        self.program.path().display().to_string()
    }

    /// What it printed, and what it said beside that.
    fn run(&self, arguments: &[&str], input: &str) -> Result<(String, String), Error> {
        let limit = LIMIT.0 + (input.lines().count() / LIMIT.1) as u64;
        let answer = self.program.ask(Duration::from_secs(limit), arguments, input)?;
        match answer.code {
            Some(0) => Ok((answer.out, answer.err)),
            code => Err(text::refusal(code, &answer.err)),
        }
    }

    fn in_anchor(&self, arguments: &[&str], input: &str) -> Result<(String, String), Error> {
        let arguments: Vec<&str> = ["-a", ANCHOR].iter().chain(arguments).copied().collect();
        self.run(&arguments, input)
    }

    /// Makes these the rules of our anchor, in one transaction; tables keep what they hold.
    pub(super) fn load(&self, rules: &str) -> Result<(), Error> {
        self.in_anchor(&["-f", "-"], rules).map(drop)
    }

    /// The rules of our anchor, as pf says them.
    pub(super) fn rules(&self) -> Result<String, Error> {
        self.in_anchor(&["-s", "rules"], "").map(|(out, _)| out)
    }

    pub(super) fn main_rules(&self) -> Result<String, Error> {
        self.run(&["-s", "rules"], "").map(|(out, _)| out)
    }

    pub(super) fn flush_rules(&self) -> Result<(), Error> {
        self.in_anchor(&["-F", "rules"], "").map(drop)
    }

    pub(super) fn is_enabled(&self) -> Result<bool, Error> {
        let (out, _) = self.run(&["-s", "info"], "")?;
        text::enabled(&out).ok_or_else(|| {
            Error::Refused("`pfctl -s info` does not say whether pf is enabled".to_string())
        })
    }

    /// The tables of ours that our anchor has. An anchor that does not exist is an error to some
    /// pfctl, and has none.
    pub(super) fn tables(&self) -> Result<Vec<Ports>, Error> {
        match self.in_anchor(&["-s", "Tables"], "") {
            Ok((out, _)) => Ok(text::named(&out).collect()),
            Err(Error::Refused(why)) if why.contains("does not exist") => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// Adds or deletes; one that is there already, or is not there, is no error.
    pub(super) fn change(
        &self,
        change: Change,
        table: &str,
        addresses: &BTreeSet<Prefix>,
    ) -> Result<(), Error> {
        let (command, done) = match change {
            Change::Add => ("add", "added"),
            Change::Delete => ("delete", "deleted"),
        };
        let all: Vec<&Prefix> = addresses.iter().collect();
        for some in all.chunks(MOST) {
            let lines = text::lines(some.iter().copied());
            let (out, err) = self.in_anchor(&["-t", table, "-T", command, "-f", "-"], &lines)?;
            let counted = text::counted(&err, done).or_else(|| text::counted(&out, done));
            if counted.is_none_or(|(_, named)| named != some.len()) {
                return Err(Error::Refused(format!(
                    "pfctl -t {table} -T {command} was given {} addresses and does not say so: {}",
                    some.len(),
                    err.trim()
                )));
            }
        }
        Ok(())
    }

    /// Makes a table hold exactly these, and sees that it does.
    pub(super) fn replace(&self, table: &str, addresses: &BTreeSet<Prefix>) -> Result<(), Error> {
        let lines = text::lines(addresses.iter());
        match addresses.is_empty() {
            true => self.in_anchor(&["-t", table, "-T", "replace"], "")?,
            false => self.in_anchor(&["-t", table, "-T", "replace", "-f", "-"], &lines)?,
        };
        let (out, _) = self.in_anchor(&["-t", table, "-T", "show"], "")?;
        match text::shown(&out).as_ref() == Some(addresses) {
            true => Ok(()),
            false => Err(Error::Refused(format!(
                "the table `{table}` does not hold the {} addresses it was given: another program \
                 changes the anchor `{ANCHOR}`",
                addresses.len()
            ))),
        }
    }

    /// Takes a table away; one that is not there is no error.
    pub(super) fn remove_table(&self, table: &str) -> Result<(), Error> {
        match self.in_anchor(&["-t", table, "-T", "kill"], "") {
            Err(Error::Refused(why)) if why.contains("does not exist") => Ok(()),
            done => done.map(drop),
        }
    }

    /// Ends the states of this source. With a destination beside it pfctl of FreeBSD 15 ends none and
    /// says that it succeeded; by label or number macOS cannot.
    pub(super) fn kill_states(&self, from: &Prefix) -> Result<(), Error> {
        let (out, err) = self.run(&["-k", &from.to_string()], "")?;
        let count = text::killed(&err).or_else(|| text::killed(&out)).ok_or_else(|| {
            Error::Refused(format!(
                "pfctl -k {from} does not say what it has ended: {}",
                err.trim()
            ))
        })?;
        log::debug!("pf: {count} states from {from} have ended");
        Ok(())
    }

    /// macOS: one more program wants pf enabled. Its token, empty if it does not say.
    pub(super) fn enable(&self) -> Result<String, Error> {
        let (out, err) = self.run(&["-E"], "")?;
        let token = text::token(&err).or_else(|| text::token(&out));
        if token.is_none() {
            log::warn!("pfctl -E gave no token: `uninstall` cannot take back that pf is enabled");
        }
        Ok(token.unwrap_or_default())
    }

    /// macOS: one program less.
    pub(super) fn release(&self, token: &str) -> Result<(), Error> {
        match self.run(&["-X", token], "") {
            // Somebody has disabled pf since, which voids all tokens.
            Err(Error::Refused(why)) => {
                log::warn!("the token of pf is void: {why}");
                Ok(())
            }
            done => done.map(drop),
        }
    }
}
