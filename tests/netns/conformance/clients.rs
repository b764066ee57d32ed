//! Grants, as a policy makes them.

use super::site::now;
use crate::packets::{access, id, named, setup};
use opensesame_spa::access::{Action, Assurance, Claim, Grant, Services, Wanted};
use opensesame_spa::time::Unix;

/// What that client is allowed after it asked for ssh from there, for so many seconds.
pub fn grant(client: u8, from: &str, seconds: u64) -> Grant {
    let mut policy = setup(vec![]).policy;
    policy.set_client(access(client));
    let claim = Claim {
        client: id(client),
        assurance: Assurance::Sealed,
        action: Action::Open,
        replace: false,
        addresses: [Some(from.parse().unwrap()), None],
        services: Services::new(&[Wanted::Named(named("ssh"))]).unwrap(),
        time: Unix(0),
        until: now().mono.plus(seconds * 1_000),
    };
    policy.confirm(&claim, now()).unwrap()
}
