//! What is decided in the worker's own process while its commit is on its way.

use std::sync::Arc;

use super::{World, correct};
use crate::common::{
    backend::{Backend, on_both},
    gate::{HOLD_BEFORE, PASS},
    officers::begin_rekey,
    people::iin,
};

/// How often it is looked whether the lane has read.
const LOOKS: u32 = 50_000;

// The lane reads the next batch while a commit is on its way: what it decides with the old key must not follow that commit.
on_both!(what_is_decided_while_a_commit_is_on_its_way_is_decided_again);
async fn what_is_decided_while_a_commit_is_on_its_way_is_decided_again(backend: Backend) {
    let world = Arc::new(World::new(&backend, 6).await);
    begin_rekey(&world.open).await.unwrap();
    world.gate.set(HOLD_BEFORE);
    let due = async {
        let due = world.open.vault.work().await.unwrap().long;
        world.open.vault.work_long(&due[0]).await
    };
    tokio::pin!(due);
    let (mut corrections, mut holds, mut rounds) = (tokio::task::JoinSet::new(), 1_000, 0);
    let ended = loop {
        tokio::select! {
            ended = &mut due => break ended,
            Some(done) = corrections.join_next() => done.unwrap(),
            permit = world.gate.committed.acquire() => {
                permit.unwrap().forget();
                if corrections.is_empty() && rounds < 12 {
                    (rounds, holds) = (rounds + 1, holds + 1);
                    let read = world.gate.reads.available_permits();
                    for number in 3..=6 {
                        let world = Arc::clone(&world);
                        corrections.spawn(async move {
                            correct(&world.open, &world.people[&number], 10 * holds + number).await;
                        });
                    }
                    // Where the head is locked nothing is read meanwhile.
                    for _ in 0..LOOKS {
                        if world.gate.reads.available_permits() > read {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                }
                world.gate.go_on.add_permits(1);
            }
        }
    };
    world.gate.set(PASS);
    world.gate.go_on.add_permits(100);
    while let Some(done) = corrections.join_next().await {
        done.unwrap();
    }
    ended.unwrap();
    for number in 3..=6 {
        let value = world.open.detokenize(&world.people[&number].tokens[0].token).await.unwrap().value;
        assert_eq!(value.expose(), iin(10 * holds + number));
    }
}
