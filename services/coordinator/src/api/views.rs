//! How the ledger's views are shown.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use sexton_api::{
    AlarmsInfo, BatchInfo, DeletionInfo, DeletionLine, HealthInfo, InstanceInfo, JobInfo, OutageInfo,
    TrailLine, WindowsInfo,
};
use sexton_ledger::{AuditRow, DeletionRow, DeletionView, Facts, Health, InstanceState};
use sexton_model::audit::Broken;
use sexton_model::belts::ceiling::Ceilings;
use sexton_model::belts::healthy::{self, Healthy};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::belts::{InForce, Policy};
use sexton_model::deletion::Deletion;
use sexton_model::job::{Job, JobKind, JobState, Stage};
use sexton_model::outlook::{Estimate, Foresight, estimates, stops};
use sexton_model::time::Day;
use sexton_model::{Instance, Timestamp, decide, undo};

use crate::canaries::Canaries;
use crate::engine::Engine;
use crate::hindrance::Hindrance;
use crate::hours;

pub(super) fn line(row: DeletionRow, in_force: &InForce, by: &Foresight<'_>) -> DeletionLine {
    let undo::Undo { possible, words, until, .. } = undo::undo(&row.deletion, by.day, by.now);
    let (ahead, mark) = (ahead(&row.deletion, in_force, by), decide::mark(&row.deletion));
    let (job, state, due_at, why) = match row.at {
        Some((job, state, due_at, why)) => (Some(job), Some(state), due_at, why),
        None => (None, None, None, String::new()),
    };
    DeletionLine {
        id: row.id,
        resource: row.resource,
        scope: row.scope,
        status: row.status,
        job,
        state,
        due_at,
        why: joined(std::iter::once(why).chain(ahead)),
        mark,
        cancel: possible,
        undo: words,
        cancel_until: until,
    }
}

/// What stops the stages that are still to come: the pauses that cover its next one, and of all of them when they would
/// have begun under a higher ceiling.
fn ahead(d: &Deletion, in_force: &InForce, by: &Foresight<'_>) -> Vec<String> {
    let stops = stops(d, in_force, by);
    let next = d.jobs.iter().find(|job| !job.state.name().over()).map(|job| job.kind);
    let paused = stops.iter().find(|(stage, _)| next == Some(JobKind::Stage(**stage)));
    let paused = paused.into_iter().flat_map(|(_, stops)| stops.pauses.clone());
    let would: Vec<String> = stops.iter().filter_map(|(stage, stops)| stops.would(*stage, by.now)).collect();
    paused.chain(would).collect()
}

fn joined(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join("; ")
}

/// What surrounds a deletion when it is shown.
pub(super) struct Around<'a> {
    pub(super) by: Foresight<'a>,
    pub(super) in_force: &'a InForce,
    pub(super) instances: &'a BTreeMap<Instance, InstanceState>,
    pub(super) healthy: &'a Healthy,
}

pub(super) fn deletion(view: DeletionView, around: &Around<'_>, chain: Result<(), Broken>) -> DeletionInfo {
    let d = view.deletion;
    let undo::Undo { words, until, .. } = undo::undo(&d, around.by.day, around.by.now);
    DeletionInfo {
        jobs: jobs(&d, around),
        undo: words,
        cancel_until: until,
        targets: view.targets,
        trail: view.audit.into_iter().map(trail_line).collect(),
        chain: match chain {
            Ok(()) => "verified".to_owned(),
            Err(broken) => format!("BROKEN: {broken}"),
        },
        ..DeletionInfo::of(&d)
    }
}

fn trail_line(row: AuditRow) -> TrailLine {
    TrailLine { seq: row.seq, event: row.event, hash: sexton_model::audit::hex(&row.hash) }
}

fn jobs(d: &Deletion, around: &Around<'_>) -> Vec<JobInfo> {
    let estimates = estimates(d, &around.by);
    let stops = stops(d, around.in_force, &around.by);
    let said = |job: &Job| -> Vec<String> {
        let JobKind::Stage(stage) = job.kind else { return Vec::new() };
        let Some(stops) = stops.get(&stage) else { return Vec::new() };
        stops.pauses.iter().cloned().chain(stops.would(stage, around.by.now)).collect()
    };
    let info = |job: &Job| {
        let mut info = job_info(d, job, &estimates, around);
        info.why = joined(std::iter::once(info.why).chain(said(job)));
        info
    };
    d.jobs.iter().map(info).collect()
}

/// For whom a job waits, if nobody of them is there.
fn missing(d: &Deletion, job: &Job, around: &Around<'_>) -> Option<String> {
    let instance = d.wants(job)?;
    let state = around
        .instances
        .get(&instance)
        .copied()
        .unwrap_or(InstanceState { down: true, ..InstanceState::default() });
    let heard = match state.pulse_at {
        Some(at) => format!("no pulse was heard since {at}"),
        None => "no pulse was ever heard".to_owned(),
    };
    state.down.then(|| format!("waits for a consumer of {instance}, of which {heard}"))
}

/// What of a job's grace does not count, as far as one can say before it is due.
fn lost(d: &Deletion, job: &Job, around: &Around<'_>) -> Option<String> {
    let JobKind::Stage(stage) = job.kind else { return None };
    healthy::blocker(d, (stage, job), around.healthy, around.by.now).map(|by| by.to_string())
}

fn job_info(d: &Deletion, job: &Job, estimates: &BTreeMap<Stage, Estimate>, around: &Around<'_>) -> JobInfo {
    let total = match job.kind {
        JobKind::Stage(stage) => d.plan.stage(stage).steps.len(),
        JobKind::Restore => d.undo_list().len(),
    };
    let waits = matches!(job.state, JobState::Scheduled { .. } | JobState::Held { .. });
    let due = match job.kind {
        JobKind::Stage(stage) if waits => estimates.get(&stage).copied(),
        JobKind::Stage(_) | JobKind::Restore => None,
    };
    let why = match &job.state {
        JobState::Held { by, .. } => by.to_string(),
        JobState::Ready { blocked: Some(by), .. } => by.to_string(),
        JobState::Ready { blocked: None, .. } => {
            missing(d, job, around).unwrap_or_else(|| "in line for its next subsystem".to_owned())
        }
        JobState::Scheduled { due_at: Some(due_at) } if *due_at <= around.by.now => {
            missing(d, job, around).or_else(|| lost(d, job, around)).unwrap_or_default()
        }
        JobState::Scheduled { due_at: Some(_) } => lost(d, job, around).unwrap_or_default(),
        JobState::Waiting { until, reason } => format!("again at {until}: {reason}"),
        JobState::Parked { reason } => reason.clone(),
        JobState::Cancelling(out) => {
            format!("waits for the order that is out, at most until {}", out.lease_until)
        }
        JobState::Scheduled { due_at: None }
        | JobState::Running(_)
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => String::new(),
    };
    JobInfo {
        job: job.kind,
        state: job.state.name(),
        due_at: due.map(|d| d.at),
        estimated: due.is_some_and(|d| d.can_move),
        ended_at: job.ended_at,
        steps: (job.cursor, u16::try_from(total).unwrap_or(u16::MAX)),
        step: d.step_at(job).filter(|_| !job.state.name().over()).map(|(_, _, step)| step.name.clone()),
        why,
    }
}

/// Every instance that anybody knows of: those with a key, those that pulsed, those that a job or a plan needs.
fn instances(
    known: &BTreeSet<Instance>,
    needed: BTreeSet<Instance>,
    states: &BTreeMap<Instance, InstanceState>,
    out: &BTreeMap<Instance, (Timestamp, u64)>,
) -> Vec<InstanceInfo> {
    let mut all = needed;
    all.extend(known.iter().chain(states.keys()).chain(out.keys()).cloned());
    let never = InstanceState { down: true, ..InstanceState::default() };
    all.into_iter()
        .map(|instance| {
            let state = states.get(&instance).copied().unwrap_or(never);
            let orders_out = out.get(&instance).map_or(0, |(_, orders)| *orders);
            let InstanceState { pulse_at, down, waiting } = state;
            let known = known.contains(&instance);
            InstanceInfo { instance, pulse_at, down, orders_out, waiting, known }
        })
        .collect()
}

fn windows(policy: &Policy, broken: Option<String>, day: Day, now: Timestamp) -> Option<WindowsInfo> {
    let windows = policy.windows.as_ref().filter(|_| !day.is_rehearsal())?;
    Some(WindowsInfo {
        hours: windows.to_string(),
        opens: Some(windows.next_opening(now)).filter(|opens| *opens > now),
        holidays_until: windows.last_holiday(),
        outlived: hours::outlived(windows, now),
        broken,
    })
}

/// The last outage, for as long as graces that it was a part of are common.
fn outage(healthy: &Healthy, now: Timestamp) -> Option<OutageInfo> {
    const SHOWN_MS: u64 = 7 * 86_400_000;
    let last = healthy.last().filter(|last| now.ms_since(last.ended) < SHOWN_MS)?;
    Some(OutageInfo { began: last.began, ended: last.ended })
}

fn budgets(policy: &Policy, day: Day) -> Option<String> {
    let budgets = policy.budgets(day);
    let stages: Vec<&str> = budgets.stages().map(Stage::word).collect();
    (!stages.is_empty()).then(|| format!("{budgets} may begin {}", stages.join(", ")))
}

pub(super) fn health(
    facts: &Facts,
    health: Health,
    (ceilings, batches, broken_glass): (&Ceilings, Vec<BatchInfo>, Vec<OneShot>),
    healthy: &Healthy,
    unserved: BTreeSet<Instance>,
    engine: &Engine,
    states: &BTreeMap<Instance, InstanceState>,
) -> HealthInfo {
    let (counters, hindrances) = (&engine.counters, engine.hindrances());
    let policy = engine.ledger.policy();
    let broken = hindrances.iter().find_map(|hindrance| match hindrance {
        Hindrance::Calendar { why } => Some(why.clone()),
        Hindrance::Review | Hindrance::Witness { .. } | Hindrance::Checkpoints { .. } => None,
    });
    let counted = [
        ("decided", &counters.decided),
        ("refused", &counters.refused),
        ("ordered", &counters.ordered),
        ("rejected", &counters.rejected),
        ("disbelieved", &counters.disbelieved),
        ("unpublished", &counters.unpublished),
    ];
    HealthInfo {
        ledger: facts.ledger.clone(),
        epoch: facts.epoch,
        rehearsal_day_ms: facts.day.rehearsal_ms(),
        now: health.now,
        jobs: health.jobs,
        oldest_due: health.oldest_due,
        instances: instances(&engine.known().cloned().collect(), unserved, states, &health.instances),
        windows: windows(&policy, broken, facts.day, health.now),
        outage: outage(healthy, health.now),
        pauses: health.pauses,
        ceilings: ceilings.iter().cloned().collect(),
        batches,
        alarms: AlarmsInfo::default(),
        broken_glass,
        budgets: budgets(&policy, facts.day),
        canaries_off: None,
        canaries_lack: engine.canaries().map(Canaries::lacks).unwrap_or_default(),
        canaries: Vec::new(),
        censuses_lack: Vec::new(),
        unprotected: policy.lacks(facts.day).map(str::to_owned),
        review: health.review,
        witness_stale_s: hindrances.iter().find_map(|hindrance| match hindrance {
            Hindrance::Witness { stale } => Some(stale.as_secs()),
            Hindrance::Review | Hindrance::Checkpoints { .. } | Hindrance::Calendar { .. } => None,
        }),
        checkpoints: hindrances.into_iter().find_map(|hindrance| match hindrance {
            Hindrance::Checkpoints { why } => Some(why),
            Hindrance::Review | Hindrance::Witness { .. } | Hindrance::Calendar { .. } => None,
        }),
        counters: counted.into_iter().map(|(name, n)| (name.to_owned(), n.load(Ordering::Relaxed))).collect(),
    }
}
