//! Surveys: what the subsystems hold of a resource, looked at before there is a record.
use std::collections::BTreeMap;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_model::deletion::Zone;
use sexton_model::job::Stage;
use sexton_model::resource::Identity;
use sexton_model::survey::{Answer, Covered, Survey};
use sexton_model::{Actor, Instance, ResourceId, Timestamp};

use crate::date;

/// Have the subsystems looked at, as a record with this date would.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SurveyRequest {
    /// What would go.
    pub resource: ResourceId,
    /// On which date its soft stage would be due. There is no default.
    #[serde(deserialize_with = "date::required")]
    #[schemars(with = "String")]
    pub on: NaiveDate,
    /// Whose calendar; that of the coordinator's configuration if not given, and UTC if that says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Zone>,
    /// How long answers are waited for, in seconds: 1 to 120, and 20 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_secs: Option<u64>,
}

/// A survey, as far as it has come. It is kept for an hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SurveyInfo {
    /// Its number.
    pub survey: i64,
    /// What would go.
    pub resource: ResourceId,
    /// Which one of that name is looked for.
    pub identity: Identity,
    /// Who asked for it.
    pub by: Actor,
    /// Since when it is asked.
    pub begun_at: Timestamp,
    /// Until when answers count.
    pub answer_by: Timestamp,
    /// Whether something may still come.
    pub open: bool,
    /// What each step that looks at announce has shown, in order.
    pub looks: Vec<LookInfo>,
    /// What a record would pin, by instance: only of those of which all that was asked was seen.
    pub targets: BTreeMap<Instance, Value>,
    /// What each step would be about, in order.
    pub steps: Vec<CoveredStep>,
}

/// What one step that looks has shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LookInfo {
    /// Its name in the plan.
    pub step: String,
    /// Who is asked.
    pub instance: Instance,
    /// What was answered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// Why it has shown nothing, in a sentence; none if it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lacks: Option<String>,
}

/// What one step would be about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CoveredStep {
    /// Of which stage it is.
    pub stage: Stage,
    /// Its name in the plan.
    pub step: String,
    /// The instance that carries it out; none for the coordinator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// What it would be about.
    pub about: Covered,
}

impl SurveyInfo {
    /// A survey as it stands at `now`.
    pub fn of(survey: &Survey, now: Timestamp) -> Self {
        let looks = survey.looks.iter().map(|look| LookInfo {
            step: survey.step(look).map(|step| step.name.clone()).unwrap_or_default(),
            instance: look.instance.clone(),
            answer: look.answer.clone(),
            lacks: survey.shown(look, now).err(),
        });
        let targets = survey.targets(now).into_iter();
        let steps = survey.covered(now).into_iter().map(|(stage, step, instance, about)| CoveredStep {
            stage,
            step: step.name.clone(),
            instance,
            about,
        });
        let resource = &survey.about.resource;
        Self {
            survey: survey.id,
            resource: resource.id.clone(),
            identity: resource.identity.clone(),
            by: survey.by.clone(),
            begun_at: survey.begun_at,
            answer_by: survey.answer_by,
            open: survey.is_open(now),
            looks: looks.collect(),
            targets: targets.filter_map(|(at, seen)| Some((at.clone(), seen.ok()?.clone()))).collect(),
            steps: steps.collect(),
        }
    }
}
