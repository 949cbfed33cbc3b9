//! Deletions that are cancelled, at all sorts of moments until the end of cancel.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sexton_api::{DeletionInfo, DeletionLine, TrailLine};
use sexton_model::audit::What;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage, StateName};

use crate::installation::{self, DAY_MS, Installation};
use crate::machine::Machine;
use crate::waiting::wait_for;

/// Longest wait for all cancels to be taken, on a machine that is busy with other things, too.
const PATIENCE: Duration = Duration::from_secs(700);

/// What a cancel waits for before its delay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The record exists.
    Made,
    /// The stage has begun, and so many of its steps are done.
    Begun(Stage, u16),
    /// The stage is done.
    Done(Stage),
}

impl Moment {
    /// Longest delay: whatever the stages take, the hard stage does not begin earlier than three days after soft
    /// is done. Two of them are left for a coordinator that is just being killed, on a busy machine.
    fn longest_ms(self) -> u64 {
        match self {
            Self::Done(Stage::Announce) => 3 * DAY_MS,
            Self::Made | Self::Begun(..) | Self::Done(_) => DAY_MS,
        }
    }

    fn reached(self, line: &DeletionLine, record: impl FnOnce() -> Option<DeletionInfo>) -> bool {
        let (Some(job), Some(state)) = (line.job, line.state) else { return false };
        match self {
            Self::Made => true,
            Self::Done(stage) => job > JobKind::Stage(stage),
            Self::Begun(stage, _) if job != JobKind::Stage(stage) => job > JobKind::Stage(stage),
            Self::Begun(_, 0) => state != StateName::Scheduled,
            Self::Begun(_, _) if state == StateName::Scheduled => false,
            Self::Begun(_, steps) => {
                let found = record().and_then(|r| r.jobs.into_iter().find(|j| j.job == job));
                found.is_some_and(|job| job.steps.0 >= steps)
            }
        }
    }
}

/// One machine's cancel.
struct Cancel<'a> {
    machine: &'a Machine,
    moment: Moment,
    delay: Duration,
    reached: Option<Instant>,
}

/// Which machine is cancelled when: every sort of moment is met, by whom is drawn.
fn draw(seed: u64, machines: &[Machine]) -> Vec<Cancel<'_>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut moments = vec![Moment::Made; 3];
    moments.extend((0..5).map(|_| Moment::Begun(Stage::Announce, random.random_range(0..9))));
    moments.extend([Moment::Done(Stage::Announce); 3]);
    moments.extend((0..7).map(|_| Moment::Begun(Stage::Soft, random.random_range(0..10))));
    moments.extend([Moment::Done(Stage::Soft); 2]);
    moments.shuffle(&mut random);
    assert_eq!(moments.len(), machines.len());
    let drawn = machines.iter().zip(moments).map(|(machine, moment)| Cancel {
        machine,
        moment,
        delay: Duration::from_millis(random.random_range(0..moment.longest_ms())),
        reached: None,
    });
    drawn.collect()
}

/// Cancel all of `machines`.
pub fn cancel_all(seed: u64, installation: &Installation, machines: &[Machine]) {
    let mut waiting = draw(seed, machines);
    wait_for(PATIENCE, || {
        let lines = installation.lines();
        if let Some(lines) = &lines {
            installation::none_is_parked(lines);
            for cancel in waiting.iter_mut().filter(|c| c.reached.is_none()) {
                let resource = cancel.machine.resource();
                if cancel.moment.reached(&lines[&resource], || installation.record(&resource)) {
                    cancel.reached = Some(Instant::now());
                }
            }
        }
        waiting.retain(|c| {
            let due = c.reached.is_some_and(|reached| reached.elapsed() >= c.delay);
            !(due && taken(installation, c))
        });
        if waiting.is_empty() { Ok(()) } else { Err(describe(&waiting, &lines.unwrap_or_default())) }
    });
}

fn describe(waiting: &[Cancel], lines: &BTreeMap<String, DeletionLine>) -> String {
    let describe = |c: &Cancel| format!("{:?} of {:?}", c.moment, lines.get(&c.machine.resource()));
    waiting.iter().map(describe).collect::<Vec<_>>().join("\n")
}

/// Whether the cancel was taken; not, if nobody was there to take it.
fn taken(installation: &Installation, cancel: &Cancel) -> bool {
    let resource = cancel.machine.resource();
    let output = installation.try_sexton(&["cancel", &resource, "--reason", "kept after all"]);
    if output.status.success() {
        return true;
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    // Nobody was there, or is there any more; somebody may be again by now.
    let unanswered =
        ["did not answer properly", "nobody answers"].iter().any(|said| complaint.contains(said));
    // It may have been taken by a coordinator that died before it could say so.
    match installation.record(&resource).map(|record| record.status) {
        Some(RecordStatus::Restoring | RecordStatus::Cancelled) => true,
        Some(status) if !unanswered => {
            panic!("{resource}, {:?} + {:?}, {status:?}: {complaint}", cancel.moment, cancel.delay)
        }
        Some(_) | None => false,
    }
}

/// Where a cancel met the deletion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Met {
    pub stage: Stage,
    pub state: StateName,
    /// The step at which it was, unless it was between two stages.
    pub step: String,
}

/// What the audit trail says of it: the last that happened before.
pub fn met(record: &DeletionInfo) -> Met {
    let cancelled = record.trail.iter().position(|line| line.event.what == What::Cancelled).unwrap();
    let last = record.trail[..cancelled].iter().rev().find_map(|line| {
        let event = &line.event;
        let (Some(JobKind::Stage(stage)), Some(state)) = (event.job, event.state) else { return None };
        Some((stage, state, line.seq))
    });
    let next = |stage| Stage::ALL.into_iter().find(|s| *s > stage).unwrap_or(stage);
    // The last one that was ordered or answered.
    let at = |stage| {
        let of_stage = |line: &&TrailLine| line.event.job == Some(JobKind::Stage(stage));
        record.trail[..cancelled].iter().rev().filter(of_stage).find_map(|line| line.event.step.clone())
    };
    match last {
        None => Met { stage: Stage::Announce, state: StateName::Scheduled, step: String::new() },
        Some((stage, StateName::Done, _)) => {
            Met { stage: next(stage), state: StateName::Scheduled, step: String::new() }
        }
        Some((stage, state, _)) => Met { stage, state, step: at(stage).unwrap_or_default() },
    }
}

/// How many cancels met what.
pub fn tally(met: impl IntoIterator<Item = Met>) -> String {
    let mut count: BTreeMap<Met, usize> = BTreeMap::new();
    for one in met {
        *count.entry(one).or_default() += 1;
    }
    let lines = count.iter().map(|(Met { stage, state, step }, n)| {
        format!("  {n:>2} met {} {} {step}", JobKind::Stage(*stage), state.word())
    });
    lines.collect::<Vec<_>>().join("\n")
}
