//! Listings. Beginning one takes a lock of its own, under which no other is waited for; nothing here takes the gate or the
//! lock of a deletion, but for noting that none was taken, and for judging what was listed, which is done as of any census.
use std::collections::BTreeSet;

use async_trait::async_trait;
use sexton_model::belts::census::Census;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::listing::{Heard, LEFT_US, Listing, NewListing, Page};
use sexton_model::canary::Came;
use sexton_model::checkpoint::Mark;
use sexton_model::survey::Numbers;
use sexton_model::{Actor, Fence, Instance};
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, census, find, review};
use crate::listing::{self, Listings};
use crate::rules::text;
use crate::{Counted, LedgerError, NotDone};

/// Names the lock of whoever begins one among the database's advisory locks.
const LOCK: &str = "SELECT pg_advisory_xact_lock(x'534558544f4e4c'::bigint)";
const NUMBERS: &str = "SELECT nextval('fence'), epoch, revision, review IS NOT NULL FROM ledger";
const LEFT: &str = "DELETE FROM listings WHERE answer_by <= $1";
const OPEN: &str = "SELECT body FROM listings WHERE answer_by > $1 ORDER BY id";
const INSERT: &str = "INSERT INTO listings (id, answer_by, body) VALUES ($1, $2, $3)";
/// In one order, so that two who hear never wait for each other.
const TO_HEAR: &str = "SELECT body FROM listings WHERE answer_by > $1 ORDER BY id FOR UPDATE";
const NUMBER: &str = "SELECT nextval('fence')";
const HEARD: &str = "UPDATE listings SET body = $2 WHERE id = $1";
const PAGE: &str = "INSERT INTO listing_pages (listing, instance, page, body) VALUES ($1, $2, $3, $4)";
const ALL: &str = "SELECT body FROM listings";
const ONE: &str = "SELECT body FROM listings WHERE id = $1";
const PAGES: &str =
    "SELECT instance, body FROM listing_pages WHERE listing = $1 ORDER BY instance COLLATE \"C\", page";
pub(super) const END: &str = "DELETE FROM listings WHERE id = $1";

#[async_trait]
impl Listings for PgLedger {
    async fn begin_listing(&self, new: NewListing) -> Result<Result<Listing, NotDone>, LedgerError> {
        listing::bounded(&new)?;
        let part = || doing("beginning a listing");
        let mut tx = self.pool.begin().await.map_err(part())?;
        sqlx::query(LOCK).execute(&mut *tx).await.map_err(part())?;
        let row = sqlx::query(NUMBERS).fetch_one(&mut *tx).await.map_err(part())?;
        let (now, epoch) = (find::clock(&mut tx).await?, review::epoch(&row, 1)?);
        sqlx::query(LEFT).bind(now.0 - LEFT_US).execute(&mut *tx).await.map_err(part())?;
        let beside = listing::judged_beside(&new, now);
        let open: Vec<String> =
            sqlx::query_scalar(OPEN).bind(beside.0).fetch_all(&mut *tx).await.map_err(part())?;
        let open = parsed(&open)?;
        let by_now = match new.seen {
            Some(_) => {
                let latest = census::latest_of(&mut tx, (&new.kind, &new.scope)).await?;
                Some(Seen::of(latest.as_ref()))
            }
            None => None,
        };
        let review = row.try_get(3).map_err(part())?;
        if let Err(why) = listing::judge(&new, review, &open, by_now) {
            return Ok(Err(why));
        }
        let (revision, first_fence) = (row.try_get(2).map_err(part())?, row.try_get(0).map_err(part())?);
        let begun = new.numbered(Numbers { now, epoch, revision, first_fence });
        let done = sqlx::query(INSERT)
            .bind(begun.id)
            .bind(begun.answer_by.0)
            .bind(text(&begun)?)
            .execute(&mut *tx)
            .await
            .map_err(part())?;
        all_there("listings", done.rows_affected(), 1)?;
        tx.commit().await.map_err(part())?;
        let fence = begun.asked.last().map_or(0, |asked| asked.fence.number);
        self.known.note(Mark { epoch, fence, ..Mark::default() }, None);
        Ok(Ok(begun))
    }

    async fn hear_listing(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Listing>, LedgerError> {
        let part = || doing("hearing a page of a listing");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let now = find::clock(&mut tx).await?;
        let kept: Vec<String> =
            sqlx::query_scalar(TO_HEAR).bind(now.0).fetch_all(&mut *tx).await.map_err(part())?;
        let Some(standing) = listing::waiting(parsed(&kept)?, fence) else { return Ok(None) };
        let id = standing.id;
        let heard = standing.hear((from, fence), came, now);
        let Some(Heard { mut listing, page, more }) = heard else { return Ok(None) };
        let mut next = None;
        if more {
            let number: i64 = sqlx::query_scalar(NUMBER).fetch_one(&mut *tx).await.map_err(part())?;
            listing = listing.number(fence, number);
            next = Some(number);
        }
        let done = sqlx::query(HEARD).bind(id).bind(text(&listing)?).execute(&mut *tx).await;
        all_there("listings", done.map_err(part())?.rows_affected(), 1)?;
        if let Some((instance, number, page)) = page {
            let query = sqlx::query(PAGE).bind(id).bind(instance.to_string());
            let done = query.bind(i64::from(number)).bind(text(&page)?).execute(&mut *tx).await;
            all_there("listing_pages", done.map_err(part())?.rows_affected(), 1)?;
        }
        tx.commit().await.map_err(part())?;
        if let Some(number) = next {
            self.known.note(Mark { epoch: fence.epoch, fence: number, ..Mark::default() }, None);
        }
        Ok(Some(listing))
    }

    async fn listing_orders(&self) -> Result<BTreeSet<i64>, LedgerError> {
        let kept: Vec<String> = sqlx::query_scalar(ALL)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("reading which listings are kept"))?;
        Ok(listing::orders(&parsed(&kept)?))
    }

    async fn listings(&self) -> Result<Vec<Listing>, LedgerError> {
        let kept: Vec<String> = sqlx::query_scalar(ALL)
            .fetch_all(&self.pool)
            .await
            .map_err(doing("reading all listings that are kept"))?;
        parsed(&kept)
    }

    async fn note_not_taken(&self, attempt: Attempt) -> Result<bool, LedgerError> {
        census::not_taken(self, &attempt).await
    }

    async fn listing(&self, id: i64) -> Result<Option<Listing>, LedgerError> {
        let query = sqlx::query_scalar(ONE).bind(id);
        let body: Option<String> =
            query.fetch_optional(&self.pool).await.map_err(doing("reading a listing"))?;
        body.as_deref().map(parse).transpose()
    }

    async fn listed(&self, id: i64) -> Result<Vec<(Instance, Page)>, LedgerError> {
        let part = || doing("reading the pages of a listing");
        let rows = sqlx::query(PAGES).bind(id).fetch_all(&self.pool).await.map_err(part())?;
        let page = |row: &PgRow| {
            let (instance, body): (&str, &str) =
                (row.try_get(0).map_err(part())?, row.try_get(1).map_err(part())?);
            let unreadable = |why: String| corrupt("listing_pages", id, why);
            let from = instance.parse().map_err(|e: sexton_model::InvalidId| unreadable(e.to_string()))?;
            Ok((from, serde_json::from_str(body).map_err(|e| unreadable(e.to_string()))?))
        };
        rows.iter().map(page).collect()
    }

    async fn take_listed(
        &self,
        id: i64,
        census: Census,
        by: &Actor,
    ) -> Result<Option<Result<Counted, NotDone>>, LedgerError> {
        census::take_listed(self, id, (&census, by)).await
    }

    async fn end_listing(&self, id: i64) -> Result<(), LedgerError> {
        let done = sqlx::query(END).bind(id).execute(&self.pool).await;
        done.map(drop).map_err(doing("putting a listing away"))
    }
}

fn parsed(bodies: &[String]) -> Result<Vec<Listing>, LedgerError> {
    bodies.iter().map(|body| parse(body)).collect()
}

fn parse(body: &str) -> Result<Listing, LedgerError> {
    serde_json::from_str(body).map_err(|e| corrupt("listings", "?", e.to_string()))
}
