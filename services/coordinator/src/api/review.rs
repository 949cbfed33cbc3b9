//! A ledger that went back in time, and whether its trails hold.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{
    AcceptReview, AuditInfo, AuditQuery, BrokenChain, HASHES_MAX, Hashes, HashesQuery, LOST_SHOWN, LostInfo,
    ReviewInfo,
};
use sexton_ledger::{AuditRow, Note};
use sexton_model::access::{Permission, Reach};
use sexton_model::archive::Link;
use sexton_model::audit::hex;
use sexton_model::chain_copy::ChainCopy;
use sexton_model::checkpoint::Review;
use sexton_model::deletion::REASON_MAX;

use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared, archived, records};

/// Chains checked in one request: the job table ends the page before that if they are long.
const CHAINS: u32 = 256;

pub(super) async fn show(State(api): Shared, asker: Asker) -> Result<Json<ReviewInfo>, Refused> {
    let review = api.engine.ledger.review().await?;
    let all = review.is_some() && sees_all(&asker);
    let review = review.map(|review| told(review, &asker));
    Ok(Json(ReviewInfo { review, lost: if all { lost(&api).await } else { None } }))
}

/// Whether it is told what is lost: what a chain is called says what there is in any scope.
fn sees_all(asker: &Asker) -> bool {
    asker.may(Permission::SeeAll, Reach::Everything).is_ok()
}

/// What is told of one to whoever asks.
pub(super) fn told(review: Review, asker: &Asker) -> Review {
    if sees_all(asker) { review } else { review.unnamed() }
}

/// What was signed, and is not there.
async fn lost(api: &Api) -> Option<LostInfo> {
    let attester = api.engine.attester()?;
    Some(match attester.lost(&*api.engine.ledger).await {
        Ok(all) => LostInfo {
            total: all.len() as u64,
            chains: all.into_iter().take(LOST_SHOWN).collect(),
            not_compared: None,
        },
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let why = format!("{error}{}", source.unwrap_or_default());
            tracing::warn!(why, "what was signed could not be compared with the job table under review");
            LostInfo { not_compared: Some(why), ..LostInfo::default() }
        }
    })
}

pub(super) async fn accept(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<AcceptReview>,
) -> Result<Json<ReviewInfo>, Refused> {
    if once.noted(|note| (note == Note::Accepted).then_some(()))?.is_some() {
        return show(State(api), asker).await;
    }
    if body.reason.trim().is_empty() || body.reason.chars().count() > REASON_MAX {
        return Err(Refused::field("reason", format!("reason: expected 1 to {REASON_MAX} characters")));
    }
    if !once.ledger.accept_review(body.epoch, &by, &body.reason).await? {
        let detail = format!("there is no review of epoch {}: look at it again", body.epoch);
        let refused = Refused::new(StatusCode::CONFLICT, detail);
        // Whoever accepts another one than is open has not looked at that.
        let other = api.engine.ledger.review().await?.is_some();
        return Err(if other { refused.noted() } else { refused });
    }
    tracing::warn!(%by, epoch = body.epoch, reason = body.reason, "the ledger is accepted as it is");
    show(State(api), asker).await
}

pub(super) async fn audit(
    State(api): Shared,
    Query(query): Query<AuditQuery>,
) -> Result<Json<AuditInfo>, Refused> {
    let found = api.engine.ledger.verify_chains(query.after.as_deref(), CHAINS).await?;
    let broken = found.broken.into_iter();
    Ok(Json(AuditInfo {
        checked: found.checked,
        broken: broken.map(|(chain, why)| BrokenChain { chain, why: why.to_string() }).collect(),
        next: found.next,
    }))
}

/// A record's whole chain, to be kept and checked elsewhere.
pub(super) async fn chain(State(api): Shared, Path(id): Path<String>) -> Result<Json<ChainCopy>, Refused> {
    let id = records::parse(&api, &id)?;
    let ledger = &api.engine.ledger;
    let Some(view) = ledger.deletion(id).await? else { return Err(archived::missing(&api, id).await?) };
    let link = |row: AuditRow| Link { seq: row.seq, body: row.body, hash: row.hash };
    let events = view.audit.into_iter().map(link).collect();
    Ok(Json(ChainCopy { ledger: ledger.facts().await?.ledger, chain: id.to_string(), events }))
}

pub(super) async fn hashes(
    State(api): Shared,
    Body(body): Body<HashesQuery>,
) -> Result<Json<Hashes>, Refused> {
    if !(1..=HASHES_MAX).contains(&body.events.len()) {
        let found = body.events.len();
        return Err(Refused::field("events", format!("events: expected 1 to {HASHES_MAX}, found {found}")));
    }
    let events = body.events.into_iter().map(|event| (event.chain, event.seq)).collect();
    let found = api.engine.ledger.event_hashes(events).await?;
    let ledger = api.engine.ledger.facts().await?.ledger;
    Ok(Json(Hashes { ledger, hashes: found.iter().map(|hash| hash.as_ref().map(hex)).collect() }))
}
