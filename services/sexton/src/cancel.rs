//! `sexton cancel`: one record, or all of a scope.
use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sexton_api::{CancelScope, Cancellation, Client};
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, Scope};

use crate::arguments::Format;
use crate::output::{counted, moment, short, table, write};

/// How much of a reason a table shows, in characters: `-o json` has all of it.
const WHY_MAX: usize = 100;

/// All of a scope, in the order in which they are restored.
#[derive(Debug, Serialize)]
struct Report {
    scope: Scope,
    dry_run: bool,
    items: Vec<Cancellation>,
}

impl Report {
    fn cancelled(&self) -> usize {
        self.items.iter().filter(|item| item.cancelled).count()
    }

    /// Those that are neither cancelled nor on their way back.
    fn failed(&self) -> usize {
        let back = |item: &&Cancellation| {
            item.cancelled || !item.status.live() || item.status == RecordStatus::Restoring
        };
        self.items.len() - self.items.iter().filter(back).count()
    }
}

/// Cancel one record, or, without a reason, show what that would restore.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn one(client: &Client, format: Format, what: &str, reason: Option<String>) -> anyhow::Result<()> {
    let before = client.deletion(what).await?;
    let (id, resource) = (before.id, &before.resource.id);
    let Some(reason) = reason else {
        let until = before.cancel_until;
        let shown = serde_json::json!({ "deletion": id, "undo": before.undo, "until": until });
        return write(format, &shown, |_| {
            let until =
                until.map(|at| format!("\nat least until {} UTC", moment(Some(at)))).unwrap_or_default();
            format!("{id} of {resource}: {}{until}", before.undo)
        });
    };
    let outcome = client.cancel(id, &reason).await?;
    write(format, &outcome, |o| {
        let word = o.status.word();
        match o.status.live() {
            true => format!("{id} of {resource} is {word}. sexton watch {id}"),
            // Nothing had been done yet that would have to be taken back.
            false => format!("{id} of {resource} is {word}, and over"),
        }
    })
}

/// Cancel all of a scope, or show what that would restore. Fails if one of them could not be cancelled.
///
/// # Errors
/// If nobody says that it is meant, or the coordinator refuses or cannot be asked.
pub async fn scope(
    client: &Client,
    format: Format,
    scope: &Scope,
    (dry_run, yes): (bool, bool),
    reason: Option<String>,
) -> anyhow::Result<ExitCode> {
    let preview = all(client, scope, "a preview", true).await?;
    if dry_run {
        write(format, &preview, text)?;
        return Ok(ExitCode::SUCCESS);
    }
    let reason = reason.context("--reason: say why")?;
    if !yes {
        confirm(&preview)?;
    }
    let done = all(client, scope, &reason, false).await?;
    write(format, &done, text)?;
    Ok(if done.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn confirm(preview: &Report) -> anyhow::Result<()> {
    let what = format!(
        "{} of {} would be cancelled, {} cannot be",
        counted(preview.cancelled(), "deletion"),
        preview.scope,
        preview.failed()
    );
    anyhow::ensure!(
        std::io::stdin().is_terminal(),
        "{what}. Say --yes if that is meant, or --dry-run to see them"
    );
    eprint!("{}\n{what}. Type the scope to go on: ", text(preview));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == preview.scope.to_string(), "nothing was cancelled");
    Ok(())
}

/// Page after page. What was done when it fails stays done: repeating it goes on with the others.
async fn all(client: &Client, scope: &Scope, reason: &str, dry_run: bool) -> anyhow::Result<Report> {
    let style = ProgressStyle::with_template("{wide_bar} {pos} of {len} {msg}");
    let bar = ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(if dry_run { "looked at" } else { "cancelled" });
    let (scope, reason) = (scope.clone(), reason.to_owned());
    let mut body = CancelScope { scope: scope.clone(), reason, dry_run, after: None, limit: None };
    let mut found: BTreeMap<DeletionId, Cancellation> = BTreeMap::new();
    loop {
        let page = client.cancel_scope(&body).await.with_context(|| {
            format!("after {}: say it again to go on with the others", counted(found.len(), "record"))
        })?;
        for item in page.items {
            // What could not be cancelled is tried a second time, and whose priority was changed may come again.
            if found.get(&item.deletion).is_none_or(|before| !before.cancelled) {
                found.insert(item.deletion, item);
            }
        }
        // Those that are cancelled meanwhile may be over, and are not counted any more.
        bar.set_length(page.live.max(bar.length().unwrap_or_default()));
        bar.set_position(found.len() as u64);
        body.after = page.next;
        if body.after.is_none() {
            bar.finish_and_clear();
            let mut items: Vec<Cancellation> = found.into_values().collect();
            items.sort_by_key(|item| (item.priority, item.deletion));
            return Ok(Report { scope, dry_run, items });
        }
    }
}

fn text(report: &Report) -> String {
    if report.items.is_empty() {
        return format!("no deletion of {} is live", report.scope);
    }
    let rows = report.items.iter().map(|item| {
        let verdict = match (item.cancelled, report.dry_run) {
            (true, true) => "would come back",
            (true, false) => "cancelled",
            (false, _) if item.status == RecordStatus::Restoring => "comes back already",
            (false, _) => "NOT CANCELLED",
        };
        let what = if item.why.is_empty() { item.restores.join(", ") } else { item.why.clone() };
        [
            item.priority.to_string(),
            item.deletion.to_string(),
            item.resource.to_string(),
            verdict.to_owned(),
            moment(item.until),
            short(&what, WHY_MAX),
        ]
    });
    let text = table(["priority", "record", "resource", "", "until (UTC)", "takes back, or why not"], rows);
    let (cancelled, failed) = (counted(report.cancelled(), "deletion"), report.failed());
    let done = if report.dry_run { "would be cancelled" } else { "cancelled" };
    text + &format!("\n\n{cancelled} {done}, {failed} cannot be: save those by hand, then sexton rescue\n")
}
