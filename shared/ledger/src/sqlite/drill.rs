//! Drills.
use async_trait::async_trait;
use sexton_model::drill::Drill;

use super::codes;
use super::connection::{Bind, Db, Row, change_one, rows, store};
use super::memory::Staged;
use super::pausing::link;
use super::writer::{Answer, Work};
use super::{SqliteLedger, mixed_up};
use crate::LedgerError;
use crate::drill::{self, Drills};
use crate::rules::text;

const DOING: &str = "keeping drills";

/// Write one down if this still stands.
pub(super) fn keep(
    db: &Db,
    staged: &Staged,
    (before, drill): (Option<&Drill>, &Drill),
) -> Result<bool, LedgerError> {
    let standing = all(db)?.into_iter().find(|standing| standing.resource == drill.resource);
    if standing.as_ref() != before {
        return Ok(false);
    }
    let mut bind = Bind::default();
    bind.add(drill.resource.to_string()).add(text(drill)?);
    let sql = "INSERT INTO drills (resource, body) VALUES (?, ?) \
         ON CONFLICT (resource) DO UPDATE SET body = excluded.body";
    change_one(db, (DOING, "drills"), sql, bind)?;
    link(db, &drill::kept(drill, staged.now)?)?;
    Ok(true)
}

fn all(db: &Db) -> Result<Vec<Drill>, LedgerError> {
    let one = |row: &Row| {
        let resource: &str = row.try_get(0).map_err(store(DOING))?;
        codes::body("drills", resource, row.try_get(1).map_err(store(DOING))?)
    };
    rows(db, DOING, "SELECT resource, body FROM drills ORDER BY resource", Bind::default())?
        .iter()
        .map(one)
        .collect()
}

#[async_trait]
impl Drills for SqliteLedger {
    async fn drills(&self) -> Result<Vec<Drill>, LedgerError> {
        self.reads.read(all).await
    }

    async fn keep_drill(&self, before: Option<&Drill>, drill: &Drill) -> Result<bool, LedgerError> {
        let work = Work::Drill(before.cloned().map(Box::new), Box::new(drill.clone()));
        match self.ask(work).await? {
            Answer::Drill(kept) => Ok(kept),
            other => Err(mixed_up(&other)),
        }
    }
}
