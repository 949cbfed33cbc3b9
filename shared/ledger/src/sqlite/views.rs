//! Listings and views.
use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use sexton_model::audit::{self, Broken, Hash};
use sexton_model::belts::covered::Covered;
use sexton_model::job::StateName;
use sexton_model::{DeletionId, Instance, ResourceId, Timestamp};

use super::connection::{Bind, Db, row, rows, store};
use super::find::LINES_WITH;
use super::inventory::{Standing, standing};
use super::load::{Bodies, load};
use super::memory::{count_out, pauses, pulses};
use super::{below, codes, counts};
use crate::rules::text;
use crate::view::Through;
use crate::{
    AuditRow, DeletionFilter, DeletionRow, DeletionView, Health, LedgerError, Page, ResourceFilter,
    ResourceView,
};

/// Longest page.
const PAGE_MAX: u32 = 1000;

fn view(standing: Standing) -> ResourceView {
    let Standing { resource, presence, live, holds, .. } = standing;
    ResourceView { resource, presence, live, holds }
}

/// One resource.
pub(super) fn resource(db: &Db, id: &ResourceId) -> Result<Option<ResourceView>, LedgerError> {
    Ok(standing(db, std::iter::once(id))?.into_values().next().map(view))
}

/// Resources, ascending by id.
pub(super) fn resources(db: &Db, filter: &ResourceFilter) -> Result<Page<ResourceView>, LedgerError> {
    let doing = "listing resources";
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let mut bind = Bind::default();
    bind.add(filter.kind.as_ref().map(ToString::to_string))
        .add(filter.scope.as_ref().map(ToString::to_string))
        .add(filter.after.clone().unwrap_or_default())
        .add(i64::from(limit) + 1)
        .add(filter.scopes.as_ref().map(text).transpose()?);
    // One text per set of filters: with `?1 IS NULL OR …` no index would be used.
    let sql = match (&filter.kind, Through::of(filter.scope.as_ref(), filter.scopes.as_deref())) {
        (_, Through::Nothing) => return Ok(Page { items: Vec::new(), next: None }),
        (_, Through::Below(_)) => below::RESOURCES,
        (None, Through::Everything) => "SELECT id FROM resources WHERE id > ?3 ORDER BY id LIMIT ?4",
        (Some(_), Through::Everything) => {
            "SELECT id FROM resources WHERE kind = ?1 AND id > ?3 ORDER BY id LIMIT ?4"
        }
        (None, Through::One(_)) => {
            "SELECT id FROM resources WHERE scope = ?2 AND id > ?3 ORDER BY id LIMIT ?4"
        }
        (Some(_), Through::One(_)) => {
            "SELECT id FROM resources WHERE scope = ?2 AND kind = ?1 AND id > ?3 ORDER BY id LIMIT ?4"
        }
    };
    let mut ids: Vec<ResourceId> = Vec::new();
    for row in rows(db, doing, sql, bind)? {
        let id: &str = row.try_get(0).map_err(store(doing))?;
        ids.push(id.parse().map_err(|e| codes::corrupt("resources", id, e))?);
    }
    let more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    let mut found = standing(db, ids.iter())?;
    let items: Vec<_> = ids.iter().filter_map(|id| found.remove(&id.to_string())).map(view).collect();
    Ok(Page { items, next: ids.last().filter(|_| more).map(ToString::to_string) })
}

/// How much there is of a kind, and in a scope and those below it.
pub(super) fn covered(
    db: &Db,
    (kind, scope): (Option<String>, Option<String>),
) -> Result<Covered, LedgerError> {
    let doing = "counting what there is of a scope";
    let sql = "SELECT (SELECT count(*) FROM deletions AS d CROSS JOIN records AS r ON r.deletion_id = d.id \
         WHERE d.live AND (?1 IS NULL OR r.kind = ?1) \
           AND (?2 IS NULL OR r.scope = ?2 OR substr(r.scope, 1, length(?2) + 1) = ?2 || '/')), \
         (SELECT count(*) FROM resources AS x WHERE x.presence = 0 AND (?1 IS NULL OR x.kind = ?1) \
           AND (?2 IS NULL OR x.scope = ?2 OR substr(x.scope, 1, length(?2) + 1) = ?2 || '/'))";
    let mut bind = Bind::default();
    bind.add(kind).add(scope);
    let found = row(db, doing, sql, bind)?;
    let many = |at: usize| -> Result<u64, LedgerError> {
        let n: i64 = found.try_get(at).map_err(store(doing))?;
        Ok(u64::try_from(n).unwrap_or(0))
    };
    Ok(Covered { records: many(0)?, resources: many(1)? })
}

/// Everything about one deletion.
pub(super) fn deletion(db: &Db, id: DeletionId) -> Result<Option<DeletionView>, LedgerError> {
    let doing = "reading a deletion";
    let Some((deletion, _)) = load(db, &[id], &mut Bodies::new(1))?.remove(&id) else {
        return Ok(None);
    };
    let mut bind = Bind::default();
    bind.add(id.0);
    let sql = "SELECT instance, body FROM targets WHERE deletion_id = ?";
    let mut targets: BTreeMap<Instance, serde_json::Value> = BTreeMap::new();
    for row in rows(db, doing, sql, bind)? {
        let name: &str = row.try_get(0).map_err(store(doing))?;
        let text: &str = row.try_get(1).map_err(store(doing))?;
        let instance = name.parse().map_err(|e| codes::corrupt("targets", name, e))?;
        targets.insert(instance, codes::body("targets", id, text)?);
    }
    let mut audit = Vec::new();
    for (seq, text, hash) in chain(db, id)? {
        audit.push(AuditRow { seq, event: codes::body("audit", id, &text)?, body: text, hash });
    }
    Ok(Some(DeletionView { deletion, targets, audit }))
}

fn chain(db: &Db, id: DeletionId) -> Result<Vec<(i64, String, Hash)>, LedgerError> {
    let doing = "reading an audit trail";
    let mut bind = Bind::default();
    bind.add(id.0);
    let sql = "SELECT seq, body, hash FROM audit WHERE deletion_id = ? ORDER BY seq";
    let mut chain = Vec::new();
    for row in rows(db, doing, sql, bind)? {
        let hash: &[u8] = row.try_get(2).map_err(store(doing))?;
        chain.push((
            row.try_get(0).map_err(store(doing))?,
            row.try_get(1).map_err(store(doing))?,
            codes::hash("audit", id, hash)?,
        ));
    }
    Ok(chain)
}

/// Check a chain against its head, which is read first: a longer chain cannot be taken for a broken one only
/// because it grew in between, as both are read in one transaction by the caller.
pub(super) fn verify_chain(db: &Db, id: DeletionId) -> Result<Result<(), Broken>, LedgerError> {
    let doing = "reading an audit trail";
    let mut bind = Bind::default();
    bind.add(id.0);
    let head = rows(db, doing, "SELECT audit_seq, audit_head FROM deletions WHERE id = ?", bind)?;
    let head = match head.first() {
        Some(row) => {
            let hash: &[u8] = row.try_get(1).map_err(store(doing))?;
            (row.try_get(0).map_err(store(doing))?, codes::hash("deletions", id, hash)?)
        }
        None => (0, audit::GENESIS),
    };
    let chain = chain(db, id)?;
    Ok(audit::verify(chain.iter().map(|(seq, body, hash)| (*seq, body.as_bytes(), *hash)), head))
}

/// The live record of a resource, else its latest one, which may be archived.
pub(super) fn deletion_of(db: &Db, resource: &ResourceId) -> Result<Option<DeletionId>, LedgerError> {
    let doing = "reading a resource's records";
    let mut bind = Bind::default();
    bind.add(resource.to_string());
    let sql = "SELECT id, live FROM deletions WHERE resource = ?1 \
               UNION ALL SELECT deletion_id, 0 FROM stubs WHERE resource = ?1 ORDER BY 2 DESC, 1 DESC LIMIT 1";
    let found = rows(db, doing, sql, bind)?;
    found.first().map(|row| row.try_get(0).map(DeletionId).map_err(store(doing))).transpose()
}

/// Deletions, newest first.
pub(super) fn deletions(db: &Db, filter: &DeletionFilter) -> Result<Page<DeletionRow>, LedgerError> {
    let doing = "listing deletions";
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let after = match filter.after.as_deref().map(str::parse::<DeletionId>) {
        None => i64::MAX,
        Some(Ok(id)) => id.0,
        // Behind what is no id there is nothing.
        Some(Err(_)) => 0,
    };
    // What a belt stopped between two steps is ready, and not in line: it is held, too.
    let held = filter.state == Some(StateName::Held);
    let mut bind = Bind::default();
    bind.add(after)
        .add(i64::from(limit) + 1)
        .add(filter.status.map(codes::of_status))
        .add(filter.state.map(crate::row::code))
        .add(filter.scope.as_ref().map(ToString::to_string))
        .add(filter.kind.as_ref().map(ToString::to_string))
        .add(held)
        .add(filter.scopes.as_ref().map(text).transpose()?);
    let sql = match (Through::of(filter.scope.as_ref(), filter.scopes.as_deref()), &filter.kind) {
        (Through::Nothing, _) => return Ok(Page { items: Vec::new(), next: None }),
        (Through::Below(_), _) => below::DELETIONS,
        (Through::Everything, None) => {
            "SELECT d.id FROM deletions AS d WHERE d.id < ?1 AND (?3 IS NULL OR d.status = ?3) \
             AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.id >= d.id * 8 AND j.id < d.id * 8 + 8 \
             AND (j.state = ?4 OR (?7 AND j.locks AND j.state = 2 AND j.queued = 0)))) ORDER BY d.id DESC LIMIT ?2"
        }
        (Through::One(_), _) => {
            "SELECT d.id FROM records AS r JOIN deletions AS d ON d.id = r.deletion_id \
             WHERE r.scope = ?5 AND r.deletion_id < ?1 AND (?6 IS NULL OR r.kind = ?6) \
             AND (?3 IS NULL OR d.status = ?3) \
             AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.id >= d.id * 8 AND j.id < d.id * 8 + 8 \
             AND (j.state = ?4 OR (?7 AND j.locks AND j.state = 2 AND j.queued = 0)))) ORDER BY r.deletion_id DESC LIMIT ?2"
        }
        (Through::Everything, Some(_)) => {
            "SELECT d.id FROM records AS r JOIN deletions AS d ON d.id = r.deletion_id \
             WHERE r.kind = ?6 AND r.deletion_id < ?1 AND (?3 IS NULL OR d.status = ?3) \
             AND (?4 IS NULL OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.id >= d.id * 8 AND j.id < d.id * 8 + 8 \
             AND (j.state = ?4 OR (?7 AND j.locks AND j.state = 2 AND j.queued = 0)))) ORDER BY r.deletion_id DESC LIMIT ?2"
        }
    };
    let mut ids = Vec::new();
    for row in rows(db, doing, sql, bind)? {
        ids.push(DeletionId(row.try_get(0).map_err(store(doing))?));
    }
    let more = ids.len() > limit as usize;
    ids.truncate(limit as usize);
    let mut found = load(db, &ids, &mut Bodies::new(ids.len()))?;
    let items: Vec<_> =
        ids.iter().filter_map(|id| found.remove(id)).map(|(deletion, _)| DeletionRow::of(deletion)).collect();
    Ok(Page { items, next: ids.last().filter(|_| more).map(ToString::to_string) })
}

/// The oldest due of each line, by one look into the queue's index each, and of what is held.
fn oldest_sql() -> &'static str {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "{LINES_WITH} SELECT min(at) FROM ( \
               SELECT (SELECT min(j.due_at) FROM jobs AS j WHERE j.queued AND j.wants = line.wants \
               AND j.rank = 2) AS at FROM line \
             UNION ALL SELECT min(due_at) FROM jobs WHERE held)"
        )
    });
    SQL.as_str()
}

/// How the job table is doing.
pub(super) fn health(db: &Db, now: Timestamp) -> Result<Health, LedgerError> {
    let doing = "reading the job table's health";
    let jobs = counts::kept(db)?;
    let oldest: Option<i64> =
        row(db, doing, oldest_sql(), Bind::default())?.try_get(0).map_err(store(doing))?;
    let mut out: HashMap<Instance, u64> = HashMap::new();
    for ((instance, _), count) in count_out(db)? {
        *out.entry(instance).or_insert(0) += u64::from(count);
    }
    let mut instances: BTreeMap<_, _> = pulses(db, now, 0)?
        .into_iter()
        .map(|(instance, pulsed)| {
            let count = out.remove(&instance).unwrap_or(0);
            (instance, (pulsed.at, count))
        })
        .collect();
    // Orders may be out at an instance that was never heard of.
    instances.extend(out.into_iter().map(|(instance, count)| (instance, (Timestamp::default(), count))));
    let oldest_due = oldest.map(Timestamp).filter(|at| *at <= now);
    let (_, review) = super::reviewing::standing(db)?;
    Ok(Health { now, jobs, oldest_due, instances, pauses: pauses(db)?, review })
}
