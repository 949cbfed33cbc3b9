//! Registering resources and making records.
use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::params;
use sexton_model::access::Registrar;
use sexton_model::audit::{self, Hash};
use sexton_model::belts::Policy;
use sexton_model::deletion::{Deletion, Hold, Record};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{Actor, DeletionId};

use super::connection::{Bind, Db, change_one, each, execute, row, rows, store};
use super::counts::Counts;
use super::memory::{Memory, Staged};
use super::run::Setting;
use super::{claims, codes, exclusive, groups, jobs, resource_holds, write};
use crate::claims::Claims;
use crate::exclusive::Holders;
use crate::row::JobRow;
use crate::rules::{self, LedgerEvent, Registering};
use crate::{LedgerError, NewDeletion, NotDone};

/// A resource as it stands in the table.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) resource: Resource,
    pub(super) presence: Presence,
    pub(super) live: Option<DeletionId>,
    pub(super) holds: Vec<Hold>,
    pub(super) seq: i64,
    pub(super) head: Hash,
}

const DOING: &str = "reading resources";

/// Resources with their live records, by id.
pub(super) fn standing<'a>(
    db: &Db,
    ids: impl Iterator<Item = &'a sexton_model::ResourceId>,
) -> Result<HashMap<String, Standing>, LedgerError> {
    let ids: Vec<String> = ids.map(ToString::to_string).collect();
    let mut bind = Bind::default();
    bind.add(rules::text(&ids)?);
    let sql = "SELECT r.id, r.body, r.presence, r.audit_seq, r.audit_head, d.id FROM json_each(?) AS n \
               CROSS JOIN resources AS r ON r.id = n.value \
               LEFT JOIN deletions AS d ON d.resource = r.id AND d.live";
    let mut holds = resource_holds::of_resources(db, &ids)?;
    let mut found = HashMap::with_capacity(ids.len());
    for row in rows(db, DOING, sql, bind)? {
        let id: String = row.try_get(0).map_err(store(DOING))?;
        let text: &str = row.try_get(1).map_err(store(DOING))?;
        let head: &[u8] = row.try_get(4).map_err(store(DOING))?;
        let live: Option<i64> = row.try_get(5).map_err(store(DOING))?;
        let standing = Standing {
            resource: codes::body("resources", &id, text)?,
            presence: codes::presence(row.try_get(2).map_err(store(DOING))?)?,
            live: live.map(DeletionId),
            holds: holds.remove(&id).unwrap_or_default(),
            seq: row.try_get(3).map_err(store(DOING))?,
            head: codes::hash("resources", &id, head)?,
        };
        found.insert(id, standing);
    }
    Ok(found)
}

const RESOURCE: &str = "INSERT INTO resources \
     (id, kind, scope, presence, protected, body, audit_seq, audit_head) VALUES (?, ?, ?, ?, ?, ?, ?, ?) \
     ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, presence = excluded.presence, \
     protected = excluded.protected, body = excluded.body, audit_seq = excluded.audit_seq, \
     audit_head = excluded.audit_head";

const EVENT: &str = "INSERT INTO ledger_audit (chain, seq, body, hash) VALUES (?, ?, ?, ?)";

/// One event of one of the ledger's chains.
pub(super) type ChainWrite = (String, i64, String, Hash);

/// Append to the ledger's chains.
pub(super) fn append(db: &Db, events: Vec<ChainWrite>) -> Result<(), LedgerError> {
    each(db, "appending to the ledger's chains", EVENT, events, |statement, (chain, seq, body, hash)| {
        statement.execute(params![chain, seq, body, hash])
    })?;
    Ok(())
}

/// How a list leaves what stands there.
struct Judged {
    there: HashMap<String, Standing>,
    holders: Holders,
    claims: Claims,
    /// What is said of each, in order.
    results: Vec<Result<(), NotDone>>,
    events: Vec<ChainWrite>,
    /// What is to be written of `there`.
    changed: Vec<String>,
}

/// Go through the list.
fn judge(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (resources, registrar, by, policy): (&[Resource], &Registrar, &Actor, &Arc<Policy>),
) -> Result<Judged, LedgerError> {
    let mut there = standing(db, resources.iter().map(|r| &r.id))?;
    let left = crate::groups::left(resources, |id| Some(&there.get(&id.to_string())?.resource));
    let requesters = groups::requesters(db, &left)?;
    let mut holders = exclusive::holders(db, memory, staged, resources)?;
    let mut claims = claims::read(db, policy, &resources.iter().collect::<Vec<_>>())?;
    let mut results = Vec::with_capacity(resources.len());
    let mut events = Vec::new();
    let mut changed = Vec::new();
    for new in resources {
        let key = new.id.to_string();
        let old = there.get(&key);
        let known = old.map(|o| (&o.resource, o.presence));
        let judged = match registrar.over(known, new) {
            Ok(judged) => judged,
            Err(refused) => {
                results.push(Err(refused.into()));
                continue;
            }
        };
        let new = &*judged;
        let live = old.and_then(|o| o.live);
        let verdict = rules::registering(known, live, new)
            .and_then(|what| rules::regrouping((known, new), &requesters, by).map(|()| what));
        let verdict = verdict.and_then(|what| holders.check(known, new).map(|()| what));
        let stated = (old.map(|o| &o.resource), new);
        let what = match verdict.and_then(|what| claims.may_be(what, stated, live)) {
            Err(refused) => {
                results.push(Err(refused));
                continue;
            }
            Ok(Registering::Same) => {
                claims.note(new, live);
                results.push(Ok(()));
                continue;
            }
            Ok(Registering::Anew) => "registered",
            Ok(Registering::Update) => "updated",
        };
        let body = serde_json::to_value(new).map_err(|e| codes::corrupt("resources", &key, e))?;
        let event = LedgerEvent { at: staged.now, what: what.into(), by: by.to_string(), body };
        let text = rules::text(&event)?;
        let (seq, head, live) = old.map_or((0, audit::GENESIS, None), |o| (o.seq, o.head, o.live));
        let head = audit::link(&head, seq + 1, text.as_bytes());
        events.push((key.clone(), seq + 1, text, head));
        let (resource, presence) = (new.clone(), Presence::Registered);
        let standing = Standing { resource, presence, live, holds: Vec::new(), seq: seq + 1, head };
        there.insert(key.clone(), standing);
        holders.note(new);
        claims.note(new, live);
        changed.push(key);
        results.push(Ok(()));
    }
    Ok(Judged { there, holders, claims, results, events, changed })
}

/// What [`register`] would say of each, each for itself. Writes nothing.
pub(super) fn check(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    stated: (&[Resource], &Registrar, &Actor, &Arc<Policy>),
) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
    judge(db, memory, staged, stated).map(|judged| judged.results)
}

/// Register or update. Without a policy nobody is asked what they claim, and what is written down of that stays: for who changes
/// nothing that they state.
pub(super) fn register(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    policy: Option<&Arc<Policy>>,
    (resources, registrar, by, whole): (&[Resource], &Registrar, &Actor, bool),
) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
    let none = Arc::default();
    let Judged { there, holders, claims, results, events, mut changed } =
        judge(db, memory, staged, (resources, registrar, by, policy.unwrap_or(&none)))?;
    if whole && results.iter().any(Result::is_err) {
        let rest = |result: Result<(), NotDone>| result.and(Err(NotDone::WithTheRest));
        return Ok(results.into_iter().map(rest).collect());
    }
    changed.sort_unstable();
    changed.dedup();
    let mut written = Vec::with_capacity(changed.len());
    for standing in changed.iter().filter_map(|key| there.get(key)) {
        written.push((standing, rules::text(&standing.resource)?));
        // Its protection may have changed: read anew when it is next decided on.
        if let Some(live) = standing.live {
            staged.deletions.remove(&live);
            memory.deletions.take(&live);
        }
    }
    let resources: Vec<&Resource> = written.iter().map(|(standing, _)| &standing.resource).collect();
    let wanted = written.len();
    let done = each(db, "writing resources", RESOURCE, written, |statement, (standing, body)| {
        let resource = &standing.resource;
        statement.execute(params![
            resource.id.to_string(),
            resource.id.kind.to_string(),
            resource.scope.to_string(),
            codes::of_presence(standing.presence),
            resource.protected,
            body,
            standing.seq,
            standing.head,
        ])
    })?;
    codes::all_there("resources", done, wanted)?;
    groups::write(db, &resources)?;
    exclusive::write(db, &holders)?;
    if policy.is_some() {
        claims::write(db, &claims)?;
    }
    append(db, events)?;
    Ok(results)
}

const DELETION: &str = "INSERT INTO deletions (id, resource, plan, live, status, audit_seq, audit_head) \
     VALUES (?, ?, ?, ?, ?, ?, ?)";

const RECORD: &str = "INSERT INTO records (deletion_id, kind, scope, body) VALUES (?, ?, ?, ?)";

/// Make records.
pub(super) fn create(
    db: &Db,
    staged: &Staged,
    setting: &Setting,
    new: &[NewDeletion],
) -> Result<Vec<Result<DeletionId, NotDone>>, LedgerError> {
    let mut there = standing(db, new.iter().map(|n| &n.resource))?;
    let stated: Vec<&Resource> = there.values().map(|standing| &standing.resource).collect();
    let mut claims = claims::read(db, &setting.policy.get(), &stated)?;
    let doing = "numbering records";
    let first: i64 = row(db, doing, "SELECT last_deletion + 1 FROM ledger", Bind::default())?
        .try_get(0)
        .map_err(store(doing))?;
    let mut plans = HashMap::new();
    let mut results = Vec::with_capacity(new.len());
    let mut made: Vec<(Deletion, i64)> = Vec::new();
    for one in new {
        let id = DeletionId(first + made.len() as i64);
        match draw_up(id, one, (&there, &mut claims), staged, setting) {
            Err(refused) => results.push(Err(refused)),
            Ok(deletion) => {
                if let Some(standing) = there.get_mut(&one.resource.to_string()) {
                    standing.live = Some(id);
                }
                let key = std::sync::Arc::as_ptr(&one.plan).addr();
                let plan = match plans.get(&key) {
                    Some(number) => *number,
                    None => {
                        let number = plan_number(db, &rules::text(&one.plan)?)?;
                        plans.insert(key, number);
                        number
                    }
                };
                made.push((deletion, plan));
                results.push(Ok(id));
            }
        }
    }
    insert(db, &made)?;
    claims::write(db, &claims)?;
    let mut bind = Bind::default();
    bind.add(first - 1 + made.len() as i64);
    change_one(db, (doing, "ledger"), "UPDATE ledger SET last_deletion = ?", bind)?;
    Ok(results)
}

fn draw_up(
    id: DeletionId,
    new: &NewDeletion,
    (there, claims): (&HashMap<String, Standing>, &mut Claims),
    staged: &Staged,
    setting: &Setting,
) -> Result<Deletion, NotDone> {
    let missing = || NotDone::NotRegistered(new.resource.clone());
    let standing = there.get(&new.resource.to_string()).ok_or_else(missing)?;
    if let Some(deletion) = standing.live {
        return Err(NotDone::AlreadyLive { resource: new.resource.clone(), deletion });
    }
    if standing.presence != Presence::Registered {
        return Err(missing());
    }
    setting.policy.get().lets_go(&new.resource)?;
    let record = Record {
        resource: standing.resource.clone(),
        due: new.due,
        gone_by: new.gone_by,
        requested_by: new.by.clone(),
        reason: new.reason.clone(),
        created_at: staged.now,
    };
    let deletion = Deletion::draw_up(id, record, new.plan.clone(), setting.day)?;
    claims.may_delete(&standing.resource)?;
    // It goes by what is registered now: what an earlier record went by is over.
    claims.note(&standing.resource, None);
    Ok(deletion)
}

fn plan_number(db: &Db, body: &str) -> Result<i64, LedgerError> {
    let doing = "keeping a plan";
    // The chain's hash from its start is a digest like any other.
    let digest = audit::link(&audit::GENESIS, 0, body.as_bytes()).to_vec();
    let mut bind = Bind::default();
    bind.add(digest.clone()).add(body.to_owned());
    let sql = "INSERT INTO plans (digest, body) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING";
    execute(db, doing, sql, bind)?;
    let mut bind = Bind::default();
    bind.add(digest);
    row(db, doing, "SELECT number FROM plans WHERE digest = ?", bind)?.try_get(0).map_err(store(doing))
}

fn insert(db: &Db, made: &[(Deletion, i64)]) -> Result<(), LedgerError> {
    let mut events = Vec::with_capacity(made.len());
    let mut records = Vec::with_capacity(made.len());
    for (deletion, _) in made {
        events.push(rules::created(deletion)?);
        records.push((deletion, rules::text(&deletion.record)?));
    }
    let heads: Vec<_> = made.iter().zip(&events).collect();
    each(db, "making records", DELETION, heads, |statement, ((deletion, plan), event)| {
        statement.execute(params![
            deletion.id.0,
            deletion.record.resource.id.to_string(),
            plan,
            deletion.status.live(),
            codes::of_status(deletion.status),
            event.seq,
            event.hash,
        ])
    })?;
    each(db, "making records", RECORD, records, |statement, (deletion, body)| {
        let resource = &deletion.record.resource;
        statement.execute(params![
            deletion.id.0,
            resource.id.kind.to_string(),
            resource.scope.to_string(),
            body,
        ])
    })?;
    let rows: Vec<_> = made
        .iter()
        .flat_map(|(deletion, _)| deletion.jobs.iter().map(move |job| (deletion, job)))
        .map(|(deletion, job)| (JobRow::of(deletion, job), deletion.record.resource.id.to_string()))
        .collect();
    let rows: Vec<_> = rows.iter().map(|(row, resource)| (row, resource.clone())).collect();
    jobs::insert(db, rows)?;
    Counts::of(made.iter().map(|(deletion, _)| deletion)).write(db)?;
    write::audit(db, events)
}
