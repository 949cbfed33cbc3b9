//! A digest as people read it, in mail and on a terminal.
use std::fmt::{self, Formatter, Write as _};

use crate::belts::census::foreign::Foreign;
use crate::belts::census::misplaced::{ListedElsewhere, Misplaced};
use crate::digest::{AHEAD_DAYS, Coming, Digest, Listed, Outstanding, Overdue, Still};
use crate::job::Stage;
use crate::time::{Timestamp, rehearsal_notice};

/// Lines of one list: a digest that nobody reads to its end is none. All that is kept is in its JSON.
const SHOWN: usize = 20;

impl Digest {
    /// It in a line.
    pub fn headline(&self) -> String {
        let due: u64 = self.coming_stages.values().sum();
        let mut parts = vec![format!("{due} stages due in {AHEAD_DAYS} days")];
        let counted = |list: usize, more: u64| list as u64 + more;
        let foreign: u64 = self.foreign.items.iter().map(|one| one.count).sum();
        let misplaced: u64 = self.misplaced.items.iter().map(|one| one.count).sum();
        for (count, what) in [
            (counted(self.alarms.items.len(), self.alarms.more), "open alarms"),
            (foreign, "deleted by others"),
            (misplaced, "listed in another scope"),
            (counted(self.credentials.items.len(), self.credentials.more), "overdue credentials"),
            (counted(self.gone_by.items.len(), self.gone_by.more), "missed dates"),
            (counted(self.not_back.items.len(), self.not_back.more), "cancelled and not back"),
            (counted(self.parked.items.len(), self.parked.more), "parked"),
            (counted(self.untold.items.len(), self.untold.more), "not told yet"),
            (counted(self.held.items.len(), self.held.more), "held"),
        ] {
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.join(", ")
    }
}

pub(super) fn write(digest: &Digest, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "Digest of {} ({}), made at {}", digest.day, digest.zone, minute(digest.made_at))?;
    if let Some(length) = digest.rehearsal_day_ms {
        writeln!(f, "{}", rehearsal_notice(length))?;
    }
    writeln!(f, "{}", digest.headline())?;
    for lack in &digest.lacks {
        writeln!(f, "{lack}")?;
    }

    list(f, "Open alarms, the worst first", &digest.alarms, |one| {
        let seen =
            one.acknowledged.as_ref().map(|seen| format!(" (seen by {})", seen.by)).unwrap_or_default();
        format!("{}: {} {} since {}{seen}: {}", one.id, one.severity, one.kind, minute(one.since), one.text)
    })?;
    list(f, "Cancelled, and not back, the longest first", &digest.not_back, still)?;
    list(f, "Credentials that should be gone", &digest.credentials, overdue)?;
    list(f, "Dates that were missed", &digest.gone_by, overdue)?;
    list(f, "Paused, the longest first", &digest.pauses, |one| {
        format!(
            "pause {} of {} since {}, by {}: {}",
            one.id,
            one.covers,
            minute(one.since),
            one.by,
            one.reason
        )
    })?;
    list(
        f,
        "Deleted by others, or registered wrongly, as censuses of the last day found",
        &digest.foreign,
        foreign,
    )?;
    list(
        f,
        "Listed in another scope than they are registered in, as censuses of the last day found",
        &digest.misplaced,
        misplaced,
    )?;
    list(f, "Batches that exceed a budget", &digest.batches, |one| {
        let next = if one.needs_approval { "needs approval" } else { "waits for its turn" };
        format!(
            "batch {} {next} since {}: {} of {} in {} before {}: {}",
            one.batch,
            minute(one.since),
            one.waiting,
            one.kind,
            one.scope,
            one.stage,
            one.why
        )
    })?;
    ahead(digest, f)?;
    list(f, "Parked, the longest first", &digest.parked, still)?;
    list(f, "Not everybody could be told yet, the longest first", &digest.untold, still)?;
    let by: Vec<String> = digest.held_by.iter().map(|(by, count)| format!("{count} by {by}")).collect();
    let title = match by.is_empty() {
        true => "Held".to_owned(),
        false => format!("Held ({}), the longest first", by.join(", ")),
    };
    list(f, &title, &digest.held, still)
}

fn ahead(digest: &Digest, f: &mut Formatter<'_>) -> fmt::Result {
    writeln!(f, "\nDue in the next {AHEAD_DAYS} days, by scope and stage:")?;
    if digest.coming.items.is_empty() {
        return writeln!(f, "  nothing");
    }
    let mut scopes: Vec<(&str, String)> = Vec::new();
    for Coming { scope, stage, count } in &digest.coming.items {
        match scopes.last_mut() {
            Some((last, line)) if *last == scope.as_str() => write!(line, ", {count} {stage}")?,
            _ => scopes.push((scope.as_str(), format!("{count} {stage}"))),
        }
    }
    for (scope, line) in scopes.iter().take(SHOWN) {
        writeln!(f, "  {scope}: {line}")?;
    }
    let left = scopes.len().saturating_sub(SHOWN);
    if left > 0 || digest.coming.more > 0 {
        writeln!(f, "  and more: {left} scopes and {} lines", digest.coming.more)?;
    }
    let count = |stage: &Stage| digest.coming_stages.get(stage).map(|count| format!("{count} {stage}"));
    let stages: Vec<String> = Stage::ALL.iter().filter_map(count).collect();
    writeln!(f, "  in all: {}", stages.join(", "))?;
    match digest.compared_weeks {
        0 => writeln!(f, "\nThere is no digest of a week ago yet to compare that with."),
        weeks => {
            let title = format!("Stands out against {weeks} of the last weeks");
            list(f, &title, &digest.stands_out, |one| {
                let Outstanding { scope, stage, count, average_tenths } = one;
                let place = scope.as_ref().map_or("all scopes".to_owned(), ToString::to_string);
                let (whole, tenth) = (average_tenths / 10, average_tenths % 10);
                format!("{place}: {count} {stage}, where a week has {whole}.{tenth}")
            })
        }
    }
}

fn foreign(one: &Foreign) -> String {
    let named: Vec<String> = one.named.iter().map(ToString::to_string).collect();
    let which = match one.count.saturating_sub(one.named.len() as u64) {
        0 => named.join(", "),
        _ if named.is_empty() => "not named, for more are missing than are kept by name".to_owned(),
        more => format!("{} and {more} more", named.join(", ")),
    };
    format!(
        "{} of {} in {}, found by census {} at {}: {which}",
        one.count,
        one.kind,
        one.scope,
        one.census,
        minute(one.found_at),
    )
}

fn misplaced(one: &ListedElsewhere) -> String {
    let place = |one: &Misplaced| {
        let Misplaced { id, listed_in, registered_in } = one;
        format!("{id} (listed in {listed_in}, registered in {registered_in})")
    };
    let named: Vec<String> = one.named.iter().map(place).collect();
    let more = match one.count.saturating_sub(one.named.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} of {}, found by census {} of {} at {}: {}{more}",
        one.count,
        one.kind,
        one.census,
        one.scope,
        minute(one.found_at),
        named.join(", ")
    )
}

fn overdue(one: &Overdue) -> String {
    format!(
        "{} {} in {} since {}: {}{}",
        one.deletion,
        one.resource,
        one.scope,
        minute(one.since),
        one.why,
        undo(&one.undo)
    )
}

fn still(one: &Still) -> String {
    let since = one.since.map(|since| format!(" since {}", minute(since))).unwrap_or_default();
    let undo = undo(&one.undo);
    format!("{} {} of {} in {}{since}: {}{undo}", one.deletion, one.job, one.resource, one.scope, one.why)
}

fn undo(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" [undo: {said}]") }
}

fn list<T>(f: &mut Formatter<'_>, title: &str, of: &Listed<T>, line: impl Fn(&T) -> String) -> fmt::Result {
    if of.items.is_empty() && of.more == 0 {
        return Ok(());
    }
    writeln!(f, "\n{title}:")?;
    for one in of.items.iter().take(SHOWN) {
        writeln!(f, "  {}", line(one))?;
    }
    match of.items.len().saturating_sub(SHOWN) as u64 + of.more {
        0 => Ok(()),
        more => writeln!(f, "  and {more} more"),
    }
}

fn minute(at: Timestamp) -> String {
    at.utc().format("%Y-%m-%d %H:%M UTC").to_string()
}
