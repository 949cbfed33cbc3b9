//! Checkpoints, and what happens to a ledger that has gone back in time.
use sexton_model::audit::hex;
use sexton_model::checkpoint::{Behind, Checkpoint, Decision, Landmark, Mark, Review, behind};
use sexton_model::{Actor, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};

use super::chain::Head;
use super::error::{all_there, doing};
use super::{PgLedger, find, healthy, pause};
use crate::LedgerError;
use crate::chains::PAUSES;
use crate::keys::Note;
use crate::known;

/// A block of fences may have been taken from its first number on.
const STANDING: &str = "SELECT l.ledger, l.epoch, l.checkpoints, l.checkpoint_at, l.revision, l.review, \
     CASE WHEN f.is_called THEN f.last_value + 1023 ELSE 0 END FROM ledger l, fence f";
/// Places (from 1) of the landmarks that are not there, or are something else there. That of a record that was archived
/// is confirmed by its stub, as far as that reaches; orders, which have no number, are not.
pub(super) const MISSING: &str = "SELECT k.n FROM unnest($1::bigint[], $2::bigint[], $3::text[]) \
     WITH ORDINALITY AS k (deletion, seq, hash, n) WHERE NOT EXISTS (SELECT 1 FROM audit a \
     WHERE a.deletion_id = k.deletion AND a.seq = k.seq AND encode(a.hash, 'hex') = k.hash) \
     AND NOT EXISTS (SELECT 1 FROM stubs s WHERE s.deletion_id = k.deletion AND k.seq BETWEEN 1 AND s.events \
     AND (k.seq < s.events OR encode(s.head, 'hex') = k.hash)) ORDER BY k.n";
const CHECKPOINT: &str = "UPDATE ledger SET checkpoints = checkpoints + 1, \
     checkpoint_at = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
     RETURNING epoch, checkpoints, checkpoint_at, revision";
const RAISE: &str = "UPDATE ledger SET checkpoints = checkpoints + 1 \
     RETURNING epoch, checkpoints, checkpoint_at, revision, pause_seq, pause_head";
/// By its key. Chains that are no record's are kept for good.
const DECIDED: &str = "SELECT EXISTS (SELECT 1 FROM ledger_audit \
     WHERE chain = $1 AND seq = $2 AND encode(hash, 'hex') = $3)";
const ENTER: &str = "UPDATE ledger SET epoch = $1, checkpoints = $2, revision = $3, review = $4";
/// How far records are numbered; numbers that were drawn and are not committed count, too.
const LAST_RECORD: &str = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM deletion_id";
/// Numbers are drawn and thrown away: to set a sequence takes more rights than a coordinator has.
const LEAVE_OUT: &str = "SELECT count(nextval('deletion_id')) FROM generate_series(1, $1::bigint)";
const ACCEPT: &str = "UPDATE ledger SET review = NULL";

/// What the ledger shows of itself.
pub(super) struct Standing {
    pub(super) ledger: String,
    pub(super) mark: Mark,
    pub(super) review: Option<Review>,
}

/// Columns for [`MISSING`].
pub(super) fn columns(landmarks: &[Landmark]) -> (Vec<i64>, Vec<i64>, Vec<&str>) {
    let deletions = landmarks.iter().map(|l| l.deletion.0).collect();
    let seqs = landmarks.iter().map(|l| l.seq).collect();
    (deletions, seqs, landmarks.iter().map(|l| l.hash.as_str()).collect())
}

/// The landmarks at these places.
pub(super) fn at_places(landmarks: &[Landmark], places: &[i64]) -> Vec<Landmark> {
    let at = |place: &i64| landmarks.get(usize::try_from(place - 1).ok()?).cloned();
    places.iter().filter_map(at).collect()
}

pub(super) async fn standing(db: &mut PgConnection) -> Result<Standing, LedgerError> {
    let part = || doing("reading the ledger");
    let row = sqlx::query(STANDING).fetch_one(db).await.map_err(part())?;
    let mark = Mark {
        epoch: epoch(&row, 1)?,
        number: row.try_get(2).map_err(part())?,
        at: Timestamp(row.try_get(3).map_err(part())?),
        revision: row.try_get(4).map_err(part())?,
        fence: row.try_get(6).map_err(part())?,
    };
    let review = known::parse(row.try_get(5).map_err(part())?)?;
    Ok(Standing { ledger: row.try_get(0).map_err(part())?, mark, review })
}

pub(super) fn epoch(row: &PgRow, column: usize) -> Result<u32, LedgerError> {
    let epoch: i32 = row.try_get(column).map_err(doing("reading the epoch"))?;
    Ok(u32::try_from(epoch).unwrap_or(0))
}

async fn missing(db: &mut PgConnection, known: &Checkpoint) -> Result<Vec<Landmark>, LedgerError> {
    let (deletions, seqs, hashes) = columns(&known.landmarks);
    let places: Vec<i64> = sqlx::query_scalar(MISSING)
        .bind(deletions)
        .bind(seqs)
        .bind(hashes)
        .fetch_all(db)
        .await
        .map_err(doing("looking for what was decided"))?;
    Ok(at_places(&known.landmarks, &places))
}

/// Whether what stands there is older than what was seen of it. Of the last decision that is no record's a batch does not ask: there
/// the number that was raised with it has to do, which another coordinator may have overtaken.
async fn older(db: &mut PgConnection, seen: &Checkpoint, found: Mark) -> Result<Option<Behind>, LedgerError> {
    let missing = missing(db, seen).await?;
    let mut lost = None;
    if let Some(decision) = &seen.decision {
        let query = sqlx::query_scalar(DECIDED).bind(&decision.chain).bind(decision.seq).bind(&decision.hash);
        let there: bool = query.fetch_one(db).await.map_err(doing("looking for what was decided"))?;
        lost = (!there).then(|| decision.clone());
    }
    Ok(behind(seen, found, missing, lost))
}

/// A decision that is no record's is about to be committed: the number that tells this state from an earlier one grows with it.
/// `end` is that of the chain where it is written down, unless that is the pauses'. What comes back is to be noted once that is
/// committed. The ledger's row is locked from here on, behind all others but a request's key: numbers are committed in their
/// order.
///
/// Nothing comes back if what stands there is older than what is known. The decision stands all the same, as it may stop something;
/// what is known stays, by which the next batch or checkpoint notices.
pub(super) async fn decide(
    db: &mut PgConnection,
    ledger: &PgLedger,
    end: Option<(String, Head)>,
) -> Result<Option<(Mark, Decision)>, LedgerError> {
    let part = || doing("counting a decision");
    let seen = ledger.known.seen();
    let found = standing(db).await?;
    // Of another database the next checkpoint tells: this may stop something, and so stands.
    if known::same_ledger(&seen, &found.ledger).is_err() {
        return Ok(None);
    }
    // Else it would take the number of the one that is lost.
    if older(db, &seen, found.mark).await?.is_some() {
        return Ok(None);
    }
    let row = sqlx::query(RAISE).fetch_one(db).await.map_err(part())?;
    let (chain, head) = match end {
        Some(end) => end,
        None => {
            let (seq, hash) = (row.try_get(4).map_err(part())?, row.try_get(5).map_err(part())?);
            (PAUSES.to_owned(), Head { seq, hash })
        }
    };
    let mark = mark(&row)?;
    Ok(Some((mark, Decision { number: mark.number, chain, seq: head.seq, hash: hex(&head.hash) })))
}

/// Where the ledger stands once it was written. The sequence of fences may be ahead of what this process has committed, so nothing
/// is said of that.
fn mark(row: &PgRow) -> Result<Mark, LedgerError> {
    let part = || doing("reading the ledger");
    Ok(Mark {
        epoch: epoch(row, 0)?,
        number: row.try_get(1).map_err(part())?,
        at: Timestamp(row.try_get(2).map_err(part())?),
        revision: row.try_get(3).map_err(part())?,
        fence: 0,
    })
}

/// Write a checkpoint, with a heartbeat if the API is served. Its commit is synchronous, so all that was committed before is as durable.
pub(super) async fn checkpoint(ledger: &PgLedger, serves: bool) -> Result<Checkpoint, LedgerError> {
    let part = || doing("writing a checkpoint");
    let seen = ledger.known.seen();
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    let found = standing(&mut tx).await?;
    known::same_ledger(&seen, &found.ledger)?;
    if let Some(behind) = older(&mut tx, &seen, found.mark).await? {
        return Err(LedgerError::WentBack(Box::new(behind)));
    }
    if serves {
        healthy::beat(&mut tx, ledger).await?;
    }
    let row = sqlx::query(CHECKPOINT).fetch_one(&mut *tx).await.map_err(part())?;
    let records = last_record(&mut tx).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note(mark(&row)?, None);
    ledger.known.note_records(records);
    Ok(ledger.known.seen())
}

async fn last_record(db: &mut PgConnection) -> Result<i64, LedgerError> {
    let found = sqlx::query_scalar(LAST_RECORD).fetch_one(db).await;
    found.map_err(doing("reading how far records are numbered"))
}

/// Number records behind those that are `known` to be lost. It holds whatever becomes of the transaction.
async fn number_behind(db: &mut PgConnection, known: i64) -> Result<(), LedgerError> {
    let left_out = known::left_out(last_record(db).await?, known);
    if left_out > 0 {
        let drawn: Result<i64, _> = sqlx::query_scalar(LEAVE_OUT).bind(left_out).fetch_one(db).await;
        drawn.map_err(doing("numbering records behind lost ones"))?;
    }
    Ok(())
}

/// Compare the ledger with what was known of it, and enter a new epoch if it is behind.
pub(super) async fn confront(ledger: &PgLedger, known: &Checkpoint) -> Result<Option<Review>, LedgerError> {
    let part = || doing("comparing the ledger with what was seen of it");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let found = standing(&mut tx).await?;
    known::same_ledger(known, &found.ledger)?;
    let Some(behind) = older(&mut tx, known, found.mark).await? else {
        if found.review.is_some() {
            number_behind(&mut tx, known.records).await?;
        }
        tx.rollback().await.map_err(part())?;
        ledger.known.adopt(known.clone());
        // A later epoch, if another coordinator noticed first.
        ledger.known.note(Mark { fence: 0, ..found.mark }, None);
        return Ok(found.review);
    };
    number_behind(&mut tx, known.records).await?;
    let now = find::clock(&mut tx).await?;
    let (review, mark, event) = known::enter(behind, now)?;
    let done = sqlx::query(ENTER)
        .bind(i32::try_from(mark.epoch).unwrap_or(i32::MAX))
        .bind(mark.number)
        .bind(mark.revision)
        .bind(known::stored(&review)?)
        .execute(&mut *tx)
        .await
        .map_err(part())?;
    all_there("ledger", done.rows_affected(), 1)?;
    pause::append(&mut tx, &event).await?;
    tx.commit().await.map_err(part())?;
    ledger.known.note(Mark { fence: 0, ..mark }, None);
    Ok(Some(review))
}

/// A person accepts the ledger as it is.
pub(super) async fn accept(
    ledger: &PgLedger,
    epoch: u32,
    by: &Actor,
    reason: &str,
) -> Result<bool, LedgerError> {
    let part = || doing("accepting a review");
    let mut tx = ledger.pool.begin().await.map_err(part())?;
    pause::lock(&mut tx).await?;
    let found = standing(&mut tx).await?;
    let Some(review) = found.review.filter(|review| review.epoch == epoch) else {
        tx.rollback().await.map_err(part())?;
        return Ok(false);
    };
    let now = find::clock(&mut tx).await?;
    let done = sqlx::query(ACCEPT).execute(&mut *tx).await.map_err(part())?;
    all_there("ledger", done.rows_affected(), 1)?;
    pause::append(&mut tx, &known::accepted(&review, by, reason, now)?).await?;
    ledger.note(&mut tx, || Some(Note::Accepted)).await?;
    tx.commit().await.map_err(part())?;
    Ok(true)
}

/// The review that is open.
pub(super) async fn review(ledger: &PgLedger) -> Result<Option<Review>, LedgerError> {
    let mut db = ledger.pool.acquire().await.map_err(doing("reading the ledger"))?;
    Ok(standing(&mut db).await?.review)
}
