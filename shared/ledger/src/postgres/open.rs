//! Migrating and opening a ledger: by its owner the one, by a role with fewer rights the other; and the checks
//! without which nothing is done.
use std::str::FromStr as _;
use std::time::Duration;

use sexton_model::Timestamp;
use sexton_model::audit::GENESIS;
use sexton_model::time::Day;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool, Row as _};

use super::error::{corrupt, doing};
use super::review::Standing;
use super::{review, roles};
use crate::LedgerError;
use crate::rules::{ceiling_at_founding, text};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("migrations/postgres");

const DURABILITY: &str = "SELECT current_setting('synchronous_commit'), current_setting('fsync'), \
     current_setting('full_page_writes')";
const MIGRATED: &str = "SELECT to_regclass('_sqlx_migrations') IS NOT NULL";
const APPLIED: &str = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";
/// Whoever founds it was there: that is its first heartbeat.
const FOUND: &str = "INSERT INTO ledger (ledger, epoch, day, created, beat_at, pause_head) \
     SELECT gen_random_uuid()::text, 1, $1, n.at, n.at, $2 \
     FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at) n \
     ON CONFLICT DO NOTHING RETURNING created";
const FIRST_CEILING: &str = "INSERT INTO ceilings (scope, body) VALUES ('', $1)";
const READ: &str = "SELECT day FROM ledger";

/// Connections of one process: a few batches at a time, and people who look. Far below a server's usual hundred,
/// so that several processes fit.
pub(super) const CONNECTIONS_MAX: u32 = 16;

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

/// That this is the address of a database, so that a wrong one is told before anybody waits for what cannot come up.
///
/// # Errors
/// If it is none. The address is not repeated: it holds a password.
pub fn check_address(url: &str) -> Result<(), LedgerError> {
    plain(url).map(drop)
}

/// How to connect for work.
pub(super) fn connection(url: &str) -> Result<PgConnectOptions, LedgerError> {
    Ok(plain(url)?.options(SETTINGS))
}

fn plain(url: &str) -> Result<PgConnectOptions, LedgerError> {
    Ok(PgConnectOptions::from_str(url)
        .map_err(doing("reading the database's address"))?
        .application_name("sexton"))
}

/// Bring the tables up to date, found the ledger, and make the roles: by the tables' owner. What was done, a line
/// each; nothing if nothing was to be done.
pub(super) async fn migrate(url: &str, day: Day) -> Result<Vec<String>, LedgerError> {
    // Migrations take as long as they take: without the timeouts of daily work.
    let once = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(plain(url)?)
        .await
        .map_err(doing("connecting to the database"))?;
    let mut db = once.acquire().await.map_err(doing("connecting to the database"))?;
    durable(&mut db).await?;
    let before = applied(&mut db).await?;
    // A connection of one's own, and not `run`: with its borrowed one this future would not be `Send`.
    MIGRATIONS
        .run_direct(None, &mut *db, false)
        .await
        .map_err(|e| LedgerError::Store { doing: "migrating the database", source: Box::new(e) })?;
    let new = MIGRATIONS.iter().filter(|m| !before.iter().any(|(version, ..)| *version == m.version));
    let mut done: Vec<String> =
        new.map(|m| format!("applied migration {} ({})", m.version, m.description)).collect();
    if found(&mut db, day).await? {
        done.push(format!("founded the ledger with the day {}", text(&day)?));
    }
    done.extend(roles::set_up(&mut db).await?);
    drop(db);
    once.close().await;
    Ok(done)
}

/// Connect, with at most so many connections, and check that the tables are those of this version; the pool, and where
/// the ledger stands.
pub(super) async fn open(url: &str, day: Day, connections: u32) -> Result<(PgPool, Standing), LedgerError> {
    let pool = PgPoolOptions::new()
        .max_connections(connections)
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
        // its locks. Begun once more, since a rollback of nothing is a warning in the server's log, after each batch.
        .after_release(|db, _| {
            Box::pin(async move {
                db.execute("BEGIN; ROLLBACK").await?;
                Ok(true)
            })
        })
        .connect_with(connection(url)?)
        .await
        .map_err(doing("connecting to the database"))?;
    let mut db = pool.acquire().await.map_err(doing("connecting to the database"))?;
    durable(&mut db).await?;
    up_to_date(&applied(&mut db).await?)?;
    check_day(&mut db, day).await?;
    let standing = review::standing(&mut db).await?;
    drop(db);
    Ok((pool, standing))
}

/// Migrations that were applied: version, checksum, whether it ended well.
async fn applied(db: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>, bool)>, LedgerError> {
    let part = || doing("reading which migrations were applied");
    let there: bool = sqlx::query_scalar(MIGRATED).fetch_one(&mut *db).await.map_err(part())?;
    if !there {
        return Ok(Vec::new());
    }
    sqlx::query_as(APPLIED).fetch_all(db).await.map_err(part())
}

/// That exactly the migrations of this version were applied.
fn up_to_date(applied: &[(i64, Vec<u8>, bool)]) -> Result<(), LedgerError> {
    for wanted in MIGRATIONS.iter() {
        let there = applied.iter().find(|(version, ..)| *version == wanted.version);
        let wrong = match there {
            None => "is missing: let the owner of the tables run `sexton-coordinator migrate`",
            Some((_, _, false)) => {
                "was begun and has failed: look into the database's log, then migrate again"
            }
            Some((_, sum, true)) if **sum != *wanted.checksum => {
                "was applied with another text: this database was made by another build"
            }
            Some(_) => continue,
        };
        return Err(LedgerError::Unfit(format!(
            "migration {} ({}) {wrong}",
            wanted.version, wanted.description
        )));
    }
    match applied.iter().find(|(version, ..)| !MIGRATIONS.version_exists(*version)) {
        Some((version, ..)) => Err(LedgerError::Unfit(format!(
            "migration {version} is of a later version than this program: use that one"
        ))),
        None => Ok(()),
    }
}

/// What is committed must stay committed: an order follows it.
async fn durable(db: &mut PgConnection) -> Result<(), LedgerError> {
    let part = || doing("reading the server's settings");
    let row = sqlx::query(DURABILITY).fetch_one(db).await.map_err(part())?;
    let setting = |column: usize| row.try_get::<String, _>(column).map_err(part());
    keeps(&setting(0)?, &setting(1)?, &setting(2)?)
}

/// Whether a server with these settings keeps what it has committed, whatever crashes.
fn keeps(synchronous_commit: &str, fsync: &str, full_page_writes: &str) -> Result<(), LedgerError> {
    let wrong = if !matches!(synchronous_commit, "on" | "remote_apply") {
        format!(
            "synchronous_commit is {synchronous_commit}: set it to on (or remote_apply), or a crash forgets what \
             was ordered"
        )
    } else if fsync != "on" {
        format!("fsync is {fsync}: set it to on, or a crash of the machine forgets what was ordered")
    } else if full_page_writes != "on" {
        format!("full_page_writes is {full_page_writes}: set it to on, or a crash of the machine tears pages")
    } else {
        return Ok(());
    };
    Err(LedgerError::Unfit(wrong))
}

/// Found the ledger if it is new; whether it was.
async fn found(db: &mut PgConnection, day: Day) -> Result<bool, LedgerError> {
    let part = || doing("founding the ledger");
    let mut tx = db.begin().await.map_err(part())?;
    let created: Option<i64> = sqlx::query_scalar(FOUND)
        .bind(text(&day)?)
        .bind(GENESIS)
        .fetch_optional(&mut *tx)
        .await
        .map_err(part())?;
    if let Some(ceiling) = created.and_then(|at| ceiling_at_founding(day, Timestamp(at))) {
        sqlx::query(FIRST_CEILING).bind(text(&ceiling)?).execute(&mut *tx).await.map_err(part())?;
    }
    tx.commit().await.map_err(part())?;
    check_day(db, day).await?;
    Ok(created.is_some())
}

async fn check_day(db: &mut PgConnection, day: Day) -> Result<(), LedgerError> {
    let wanted = text(&day)?;
    let stored: Option<String> =
        sqlx::query_scalar(READ).fetch_optional(db).await.map_err(doing("reading the ledger"))?;
    let stored = stored.ok_or_else(|| {
        LedgerError::Unfit("there is no ledger in it: let the owner of the tables migrate".to_owned())
    })?;
    let there: Day = serde_json::from_str(&stored).map_err(|e| corrupt("ledger", "day", e.to_string()))?;
    if there != day {
        return Err(LedgerError::Unfit(format!(
            "it was created with the day {stored}, and {wanted} was asked for: a rehearsal never mixes with what \
             is real"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_and_not_repeated() {
        assert!(check_address("postgres://sexton:hunter2@db.example.org:5432/sexton").is_ok());
        for wrong in
            ["", "sexton:hunter2", "db.example.org/hunter2", "postgres://sexton:hunter2@db:port/sexton"]
        {
            let Err(why) = check_address(wrong) else { continue };
            let said = format!("{why}: {:?}", std::error::Error::source(&why).map(ToString::to_string));
            assert!(said.contains("the database's address") && !said.contains("hunter2"), "{said}");
        }
        assert!(check_address("db.example.org/sexton").is_err());
        assert!(check_address("postgres://sexton:hunter2@db:port/sexton").is_err());
    }

    #[test]
    fn a_server_that_may_forget_is_refused() {
        for fit in ["on", "remote_apply"] {
            assert!(keeps(fit, "on", "on").is_ok());
        }
        for (settings, named) in [
            (("off", "on", "on"), "synchronous_commit is off"),
            (("local", "on", "on"), "synchronous_commit is local"),
            (("remote_write", "on", "on"), "synchronous_commit is remote_write"),
            (("on", "off", "on"), "fsync is off"),
            (("on", "on", "off"), "full_page_writes is off"),
        ] {
            let (commit, fsync, pages) = settings;
            let reason = keeps(commit, fsync, pages).unwrap_err().to_string();
            assert!(reason.contains(named), "{reason}");
        }
    }
}
