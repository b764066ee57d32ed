//! Frames and records about hooks.

use opensesame_spa::access::{ClientId, ServiceId};
use opensesame_spa::daemon::config::{Value, Word};
use opensesame_spa::daemon::frame::Frame;
use opensesame_spa::daemon::hook::{Event, Hook, Order};
use opensesame_spa::engine::{Moment, Name, Note, Record, Subject};

fn note(moment: Moment, last: u8) -> Note {
    let subject = Subject {
        service: ServiceId([1; 4]),
        client: ClientId([2; 8]),
        from: format!("192.0.2.{last}").parse().expect("an address"),
        to: "tcp/22".parse().expect("a port"),
    };
    Note { moment, subject, name: Name::new("alice") }
}

/// One that is owed, and one that is not any more.
pub fn records() -> Vec<Record> {
    let all = [
        (Moment::Opening, 1),
        (Moment::Opening, 2),
        (Moment::Opened, 1),
        (Moment::Closing, 2),
        (Moment::Closed, 2),
    ];
    all.into_iter().map(|(moment, last)| Record::Hook(note(moment, last))).collect()
}

pub fn frames() -> Vec<(&'static str, Frame)> {
    let Subject { from, to, .. } = note(Moment::Opening, 1).subject;
    let order = Order {
        ticket: 7,
        timeout: 10,
        event: Event::Close,
        client: Name::new("-a'\n"),
        service: "ssh".into(),
        from,
        to,
        seconds: 30,
    };
    let all = [
        ("hook-note", Hook::Note(note(Moment::Opening, 1))),
        ("hook-user", Hook::User(Some((990, 990)))),
        ("hook-word", Hook::Word(Word::Text("/bin/x".into()))),
        ("hook-value", Hook::Word(Word::Value(Value::Client))),
        ("hook-run", Hook::Run(order)),
        ("hook-ended", Hook::Ended(7)),
    ];
    all.map(|(name, what)| (name, Frame::Hook(what))).to_vec()
}
