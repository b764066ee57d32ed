//! The tools: which of them the system uses, and how rules get in by them.

use super::program::BRIEFLY;
use super::{Error, Family, Options, Program, Table, WAIT};

/// How often a commit is tried when somebody else changes the table at the same time.
const TRIES: usize = 3;

/// The programs of a family.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    pub(super) rules: Program,
    restore: Program,
    save: Program,
    /// How long it waits for the lock.
    wait: &'static str,
}

impl Tools {
    /// Finds a family's programs and asks for their version.
    pub(super) fn find(family: Family, options: &Options) -> Result<(Tools, String), Error> {
        let base = family.program();
        let kind = |legacy: bool| if legacy { "legacy" } else { "nft" };
        let exact = options.legacy.map(|l| format!("{base}-{}", kind(l)));
        for name in exact.into_iter().chain([base.to_string()]) {
            let find = |name: &str| Program::find(&options.directories, name);
            let part = |part: &str| find(&format!("{name}-{part}"));
            let (Some(rules), Some(restore), Some(save)) =
                (find(&name), part("restore"), part("save"))
            else {
                continue;
            };
            let version = rules.run(&["--version"], "")?.trim().to_string();
            // Versions before 1.8 name no variant: they are the legacy one.
            let legacy = !version.contains("nf_tables");
            if options.legacy.is_none_or(|l| l == legacy) {
                return Ok((Tools { rules, restore, save, wait: WAIT }, version));
            }
        }
        let variant = options.legacy.map_or(String::new(), |l| format!(" ({})", kind(l)));
        Err(Error::Missing(format!(
            "the programs {base}, {base}-restore and {base}-save{variant}: install the package \
             iptables"
        )))
    }

    /// From now on the lock is waited for only briefly.
    pub(super) fn hurry(&mut self) {
        self.wait = BRIEFLY;
    }

    /// What `-S` says about a table.
    pub(super) fn list(&self, table: &Table) -> Result<String, Error> {
        self.rules.run(&["-w", self.wait, "-t", table.name, "-S"], "")
    }

    /// The tables that have something of ours.
    pub(super) fn left(&self) -> Result<Vec<Table>, Error> {
        Ok(Table::left(&self.save.run(&[], "")?))
    }

    /// Commits a text for iptables-restore(8).
    pub(super) fn restore(&self, text: &str) -> Result<(), Error> {
        self.restore.run(&["--noflush", "-w", self.wait], text).map(drop)
    }

    /// Makes our part of a table these rules in one commit, and sees that it hangs.
    pub(super) fn install(&self, table: &Table, rules: &str) -> Result<(), Error> {
        let mut last = Error::Busy(format!("somebody keeps changing the table {}", table.name));
        for _ in 0..TRIES {
            let listing = self.list(table)?;
            match self.restore(&table.commit(&listing, rules)) {
                Ok(()) if table.hangs(&self.list(table)?) => return Ok(()),
                Ok(()) => {}
                // A jump that went between the listing and the commit; anything else is refused
                // again.
                Err(e @ Error::Refused(_)) => last = e,
                Err(e @ (Error::Rights | Error::Missing(_) | Error::Busy(_))) => return Err(e),
            }
        }
        Err(last)
    }
}

/// ipset, if it is there and its kernel side answers.
pub(super) fn ipset(options: &Options) -> Result<Option<(Program, String)>, Error> {
    let Some(ipset) = Program::find(&options.directories, "ipset") else { return Ok(None) };
    match ipset.run(&["list", "-n"], "") {
        Ok(_) => {}
        Err(e @ (Error::Rights | Error::Busy(_))) => return Err(e),
        Err(e @ (Error::Missing(_) | Error::Refused(_))) => {
            log::warn!("leases are rules with a time, for ipset does not work: {e}");
            return Ok(None);
        }
    }
    let version = ipset.run(&["--version"], "")?;
    let version = version.split(',').next().unwrap_or_default().trim().to_string();
    Ok(Some((ipset, version)))
}
