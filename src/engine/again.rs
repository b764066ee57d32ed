//! Proofs that can be repeated: no replay cache can tell the first copy from the next, so they are
//! limited to the sender's own address, to their own ports, and in number.

use super::auth::{Knock, Plain, Proof, Repeatable, Step, bare};
use super::{Engine, Refusal, Reject, canonical};
use crate::access::{Access, ClientId, Grant};
use crate::time::{Mono, Now};
use std::net::IpAddr;

/// The most of them in a second: each one costs a record.
const MOST: u32 = 200;

/// How many there were in the present second.
#[derive(Debug, Default)]
pub(super) struct Pace {
    second: u64,
    count: u32,
}

impl Pace {
    fn pass(&mut self, now: Mono) -> bool {
        let second = now.0 / 1_000;
        if second != self.second {
            *self = Pace { second, count: 0 };
        }
        self.count += 1;
        self.count <= MOST
    }

    /// Whether this is the first one of its second.
    fn is_new(&self) -> bool {
        self.count == 1
    }
}

impl Engine {
    pub(super) fn repeat(
        &mut self,
        proof: &Repeatable,
        from: IpAddr,
        now: Now,
    ) -> Result<Grant, Reject> {
        if self.broken {
            return Err(Reject::NoRecord);
        }
        if !self.pace.pass(now.mono) || self.is_behind(proof.action()) {
            return Err(Reject::Busy);
        }
        // Without sealed packets nothing else would forget what is over.
        if self.pace.is_new() {
            self.ledger.forget(now, self.cache.oldest(now));
        }
        let request = bare(proof.action(), now.unix);
        let grant = self.policy.decide(proof.client(), proof.assurance(), &request, from, now)?;
        self.grant(grant);
        Ok(grant)
    }

    /// Takes one knock; what it opens or closes at once, what has to wait for the disk first
    /// (`Ok(None)`), and what of that was refused.
    pub fn handle_knock(
        &mut self,
        from: IpAddr,
        step: Step,
        now: Now,
    ) -> Vec<Result<Option<Grant>, Refusal>> {
        let from = canonical(from);
        let done = self.knocks.handle(from, step, now, |line| self.ledger.is_used(line));
        let outcome = |proof: Proof| {
            let (client, outcome) = match proof {
                Proof::Once(once) => (once.client(), self.admit(once, from, now)),
                Proof::Again(proof) => (proof.client(), self.repeat(&proof, from, now).map(Some)),
            };
            outcome.map_err(|reason| Refusal { reason, client: Some(client) })
        };
        done.into_iter().map(outcome).collect()
    }

    /// How many one-time sequences each entry that has any has left.
    #[must_use]
    pub fn sequences_left(&self) -> Vec<(ClientId, usize)> {
        self.knocks.left(|line| self.ledger.is_used(line))
    }

    /// The knock sequences with their access entries. Who is halfway stays so if they are the same
    /// as before.
    pub fn set_knocks(&mut self, knocks: Vec<(Access, Knock)>) {
        for before in self.knocks.clients() {
            self.policy.remove_client(before);
        }
        let (entries, knocks): (Vec<Access>, Vec<Knock>) = knocks.into_iter().unzip();
        entries.into_iter().for_each(|access| self.policy.set_client(access));
        self.knocks.set(knocks);
    }

    /// The plain key, with its access entry; none: such packets are strangers'.
    pub fn set_plain(&mut self, plain: Option<(Access, Plain)>) {
        if let Some(before) = self.plain.take() {
            self.policy.remove_client(before.client);
        }
        if let Some((access, plain)) = plain {
            self.policy.set_client(access);
            self.plain = Some(plain);
        }
    }
}
