//! Drills: whether a cancel brings back what was switched off.
use std::process::ExitCode;

use sexton_api::{Client, DrillsInfo};
use sexton_model::drill::Drill;

use crate::arguments::{DrillCommand, Format};
use crate::output::{moment, short, table, write};

/// List the last ones; or begin one with each resource. Fails if a person has to look.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn drills(
    client: &Client,
    format: Format,
    command: Option<DrillCommand>,
) -> anyhow::Result<ExitCode> {
    let info = match command {
        None => client.drills().await?,
        Some(DrillCommand::Run) => client.run_drills().await?,
    };
    write(format, &info, list)?;
    let alarming = |drill: &Drill| drill.standing().is_some_and(|judged| judged.verdict.alarms());
    Ok(if info.drills.iter().any(alarming) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list(info: &DrillsInfo) -> String {
    let mut text = info.off.as_ref().map_or_else(String::new, |why| format!("NO DRILLS ARE HELD: {why}\n"));
    if info.drills.is_empty() {
        return text + "no drill was ever held";
    }
    let line = |drill: &Drill| {
        let standing = drill.standing();
        let verdict = match (&drill.judged, &drill.before) {
            (Some(judged), _) => judged.verdict.word().to_owned(),
            (None, None) => "goes on".to_owned(),
            (None, Some(before)) => format!("goes on, before: {}", before.verdict.word()),
        };
        [
            drill.resource.to_string(),
            drill.deletion.map(|deletion| deletion.to_string()).unwrap_or_default(),
            drill.by.to_string(),
            moment(Some(drill.begun_at)),
            moment(Some(drill.finish_by)),
            verdict,
            short(standing.map_or("", |judged| judged.verdict.text()), 80),
        ]
    };
    let heading = ["with", "record", "by", "begun (UTC)", "over by (UTC)", "verdict", ""];
    text += &table(heading, info.drills.iter().map(line));
    text
}
