//! What is to be changed goes to the kernel in as few transactions as fit.

use super::home::Home;
use super::message::delete_table;
use super::plan::{self, Unit};
use super::socket::Failure;
use super::{Error, Nftables, Patience, Wide, dump};

impl Nftables {
    /// No table of our own, which another form of ours may have left.
    pub(super) fn remove_own(&mut self) -> Result<(), Failure> {
        let own = Home::own();
        match dump::table(&mut self.socket, &own)? {
            true => self.socket.transact(&own, &[&delete_table()]),
            false => Ok(()),
        }
    }

    /// Commits the units in order and in transactions of at most `room` bytes.
    pub(super) fn commit(
        &mut self,
        units: &[Unit],
        room: usize,
        patience: &mut Patience,
    ) -> Result<(), Failure> {
        for some in plan::transactions(units, room) {
            let transaction: Vec<_> = some.iter().flatten().collect();
            let mut tries = 0;
            while let Err(failure) = self.socket.transact(&self.home, &transaction) {
                tries += 1;
                if some.len() > 1 && Patience::divides(&failure, tries) {
                    self.commit(some, 0, patience)?;
                    break;
                }
                if !patience.wait(&failure, tries) {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// The same for one call that is no sync; `wide`: what is wide changes with it.
    pub(super) fn change(&mut self, units: &[Unit], wide: Option<Wide>) -> Result<(), Error> {
        self.commit(units, self.socket.room(), &mut Patience::default())?;
        if let Some(wide) = wide {
            self.wide = wide;
        }
        Ok(())
    }
}
