//! What one record has at a time, however many coordinators ask: the lock of its resource, and being its live record.
use std::sync::Arc;

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Ledger, NotDone};
use sexton_model::decide::Refusal;
use sexton_model::job::Stage;
use sqlx::PgConnection;
use tokio::sync::Barrier;

use crate::conformance::stage::Stagehand;
use crate::conformance::stage::{actor, job_id, options, plan, resource};
use crate::conformance::{claiming, second_lock, with_card};
use crate::database::Database;
use crate::keys::until;
use crate::races::{claim, handles};

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

/// Each of eight coordinators wants a record of the same resource at the same moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_make_a_record_at_once_one_does() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 8).await;
    for round in 0..20 {
        let resource = hand.register(&format!("vm{round}")).await;
        let wanted = hand.wanted(&resource).await;
        let barrier = Arc::new(Barrier::new(ledgers.len()));
        let mut tasks = Vec::new();
        for ledger in &ledgers {
            let (ledger, barrier, wanted) = (ledger.clone(), barrier.clone(), wanted.clone());
            tasks.push(tokio::spawn(async move {
                barrier.wait().await;
                ledger.create(vec![wanted]).await.unwrap().remove(0)
            }));
        }
        let (mut made, mut refused) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                Ok(deletion) => made.push(deletion),
                Err(why) => refused.push(why),
            }
        }
        let [deletion] = made[..] else { panic!("round {round}: {made:?} were made, {refused:?}") };
        assert_eq!(hand.ledger.deletion_of(&resource).await.unwrap(), Some(deletion));
        let taken = NotDone::AlreadyLive { resource, deletion };
        assert_eq!(refused, vec![taken; ledgers.len() - 1], "round {round}");
    }
    drop((ledgers, hand));
    assert_eq!(database.deadlocks().await, 0);
}

/// One coordinator makes a record while another one registers a machine that claims the same, in each of many rounds: never are
/// both done.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_record_is_made_while_another_machine_with_its_claim_is_registered() {
    let database = Database::new().await;
    let (left, right) = (database.open(claiming()).await.unwrap(), database.open(claiming()).await.unwrap());
    let hand = Stagehand { ledger: left.clone(), plan: plan() };
    let mut done = [0; 2];
    for round in 0..60 {
        let mac = format!("52:54:00:00:00:{round:02x}");
        let old = with_card(&format!("old{round}"), &mac);
        let new = with_card(&format!("new{round}"), &mac);
        let registered = left.register(vec![old.clone()], &actor("ops"), false).await.unwrap();
        assert_eq!(registered, [Ok(())]);
        let wanted = hand.wanted(&old.id).await;
        let barrier = Arc::new(Barrier::new(2));
        let (ledger, both) = (left.clone(), barrier.clone());
        let making = tokio::spawn(async move {
            both.wait().await;
            ledger.create(vec![wanted]).await.unwrap().remove(0)
        });
        let (ledger, both) = (right.clone(), barrier);
        let registering = tokio::spawn(async move {
            both.wait().await;
            ledger.register(vec![new], &actor("ops"), false).await.unwrap().remove(0)
        });
        let (made, registered) = (making.await.unwrap(), registering.await.unwrap());
        match (&made, &registered) {
            (Ok(_), Err(NotDone::Contested(_))) => done[0] += 1,
            (Err(NotDone::Contested(_)), Ok(())) => done[1] += 1,
            other => panic!("round {round}: {other:?}"),
        }
    }
    assert_eq!(done[0] + done[1], 60, "{done:?}");
    drop((hand, left, right));
    assert_eq!(database.deadlocks().await, 0);
}

/// How many locks somebody waits for in this database.
async fn waiting(looking: &mut PgConnection) -> i64 {
    let sql = "SELECT count(*) FROM pg_locks WHERE NOT granted \
               AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    sqlx::query_scalar(sql).fetch_one(looking).await.unwrap()
}

/// Two coordinators go by other files than whoever filled the table of claims, and both come to say so at the same instant: one
/// waits for the other, and neither has to begin again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_go_by_other_files_do_not_lock_each_other_out() {
    let database = Database::new().await;
    let (left, right) = (database.open(claiming()).await.unwrap(), database.open(claiming()).await.unwrap());
    let (mut other, mut looking) = (database.raw().await, database.raw().await);
    for round in 0..5 {
        sqlx::raw_sql("UPDATE claimable SET declared = 'other'").execute(&mut other).await.unwrap();
        // Whichever comes first waits until both are there.
        sqlx::raw_sql("BEGIN; SELECT 1 FROM claimable FOR UPDATE").execute(&mut other).await.unwrap();
        let register = |ledger: &Arc<PgLedger>, name: &str| {
            let name = format!("{name}{round}");
            let (ledger, new) = (ledger.clone(), resource(&name, &name));
            tokio::spawn(async move { ledger.register(vec![new], &actor("ops"), false).await.unwrap() })
        };
        let (one, two) = (register(&left, "left"), register(&right, "right"));
        until(async || waiting(&mut looking).await == 2).await;
        sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
        assert_eq!((one.await.unwrap(), two.await.unwrap()), (vec![Ok(())], vec![Ok(())]));
        let declared = sqlx::query_scalar("SELECT declared FROM claimable");
        let declared: String = declared.fetch_one(&mut looking).await.unwrap();
        assert_eq!(declared, "", "whoever is started next fills the table again");
    }
    drop((left, right, other, looking));
    assert_eq!(database.deadlocks().await, 0);
}

/// A coordinator by whose files nothing is a claim has registered a machine, and not committed that yet, when one by whose files
/// there are claims is started for the first time: that waits, and writes down what the machine claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_others_are_registering_is_there_before_claims_are_written_down() {
    let database = Database::new().await;
    let by_none = database.open(options()).await.unwrap();
    let (mut other, mut looking) = (database.raw().await, database.raw().await);
    // All that registers comes as far as its events, and no further.
    let hinder = "BEGIN; LOCK TABLE ledger_audit IN SHARE MODE";
    sqlx::raw_sql(hinder).execute(&mut other).await.unwrap();
    let new = with_card("one", "52:54:00:00:00:01");
    let registering = tokio::spawn(async move { by_none.register(vec![new], &actor("ops"), false).await });
    until(async || waiting(&mut looking).await == 1).await;
    let url = database.url();
    let opening = tokio::spawn(async move { PgLedger::open(&url, claiming()).await.map(drop) });
    until(async || opening.is_finished() || waiting(&mut looking).await == 2).await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    assert_eq!(registering.await.unwrap().unwrap(), [Ok(())]);
    opening.await.unwrap().unwrap();
    let claims = sqlx::query_scalar::<_, String>("SELECT name FROM claims");
    let claims = claims.fetch_all(&mut looking).await.unwrap();
    assert_eq!(claims, ["ipam.main: mac 52:54:00:00:00:01"]);
}
