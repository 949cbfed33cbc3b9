//! Records and plans: they never change, so what was read once is remembered.
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use sexton_model::deletion::Record;
use sexton_model::plan::Plan;
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{corrupt, doing};
use super::load::Head;
use super::memory::lock;
use crate::LedgerError;
use crate::recent::Recent;

const RECORDS: &str = "SELECT d.id, r.body, d.plan FROM deletions d JOIN records r ON r.deletion_id = d.id \
     WHERE d.id = ANY($1)";
const PLANS: &str = "SELECT digest, body FROM plans WHERE digest = ANY($1)";

/// A plan's SHA-256.
pub(super) type Digest = [u8; 32];

/// A record with its plan.
pub(super) type Statement = (Arc<Record>, Arc<Plan>);

/// Records remembered per generation: several times what the credit of a dozen instances keeps under way, at
/// two or three kilobytes each.
const RECORDS_HALF: usize = 16_384;
/// Plans remembered per generation: one per kind and version that is in use.
const PLANS_HALF: usize = 256;

/// What was read lately.
pub(super) struct Records {
    records: Mutex<Recent<i64, Statement>>,
    plans: Mutex<Recent<Digest, Arc<Plan>>>,
}

impl Records {
    pub(super) fn new() -> Self {
        Self { records: Mutex::new(Recent::new(RECORDS_HALF)), plans: Mutex::new(Recent::new(PLANS_HALF)) }
    }

    /// The records of these deletions, with their plans; those that do not exist are left out. What is remembered is to
    /// be [confirmed](Self::confirm).
    pub(super) async fn of(
        &self,
        db: &mut PgConnection,
        deletions: &[i64],
    ) -> Result<HashMap<i64, Statement>, LedgerError> {
        let mut found = HashMap::with_capacity(deletions.len());
        let mut unknown = Vec::new();
        {
            let mut known = lock(&self.records);
            for id in deletions {
                match known.get(id) {
                    Some(statement) => drop(found.insert(*id, statement)),
                    None => unknown.push(*id),
                }
            }
        }
        if !unknown.is_empty() {
            found.extend(self.read(db, &unknown).await?);
        }
        Ok(found)
    }

    /// That these are still the records of these deletions: a database that was set back in time gives their numbers
    /// again. Those that are not are forgotten.
    ///
    /// # Errors
    /// If one of them is not: whoever tries again reads it anew.
    pub(super) fn confirm(
        &self,
        heads: &[Head],
        statements: &HashMap<i64, Statement>,
    ) -> Result<(), LedgerError> {
        let other =
            |head: &&Head| statements.get(&head.id).is_some_and(|(r, _)| r.created_at != head.created_at);
        let Some(first) = heads.iter().find(other) else { return Ok(()) };
        let mut known = lock(&self.records);
        for head in heads.iter().filter(other) {
            known.take(&head.id);
        }
        Err(corrupt("records", first.id, "another record was remembered under this number"))
    }

    /// As [`Self::of`], from the database.
    pub(super) async fn read(
        &self,
        db: &mut PgConnection,
        deletions: &[i64],
    ) -> Result<HashMap<i64, Statement>, LedgerError> {
        let mut found = HashMap::with_capacity(deletions.len());
        let rows = sqlx::query(RECORDS)
            .bind(deletions)
            .fetch_all(&mut *db)
            .await
            .map_err(doing("reading records"))?;
        let mut read = Vec::with_capacity(rows.len());
        for row in rows {
            let part = || doing("reading a record");
            let id: i64 = row.try_get(0).map_err(part())?;
            let record: Record = serde_json::from_str(row.try_get(1).map_err(part())?)
                .map_err(|e| corrupt("records", id, e.to_string()))?;
            let digest: Digest = row.try_get(2).map_err(part())?;
            read.push((id, Arc::new(record), digest));
        }
        let plans = self.plans(db, read.iter().map(|(_, _, digest)| *digest).collect()).await?;
        let mut known = lock(&self.records);
        for (id, record, digest) in read {
            let plan =
                plans.get(&digest).cloned().ok_or_else(|| corrupt("records", id, "its plan is missing"))?;
            known.put(id, (record.clone(), plan.clone()));
            found.insert(id, (record, plan));
        }
        Ok(found)
    }

    async fn plans(
        &self,
        db: &mut PgConnection,
        digests: BTreeSet<Digest>,
    ) -> Result<HashMap<Digest, Arc<Plan>>, LedgerError> {
        let mut found = HashMap::new();
        let mut unknown = Vec::new();
        {
            let mut known = lock(&self.plans);
            for digest in digests {
                match known.get(&digest) {
                    Some(plan) => drop(found.insert(digest, plan)),
                    None => unknown.push(digest),
                }
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(PLANS).bind(&unknown).fetch_all(db).await.map_err(doing("reading plans"))?;
        for row in rows {
            let digest: Digest = row.try_get(0).map_err(doing("reading a plan"))?;
            let body: &str = row.try_get(1).map_err(doing("reading a plan"))?;
            let plan: Plan =
                serde_json::from_str(body).map_err(|e| corrupt("plans", "of a record", e.to_string()))?;
            let plan = Arc::new(plan);
            lock(&self.plans).put(digest, plan.clone());
            found.insert(digest, plan);
        }
        Ok(found)
    }

    /// Remember a record that was just made.
    pub(super) fn remember(&self, deletion: i64, record: Arc<Record>, plan: Arc<Plan>) {
        lock(&self.records).put(deletion, (record, plan));
    }
}
