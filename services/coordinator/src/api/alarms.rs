//! Alarms: listed, acknowledged; and the digest as it would be now.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use sexton_api::{AlarmInfo, AlarmQuery, AlarmsInfo, PAGE_MAX, Page, Reason, ToldInfo};
use sexton_ledger::{ALARMS_PAGE, AlarmFilter, AlarmSeen, AlarmView, Note};
use sexton_model::alarm::{Severity, Standing, Telling};
use sexton_model::digest::Digest;

use super::in_force::reasonable;
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};
use crate::alarms::gather;

/// Whether the caller sees it: of what is of no scope only whoever is limited to none.
fn sees(asker: &Asker, standing: &Standing) -> bool {
    let extent = asker.extent();
    extent.is_everywhere() || standing.alarm.scope.as_ref().is_some_and(|scope| extent.contains(scope))
}

/// Newest first.
pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<AlarmQuery>,
) -> Result<Json<Page<AlarmInfo>>, Refused> {
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let mut filter = AlarmFilter { ended: query.all, before: query.after, limit };
    let mut items = Vec::new();
    // Whoever is limited to scopes is shown none of the others, nor their numbers: what is left out is read over.
    let more = loop {
        let page = api.engine.ledger.alarms(filter).await?;
        let next = page.next.as_deref().and_then(|next| next.parse::<i64>().ok());
        items.extend(page.items.into_iter().filter(|view| sees(&asker, &view.standing)));
        match next {
            Some(next) if items.len() < limit as usize => filter.before = Some(next),
            next => break next.is_some() || items.len() > limit as usize,
        }
    };
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|view| view.standing.id.to_string());
    Ok(Json(Page { items: items.into_iter().map(info).collect(), next }))
}

pub(super) async fn acknowledge(
    State(api): Shared,
    once: Once,
    By(by): By,
    Path(id): Path<String>,
    Body(Reason { reason }): Body<Reason>,
) -> Result<Json<AlarmInfo>, Refused> {
    let number: i64 =
        id.parse().map_err(|_| Refused::field("alarm", format!("alarm {id:?}: expected a number")))?;
    reasonable(&reason)?;
    if once.noted(|note| (note == Note::AlarmSeen).then_some(()))?.is_none() {
        match once.ledger.acknowledge_alarm(number, &by, &reason).await? {
            AlarmSeen::Done(_) => {}
            AlarmSeen::Ended => {
                let why = format!("alarm {number} is over: there is nothing to acknowledge");
                return Err(Refused::new(StatusCode::CONFLICT, why));
            }
            AlarmSeen::Unknown => return Err(Refused::absent(format_args!("alarm {number}"))),
        }
    }
    let view = api.engine.ledger.alarm(number).await?;
    Ok(Json(info(view.ok_or_else(|| Refused::absent(format_args!("alarm {number}")))?)))
}

pub(super) async fn digest(State(api): Shared, asker: Asker) -> Result<Json<Digest>, Refused> {
    let (alarmer, ledger) = (api.engine.alarmer(), &*api.engine.ledger);
    let daily = alarmer.daily();
    let day = ledger.facts().await?.now.utc().with_timezone(&daily.zone).date_naive();
    let (rules, lacks) = (alarmer.rules(), alarmer.unguarded());
    Ok(Json(gather::digest(ledger, (day, daily), rules, lacks, asker.extent()).await?))
}

/// How many are open, of those that the caller sees.
pub(super) async fn summary(api: &Api, asker: &Asker) -> Result<AlarmsInfo, Refused> {
    let filter = AlarmFilter { ended: false, before: None, limit: ALARMS_PAGE };
    // No more are ever open than one page has.
    let open = api.engine.ledger.alarms(filter).await?.items;
    let open: Vec<&Standing> =
        open.iter().map(|view| &view.standing).filter(|standing| sees(asker, standing)).collect();
    let count = |of: &dyn Fn(&Standing) -> bool| open.iter().filter(|standing| of(standing)).count() as u64;
    let alarmer = api.engine.alarmer();
    Ok(AlarmsInfo {
        open: open.len() as u64,
        critical: count(&|standing| standing.alarm.severity == Severity::Critical),
        unseen: count(&|standing| standing.acknowledged.is_none()),
        routes: alarmer.routes().map(|kind| kind.word().to_owned()).collect(),
        lacks: alarmer.lacks(),
    })
}

fn info(view: AlarmView) -> AlarmInfo {
    let told = |(route, telling): (String, Telling)| {
        let (phase, at) = telling.told.unzip();
        (route, ToldInfo { phase, at, failures: telling.failures, error: telling.error })
    };
    AlarmInfo { standing: view.standing, told: view.told.into_iter().map(told).collect() }
}
