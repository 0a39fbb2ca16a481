//! Names of signed requests: each taken once, whatever is forgotten and whatever the clock says. Each outcome is also
//! what the model says.

use super::model::Model;
use super::*;
use crate::store::{Nonce, SignerKey};

/// Both.
struct Pair {
    h: Harness,
    model: Model,
}

impl Pair {
    fn new(h: Harness) -> Self {
        let model = Model::new(h.store().epoch());
        Self { h, model }
    }

    async fn run(&mut self, op: Op) -> Outcome {
        let outcome = self.h.run(op.clone()).await;
        let model = self.model.apply(op.clone(), 0);
        assert_eq!(format!("{outcome:?}"), format!("{model:?}"), "{op:?}");
        outcome
    }

    async fn take(&mut self, key: SignerKey, id: &str, second: i64) -> Nonce {
        match self.run(nonce(key, id, second)).await {
            Outcome::Nonce(nonce) => nonce,
            other => panic!("{other:?}"),
        }
    }

    async fn forget(&mut self, before: i64, limit: usize) -> u64 {
        let op = Op::RetainNonces {
            signed_before: at(before),
            keys: vec![1],
            limit,
        };
        match self.run(op).await {
            Outcome::Removed { count } => count,
            other => panic!("{other:?}"),
        }
    }
}

fn nonce(key: SignerKey, id: &str, second: i64) -> Op {
    Op::Nonce {
        key,
        id: id.into(),
        signed_at: at(second),
        most: 5,
    }
}

pub(in crate::store) async fn a_name_is_taken_once(h: Harness) {
    let mut pair = Pair::new(h);
    assert_eq!(pair.take(1, "a", 0).await, Nonce::Fresh);
    assert_eq!(pair.take(1, "a", 0).await, Nonce::Repeated);
    assert_eq!(pair.take(1, "a", 99).await, Nonce::Repeated, "at any time");
    assert_eq!(pair.take(2, "a", 0).await, Nonce::Fresh, "of each key");
    for id in ["b", "c", "d", "e"] {
        assert_eq!(pair.take(1, id, 0).await, Nonce::Fresh);
    }
    assert_eq!(pair.take(1, "f", 0).await, Nonce::TooMany);
    assert_eq!(pair.take(1, "e", 0).await, Nonce::Repeated);
    assert_eq!(pair.take(2, "f", 0).await, Nonce::Fresh);
}

pub(in crate::store) async fn names_are_taken_once_among_many_at_once(mut h: Harness) {
    let outcomes = h.batch(vec![nonce(7, "same", 0); 64]).await;
    let fresh = |o: &&Result<Outcome, StoreError>| matches!(o, Ok(Outcome::Nonce(Nonce::Fresh)));
    assert_eq!(outcomes.iter().filter(fresh).count(), 1);
}

pub(in crate::store) async fn what_is_forgotten_is_never_taken_again(h: Harness) {
    let mut pair = Pair::new(h);
    for (n, id) in ["a", "b", "c"].into_iter().enumerate() {
        pair.take(1, id, n as i64).await;
        pair.take(2, id, n as i64).await;
    }
    assert_eq!(pair.forget(2, 3).await, 3, "a portion");
    assert_eq!(pair.forget(2, 3).await, 1);
    for (id, second) in [("a", 0), ("b", 1), ("new", 1)] {
        assert_eq!(pair.take(1, id, second).await, Nonce::Forgotten);
    }
    assert_eq!(pair.take(1, "c", 2).await, Nonce::Repeated);
    assert_eq!(pair.take(1, "a", 2).await, Nonce::Fresh, "signed anew");
    assert_eq!(pair.take(3, "a", 0).await, Nonce::Fresh, "of another key");
    // There is room again for what was forgotten.
    for id in ["d", "e", "f"] {
        assert_eq!(pair.take(1, id, 3).await, Nonce::Fresh);
    }
    assert_eq!(pair.take(1, "g", 3).await, Nonce::TooMany);
    // Of a key that is in use the floor stays, also when nothing else is left.
    pair.forget(9, 99).await;
    assert_eq!(pair.take(1, "z", 3).await, Nonce::Forgotten);
}

pub(in crate::store) async fn a_restored_store_takes_nothing_from_before(h: Harness) {
    let mut pair = Pair::new(h);
    let guard = |second| Op::GuardNonces { floor: at(second) };
    match pair.run(guard(10)).await {
        Outcome::NoncesGuarded { floor } => assert_eq!(floor, Some(at(10))),
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.take(1, "a", 10).await, Nonce::Forgotten);
    assert_eq!(pair.take(1, "a", 11).await, Nonce::Fresh);
    // The next start of the same store remembers all.
    match pair.run(guard(20)).await {
        Outcome::NoncesGuarded { floor } => assert_eq!(floor, None),
        other => panic!("{other:?}"),
    }
    assert_eq!(pair.take(1, "b", 11).await, Nonce::Fresh);
}
