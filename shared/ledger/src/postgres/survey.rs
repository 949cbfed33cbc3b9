//! Surveys. Beginning one takes a lock of its own, under which no other is waited for; nothing here takes the gate or the
//! lock of a deletion. Whoever begins a run of canaries takes it, too, as the last one.
use std::ops::Range;

use async_trait::async_trait;
use sexton_model::canary::Came;
use sexton_model::checkpoint::Mark;
use sexton_model::survey::{AGAIN_US, KEPT_MAX, KEPT_US, NewSurvey, Numbers, Survey};
use sexton_model::{Fence, Instance, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, canary, find, resources, review};
use crate::rules::text;
use crate::survey::{self, Begun, MINUTE_US, Standing, Surveys};
use crate::{LedgerError, NotDone};

/// Names the lock of whoever begins one among the database's advisory locks.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'534558544f4e53'::bigint)";
const NUMBERS: &str = "SELECT nextval('fence'), epoch, revision, review IS NOT NULL FROM ledger";
const COUNTED: &str = "SELECT count(*) FILTER (WHERE open AND answer_by > $1), \
     count(*) FILTER (WHERE begun_at > $1 - $2) FROM surveys";
/// What nobody has answered in time is over.
const CLOSE: &str = "UPDATE surveys SET open = false WHERE open AND answer_by <= $1";
const OF_RESOURCE: &str = "SELECT body FROM surveys WHERE open AND resource = $1";
const INSERT: &str = "INSERT INTO surveys (id, resource, begun_at, answer_by, sent_at, looks, open, body) \
     VALUES ($1, $2, $3, $4, $3, $5, true, $6)";
const TOO_MANY: &str =
    "DELETE FROM surveys WHERE id IN (SELECT id FROM surveys WHERE NOT open ORDER BY id DESC OFFSET $1)";
const OF_ORDER: &str = "SELECT id, body FROM surveys WHERE open AND id <= $1 AND id + looks > $1 FOR UPDATE";
const ORDERS: &str = "SELECT id, id + looks FROM surveys WHERE open";
const HEARD: &str = "UPDATE surveys SET body = $2, open = $3 WHERE id = $1";
const TO_SEND: &str = "UPDATE surveys SET sent_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     WHERE open AND answer_by > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     AND sent_at <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1 RETURNING body";
const ONE: &str = "SELECT body FROM surveys WHERE id = $1 \
     AND begun_at > (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $2";
const FORGET: &str =
    "DELETE FROM surveys WHERE begun_at <= (extract(epoch FROM clock_timestamp()) * 1000000)::bigint - $1";

#[async_trait]
impl Surveys for PgLedger {
    async fn begin_survey(&self, new: NewSurvey) -> Result<Result<Begun, NotDone>, LedgerError> {
        survey::bounded(&new)?;
        let part = || doing("beginning a survey");
        let mut tx = self.pool.begin().await.map_err(part())?;
        lock(&mut tx).await?;
        // Before it is looked whether there is a record: whatever one orders that is not seen then has a higher number.
        let row = sqlx::query(NUMBERS).fetch_one(&mut *tx).await.map_err(part())?;
        let (now, epoch) = (find::clock(&mut tx).await?, review::epoch(&row, 1)?);
        let first_fence = row.try_get(0).map_err(part())?;
        let numbers = Numbers { now, epoch, revision: row.try_get(2).map_err(part())?, first_fence };
        sqlx::query(CLOSE).bind(now.0).execute(&mut *tx).await.map_err(part())?;
        let review = row.try_get(3).map_err(part())?;
        match survey::judge(&new, standing(&mut tx, &new, (now, review)).await?) {
            Ok(None) => {}
            Ok(Some(open)) => return Ok(Ok(Begun::Before(Box::new(open)))),
            Err(why) => return Ok(Err(why)),
        }
        let begun = new.numbered(numbers);
        let looks = i64::try_from(begun.looks.len()).unwrap_or(i64::MAX);
        let done = sqlx::query(INSERT)
            .bind(begun.id)
            .bind(begun.about.resource.id.to_string())
            .bind(begun.begun_at.0)
            .bind(begun.answer_by.0)
            .bind(looks)
            .bind(text(&begun)?)
            .execute(&mut *tx)
            .await
            .map_err(part())?;
        all_there("surveys", done.rows_affected(), 1)?;
        sqlx::query(TOO_MANY).bind(KEPT_MAX).execute(&mut *tx).await.map_err(part())?;
        tx.commit().await.map_err(part())?;
        let fence = begun.looks.last().map_or(0, |look| look.fence.number);
        self.known.note(Mark { epoch, fence, ..Mark::default() }, None);
        Ok(Ok(Begun::Now(Box::new(begun))))
    }

    async fn hear_survey(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Survey>, LedgerError> {
        let part = || doing("hearing the answer to a survey");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let found = sqlx::query(OF_ORDER).bind(fence.number).fetch_optional(&mut *tx).await.map_err(part())?;
        let Some(row) = found else { return Ok(None) };
        let id: i64 = row.try_get(0).map_err(part())?;
        let standing = parse(row.try_get(1).map_err(part())?)?;
        let now = find::clock(&mut tx).await?;
        let Some(heard) = standing.hear((from, fence), came, now) else { return Ok(None) };
        let query = sqlx::query(HEARD).bind(id).bind(text(&heard)?).bind(heard.is_open(now));
        let done = query.execute(&mut *tx).await.map_err(part())?;
        all_there("surveys", done.rows_affected(), 1)?;
        tx.commit().await.map_err(part())?;
        Ok(Some(heard))
    }

    async fn survey_orders(&self) -> Result<Vec<Range<i64>>, LedgerError> {
        let part = || doing("reading which surveys are open");
        let rows = sqlx::query(ORDERS).fetch_all(&self.pool).await.map_err(part())?;
        rows.iter().map(|row| Ok(row.try_get(0).map_err(part())?..row.try_get(1).map_err(part())?)).collect()
    }

    async fn surveys_to_send(&self) -> Result<Vec<Survey>, LedgerError> {
        let part = || doing("looking which surveys are to be sent again");
        let bodies: Vec<String> =
            sqlx::query_scalar(TO_SEND).bind(AGAIN_US).fetch_all(&self.pool).await.map_err(part())?;
        bodies.iter().map(|body| parse(body)).collect()
    }

    async fn survey(&self, id: i64) -> Result<Option<Survey>, LedgerError> {
        let query = sqlx::query_scalar(ONE).bind(id).bind(KEPT_US);
        let body: Option<String> =
            query.fetch_optional(&self.pool).await.map_err(doing("reading a survey"))?;
        body.as_deref().map(parse).transpose()
    }

    async fn forget_surveys(&self) -> Result<u64, LedgerError> {
        let done = sqlx::query(FORGET).bind(KEPT_US).execute(&self.pool).await;
        Ok(done.map_err(doing("forgetting surveys"))?.rows_affected())
    }
}

/// Nobody begins one before this transaction is over.
pub(super) async fn lock(db: &mut PgConnection) -> Result<(), LedgerError> {
    let taken = sqlx::query(LOCK).execute(db).await;
    taken.map(drop).map_err(doing("taking the lock of whoever begins a survey"))
}

async fn standing(
    db: &mut PgConnection,
    new: &NewSurvey,
    (now, review): (Timestamp, bool),
) -> Result<Standing, LedgerError> {
    let part = || doing("beginning a survey");
    let id = &new.about.resource.id;
    let open: Option<String> =
        sqlx::query_scalar(OF_RESOURCE).bind(id.to_string()).fetch_optional(&mut *db).await.map_err(part())?;
    let counted = sqlx::query(COUNTED).bind(now.0).bind(MINUTE_US).fetch_one(&mut *db).await;
    let counted = counted.map_err(part())?;
    Ok(Standing {
        review,
        resource: resources::as_seen(db, id).await?,
        open: open.as_deref().map(parse).transpose()?,
        canaries: canary::look_at(db, id).await?,
        open_in_all: counted.try_get(0).map_err(part())?,
        begun_lately: counted.try_get(1).map_err(part())?,
    })
}

fn parse(body: &str) -> Result<Survey, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("surveys", "?", e.to_string()))
}
