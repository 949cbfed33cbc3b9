//! Censuses: handed in, or taken from whoever holds what is counted.
use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use sexton_api::{CensusInfo, CensusRequest, CensusesQuery, PAGE_MAX, Page, TakeCensus};
use sexton_ledger::{CensusFilter, Counted, NotDone, Note};
use sexton_model::access::{Permission, Reach};
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::listing::{ANSWER_SECS, ANSWER_SECS_MAX};
use sexton_model::belts::census::{Census, Latest, Taken, daily};
use sexton_model::{Actor, Timestamp};

use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};
use crate::taken::{self, Wanted};

type Believed = Result<(StatusCode, Json<CensusInfo>), Refused>;

/// Those that are kept, the newest first.
pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<CensusesQuery>,
) -> Result<Json<Page<Taken>>, Refused> {
    let CensusesQuery { after, limit } = query;
    let limit = limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let filter = CensusFilter { scopes: asker.extent().limits(), before: after, limit };
    let page = api.engine.ledger.believed(&filter).await?;
    let items = page.items.into_iter().map(|taken| taken.told_to(asker.extent())).collect();
    Ok(Json(Page { items, next: page.next }))
}

/// What came last of each kind and scope, believed or refused.
pub(super) async fn latest(State(api): Shared, asker: Asker) -> Result<Json<Vec<Latest>>, Refused> {
    let mut all = api.engine.ledger.latest_censuses().await?;
    all.retain(|latest| asker.extent().contains(&latest.scope));
    Ok(Json(all))
}

/// Which of those that are configured to be taken do not come, of those that the caller sees.
pub(super) async fn missed(api: &Api, asker: &Asker) -> Result<Vec<String>, Refused> {
    let ledger = &*api.engine.ledger;
    let policy = ledger.policy();
    // Health is asked for again and again, and most installations configure none.
    if policy.census.take.is_empty() {
        return Ok(Vec::new());
    }
    let facts = ledger.facts().await?;
    let latest = ledger.latest_censuses().await?;
    let mut missed = daily::missed(&policy.census.take, &latest, facts.day, facts.now);
    missed.retain(|missed| asker.extent().contains(&missed.scope));
    Ok(missed.iter().map(ToString::to_string).collect())
}

/// One that is handed in.
pub(super) async fn take(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<CensusRequest>,
) -> Believed {
    if let Some(before) = before(&once, &asker)? {
        return Ok(before);
    }
    let CensusRequest { kind, scope, credential, new_credential, fewer, more, taken_at, total, listed } =
        body;
    asker.may(Meant { new_credential, fewer, more }.takes(), Reach::Scope(&scope))?;
    let (taken_at, unregistered) = (Timestamp::from(taken_at), Vec::new());
    let census = Census {
        kind,
        scope,
        credential,
        new_credential,
        fewer,
        more,
        taken_at,
        total,
        listed,
        unregistered,
        itself: false,
    };
    believe(&api, &once, (&by, &asker), census).await
}

/// One that is taken now, from every instance that lists the kind.
pub(super) async fn take_itself(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(body): Body<TakeCensus>,
) -> Believed {
    if let Some(before) = before(&once, &asker)? {
        return Ok(before);
    }
    let TakeCensus { kind, scope, new_credential, fewer, within_secs } = body;
    // However many more Sexton lists itself: each of them is registered.
    let meant = Meant { new_credential, fewer, more: false };
    asker.may(meant.takes(), Reach::Scope(&scope))?;
    // It makes work for consumers.
    asker.may(Permission::Survey, Reach::Scope(&scope))?;
    let secs = within_secs.unwrap_or(ANSWER_SECS);
    if !(1..=ANSWER_SECS_MAX).contains(&secs) {
        let expected = format!("within_secs: {secs}: expected 1 to {ANSWER_SECS_MAX}");
        return Err(Refused::field("within_secs", expected));
    }
    let (by_whom, of_kind, of_scope) = (by.clone(), kind.clone(), scope.clone());
    let wanted = Wanted { by: by_whom, kind, scope, within_ms: secs * 1000, meant, seen: None };
    match taken::take(&api.engine, &api.plans, wanted).await? {
        Ok(census) => believe(&api, &once, (&by, &asker), census).await,
        Err(why) => {
            tracing::warn!(kind = %of_kind, scope = %of_scope, %by, %why, "no census is taken");
            // How much there is at an instance is of other scopes, too.
            let told = match &why {
                NotDone::Taking(why) if !asker.extent().is_everywhere() => why.kept(),
                other => other.to_string(),
            };
            Err(Refused::from(why).in_words(told))
        }
    }
}

/// What an attempt before this one has had believed.
fn before(once: &Once, asker: &Asker) -> Result<Option<(StatusCode, Json<CensusInfo>)>, Refused> {
    let noted = |note| if let Note::CensusTaken(counted) = note { Some(counted) } else { None };
    let counted = once.noted(noted)?;
    Ok(counted.map(|counted| told(counted, asker)))
}

async fn believe(api: &Api, once: &Once, (by, asker): (&Actor, &Asker), census: Census) -> Believed {
    Ok(told(api.engine.judge_census(&*once.ledger, census, by).await??, asker))
}

/// What whoever has asked is told of one that was believed.
fn told(counted: Counted, asker: &Asker) -> (StatusCode, Json<CensusInfo>) {
    let Counted { taken, paused, paused_everywhere } = counted;
    let taken = taken.told_to(asker.extent());
    (StatusCode::CREATED, Json(CensusInfo { taken, paused, paused_everywhere }))
}
