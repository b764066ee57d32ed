//! Another shield takes the place of the one that is up.

use super::Enforcer;
use crate::daemon::config::{Block, Config};
use crate::daemon::system;
use crate::firewall::Error;
use crate::time::Now;

impl Enforcer {
    /// Other ports are protected from now on, or by another backend, which leaves nothing of the
    /// one before: it would shut out whom the new one lets in.
    pub(in crate::daemon) fn replace(
        &mut self,
        config: &Config,
        (other, guests): (bool, bool),
        now: Now,
    ) -> Result<(), Error> {
        let mut firewall = system::backend(config.backend, &config.shield())?;
        if config.gate.as_ref().is_some_and(|gate| gate.block == Block::Firewall) {
            firewall.can_bar()?;
        }
        config.needs(firewall.as_mut())?;
        let bars = self.bars(now);
        firewall.set_bars(&bars);
        // In a pinhole nobody comes in without us: what goes can go first, and has to where both are
        // guests of one table.
        let first = other && guests;
        if first {
            self.firewall.uninstall()?;
        }
        if let Err(why) = firewall.sync(&self.leases.openings(), now) {
            if first {
                self.heal = Some(now.mono);
            }
            return Err(why);
        }
        if other && !first {
            self.firewall.uninstall()?;
        }
        self.firewall = firewall;
        self.forget_pending();
        Ok(())
    }
}
