//! What the last censuses have listed and nobody has registered: exchanged with each census that is believed.
use std::collections::BTreeMap;

use async_trait::async_trait;
use sexton_model::belts::census::findings::{self, Kept, Known};
use sexton_model::belts::census::{Stranger, Taken};
use sexton_model::{Kind, Scope, Timestamp};

use super::connection::{Bind, Db, Row, change_one, execute, rows, store};
use super::{SqliteLedger, census, codes};
use crate::LedgerError;
use crate::census::{LATEST_MAX, PAGE_MAX};
use crate::findings::{Findings, StrangerFilter, StrangerView, Strangers, behind, page};
use crate::rules::text;

const DOING: &str = "keeping what nobody has registered";
const LISTING: &str = "listing what nobody has registered";

/// Those of a census that is believed, in the place of those of the one before it.
pub(super) fn keep(db: &Db, taken: &Taken, strangers: Vec<Stranger>) -> Result<(), LedgerError> {
    let of_it = || {
        let mut bind = Bind::default();
        bind.add(taken.kind.to_string()).add(taken.scope.to_string());
        bind
    };
    let sql = "SELECT scope, census, first_seen, body FROM strangers WHERE kind = ? AND scope = ?";
    let before = rows(db, DOING, sql, of_it())?.iter().map(kept).collect::<Result<Vec<Kept>, _>>()?;
    execute(db, DOING, "DELETE FROM strangers WHERE kind = ? AND scope = ?", of_it())?;
    for one in findings::kept(taken, strangers, &before) {
        let mut bind = of_it();
        bind.add(one.stranger.id.to_string()).add(one.census).add(one.first_seen.0);
        bind.add(text(&one.stranger)?);
        let sql = "INSERT INTO strangers (kind, scope, resource, census, first_seen, body) VALUES (?, ?, ?, ?, ?, ?)";
        change_one(db, (DOING, "strangers"), sql, bind)?;
    }
    Ok(())
}

fn kept(row: &Row) -> Result<Kept, LedgerError> {
    let scope: &str = row.try_get(0).map_err(store(LISTING))?;
    Ok(Kept {
        stranger: codes::body("strangers", scope, row.try_get(3).map_err(store(LISTING))?)?,
        listed_in: scope.parse().map_err(|_| codes::corrupt("strangers", scope, "not a scope"))?,
        census: row.try_get(1).map_err(store(LISTING))?,
        first_seen: Timestamp(row.try_get(2).map_err(store(LISTING))?),
    })
}

#[async_trait]
impl Findings for SqliteLedger {
    async fn strangers(&self, filter: &StrangerFilter) -> Result<Strangers, LedgerError> {
        let filter = filter.clone();
        self.reads.read(move |db| listed(db, &filter)).await
    }
}

fn listed(db: &Db, filter: &StrangerFilter) -> Result<Strangers, LedgerError> {
    let limit = filter.limit.clamp(1, PAGE_MAX);
    let (scope, resource) = behind(filter);
    let mut bind = Bind::default();
    bind.add(filter.kind.as_ref().map(ToString::to_string))
        .add(filter.scope.as_ref().map(ToString::to_string))
        .add(scope)
        .add(resource)
        .add(i64::from(limit) + 1)
        .add(filter.scopes.as_ref().map(text).transpose()?);
    let sql = "SELECT s.scope, s.census, s.first_seen, s.body, \
           EXISTS (SELECT 1 FROM resources AS r WHERE r.id = s.resource AND r.presence = 0) \
             OR EXISTS (SELECT 1 FROM deletions AS d WHERE d.resource = s.resource AND d.live) \
         FROM strangers AS s WHERE (?1 IS NULL OR s.kind = ?1) \
           AND (?2 IS NULL OR s.scope = ?2 OR substr(s.scope, 1, length(?2) + 1) = ?2 || '/' \
             OR substr(?2, 1, length(s.scope) + 1) = s.scope || '/') \
           AND (?6 IS NULL OR EXISTS (SELECT 1 FROM json_each(?6) AS n WHERE s.scope = n.value \
             OR substr(s.scope, 1, length(n.value) + 1) = n.value || '/' \
             OR substr(n.value, 1, length(s.scope) + 1) = s.scope || '/')) \
           AND (s.scope, s.resource) > (?3, ?4) ORDER BY s.scope, s.resource LIMIT ?5";
    let view = |row: &Row| {
        let registered: bool = row.try_get(4).map_err(store(LISTING))?;
        Ok(StrangerView { kept: kept(row)?, registered })
    };
    let found = rows(db, LISTING, sql, bind)?;
    let views = found.iter().map(view).collect::<Result<Vec<StrangerView>, LedgerError>>()?;
    Ok(page(known(db)?, views, limit))
}

fn known(db: &Db) -> Result<Known, LedgerError> {
    let mut bind = Bind::default();
    bind.add(LATEST_MAX);
    let sql = "SELECT id, body FROM censuses WHERE id IN (SELECT max(id) FROM censuses GROUP BY kind, scope) \
         ORDER BY id DESC LIMIT ?";
    let last = rows(db, LISTING, sql, bind)?;
    let last = last.iter().map(census::taken).collect::<Result<Vec<Taken>, LedgerError>>()?;
    let count = |row: &Row| {
        let kind: &str = row.try_get(0).map_err(store(LISTING))?;
        let scope: &str = row.try_get(1).map_err(store(LISTING))?;
        let count: i64 = row.try_get(2).map_err(store(LISTING))?;
        let kind: Kind = kind.parse().map_err(|_| codes::corrupt("strangers", kind, "not a kind"))?;
        let scope: Scope = scope.parse().map_err(|_| codes::corrupt("strangers", scope, "not a scope"))?;
        Ok(((kind, scope), u64::try_from(count).unwrap_or(0)))
    };
    let sql = "SELECT kind, scope, count(*) FROM strangers GROUP BY kind, scope";
    let counts = rows(db, LISTING, sql, Bind::default())?;
    let kept = counts.iter().map(count).collect::<Result<BTreeMap<(Kind, Scope), u64>, LedgerError>>()?;
    Ok(Known { latest: census::latest(db)?, last, kept })
}
