//! Deletions that are cancelled, at all sorts of moments until the end of cancel. The ceiling of their scope is soft: so the
//! end does not come before the cancel, however long it takes until a coordinator and a broker are there again.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sexton_api::{CeilingRequest, CeilingTo, DeletionInfo, DeletionLine, TrailLine};
use sexton_model::Timestamp;
use sexton_model::audit::What;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::step::Mode;

use crate::installation::{self, Answer, DAY_MS, Installation};
use crate::machine::{Guest, KEPT_SCOPE, Machine};
use crate::waiting::wait_for;

/// Longest wait for all cancels to be taken, on a machine that is busy with other things, too.
const PATIENCE: Duration = Duration::from_secs(700);
/// The step of soft that takes longest: half a minute, where the guest does not obey.
const STOP: &str = "hypervisor.stop";
/// So many are cancelled while it is under way.
const STOPPING: usize = 2;
/// Longest from a cancel to a machine that is back, whatever was killed meanwhile. A design rule, so no busy machine stretches it.
const BACK_WITHIN_MS: u64 = 5 * 60_000;

/// What a cancel waits for before its delay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The record exists.
    Made,
    /// The stage has begun, and so many of its steps are done.
    Begun(Stage, u16),
    /// What it needs to take this step of soft back is captured, and its order is out.
    Ordered(&'static str),
    /// The stage is done.
    Done(Stage),
}

impl Moment {
    /// Longest delay in days. Behind soft it is longer than the grace: some are cancelled while hard is held.
    fn longest_days(self) -> u64 {
        match self {
            Self::Done(Stage::Announce) => 3,
            Self::Done(_) => 5,
            Self::Made | Self::Begun(..) => 1,
            Self::Ordered(_) => 0,
        }
    }

    /// Any of them.
    pub fn any(random: &mut StdRng) -> Self {
        match random.random_range(0..20) {
            0..3 => Self::Made,
            3..8 => Self::Begun(Stage::Announce, random.random_range(0..9)),
            8..11 => Self::Done(Stage::Announce),
            11..18 => Self::Begun(Stage::Soft, random.random_range(0..10)),
            _ => Self::Done(Stage::Soft),
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
            Self::Ordered(_) if job != JobKind::Stage(Stage::Soft) => job > JobKind::Stage(Stage::Soft),
            Self::Ordered(step) => record().is_some_and(|record| is_ordered(&record, step)),
            Self::Begun(_, steps) => {
                let found = record().and_then(|r| r.jobs.into_iter().find(|j| j.job == job));
                found.is_some_and(|job| job.steps.0 >= steps)
            }
        }
    }
}

/// Whether soft carries this step out: it is at it, an order is out, and not the one that captures.
fn is_ordered(record: &DeletionInfo, step: &str) -> bool {
    let soft = JobKind::Stage(Stage::Soft);
    let captured = record.trail.iter().map(|line| &line.event).any(|event| {
        let of_step = event.job == Some(soft) && event.step.as_deref() == Some(step);
        of_step && event.mode == Some(Mode::Capture) && event.presence.is_some()
    });
    let running = record.jobs.iter().find(|job| job.job == soft && job.state == StateName::Running);
    captured && running.is_some_and(|job| job.step.as_deref() == Some(step))
}

/// One machine's cancel.
#[derive(Debug, Clone)]
pub struct Cancel<'a> {
    machine: &'a Machine,
    moment: Moment,
    delay: Duration,
    reached: Option<Instant>,
}

impl<'a> Cancel<'a> {
    /// A while after that moment, where days are so long.
    pub fn after(moment: Moment, machine: &'a Machine, day_ms: u64, random: &mut StdRng) -> Self {
        let delay = Duration::from_millis(random.random_range(0..=moment.longest_days() * day_ms));
        Self { machine, moment, delay, reached: None }
    }

    /// Whether it is time, as the record stands now.
    pub fn is_due(&mut self, installation: &Installation, line: &DeletionLine) -> bool {
        let record = || installation.record(&self.machine.resource());
        if self.reached.is_none() && self.moment.reached(line, record) {
            self.reached = Some(Instant::now());
        }
        self.reached.is_some_and(|reached| reached.elapsed() >= self.delay)
    }

    /// Whether it was taken; not, if nobody was there to take it.
    pub fn taken(&self, installation: &Installation, line: &DeletionLine) -> bool {
        let id = line.id;
        let asked =
            installation.ask(|client| async move { client.cancel(id, "kept after all").await.map(drop) });
        let why = match asked {
            Answer::Done(()) => return true,
            Answer::Unknown => return false,
            Answer::Refused(why) => why,
        };
        // It may have been taken by a coordinator that died before it could say so.
        match installation.record(&self.machine.resource()).map(|record| record.status) {
            Some(RecordStatus::Restoring | RecordStatus::Cancelled) => true,
            Some(status) => panic!("{self:?}, {status:?}: {why}"),
            None => false,
        }
    }
}

/// Deletions of machines that are to be cancelled go no further than soft.
pub fn end_at_soft(installation: &Installation) {
    let scope = Some(KEPT_SCOPE.parse().unwrap());
    let (to, reason) = (CeilingTo(Some(Ceiling::Soft)), "to be cancelled".to_owned());
    let body = CeilingRequest { scope, everywhere: false, to, reason, digest: None };
    let set = installation.ask(|client| {
        let body = body.clone();
        async move { client.set_ceiling(&body).await.map(drop) }
    });
    assert!(matches!(set, Answer::Done(())), "{set:?}");
}

/// Which machine is cancelled when: every sort of moment is met, by whom is drawn. Those that are cancelled while they are
/// being stopped do not obey, which takes longer than a coordinator that was killed is away.
fn draw(seed: u64, machines: &[Machine]) -> Vec<Cancel<'_>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut moments = vec![Moment::Made; 3];
    moments.extend((0..5).map(|_| Moment::Begun(Stage::Announce, random.random_range(0..9))));
    moments.extend([Moment::Done(Stage::Announce); 3]);
    moments.extend((0..5).map(|_| Moment::Begun(Stage::Soft, random.random_range(0..10))));
    moments.extend([Moment::Done(Stage::Soft); 2]);
    moments.shuffle(&mut random);
    assert_eq!(STOPPING + moments.len(), machines.len());
    let moments = [Moment::Ordered(STOP); STOPPING].into_iter().chain(moments);
    let mut machines: Vec<&Machine> = machines.iter().collect();
    machines.shuffle(&mut random);
    machines.sort_by_key(|machine| machine.guest != Guest::Stubborn);
    assert!(machines[..STOPPING].iter().all(|machine| machine.guest == Guest::Stubborn));
    let drawn = machines.into_iter().zip(moments);
    drawn.map(|(machine, moment)| Cancel::after(moment, machine, DAY_MS, &mut random)).collect()
}

/// Cancel all of `machines`.
pub fn cancel_all(seed: u64, installation: &Installation, machines: &[Machine]) {
    let mut waiting = draw(seed, machines);
    wait_for(PATIENCE, || {
        let lines = installation.lines();
        if let Some(lines) = &lines {
            installation::none_is_parked(lines);
            waiting.retain_mut(|cancel| {
                let line = &lines[&cancel.machine.resource()];
                !(cancel.is_due(installation, line) && cancel.taken(installation, line))
            });
        }
        if waiting.is_empty() { Ok(()) } else { Err(describe(&waiting, &lines.unwrap_or_default())) }
    });
}

fn describe(waiting: &[Cancel], lines: &BTreeMap<String, DeletionLine>) -> String {
    let describe = |c: &Cancel| format!("{:?} of {:?}", c.moment, lines.get(&c.machine.resource()));
    waiting.iter().map(describe).collect::<Vec<_>>().join("\n")
}

/// Where a cancel met the deletion.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Met {
    pub stage: Stage,
    pub state: StateName,
    /// The step at which it was, unless it was between two stages.
    pub step: String,
}

impl Met {
    /// Whether nothing had been switched off yet.
    pub fn before_soft(&self) -> bool {
        self.stage == Stage::Announce || self.state == StateName::Scheduled && self.stage == Stage::Soft
    }
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

/// What is wrong if the machine was not back in time. Its restore ends when all that was taken back was looked at: no
/// sooner than the machine runs.
pub fn late(record: &DeletionInfo) -> Option<String> {
    let cancelled = record.trail.iter().find(|line| line.event.what == What::Cancelled).unwrap();
    let restore = record.jobs.iter().find(|job| job.job == JobKind::Restore);
    took_too_long(cancelled.event.at, restore.and_then(|job| job.ended_at))
}

fn took_too_long(cancelled: Timestamp, back: Option<Timestamp>) -> Option<String> {
    let Some(back) = back else { return Some("it was cancelled, and its restore has not ended".to_owned()) };
    let took_ms = back.ms_since(cancelled);
    (took_ms > BACK_WITHIN_MS).then(|| format!("it was back {took_ms} ms after its cancel"))
}

/// A line for each place that some cancel must have met, whatever was drawn, and none has: more than half are cancelled
/// at announce or in the grace behind it, two while they are being stopped, and two when soft is done, behind which
/// nothing of their scope goes on.
pub fn unmet<'a>(met: impl IntoIterator<Item = &'a Met>) -> Vec<String> {
    let met: Vec<&Met> = met.into_iter().collect();
    let stopping = |m: &&Met| (m.stage, m.state) == (Stage::Soft, StateName::Running);
    let places = [
        ("before anything was switched off", met.iter().any(|m| m.before_soft())),
        ("while an order of soft was out", met.iter().any(stopping)),
        ("behind soft", met.iter().any(|m| m.stage > Stage::Soft)),
    ];
    let unmet = places.into_iter().filter(|(_, is)| !is);
    unmet.map(|(place, _)| format!("no cancel met a deletion {place}")).collect()
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

#[test]
fn a_place_that_no_cancel_has_met_is_named() {
    let met = |stage, state| Met { stage, state, step: String::new() };
    let all = [
        met(Stage::Announce, StateName::Running),
        met(Stage::Soft, StateName::Running),
        met(Stage::Hard, StateName::Held),
    ];
    assert_eq!(unmet(&all), Vec::<String>::new());
    let others = [met(Stage::Soft, StateName::Scheduled), met(Stage::Soft, StateName::Waiting)];
    assert_eq!(
        unmet(&others),
        ["no cancel met a deletion while an order of soft was out", "no cancel met a deletion behind soft"]
    );
}

#[test]
fn a_machine_that_is_back_too_late_is_named() {
    let cancelled = Timestamp(7);
    let after = |ms| took_too_long(cancelled, Some(cancelled.plus_ms(ms)));
    assert_eq!(after(BACK_WITHIN_MS), None);
    assert_eq!(after(BACK_WITHIN_MS + 1).unwrap(), "it was back 300001 ms after its cancel");
    assert!(took_too_long(cancelled, None).is_some());
}
