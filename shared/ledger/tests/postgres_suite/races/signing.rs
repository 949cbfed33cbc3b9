//! What coordinators that sign at once must not be able to do to the sequence of checkpoints.
use std::collections::HashMap;
use std::sync::Arc;

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Intent, Ledger};
use sexton_model::DeletionId;
use sexton_model::decide::Event;
use tokio::sync::Barrier;

use super::{handles, records};
use crate::conformance::stage::actor;
use crate::conformance::{keep, kept};
use crate::database::Database;

/// Sign all that has grown, as a coordinator does. How many were kept, and how often another one was faster.
async fn sign(ledger: &PgLedger) -> (usize, usize) {
    let (mut signed, mut slower, mut after) = (0, 0, None::<String>);
    loop {
        let (sequence, _) = kept(ledger).await;
        let page = ledger.grown(after.as_deref()).await.unwrap();
        if !page.heads.is_empty() {
            if !keep(ledger, &sequence, page.heads).await {
                slower += 1;
                continue;
            }
            signed += 1;
        }
        after = page.next;
        if after.is_none() {
            return (signed, slower);
        }
    }
}

/// Coordinators that sign at the same moment, while chains grow, continue one sequence: no number twice, none left out,
/// no chain as far as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sign_at_once_and_the_sequence_does_not_fork() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 4).await;
    let ids = records(&hand, 40).await;
    let begin = Arc::new(Barrier::new(ledgers.len()));
    let mut tasks = Vec::new();
    for ledger in &ledgers {
        let (ledger, begin, ids) = (ledger.clone(), begin.clone(), ids.clone());
        tasks.push(tokio::spawn(async move {
            let mut slower = 0;
            for _ in 0..10 {
                begin.wait().await;
                for id in &ids[..10] {
                    let event = Event::PlaceHold { by: actor("ops"), reason: "look".into() };
                    ledger.run(vec![Intent { deletion: *id, event }]).await.unwrap().remove(0).unwrap();
                }
                // However long each took, they sign at one moment.
                begin.wait().await;
                slower += sign(&ledger).await.1;
            }
            slower
        }));
    }
    let mut slower = 0;
    for task in tasks {
        slower += task.await.unwrap();
    }
    assert!(slower > 0, "nobody ever met another one: this test is about nothing");
    sign(&ledgers[0]).await;
    // Following each other, and no chain back, is seen by `kept`.
    let (_, newest) = kept(&*ledgers[0]).await;
    let heads: HashMap<String, i64> = newest.into_heads().map(|head| (head.chain, head.seq)).collect();
    assert_eq!(heads.len(), 80);
    for id in &ids {
        assert_eq!(heads[&id.to_string()], hand.view(*id).await.deletion.audit_seq);
    }
}

/// Coordinators that have read the same come with the same number at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_sign_the_same_number_one_is_kept() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 4).await;
    let ids = records(&hand, 40).await;
    for round in 1..=30 {
        let hold = |id: &DeletionId| Intent {
            deletion: *id,
            event: Event::PlaceHold { by: actor("ops"), reason: "look".into() },
        };
        assert!(ledgers[0].run(ids.iter().map(hold).collect()).await.unwrap().iter().all(Result::is_ok));
        let (sequence, _) = kept(&*ledgers[0]).await;
        let heads = ledgers[0].grown(Some("deletions")).await.unwrap().heads;
        assert_eq!(heads.len(), ids.len());
        let begin = Arc::new(Barrier::new(ledgers.len()));
        let mut tasks = Vec::new();
        for ledger in &ledgers {
            let (ledger, begin, sequence, heads) =
                (ledger.clone(), begin.clone(), sequence.clone(), heads.clone());
            tasks.push(tokio::spawn(async move {
                begin.wait().await;
                keep(&*ledger, &sequence, heads).await
            }));
        }
        let mut faster = 0;
        for task in tasks {
            faster += usize::from(task.await.unwrap());
        }
        assert_eq!((faster, kept(&*ledgers[0]).await.0.number()), (1, round));
    }
}
