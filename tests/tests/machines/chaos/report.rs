//! The report of a run, in Markdown. That of the last long run is kept (`tests/chaos-report.md`), and read by a test.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use sexton_model::deletion::RecordStatus;

use super::judge::Judged;
use super::notes::Notes;
use super::schedule::Tally;
use super::{COPIES, Size};
use crate::program::run;

/// What the row is called that says how it ended, and what it says if everything is as it must be.
const VERDICT: &str = "verdict";
const HELD: &str = "held";
/// The table of faults.
const FAULTS: &str = "Faults";
/// The table of answers.
const ANSWERS: &str = "Answers that were lost";
/// The table of machines.
const MACHINES: &str = "Machines";

/// What is judged by the job table, on the way and in the end.
const BY_RECORDS: &[&str] = &[
    "I1: no stage began before its date, or before the grace since the one before it was over",
    "I3: at most one job had a resource, and at most one order was out",
    "I4: nothing went on after a cancel, what can be cancelled destroyed nothing, and what was taken back was looked at again",
    "I5: nothing was cancelled once its hard stage was claimed, and nothing was ordered in a record that was over",
    "I6, I7: steps came in the order of their plan, none was left out, and none ended a record that was not seen to be done",
    "I9, I10: what was not seen to be absent was not taken for it; orders ascended, and the answer counted that was asked for last",
    "I11: no soft began that nobody had approved",
    "I12: each decision was written once, and every chain of the audit trail holds",
    "I13: in the end every record was over as it was meant to be",
    "I15: nothing was ordered between the return of an older job table and its acceptance",
    "nothing began or went on while everything was paused, or while somebody held it",
];

/// Write it, if it is wanted. `whole`: all records were over.
pub fn write(size: &Size, tally: &Tally, notes: &Notes, judged: &Judged, whole: bool) -> String {
    let text = text(size, tally, notes, judged, whole);
    if let Some(file) = &size.report {
        std::fs::write(file, &text).unwrap();
    }
    text
}

fn text(size: &Size, tally: &Tally, notes: &Notes, judged: &Judged, whole: bool) -> String {
    let mut text = String::from("# What broke, and what came of it\n\n");
    let mut row = |name: &str, value: &str| writeln!(text, "| {name} | {value} |").unwrap();
    row("", "");
    row("---", "---");
    row("date", run(Command::new("date").args(["-u", "+%F"])).trim());
    row("version", &version());
    row("seed", &size.seed.to_string());
    row(VERDICT, &verdict(notes.all_mistakes().len(), whole));
    row("played on", &played_on());
    let ground = if size.short { "files" } else { "QEMU, BIND, Kea, restic, Prometheus, SMTP, HTTP" };
    row("machines", &format!("{} on {ground}", size.herd.machines));
    row("QEMU guests", &guests(size).to_string());
    row("brokers", &size.brokers.to_string());
    row("second processes of", COPIES);
    row("faults", &format!("{}, at most {} at once", notes.faults(), size.at_once));
    row("time", &format!("{} s, in which a day lasts {} ms", notes.elapsed().as_secs(), size.day_ms));
    row("decisions", &judged.events.to_string());
    row(
        "orders given, and answers with which a job went on",
        &format!("{}, {}", judged.orders, judged.steps),
    );
    row("holds", &judged.holds.to_string());
    let known = notes.known();
    row(
        "pauses, and deletions that were approved",
        &format!("{}, {}", known.pauses.len(), known.approved.len()),
    );
    row("times the job table was put back", &known.reviews.len().to_string());
    if !whole {
        text += "\n**It did not end.** What was seen until then:\n";
    }
    text += &table(FAULTS, "times", &tally.faults);
    text += &table(ANSWERS, "pieces", &tally.answers);
    text += &table("Services that ended by themselves, and were started again", "times", &tally.ended);
    // Before the end nobody has looked what became of them.
    if whole {
        text += &table(MACHINES, "how many", &machines(size, judged));
    }
    text +=
        &table("Records", "how many", &by_word(judged.ended.iter().map(|(status, many)| (*status, *many))));
    text += "\n## What was checked\n\n";
    text += &list(&checked(size, notes, judged));
    text += "\n## What waited for a person\n\n";
    text += &list(&notes.all_parked());
    text += "\n## Mistakes\n\n";
    text += &list(&notes.all_mistakes());
    text
}

fn verdict(mistakes: usize, whole: bool) -> String {
    match (mistakes, whole) {
        (0, true) => HELD.to_owned(),
        (mistakes, true) => format!("not {HELD}: {mistakes} mistakes"),
        (mistakes, false) => format!("it did not end; {mistakes} mistakes until then"),
    }
}

/// Processor, cores and memory.
fn played_on() -> String {
    let line = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().find(|line| line.starts_with(name));
        found.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = line("/proc/meminfo", "MemTotal").unwrap_or_default();
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let processor = line("/proc/cpuinfo", "model name").unwrap_or_default();
    format!("{cores} cores ({processor}), {} MiB of memory", kib / 1024)
}

/// Machines that run, under an emulator.
fn guests(size: &Size) -> usize {
    if size.short { 0 } else { (1..=size.herd.machines).filter(|number| (size.herd.runs)(*number)).count() }
}

/// What became of them.
fn machines(size: &Size, judged: &Judged) -> BTreeMap<String, usize> {
    let mut machines = by_word(judged.outcomes.values().map(|status| (*status, 1)));
    let left_alone = size.herd.machines.saturating_sub(judged.outcomes.len());
    machines.insert("nobody asked for it to be deleted".to_owned(), left_alone);
    machines
}

fn by_word(counted: impl Iterator<Item = (RecordStatus, usize)>) -> BTreeMap<String, usize> {
    let mut words = BTreeMap::new();
    for (status, many) in counted {
        *words.entry(status.word().to_owned()).or_default() += many;
    }
    words
}

fn checked(size: &Size, notes: &Notes, judged: &Judged) -> Vec<String> {
    let mut lines: Vec<String> = BY_RECORDS.iter().map(|line| (*line).to_owned()).collect();
    lines.push(format!(
        "all of this by the job table itself, {} times on the way and once in the end, when {} chains were verified",
        notes.looks(),
        judged.chains
    ));
    let (glimpses, answered) = notes.glimpses();
    lines.push(format!(
        "what subsystems show themselves at {glimpses} random moments on the way (they answered {answered} times): nothing was \
         gone of a machine before the stage had begun that takes it away, or after its deletion was taken back, and no address, \
         name or volume before its machine was undefined (I6), nor an archive before its schedule"
    ));
    lines.push(if size.short {
        "what the files of each machine show in the end: gone, as before, or untouched, as its record says".to_owned()
    } else {
        "what QEMU, BIND, Kea, restic, Prometheus, the mailbox and the hooks' server show of each machine in the end: gone, \
         as before, or untouched, as its record says"
            .to_owned()
    });
    lines
}

/// A section with a table of two columns.
fn table(title: &str, counted: &str, rows: &BTreeMap<String, usize>) -> String {
    let rows: String = rows.iter().map(|(what, many)| format!("| {what} | {many} |\n")).collect();
    format!("\n## {title}\n\n| | {counted} |\n| --- | --- |\n{rows}")
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
