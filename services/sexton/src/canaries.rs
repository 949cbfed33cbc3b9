//! Canaries: what must be refused, and whether it is.
use std::process::ExitCode;
use std::time::Duration;

use sexton_api::{CanariesInfo, Client};
use sexton_model::canary::Canary;

use crate::arguments::{CanariesCommand, Format};
use crate::output::{counted, moment, short, table, write};

/// Between two looks while a run is open.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// List the last run; or have one, and wait for what comes of it. Fails if a person has to look.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn canaries(
    client: &Client,
    format: Format,
    command: Option<CanariesCommand>,
) -> anyhow::Result<ExitCode> {
    let mut info = match command {
        None => client.canaries().await?,
        Some(CanariesCommand::Run { .. }) => client.run_canaries().await?,
    };
    if let Some(CanariesCommand::Run { no_wait: false }) = command {
        // Each is answered, or missed, within a time that the coordinator is configured with.
        while info.canaries.iter().any(Canary::is_open) {
            tokio::time::sleep(LOOK_EVERY).await;
            info = client.canaries().await?;
        }
    }
    write(format, &info, list)?;
    let alarming = |canary: &Canary| canary.standing().is_some_and(|judged| judged.verdict.alarms());
    Ok(if info.canaries.iter().any(alarming) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list(info: &CanariesInfo) -> String {
    let mut text = info.off.as_ref().map_or_else(String::new, |why| format!("NO CANARIES ARE SENT: {why}\n"));
    match info.canaries.first() {
        None => text += "no canary was ever sent",
        Some(first) => {
            let many = counted(info.canaries.len(), "canary").replace("canarys", "canaries");
            text += &format!(
                "run {}, {many}, begun {} by {}\n",
                first.run,
                moment(Some(first.begun_at)),
                first.by
            );
            text += &lines(&info.canaries);
        }
    }
    text
}

/// A line each.
pub fn lines(canaries: &[Canary]) -> String {
    let line = |canary: &Canary| {
        let standing = canary.standing();
        let verdict = match (&canary.judged, &canary.before) {
            (Some(judged), _) => judged.verdict.word().to_owned(),
            (None, None) => "open".to_owned(),
            (None, Some(before)) => format!("open, before: {}", before.verdict.word()),
        };
        [
            canary.probe.word().to_owned(),
            canary.probe.asked(),
            canary.probe.about(),
            canary.probe.must().to_owned(),
            verdict,
            moment(standing.map(|judged| judged.at)),
            short(standing.map_or("", |judged| judged.verdict.text()), 80),
        ]
    };
    let heading = ["canary", "asked", "about", "must be", "verdict", "since (UTC)", ""];
    table(heading, canaries.iter().map(line))
}
