//! Surveys: what the subsystems hold of a resource, looked at before there is a record. Nothing is changed but the
//! survey's own row.
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use sexton_api::{PreviewRequest, SurveyInfo, SurveyRequest};
use sexton_ledger::{Begun, NotDone};
use sexton_model::plan::Plan;
use sexton_model::survey::{self, ANSWER_SECS, ANSWER_SECS_MAX, About, NewSurvey, Survey};

use super::problem::{Body, Refused};
use super::{Api, Asker, By, Shared, records};

/// In how many seconds it may be asked again for one more survey.
const AGAIN_S: u32 = 5;

/// Begin one, unless one is open about the very same: that one is told then. Refused for the reasons for which the
/// record would be.
pub(super) async fn begin(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    Body(body): Body<SurveyRequest>,
) -> Result<(StatusCode, Json<SurveyInfo>), Refused> {
    let SurveyRequest { resource, on, zone, within_secs } = body;
    let secs = within_secs.unwrap_or(ANSWER_SECS);
    if !(1..=ANSWER_SECS_MAX).contains(&secs) {
        let expected = format!("within_secs: {secs}: expected 1 to {ANSWER_SECS_MAX}");
        return Err(Refused::field("within_secs", expected));
    }
    let wanted = PreviewRequest { resource, on, zone, gone_by: None };
    let (d, _) = records::would_be(&api, &asker, wanted).await?;
    let pauses = api.engine.ledger.pauses().await?;
    let looks = survey::looks(&d, &pauses).map_err(NotDone::from)?;
    let (resource, due, plan) = (d.record.resource.clone(), d.record.due, Plan::clone(&d.plan));
    let new = NewSurvey { by, about: About { resource, due, plan }, within_ms: secs * 1000, looks };
    match api.engine.begin_survey(new).await? {
        Ok(Begun::Now(survey)) => Ok((StatusCode::CREATED, Json(info(&api, &survey).await?))),
        Ok(Begun::Before(survey)) => Ok((StatusCode::OK, Json(info(&api, &survey).await?))),
        Err(why) => {
            let refused = Refused::from(why);
            Err(if refused.is(StatusCode::TOO_MANY_REQUESTS) { refused.again_in(AGAIN_S) } else { refused })
        }
    }
}

/// What is known of one by now.
pub(super) async fn show(State(api): Shared, Path(id): Path<String>) -> Result<Json<SurveyInfo>, Refused> {
    let number =
        id.parse().map_err(|_| Refused::field("survey", format!("survey {id:?}: expected a number")))?;
    match api.engine.ledger.survey(number).await? {
        Some(survey) => Ok(Json(info(&api, &survey).await?)),
        None => Err(Refused::absent(format_args!("survey {number}: each is kept for an hour"))),
    }
}

async fn info(api: &Api, survey: &Survey) -> Result<SurveyInfo, Refused> {
    Ok(SurveyInfo::of(survey, api.engine.ledger.facts().await?.now))
}
