//! Overrides. Like ceilings they are read with what is in force, and written down in the same chain.
use sexton_model::Actor;
use sexton_model::belts::one_shot::{BROKEN_GLASS_MAX, NewOneShot, OneShot, TakenBack};
use sqlx::postgres::PgConnection;

use super::error::{all_there, corrupt, doing};
use super::{PgLedger, find, load, pause, review};
use crate::keys::Note;
use crate::rules::text;
use crate::{LedgerError, NotDone};

const GOOD: &str = "SELECT body FROM one_shots WHERE NOT ended ORDER BY id";
/// By two partial indexes: of those that are over there are as many as there ever were.
const BROKEN_GLASS: &str = "SELECT body FROM ( \
       SELECT id, ended, body FROM one_shots WHERE NOT ended \
       UNION ALL SELECT id, ended, body FROM one_shots WHERE ended AND good_until > $1) g \
     WHERE strpos(body, '\"break_glass\":true') > 0 ORDER BY ended, id LIMIT $2";
const LAST: &str = "SELECT coalesce(max(id), 0) FROM one_shots";
const INSERT: &str = "INSERT INTO one_shots (id, good_until, body) VALUES ($1, $2, $3)";
const END: &str = "UPDATE one_shots SET ended = true WHERE id = $1 AND NOT ended";
const TAKE_BACK: &str = "UPDATE one_shots SET ended = true, body = $2 WHERE id = $1 AND NOT ended";

/// Those that were not taken back and whose stage is not over.
pub(super) async fn good(db: &mut PgConnection) -> Result<Vec<OneShot>, LedgerError> {
    let bodies: Vec<String> =
        sqlx::query_scalar(GOOD).fetch_all(db).await.map_err(doing("reading overrides"))?;
    parsed(&bodies)
}

/// Those for which the glass was broken, also if they were taken back, until nothing could have begun by them any more.
pub(super) async fn broken_glass(db: &mut PgConnection) -> Result<Vec<OneShot>, LedgerError> {
    let now = find::clock(db).await?;
    let most = i64::try_from(BROKEN_GLASS_MAX).unwrap_or(i64::MAX);
    let found = sqlx::query_scalar(BROKEN_GLASS).bind(now.0).bind(most).fetch_all(db).await;
    let bodies: Vec<String> = found.map_err(doing("reading overrides"))?;
    parsed(&bodies)
}

fn parsed(bodies: &[String]) -> Result<Vec<OneShot>, LedgerError> {
    let parse = |body: &String| serde_json::from_str(body);
    bodies.iter().map(parse).collect::<Result<_, _>>().map_err(|e| corrupt("one_shots", "?", e.to_string()))
}

/// Let one stage of one deletion pass one belt. The gate is taken alone, so that what is decided on stands.
pub(super) async fn give(
    ledger: &PgLedger,
    new: NewOneShot,
) -> Result<Result<OneShot, NotDone>, LedgerError> {
    let part = || doing("overriding a belt");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let id = new.deletion;
    let statements = ledger.memory.records.read(&mut tx, &[id.0]).await?;
    let Some((d, _)) = load::deletions(&mut tx, &[id.0], &statements).await?.remove(&id) else {
        return Ok(Err(NotDone::NoSuchDeletion(id)));
    };
    let now = find::clock(&mut tx).await?;
    let mut there = good(&mut tx).await?;
    for over in crate::rules::one_shots_over(&mut there, now) {
        end(&mut tx, over).await?;
    }
    if let Err(why) = new.check(&d, &there, now) {
        return Ok(Err(why.into()));
    }
    let last: i64 = sqlx::query_scalar(LAST).fetch_one(&mut *tx).await.map_err(part())?;
    let given = new.from(last + 1, now, &d, ledger.options.day);
    sqlx::query(INSERT)
        .bind(given.id)
        .bind(given.until.0)
        .bind(text(&given)?)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    let what = if given.break_glass { "glass_broken" } else { "overridden" };
    pause::append(&mut tx, &pause::event(what, &given.by, now, &given)?).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::Overridden(given.clone()))).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(Ok(given))
}

async fn end(db: &mut PgConnection, id: i64) -> Result<(), LedgerError> {
    let done = sqlx::query(END).bind(id).execute(db).await.map_err(doing("ending an override"))?;
    all_there("one_shots", done.rows_affected(), 1)
}

/// Take one back. `false` if there is none of that number that is good.
pub(super) async fn take_back(ledger: &PgLedger, id: i64, by: &Actor) -> Result<bool, LedgerError> {
    let part = || doing("taking back an override");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let Some(given) = good(&mut tx).await?.into_iter().find(|given| given.id == id) else {
        return Ok(false);
    };
    let now = find::clock(&mut tx).await?;
    // What it is from now on is kept, since whoever has broken the glass is told of all the same.
    let back = TakenBack { by: by.clone(), at: now };
    let body = text(&OneShot { taken_back: Some(back), ..given.clone() })?;
    let done = sqlx::query(TAKE_BACK).bind(id).bind(body).execute(&mut *tx).await.map_err(part())?;
    all_there("one_shots", done.rows_affected(), 1)?;
    pause::append(&mut tx, &pause::event("override_taken_back", by, now, &given)?).await?;
    let decided = review::decide(&mut tx, ledger, None).await?;
    ledger.note(&mut tx, || Some(Note::TakenBack)).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note_decision(decided);
    Ok(true)
}
