//! A lane that is full refuses at once, and what it took it answers.

use sandyq::{
    domain::token::AnyToken,
    policy::model::View,
    vault::{access::Call, detokenize::Detokenize, error::VaultError, lane::QUEUE_ITEMS},
};
use tokio::task::JoinSet;

use crate::common::{
    backend::{Backend, on_both},
    gate::{HOLD_BEFORE, PASS, gated},
    vault::asker,
};

/// Items of one call.
const ITEMS: usize = 1_000;

on_both!(a_full_lane_refuses_at_once_and_answers_what_it_took);
async fn a_full_lane_refuses_at_once_and_answers_what_it_took(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let open = std::sync::Arc::new(open);
    let stored = std::sync::Arc::new(open.store_iin(1).await);
    let flood = QUEUE_ITEMS / ITEMS + 8;
    // While the first commit is held, nothing that was taken can be answered: a call that ends now was refused.
    gate.set(HOLD_BEFORE);
    let mut tasks = JoinSet::new();
    let mut refused = 0;
    for _ in 0..flood {
        let (open, stored) = (std::sync::Arc::clone(&open), std::sync::Arc::clone(&stored));
        tasks.spawn(async move {
            let token = stored.tokens[0].token.reveal();
            let question = Detokenize {
                tokens: (0..ITEMS).map(|_| AnyToken::parse(&token)).collect(),
                purpose: "payments".parse().unwrap(),
                view: View::Full,
                age_years: 0,
                recipient: None,
                outreach: None,
                reference: None,
                sealed: false,
                call: Call::BatchDetokenize,
            };
            let answers = open.vault.detokenize(&open.caller("payments"), asker("payments"), question).await;
            answers.map(|answers| answers.into_iter().flatten().count())
        });
    }
    gate.committed.acquire().await.unwrap().forget();
    let took = QUEUE_ITEMS / ITEMS;
    while refused < flood - took {
        match tasks.join_next().await.unwrap().unwrap() {
            Err(VaultError::Overloaded) => refused += 1,
            other => panic!("answered while the commit was held: {other:?}"),
        }
    }
    gate.set(PASS);
    gate.go_on.add_permits(flood);
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.unwrap().unwrap(), ITEMS, "what the lane took it answers in full");
    }
    assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "and it takes calls again");
}
