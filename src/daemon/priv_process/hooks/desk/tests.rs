use super::*;
use crate::access::{ClientId, ServiceId};
use crate::daemon::config::{Commands, Word};

const SSH: ServiceId = ServiceId([1; 4]);

fn hooks() -> Hooks {
    let words = || Some(vec![Word::Text("/x".into())]);
    let commands = BTreeMap::from([(SSH, Commands { open: words(), close: words() })]);
    Hooks { commands, user: "nobody".into(), timeout: 10 }
}

fn subject(n: u32) -> Subject {
    let from = format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255).parse().unwrap();
    Subject { service: SSH, client: ClientId([2; 8]), from, to: "tcp/22".parse().unwrap() }
}

/// A desk, with an `[engine]` that remembers all it is told.
struct Place {
    desk: Desk,
    hooks: Hooks,
    said: Vec<Moment>,
}

impl Place {
    fn new() -> Place {
        Place { desk: Desk::default(), hooks: hooks(), said: Vec::new() }
    }

    fn begins(&mut self, n: u32) {
        self.desk.touch(subject(n), "a", Some(Mono(5_000)), &self.hooks);
    }

    fn ends(&mut self, n: u32) {
        self.desk.touch(subject(n), "a", None, &self.hooks);
    }

    /// `[engine]` remembers what it was told.
    fn remembers(&mut self) {
        for note in std::mem::take(&mut self.desk.notes) {
            self.said.push(note.moment);
            if matches!(note.moment, Moment::Opening | Moment::Closing) {
                self.desk.told(&note, &self.hooks, true);
            }
        }
    }

    /// What begins to run: event, number of the subject, ticket.
    fn runs(&mut self) -> Vec<(Event, Subject, u64)> {
        let mut all = Vec::new();
        loop {
            self.remembers();
            let task = self.desk.next(&self.hooks, true, Mono(1_000));
            match task {
                Some(task) => all.push((task.event, task.subject, task.ticket)),
                None if self.desk.notes.is_empty() => return all,
                None => {}
            }
        }
    }

    fn ended(&mut self, ticket: u64) {
        assert!(self.desk.ended(ticket, &self.hooks));
    }

    /// Lets all run until nothing is due any more.
    fn finish(&mut self) -> Vec<(Event, Subject)> {
        let mut all = Vec::new();
        loop {
            let some = self.runs();
            if some.is_empty() {
                return all;
            }
            for (event, subject, ticket) in some {
                all.push((event, subject));
                self.ended(ticket);
            }
        }
    }
}

use Event::{Close, Open};

#[test]
fn no_record_no_command_and_each_lease_once() {
    let mut p = Place::new();
    p.begins(1);
    p.begins(1);
    assert_eq!(p.desk.next(&p.hooks, true, Mono(0)), None, "not remembered yet");
    assert_eq!(p.finish(), [(Open, subject(1))]);
    p.begins(1);
    assert_eq!(p.finish(), [], "extended");
    p.ends(1);
    assert_eq!(p.desk.next(&p.hooks, true, Mono(0)), None, "not remembered yet");
    assert_eq!(p.finish(), [(Close, subject(1))]);
    p.ends(1);
    assert_eq!(p.finish(), []);
    let all = [Moment::Opening, Moment::Opened, Moment::Closing, Moment::Closed];
    assert_eq!((p.said.as_slice(), p.desk.len()), (all.as_slice(), 0));
}

#[test]
fn eight_at_once_and_one_of_a_lease() {
    let mut p = Place::new();
    (0..20).for_each(|n| p.begins(n));
    let first = p.runs();
    assert_eq!(first.len(), MOST);
    // Its close waits for its open, and for a place.
    p.ends(0);
    p.begins(30);
    assert_eq!(p.runs(), []);
    p.ended(first[0].2);
    let next = p.runs();
    assert_eq!(next.iter().map(|r| (r.0, r.1)).collect::<Vec<_>>(), [(Open, subject(8))]);
    first[1..].iter().chain(&next).for_each(|(_, _, ticket)| p.ended(*ticket));
    let rest = p.finish();
    assert_eq!(rest.len(), 13);
    assert!(rest.contains(&(Close, subject(0))) && rest.contains(&(Open, subject(30))));
    assert!(!p.desk.ended(999, &p.hooks), "no such ticket");
}

#[test]
fn a_lease_that_comes_again_while_its_close_waits_goes_on() {
    let mut p = Place::new();
    p.begins(1);
    assert_eq!(p.finish().len(), 1);
    p.ends(1);
    p.begins(1);
    assert_eq!(p.finish(), []);
    // While the close runs it is too late for that.
    p.ends(1);
    let run = p.runs();
    p.begins(1);
    assert_eq!(p.runs(), []);
    p.ended(run[0].2);
    assert_eq!(p.finish(), [(Open, subject(1))]);
    p.ends(1);
    assert_eq!(p.finish(), [(Close, subject(1))]);
}

#[test]
fn opens_are_left_out_and_closes_never() {
    let mut p = Place::new();
    let many = MOST_OPENS as u32 + 100;
    (0..many).for_each(|n| p.begins(n));
    assert_eq!(p.desk.left_out, 100);
    assert_eq!(p.finish().len(), MOST_OPENS);
    (0..many).for_each(|n| p.ends(n));
    let closes = p.finish();
    assert!(closes.iter().all(|(event, _)| *event == Close));
    assert_eq!((closes.len() as u32, p.desk.len(), p.desk.opens), (many, 0, 0));
    // There is an end to it all the same.
    (0..MOST_OWED as u32 + 7).for_each(|n| p.begins(n));
    assert_eq!(p.desk.len(), MOST_OWED);
}

#[test]
fn what_hook_takes_with_it_is_closed_again_and_not_opened_again() {
    let mut p = Place::new();
    p.begins(1);
    p.begins(2);
    assert_eq!(p.finish().len(), 2);
    p.ends(1);
    p.begins(3);
    assert_eq!(p.runs().len(), 2);
    assert_eq!(p.desk.overdue(), Some(Mono(1_000 + 10_000 + 30_000)));
    assert_eq!(p.desk.lost(&p.hooks), 1);
    assert_eq!((p.desk.overdue(), p.finish()), (None, vec![(Close, subject(1))]));
    p.ends(3);
    assert_eq!(p.finish(), [(Close, subject(3))]);
}

#[test]
fn an_engine_that_comes_back_hears_what_it_has_missed() {
    let mut p = Place::new();
    (1..=4).for_each(|n| p.begins(n));
    assert_eq!(p.finish().len(), 4);
    p.ends(2);
    p.ends(3);
    let run = p.runs();
    let owed = [1, 2, 3, 4].map(|n| Note {
        moment: Moment::Opening,
        subject: subject(n),
        name: Name::new("a"),
    });
    // It dies. One close ends meanwhile, a lease ends, another begins that it has no record of.
    p.desk.doubt();
    p.ended(run[0].2);
    p.ends(4);
    p.begins(5);
    assert_eq!(p.desk.next(&p.hooks, false, Mono(0)), None);
    p.desk.notes.clear();
    owed.iter().for_each(|note| p.desk.told(note, &p.hooks, false));
    p.desk.forget_leases();
    p.begins(1);
    p.begins(5);
    p.desk.settle(&p.hooks);
    let after: Vec<_> = p.runs();
    let what: Vec<_> = after.iter().map(|(event, subject, _)| (*event, *subject)).collect();
    // The close whose end was not remembered comes twice; the one that runs does not.
    assert_eq!(what, [(Open, subject(5)), (Close, run[0].1), (Close, subject(4))]);
    after.iter().chain(&run[1..]).for_each(|(_, _, ticket)| p.ended(*ticket));
    assert_eq!((p.finish(), p.desk.len()), (vec![], 2));
}

#[test]
fn a_service_without_its_hooks_is_owed_nothing() {
    let mut p = Place::new();
    p.begins(1);
    p.begins(2);
    p.remembers();
    p.hooks.commands.clear();
    p.desk.forget_leases();
    p.desk.settle(&p.hooks);
    assert_eq!((p.finish(), p.desk.len(), p.desk.opens), (vec![], 0, 0));
    assert_eq!(p.said.iter().filter(|m| **m == Moment::Closed).count(), 2);
}
