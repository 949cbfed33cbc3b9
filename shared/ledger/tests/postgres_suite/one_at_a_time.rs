//! What one record has at a time, however many coordinators ask: the lock of its resource.
use sexton_ledger::NotDone;
use sexton_model::decide::Refusal;
use sexton_model::job::Stage;

use crate::conformance::second_lock;
use crate::conformance::stage::job_id;
use crate::database::Database;
use crate::races::claim;

/// What the index refuses is no error: whoever claims comes again later, and others of its batch go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_the_lock_taken_is_told_not_yet() {
    let database = Database::new().await;
    let (on, second) = second_lock(&database).await;
    let job = job_id(second.deletion, Stage::Announce);
    let other = claim(job_id(on.doomed("web02").await, Stage::Announce));
    let results = on.ledger.run(vec![second, other]).await.unwrap();
    let told = |refused: &NotDone| *refused == NotDone::Refused(Refusal::NotYet(job));
    assert!(results[0].as_ref().is_err_and(told), "{results:?}");
    assert!(results[1].as_ref().is_ok_and(|decided| decided.dispatch.is_some()), "{results:?}");
}
