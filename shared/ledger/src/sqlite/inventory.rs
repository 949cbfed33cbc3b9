//! Registering resources and making records.
use std::collections::HashMap;
use std::sync::LazyLock;

use sexton_model::audit::{self, Hash};
use sexton_model::deletion::{Deletion, Record};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{Actor, DeletionId};
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::chunk::{Bind, Chunked, change_one, execute, rows, store};
use super::counts::Counts;
use super::memory::{Memory, Staged};
use super::{codes, jobs, write};
use crate::row::JobRow;
use crate::rules::{self, LedgerEvent, Registering};
use crate::{LedgerError, NewDeletion, NotDone};

/// A resource as it stands in the table.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) resource: Resource,
    pub(super) presence: Presence,
    pub(super) live: Option<DeletionId>,
    seq: i64,
    head: Hash,
}

const DOING: &str = "reading resources";

/// Resources with their live records, by id.
pub(super) async fn standing<'a>(
    db: &mut SqliteConnection,
    ids: impl Iterator<Item = &'a sexton_model::ResourceId>,
) -> Result<HashMap<String, Standing>, LedgerError> {
    let ids: Vec<String> = ids.map(ToString::to_string).collect();
    let mut bind = Bind::default();
    bind.add(rules::text(&ids)?);
    let sql = "SELECT r.id, r.body, r.presence, r.audit_seq, r.audit_head, d.id FROM json_each(?) AS n \
               CROSS JOIN resources AS r ON r.id = n.value \
               LEFT JOIN deletions AS d ON d.resource = r.id AND d.live";
    let mut found = HashMap::with_capacity(ids.len());
    for row in rows(db, DOING, sql, bind).await? {
        let id: String = row.try_get(0).map_err(store(DOING))?;
        let text: &str = row.try_get(1).map_err(store(DOING))?;
        let head: &[u8] = row.try_get(4).map_err(store(DOING))?;
        let live: Option<i64> = row.try_get(5).map_err(store(DOING))?;
        let standing = Standing {
            resource: codes::body("resources", &id, text)?,
            presence: codes::presence(row.try_get(2).map_err(store(DOING))?)?,
            live: live.map(DeletionId),
            seq: row.try_get(3).map_err(store(DOING))?,
            head: codes::hash("resources", &id, head)?,
        };
        found.insert(id, standing);
    }
    Ok(found)
}

static RESOURCES: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO resources (id, kind, scope, presence, protected, body, audit_seq, audit_head) VALUES",
        8,
        "ON CONFLICT (id) DO UPDATE SET scope = excluded.scope, presence = excluded.presence, \
         protected = excluded.protected, body = excluded.body, audit_seq = excluded.audit_seq, \
         audit_head = excluded.audit_head",
    )
});

static EVENTS: LazyLock<Chunked> =
    LazyLock::new(|| Chunked::new("INSERT INTO ledger_audit (chain, seq, body, hash) VALUES", 4, ""));

/// One event of one of the ledger's chains.
pub(super) type ChainWrite = (String, i64, String, Hash);

/// Append to the ledger's chains.
pub(super) async fn append(db: &mut SqliteConnection, events: Vec<ChainWrite>) -> Result<(), LedgerError> {
    EVENTS
        .execute(
            db,
            "appending to the ledger's chains",
            events.into_iter(),
            |(chain, seq, body, hash), bind| {
                bind.add(chain).add(seq).add(body).add(hash.to_vec());
            },
        )
        .await?;
    Ok(())
}

/// Register or update.
pub(super) async fn register(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    (resources, by, whole): (&[Resource], &Actor, bool),
) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
    let mut there = standing(db, resources.iter().map(|r| &r.id)).await?;
    let mut results = Vec::with_capacity(resources.len());
    let mut events = Vec::new();
    let mut changed = Vec::new();
    for new in resources {
        let key = new.id.to_string();
        let old = there.get(&key);
        let verdict =
            rules::registering(old.map(|o| (&o.resource, o.presence)), old.and_then(|o| o.live), new);
        let what = match verdict {
            Err(refused) => {
                results.push(Err(refused));
                continue;
            }
            Ok(Registering::Same) => {
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
        let standing =
            Standing { resource: new.clone(), presence: Presence::Registered, live, seq: seq + 1, head };
        there.insert(key.clone(), standing);
        changed.push(key);
        results.push(Ok(()));
    }
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
    let wanted = written.len();
    let done = RESOURCES
        .execute(db, "writing resources", written.into_iter(), |(standing, body), bind| {
            let resource = &standing.resource;
            bind.add(resource.id.to_string())
                .add(resource.id.kind.to_string())
                .add(resource.scope.to_string())
                .add(codes::of_presence(standing.presence))
                .add(resource.protected)
                .add(body)
                .add(standing.seq)
                .add(standing.head.to_vec());
        })
        .await?;
    codes::all_there("resources", done, wanted)?;
    append(db, events).await?;
    Ok(results)
}

static DELETIONS: LazyLock<Chunked> = LazyLock::new(|| {
    Chunked::new(
        "INSERT INTO deletions (id, resource, plan, live, status, audit_seq, audit_head) VALUES",
        7,
        "",
    )
});

static RECORDS: LazyLock<Chunked> =
    LazyLock::new(|| Chunked::new("INSERT INTO records (deletion_id, kind, scope, body) VALUES", 4, ""));

/// Make records.
pub(super) async fn create(
    db: &mut SqliteConnection,
    staged: &Staged,
    day: sexton_model::time::Day,
    new: &[NewDeletion],
) -> Result<Vec<Result<DeletionId, NotDone>>, LedgerError> {
    let mut there = standing(db, new.iter().map(|n| &n.resource)).await?;
    let first: i64 = sqlx::query_scalar("SELECT last_deletion + 1 FROM ledger")
        .fetch_one(&mut *db)
        .await
        .map_err(store("numbering records"))?;
    let mut plans = HashMap::new();
    let mut results = Vec::with_capacity(new.len());
    let mut made: Vec<(Deletion, i64)> = Vec::new();
    for one in new {
        let id = DeletionId(first + made.len() as i64);
        match draw_up(id, one, &there, staged, day) {
            Err(refused) => results.push(Err(refused)),
            Ok(deletion) => {
                if let Some(standing) = there.get_mut(&one.resource.to_string()) {
                    standing.live = Some(id);
                }
                let key = std::sync::Arc::as_ptr(&one.plan).addr();
                let plan = match plans.get(&key) {
                    Some(number) => *number,
                    None => {
                        let number = plan_number(db, &rules::text(&one.plan)?).await?;
                        plans.insert(key, number);
                        number
                    }
                };
                made.push((deletion, plan));
                results.push(Ok(id));
            }
        }
    }
    insert(db, &made).await?;
    let mut bind = Bind::default();
    bind.add(first - 1 + made.len() as i64);
    let numbering = ("numbering records", "ledger");
    change_one(db, numbering, "UPDATE ledger SET last_deletion = ?", bind).await?;
    Ok(results)
}

fn draw_up(
    id: DeletionId,
    new: &NewDeletion,
    there: &HashMap<String, Standing>,
    staged: &Staged,
    day: sexton_model::time::Day,
) -> Result<Deletion, NotDone> {
    let missing = || NotDone::NotRegistered(new.resource.clone());
    let standing = there.get(&new.resource.to_string()).ok_or_else(missing)?;
    if let Some(deletion) = standing.live {
        return Err(NotDone::AlreadyLive { resource: new.resource.clone(), deletion });
    }
    if standing.presence != Presence::Registered {
        return Err(missing());
    }
    let record = Record {
        resource: standing.resource.clone(),
        due: new.due,
        gone_by: new.gone_by,
        requested_by: new.by.clone(),
        reason: new.reason.clone(),
        created_at: staged.now,
    };
    Ok(Deletion::draw_up(id, record, new.plan.clone(), day)?)
}

async fn plan_number(db: &mut SqliteConnection, body: &str) -> Result<i64, LedgerError> {
    let doing = "keeping a plan";
    // The chain's hash from its start is a digest like any other.
    let digest = audit::link(&audit::GENESIS, 0, body.as_bytes()).to_vec();
    let mut bind = Bind::default();
    bind.add(digest.clone()).add(body.to_owned());
    let sql = "INSERT INTO plans (digest, body) VALUES (?, ?) ON CONFLICT (digest) DO NOTHING";
    execute(db, doing, sql, bind).await?;
    sqlx::query_scalar("SELECT number FROM plans WHERE digest = ?")
        .bind(digest)
        .fetch_one(db)
        .await
        .map_err(store(doing))
}

async fn insert(db: &mut SqliteConnection, made: &[(Deletion, i64)]) -> Result<(), LedgerError> {
    let mut events = Vec::with_capacity(made.len());
    let mut records = Vec::with_capacity(made.len());
    for (deletion, _) in made {
        events.push(rules::created(deletion)?);
        records.push((deletion, rules::text(&deletion.record)?));
    }
    let heads: Vec<_> = made.iter().zip(&events).collect();
    DELETIONS
        .execute(db, "making records", heads.iter(), |((deletion, plan), event), bind| {
            bind.add(deletion.id.0)
                .add(deletion.record.resource.id.to_string())
                .add(*plan)
                .add(deletion.status.live())
                .add(codes::of_status(deletion.status))
                .add(event.seq)
                .add(event.hash.to_vec());
        })
        .await?;
    RECORDS
        .execute(db, "making records", records.into_iter(), |(deletion, body), bind| {
            let resource = &deletion.record.resource;
            bind.add(deletion.id.0)
                .add(resource.id.kind.to_string())
                .add(resource.scope.to_string())
                .add(body);
        })
        .await?;
    let rows: Vec<_> = made
        .iter()
        .flat_map(|(deletion, _)| deletion.jobs.iter().map(move |job| (deletion, job)))
        .map(|(deletion, job)| (JobRow::of(deletion, job), deletion.record.resource.id.to_string()))
        .collect();
    let rows: Vec<_> = rows.iter().map(|(row, resource)| (row, resource.clone())).collect();
    jobs::insert(db, rows).await?;
    Counts::of(made.iter().map(|(deletion, _)| deletion)).write(db).await?;
    write::audit(db, events).await
}
