//! What a deletion would do, and what it would be about, before there is one.
use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::time::Duration;

use chrono::NaiveDate;
use serde::Serialize;
use sexton_api::{Client, ClientError, PreviewInfo, PreviewRequest, SurveyInfo, SurveyRequest};
use sexton_model::Instance;
use sexton_model::belts::Belt;
use sexton_model::catalogue::Nature;
use sexton_model::job::Stage;
use sexton_model::preview::{BeltPreview, StagePreview, StepPreview};
use sexton_model::survey::{Answer, Covered};
use sexton_model::targets::NAMED_MAX;

use crate::arguments::Format;
use crate::output::{moment, table, write};

/// Between two looks while a survey is open.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// All of it, as programs read it.
#[derive(Debug, Serialize)]
struct Planned {
    #[serde(flatten)]
    preview: PreviewInfo,
    /// What the subsystems hold of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    survey: Option<SurveyInfo>,
    /// Why nobody was asked for that, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_looked_at: Option<String>,
}

/// Show what a deletion would do; and, unless it is not wanted, have the subsystems looked at and wait for what they
/// hold.
///
/// # Errors
/// If there could be no such record, or the coordinator cannot be asked. That the subsystems are not looked at is
/// shown.
pub async fn plan(
    client: &Client,
    format: Format,
    request: PreviewRequest,
    (look, within_secs): (bool, Option<u64>),
) -> anyhow::Result<()> {
    let preview = client.preview(&request).await?;
    let PreviewRequest { resource, on, zone, .. } = request;
    let (survey, not_looked_at) = match look {
        false => (None, Some("--no-look".to_owned())),
        true => match survey(client, &SurveyRequest { resource, on, zone, within_secs }).await {
            Ok(survey) => (Some(survey), None),
            Err(ClientError::Problem(problem)) => (None, Some(problem.detail)),
            Err(error) => return Err(error.into()),
        },
    };
    write(format, &Planned { preview, survey, not_looked_at }, |planned| text(planned, on))
}

/// Have them looked at, and wait until all have answered or the time is over.
async fn survey(client: &Client, request: &SurveyRequest) -> Result<SurveyInfo, ClientError> {
    let mut info = client.begin_survey(request).await?;
    let shown = std::io::stderr().is_terminal();
    while info.open {
        if shown {
            let answered = info.looks.iter().filter(|look| look.answer.is_some()).count();
            progress(&format!("looking: {answered} of {} have answered", info.looks.len()));
        }
        tokio::time::sleep(LOOK_EVERY).await;
        info = client.survey(info.survey).await?;
    }
    if shown {
        progress("");
    }
    Ok(info)
}

/// One line that the next one replaces. Nobody misses it if it cannot be written.
fn progress(text: &str) {
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "\r\u{1b}[K{text}").and_then(|()| out.flush());
}

fn text(planned: &Planned, on: NaiveDate) -> String {
    let mut text = preview(&planned.preview, on);
    match (&planned.survey, &planned.not_looked_at) {
        (Some(survey), _) => {
            text += &format!("in use, and whether it is the right one, as seen now\n{}", in_use(survey));
            text += &targets(survey, &planned.preview);
        }
        (None, why) => {
            let why = why.as_deref().unwrap_or_default();
            text += &format!(
                "targets     NOT LOOKED AT: {why}. At announce they are, and `sexton show` shows them\n"
            );
        }
    }
    text + "\nnothing was made"
}

/// What each instance holds of it, and for which steps that is.
fn targets(survey: &SurveyInfo, preview: &PreviewInfo) -> String {
    let looks: BTreeSet<(Stage, &str)> = preview
        .stages
        .iter()
        .flat_map(|stage| stage.steps.iter().map(move |step| (stage.stage, step)))
        .filter(|(_, step)| step.nature == Nature::Inspect)
        .map(|(stage, step)| (stage, step.name.as_str()))
        .collect();
    let mut all: BTreeMap<&Instance, (&Covered, Vec<String>)> = BTreeMap::new();
    for step in &survey.steps {
        let (Some(instance), Covered::Exact { .. } | Covered::NotLookedAt { .. }) =
            (&step.instance, &step.about)
        else {
            continue;
        };
        let (_, steps) = all.entry(instance).or_insert((&step.about, Vec::new()));
        if !looks.contains(&(step.stage, step.step.as_str())) {
            steps.push(format!("{} ({})", step.step, step.stage));
        }
    }
    let mut text = format!(
        "targets     as seen now (survey {}), and as a record would pin them at announce:\n",
        survey.survey
    );
    for (instance, (about, steps)) in all {
        text += &match about {
            Covered::Exact { things } if things.is_empty() => format!("  {instance}: nothing is there\n"),
            Covered::Exact { things } => format!("  {instance}:\n{}", lines(things)),
            Covered::NotLookedAt { why } => format!("  {instance}: NOT KNOWN, {why}\n"),
            Covered::Nothing => String::new(),
        };
        if !steps.is_empty() {
            text += &format!("      for {}\n", steps.join(", "));
        }
    }
    text
}

/// A line each, as many as a person reads.
fn lines(things: &[String]) -> String {
    let mut text: String = things.iter().take(NAMED_MAX).map(|thing| format!("      {thing}\n")).collect();
    if let Some(more) = things.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        text += &format!("      and {more} more, which -o json shows\n");
    }
    text
}

/// What a deletion would do, and what would stop it.
fn preview(preview: &PreviewInfo, on: NaiveDate) -> String {
    let PreviewInfo {
        resource,
        identity,
        zone,
        stages,
        cancel_until,
        data_until,
        late,
        crowd,
        silent,
        unannounced,
        review,
    } = preview;
    let which: Vec<_> = identity.attributes().map(|(name, value)| format!("{name} {value}")).collect();
    let zone = zone.map(|zone| format!(" ({})", zone.0.name())).unwrap_or_default();
    let mut text = format!("{resource} ({}) would be switched off on {on}{zone}\n", which.join(", "));
    if let Some(epoch) = review {
        text += &format!(
            "WARNING     the job table went back in time: nothing goes on until somebody has accepted the review of epoch {epoch} \
             (sexton review)\n"
        );
    }
    for late in late {
        text += &format!("WARNING     {late}\n");
    }
    if let Some(crowd) = crowd {
        text += &format!(
            "WARNING     {crowd}: it would be held until there is room, or somebody approves them\n"
        );
    }
    for instance in silent {
        text += &format!("WARNING     it needs {instance}, of which no consumer is there\n");
    }
    if let Some(why) = unannounced {
        text += &format!("WARNING     nobody would be told in time to say no: {why}\n");
    }
    let rows = stages.iter().flat_map(|stage| {
        let empty = stage.steps.is_empty().then(|| row(stage, None));
        stage.steps.iter().enumerate().map(|(n, step)| row(stage, Some((n, step)))).chain(empty)
    });
    text += &table(["", "from (UTC), at the earliest", "step", "by", "", "stopped now by"], rows);
    text += "\n";
    text += &belts(stages, *review);
    text += &format!(
        "\ncancel      takes everything back until hard begins: {} UTC at the earliest\n\
         rescue      its data is there until purge begins: {} UTC at the earliest\n",
        moment(*cancel_until),
        moment(*data_until),
    );
    text
}

/// What every belt says of each stage, as if it were to begin now; none lets it begin while there is a review, of this epoch.
fn belts(stages: &[StagePreview], review: Option<u32>) -> String {
    let mut text = match review {
        Some(epoch) => format!("belts now, if the review of epoch {epoch} were accepted\n"),
        None => "belts now\n".to_owned(),
    };
    for StagePreview { stage, belts, .. } in stages {
        let said = |one: &BeltPreview| match one.said.is_empty() {
            true => one.belt.words().to_owned(),
            false => format!("{} ({})", one.belt.words(), one.said),
        };
        for one in belts.iter().filter(|one| one.holds) {
            let name = stage.to_string();
            text += &format!("  {name:<10}HOLDS {}: {}\n", one.belt.words(), one.said);
        }
        let passes: Vec<_> = belts.iter().filter(|one| !one.holds).map(said).collect();
        let name = stage.to_string();
        text += &format!("  {name:<10}passes {}\n", passes.join(", "));
    }
    text
}

/// Whether it is in use, as its subsystems see it now.
fn in_use(survey: &SurveyInfo) -> String {
    let belt = Belt::InUse.words();
    let mut text = String::new();
    for look in &survey.looks {
        let instance = &look.instance;
        text += &match &look.answer {
            Some(Answer::Refused { reason }) => {
                format!("  announce  HOLDS {belt}, says {instance}: {reason}\n")
            }
            Some(Answer::Seen { .. }) => format!("  announce  passes {belt}, says {instance}\n"),
            Some(Answer::NotNow { reason } | Answer::NotAsked { reason }) => {
                format!("  announce  NOT KNOWN whether {belt}, {instance}: {reason}\n")
            }
            None => format!("  announce  NOT KNOWN whether {belt}: {instance} has not answered\n"),
        };
    }
    text
}

fn row(stage: &StagePreview, step: Option<(usize, &StepPreview)>) -> [String; 6] {
    let first = step.is_none_or(|(n, _)| n == 0);
    let once = |text: String| if first { text } else { String::new() };
    let step = step.map(|(_, step)| step);
    [
        once(stage.stage.to_string()),
        once(moment(Some(stage.at))),
        step.map(|step| step.name.clone()).unwrap_or_default(),
        step.and_then(|step| step.instance.as_ref()).map(ToString::to_string).unwrap_or_default(),
        step.map(|step| does(step.nature)).unwrap_or_default().to_owned(),
        step.and_then(|step| step.stopped.as_ref()).map(ToString::to_string).unwrap_or_default(),
    ]
}

/// What a step does to the world, in a word or two.
fn does(nature: Nature) -> &'static str {
    match nature {
        Nature::Inspect | Nature::Check => "looks",
        Nature::Adds => "only adds",
        Nature::Reversible => "can be undone",
        Nature::Destructive => "DESTROYS",
    }
}
