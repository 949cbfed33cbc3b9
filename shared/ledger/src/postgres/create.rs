//! Making records.
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sexton_model::checkpoint::Landmark;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::plan::Plan;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId, Timestamp, audit};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{Collision, collision, corrupt, doing};
use super::records::Digest;
use super::{PgLedger, claims, codes, jobs, write};
use crate::batch::AuditWrite;
use crate::claims::Claims;
use crate::keys::Note;
use crate::row::JobRow;
use crate::rules::{created, text};
use crate::{LedgerError, NewDeletion, NotDone, known};

const LOCK: &str = "SELECT 1 FROM resources WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE";
const THERE: &str = "SELECT r.id, r.body, r.presence, d.id FROM resources r \
     LEFT JOIN deletions d ON d.resource = r.id AND d.live WHERE r.id = ANY($1)";
const DRAW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
     ARRAY(SELECT nextval('deletion_id') FROM generate_series(1, $1))";
const PLANS: &str = "INSERT INTO plans (digest, body) SELECT * FROM unnest($1::bytea[], $2::text[]) \
     ON CONFLICT (digest) DO NOTHING";
const DELETIONS: &str = "INSERT INTO deletions (id, resource, plan, kind, scope, live, status, audit_seq, \
     audit_head, created_at) SELECT v.id, v.resource, v.plan, v.kind, v.scope, true, 0, 1, v.head, v.created_at \
     FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bytea[], $7::bigint[]) \
     AS v (id, resource, plan, kind, scope, head, created_at)";
const RECORDS: &str =
    "INSERT INTO records (deletion_id, body) SELECT * FROM unnest($1::bigint[], $2::text[])";

/// Records made in one transaction; longer lists take several.
const CHUNK: usize = 1024;
/// Tries of one list that collides with other transactions.
const TRIES: u32 = 5;

type Results = Vec<Result<DeletionId, NotDone>>;

/// Make records, each for itself.
pub(super) async fn create(ledger: &PgLedger, new: Vec<NewDeletion>) -> Result<Results, LedgerError> {
    let mut results = Vec::with_capacity(new.len());
    for chunk in new.chunks(CHUNK) {
        let mut tried = 1;
        loop {
            match attempt(ledger, chunk).await {
                Err(error) if collision(&error) == Some(Collision::Concurrent) && tried < TRIES => tried += 1,
                other => break results.extend(other?),
            }
        }
    }
    Ok(results)
}

/// A resource as it is found under its lock.
struct There {
    resource: Resource,
    presence: Presence,
    live: Option<DeletionId>,
}

async fn attempt(ledger: &PgLedger, new: &[NewDeletion]) -> Result<Results, LedgerError> {
    let mut tx = ledger.pool.begin().await.map_err(doing("beginning to make records"))?;
    let Made { results, made, landmark } = make(&mut tx, ledger, new).await?;
    ledger.note(&mut tx, || Note::of_create(&results)).await?;
    tx.commit().await.map_err(doing("committing records"))?;
    ledger.known.note_landmark(landmark);
    for deletion in made {
        ledger.memory.records.remember(deletion.id.0, deletion.record, deletion.plan);
    }
    Ok(results)
}

/// Records that were written down, and are not committed yet.
pub(super) struct Made {
    pub(super) results: Results,
    pub(super) made: Vec<Deletion>,
    landmark: Option<Landmark>,
}

/// Make records in this transaction.
pub(super) async fn make(
    db: &mut PgConnection,
    ledger: &PgLedger,
    new: &[NewDeletion],
) -> Result<Made, LedgerError> {
    let ids: BTreeSet<String> = new.iter().map(|n| n.resource.to_string()).collect();
    let ids: Vec<String> = ids.into_iter().collect();
    sqlx::query(LOCK).bind(&ids).execute(&mut *db).await.map_err(doing("locking resources"))?;
    let mut there = there(db, &ids).await?;
    let stated: Vec<&Resource> = there.values().map(|there| &there.resource).collect();
    let mut claims = claims::locked(db, ledger.policy.get(), &stated).await?;
    let (now, numbers) = draw(db, new.len()).await?;
    let mut made = Vec::new();
    let mut results = Vec::with_capacity(new.len());
    for (new, number) in new.iter().zip(numbers) {
        let drawn = draw_up(ledger, new, DeletionId(number), now, (&mut there, &mut claims));
        results.push(drawn.as_ref().map(|deletion| deletion.id).map_err(Clone::clone));
        made.extend(drawn);
    }
    let landmark = insert(db, &made).await?;
    claims::write(db, &claims).await?;
    Ok(Made { results, made, landmark })
}

async fn there(db: &mut PgConnection, ids: &[String]) -> Result<HashMap<ResourceId, There>, LedgerError> {
    let part = || doing("reading resources");
    let rows = sqlx::query(THERE).bind(ids).fetch_all(db).await.map_err(part())?;
    rows.iter()
        .map(|row| {
            let id: &str = row.try_get(0).map_err(part())?;
            let resource: Resource = serde_json::from_str(row.try_get(1).map_err(part())?)
                .map_err(|e| corrupt("resources", id, e.to_string()))?;
            let presence = codes::presence(row.try_get(2).map_err(part())?)
                .ok_or_else(|| corrupt("resources", id, "unknown presence"))?;
            let live = row.try_get::<Option<i64>, _>(3).map_err(part())?.map(DeletionId);
            Ok((resource.id.clone(), There { resource, presence, live }))
        })
        .collect()
}

async fn draw(db: &mut PgConnection, count: usize) -> Result<(Timestamp, Vec<i64>), LedgerError> {
    let part = || doing("drawing numbers for records");
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let row = sqlx::query(DRAW).bind(count).fetch_one(db).await.map_err(part())?;
    Ok((Timestamp(row.try_get(0).map_err(part())?), row.try_get(1).map_err(part())?))
}

fn draw_up(
    ledger: &PgLedger,
    new: &NewDeletion,
    id: DeletionId,
    now: Timestamp,
    (there, claims): (&mut HashMap<ResourceId, There>, &mut Claims),
) -> Result<Deletion, NotDone> {
    let unknown = || NotDone::NotRegistered(new.resource.clone());
    let there = there.get_mut(&new.resource).ok_or_else(unknown)?;
    if let Some(deletion) = there.live {
        return Err(NotDone::AlreadyLive { resource: new.resource.clone(), deletion });
    }
    if there.presence != Presence::Registered {
        return Err(unknown());
    }
    ledger.policy.get().lets_go(&new.resource)?;
    let record = Record {
        resource: there.resource.clone(),
        due: new.due,
        gone_by: new.gone_by,
        requested_by: new.by.clone(),
        reason: new.reason.clone(),
        created_at: now,
    };
    let deletion = Deletion::draw_up(id, record, new.plan.clone(), ledger.options.day)?;
    claims.may_delete(&there.resource)?;
    // It goes by what is registered now: what an earlier record went by is over.
    claims.note(&there.resource, None);
    there.live = Some(id);
    Ok(deletion)
}

/// Plans of a list that were written down already, by their place in memory.
#[derive(Default)]
struct Written {
    by_place: HashMap<usize, Digest>,
    digests: Vec<Digest>,
    bodies: Vec<String>,
}

impl Written {
    fn digest(&mut self, plan: &Arc<Plan>) -> Result<Digest, LedgerError> {
        let place = Arc::as_ptr(plan).addr();
        if let Some(digest) = self.by_place.get(&place) {
            return Ok(*digest);
        }
        let body = text(plan.as_ref())?;
        // A chain of one link is a SHA-256 over the body.
        let digest = audit::link(&audit::GENESIS, 0, body.as_bytes());
        self.by_place.insert(place, digest);
        self.digests.push(digest);
        self.bodies.push(body);
        Ok(digest)
    }
}

/// Write them, and say what they are known by.
async fn insert(db: &mut PgConnection, made: &[Deletion]) -> Result<Option<Landmark>, LedgerError> {
    if made.is_empty() {
        return Ok(None);
    }
    let mut plans = Written::default();
    let mut digests = Vec::with_capacity(made.len());
    let mut records = Vec::with_capacity(made.len());
    let mut events: Vec<AuditWrite> = Vec::with_capacity(made.len());
    let mut rows = Vec::with_capacity(made.len() * 5);
    let mut resources = Vec::with_capacity(made.len() * 5);
    for deletion in made {
        digests.push(plans.digest(&deletion.plan)?);
        records.push(text(deletion.record.as_ref())?);
        events.push(created(deletion)?);
        for job in &deletion.jobs {
            rows.push(JobRow::of(deletion, job));
            resources.push(deletion.record.resource.id.to_string());
        }
    }
    sqlx::query(PLANS)
        .bind(plans.digests)
        .bind(plans.bodies)
        .execute(&mut *db)
        .await
        .map_err(doing("writing plans"))?;
    let ids: Vec<i64> = made.iter().map(|d| d.id.0).collect();
    let of = |what: fn(&Resource) -> String| -> Vec<String> {
        made.iter().map(|d| what(&d.record.resource)).collect()
    };
    sqlx::query(DELETIONS)
        .bind(&ids)
        .bind(of(|r| r.id.to_string()))
        .bind(digests)
        .bind(of(|r| r.id.kind.to_string()))
        .bind(of(|r| r.scope.to_string()))
        .bind(events.iter().map(|e| e.hash).collect::<Vec<_>>())
        .bind(made.iter().map(|d| d.record.created_at.0).collect::<Vec<_>>())
        .execute(&mut *db)
        .await
        .map_err(doing("writing deletions"))?;
    sqlx::query(RECORDS)
        .bind(&ids)
        .bind(records)
        .execute(&mut *db)
        .await
        .map_err(doing("writing records"))?;
    jobs::insert(db, &rows.iter().collect::<Vec<_>>(), resources).await?;
    let landmark = known::landmark(&events);
    write::audit(db, events).await?;
    Ok(landmark)
}
