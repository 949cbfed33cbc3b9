//! The report of a run, in Markdown.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::judge::Judged;
use super::notes::Notes;
use super::{COPIES, Size};
use crate::program::run;

/// Write it, if it is wanted. `whole`: all records were over.
pub fn write(
    size: &Size,
    tally: &BTreeMap<String, usize>,
    notes: &Notes,
    judged: &Judged,
    whole: bool,
) -> String {
    let text = text(size, tally, notes, judged, whole);
    if let Some(file) = &size.report {
        std::fs::write(file, &text).unwrap();
    }
    text
}

fn text(size: &Size, tally: &BTreeMap<String, usize>, notes: &Notes, judged: &Judged, whole: bool) -> String {
    let mut text = String::from("# What broke, and what came of it\n\n");
    let mut row = |name: &str, value: &str| writeln!(text, "| {name} | {value} |").unwrap();
    row("", "");
    row("---", "---");
    row("date", run(Command::new("date").args(["-u", "+%F"])).trim());
    row("version", &version());
    row("seed", &size.seed.to_string());
    let ground = if size.short { "files" } else { "QEMU, BIND, Kea, restic, Prometheus, SMTP, HTTP" };
    row("machines", &format!("{} on {ground}", size.herd.machines));
    row("brokers", &size.brokers.to_string());
    row("second processes of", COPIES);
    row("faults", &format!("{}, at most {} at once", notes.faults(), size.at_once));
    row("time", &format!("{} s, in which a day lasts {} ms", notes.elapsed().as_secs(), size.day_ms));
    row("decisions", &judged.events.to_string());
    row("holds", &judged.holds.to_string());
    let known = notes.known();
    row(
        "pauses, and deletions that were approved",
        &format!("{}, {}", known.pauses.len(), known.approved.len()),
    );
    row("audit chains that hold", &judged.chains.to_string());
    if !whole {
        text += "\n**It did not end.** What was seen until then:\n";
    }
    text += "\n## Faults\n\n| | times |\n| --- | --- |\n";
    for (sort, times) in tally {
        writeln!(text, "| {sort} | {times} |").unwrap();
    }
    text += "\n## Records\n\n| | |\n| --- | --- |\n";
    for (status, many) in &judged.ended {
        writeln!(text, "| {} | {many} |", status.word()).unwrap();
    }
    text += "\n## What waited for a person\n\n";
    text += &list(&notes.all_parked());
    text += "\n## Mistakes\n\n";
    text += &list(&notes.all_mistakes());
    text
}

fn list(lines: &[String]) -> String {
    if lines.is_empty() {
        return "Nothing.\n".to_owned();
    }
    lines.iter().map(|line| format!("- {line}\n")).collect()
}

/// That of the crates, and the commit if there is one.
fn version() -> String {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let commit = Command::new("git").arg("-C").arg(top).args(["rev-parse", "--short", "HEAD"]).output();
    let commit = commit.ok().filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!("{} {}", env!("CARGO_PKG_VERSION"), commit.unwrap_or_default()).trim().to_owned()
}
