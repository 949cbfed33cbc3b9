//! What stands behind the first piece of a crowd: see [`sexton_model::belts::budget::goes_on`].
use std::collections::BTreeSet;

use sexton_model::JobId;
use sexton_model::Timestamp;
use sexton_model::belts::budget::Group;

use super::connection::{Bind, Db, Row, list, rows, store};
use super::run::Setting;
use super::{admitting, memory};
use crate::LedgerError;
use crate::budget::{DueJob, Read};
use crate::rules::text;

const DOING: &str = "reading what stands behind a piece";

/// What of these groups a pause, a ceiling or working hours held when somebody looked last, and is neither admitted nor in a
/// batch; of stages that are not counted (`?2` are those that are) only the backlog. By the partial index.
pub(super) const KEPT: &str = "WITH pieces (kind, scope, slot) AS MATERIALIZED ( \
       SELECT n.value ->> 0, n.value ->> 1, n.value ->> 2 FROM json_each(?1) AS n) \
     SELECT j.id, r.kind, r.scope, j.id % 8, a.bucket, coalesce(json_extract(j.reason, '$.pause'), 0) \
     FROM jobs AS j INDEXED BY jobs_held \
     CROSS JOIN records AS r ON r.deletion_id = j.deletion_id AND j.id % 8 IN (SELECT slot FROM pieces) \
     CROSS JOIN deletions AS d ON d.id = j.deletion_id AND d.status = 0 \
     LEFT JOIN admissions AS a ON a.job = j.id \
     WHERE j.held AND (j.id % 8 IN (SELECT n.value FROM json_each(?2) AS n) OR j.due_at <= ?3) \
       AND (r.kind, r.scope, j.id % 8) IN (SELECT kind, scope, slot FROM pieces) \
       AND json_extract(j.reason, '$.by') IN ('pause', 'ceiling', 'window') \
       AND (a.good_until IS NULL OR a.good_until <= ?4) AND NOT EXISTS (SELECT 1 FROM batch_members AS m \
         JOIN batches AS b ON b.id = m.batch AND b.waits WHERE m.job = j.id) \
     ORDER BY j.id";

/// Read what stands behind the pieces that were read.
pub(super) fn join(
    db: &Db,
    setting: &Setting,
    now: Timestamp,
    (read, pieces): (&mut Read, &BTreeSet<Group>),
) -> Result<(), LedgerError> {
    if pieces.is_empty() {
        return Ok(());
    }
    let policy = setting.policy.get();
    let budgets = policy.budgets(setting.day);
    let named = |group: &Group| (group.kind.to_string(), group.scope.to_string(), group.stage.index());
    let mut bind = Bind::default();
    bind.add(text(&pieces.iter().map(named).collect::<Vec<_>>())?);
    bind.add(list(budgets.stages().map(|stage| i64::from(stage.index()))));
    bind.add(budgets.backlog_until(now, setting.day).0).add(now.0);
    let one = |row: &Row| {
        let charged: Option<i64> = row.try_get(4).map_err(store(DOING))?;
        let job = JobId(row.try_get(0).map_err(store(DOING))?);
        let pause: i64 = row.try_get(5).map_err(store(DOING))?;
        Ok((DueJob { job, group: admitting::group(row, 1)?, charged: charged.map(Timestamp) }, pause))
    };
    let kept = rows(db, DOING, KEPT, bind)?.iter().map(one).collect::<Result<Vec<_>, LedgerError>>()?;
    read.put_behind(kept, (&memory::in_force(db)?, &policy), (now, setting.day));
    Ok(())
}
