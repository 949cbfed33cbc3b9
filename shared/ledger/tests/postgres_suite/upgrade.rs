//! A database of an early version is brought up to date while others read it and write to it.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sexton_ledger::DueReader as _;
use sexton_ledger::postgres::{PgDueReader, PgLedger};
use sexton_model::JobId;
use sqlx::PgConnection;

use crate::conformance::stage::{self, Stagehand};
use crate::database::Database;
use crate::guards::unfit;
use crate::older;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

/// The last migration before there were ceilings.
const BEFORE_CEILINGS: i64 = 5;

/// The database that an early version left.
async fn older_database(db: &mut PgConnection) {
    let older = MIGRATIONS.iter().filter(|m| m.version <= BEFORE_CEILINGS).cloned().collect();
    sqlx::migrate::Migrator::with_migrations(older).run_direct(None, db, false).await.unwrap();
    let day = serde_json::to_string(&stage::DAY).unwrap();
    let (head, none) = (older::head().to_vec(), vec![0u8; 32]);
    for query in [
        sqlx::query(
            "INSERT INTO ledger (ledger, epoch, day, created, pause_head) VALUES ('older', 1, $1, $2, $3)",
        )
        .bind(day)
        .bind(older::MADE)
        .bind(none.clone()),
        sqlx::query(
            "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) \
             VALUES ('vm/web01', 'vm', 'tenants/acme', 0, false, $1, 0, $2)",
        )
        .bind(older::RESOURCE)
        .bind(none.clone()),
        sqlx::query("INSERT INTO plans (digest, body) VALUES ($1, $2)").bind(none.clone()).bind(older::PLAN),
        sqlx::query(
            "INSERT INTO deletions (id, resource, plan, kind, scope, live, status, audit_seq, audit_head, created_at) \
             VALUES (1, 'vm/web01', $1, 'vm', 'tenants/acme', true, 0, 1, $2, $3)",
        )
        .bind(none)
        .bind(head.clone())
        .bind(older::MADE),
        sqlx::query("INSERT INTO records (deletion_id, body) VALUES (1, $1)").bind(older::RECORD),
        sqlx::query("INSERT INTO audit (deletion_id, seq, body, hash) VALUES (1, 1, $1, $2)")
            .bind(older::EVENT)
            .bind(head),
        sqlx::query("SELECT setval('deletion_id', 1)"),
    ] {
        query.execute(&mut *db).await.unwrap();
    }
    for job in older::JOBS {
        let due = (job == older::JOBS.start).then_some(older::MADE);
        let sql = "INSERT INTO jobs (id, deletion_id, resource, state, locks, queued, held, wants, rank, due_at, cursor, \
                   phase, touched, attempts, unstarted, quiet_after, started) \
                   VALUES ($1, 1, 'vm/web01', 0, false, $2, false, $3, 2, $4, 0, 0, false, 0, 0, 0, false)";
        let job = sqlx::query(sql).bind(job).bind(due.is_some());
        job.bind(due.map(|_| "hypervisor.main")).bind(due).execute(&mut *db).await.unwrap();
    }
}

/// What processes of the earlier version do all the time, each statement for itself: look for what is due, lock a job, and
/// write to the tables that migrations change.
async fn at_work(mut db: PgConnection, stop: Arc<AtomicBool>, rounds: Arc<AtomicU64>) {
    while !stop.load(Ordering::Relaxed) {
        let due: i64 = sqlx::query_scalar("SELECT count(*) FROM due_jobs").fetch_one(&mut db).await.unwrap();
        assert_eq!(due, 1, "what is due is seen throughout");
        for sql in [
            "SELECT id FROM jobs WHERE id = 8 FOR UPDATE",
            "UPDATE jobs SET quiet_after = 0 WHERE id = 8",
            "UPDATE deletions SET audit_seq = 1 WHERE id = 1",
            "UPDATE ledger SET checkpoints = checkpoints + 1",
            "INSERT INTO instances (instance, pulsed_at) VALUES ('dns.main', 1) \
             ON CONFLICT (instance) DO UPDATE SET pulsed_at = 1",
        ] {
            sqlx::query(sql).execute(&mut db).await.unwrap();
        }
        rounds.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the scheduler of this version does all the time, which may be exchanged before the tables are. How often it did.
async fn looks_on(reader: PgDueReader, stop: Arc<AtomicBool>) -> u64 {
    let mut looks = 0;
    while !stop.load(Ordering::Relaxed) {
        assert_eq!(reader.due(10).await.unwrap(), [JobId(older::JOBS.start)], "before, while and after");
        looks += 1;
    }
    looks
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_is_brought_up_to_date_under_work_and_goes_on() {
    let database = Database::new().await;
    older_database(&mut database.raw().await).await;
    let reason = unfit(PgLedger::open(&database.url(), stage::options()).await);
    assert!(reason.contains("migration 6 (ceilings) is missing"), "{reason}");
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(tokio::spawn(at_work(database.raw().await, stop.clone(), rounds.clone())));
    }
    let reader = PgDueReader::open(&database.url()).await.unwrap();
    let scheduler = tokio::spawn(looks_on(reader, stop.clone()));
    let more_than = async |done: u64| {
        while rounds.load(Ordering::Relaxed) <= done && workers.iter().all(|worker| !worker.is_finished()) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    more_than(0).await;
    let done = PgLedger::migrate(&database.url(), stage::DAY).await.unwrap();
    let new = MIGRATIONS.iter().filter(|m| m.version > BEFORE_CEILINGS).count();
    assert_eq!(done.iter().filter(|line| line.starts_with("applied migration")).count(), new, "{done:?}");
    assert!(!done.iter().any(|line| line.starts_with("founded")), "{done:?}");
    more_than(rounds.load(Ordering::Relaxed)).await;
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(scheduler.await.unwrap() > 0, "nobody has looked");
    older::goes_on(&Stagehand::new(&database).await).await;
}
