//! What the job table has to refuse, tried in it, in a transaction that is rolled back as far as it tries something, and
//! committed with the verdict.
//!
//! It takes the gate alone, as whoever protects a resource does, then the lock of all budgets, and so keeps every
//! coordinator from dispatching while it lasts: some ten statements. It never waits long for a lock, and never holds one
//! for long ([`PATIENCE`], [`BRIEFLY`], [`WITHIN`]): then it is tried again later, or not proved.
//!
//! Any number of coordinators may try one canary at once, and one does: whether it is open is read with the gate taken
//! alone, which is kept until the verdict is committed.
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sexton_model::access::Registrar;
use sexton_model::canary::{Came, Canary, Probe, Rehearsed, actor};
use sexton_model::deletion::Deletion;
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::{DeletionId, JobId};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Postgres, Transaction};

use super::error::{collision, doing};
use super::records::Statement;
use super::{PgLedger, admit, canary, create, find, jobs, load, pause, resources};
use crate::LedgerError;
use crate::rehearsal::{self, Done, Next, Op, Script};

/// For how long it waits for a lock, behind which others wait for it: about as long as a pause that somebody places may
/// keep everybody waiting.
const PATIENCE: &str = "SELECT set_config('lock_timeout', '500ms', true)";
/// For how long one statement of what is tried may take. That is rolled back, and this with it: the verdict's commit takes as
/// long as it takes.
const BRIEFLY: &str = "SELECT set_config('statement_timeout', '1s', true)";
/// How long all of it may take, until it is rolled back.
const WITHIN: Duration = Duration::from_secs(3);
/// Tries of one that collides with other transactions, or comes to no lock.
const TRIES: u32 = 3;

/// Try one that is open, and have it judged.
pub(super) async fn try_one(
    ledger: &PgLedger,
    id: i64,
    plan: &Arc<Plan>,
) -> Result<Option<Canary>, LedgerError> {
    let mut tried = 1;
    loop {
        // A transaction that is let go of is rolled back before its connection is used again.
        let done = match tokio::time::timeout(WITHIN, rehearse(ledger, id, plan)).await {
            Err(_) => {
                let why = format!("a rehearsal was not over within {} s", WITHIN.as_secs());
                return Err(LedgerError::Unfit(why));
            }
            Ok(Ok(Some((tx, came)))) => judge(ledger, tx, (id, came)).await,
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(error)) => Err(error),
        };
        match done {
            Err(error) if tried < TRIES && passing(&error) => tried += 1,
            other => return other,
        }
    }
}

/// Whether it is likely to go through when it is tried again: others were in the way.
fn passing(error: &LedgerError) -> bool {
    let LedgerError::Store { source, .. } = error else { return false };
    let code =
        source.downcast_ref::<sqlx::Error>().and_then(|e| e.as_database_error()).and_then(|e| e.code());
    // No lock in time, or no answer.
    collision(error).is_some() || code.is_some_and(|code| code == "55P03" || code == "57014")
}

/// What is not committed is known nowhere else.
type Statements = HashMap<i64, Statement>;

/// The transaction in which one was tried, of which it has nothing left but its locks, and what came of it; none if it is
/// not open any more.
type Tried = Option<(Transaction<'static, Postgres>, Rehearsed)>;

async fn rehearse(ledger: &PgLedger, id: i64, plan: &Arc<Plan>) -> Result<Tried, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("beginning a rehearsal"))?;
    sqlx::query(PATIENCE).execute(&mut *tx).await.map_err(doing("bounding a rehearsal"))?;
    // Nobody is kept waiting for what is over.
    if canary::open(&mut tx, id).await?.is_none() {
        return Ok(None);
    }
    pause::gate_alone(&mut tx).await?;
    // Whoever had the gate before may have tried it.
    let Some(probe) = canary::open(&mut tx, id).await? else { return Ok(None) };
    let mut trying = PgConnection::begin(&mut tx).await.map_err(doing("beginning a rehearsal"))?;
    sqlx::query(BRIEFLY).execute(&mut *trying).await.map_err(doing("bounding a rehearsal"))?;
    admit::lock(&mut trying).await?;
    let came = carry_out(&mut trying, ledger, &probe, plan).await;
    trying.rollback().await.map_err(doing("rolling a rehearsal back"))?;
    Ok(Some((tx, came?)))
}

async fn judge(
    ledger: &PgLedger,
    mut tx: Transaction<'_, Postgres>,
    (id, came): (i64, Rehearsed),
) -> Result<Option<Canary>, LedgerError> {
    pause::lock(&mut tx).await?;
    match canary::hear(&mut tx, id, &Came::Rehearsed(came)).await? {
        Some(heard) => canary::commit(ledger, tx, heard).await.map(Some),
        None => Ok(None),
    }
}

async fn carry_out(
    db: &mut PgConnection,
    ledger: &PgLedger,
    probe: &Probe,
    plan: &Arc<Plan>,
) -> Result<Rehearsed, LedgerError> {
    let (policy, now) = (ledger.policy.get(), find::clock(db).await?);
    let mut script = Script::new(probe.clone(), plan.clone(), now, (&policy, ledger.options.day));
    let mut statements = Statements::new();
    let mut done = Done::Quietly;
    loop {
        done = match script.next(done) {
            Next::Over(came) => return Ok(came),
            Next::Do(Op::Register(resources)) => Done::Registered(
                resources::write_down(db, ledger, (&resources, &Registrar::Trusted), &actor(), false)
                    .await?
                    .0,
            ),
            Next::Do(Op::Create(new)) => {
                let made = create::make(db, ledger, &new).await?;
                let statement = |deletion: Deletion| (deletion.id.0, (deletion.record, deletion.plan));
                statements.extend(made.made.into_iter().map(statement));
                Done::Created(made.results)
            }
            Next::Do(Op::Arrive(deletions, stage)) => {
                arrive(db, &statements, (&deletions, stage)).await?;
                Done::Quietly
            }
            Next::Do(Op::Spend(group)) => {
                let now = find::clock(db).await?;
                admit::spend(db, ledger, &group, now).await?;
                Done::Quietly
            }
            Next::Do(Op::Admit(jobs)) => {
                admit::decide(db, ledger, &jobs).await?;
                Done::Quietly
            }
            Next::Do(Op::Claim(jobs)) => claim(db, ledger, &statements, (&script, &jobs)).await?,
        };
    }
}

async fn arrive(
    db: &mut PgConnection,
    statements: &Statements,
    (deletions, stage): (&[DeletionId], Stage),
) -> Result<(), LedgerError> {
    let now = find::clock(db).await?;
    let ids: Vec<i64> = deletions.iter().map(|deletion| deletion.0).collect();
    let mut found = load::deletions(db, &ids, statements).await?;
    let rows: Vec<_> =
        found.values_mut().flat_map(|(deletion, _)| rehearsal::rows(deletion, stage, now)).collect();
    jobs::update(db, &rows.iter().collect::<Vec<_>>()).await
}

async fn claim(
    db: &mut PgConnection,
    ledger: &PgLedger,
    statements: &Statements,
    (script, jobs): (&Script, &[JobId]),
) -> Result<Done, LedgerError> {
    let batch = rehearsal::intents(jobs);
    let mut ids: Vec<i64> = jobs.iter().map(|job| job.deletion().0).collect();
    ids.sort_unstable();
    let (options, policy) = (&ledger.options, ledger.policy.get());
    let seen = ledger.known.seen();
    let heads = load::lock(db, &batch, &ids, statements).await?;
    let (loaded, _) =
        load::load(db, (&batch, &policy), (&[], false), heads, statements, ledger, &seen).await?;
    script.claims(loaded, jobs, (&options.limits, &policy))
}
