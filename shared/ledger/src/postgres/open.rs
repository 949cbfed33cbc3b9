//! Opening a ledger: connections, migrations, and the checks without which nothing is done.
use std::str::FromStr as _;
use std::time::Duration;

use sexton_model::audit::GENESIS;
use sexton_model::time::Day;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Row as _};

use super::error::{corrupt, doing};
use super::roles;
use crate::LedgerError;
use crate::rules::text;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

const DURABILITY: &str = "SELECT current_setting('synchronous_commit'), current_setting('fsync')";
const FOUND: &str = "INSERT INTO ledger (ledger, epoch, day, created, pause_head) \
     VALUES (gen_random_uuid()::text, 1, $1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, $2) \
     ON CONFLICT DO NOTHING";
const READ: &str = "SELECT ledger, day FROM ledger";

/// Connections of one process: a few batches at a time, and people who look. Far below a server's usual hundred,
/// so that several processes fit.
const CONNECTIONS_MAX: u32 = 16;

/// A connection that was used so lately is taken to live; asking first would be a round trip for every batch. If it
/// does not live, that batch fails and is delivered again.
const TRUSTED: Duration = Duration::from_secs(1);

/// Every statement here looks up by index. On a table that has grown since it was last analysed the planner
/// would guess otherwise now and then, and a prepared statement keeps such a guess; and only a plain index scan
/// stops at a limit. The timeouts bound what a
/// dead client can hold, above all the gate.
const SETTINGS: [(&str, &str); 9] = [
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("client_min_messages", "error"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("lock_timeout", "20s"),
    ("statement_timeout", "60s"),
];

/// How to connect for work.
pub(super) fn connection(url: &str) -> Result<PgConnectOptions, LedgerError> {
    Ok(plain(url)?.options(SETTINGS))
}

fn plain(url: &str) -> Result<PgConnectOptions, LedgerError> {
    Ok(PgConnectOptions::from_str(url)
        .map_err(doing("reading the database's address"))?
        .application_name("sexton"))
}

/// Connect, migrate, check; the pool and the ledger's name.
pub(super) async fn open(url: &str, day: Day) -> Result<(PgPool, String), LedgerError> {
    // Migrations take as long as they take: without the timeouts of daily work.
    let once = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(plain(url)?)
        .await
        .map_err(doing("connecting to the database"))?;
    MIGRATIONS
        .run(&once)
        .await
        .map_err(|e| LedgerError::Store { doing: "migrating the database", source: Box::new(e) })?;
    let mut db = once.acquire().await.map_err(doing("connecting to the database"))?;
    durable(&mut db).await?;
    let name = found(&mut db, day).await?;
    roles::set_up(&mut db).await?;
    drop(db);
    once.close().await;
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .test_before_acquire(false)
        .before_acquire(|db, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED {
                    db.ping().await?;
                }
                Ok(true)
            })
        })
        // A `begin` that is cancelled leaves its connection inside a transaction; the next user would inherit
        // its locks.
        .after_release(|db, _| {
            Box::pin(async move {
                db.execute("ROLLBACK").await?;
                Ok(true)
            })
        })
        .connect_with(connection(url)?)
        .await
        .map_err(doing("connecting to the database"))?;
    Ok((pool, name))
}

/// What is committed must stay committed: an order follows it.
async fn durable(db: &mut PgConnection) -> Result<(), LedgerError> {
    let part = || doing("reading the server's settings");
    let row = sqlx::query(DURABILITY).fetch_one(db).await.map_err(part())?;
    let commit: String = row.try_get(0).map_err(part())?;
    let fsync: String = row.try_get(1).map_err(part())?;
    if !matches!(commit.as_str(), "on" | "remote_apply") {
        return Err(LedgerError::Unfit(format!(
            "synchronous_commit is {commit}: set it to on (or remote_apply), or a crash forgets what was ordered"
        )));
    }
    if fsync != "on" {
        return Err(LedgerError::Unfit(
            "fsync is off: set it to on, or a crash of the machine forgets what was ordered".into(),
        ));
    }
    Ok(())
}

/// Found the ledger if it is new; its name.
async fn found(db: &mut PgConnection, day: Day) -> Result<String, LedgerError> {
    let part = || doing("reading the ledger");
    let wanted = text(&day)?;
    sqlx::query(FOUND).bind(&wanted).bind(GENESIS).execute(&mut *db).await.map_err(part())?;
    let row = sqlx::query(READ).fetch_one(db).await.map_err(part())?;
    let stored: String = row.try_get(1).map_err(part())?;
    let there: Day = serde_json::from_str(&stored).map_err(|e| corrupt("ledger", "day", e.to_string()))?;
    if there != day {
        return Err(LedgerError::Unfit(format!(
            "it was created with the day {stored}, and {wanted} was asked for: a rehearsal never mixes with what \
             is real"
        )));
    }
    row.try_get(0).map_err(part())
}
