//! The report of a run, in Markdown. That of the last long run is kept (`tests/chaos-report.md`), and read by a test.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use sexton_model::deletion::RecordStatus;

use super::fault::Server;
use super::judge::Judged;
use super::notes::Notes;
use super::schedule::{Breakable, Tally};
use super::{COPIES, Size};
use crate::machine::Herd;
use crate::program::run;

/// What the row is called that says how it ended, and what it says if everything is as it must be.
const VERDICT: &str = "verdict";
const HELD: &str = "held";
const GUESTS: &str = "QEMU guests";
/// The table of faults.
const FAULTS: &str = "Faults";
/// The table of those that did not count.
const IN_VAIN: &str = "Faults that came to nothing";
/// What makes a fault count, and what nobody sees.
const COUNTED: &str = "A fault counts if something came of it: somebody was killed or stopped, connections were cut or \
    had to wait, answers were lost, messages were purged or forged, a full queue refused one (so that one stays full, all processes \
    of one consumer are dead as long), or who was cut off said something that nobody heard. Whether a process would have done anything while it was stopped or dead is not seen.";
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
    let ground =
        if size.short { "files and HTTP" } else { "QEMU, BIND, Kea, restic, Prometheus, SMTP, HTTP" };
    row("machines", &format!("{} on {ground}", size.herd.machines));
    row(GUESTS, &guests(size).to_string());
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
    writeln!(text, "\n{COUNTED}").unwrap();
    text += &table(IN_VAIN, "times", &tally.in_vain);
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
    let mut words: BTreeMap<String, usize> = BTreeMap::new();
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
    let shown: Vec<String> =
        notes.shown().into_iter().map(|(part, times)| format!("{part:?} {times}")).collect();
    // Volumes that are files cannot be asked for.
    let needed = if size.short { "address or name" } else { "address, name or volume" };
    lines.push(format!(
        "what subsystems show themselves at {} random moments on the way (how often each part was shown: {}): nothing was gone \
         of a machine before the stage had begun that takes it away, or after its deletion was taken back, and no {needed} \
         before its machine was undefined (I6), nor an archive before its schedule",
        notes.glimpses(),
        shown.join(", ")
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

/// What a report says: its first table, and the others by their titles.
#[derive(Debug, Default)]
struct Said {
    rows: BTreeMap<String, String>,
    tables: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Said {
    fn parse(text: &str) -> Self {
        let (mut said, mut title) = (Self::default(), None);
        for line in text.lines() {
            if let Some(section) = line.strip_prefix("## ") {
                title = Some(section.to_owned());
            }
            let cells = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |"));
            let Some((name, value)) = cells.and_then(|cells| cells.split_once(" | ")) else { continue };
            match (&title, value.parse()) {
                (Some(title), Ok(many)) => {
                    said.tables.entry(title.clone()).or_default().insert(name.to_owned(), many);
                }
                (Some(_), Err(_)) => {}
                (None, _) => drop(said.rows.insert(name.to_owned(), value.to_owned())),
            }
        }
        said
    }

    fn row(&self, name: &str) -> &str {
        self.rows.get(name).map_or("", String::as_str)
    }

    fn table(&self, title: &str) -> BTreeMap<String, usize> {
        self.tables.get(title).cloned().unwrap_or_default()
    }

    /// Why it is not the report of a long run of this program in which everything held.
    fn wanting(&self) -> Vec<String> {
        let mut wanting = Vec::new();
        let mut want = |holds: bool, what: &str| wanting.extend((!holds).then(|| what.to_owned()));
        want(self.row(VERDICT) == HELD, "a verdict: held");
        want(chrono::NaiveDate::parse_from_str(self.row("date"), "%F").is_ok(), "a date");
        want(self.row("seed").parse::<u64>().is_ok(), "a seed");
        want(self.row(GUESTS).parse().is_ok_and(|guests: usize| guests > 0), "guests");
        let (faults, machines) = (self.table(FAULTS), self.table(MACHINES));
        want(faults.values().sum::<usize>() >= 500, "500 faults");
        want(machines.values().sum::<usize>() >= 300, "300 machines");
        let came = faults.iter().filter(|(_, times)| **times > 0).map(|(sort, _)| sort.clone());
        let came: BTreeSet<String> = came.collect();
        let can_come = Breakable::in_a_long_run().sorts();
        want(came == can_come, &format!("each sort of fault that there is, and no other: {can_come:?}"));
        let lost = self.table(ANSWERS);
        for server in [Server::Broker, Server::Database, Server::Kea, Server::Hooks] {
            let some = lost.get(server.word()).is_some_and(|pieces| *pieces > 0);
            want(some, &format!("answers of the {} that were lost", server.word()));
        }
        wanting
    }
}

#[test]
fn what_a_report_of_a_long_run_has_to_say_is_read_in_it() {
    let herd = Herd { machines: 300, retired: 150, cancelled: 120, runs: |number| number.is_multiple_of(7) };
    let size = Size { short: false, herd, ..Size::of_a_test() };
    let (mut tally, mut judged) = (Tally::default(), Judged::default());
    tally.faults = Breakable::in_a_long_run().sorts().into_iter().map(|sort| (sort, 25)).collect();
    for server in [Server::Broker, Server::Database, Server::Kea, Server::Hooks] {
        tally.answers.insert(server.word().to_owned(), 7);
    }
    for number in 1..=270 {
        let status = if number <= 150 { RecordStatus::Recycled } else { RecordStatus::Cancelled };
        judged.outcomes.insert(format!("vm/vm{number:03}"), status);
    }
    let notes = Notes::begin(None);
    let whole = text(&size, &tally, &notes, &judged, true);
    assert_eq!(Said::parse(&whole).wanting(), Vec::<String>::new(), "{whole}");
    let machines = Said::parse(&whole).table(MACHINES);
    assert_eq!((machines["recycled"], machines["cancelled"], machines.len()), (150, 120, 3), "{machines:?}");

    let without = |row: &str| {
        let lines = whole.lines().filter(|line| !line.starts_with(&format!("| {row} | ")));
        Said::parse(&lines.collect::<Vec<_>>().join("\n")).wanting().len()
    };
    for row in ["verdict", "date", "seed", GUESTS, "broker killed", "recycled", "hooked services"] {
        assert_eq!(without(row), 1, "{row}");
    }
    let mut without_one = tally.clone();
    let (sort, times) = without_one.faults.pop_first().unwrap();
    without_one.in_vain.insert(sort, times);
    let wanting = Said::parse(&text(&size, &without_one, &notes, &judged, true)).wanting();
    assert_eq!(wanting.len(), 1, "what came to nothing has not come: {wanting:?}");
    notes.mistake("something is not as it must be".to_owned());
    let failed = text(&size, &tally, &notes, &judged, true);
    assert_eq!(Said::parse(&failed).wanting(), ["a verdict: held"]);
    assert!(!Said::parse(&text(&size, &tally, &notes, &judged, false)).wanting().is_empty());
}
