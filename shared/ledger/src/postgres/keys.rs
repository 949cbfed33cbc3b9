//! Keys of requests. A key's row is locked last in every transaction that changes something else, so that nobody who holds
//! one keeps such a transaction waiting. Behind keys come the rows of their actors, ascending: whoever holds a key takes its
//! own actor's, and who forgets many takes all of theirs in one statement, before it changes any.
use std::sync::Arc;

use async_trait::async_trait;
use sexton_model::Timestamp;
use sexton_model::audit::Hash;
use sexton_model::request_key::{
    ANSWER_MAX_BYTES, Attempt, HELD_US, KEPT_US, KEYS_MAX, KeptAnswer, Keyed, SWEPT_MAX, Standing, Verdict,
    judge,
};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find};
use crate::bounds::within;
use crate::keys::{Held, Keys, Note, stored, was_sent_before};
use crate::{Ledger, LedgerError};

const STANDING: &str = "SELECT request, attempt, first_sent, held_until, note, status, answer FROM request_keys \
     WHERE actor = $1 AND key = $2 FOR UPDATE";
const LOOK: &str = "SELECT request, attempt, first_sent, held_until, note, status, answer FROM request_keys \
     WHERE actor = $1 AND key = $2";
const INSERT: &str = "INSERT INTO request_keys (actor, key, request, attempt, first_sent, held_until) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (actor, key) DO NOTHING";
const ANEW: &str = "UPDATE request_keys SET request = $3, attempt = $4, first_sent = $5, held_until = $6, \
     note = NULL, status = NULL, answer = NULL WHERE actor = $1 AND key = $2";
const AGAIN: &str =
    "UPDATE request_keys SET attempt = $3, held_until = $4 WHERE actor = $1 AND key = $2 AND answer IS NULL";
const COUNT: &str = "INSERT INTO request_actors AS a (actor, keys) VALUES ($1, 1) \
     ON CONFLICT (actor) DO UPDATE SET keys = a.keys + 1 RETURNING keys";
/// Not by a time limit: whoever is overtaken is so by an attempt that exists.
const NOTE: &str = "UPDATE request_keys SET note = $4 \
     WHERE actor = $1 AND key = $2 AND attempt = $3 AND note IS NULL AND answer IS NULL";
const ANSWER: &str = "UPDATE request_keys SET status = $4, answer = $5 \
     WHERE actor = $1 AND key = $2 AND attempt = $3 AND answer IS NULL";
const LET_GO: &str = "UPDATE request_keys SET held_until = 0 \
     WHERE actor = $1 AND key = $2 AND attempt = $3 AND answer IS NULL";
/// What is locked is at work on, or is being forgotten by somebody else.
const LOCK_OLD: &str = "SELECT actor, key FROM request_keys \
     WHERE first_sent <= $1 AND (answer IS NOT NULL OR held_until <= $2) \
     ORDER BY first_sent LIMIT $3 FOR UPDATE SKIP LOCKED";
const LOCK_ACTORS: &str = "SELECT FROM request_actors WHERE actor = ANY($1) ORDER BY actor FOR UPDATE";
const FORGET: &str = "DELETE FROM request_keys k USING unnest($1::text[], $2::text[]) AS old (actor, key) \
     WHERE k.actor = old.actor AND k.key = old.key";
const FEWER: &str = "UPDATE request_actors a SET keys = a.keys - gone.keys \
     FROM (SELECT actor, count(*) AS keys FROM unnest($1::text[]) AS gone (actor) GROUP BY actor) gone \
     WHERE a.actor = gone.actor";
/// Only a key that is forgotten makes an actor one of none, so those whose keys these were are all that there can be.
const FORGET_ACTORS: &str = "DELETE FROM request_actors WHERE actor = ANY($1) AND keys = 0";

/// Tries of one key that others ask for at the same moment.
const TRIES: u32 = 5;

impl PgLedger {
    /// Note at the key of the attempt that this handle is under what its transaction does; last, right before it is
    /// committed.
    ///
    /// # Errors
    /// [`LedgerError::Overtaken`] if it may not be committed.
    pub(super) async fn note(
        &self,
        db: &mut PgConnection,
        note: impl FnOnce() -> Option<Note>,
    ) -> Result<(), LedgerError> {
        let Some(attempt) = &self.attempt else { return Ok(()) };
        let Some(note) = note() else { return Ok(()) };
        let done = sqlx::query(NOTE)
            .bind(attempt.actor.as_str())
            .bind(attempt.key.as_str())
            .bind(attempt.number)
            .bind(stored(&note)?)
            .execute(db)
            .await
            .map_err(doing("noting a change at its request's key"))?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(LedgerError::Overtaken) }
    }

    /// The ledger itself: for what follows from the change that an attempt has made.
    pub(super) fn itself(&self) -> Self {
        Self { attempt: None, ..self.clone() }
    }

    async fn hold(&self, keyed: &Keyed) -> Result<Option<Held>, LedgerError> {
        let part = || doing("holding a request's key");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let (actor, key) = (keyed.actor.as_str(), keyed.key.as_str());
        let row = sqlx::query(STANDING).bind(actor).bind(key).fetch_optional(&mut *tx).await;
        let found = row.map_err(part())?.map(|row| parse(&row)).transpose()?;
        let now = find::clock(&mut tx).await?;
        let (standing, note) = found.map_or((None, None), |(standing, note)| (Some(standing), note));
        let (known, sent) = (standing.is_some(), standing.as_ref().map_or(now, |there| there.first_sent));
        let until = Timestamp(now.0.saturating_add(HELD_US));
        let (actor_, key_) = (keyed.actor.clone(), keyed.key.clone());
        let attempt = |number, first_sent| Attempt { actor: actor_, key: key_, number, first_sent };
        let held = match judge(standing, &keyed.request, now) {
            Verdict::Answered(answer) => Held::Answered(answer),
            Verdict::Busy => Held::Busy,
            Verdict::Other => Held::Other,
            Verdict::Again { attempt: number } => {
                let query = sqlx::query(AGAIN).bind(actor).bind(key).bind(number).bind(until.0);
                query.execute(&mut *tx).await.map_err(part())?;
                Held::By(attempt(number, sent), note)
            }
            Verdict::First { attempt: number } => {
                let done = sqlx::query(if known { ANEW } else { INSERT })
                    .bind(actor)
                    .bind(key)
                    .bind(keyed.request)
                    .bind(number)
                    .bind(now.0)
                    .bind(until.0)
                    .execute(&mut *tx)
                    .await
                    .map_err(part())?;
                if done.rows_affected() == 0 {
                    // Somebody else asked for it at the same moment.
                    return Ok(None);
                }
                if !known {
                    let keys: i64 =
                        sqlx::query_scalar(COUNT).bind(actor).fetch_one(&mut *tx).await.map_err(part())?;
                    if keys > KEYS_MAX {
                        tx.rollback().await.map_err(part())?;
                        return Ok(Some(Held::TooMany));
                    }
                }
                Held::By(attempt(number, now), None)
            }
        };
        tx.commit().await.map_err(part())?;
        Ok(Some(held))
    }
}

fn parse(row: &PgRow) -> Result<(Standing, Option<Note>), LedgerError> {
    let part = || doing("reading a request's key");
    let request: Hash = row.try_get(0).map_err(part())?;
    let note: Option<String> = row.try_get(4).map_err(part())?;
    let status: Option<i16> = row.try_get(5).map_err(part())?;
    let body: Option<String> = row.try_get(6).map_err(part())?;
    let standing = Standing {
        request,
        attempt: row.try_get(1).map_err(part())?,
        first_sent: Timestamp(row.try_get(2).map_err(part())?),
        held_until: Timestamp(row.try_get(3).map_err(part())?),
        answer: status
            .zip(body)
            .map(|(status, body)| KeptAnswer { status: u16::try_from(status).unwrap_or(500), body }),
    };
    let bad = |e: serde_json::Error| corrupt("request_keys", "?", e.to_string());
    Ok((standing, note.map(|note| serde_json::from_str(&note).map_err(bad)).transpose()?))
}

#[async_trait]
impl Keys for PgLedger {
    async fn hold_key(&self, keyed: Keyed) -> Result<Held, LedgerError> {
        for _ in 0..TRIES {
            if let Some(held) = self.hold(&keyed).await? {
                return Ok(held);
            }
        }
        Ok(Held::Busy)
    }

    async fn sent_before(&self, keyed: &Keyed) -> Result<bool, LedgerError> {
        let part = || doing("looking for a request's key");
        let mut db = self.pool.acquire().await.map_err(part())?;
        let query = sqlx::query(LOOK).bind(keyed.actor.as_str()).bind(keyed.key.as_str());
        let row = query.fetch_optional(&mut *db).await.map_err(part())?;
        let found = row.map(|row| parse(&row)).transpose()?;
        let now = find::clock(&mut db).await?;
        Ok(was_sent_before(found, keyed, now))
    }

    fn under(&self, attempt: Attempt) -> Arc<dyn Ledger> {
        Arc::new(Self { attempt: Some(attempt), ..self.clone() })
    }

    async fn keep_answer(&self, attempt: &Attempt, answer: KeptAnswer) -> Result<bool, LedgerError> {
        within("bytes of an answer", answer.body.len(), ANSWER_MAX_BYTES)?;
        let done = sqlx::query(ANSWER)
            .bind(attempt.actor.as_str())
            .bind(attempt.key.as_str())
            .bind(attempt.number)
            .bind(i16::try_from(answer.status).unwrap_or(i16::MAX))
            .bind(answer.body)
            .execute(&self.pool)
            .await
            .map_err(doing("keeping the answer to a request"))?;
        Ok(done.rows_affected() == 1)
    }

    async fn let_go(&self, attempt: &Attempt) -> Result<(), LedgerError> {
        let query = sqlx::query(LET_GO).bind(attempt.actor.as_str()).bind(attempt.key.as_str());
        let done = query.bind(attempt.number).execute(&self.pool).await;
        done.map(drop).map_err(doing("letting go of a request's key"))
    }

    async fn forget_keys(&self) -> Result<u64, LedgerError> {
        let part = || doing("forgetting keys of requests");
        let mut tx = self.pool.begin().await.map_err(part())?;
        let now = find::clock(&mut tx).await?;
        let old: Vec<(String, String)> = sqlx::query_as(LOCK_OLD)
            .bind(now.0.saturating_sub(KEPT_US))
            .bind(now.0)
            .bind(i64::from(SWEPT_MAX))
            .fetch_all(&mut *tx)
            .await
            .map_err(part())?;
        if old.is_empty() {
            return Ok(0);
        }
        let (actors, keys): (Vec<String>, Vec<String>) = old.into_iter().unzip();
        sqlx::query(LOCK_ACTORS).bind(&actors).execute(&mut *tx).await.map_err(part())?;
        let gone = sqlx::query(FORGET).bind(&actors).bind(&keys).execute(&mut *tx).await.map_err(part())?;
        all_there("request_keys", gone.rows_affected(), keys.len())?;
        sqlx::query(FEWER).bind(&actors).execute(&mut *tx).await.map_err(part())?;
        sqlx::query(FORGET_ACTORS).bind(&actors).execute(&mut *tx).await.map_err(part())?;
        tx.commit().await.map_err(part())?;
        Ok(gone.rows_affected())
    }
}
