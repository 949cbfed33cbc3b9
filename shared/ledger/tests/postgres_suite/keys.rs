//! Many coordinators forget keys of requests at the same moment.
use std::sync::Arc;

use sexton_ledger::Keys as _;
use sexton_model::request_key::SWEPT_MAX;
use tokio::sync::Barrier;

use super::races::handles;
use crate::database::Database;

/// Actors `a00` to `a39`, the last one first, each with so many keys that were answered long ago.
const FILL: &str = "INSERT INTO request_keys (actor, key, request, attempt, first_sent, held_until, status, answer) \
     SELECT 'a' || to_char(39 - n % 40, 'FM00'), 'k' || n, decode(repeat('00', 32), 'hex'), 1, n, 0, 200, '{}' \
     FROM generate_series(0, $1 - 1) n";
const COUNT: &str = "INSERT INTO request_actors (actor, keys) \
     SELECT actor, count(*) FROM request_keys GROUP BY actor ORDER BY actor DESC";
const LEFT: &str = "SELECT (SELECT count(*) FROM request_keys) + (SELECT count(*) FROM request_actors)";

async fn fill(database: &Database, keys: i32) {
    let mut db = database.raw().await;
    sqlx::query(FILL).bind(keys).execute(&mut db).await.unwrap();
    sqlx::query(COUNT).execute(&mut db).await.unwrap();
}

/// Whoever takes the rows of actors in another order than everybody else may wait for one who waits for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_forgets_keys_takes_their_actors_in_one_order() {
    let database = Database::new().await;
    let (ledgers, _) = handles(&database, 1).await;
    fill(&database, 400).await;
    // Somebody has just sent another request, and has not committed it.
    let (mut asking, mut looking) = (database.raw().await, database.raw().await);
    sqlx::raw_sql("BEGIN; UPDATE request_actors SET keys = keys + 1 WHERE actor = 'a20'")
        .execute(&mut asking)
        .await
        .unwrap();
    let ledger = ledgers[0].clone();
    let forgetting = tokio::spawn(async move { ledger.forget_keys().await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype IN ('transactionid', 'tuple') \
                   AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    let waits = async || sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut looking).await.unwrap() > 0;
    until(waits).await;
    let free = "SELECT actor FROM request_actors ORDER BY actor FOR UPDATE SKIP LOCKED";
    let free: Vec<String> = sqlx::query_scalar(free).fetch_all(&mut looking).await.unwrap();
    let behind: Vec<String> = (21..40).map(|n| format!("a{n}")).collect();
    assert_eq!(free, behind, "it has taken those before the one that it waits for, and none behind it");
    sqlx::raw_sql("COMMIT").execute(&mut asking).await.unwrap();
    assert_eq!(forgetting.await.unwrap().unwrap(), 400);
    // What was sent meanwhile is counted on.
    let left: Vec<(String, i64)> =
        sqlx::query_as("SELECT actor, keys FROM request_actors").fetch_all(&mut looking).await.unwrap();
    assert_eq!(left, [("a20".to_owned(), 1)]);
}

/// What the server shows of a lock tells nobody: it is looked at again and again, for a bounded time.
pub(super) async fn until(mut so: impl AsyncFnMut() -> bool) {
    let waits = async {
        while !so().await {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), waits).await.expect("nobody waits for the lock");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_forget_at_once_forget_each_key_once() {
    let database = Database::new().await;
    let (ledgers, _) = handles(&database, 4).await;
    for _ in 0..5 {
        let keys = 4 * i32::try_from(SWEPT_MAX).unwrap() + 40;
        fill(&database, keys).await;
        let begin = Arc::new(Barrier::new(ledgers.len()));
        let forget = ledgers.iter().map(|ledger| {
            let (ledger, begin) = (ledger.clone(), begin.clone());
            tokio::spawn(async move {
                begin.wait().await;
                let mut all = 0;
                loop {
                    match ledger.forget_keys().await.unwrap() {
                        0 => return all,
                        gone => all += gone,
                    }
                }
            })
        });
        let mut gone = 0;
        for one in forget.collect::<Vec<_>>() {
            gone += one.await.unwrap();
        }
        assert_eq!(gone, u64::try_from(keys).unwrap());
        let left: i64 = sqlx::query_scalar(LEFT).fetch_one(&mut database.raw().await).await.unwrap();
        assert_eq!(left, 0);
    }
}
