//! Canaries of the job table that many coordinators try at once, and one that does not come to the gate.
use std::sync::Arc;

use sexton_ledger::Canaries;
use sexton_ledger::postgres::PgLedger;
use sexton_model::canary::{Canary, Verdict};
use tokio::sync::Barrier;

use crate::conformance::{Fixture, shielded};
use crate::database::Database;
use crate::races::handles;

/// Numbers of records that were drawn by now, also by what was rolled back.
const DRAWN: &str = "SELECT last_value + is_called::int FROM deletion_id";
/// So many does one rehearsal draw.
const IN_ONE: i64 = 2;

/// All try the same one at one instant. Each has found it open; one tries it, and its verdict is the only one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_one_instant_one_tries_a_canary() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 8).await;
    for round in 0..10 {
        let canary = hand.to_be_tried(&[shielded()]).await.remove(0);
        let before = database.count(DRAWN).await;
        let barrier = Arc::new(Barrier::new(ledgers.len()));
        let tries = |ledger: &Arc<PgLedger>| {
            let (ledger, barrier, plan) = (ledger.clone(), barrier.clone(), hand.plan.clone());
            let id = canary.id;
            tokio::spawn(async move {
                barrier.wait().await;
                // Whoever does not come to the gate in time has tried nothing either.
                matches!(ledger.try_canary(id, &plan).await, Ok(Some(_)))
            })
        };
        let mut judged = 0;
        for task in ledgers.iter().map(tries).collect::<Vec<_>>() {
            judged += usize::from(task.await.unwrap());
        }
        let drawn = database.count(DRAWN).await - before;
        assert_eq!((judged, drawn), (1, IN_ONE), "in round {round}");
        assert!(hand.ledger.canaries().await.unwrap().iter().all(Canary::holds), "in round {round}");
    }
}

/// Somebody else is in the way for longer than one waits for a lock: that proves nothing, and it is tried again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_come_to_the_gate_tries_again_later() {
    let database = Database::new().await;
    let (_, hand) = handles(&database, 1).await;
    let sent = hand.to_be_tried(&[shielded()]).await;
    let before = database.count(DRAWN).await;
    let mut other = database.raw().await;
    // The gate, as every batch has it while it is written.
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock_shared(x'534558544f4e'::bigint)")
        .execute(&mut other)
        .await
        .unwrap();
    hand.ledger.try_canary(sent[0].id, &hand.plan).await.unwrap_err();
    assert_eq!(hand.ledger.canaries().await.unwrap(), sent, "it is as open as before");
    assert_eq!(hand.ledger.pauses().await.unwrap(), []);
    assert_eq!(database.count(DRAWN).await, before, "nothing was tried");
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let verdict = hand.tried(&sent[0]).await;
    assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
}
