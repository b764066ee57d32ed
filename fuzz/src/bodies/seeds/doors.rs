//! Frames about the older ways in, the gate and bans.

use opensesame_spa::access::{Access, ClientId, Protocol};
use opensesame_spa::crypto::KnockKey;
use opensesame_spa::daemon::frame::Frame;
use opensesame_spa::daemon::site::Site;
use opensesame_spa::engine::suspicion::{Ban, Pin, Rules, Verdict};
use opensesame_spa::engine::{Knock, Plain, Sequence, Step};
use opensesame_spa::proto::TimedKnock;
use opensesame_spa::time::Unix;

pub fn frames(access: &Access) -> Vec<(&'static str, Frame)> {
    let entry = || {
        access.clone().with(|t| {
            t.sources.clear();
            t.hours.clear();
        })
    };
    let client = ClientId([9; 8]);
    let steps = |ports: &[u16]| -> Vec<Step> {
        let step = |port: &u16| Step { protocol: Protocol::Udp, port: *port };
        ports.iter().map(step).collect()
    };
    let knock = |sequence| Knock { client, sequence, window: 10_000, total: Some(20_000) };
    let fixed =
        Sequence::Fixed { open: steps(&[1560, 6580, 8153]), close: steps(&[8153, 6580, 1560]) };
    let key = KnockKey::new([3; 32]);
    let timed = Sequence::Timed(TimedKnock { key, steps: 4, avoid: vec![41_841] });
    let plain = Plain {
        client,
        open: b"open_sesame".to_vec(),
        close: b"close_sesame".to_vec(),
        replies: true,
    };
    let prefix = "2001:db8::/64".parse().expect("a net");
    let from = [192, 0, 2, 9].into();
    let pin = || Pin::new(b"123456789012").expect("a PIN");
    let ban = Ban { prefix, until: Unix(1_790_000_600_000), times: 2 };
    let rules = Rules { never: vec!["192.0.2.0/24".parse().expect("a net")], ..Rules::default() };
    vec![
        ("plain", Frame::Plain(entry(), plain)),
        ("knock-fixed", Frame::Knock(entry(), knock(fixed))),
        ("knock-one-time", Frame::Knock(entry(), knock(Sequence::OneTime(vec![])))),
        ("knock-timed", Frame::Knock(entry(), knock(timed))),
        ("knock-line", Frame::Line(client, steps(&[1, 2, 3, 4]))),
        ("strike", Frame::Strike { ticket: 7, from }),
        ("guess", Frame::Guess { ticket: 7, from, pin: pin() }),
        (
            "verdict",
            Frame::Verdict { ticket: 7, verdict: Verdict::Wrong { left: 3, delay_ms: 250 } },
        ),
        ("ban", Frame::Ban(ban)),
        ("unban", Frame::Unban(prefix)),
        ("pardon", Frame::Pardon(prefix)),
        ("evict", Frame::Evict(prefix)),
        ("pin", Frame::Pin(pin())),
        ("rules", Frame::Rules(rules)),
        ("site-user", Frame::Site(Site::User(Some((990, 990))))),
        ("site-path", Frame::Site(Site::Path("index.html".into()))),
        ("site-go", Frame::Site(Site::Go(2))),
    ]
}
