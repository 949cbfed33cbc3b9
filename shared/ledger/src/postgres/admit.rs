//! Budgets: what is due is admitted, or frozen as a batch, under one lock, so that any number of coordinators make one
//! decision.
mod batch;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;

use sexton_model::belts::InForce;
use sexton_model::belts::budget::{Budgets, Frozen, Group, Standing, Waiting, is_stopped};
use sexton_model::canary::rehearsal;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Kind, Scope, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, behind, census, find, lifting, pause};
use crate::budget::{self, Admitted, BatchRow, DueJob, Ended, Lifting, Member, Read, Stopped};
use crate::{ANNOUNCED_MAX, LedgerError};

pub(super) use self::batch::{approve, view, waiting};
use self::batch::{body, end, freeze, members};

/// Names the lock of all budgets among the database's advisory locks. It is taken before any other but the gate.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'534558544f4e42'::bigint)";

/// How an admission begins: with that lock, in one go, since it takes no answer.
fn begin() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| format!("BEGIN; {LOCK}"));
    SQL.as_str()
}

/// Of the groups that these jobs are in, all that is due and neither admitted nor in a batch; of stages that are
/// not counted (`$5` are those that are) only the backlog. Line by line, so that what is not due is not touched,
/// and of other stages only the job, so that a backlog of them costs little. Each job's record and admission are
/// found by their keys (`OFFSET 0` keeps a planner, whose figures are old after thousands of records were made,
/// from comparing every job with every record).
pub(super) const DUE: &str = "WITH RECURSIVE lines AS ( \
       (SELECT wants FROM jobs WHERE queued ORDER BY wants LIMIT 1) \
       UNION ALL \
       SELECT (SELECT j.wants FROM jobs j WHERE j.queued AND j.wants > l.wants ORDER BY j.wants LIMIT 1) \
         FROM lines l WHERE l.wants IS NOT NULL), \
     groups AS MATERIALIZED (SELECT DISTINCT d.kind, d.scope, j.id % 8 AS slot FROM jobs j \
       JOIN deletions d ON d.id = j.deletion_id WHERE j.id = ANY($1)) \
     SELECT j.id, d.kind, d.scope, (j.id % 8)::smallint, a.bucket FROM lines l \
     CROSS JOIN LATERAL (SELECT id, deletion_id, due_at FROM jobs WHERE queued AND wants = l.wants AND rank = 2 \
       AND due_at <= $2 AND id % 8 = ANY($4) AND (id % 8 = ANY($5) OR due_at <= $6) OFFSET 0) j \
     CROSS JOIN LATERAL (SELECT kind, scope, status FROM deletions WHERE id = j.deletion_id OFFSET 0) d \
     LEFT JOIN LATERAL (SELECT bucket, good_until FROM admissions WHERE job = j.id OFFSET 0) a ON true \
     WHERE l.wants IS NOT NULL AND d.status = 0 AND (d.kind, d.scope, j.id % 8) IN (SELECT kind, scope, slot FROM groups) \
       AND (a.good_until IS NULL OR a.good_until <= $2) \
       AND NOT EXISTS (SELECT 1 FROM batch_members m JOIN batches b ON b.id = m.batch AND b.waits WHERE m.job = j.id) \
     ORDER BY j.due_at, j.id LIMIT $3";
/// The first job of a deletion is its announcement.
const ANNOUNCED: &str = "WITH RECURSIVE lines AS ( \
       (SELECT wants FROM jobs WHERE queued ORDER BY wants LIMIT 1) \
       UNION ALL \
       SELECT (SELECT j.wants FROM jobs j WHERE j.queued AND j.wants > l.wants ORDER BY j.wants LIMIT 1) \
         FROM lines l WHERE l.wants IS NOT NULL) \
     SELECT d.id, d.scope, j.due_at FROM lines l \
     CROSS JOIN LATERAL (SELECT deletion_id, due_at FROM jobs WHERE queued AND wants = l.wants AND rank = 2 \
       AND due_at BETWEEN $2 AND $3 AND id % 8 = 0 OFFSET 0) j \
     CROSS JOIN LATERAL (SELECT id, scope, kind FROM deletions WHERE id = j.deletion_id OFFSET 0) d \
     WHERE l.wants IS NOT NULL AND d.kind = $1 LIMIT $4";
/// What is held was due before: nothing else about it is known but that it has not begun. By the partial index.
const HELD_ANNOUNCED: &str = "SELECT d.id, d.scope FROM jobs j \
     CROSS JOIN LATERAL (SELECT id, scope, kind FROM deletions WHERE id = j.deletion_id OFFSET 0) d \
     WHERE j.held AND j.id % 8 = 0 AND d.kind = $1 LIMIT $2";
/// By both partial indexes, as where a pause is lifted. `$3`: what has been due since then is a backlog.
const STOPPED: &str = "WITH blocked AS MATERIALIZED ( \
       SELECT id, reason FROM jobs WHERE locks AND state = 2 AND reason IS NOT NULL) \
     SELECT d.kind, d.scope, (s.id % 8)::smallint, count(*) FILTER (WHERE s.held), count(*) FILTER (WHERE NOT s.held), \
       count(*) FILTER (WHERE s.held AND s.due_at <= $3) \
     FROM (SELECT id, reason, due_at, true AS held FROM jobs WHERE held \
       UNION ALL SELECT id, reason, NULL, false FROM blocked) s JOIN deletions d ON d.id = s.id / 8 \
     WHERE s.reason::json ->> 'by' = $1 AND coalesce((s.reason::json ->> 'pause')::bigint, 0) = $2 \
     GROUP BY 1, 2, 3 ORDER BY 2, 1, 3";
const USED: &str = "SELECT kind, scope, slot, sum(count)::bigint FROM admitted \
     WHERE slot = ANY($1) AND bucket >= $2 GROUP BY 1, 2, 3";
/// What is admitted anew is counted there, and no longer where it was.
const TAKE_BACK: &str = "WITH old AS (DELETE FROM admissions a \
       USING unnest($1::bigint[], $2::text[], $3::text[], $4::smallint[]) AS k (job, kind, scope, slot) \
       WHERE a.job = k.job RETURNING k.kind, k.scope, k.slot, a.bucket) \
     UPDATE admitted s SET count = s.count - o.count FROM \
       (SELECT kind, scope, slot, bucket, count(*) AS count FROM old WHERE bucket IS NOT NULL GROUP BY 1, 2, 3, 4) o \
     WHERE s.kind = o.kind AND s.scope = o.scope AND s.slot = o.slot AND s.bucket = o.bucket";
const ADMIT: &str = "INSERT INTO admissions (job, bucket, good_until) \
     SELECT k.job, $2, $3 FROM unnest($1::bigint[]) AS k (job) \
     ON CONFLICT (job) DO UPDATE SET bucket = excluded.bucket, good_until = excluded.good_until";
const CHARGE: &str = "INSERT INTO admitted (kind, scope, slot, bucket, count) \
     SELECT kind, scope, slot, $5, count FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[]) \
       AS k (kind, scope, slot, count) \
     ON CONFLICT (kind, slot, scope, bucket) DO UPDATE SET count = admitted.count + excluded.count";
const STANDING: &str = "SELECT job, NULL::bigint, NULL::text FROM admissions WHERE job = ANY($1) AND good_until > $2 \
     UNION ALL SELECT m.job, b.id, b.body FROM batch_members m JOIN batches b ON b.id = m.batch AND b.waits \
     WHERE m.job = ANY($1)";
const FORGET: [&str; 2] =
    ["DELETE FROM admissions WHERE good_until < $1", "DELETE FROM admitted WHERE bucket < $1"];

/// Admit what is due with these jobs, or freeze it; and let go what fits by now.
pub(super) async fn admit(ledger: &PgLedger, jobs: &[JobId]) -> Result<Admitted, LedgerError> {
    let part = || doing("admitting what is due");
    let mut tx = ledger.pool.begin_with(begin()).await.map_err(part())?;
    let done = decide(&mut tx, ledger, jobs).await?;
    tx.commit().await.map_err(part())?;
    Ok(done)
}

/// Take the lock of all budgets.
pub(super) async fn lock(db: &mut PgConnection) -> Result<(), LedgerError> {
    let taken = sqlx::query(LOCK).execute(db).await;
    taken.map(drop).map_err(doing("taking the lock of all budgets"))
}

/// Admit in this transaction, which has the lock of all budgets.
pub(super) async fn decide(
    tx: &mut PgConnection,
    ledger: &PgLedger,
    jobs: &[JobId],
) -> Result<Admitted, LedgerError> {
    let part = || doing("admitting what is due");
    let (policy, day) = (ledger.policy.get(), ledger.options.day);
    let budgets = policy.budgets(day);
    // Asked before and behind it: what is held no more when what is due is read is found there, and what is held since is
    // found below.
    let (now, held) = behind::now_and_any_held(tx).await?;
    let from = budgets.counted_from(now, day);
    if jobs.is_empty() {
        for forget in FORGET {
            sqlx::query(forget).bind(from.0).execute(&mut *tx).await.map_err(part())?;
        }
    }
    let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
    let found = if ids.is_empty() { Vec::new() } else { due(tx, &ids, (now, day), &budgets).await? };
    let rows = waiting(tx).await?;
    let in_force = if rows.is_empty() { InForce::default() } else { pause::in_force(tx).await? };
    let of_batch = |row: &BatchRow| Waiting {
        batch: row.batch,
        group: row.group.clone(),
        members: usize::try_from(row.waiting).unwrap_or(usize::MAX),
        stopped: is_stopped(&row.group, (&in_force, &policy), (now, day)),
    };
    let slots: Vec<i16> = budgets.admitted().map(|stage| i16::from(stage.index())).collect();
    let used = used(tx, &slots, from).await?;
    let population = census::population(tx, ledger, now).await?;
    let waiting = rows.iter().map(of_batch).collect();
    let mut read = Read { due: found, waiting, used, population, behind: Vec::new() };
    let pieces = read.pieces(&budgets, from);
    if !pieces.is_empty() && (held || behind::any_held(tx).await?) {
        let kept = behind::kept(tx, ledger, &pieces, now).await?;
        // Somebody may have looked at more of it since: what is no longer held by now is due by now.
        read.due = due(tx, &ids, (now, day), &budgets).await?;
        read.put_behind(kept, (&pause::in_force(tx).await?, &policy), (now, day));
    }
    forget_old(tx, [&read.due, &read.behind]).await?;
    let admission = read.decide(&budgets, from);
    let mut done = Admitted::default();
    let mut begin = admission.admitted;
    for batch in admission.fitting {
        let jobs = members(tx, batch.batch).await?.into_iter().map(|member| member.job).collect::<Vec<_>>();
        end(tx, find_row(&rows, batch.batch)?, Ended::Fits { at: now }, None).await?;
        done.again.extend_from_slice(&jobs);
        begin.entry(batch.group).or_default().extend(jobs);
    }
    charge(tx, &begin, (now, ledger)).await?;
    for batch in admission.left {
        end(tx, find_row(&rows, batch)?, Ended::Left { at: now }, None).await?;
    }
    for (group, jobs, exceeded) in admission.frozen {
        let mut row = BatchRow { batch: 0, group, frozen_at: now, exceeded, waiting: jobs.len() as u64 };
        freeze(tx, &mut row, &jobs).await?;
        done.frozen.push(row);
    }
    Ok(done)
}

fn find_row(rows: &[BatchRow], batch: i64) -> Result<&BatchRow, LedgerError> {
    rows.iter().find(|row| row.batch == batch).ok_or_else(|| corrupt("batches", batch, "is missing"))
}

async fn due(
    db: &mut PgConnection,
    ids: &[i64],
    (now, day): (Timestamp, Day),
    budgets: &Budgets,
) -> Result<Vec<DueJob>, LedgerError> {
    let part = || doing("reading what is due");
    let most = i64::try_from(sexton_model::belts::budget::BATCH_MAX).unwrap_or(i64::MAX);
    let slots: BTreeSet<i64> = ids.iter().map(|id| id.rem_euclid(JobId::SLOTS)).collect();
    let slots: Vec<i64> = slots.into_iter().collect();
    let counted: Vec<i64> = budgets.stages().map(|stage| i64::from(stage.index())).collect();
    let rows = sqlx::query(DUE).bind(ids).bind(now.0).bind(most).bind(slots);
    let rows = rows.bind(counted).bind(budgets.backlog_until(now, day).0);
    let rows = rows.fetch_all(db).await.map_err(part())?;
    let due = |row: &PgRow| {
        let charged: Option<i64> = row.try_get(4).map_err(part())?;
        let job = JobId(row.try_get(0).map_err(part())?);
        Ok(DueJob { job, group: group(row, 1)?, charged: charged.map(Timestamp) })
    };
    rows.iter().map(due).collect()
}

/// Kind, scope and slot, from this column on.
pub(super) fn group(row: &PgRow, at: usize) -> Result<Group, LedgerError> {
    let part = || doing("reading a group");
    let kind: &str = row.try_get(at).map_err(part())?;
    let scope: &str = row.try_get(at + 1).map_err(part())?;
    let slot: i16 = row.try_get(at + 2).map_err(part())?;
    Ok(Group {
        kind: kind.parse().map_err(|_| corrupt("batches", kind, "not a kind"))?,
        scope: scope.parse().map_err(|_| corrupt("batches", scope, "not a scope"))?,
        stage: budget::stage_of_slot(slot).ok_or_else(|| corrupt("batches", slot, "not a stage"))?,
    })
}

async fn used(
    db: &mut PgConnection,
    slots: &[i16],
    from: Timestamp,
) -> Result<BTreeMap<Group, u64>, LedgerError> {
    let part = || doing("counting what was admitted");
    let rows = sqlx::query(USED).bind(slots).bind(from.0).fetch_all(db).await.map_err(part())?;
    let one = |row: &PgRow| {
        let count: i64 = row.try_get(3).map_err(part())?;
        Ok((group(row, 0)?, u64::try_from(count).unwrap_or(0)))
    };
    rows.iter().map(one).collect()
}

/// What was admitted within the span that counts.
pub(super) async fn begun(ledger: &PgLedger) -> Result<BTreeMap<Group, u64>, LedgerError> {
    let mut db = ledger.pool.acquire().await.map_err(doing("counting what was admitted"))?;
    let policy = ledger.policy.get();
    let budgets = policy.budgets(ledger.options.day);
    let now = find::clock(&mut db).await?;
    let slots: Vec<i16> = budgets.admitted().map(|stage| i16::from(stage.index())).collect();
    used(&mut db, &slots, budgets.counted_from(now, ledger.options.day)).await
}

/// What a pause, or a ceiling, stops that would go on if it were lifted.
pub(super) async fn stopped(
    db: &mut PgConnection,
    ledger: &PgLedger,
    lifting: Lifting<'_>,
) -> Result<Vec<Stopped>, LedgerError> {
    let part = || doing("looking what a pause or a ceiling stops");
    let policy = ledger.policy.get();
    let budgets = policy.budgets(ledger.options.day);
    let now = find::clock(db).await?;
    let population = census::population(db, ledger, now).await?;
    let from = budgets.counted_from(now, ledger.options.day);
    let slots: Vec<i16> = budgets.admitted().map(|stage| i16::from(stage.index())).collect();
    let used = used(db, &slots, from).await?;
    let (by, pause) = lifting.stored();
    let until = budgets.backlog_until(now, ledger.options.day);
    let rows = sqlx::query(STOPPED).bind(by).bind(pause).bind(until.0).fetch_all(&mut *db);
    let rows = rows.await.map_err(part())?;
    let one = |row: &PgRow| {
        let count = |at: usize| -> Result<u64, LedgerError> {
            let count: i64 = row.try_get(at).map_err(part())?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        Ok((group(row, 0)?, count(3)?, count(4)?, count(5)?))
    };
    let counts = rows.iter().map(one).collect::<Result<Vec<_>, LedgerError>>()?;
    let mut all = Stopped::all(lifting, counts, (&budgets, &population), &used);
    let stages = Stopped::crowded(&all);
    if !stages.is_empty() {
        Stopped::join(&mut all, lifting::members(db, lifting, &stages, (&budgets, until)).await?);
    }
    Ok(all)
}

/// Admissions that are over.
async fn forget_old(db: &mut PgConnection, due: [&[DueJob]; 2]) -> Result<(), LedgerError> {
    let old: Vec<&DueJob> = due.into_iter().flatten().filter(|due| due.charged.is_some()).collect();
    if old.is_empty() {
        return Ok(());
    }
    sqlx::query(TAKE_BACK)
        .bind(old.iter().map(|due| due.job.0).collect::<Vec<_>>())
        .bind(old.iter().map(|due| due.group.kind.to_string()).collect::<Vec<_>>())
        .bind(old.iter().map(|due| due.group.scope.to_string()).collect::<Vec<_>>())
        .bind(old.iter().map(|due| i16::from(due.group.stage.index())).collect::<Vec<_>>())
        .execute(db)
        .await
        .map(drop)
        .map_err(doing("taking back admissions that are over"))
}

async fn charge(
    db: &mut PgConnection,
    begin: &BTreeMap<Group, Vec<JobId>>,
    (now, ledger): (Timestamp, &PgLedger),
) -> Result<(), LedgerError> {
    if begin.is_empty() {
        return Ok(());
    }
    let day = ledger.options.day;
    let bucket = Budgets::bucket(now, day);
    let jobs: Vec<JobId> = begin.values().flatten().copied().collect();
    insert(db, &jobs, Some(bucket), Budgets::good_until(now, day)).await?;
    let counts = begin.iter().map(|(group, jobs)| (group, u64::try_from(jobs.len()).unwrap_or(u64::MAX)));
    count(db, &counts.collect::<Vec<_>>(), bucket).await
}

/// Count as many as may begin in this group, of each number that it has, as admitted: then not one more is.
pub(super) async fn spend(
    db: &mut PgConnection,
    ledger: &PgLedger,
    group: &Group,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let day = ledger.options.day;
    let population = census::population(db, ledger, now).await?;
    let limits = ledger.policy.get().budgets(day).limits(&group.scope, &group.kind, &population);
    count(db, &[(group, rehearsal::spent(&limits))], Budgets::bucket(now, day)).await
}

/// Each group once.
async fn count(
    db: &mut PgConnection,
    groups: &[(&Group, u64)],
    bucket: Timestamp,
) -> Result<(), LedgerError> {
    sqlx::query(CHARGE)
        .bind(groups.iter().map(|(group, _)| group.kind.to_string()).collect::<Vec<_>>())
        .bind(groups.iter().map(|(group, _)| group.scope.to_string()).collect::<Vec<_>>())
        .bind(groups.iter().map(|(group, _)| i16::from(group.stage.index())).collect::<Vec<_>>())
        .bind(groups.iter().map(|(_, many)| i64::try_from(*many).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(bucket.0)
        .execute(db)
        .await
        .map(drop)
        .map_err(doing("charging a budget"))
}

async fn insert(
    db: &mut PgConnection,
    jobs: &[JobId],
    bucket: Option<Timestamp>,
    good_until: Timestamp,
) -> Result<(), LedgerError> {
    let ids: Vec<i64> = jobs.iter().map(|job| job.0).collect();
    let done =
        sqlx::query(ADMIT).bind(ids).bind(bucket.map(|bucket| bucket.0)).bind(good_until.0).execute(db);
    all_there("admissions", done.await.map_err(doing("admitting"))?.rows_affected(), jobs.len())
}

/// Announcements that are due then; what is held is due now.
pub(super) async fn announced(
    db: &mut PgConnection,
    kind: &Kind,
    (from, to): (Timestamp, Timestamp),
) -> Result<Vec<(DeletionId, Scope, Timestamp)>, LedgerError> {
    let part = || doing("reading what is announced");
    let now = find::clock(db).await?;
    let most = i64::from(ANNOUNCED_MAX) + 1;
    let mut rows: Vec<(i64, String, i64)> = sqlx::query_as(ANNOUNCED)
        .bind(kind.to_string())
        .bind(from.0)
        .bind(to.0)
        .bind(most)
        .fetch_all(&mut *db)
        .await
        .map_err(part())?;
    if (from..=to).contains(&now) {
        let left = most.saturating_sub(i64::try_from(rows.len()).unwrap_or(most));
        let held = sqlx::query_as(HELD_ANNOUNCED).bind(kind.to_string()).bind(left).fetch_all(db);
        let held: Vec<(i64, String)> = held.await.map_err(part())?;
        rows.extend(held.into_iter().map(|(id, scope)| (id, scope, now.0)));
    }
    let one = |(id, scope, at): (i64, String, i64)| {
        let scope = scope.parse().map_err(|_| corrupt("deletions", id, "not a scope"))?;
        Ok((DeletionId(id), scope, Timestamp(at)))
    };
    rows.into_iter().map(one).collect()
}

/// Job, resource and who asked for its deletion, from this column on.
pub(super) fn member(row: &PgRow, at: usize) -> Result<Member, LedgerError> {
    let part = || doing("reading a member of a batch or a crowd");
    let (resource, by): (&str, &str) =
        (row.try_get(at + 1).map_err(part())?, row.try_get(at + 2).map_err(part())?);
    Ok(Member {
        job: JobId(row.try_get(at).map_err(part())?),
        resource: resource.parse().map_err(|_| corrupt("jobs", resource, "not a resource"))?,
        requested_by: by.parse().map_err(|_| corrupt("records", resource, "not an actor"))?,
    })
}

/// Where these jobs stand.
pub(super) async fn standing(
    db: &mut PgConnection,
    jobs: &[i64],
    now: Timestamp,
) -> Result<HashMap<JobId, Standing>, LedgerError> {
    let part = || doing("reading admissions");
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(STANDING).bind(jobs).bind(now.0).fetch_all(db).await.map_err(part())?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in &rows {
        let job = JobId(row.try_get(0).map_err(part())?);
        let batch: Option<i64> = row.try_get(1).map_err(part())?;
        let standing = match batch {
            None => Standing::Admitted,
            Some(batch) => {
                let exceeded = body(batch, row.try_get(2).map_err(part())?)?.exceeded;
                Standing::Frozen(Frozen { batch, exceeded })
            }
        };
        found.insert(job, standing);
    }
    Ok(found)
}
