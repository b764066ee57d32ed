//! The life of `[hook]`, and which hooks it runs when.

mod desk;

use super::{FAREWELL, MOST_WAITING, PAUSE, Priv};
use crate::daemon::channel::Broken;
use crate::daemon::config::Word;
use crate::daemon::enforce::Touched;
use crate::daemon::frame::Frame;
use crate::daemon::hook::{Event, Hook, Order};
use crate::daemon::log::Limit;
use crate::daemon::system::{self, Partner};
use crate::daemon::{clock, serve};
use crate::engine::{Moment, Name, Note, Subject};
use crate::time::{Mono, Now};
use desk::{Desk, Task};
use std::fmt::Display;
use std::os::fd::BorrowedFd;

/// A `[hook]` that has lived so long is started again at once: ms.
const SOUND: u64 = 60_000;
/// How long after a command's time `[hook]` may take to say that it has ended: ms.
const PATIENCE: u64 = 30_000;

/// What `[priv]` keeps for `[hook]`, from one life of it to the next.
#[derive(Default)]
pub(super) struct Hooks {
    desk: Desk,
    partner: Option<Partner>,
    started: Mono,
    failures: u32,
    again: Option<Mono>,
    /// So many were left out when it was last said.
    said: u64,
    lines: Limit,
}

impl Hooks {
    /// The process, if it runs.
    pub(super) fn process(&self) -> Option<u32> {
        self.partner.as_ref().map(|p| p.child.id())
    }

    /// What to wait for, and whether there is something to send.
    pub(super) fn poll(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.partner.as_ref().map(|p| (p.channel.as_fd(), p.channel.is_waiting()))
    }

    /// Whether something that it has said waits here.
    pub(super) fn is_ready(&self) -> bool {
        self.partner.as_ref().is_some_and(|p| p.channel.is_ready())
    }

    /// When it has to be looked after.
    pub(super) fn due(&self) -> Option<Mono> {
        let again = self.again.filter(|_| self.partner.is_none() && self.desk.is_due());
        again.into_iter().chain(self.desk.overdue()).min()
    }

    /// The process, to be ended in good order.
    pub(super) fn take(&mut self) -> Option<Partner> {
        self.partner.take()
    }
}

/// Whether that is a name of a client, or in brackets of an older way in.
fn is_told(name: &Name) -> bool {
    let plain = |b: &u8| b.is_ascii_graphic() || *b == b' ';
    let first = name.bytes().first().is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'[');
    first && name.bytes().iter().all(plain)
}

impl Priv {
    /// Does all that hooks need in this turn.
    pub(super) fn tend_hooks(&mut self, now: Now) {
        let some = !self.config.hooks.commands.is_empty();
        for touched in self.enforcer.take_touched(some) {
            self.touch(&touched);
        }
        self.look_after_hook(now);
        self.listen_to_hook(now);
        self.run_hooks(now);
        let notes = std::mem::take(&mut self.hooks.desk.notes);
        if let Some(engine) = self.engine.as_mut().filter(|_| self.restored) {
            let frames = notes.into_iter().map(|note| Frame::Hook(Hook::Note(note)));
            frames.for_each(|frame| engine.channel.push(&frame, self.generation, vec![]));
            // A sound [engine] reads what it is told.
            if engine.channel.waiting() > MOST_WAITING {
                self.engine_lost(&Broken::Frame, now);
            }
        }
        let Hooks { desk, said, lines, .. } = &mut self.hooks;
        if desk.left_out > *said && lines.pass(now.mono).is_some() {
            *said = desk.left_out;
            log::warn!("hooks: too many wait; {said} were left out so far");
        }
    }

    /// Tells the services that have a hook.
    fn touch(&mut self, touched: &Touched) {
        let Touched { client, name, element, until } = touched;
        let hooks = &self.config.hooks;
        for service in self.config.services.iter().filter(|s| hooks.commands.contains_key(&s.id)) {
            if service.ports.iter().any(|p| p.overlaps(&element.to)) {
                let (from, to) = (element.from, element.to);
                let subject = Subject { service: service.id, client: *client, from, to };
                self.hooks.desk.touch(subject, name, *until, hooks);
            }
        }
    }

    /// What `[engine]` says about hooks.
    pub(super) fn hear_hook(&mut self, part: &Hook) -> Result<(), Broken> {
        match part {
            Hook::Note(note @ Note { moment: Moment::Opening | Moment::Closing, name, .. })
                if is_told(name) =>
            {
                self.hooks.desk.told(note, &self.config.hooks, self.restored);
                Ok(())
            }
            Hook::Note(_) | Hook::User(_) | Hook::Word(_) | Hook::Run(_) | Hook::Ended(_) => {
                Err(Broken::Frame)
            }
        }
    }

    /// An `[engine]` begins.
    pub(super) fn doubt_hooks(&mut self) {
        self.hooks.desk.doubt();
    }

    /// It has said what it remembers, or other hooks count: whose lease has no entry is told that
    /// it begins, whose entry has no lease that it has ended.
    pub(super) fn settle_hooks(&mut self) {
        self.hooks.desk.forget_leases();
        let some = !self.config.hooks.commands.is_empty();
        self.enforcer.take_touched(some);
        let all: Vec<Touched> = self.enforcer.all_touched().filter(|_| some).collect();
        all.iter().for_each(|touched| self.touch(touched));
        self.hooks.desk.settle(&self.config.hooks);
        if self.hooks.desk.len() > 0 {
            log::info!("hooks: {} leases are told of, or owed a close", self.hooks.desk.len());
        }
    }

    /// Starts `[hook]` when there is something for it, and gives up one that is silent.
    fn look_after_hook(&mut self, now: Now) {
        if self.hooks.desk.overdue().is_some_and(|at| at <= now.mono) {
            self.hook_lost("it does not say what became of a command", now);
        }
        let wanted = self.hooks.desk.is_due() && self.hooks.partner.is_none();
        if !wanted || self.hooks.again.is_some_and(|at| at > now.mono) {
            return;
        }
        match self.start_hook() {
            Ok(partner) => {
                (self.hooks.partner, self.hooks.again) = (Some(partner), None);
                self.hooks.started = now.mono;
            }
            Err(why) => {
                log::error!("{why}");
                self.hook_lost("it could not be started", now);
            }
        }
    }

    fn start_hook(&self) -> Result<Partner, String> {
        let user = serve::hook_user(self.user, &self.config.hooks.user);
        let user = user.map_err(|e| e.to_string())?;
        let spawned = system::spawn("hook-process");
        let mut partner = spawned.map_err(|e| format!("cannot start [hook]: {e}"))?;
        partner.channel.push(&Frame::Hook(Hook::User(user)), 0, vec![]);
        Ok(partner)
    }

    fn hook_lost(&mut self, why: impl Display, now: Now) {
        let hooks = &mut self.hooks;
        hooks.partner = None;
        if now.mono.since(hooks.started) > SOUND {
            hooks.failures = 0;
        }
        let pause = PAUSE.1.min(PAUSE.0 << hooks.failures.min(10));
        hooks.failures += 1;
        hooks.again = Some(now.mono.plus(pause));
        let opens = hooks.desk.lost(&self.config.hooks);
        log::error!(
            "[hook]: {why}; starting it again in {pause} ms; closes are run again, {opens} on-opens \
             are not"
        );
    }

    fn listen_to_hook(&mut self, now: Now) {
        for _ in 0..desk::MOST {
            let Some(partner) = &mut self.hooks.partner else { return };
            match partner.channel.next() {
                Ok(Some((Frame::Hook(Hook::Ended(ticket)), _)))
                    if self.hooks.desk.ended(ticket, &self.config.hooks) => {}
                Ok(None) => return,
                Ok(Some(_)) => return self.hook_lost(Broken::Frame, now),
                Err(why) => return self.hook_lost(why, now),
            }
        }
    }

    fn run_hooks(&mut self, now: Now) {
        let asks = self.restored && self.engine.is_some();
        let Some(partner) = &mut self.hooks.partner else { return };
        let hooks = &self.config.hooks;
        while let Some(task) = self.hooks.desk.next(hooks, asks, now.mono) {
            let Task { ticket, event, subject, name: client, until } = task;
            let commands = hooks.commands.get(&subject.service);
            let words = commands.and_then(|c| match event {
                Event::Open => c.open.as_ref(),
                Event::Close => c.close.as_ref(),
            });
            let service = self.config.services.iter().find(|s| s.id == subject.service);
            let order = Order {
                ticket,
                timeout: hooks.timeout,
                event,
                client,
                service: service.map(|s| s.name.clone()).unwrap_or_default(),
                from: subject.from,
                to: subject.to,
                seconds: match event {
                    Event::Open => until.map_or(0, |at| at.since(now.mono).div_ceil(1_000)),
                    Event::Close => 0,
                },
            };
            let words = words.into_iter().flatten().cloned().map(|w: Word| Hook::Word(w));
            for part in words.chain([Hook::Run(order)]) {
                partner.channel.push(&Frame::Hook(part), 0, vec![]);
            }
        }
        let _ = partner.channel.flush();
        if partner.channel.waiting() > MOST_WAITING {
            self.hook_lost(Broken::Frame, now);
        }
    }

    /// Ends `[engine]` and `[hook]` in good order: the one with its journal, the other with its
    /// commands.
    pub(super) fn end_partners(&mut self, now: Now) {
        let both = self.engine.take().into_iter().chain(self.hooks.take());
        let mut both: Vec<Partner> = both.collect();
        for partner in &mut both {
            partner.channel.push(&Frame::Stop, self.generation, vec![]);
            let _ = partner.channel.flush();
        }
        let deadline = now.mono.plus(FAREWELL);
        let gone = |p: &mut Partner| p.child.try_wait().is_ok_and(|status| status.is_some());
        while clock::now().mono < deadline && !both.iter_mut().all(gone) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}
