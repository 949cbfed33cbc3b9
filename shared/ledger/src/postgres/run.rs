//! One batch, one transaction: lock, read, decide, write, and only then say what is to be published.
use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use sexton_model::checkpoint::Mark;
use sexton_model::decide::{Event, OrderSpec, Refusal};
use sexton_model::job::StateName;
use sexton_model::step::Mode;
use sexton_model::{DeletionId, JobId};
use sqlx::postgres::PgConnection;
use sqlx::{Postgres, Row as _, Transaction};

use super::error::{Collision, collision, corrupt, doing, unfit_value};
use super::memory::Headed;
use super::records::Statement;
use super::{PgLedger, groups, load, write};
use crate::batch::{Settled, decide_all};
use crate::keys::Note;
use crate::{Decided, Dispatch, Intent, LedgerError, NotDone, fit, known};

const MANIFESTS: &str = "SELECT m.job_id, m.step, m.body FROM manifests m \
     JOIN unnest($1::bigint[], $2::smallint[]) AS v (job_id, step) ON m.job_id = v.job_id AND m.step = v.step";

/// Tries of one intent that collides with other transactions, before the caller is told.
const TRIES: u32 = 5;

type Results = Vec<Result<Decided, NotDone>>;

/// Decide a batch; if it collides, or a row is spoilt, one by one, so that a bad item fails alone.
pub(super) async fn run(ledger: &PgLedger, batch: Vec<Intent>) -> Result<Results, LedgerError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    if batch.len() > 1 {
        match attempt(ledger, &batch).await {
            Err(error) if collision(&error).is_some() || error.spoilt() || unfit_value(&error) => {
                tracing::debug!(error = %error, items = batch.len(), "a batch failed: one by one");
            }
            other => return other,
        }
    }
    let mut results = Vec::with_capacity(batch.len());
    for intent in batch {
        results.push(alone(ledger, intent).await?);
    }
    Ok(results)
}

async fn alone(ledger: &PgLedger, intent: Intent) -> Result<Result<Decided, NotDone>, LedgerError> {
    let batch = [intent];
    let mut tried = 1;
    loop {
        match attempt(ledger, &batch).await {
            Ok(mut results) => {
                return results.pop().ok_or_else(|| corrupt("jobs", batch[0].deletion, "no result"));
            }
            Err(error) => match collision(&error) {
                Some(Collision::Concurrent) if tried < TRIES => tried += 1,
                // Somebody else's job holds the resource.
                Some(Collision::Unique) => return Ok(Err(Refusal::NotYet(job_of(&batch[0])).into())),
                None if unfit_value(&error) => {
                    tracing::error!(deletion = %batch[0].deletion, error = %error, "what was said cannot be stored");
                    return Ok(Err(NotDone::Corrupt(batch[0].deletion, error.to_string())));
                }
                // What was remembered of it was wrong, and is forgotten now.
                None if error.spoilt() && tried == 1 => tried += 1,
                Some(Collision::Concurrent) | None => return error.alone(batch[0].deletion).map(Err),
            },
        }
    }
}

fn job_of(intent: &Intent) -> JobId {
    match &intent.event {
        Event::Claim { job }
        | Event::Proceed { job }
        | Event::Recheck { job }
        | Event::Outcome { job, .. }
        | Event::Progress { job, .. }
        | Event::LeaseOver { job, .. } => *job,
        Event::Cancel { .. }
        | Event::PlaceHold { .. }
        | Event::ReleaseHold { .. }
        | Event::Park { .. }
        | Event::Retry { .. }
        | Event::Waive { .. }
        | Event::Acknowledge { .. }
        | Event::Bounced { .. }
        | Event::Rescue { .. } => JobId::of(intent.deletion, sexton_model::job::JobKind::RESTORE_SLOT),
    }
}

async fn attempt(ledger: &PgLedger, batch: &[Intent]) -> Result<Results, LedgerError> {
    let mut ids: Vec<i64> = batch.iter().map(|intent| intent.deletion.0).collect();
    ids.sort_unstable();
    ids.dedup();
    // Before the batch: what is seen by others meanwhile may be later than it.
    let seen = ledger.known.seen();
    let mut tx = ledger
        .pool
        .begin_with(load::begin())
        .await
        .map_err(doing("beginning a batch and passing the gate"))?;
    // Records never change: read before the locks on rows, which they help to choose.
    let statements = ledger.memory.records.of(&mut tx, &ids).await?;
    let names = groups::lock(&mut tx, &crate::groups::asked(batch)).await?;
    let heads = load::lock(&mut tx, batch, &ids, &statements).await?;
    ledger.memory.records.confirm(&heads, &statements)?;
    let policy = ledger.policy.get();
    let graces = crate::healthy::asked(batch);
    let (mut loaded, facts) =
        load::load(&mut tx, (batch, &policy), (&names, graces), heads, &statements, ledger, &seen).await?;
    let joins = fit::joins(&loaded, batch);
    let at = joins.iter().map(|(id, instance)| (id.0, instance.to_string())).unzip();
    let mut pinned = write::targets_of(&mut tx, at).await?;
    loaded.pinned.extend(joins.into_iter().filter_map(|key| {
        let value = pinned.remove(&(key.0.0, key.1.to_string()))?;
        Some((key, value))
    }));
    let there: HashMap<JobId, StateName> = loaded
        .deletions
        .values()
        .flat_map(|(d, _)| d.jobs.iter().map(|job| (job.id, job.state.name())))
        .collect();
    let (settled, writes) = decide_all(&mut loaded, batch, &ledger.options.limits, &policy)?;
    if settled.iter().all(Result::is_err) {
        return give_up(tx, ledger, loaded.deletions, settled).await;
    }
    let landmark = known::landmark(&writes.audit);
    write::write(&mut tx, writes, &loaded, &there).await?;
    let orders: Vec<&OrderSpec> =
        settled.iter().flatten().filter_map(|settled| settled.order.as_ref()).collect();
    let mut large = Large::read(&mut tx, &orders, &statements).await?;
    let status = |settled: &Settled| Note::Decided(settled.status);
    ledger.note(&mut tx, || settled.iter().flatten().next().map(status)).await?;
    tx.commit().await.map_err(doing("committing a batch"))?;
    let now = loaded.now;
    ledger.memory.keep(loaded.deletions);
    let fence = facts.mark.fence + i64::try_from(batch.len()).unwrap_or(0);
    ledger.known.note(Mark { fence, ..facts.mark }, landmark);
    // A deletion gives one order at a time, so what an order needs is taken rather than copied.
    let mut finish = |settled: Settled| {
        let (record, plan) = statements
            .get(&settled.deletion.0)
            .ok_or_else(|| corrupt("deletions", settled.deletion, "its record is missing"))?;
        let dispatch = settled.order.map(|spec| Dispatch {
            targets: large.targets.remove(&(settled.deletion.0, spec.instance.to_string())),
            manifest: large.manifests.remove(&manifest_key(&spec)),
            spec,
            record: record.clone(),
            plan: plan.clone(),
            revision: facts.mark.revision,
            day: ledger.options.day,
        });
        Ok(Decided {
            deletion: settled.deletion,
            resource: record.resource.id.clone(),
            dispatch,
            effects: settled.effects,
            status: settled.status,
            audit_seq: settled.audit_seq,
            at: now,
            again_at: settled.again_at,
            leaves_groups: crate::groups::ends(record, settled.status),
        })
    };
    let results: Results = settled
        .into_iter()
        .map(|one| one.map(&mut finish).map_or_else(|e| Ok(Err(e)), |d| d.map(Ok)))
        .collect::<Result<_, LedgerError>>()?;
    if results.iter().flatten().any(|decided| decided.leaves_groups) {
        ledger.held.again();
    }
    ledger.held.wanted_by(&results);
    Ok(results)
}

/// End a batch of which everything was refused. Nothing was written, and none of its fences was given to anybody: nobody has to
/// wait until that is durable, as a commit would, and nothing new is known of the ledger.
async fn give_up(
    tx: Transaction<'_, Postgres>,
    ledger: &PgLedger,
    read: HashMap<DeletionId, Headed>,
    settled: Vec<Result<Settled, NotDone>>,
) -> Result<Results, LedgerError> {
    tx.rollback().await.map_err(doing("ending a batch of which everything was refused"))?;
    ledger.memory.keep(read);
    Ok(settled.into_iter().filter_map(Result::err).map(Err).collect())
}

/// What travels with orders and is too large for the job table.
struct Large {
    targets: BTreeMap<(i64, String), Value>,
    manifests: BTreeMap<(i64, i16), Value>,
}

fn manifest_key(spec: &OrderSpec) -> (i64, i16) {
    let job = JobId::of(spec.job.deletion(), spec.stage.index());
    (job.0, i16::try_from(spec.step).unwrap_or(i16::MAX))
}

/// Whether an order travels with the manifest of its step.
fn carries_manifest(spec: &OrderSpec, statements: &HashMap<i64, Statement>) -> bool {
    match spec.mode {
        Mode::Inspect | Mode::Reread | Mode::Capture => false,
        Mode::Perform | Mode::Undo | Mode::Verify => {
            statements.get(&spec.job.deletion().0).is_some_and(|(_, plan)| {
                let step = plan.stage(spec.stage).steps.get(usize::from(spec.step));
                step.is_some_and(|step| step.nature.captures())
            })
        }
    }
}

impl Large {
    async fn read(
        db: &mut PgConnection,
        orders: &[&OrderSpec],
        statements: &HashMap<i64, Statement>,
    ) -> Result<Self, LedgerError> {
        let at = orders.iter().map(|spec| (spec.job.deletion().0, spec.instance.to_string()));
        let targets = write::targets_of(db, at.unzip()).await?;
        let mut manifests = BTreeMap::new();
        let wanted = orders.iter().filter(|spec| carries_manifest(spec, statements));
        let (jobs, steps): (Vec<i64>, Vec<i16>) = wanted.map(|spec| manifest_key(spec)).unzip();
        if jobs.is_empty() {
            return Ok(Self { targets, manifests });
        }
        let part = || doing("reading manifests");
        let rows = sqlx::query(MANIFESTS).bind(jobs).bind(steps).fetch_all(db).await.map_err(part())?;
        for row in &rows {
            let key: (i64, i16) = (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?);
            let value = serde_json::from_str(row.try_get(2).map_err(part())?)
                .map_err(|e| corrupt("manifests", JobId(key.0), e.to_string()))?;
            manifests.insert(key, value);
        }
        Ok(Self { targets, manifests })
    }
}
