//! Takes our chains and sets away, piece by piece, whatever is left of them.

use super::{Error, Iptables, Program, Table, Tools, WAIT, is_ours};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

/// How long the removal of one table's chains may take: it waits for the lock without limit.
const LIMIT: Duration = Duration::from_secs(10);

/// How often, and how far apart, a set is tried that the kernel still uses: the nf_tables
/// variant lets go of its rules' sets a moment after the commit.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

impl Tools {
    /// Removes our jumps and chains from a table. The answers on the way say nothing (a piece may
    /// be missing); the listing at the end does.
    pub(super) fn remove(&self, table: &Table) -> Result<(), Error> {
        let listing = self.list(table)?;
        if !table.remains(&listing) {
            return Ok(());
        }
        let path = self.rules.path();
        let Some(cmd) = path.to_str() else {
            return Err(Error::Refused(format!("{} is no name of a program", path.display())));
        };
        // The crate wants a name that lives for ever; removal happens once in a process's life.
        let cmd: &'static str = Box::leak(cmd.to_string().into_boxed_str());
        let (name, hooks, chains) = (table.name, table.hooks(&listing), table.chains);
        let (send, receive) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&given_up);
        let work = move || {
            let tool =
                ::iptables::IPTables { cmd, has_check: true, has_wait: true, is_numeric: false };
            // Late, it would take away what may have been put up again.
            let on = || !stop.load(Ordering::Relaxed);
            for (hook, chain) in hooks.iter().filter(|_| on()) {
                let _ = tool.delete(name, hook, &format!("-j {chain}"));
            }
            for chain in chains.iter().filter(|_| on()) {
                let _ = tool.flush_chain(name, chain);
            }
            for chain in chains.iter().filter(|_| on()) {
                let _ = tool.delete_chain(name, chain);
            }
            let _ = send.send(());
        };
        let busy = |e: &dyn std::fmt::Display| Error::Busy(format!("{cmd}: {e}; try again"));
        std::thread::Builder::new().spawn(work).map_err(|e| busy(&e))?;
        if receive.recv_timeout(LIMIT).is_err() {
            given_up.store(true, Ordering::Relaxed);
            return Err(busy(&"another program holds its lock"));
        }
        match table.remains(&self.list(table)?) {
            true => Err(Error::Refused(format!(
                "a chain of ours in the table {name} cannot be removed: look for foreign rules \
                 that jump to it with `{cmd} -w {WAIT} -t {name} -S`"
            ))),
            false => Ok(()),
        }
    }
}

impl Iptables {
    /// Destroys all sets of ours that are there, even those of a run that used ipset when this
    /// one does not.
    pub(super) fn destroy(&self) -> Result<(), Error> {
        let found = match &self.ipset {
            Some((ipset, _)) => Some(ipset.clone()),
            None => Program::find(&self.options.directories, "ipset"),
        };
        let Some(ipset) = found else { return Ok(()) };
        let listing = match (ipset.run(&["list", "-n"], ""), &self.ipset) {
            (Ok(listing), _) => listing,
            (Err(e), Some(_)) => return Err(e),
            // Where ipset never worked there are no sets.
            (Err(_), None) => return Ok(()),
        };
        for name in listing.lines().filter(|name| is_ours(name)) {
            let mut tries = 0;
            while let Err(e) = ipset.run(&["destroy", name], "") {
                tries += 1;
                let used = matches!(&e, Error::Refused(text) if text.contains("in use"));
                if !used || tries > TRIES {
                    return Err(e);
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}
