//! Restoring many, in the file.
use async_trait::async_trait;
use sexton_model::access::Registrar;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{Actor, DeletionId, Instance, JobId, ResourceId, Scope, Timestamp};

use super::connection::{Bind, Db, rows, store};
use super::memory::{Memory, Staged};
use super::writer::{Answer, Work};
use super::{SqliteLedger, codes, inventory, mixed_up};
use crate::restores::{COMPARED, LiveRecord, Restores, WITHIN_MAX, below, few};
use crate::{LedgerError, NotDone};

const WITHIN: &str = "SELECT d.id, d.resource, d.status, json_extract(x.body, '$.priority') AS priority \
     FROM records AS r CROSS JOIN deletions AS d ON d.id = r.deletion_id AND d.live \
     JOIN resources AS x ON x.id = d.resource \
     WHERE r.scope = ?1 OR (r.scope >= ?2 AND r.scope < ?3) ORDER BY priority, d.id LIMIT ?4";
/// The oldest restores of one line, by priority.
pub(super) const IN_LINE: &str = "SELECT q.id FROM (SELECT id, resource, due_at FROM jobs \
     WHERE queued AND wants = ?1 AND rank = 0 AND due_at <= ?2 ORDER BY due_at, id LIMIT ?3) AS q \
     JOIN resources AS x ON x.id = q.resource \
     ORDER BY json_extract(x.body, '$.priority'), q.due_at, q.id LIMIT ?4";

/// The live records of a scope and of those below it.
fn within(db: &Db, scope: &Scope) -> Result<Vec<LiveRecord>, LedgerError> {
    let doing = "reading the live records of a scope";
    let ((from, to), most) = (below(scope), i64::try_from(WITHIN_MAX).unwrap_or(i64::MAX));
    let mut bind = Bind::default();
    bind.add(scope.to_string()).add(from).add(to).add(most.saturating_add(1));
    let mut found = Vec::new();
    for row in rows(db, doing, WITHIN, bind)? {
        let id: i64 = row.try_get(0).map_err(store(doing))?;
        let resource: &str = row.try_get(1).map_err(store(doing))?;
        found.push(LiveRecord {
            deletion: DeletionId(id),
            resource: resource.parse().map_err(|e| codes::corrupt("deletions", id, e))?,
            status: codes::status(row.try_get(2).map_err(store(doing))?)?,
            priority: row.try_get(3).map_err(store(doing))?,
        });
    }
    few(found)
}

/// Restores in one line: whose resource has the lower priority first, then the oldest.
pub(super) fn in_line(
    db: &Db,
    now: Timestamp,
    instance: Option<&Instance>,
    limit: u32,
) -> Result<Vec<JobId>, LedgerError> {
    let doing = "reading a line of restores";
    let mut bind = Bind::default();
    bind.add(instance.map_or_else(String::new, ToString::to_string))
        .add(now.0)
        .add(COMPARED)
        .add(i64::from(limit));
    let found = rows(db, doing, IN_LINE, bind)?;
    found.iter().map(|row| Ok(JobId(row.try_get(0).map_err(store(doing))?))).collect()
}

/// Change a resource's priority.
pub(super) fn prioritize(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (id, priority, by): (&ResourceId, i16, &Actor),
) -> Result<Result<(), NotDone>, LedgerError> {
    let there = inventory::standing(db, std::iter::once(id))?;
    let Some(standing) = there.into_values().next() else {
        return Ok(Err(NotDone::NotRegistered(id.clone())));
    };
    if standing.presence != Presence::Registered {
        return Ok(Err(NotDone::NotRegistered(id.clone())));
    }
    let resource = Resource { priority, ..standing.resource };
    // Nothing that it states changes, so nobody is asked what they claim.
    let trusted = &Registrar::Trusted;
    let mut done = inventory::register(db, memory, staged, None, (&[resource], trusted, by, true))?;
    Ok(done.pop().unwrap_or_else(|| Err(NotDone::NotRegistered(id.clone()))))
}

#[async_trait]
impl Restores for SqliteLedger {
    async fn live_within(&self, scope: &Scope) -> Result<Vec<LiveRecord>, LedgerError> {
        let scope = scope.clone();
        self.reads.read(move |db| within(db, &scope)).await
    }

    async fn prioritize(
        &self,
        resource: &ResourceId,
        priority: i16,
        by: &Actor,
    ) -> Result<Result<(), NotDone>, LedgerError> {
        match self.ask(Work::Prioritize(resource.clone(), priority, by.clone())).await? {
            Answer::Prioritize(done) => Ok(done),
            other => Err(mixed_up(&other)),
        }
    }
}
