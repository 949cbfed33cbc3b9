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
use crate::alarms::listing::{Wanted, page, seen_by};

/// Newest first. Whoever is limited to scopes may be answered with an empty page that is not the last one.
pub(super) async fn list(
    State(api): Shared,
    asker: Asker,
    Query(query): Query<AlarmQuery>,
) -> Result<Json<Page<AlarmInfo>>, Refused> {
    let limit = query.limit.unwrap_or(100).clamp(1, PAGE_MAX);
    let wanted = Wanted { extent: asker.extent(), ended: query.all, before: query.after, limit };
    let page = page(&*api.engine.ledger, wanted).await?;
    Ok(Json(Page { items: page.items.into_iter().map(info).collect(), next: page.next }))
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
        open.iter().map(|view| &view.standing).filter(|standing| seen_by(asker.extent(), standing)).collect();
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
