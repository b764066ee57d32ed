//! Strikes, bans and the recovery PIN: the seed's numbers, and bounds under a flood.

#![allow(clippy::unwrap_used)]

mod packets;

use opensesame_spa::access::Prefix;
use opensesame_spa::crypto::random;
use opensesame_spa::engine::suspicion::{
    Ban, Guessed, MOST_BANS, MOST_STRUCK, Pin, Rules, Suspicion, Verdict,
};
use opensesame_spa::time::Now;
use packets::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const OWN: &str = "198.51.100.1";
const STRANGER: &str = "203.0.113.7";

fn net(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn pin(text: &str) -> Pin {
    Pin::new(text.as_bytes()).unwrap()
}

fn rules() -> Rules {
    Rules { never: vec![net("10.1.0.0/16"), net("2001:db8:7::9")], ..Rules::default() }
}

fn fresh() -> Suspicion {
    Suspicion::new(rules(), vec![ip(OWN), ip("2001:db8:8::1")])
}

/// Strikes until the address is banned; the ban.
fn ban(s: &mut Suspicion, from: IpAddr, chance: u64, now: Now) -> Ban {
    (0..10).find_map(|_| s.handle_strike(from, chance, now).1).expect("a ban")
}

fn answer(guessed: Guessed) -> Verdict {
    match guessed {
        Guessed::Answer(verdict) => verdict,
        Guessed::Replace(_) => panic!("right"),
    }
}

fn guess(s: &mut Suspicion, from: IpAddr, text: &str, now: Now) -> Guessed {
    s.handle_guess(1, from, &pin(text), pin("111122223333"), now)
}

#[test]
fn three_unknown_paths_are_served_and_the_fourth_blocks() {
    let (mut s, now) = (fresh(), at(0));
    for left in [2, 1, 0] {
        assert_eq!(
            s.handle_strike(ip(STRANGER), 0, now),
            (Verdict::Counted { left }, None),
            "{left} left"
        );
        assert_eq!(s.ban(ip(STRANGER), now), None);
    }
    let until = now.unix.plus(10 * MINUTE);
    let first = Ban { prefix: net(STRANGER), until, times: 1 };
    let blocked = Verdict::Blocked { until };
    assert_eq!(s.handle_strike(ip(STRANGER), 0, now), (blocked, Some(first)));
    assert_eq!(s.handle_strike(ip(STRANGER), 0, at(9 * MINUTE)), (blocked, None));
    // Another address is another matter, and a ban ends by itself, with a new budget.
    assert_eq!(s.handle_strike(ip("203.0.113.8"), 0, now).0, Verdict::Counted { left: 2 });
    let after = at(10 * MINUTE);
    assert_eq!(s.ban(ip(STRANGER), after), None);
    assert_eq!(s.handle_strike(ip(STRANGER), 0, after).0, Verdict::Counted { left: 2 });
}

#[test]
fn a_ban_is_twice_as_long_each_time_up_to_the_cap_with_a_random_part() {
    let plain = [10, 20, 40, 80, 160, 320, 640, 1_280, 1_440, 1_440, 1_440];
    for chance in [0, 1, 77_777, u64::MAX / 3, u64::MAX] {
        let (mut s, mut now) = (fresh(), at(0));
        for (n, minutes) in plain.iter().enumerate() {
            let ban = ban(&mut s, ip(STRANGER), chance, now);
            assert_eq!(usize::from(ban.times), n + 1);
            let (length, plain) = (ban.until.since(now.unix), minutes * MINUTE);
            let most = (plain + plain / 4).min(DAY);
            let least = if most == DAY { DAY - plain / 4 } else { plain };
            assert!((least..=most).contains(&length), "{length} of {plain} with {chance}");
            if chance == 0 {
                assert_eq!(length, plain);
            }
            now = Now { unix: ban.until, mono: now.mono.plus(length) };
        }
        // A day without a ban, and all is forgotten.
        let later = Now { unix: now.unix.plus(DAY), ..now };
        assert_eq!(ban(&mut s, ip(STRANGER), 0, later).times, 1);
    }
    let mut lengths: Vec<u64> = (0..50)
        .map(|_| {
            let chance = random().map(u64::from_be_bytes).unwrap();
            ban(&mut fresh(), ip(STRANGER), chance, at(0)).until.0
        })
        .collect();
    lengths.sort_unstable();
    lengths.dedup();
    assert!(lengths.len() > 40, "an end that can be foreseen: {lengths:?}");
}

#[test]
fn what_is_counted_is_an_ipv4_address_or_a_64() {
    let (mut s, now) = (fresh(), at(0));
    let cases = [
        ("::ffff:203.0.113.7", "203.0.113.7", "203.0.113.8"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64", "2001:db8:1:3::1"),
        // The machine's own /64, and one with somebody who is never banned: one by one.
        ("2001:db8:8::5", "2001:db8:8::5", "2001:db8:8::6"),
        ("2001:db8:7::8", "2001:db8:7::8", "2001:db8:7::7"),
    ];
    for (from, prefix, other) in cases {
        assert_eq!(ban(&mut s, ip(from), 0, now).prefix, net(prefix), "{from}");
        assert!(s.ban(ip(from), now).is_some() && s.ban(ip(other), now).is_none(), "{from}");
    }
    assert!(s.ban(ip("2001:db8:1:2:ffff::9"), now).is_some());
}

#[test]
fn who_is_never_banned_is_never_banned() {
    let never = [
        "127.0.0.1",
        "127.9.9.9",
        "::1",
        "169.254.3.4",
        "fe80::1",
        "::ffff:127.0.0.1",
        OWN,
        "2001:db8:8::1",
        "10.1.2.3",
        "::ffff:10.1.255.255",
        "2001:db8:7::9",
    ];
    let mut s = fresh();
    for from in never {
        for _ in 0..20 {
            assert_eq!(s.handle_strike(ip(from), 7, at(0)), (Verdict::Exempt, None), "{from}");
        }
        assert_eq!(answer(guess(&mut s, ip(from), "12345678", at(0))), Verdict::Exempt);
    }
    assert_eq!((s.struck(), s.bans().count()), (0, 0));
    // A ban that the journal remembers does not hold against today's rules either.
    let until = at(HOUR).unix;
    s.restore(Ban { prefix: net("10.1.2.3"), until, times: 1 }, at(0));
    s.restore(Ban { prefix: net("2001:db8:8::/64"), until, times: 1 }, at(0));
    assert_eq!(s.bans().count(), 0);
    // And one that runs ends when its network becomes one of them.
    ban(&mut s, ip(STRANGER), 0, at(0));
    let more = Rules { never: vec![net("203.0.113.0/24")], ..rules() };
    assert_eq!(s.set(more, vec![]), [net(STRANGER)]);
    assert_eq!(s.ban(ip(STRANGER), at(0)), None);
}

#[test]
fn a_strike_is_forgiven_in_an_hour() {
    let mut s = fresh();
    let counted = |s: &mut Suspicion, ms| {
        let verdict = s.handle_strike(ip(STRANGER), 0, at(ms)).0;
        let Verdict::Counted { left } = verdict else { panic!("{verdict:?}") };
        left
    };
    assert_eq!([0, 1, 2].map(|ms| counted(&mut s, ms)), [2, 1, 0]);
    assert_eq!(counted(&mut s, HOUR), 0, "one is forgiven, and one comes");
    assert_eq!(counted(&mut s, 4 * HOUR), 2, "three more hours, three more");
    let mut s = fresh();
    assert!((0..100).all(|n| counted(&mut s, n * HOUR) == 2), "one an hour never blocks");
    assert!((1..3).all(|n| counted(&mut s, 99 * HOUR + n) < 2));
}

#[test]
fn four_guesses_in_one_ban_and_no_more_are_compared() {
    let (mut s, now, from) = (fresh(), at(0), ip(STRANGER));
    assert_eq!(s.handle_pin(pin("123456789012")), None);
    assert_eq!(answer(guess(&mut s, from, "123456789012", now)), Verdict::Exempt, "not banned");
    let first = ban(&mut s, from, 0, now);
    let tries = ["1", "123456789013", "1234567890120", "12345678901"];
    for (text, left) in tries.iter().zip([3, 2, 1, 0]) {
        let wrong = Verdict::Wrong { left, delay_ms: 0 };
        assert_eq!(answer(guess(&mut s, from, text, now)), wrong, "{text}");
    }
    // Not even compared: the right one is of no use now.
    let blocked = Verdict::Blocked { until: first.until };
    assert_eq!(answer(guess(&mut s, from, "123456789012", now)), blocked);
    // In the next ban there are four again.
    let next = Now { unix: first.until, mono: now.mono.plus(HOUR) };
    ban(&mut s, from, 0, next);
    assert!(matches!(guess(&mut s, from, "123456789012", next), Guessed::Replace(_)));
}

#[test]
fn the_right_pin_works_once_and_only_when_the_next_one_is_kept() {
    let (mut s, now) = (fresh(), at(0));
    s.handle_pin(pin("123456789012"));
    let (one, two) = (ip(STRANGER), ip("203.0.113.8"));
    for from in [one, two] {
        ban(&mut s, from, 0, now);
    }
    let Guessed::Replace(next) = guess(&mut s, one, "123456789012", now) else { panic!() };
    assert_eq!(next, pin("111122223333"));
    assert!(s.ban(one, now).is_some(), "nobody is pardoned before the file is replaced");
    // Somebody else who has it too comes too late.
    let late = answer(guess(&mut s, two, "123456789012", now));
    assert!(matches!(late, Verdict::Wrong { left: 3, .. }), "{late:?}");
    // The file could not be replaced: the old one stays, and nobody is pardoned.
    let settled = s.handle_pin(pin("123456789012")).unwrap();
    assert!(matches!(settled.verdict, Verdict::Wrong { left: 4, .. }), "{settled:?}");
    assert!(settled.pardoned.is_none() && s.ban(one, now).is_some());
    // Now it could.
    assert!(matches!(guess(&mut s, one, "123456789012", now), Guessed::Replace(_)));
    let settled = s.handle_pin(pin("111122223333")).unwrap();
    assert_eq!((settled.verdict, settled.pardoned), (Verdict::Pardoned, Some(net(STRANGER))));
    assert_eq!(s.ban(one, now), None);
    assert_eq!(s.handle_strike(one, 0, now).0, Verdict::Counted { left: 2 });
    let used = answer(guess(&mut s, two, "123456789012", now));
    assert!(matches!(used, Verdict::Wrong { .. }), "{used:?}");
    assert!(matches!(guess(&mut s, two, "111122223333", now), Guessed::Replace(_)));
}

#[test]
fn many_wrong_guesses_slow_all_answers_down_and_lock_nobody_out() {
    let (mut s, now) = (fresh(), at(0));
    s.handle_pin(pin("123456789012"));
    let mut delays = vec![];
    for n in 0..50u8 {
        let from = IpAddr::from([203, 0, 113, n]);
        ban(&mut s, from, 0, now);
        for _ in 0..4 {
            let verdict = answer(guess(&mut s, from, "00000000", now));
            let Verdict::Wrong { delay_ms, .. } = verdict else { panic!("{verdict:?}") };
            delays.push(delay_ms);
        }
    }
    assert!(delays.is_sorted() && delays[..10].iter().all(|d| *d == 0), "{delays:?}");
    assert_eq!((delays[10], *delays.last().unwrap()), (100, 5_000));
    let victim = ip(STRANGER);
    s.pardon(&net(STRANGER));
    ban(&mut s, victim, 0, now);
    assert!(matches!(guess(&mut s, victim, "123456789012", now), Guessed::Replace(_)));
    // It cools down.
    let later = at(30 * MINUTE);
    let from = ip("203.0.114.1");
    ban(&mut s, from, 0, later);
    assert_eq!(
        answer(guess(&mut s, from, "00000000", later)),
        Verdict::Wrong { left: 3, delay_ms: 0 }
    );
}

#[test]
fn a_flood_fills_no_memory_and_ends_no_ban() {
    let (mut s, now) = (fresh(), at(0));
    let first = ban(&mut s, ip(STRANGER), 0, now);
    let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x1400_0000 + n));
    let most = MOST_STRUCK as u32;
    for n in 0..most + 5_000 {
        s.handle_strike(address(n), 0, now);
    }
    assert_eq!(s.struck(), MOST_STRUCK);
    // The oldest strikes are forgotten, the newest are not.
    let left = |s: &mut Suspicion, n| s.handle_strike(address(n), 0, now).0;
    assert_eq!(left(&mut s, most + 4_999), Verdict::Counted { left: 1 });
    assert_eq!(left(&mut s, 0), Verdict::Counted { left: 2 });
    for n in 0..MOST_BANS as u32 - 1 {
        ban(&mut s, address(n), 0, now);
    }
    assert_eq!(s.bans().count(), MOST_BANS);
    // All run: one more is answered as blocked each time, and ends nobody's ban.
    let extra = ip("203.0.113.99");
    let strikes: Vec<_> = (0..5).map(|_| s.handle_strike(extra, 0, now)).collect();
    assert_eq!(strikes[4], (Verdict::Blocked { until: first.until }, None));
    assert_eq!((s.bans().count(), s.ban(extra, now)), (MOST_BANS, None));
    assert_eq!(s.ban(ip(STRANGER), now), Some(first));
    // When they are over there is room again.
    let later = at(10 * MINUTE);
    assert_eq!(ban(&mut s, extra, 0, later).times, 1);
    assert_eq!(s.bans().count(), MOST_BANS);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Whatever happens: who is spared is never banned, no ban is longer than the longest, and none
    /// ends before its end but by a pardon.
    #[test]
    fn nothing_that_strangers_do_bans_the_wrong_or_frees_the_banned(
        steps in prop::collection::vec((0u8..6, 0u8..12, any::<u64>(), 0u64..2 * HOUR), 1..300)
    ) {
        let (mut s, mut now) = (fresh(), at(0));
        s.handle_pin(pin("123456789012"));
        let all = [
            STRANGER, "::ffff:203.0.113.7", "203.0.113.8", "2001:db8:1:2::1", "2001:db8:1:2::2",
            "2001:db8:8::1", "2001:db8:8::2", "10.1.0.1", "127.0.0.1", "fe80::2", OWN,
            "2001:db8:7::9",
        ];
        let mut model: Vec<Ban> = vec![];
        for (what, who, chance, ms) in steps {
            let from = ip(all[usize::from(who)]);
            match what {
                0..=2 => model.extend(s.handle_strike(from, chance, now).1),
                3 => {
                    let digits = pin(&(chance % 100).to_string());
                    let guessed = s.handle_guess(1, from, &digits, pin("99999999"), now);
                    prop_assert!(matches!(guessed, Guessed::Answer(_)));
                }
                4 => now = Now { unix: now.unix.plus(ms), mono: now.mono.plus(ms) },
                _ => {
                    for freed in s.lift(from) {
                        model.retain(|b| b.prefix != freed);
                    }
                }
            }
            for b in s.bans() {
                let spared = [OWN, "10.1.0.1", "127.0.0.1", "fe80::2", "2001:db8:7::9"];
                let spared = spared.iter().chain(&["2001:db8:8::1"]).map(|t| Prefix::host(ip(t)));
                prop_assert!(!spared.into_iter().any(|p| p.overlaps(&b.prefix)), "{:?}", b);
                prop_assert!(b.until.since(now.unix) <= DAY);
            }
            for b in model.iter().filter(|b| b.until > now.unix) {
                prop_assert!(s.bans().any(|held| held == b), "{:?} has ended too soon", b);
            }
            prop_assert!(s.struck() <= 12 && s.bans().count() <= 12);
        }
    }
}

#[test]
fn ipv6_addresses_of_one_64_share_a_budget() {
    let mut s = fresh();
    let from = |n: u64| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) | u128::from(n)));
    let verdicts: Vec<Verdict> = (1..5).map(|n| s.handle_strike(from(n), 0, at(0)).0).collect();
    assert!(matches!(verdicts[3], Verdict::Blocked { .. }), "{verdicts:?}");
}
