//! Working hours as they are configured: the section `[windows]`, its calendar of holidays, and what is said of both.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::NaiveDate;
use sexton_model::Timestamp;
use sexton_model::belts::Policy;
use sexton_model::belts::window::{Windows, Written};
use sexton_model::time::Day;
use sexton_service::Config;

pub mod calendar;

/// What the section `[windows]` comes to, with its calendar as it is now.
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
            Some(with_holidays(&windows, &config.path(file), now).map_err(mistake)?)
        }
        (windows, _) => windows,
    })
}

fn with_holidays(windows: &Windows, file: &Path, now: Timestamp) -> Result<Windows, String> {
    let wrong = |why: String| format!("holidays = {}: {why}", file.display());
    let days: BTreeSet<NaiveDate> =
        calendar::read(file, windows.zone(), now).map_err(|why| wrong(format!("{why:#}")))?;
    windows.clone().with_holidays(days).map_err(|why| wrong(why.to_string()))
}

/// The calendar of holidays, which is read again when it has changed.
///
/// One that cannot be used changes nothing: the one before it counts until it can. It was refused at the start; later on
/// there is something better to go by than no holidays, or no coordinator.
#[derive(Debug)]
pub struct Calendar {
    file: PathBuf,
    /// Without holidays.
    windows: Windows,
    seen: Mutex<Seen>,
}

/// What is known of the file.
#[derive(Debug, Default)]
struct Seen {
    /// As it was when it was read last; none if it never was.
    state: Option<FileState>,
    /// Why it could not be used.
    broken: Option<String>,
}

/// What differs if a file was changed, or another one was put in its place; none of a file that cannot be looked at.
type FileState = Option<(SystemTime, u64, u64)>;

fn state(file: &Path) -> FileState {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(file).ok()?;
    Some((found.modified().ok()?, found.len(), found.ino()))
}

impl Calendar {
    /// The one that the section `[windows]` names, if it names one.
    ///
    /// # Errors
    /// Naming the key that is wrong.
    pub fn of(config: &Config) -> anyhow::Result<Option<Self>> {
        if !config.has("windows") {
            return Ok(None);
        }
        let written: Written = config.section("windows")?;
        let windows = written.windows().map_err(|why| config.mistake("windows", why.to_string()))?;
        let calendar = |(windows, file): (Windows, &PathBuf)| Self {
            file: config.path(file),
            windows,
            seen: Mutex::default(),
        };
        Ok(windows.zip(written.holidays.as_ref()).map(calendar))
    }

    /// Look whether the file has changed since it was read, and read it if so: the hours by it, if it can be used. Blocks
    /// as files do.
    pub fn look(&self, now: Timestamp) -> Option<Windows> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before it is read: what is written meanwhile is read the next time.
        let state = state(&self.file);
        if seen.state.as_ref() == Some(&state) {
            return None;
        }
        let read = with_holidays(&self.windows, &self.file, now);
        // What cannot be used now is read again: what is wrong with it may be its rights, or not be its own at all.
        let state = read.is_ok().then_some(state);
        *seen = Seen { state, broken: read.as_ref().err().cloned() };
        read.ok()
    }

    /// Why the file as it is cannot be used.
    pub fn broken(&self) -> Option<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).broken.clone()
    }
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
             file"
        )
    })
}

#[cfg(test)]
mod tests;
