//! Budgets: what is due is admitted, or frozen as a batch. The one writer makes one decision after the other.
use std::collections::{BTreeMap, HashMap};

use rusqlite::params;
use sexton_model::belts::budget::{
    BATCH_MAX, Budgets, CannotApprove, Frozen, Group, Standing, Waiting, is_stopped,
};
use sexton_model::canary::rehearsal;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Kind, Scope, Timestamp};

use super::codes::{all_there, body, corrupt};
use super::connection::{Bind, Db, Row, change_one, each, execute, list, rows, store};
use super::find::LINES_WITH;
use super::lifting;
use super::memory::{self, Staged};
use super::pausing::link;
use super::run::Setting;
use super::{behind, census};
use crate::budget::{
    self, Admitted, Approval, BatchRow, BatchView, Body, DueJob, Ended, Lifting, Member, Read, Stopped,
};
use crate::rules::text;
use crate::{ANNOUNCED_MAX, LedgerError, NotDone};

const DOING: &str = "keeping budgets";

/// Of the groups that these jobs are in, all that is due and neither admitted nor in a batch; of stages that are
/// not counted (`?4` are those that are) only the backlog.
pub(super) fn due_sql() -> &'static str {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!(
            "{LINES_WITH}, groups AS (SELECT DISTINCT r.kind, r.scope, n.value % 8 AS slot FROM json_each(?1) AS n \
               CROSS JOIN records AS r ON r.deletion_id = n.value / 8) \
             SELECT j.id, r.kind, r.scope, j.id % 8, a.bucket FROM line \
             CROSS JOIN jobs AS j ON j.queued AND j.wants = line.wants AND j.rank = 2 AND j.due_at <= ?2 \
               AND j.id % 8 IN (SELECT n.value % 8 FROM json_each(?1) AS n) \
               AND (j.id % 8 IN (SELECT n.value FROM json_each(?4) AS n) OR j.due_at <= ?5) \
             CROSS JOIN records AS r ON r.deletion_id = j.deletion_id \
             CROSS JOIN groups AS g ON g.kind = r.kind AND g.scope = r.scope AND g.slot = j.id % 8 \
             CROSS JOIN deletions AS d ON d.id = j.deletion_id AND d.status = 0 \
             LEFT JOIN admissions AS a ON a.job = j.id \
             WHERE (a.good_until IS NULL OR a.good_until <= ?2) AND NOT EXISTS (SELECT 1 FROM batch_members AS m \
               JOIN batches AS b ON b.id = m.batch AND b.waits WHERE m.job = j.id) \
             ORDER BY j.due_at, j.id LIMIT ?3"
        )
    });
    SQL.as_str()
}

const COLUMNS: &str = "SELECT b.id, b.kind, b.scope, b.slot, b.frozen_at, b.body, \
     (SELECT count(*) FROM batch_members AS m JOIN jobs AS j ON j.id = m.job AND j.state IN (0, 1) \
      WHERE m.batch = b.id) FROM batches AS b WHERE b.waits";

/// Admit what is due with these jobs, or freeze it; and let go what fits by now.
pub(super) fn admit(
    db: &Db,
    staged: &Staged,
    setting: &Setting,
    jobs: &[JobId],
) -> Result<Admitted, LedgerError> {
    let (now, day) = (staged.now, setting.day);
    let policy = setting.policy.get();
    let budgets = policy.budgets(day);
    let from = budgets.counted_from(now, day);
    if jobs.is_empty() {
        for sql in ["DELETE FROM admissions WHERE good_until < ?", "DELETE FROM admitted WHERE bucket < ?"] {
            let mut bind = Bind::default();
            bind.add(from.0);
            execute(db, DOING, sql, bind)?;
        }
    }
    let due = if jobs.is_empty() { Vec::new() } else { due(db, jobs, (now, day), &budgets)? };
    let rows = waiting(db)?;
    let in_force = memory::in_force(db)?;
    let of_batch = |row: &BatchRow| Waiting {
        batch: row.batch,
        group: row.group.clone(),
        members: usize::try_from(row.waiting).unwrap_or(usize::MAX),
        stopped: is_stopped(&row.group, (&in_force, &policy), (now, day)),
    };
    let used = used(db, &budgets, from)?;
    let population = census::population(db, setting, now)?;
    let waiting = rows.iter().map(of_batch).collect();
    let mut read = Read { due, waiting, used, population, behind: Vec::new() };
    let pieces = read.pieces(&budgets, from);
    behind::join(db, setting, now, (&mut read, &pieces))?;
    forget_old(db, [&read.due, &read.behind])?;
    let admission = read.decide(&budgets, from);
    let mut done = Admitted::default();
    for (group, jobs) in &admission.admitted {
        charge(db, (group, jobs), (now, setting))?;
    }
    for batch in admission.fitting {
        let jobs: Vec<JobId> = members(db, batch.batch)?.into_iter().map(|member| member.job).collect();
        charge(db, (&batch.group, &jobs), (now, setting))?;
        end(db, find_row(&rows, batch.batch)?, Ended::Fits { at: now }, None)?;
        done.again.extend(jobs);
    }
    for batch in admission.left {
        end(db, find_row(&rows, batch)?, Ended::Left { at: now }, None)?;
    }
    for (group, jobs, exceeded) in admission.frozen {
        let mut row = BatchRow { batch: 0, group, frozen_at: now, exceeded, waiting: jobs.len() as u64 };
        freeze(db, &mut row, &jobs)?;
        done.frozen.push(row);
    }
    Ok(done)
}

fn find_row(rows: &[BatchRow], batch: i64) -> Result<&BatchRow, LedgerError> {
    rows.iter().find(|row| row.batch == batch).ok_or_else(|| corrupt("batches", batch, "is missing"))
}

fn due(
    db: &Db,
    jobs: &[JobId],
    (now, day): (Timestamp, Day),
    budgets: &Budgets,
) -> Result<Vec<DueJob>, LedgerError> {
    let mut bind = Bind::default();
    let most = i64::try_from(BATCH_MAX).unwrap_or(i64::MAX);
    bind.add(list(jobs.iter().map(|job| job.0))).add(now.0).add(most);
    bind.add(list(budgets.stages().map(|stage| i64::from(stage.index()))));
    bind.add(budgets.backlog_until(now, day).0);
    let due = |row: &Row| {
        let charged: Option<i64> = row.try_get(4).map_err(store(DOING))?;
        let job = JobId(row.try_get(0).map_err(store(DOING))?);
        Ok(DueJob { job, group: group(row, 1)?, charged: charged.map(Timestamp) })
    };
    rows(db, DOING, due_sql(), bind)?.iter().map(due).collect()
}

/// Kind, scope and slot, from this column on.
pub(super) fn group(row: &Row, at: usize) -> Result<Group, LedgerError> {
    let kind: &str = row.try_get(at).map_err(store(DOING))?;
    let scope: &str = row.try_get(at + 1).map_err(store(DOING))?;
    let slot: i16 = row.try_get(at + 2).map_err(store(DOING))?;
    Ok(Group {
        kind: kind.parse().map_err(|_| corrupt("batches", kind, "not a kind"))?,
        scope: scope.parse().map_err(|_| corrupt("batches", scope, "not a scope"))?,
        stage: budget::stage_of_slot(slot).ok_or_else(|| corrupt("batches", slot, "not a stage"))?,
    })
}

fn used(db: &Db, budgets: &Budgets, from: Timestamp) -> Result<BTreeMap<Group, u64>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(list(budgets.admitted().map(|stage| i64::from(stage.index())))).add(from.0);
    let sql = "SELECT kind, scope, slot, sum(count) FROM admitted \
         WHERE slot IN (SELECT n.value FROM json_each(?) AS n) AND bucket >= ? GROUP BY 1, 2, 3";
    let one = |row: &Row| {
        let count: i64 = row.try_get(3).map_err(store(DOING))?;
        Ok((group(row, 0)?, u64::try_from(count).unwrap_or(0)))
    };
    rows(db, DOING, sql, bind)?.iter().map(one).collect()
}

/// What was admitted within the span that counts.
pub(super) fn begun(db: &Db, setting: &Setting, now: Timestamp) -> Result<BTreeMap<Group, u64>, LedgerError> {
    let policy = setting.policy.get();
    let budgets = policy.budgets(setting.day);
    used(db, &budgets, budgets.counted_from(now, setting.day))
}

/// What a pause, or a ceiling, stops that would go on if it were lifted.
pub(super) fn stopped(
    db: &Db,
    setting: &Setting,
    now: Timestamp,
    lifting: Lifting<'_>,
) -> Result<Vec<Stopped>, LedgerError> {
    let policy = setting.policy.get();
    let budgets = policy.budgets(setting.day);
    let used = used(db, &budgets, budgets.counted_from(now, setting.day))?;
    let population = census::population(db, setting, now)?;
    let (by, pause) = lifting.stored();
    let mut bind = Bind::default();
    let until = budgets.backlog_until(now, setting.day);
    bind.add(by.to_owned()).add(pause).add(until.0);
    let sql = "SELECT r.kind, r.scope, s.id % 8, sum(s.held), sum(NOT s.held), sum(s.held AND s.due_at <= ?3) \
         FROM (SELECT id, reason, due_at, 1 AS held FROM jobs WHERE held \
           UNION ALL SELECT id, reason, 0, 0 FROM jobs WHERE locks AND state = 2 AND queued = 0) AS s \
         CROSS JOIN records AS r ON r.deletion_id = s.id / 8 \
         WHERE json_extract(s.reason, '$.by') = ?1 AND coalesce(json_extract(s.reason, '$.pause'), 0) = ?2 \
         GROUP BY 1, 2, 3 ORDER BY 2, 1, 3";
    let one = |row: &Row| {
        let count = |at: usize| -> Result<u64, LedgerError> {
            let count: i64 = row.try_get(at).map_err(store(DOING))?;
            Ok(u64::try_from(count).unwrap_or(0))
        };
        Ok((group(row, 0)?, count(3)?, count(4)?, count(5)?))
    };
    let counts = rows(db, DOING, sql, bind)?.iter().map(one).collect::<Result<Vec<_>, LedgerError>>()?;
    let mut all = Stopped::all(lifting, counts, (&budgets, &population), &used);
    let stages = Stopped::crowded(&all);
    if !stages.is_empty() {
        Stopped::join(&mut all, lifting::members(db, lifting, &stages, (&budgets, until))?);
    }
    Ok(all)
}

/// Admissions that are over: what is admitted anew is counted there, and no longer where it was.
fn forget_old(db: &Db, due: [&[DueJob]; 2]) -> Result<(), LedgerError> {
    let old = || due.into_iter().flatten().filter_map(|due| Some((due, due.charged?)));
    let sql =
        "UPDATE admitted SET count = count - 1 WHERE kind = ? AND slot = ? AND scope = ? AND bucket = ?";
    each(db, DOING, sql, old(), |statement, (due, bucket)| {
        let Group { scope, kind, stage } = &due.group;
        statement.execute(params![kind.to_string(), stage.index(), scope.to_string(), bucket.0])
    })?;
    let sql = "DELETE FROM admissions WHERE job = ?";
    each(db, DOING, sql, old(), |statement, (due, _)| statement.execute([due.job.0])).map(drop)
}

fn charge(
    db: &Db,
    (group, jobs): (&Group, &[JobId]),
    (now, setting): (Timestamp, &Setting),
) -> Result<(), LedgerError> {
    let bucket = Budgets::bucket(now, setting.day);
    insert(db, jobs, Some(bucket), Budgets::good_until(now, setting.day))?;
    count(db, group, bucket, u64::try_from(jobs.len()).unwrap_or(u64::MAX))
}

/// Count as many as may begin in this group, of each number that it has, as admitted: then not one more is.
pub(super) fn spend(db: &Db, setting: &Setting, group: &Group, now: Timestamp) -> Result<(), LedgerError> {
    let population = census::population(db, setting, now)?;
    let limits = setting.policy.get().budgets(setting.day).limits(&group.scope, &group.kind, &population);
    count(db, group, Budgets::bucket(now, setting.day), rehearsal::spent(&limits))
}

fn count(db: &Db, group: &Group, bucket: Timestamp, many: u64) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(group.kind.to_string()).add(group.scope.to_string()).add(i64::from(group.stage.index()));
    bind.add(bucket.0).add(i64::try_from(many).unwrap_or(i64::MAX));
    let sql = "INSERT INTO admitted (kind, scope, slot, bucket, count) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (kind, slot, scope, bucket) DO UPDATE SET count = admitted.count + excluded.count";
    change_one(db, (DOING, "admitted"), sql, bind)
}

fn insert(
    db: &Db,
    jobs: &[JobId],
    bucket: Option<Timestamp>,
    good_until: Timestamp,
) -> Result<(), LedgerError> {
    let sql = "INSERT INTO admissions (job, bucket, good_until) VALUES (?, ?, ?) \
         ON CONFLICT (job) DO UPDATE SET bucket = excluded.bucket, good_until = excluded.good_until";
    let changed = each(db, DOING, sql, jobs, |statement, job| {
        statement.execute(params![job.0, bucket.map(|bucket| bucket.0), good_until.0])
    })?;
    all_there("admissions", changed, jobs.len())
}

fn freeze(db: &Db, row: &mut BatchRow, jobs: &[JobId]) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(row.group.kind.to_string())
        .add(row.group.scope.to_string())
        .add(i64::from(row.group.stage.index()))
        .add(row.frozen_at.0)
        .add(text(&Body { exceeded: row.exceeded.clone(), ended: None })?);
    let sql = "INSERT INTO batches (id, kind, scope, slot, frozen_at, waits, body) \
         SELECT coalesce(max(id), 0) + 1, ?, ?, ?, ?, 1, ? FROM batches RETURNING id";
    let made = rows(db, DOING, sql, bind)?;
    let made = made.first().ok_or_else(|| corrupt("batches", "a new one", "is missing"))?;
    row.batch = made.try_get(0).map_err(store(DOING))?;
    let batch = row.batch;
    let sql = "INSERT INTO batch_members (job, batch) VALUES (?, ?)";
    let joined = each(db, DOING, sql, jobs, |statement, job| statement.execute([job.0, batch]))?;
    all_there("batch_members", joined, jobs.len())?;
    link(db, &budget::frozen(row, jobs, row.frozen_at))
}

fn end(db: &Db, row: &BatchRow, how: Ended, digest: Option<&str>) -> Result<(), LedgerError> {
    let event = budget::ended(row.batch, &how, digest)?;
    let mut bind = Bind::default();
    bind.add(text(&Body { exceeded: row.exceeded.clone(), ended: Some(how) })?).add(row.batch);
    let sql = "UPDATE batches SET waits = 0, body = ? WHERE id = ? AND waits";
    change_one(db, (DOING, "batches"), sql, bind)?;
    let mut bind = Bind::default();
    bind.add(row.batch);
    execute(db, DOING, "DELETE FROM batch_members WHERE batch = ?", bind)?;
    link(db, &event)
}

/// Announcements that are due then: the first job of a deletion.
fn announced_sql() -> &'static str {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        format!(
            "{LINES_WITH} SELECT r.deletion_id, r.scope, j.due_at FROM line \
             CROSS JOIN jobs AS j ON j.queued AND j.wants = line.wants AND j.rank = 2 AND j.due_at BETWEEN ?2 AND ?3 \
               AND j.id % 8 = 0 \
             CROSS JOIN records AS r ON r.deletion_id = j.deletion_id AND r.kind = ?1 LIMIT ?4"
        )
    });
    SQL.as_str()
}

/// What is held was due before: nothing else about it is known but that it has not begun. By the partial index.
pub(super) const HELD_ANNOUNCED: &str = "SELECT r.deletion_id, r.scope, ?3 FROM jobs AS j INDEXED BY jobs_held \
     CROSS JOIN records AS r ON r.deletion_id = j.deletion_id AND r.kind = ?1 \
     WHERE j.held AND j.id % 8 = 0 LIMIT ?2";

/// Announcements that are due then; what is held is due now.
pub(super) fn announced(
    db: &Db,
    kind: &Kind,
    (from, to): (Timestamp, Timestamp),
    now: Timestamp,
) -> Result<Vec<(DeletionId, Scope, Timestamp)>, LedgerError> {
    let most = i64::from(ANNOUNCED_MAX) + 1;
    let mut bind = Bind::default();
    bind.add(kind.to_string()).add(from.0).add(to.0).add(most);
    let one = |row: &Row| {
        let id = DeletionId(row.try_get(0).map_err(store(DOING))?);
        let scope: &str = row.try_get(1).map_err(store(DOING))?;
        let at = Timestamp(row.try_get(2).map_err(store(DOING))?);
        Ok((id, scope.parse().map_err(|_| corrupt("records", id, "not a scope"))?, at))
    };
    let mut found = rows(db, DOING, announced_sql(), bind)?;
    if (from..=to).contains(&now) {
        let left = most.saturating_sub(i64::try_from(found.len()).unwrap_or(most));
        let mut bind = Bind::default();
        bind.add(kind.to_string()).add(left).add(now.0);
        found.extend(rows(db, DOING, HELD_ANNOUNCED, bind)?);
    }
    found.iter().map(one).collect()
}

/// Whether any batch waits.
pub(super) fn any_waits(db: &Db) -> Result<bool, LedgerError> {
    let sql = "SELECT 1 FROM batches WHERE waits LIMIT 1";
    Ok(!rows(db, DOING, sql, Bind::default())?.is_empty())
}

/// Batches that wait.
pub(super) fn waiting(db: &Db) -> Result<Vec<BatchRow>, LedgerError> {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("{COLUMNS} ORDER BY b.id"));
    rows(db, DOING, SQL.as_str(), Bind::default())?.iter().map(batch).collect()
}

fn batch(row: &Row) -> Result<BatchRow, LedgerError> {
    let id: i64 = row.try_get(0).map_err(store(DOING))?;
    let waiting: i64 = row.try_get(6).map_err(store(DOING))?;
    let stored: Body = body("batches", id, row.try_get(5).map_err(store(DOING))?)?;
    Ok(BatchRow {
        batch: id,
        group: group(row, 1)?,
        frozen_at: Timestamp(row.try_get(4).map_err(store(DOING))?),
        exceeded: stored.exceeded,
        waiting: u64::try_from(waiting).unwrap_or(0),
    })
}

fn members(db: &Db, batch: i64) -> Result<Vec<Member>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(batch);
    let sql = "SELECT j.id, j.resource, r.body ->> 'requested_by' FROM batch_members AS m \
         JOIN jobs AS j ON j.id = m.job AND j.state IN (0, 1) \
         JOIN records AS r ON r.deletion_id = j.deletion_id WHERE m.batch = ? ORDER BY j.id";
    rows(db, DOING, sql, bind)?.iter().map(|row| member(row, 0)).collect()
}

/// Job, resource and who asked for its deletion, from this column on.
pub(super) fn member(row: &Row, at: usize) -> Result<Member, LedgerError> {
    let resource: &str = row.try_get(at + 1).map_err(store(DOING))?;
    let by: &str = row.try_get(at + 2).map_err(store(DOING))?;
    Ok(Member {
        job: JobId(row.try_get(at).map_err(store(DOING))?),
        resource: resource.parse().map_err(|_| corrupt("jobs", resource, "not a resource"))?,
        requested_by: by.parse().map_err(|_| corrupt("records", resource, "not an actor"))?,
    })
}

/// One that waits, with its members.
pub(super) fn view(db: &Db, id: i64) -> Result<Option<BatchView>, LedgerError> {
    static SQL: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| format!("{COLUMNS} AND b.id = ?"));
    let mut bind = Bind::default();
    bind.add(id);
    let found = rows(db, DOING, SQL.as_str(), bind)?;
    let Some(row) = found.first() else { return Ok(None) };
    Ok(Some(BatchView { row: batch(row)?, members: members(db, id)? }))
}

/// Let a batch go, beside the budget; its members are looked at again by whoever asked.
pub(super) fn approve(
    db: &Db,
    staged: &Staged,
    setting: &Setting,
    approval: &Approval,
) -> Result<Result<Vec<JobId>, NotDone>, LedgerError> {
    let Some(view) = view(db, approval.batch)? else {
        return Ok(Err(CannotApprove::NoSuchBatch(approval.batch).into()));
    };
    if let Err(why) = view.check(approval) {
        return Ok(Err(why.into()));
    }
    let jobs: Vec<JobId> = view.members.iter().map(|member| member.job).collect();
    insert(db, &jobs, None, Budgets::approved_until(staged.now, setting.day))?;
    end(db, &view.row, Ended::of(approval, staged.now), Some(&approval.digest))?;
    Ok(Ok(jobs))
}

/// Where these jobs stand.
pub(super) fn standing(
    db: &Db,
    jobs: &[i64],
    now: Timestamp,
) -> Result<HashMap<JobId, Standing>, LedgerError> {
    if jobs.is_empty() {
        return Ok(HashMap::new());
    }
    let mut bind = Bind::default();
    bind.add(list(jobs.iter().copied())).add(now.0);
    let sql = "SELECT a.job, NULL, NULL FROM json_each(?1) AS n CROSS JOIN admissions AS a ON a.job = n.value \
         WHERE a.good_until > ?2 \
         UNION ALL SELECT m.job, b.id, b.body FROM json_each(?1) AS n CROSS JOIN batch_members AS m ON m.job = n.value \
         JOIN batches AS b ON b.id = m.batch AND b.waits";
    let mut found = HashMap::new();
    for row in rows(db, DOING, sql, bind)? {
        let batch: Option<i64> = row.try_get(1).map_err(store(DOING))?;
        let standing = match batch {
            None => Standing::Admitted,
            Some(batch) => {
                let stored: Body = body("batches", batch, row.try_get(2).map_err(store(DOING))?)?;
                Standing::Frozen(Frozen { batch, exceeded: stored.exceeded })
            }
        };
        found.insert(JobId(row.try_get(0).map_err(store(DOING))?), standing);
    }
    Ok(found)
}
