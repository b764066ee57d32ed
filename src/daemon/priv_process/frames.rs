//! What `[engine]` says, and what is done about it.

use super::{MOST_WAITING, Priv};
use crate::access::{Action, Claim};
use crate::daemon::channel::Broken;
use crate::daemon::clock;
use crate::daemon::frame::Frame;
use crate::daemon::log;
use crate::daemon::system::ServeError;
use crate::time::Now;

/// The most frames of `[engine]` that are taken in one turn.
const FRAMES: usize = 4_096;
/// The most claims that an `[engine]` can remember.
const MOST_RESTORED: usize = 1_000_000;

impl Priv {
    /// Everything that `[engine]` has said.
    pub(super) fn listen_to_engine(&mut self) -> Result<(), ServeError> {
        let gathered = log::gather();
        // Bounded, so that timers and control get their turn whatever comes.
        for _ in 0..FRAMES {
            let Some(engine) = &mut self.engine else { break };
            match engine.channel.next() {
                Ok(Some((frame, _))) => {
                    // A claim is judged by a moment that is not before the one it was made at.
                    let now = clock::now();
                    if let Err(why) = self.handle_frame(frame, now)? {
                        self.engine_lost(&why, now);
                    }
                }
                Ok(None) => break,
                Err(why) => self.engine_lost(&why, clock::now()),
            }
        }
        drop(gathered);
        // Before all leases are known the kernel is told nothing: then all at once.
        if self.restored {
            self.enforcer.apply(clock::now());
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame, now: Now) -> Result<Result<(), Broken>, ServeError> {
        match frame {
            Frame::Grant(claim) if self.restored => {
                if let Some(claim) = self.without_evicted(claim)
                    && !self.enforcer.take(&claim, now)
                    && claim.action == Action::Open
                    && let Some(engine) = &mut self.engine
                {
                    // Its journal says that it was granted; a restart must not believe that.
                    let closed = Claim { action: Action::Close, ..claim };
                    engine.channel.push(&Frame::Decided(closed), self.generation, vec![]);
                    // A sound [engine] reads what it is told.
                    if engine.channel.waiting() > MOST_WAITING {
                        return Ok(Err(Broken::Frame));
                    }
                }
            }
            // Applied all at once: one by one on the leases that are there they would end some of
            // them for a moment.
            Frame::Restore(claim) if !self.restored && self.restoring.len() < MOST_RESTORED => {
                self.restoring.push(claim);
            }
            Frame::Restored(seen) if !self.restored => self.go(seen, now)?,
            Frame::Counters(counters) => self.tell_status(Some(&counters)),
            Frame::Evict(prefix) => return Ok(self.evicted(prefix)),
            Frame::Ban(ban) => self.ban(ban, now),
            Frame::Unban(prefix) => self.unban(prefix, now),
            Frame::Verdict { .. } => self.tell_gate(&frame),
            Frame::Pin(pin) => self.replace_pin(pin),
            Frame::Hook(part) => return Ok(self.hear_hook(&part)),
            Frame::Strike { .. }
            | Frame::Guess { .. }
            | Frame::Pardon(_)
            | Frame::Rules(_)
            | Frame::Site(_)
            | Frame::Grant(_)
            | Frame::Restore(_)
            | Frame::Restored(_)
            | Frame::Begin(_)
            | Frame::Door(_)
            | Frame::Service(_)
            | Frame::Own(_)
            | Frame::Client(..)
            | Frame::Plain(..)
            | Frame::Knock(..)
            | Frame::Line(..)
            | Frame::Remove(_)
            | Frame::End
            | Frame::Listen(_)
            | Frame::Capture(_)
            | Frame::Decided(_)
            | Frame::Ask
            | Frame::Stop => return Ok(Err(Broken::Frame)),
        }
        Ok(Ok(()))
    }
}
