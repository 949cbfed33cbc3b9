//! What the database itself holds: who may do what, what cannot be changed, and what a look at the queue costs.
use serde_json::Value;
use sexton_ledger::postgres::{PgDueReader, PgLedger};
use sexton_ledger::{DueReader, LedgerError, Options};
use sexton_model::time::Day;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::conformance::stage::{self, Stagehand};
use crate::database::Database;

async fn refused(db: &mut PgConnection, sql: &str) -> String {
    let answer = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await;
    answer.expect_err(sql).as_database_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn the_trails_cannot_be_changed_even_by_their_owner() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    hand.doomed("web01").await;
    let mut db = database.raw().await;
    for table in ["audit", "ledger_audit"] {
        for sql in [
            format!("UPDATE {table} SET body = ''"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table}"),
        ] {
            assert_eq!(refused(&mut db, &sql).await, format!("{table} is append-only"), "{sql}");
        }
    }
    for table in ["records", "plans", "manifests"] {
        let sql = format!("UPDATE {table} SET body = ''");
        assert_eq!(refused(&mut db, &sql).await, format!("{table} is append-only"), "{sql}");
    }
}

/// A log-in role that is a member of `role`, for one connection.
async fn member_of(database: &Database, role: &str) -> (String, PgConnection) {
    let mut db = database.raw().await;
    let user = format!("sexton_test_{}", uuid::Uuid::new_v4().simple());
    for sql in [format!("CREATE ROLE {user} LOGIN"), format!("GRANT {role} TO {user}")] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    }
    let url = database.url_with(Some(&user));
    let db = PgConnection::connect(&url).await.unwrap();
    (user, db)
}

async fn drop_role(database: &Database, user: &str) {
    let mut db = database.raw().await;
    sqlx::query(AssertSqlSafe(format!("DROP ROLE {user}"))).execute(&mut db).await.unwrap();
}

#[tokio::test]
async fn the_schedulers_role_reads_its_view_and_nothing_else() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    let announce = stage::job_id(id, sexton_model::job::Stage::Announce);
    let (user, mut db) = member_of(&database, "sexton_scheduler").await;
    let reader = PgDueReader::open(&database.url_with(Some(&user))).await.unwrap();
    while reader.due(10).await.unwrap() != [announce] {
        tokio::task::yield_now().await;
    }
    for table in [
        "ledger",
        "resources",
        "plans",
        "deletions",
        "records",
        "jobs",
        "holds",
        "waivers",
        "targets",
        "manifests",
        "pauses",
        "instances",
        "audit",
        "ledger_audit",
        "fence",
        "deletion_id",
    ] {
        let answer = refused(&mut db, &format!("SELECT * FROM {table}")).await;
        assert!(answer.starts_with("permission denied"), "{table}: {answer}");
    }
    for sql in ["DELETE FROM due_jobs", "UPDATE due_jobs SET rank = 0", "CREATE TABLE mine (a integer)"] {
        assert!(refused(&mut db, sql).await.starts_with("permission denied"), "{sql}");
    }
    drop((reader, db));
    drop_role(&database, &user).await;
}

#[tokio::test]
async fn the_coordinators_role_works_and_cannot_touch_the_trail() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let (user, mut db) = member_of(&database, "sexton_coordinator").await;
    sqlx::query("SELECT count(*) FROM audit").execute(&mut db).await.unwrap();
    for sql in ["UPDATE audit SET body = ''", "DELETE FROM audit", "TRUNCATE audit", "DELETE FROM jobs"] {
        assert!(refused(&mut db, sql).await.starts_with("permission denied"), "{sql}");
    }
    hand.doomed("web01").await;
    drop(db);
    drop_role(&database, &user).await;
}

#[tokio::test]
async fn a_ledger_that_is_not_durable_or_of_another_day_is_refused() {
    let database = Database::new().await;
    database.open(stage::options()).await.unwrap();
    let real = Options { day: Day::Calendar, limits: stage::options().limits };
    let unfit = |answer: Result<_, LedgerError>| match answer {
        Err(LedgerError::Unfit(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    };
    let reason = unfit(database.open(real).await.map(drop));
    assert!(reason.contains("a rehearsal never mixes"), "{reason}");
    let url = database.url();
    let careless =
        format!("{url}{}options[synchronous_commit]=off", if url.contains('?') { '&' } else { '?' });
    let reason = unfit(PgLedger::open(&careless, stage::options()).await.map(drop));
    assert!(reason.contains("synchronous_commit is off"), "{reason}");
}

/// A transaction that is dropped between its statements leaves nothing behind in the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_leave_no_lock_behind() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    for micros in (0..4000).step_by(40) {
        let event = sexton_model::decide::Event::PlaceHold { by: stage::actor("ops"), reason: "wait".into() };
        let call = hand.one(id, event);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(micros), call).await;
    }
    // Takes the gate alone: it would wait for ever for a connection that went back with a transaction.
    let covers = sexton_model::belts::PauseSelector::default();
    hand.ledger.pause(covers, &stage::actor("ops"), "look").await.unwrap();
    assert_eq!(hand.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

const FILL: &str = "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, wants, rank, due_at, cursor, phase, \
     touched, attempts, unstarted, quiet_after, started) \
     SELECT n * 8, n, 'vm/f' || n, 0, false, true, false, 'hypervisor.h' || n % 10, 2, \
     (extract(epoch FROM now()) * 1000000)::bigint + CASE WHEN n % 1001 = 0 THEN -60000000 ELSE 86400000000 + n END, \
     0, 0, false, 0, 0, 0, false FROM generate_series(1, 1001000) n";

/// A million wait, a thousand are due: looking what is due touches the thousand.
#[tokio::test]
async fn what_is_due_is_found_without_touching_what_is_not() {
    let database = Database::new().await;
    drop(database.open(stage::options()).await.unwrap());
    let mut db = database.raw().await;
    sqlx::query(FILL).execute(&mut db).await.unwrap();
    let before = explain(&mut db).await;
    check(&before, "before anything was analysed");
    sqlx::query("ANALYZE jobs").execute(&mut db).await.unwrap();
    check(&explain(&mut db).await, "after ANALYZE");
    let reader = PgDueReader::open(&database.url()).await.unwrap();
    assert_eq!(reader.due(4096).await.unwrap().len(), 1000);
}

async fn explain(db: &mut PgConnection) -> Value {
    // As the reader's own connections are set.
    for sql in ["SET enable_seqscan = off", "SET enable_bitmapscan = off", "SET jit = off"] {
        sqlx::query(sql).execute(&mut *db).await.unwrap();
    }
    let sql = format!("EXPLAIN (ANALYZE, FORMAT JSON) {}", PgDueReader::statement().replace("$1", "4096"));
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await.unwrap()
}

fn check(plan: &Value, when: &str) {
    let mut scans = Vec::new();
    collect(&plan[0]["Plan"], &mut scans);
    assert!(!scans.is_empty());
    let mut read = 0.0;
    for scan in scans {
        let kind = scan["Node Type"].as_str().unwrap();
        assert!(kind == "Index Scan" || kind == "Index Only Scan", "{when}: {kind} on jobs");
        assert_eq!(scan["Index Name"], "the_queue", "{when}");
        let rows = |what: &str| scan[what].as_f64().unwrap_or(0.0);
        read += (rows("Actual Rows") + rows("Rows Removed by Filter")) * rows("Actual Loops");
    }
    println!("{when}: {read} rows read for 1000 due, in {} ms", plan[0]["Execution Time"]);
    assert!(read <= 1000.0 + 50.0, "{when}: {read} rows were read");
}

/// All scans of the job table.
fn collect<'p>(node: &'p Value, scans: &mut Vec<&'p Value>) {
    if node["Relation Name"] == "jobs" {
        scans.push(node);
    }
    for child in node["Plans"].as_array().into_iter().flatten() {
        collect(child, scans);
    }
}
