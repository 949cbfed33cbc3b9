//! What one sees: a bar per machine while it runs, then tables.
use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use sexton_ledger::DeletionView;
use sexton_model::DeletionId;
use sexton_model::audit::AuditEvent;
use sexton_model::job::{JobKind, JobState};

use super::Expectation;
use crate::arguments::Format;
use crate::output::{counted, short, table};

/// How much of an event's detail is shown, in characters.
const DETAIL_MAX: usize = 60;

/// Bars of the records that are followed.
pub struct Screen {
    all: MultiProgress,
    bars: BTreeMap<DeletionId, Bar>,
    plain: bool,
    format: Format,
}

struct Bar {
    name: String,
    bar: ProgressBar,
    last: String,
}

impl Screen {
    /// A bar per record. Without a terminal, a line whenever something changes.
    pub fn new(records: &[(&str, DeletionId)], format: Format) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:6} {bar:30.cyan/blue} {pos:>2}/{len:2} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars = records
            .iter()
            .map(|(name, id)| {
                let bar =
                    all.add(ProgressBar::new(1).with_style(style.clone()).with_prefix((*name).to_owned()));
                bar.enable_steady_tick(Duration::from_millis(100));
                (*id, Bar { name: (*name).to_owned(), bar, last: String::new() })
            })
            .collect();
        let plain = all.is_hidden();
        Self { all, bars, plain, format }
    }

    /// Show where a record stands.
    pub fn update(&mut self, view: &DeletionView, kills: u32) {
        let deletion = &view.deletion;
        let Some(bar) = self.bars.get_mut(&deletion.id) else { return };
        let restoring = deletion.jobs.iter().find(|j| j.kind == JobKind::Restore);
        let (done, total) = match restoring {
            Some(job) => (usize::from(job.cursor), deletion.undo_list().len()),
            None => {
                let done = deletion.jobs.iter().map(|j| usize::from(j.cursor)).sum();
                (done, deletion.plan.stages.iter().map(|s| s.steps.len()).sum())
            }
        };
        bar.bar.set_length(total as u64);
        bar.bar.set_position(done as u64);
        let at = deletion.jobs.iter().find(|j| !j.state.name().over());
        let what = match at {
            None => deletion.status.word().to_owned(),
            Some(job) => {
                let step = deletion.step_at(job).map(|(_, _, s)| s.name.clone()).unwrap_or_default();
                match &job.state {
                    JobState::Scheduled { .. } => format!("waits for {}", job.kind),
                    JobState::Parked { reason } => format!("{}: PARKED {reason}", job.kind),
                    _ => format!("{}: {step} {}", job.kind, job.state.name()),
                }
            }
        };
        bar.bar.set_message(format!("{what}   ({kills} consumers killed)"));
        if self.plain {
            let stage = at.map_or(deletion.status.word().to_owned(), |job| job.kind.to_string());
            if stage != bar.last {
                line(self.format, &format!("{} {done}/{total} {what}", bar.name));
                bar.last = stage;
            }
        }
    }

    /// Say something above the bars.
    pub fn say(&self, text: &str) {
        if self.plain {
            line(self.format, text);
        } else if let Err(error) = self.all.println(text) {
            eprintln!("{text} ({error})");
        }
    }

    /// The bars stay as they are.
    pub fn end(&self) {
        for bar in self.bars.values() {
            bar.bar.abandon();
        }
    }
}

/// Say something while it goes on: beside the answer, where that is for a program.
pub fn line(format: Format, text: &str) {
    match format {
        Format::Table => println!("{text}"),
        Format::Json => eprintln!("{text}"),
    }
}

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What happened to the two machines that it is about.
    pub trails: Vec<Trail>,
    /// What was expected, and whether it held.
    pub expectations: Vec<Expectation>,
    /// How many did not.
    pub failed: usize,
    /// How long it took, in seconds.
    pub took_s: f64,
}

/// The audit trail of one record.
#[derive(Debug, Serialize)]
pub struct Trail {
    machine: String,
    deletion: DeletionId,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Event {
    /// Its number in the chain, from 1.
    seq: i64,
    #[serde(flatten)]
    event: AuditEvent,
}

impl Trail {
    /// That of the record of a machine.
    pub fn of(machine: &str, view: &DeletionView) -> Self {
        let events = view.audit.iter().map(|row| Event { seq: row.seq, event: row.event.clone() }).collect();
        Self { machine: machine.to_owned(), deletion: view.deletion.id, events }
    }

    fn table(&self) -> String {
        let start = self.events.first().map(|row| row.event.at).unwrap_or_default();
        let rows = self.events.iter().map(|row| {
            let event = &row.event;
            let word = |v: serde_json::Result<serde_json::Value>| {
                v.ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
            };
            [
                row.seq.to_string(),
                format!("{:.1} s", event.at.ms_since(start) as f64 / 1000.0),
                word(serde_json::to_value(event.what)),
                event.job.map(|j| j.to_string()).unwrap_or_default(),
                event.step.clone().unwrap_or_default(),
                event.presence.map(|p| word(serde_json::to_value(p))).unwrap_or_default(),
                short(&event.detail, DETAIL_MAX),
            ]
        });
        let rows = table(["#", "after", "what", "job", "step", "presence", "detail"], rows);
        format!("\nAudit trail of {} ({})\n{rows}\n", self.machine, counted(self.events.len(), "event"))
    }
}

/// All of it, for people.
pub fn report(report: &Report) -> String {
    let trails: String = report.trails.iter().map(Trail::table).collect();
    let rows = report
        .expectations
        .iter()
        .map(|e| [if e.held { "held" } else { "FAILED" }.to_owned(), e.what.clone()]);
    let checks = table(["", "expectation"], rows);
    format!("{trails}\n{checks}\n\n{} expectations failed; {:.1} s", report.failed, report.took_s)
}
