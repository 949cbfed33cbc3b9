//! Working hours as they are configured: the section `[windows]`, its calendar of holidays, and what is said of both.
use std::collections::BTreeSet;

use chrono::NaiveDate;
use sexton_model::Timestamp;
use sexton_model::belts::Policy;
use sexton_model::belts::window::{Windows, Written};
use sexton_model::time::Day;
use sexton_service::Config;

pub mod calendar;

/// What the section `[windows]` comes to. Its calendar is read once: a new one counts from the next start on.
///
/// # Errors
/// Naming the key that is wrong, or the event of the calendar.
pub fn windows(config: &Config, now: Timestamp) -> anyhow::Result<Option<Windows>> {
    if !config.has("windows") {
        return Ok(Some(Windows::default()));
    }
    let written: Written = config.section("windows")?;
    let mistake = |why: String| config.mistake("windows", why);
    let windows = written.windows().map_err(|why| mistake(why.to_string()))?;
    Ok(match (windows, &written.holidays) {
        (Some(windows), Some(file)) => {
            let file = config.path(file);
            let wrong = |why: String| mistake(format!("holidays = {}: {why}", file.display()));
            let days: BTreeSet<NaiveDate> =
                calendar::read(&file, windows.zone(), now).map_err(|why| wrong(format!("{why:#}")))?;
            Some(windows.with_holidays(days).map_err(|why| wrong(why.to_string()))?)
        }
        (windows, _) => windows,
    })
}

/// Say in the log when stages past the end of cancel begin.
pub fn tell(policy: &Policy, day: Day, configured: bool, now: Timestamp) {
    let Some(windows) = policy.windows.as_ref().filter(|_| !day.is_rehearsal()) else {
        let why = if day.is_rehearsal() { "this is a rehearsal" } else { "[windows] says always = true" };
        tracing::info!(why, "hard, purge and recycle begin at any hour");
        return;
    };
    let hours = windows.to_string();
    if let Some(why) = outlived(windows, now) {
        tracing::warn!("{why}");
    }
    if configured {
        let holidays_until =
            windows.last_holiday().map_or("none are known".to_owned(), |day| day.to_string());
        tracing::info!(hours, holidays_until, "hard, purge and recycle begin in working hours only");
    } else {
        tracing::info!(
            hours,
            "hard, purge and recycle begin in working hours only; there is no [windows], so these are the default, in UTC \
             and without holidays"
        );
    }
}

/// What is wrong with a calendar that has come to its end.
pub fn outlived(windows: &Windows, now: Timestamp) -> Option<String> {
    windows.outlived(now).map(|last| {
        format!(
            "the calendar of holidays ended on {last}: later holidays count as working days; give [windows] a newer \
             file and start the coordinators again"
        )
    })
}

#[cfg(test)]
mod tests;
