use super::*;
use proptest::prelude::*;

const START: u64 = 1_000_000;

fn claim(client: u8, host: u8, open: bool, replace: bool, at: u64, ms: u64) -> Claim {
    let from = format!("192.0.2.{host}").parse().unwrap();
    Claim {
        client: ClientId([client; 8]),
        assurance: Assurance::Sealed,
        action: if open { Action::Open } else { Action::Close },
        replace,
        addresses: [Some(from), None],
        services: Services::EMPTY,
        time: Unix(START + at),
        until: Mono(at + ms),
    }
}

#[test]
fn what_ends_a_prefix_ends_all_that_is_open_there_and_nothing_else() {
    let mut ledger = Ledger::default();
    let now = Now { unix: Unix(START + 10), mono: Mono(10) };
    let six = "2001:db8::1".parse().unwrap();
    let two = claim(1, 2, true, false, 60, 100);
    ledger.note(Claim { addresses: [two.addresses[0], Some(six)], ..two });
    ledger.note(claim(1, 1, true, false, 0, 50));
    ledger.note(claim(1, 1, true, true, 0, 90));
    ledger.note(claim(2, 1, true, false, 0, 10));
    ledger.note(claim(2, 2, false, false, 0, 50));
    let close = |host, until| Claim {
        time: now.unix,
        until: Mono(until),
        ..claim(1, host, false, false, 0, 0)
    };
    let on = |prefix: &str| ledger.on(&prefix.parse().unwrap(), now);
    assert_eq!(on("192.0.2.0/24"), [close(1, 90), close(2, 160)]);
    assert_eq!(on("192.0.2.2"), [close(2, 160)]);
    assert_eq!(on("2001:db8::/64"), [Claim { addresses: [None, Some(six)], ..close(1, 160) }]);
    assert_eq!(on("198.51.100.0/24"), []);
}

proptest! {
    /// What is forgotten is over and too old, and ended nothing that is not over; what is kept has a
    /// reason; and in the end nothing is left.
    #[test]
    fn nothing_is_forgotten_too_early_or_kept_for_ever(
        steps in prop::collection::vec(
            (1u8..3, 1u8..4, any::<bool>(), prop::bool::weighted(0.2), 0u64..40, 1u64..400, 0u64..30),
            1..60),
    ) {
        let mut ledger = Ledger::default();
        let mut at = 0;
        for (client, host, open, replace, late, ms, pause) in steps {
            at += pause;
            ledger.note(claim(client, host, open, replace, at - late.min(at), ms));
            let now = Now { unix: Unix(START + at), mono: Mono(at) };
            let oldest = now.unix.minus(100);
            let before = ledger.claims.clone();
            ledger.forget(now, oldest);
            let runs = |c: &Claim| c.action == Action::Open && c.until > now.mono;
            for (said, claim) in &before {
                let mut earlier = before.range(..said).filter(|(_, c)| c.client == claim.client);
                match ledger.claims.contains_key(said) {
                    true => {
                        let opens = |c: &Claim| c.action == Action::Open;
                        let open = ledger.claims.range(..said).any(|(_, c)| {
                            c.client == claim.client && opens(c)
                        });
                        prop_assert!(runs(claim) || claim.time >= oldest || ends(claim) && open);
                    }
                    false => {
                        prop_assert!(!runs(claim) && claim.time < oldest);
                        prop_assert!(!ends(claim) || !earlier.any(|(_, c)| runs(c)));
                    }
                }
            }
        }
        let late = Now { unix: Unix(START + at + 1_000), mono: Mono(at + 1_000) };
        ledger.forget(late, late.unix);
        let Ages { dated, ending, opens, lingering } = &ledger.ages;
        prop_assert!(ledger.claims.is_empty() && ledger.latest.is_empty());
        prop_assert!(ledger.ended.is_empty() && dated.is_empty() && ending.is_empty());
        prop_assert!(opens.is_empty() && lingering.is_empty());
    }
}
