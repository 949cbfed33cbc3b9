//! Drills. The ledger's row is the lock of all of them: there are a few changes a week.
use async_trait::async_trait;
use sexton_model::drill::Drill;
use sqlx::postgres::PgConnection;

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find, pause};
use crate::LedgerError;
use crate::drill::{self, Drills};
use crate::rules::text;

const ALL: &str = "SELECT body FROM drills ORDER BY resource";
const KEEP: &str = "INSERT INTO drills (resource, body) VALUES ($1, $2) \
     ON CONFLICT (resource) DO UPDATE SET body = excluded.body";

#[async_trait]
impl Drills for PgLedger {
    async fn drills(&self) -> Result<Vec<Drill>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading drills"))?;
        all(&mut db).await
    }

    async fn keep_drill(&self, before: Option<&Drill>, drill: &Drill) -> Result<bool, LedgerError> {
        let part = || doing("keeping a drill");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let at = find::clock(&mut tx).await?;
        pause::append_alone(&mut tx, &drill::kept(drill, at)?).await?;
        let standing = all(&mut tx).await?.into_iter().find(|standing| standing.resource == drill.resource);
        if standing.as_ref() != before {
            tx.rollback().await.map_err(part())?;
            return Ok(false);
        }
        let query = sqlx::query(KEEP).bind(drill.resource.to_string()).bind(text(drill)?);
        let done = query.execute(&mut *tx).await.map_err(part())?;
        all_there("drills", done.rows_affected(), 1)?;
        tx.commit().await.map_err(part())?;
        Ok(true)
    }
}

async fn all(db: &mut PgConnection) -> Result<Vec<Drill>, LedgerError> {
    let bodies: Vec<String> = sqlx::query_scalar(ALL).fetch_all(db).await.map_err(doing("reading drills"))?;
    let parse = |body: &String| serde_json::from_str(body).map_err(|e| corrupt("drills", "?", e.to_string()));
    bodies.iter().map(parse).collect()
}
