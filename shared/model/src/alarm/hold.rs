//! Which alarms hold: from facts, by rules, at a moment.
use std::collections::{BTreeMap, BTreeSet};

use crate::alarm::not_back::{NOT_BACK_MS, not_back};
use crate::alarm::{Alarm, AlarmKind, Holding, Subject, glass};
use crate::belts::Pause;
use crate::belts::budget::{self, Exceeded, Group};
use crate::belts::census::{Lapse, Lapsed, Refusal};
use crate::belts::one_shot::OneShot;
use crate::canary::{Canary, Judged, Verdict};
use crate::checkpoint::Review;
use crate::decide::notice;
use crate::deletion::{Deletion, RecordStatus};
use crate::drill::{self, Drill};
use crate::id::DeletionId;
use crate::job::{Job, JobState, Stage};
use crate::outlook;
use crate::resource::Criticality;
use crate::step;
use crate::time::{Day, Timestamp, add_days};
use crate::undo;

/// Who pauses without being asked.
const COORDINATOR: &str = "coordinator";
/// A job that is parked for longer alarms, in milliseconds: somebody looks at what is parked each day.
pub const PARKED_MS: u64 = 24 * 3_600_000;
/// Policy days after its due date before which no credential is overdue, unless configured.
pub const CREDENTIAL_DAYS: u16 = 1;

/// A notice that was not delivered for so many policy hours alarms, unless configured: longer than a mail server is away that is
/// started anew, and days before the announcement parks.
pub const UNTOLD_HOURS: u16 = 4;

/// What counts as late; what the configuration says of alarms is part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A credential is overdue so many policy days after its due date, but not before its plan would have it gone.
    pub credential_days: u16,
    /// A job that is parked for longer alarms, in milliseconds.
    pub parked_ms: u64,
    /// What was cancelled alarms if it is not back so much later, in milliseconds.
    pub not_back_ms: u64,
    /// A notice that was not delivered for so many policy hours alarms.
    pub untold_hours: u16,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            credential_days: CREDENTIAL_DAYS,
            parked_ms: PARKED_MS,
            not_back_ms: NOT_BACK_MS,
            untold_hours: UNTOLD_HOURS,
        }
    }
}

/// When one looks, and by which rules.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The store's clock.
    pub now: Timestamp,
    /// What a day is.
    pub day: Day,
    /// The configuration's.
    pub rules: Rules,
}

impl Moment {
    /// The same as of the last whole hour of policy time. So is said what can be undone: the date of what stands still moves
    /// with the clock, and would make it another text each time.
    #[must_use]
    pub fn of_the_hour(&self) -> Self {
        let hour_us =
            i64::try_from(self.day.length_ms()).unwrap_or(i64::MAX / 1000).saturating_mul(1000) / 24;
        let since = self.now.0.rem_euclid(hour_us.max(1));
        Self { now: Timestamp(self.now.0.saturating_sub(since)), ..*self }
    }
}

/// A batch that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFact {
    /// Its number.
    pub batch: i64,
    /// What its members have in common.
    pub group: Group,
    /// Since when.
    pub frozen_at: Timestamp,
    /// Why it may not begin.
    pub exceeded: Exceeded,
    /// How many wait.
    pub waiting: u64,
}

/// The groups of which somebody has to approve a batch: by themselves they never fit.
pub fn crowds(batches: &[BatchFact]) -> BTreeSet<Group> {
    budget::crowds(batches.iter().map(|batch| (&batch.group, batch.waiting, &batch.exceeded)))
}

/// What the job table says of all deletions together.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Batches that wait.
    pub batches: Vec<BatchFact>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// Overrides, also those that were taken back.
    pub one_shots: Vec<OneShot>,
    /// What can still be undone of what somebody broke the glass for, and until when, in a sentence; see
    /// [`Moment::of_the_hour`].
    pub undone: BTreeMap<DeletionId, String>,
    /// A review that is open.
    pub review: Option<Review>,
    /// The last canaries.
    pub canaries: Vec<Canary>,
    /// The last drill with each resource.
    pub drills: Vec<Drill>,
    /// Censuses that nobody should go by any more.
    pub lapses: Vec<Lapse>,
}

impl Facts {
    /// The alarms that hold because of them.
    pub fn alarms(&self, now: Timestamp, holding: &mut Holding) {
        if let Some(review) = &self.review {
            holding.add(Alarm::new(
                AlarmKind::Review,
                None,
                Subject::Ledger,
                format!("nothing is ordered: the job table went back in time ({})", review.behind),
                "sexton review shows what it may have forgotten; compare, then sexton review --accept",
            ));
        }
        self.canaries(holding);
        self.drills(now, holding);
        self.censuses(holding);
        // A crowd is one alarm, in however many batches it came.
        for group in crowds(&self.batches) {
            let waits = |batch: &&BatchFact| batch.group == group && batch.waiting > 0;
            let of_it: Vec<&BatchFact> = self.batches.iter().filter(waits).collect();
            let ([first, ..], [.., last]) = (of_it.as_slice(), of_it.as_slice()) else { continue };
            let waiting = of_it.iter().map(|batch| batch.waiting).fold(0, u64::saturating_add);
            let number = first.batch;
            let Group { scope, kind, stage } = &group;
            let text = format!("{waiting} of {kind} in {scope} wait before {stage}: {}", last.exceeded);
            let look = match of_it.len() {
                1 => format!("sexton batches {number} shows who is in it"),
                batches => {
                    format!("sexton batches lists the {batches} batches, and sexton batches N who is in one")
                }
            };
            holding.add(Alarm::new(
                AlarmKind::FrozenBatch,
                Some(scope.clone()),
                Subject::Batch { batch: number },
                text,
                format!(
                    "{look}; cancel what does not belong, or have somebody who \
                     requested none of it approve it"
                ),
            ));
        }
        // Nobody else is called so: see the reserved names of tokens.
        let by_itself = |pause: &&Pause| {
            pause.by.as_str() == COORDINATOR && (pause.covers.scope.is_some() || pause.covers.kind.is_some())
        };
        for pause in self.pauses.iter().filter(by_itself) {
            holding.add(Alarm::new(
                AlarmKind::ForeignDeletions,
                pause.covers.scope.clone(),
                Subject::Pause { pause: pause.id },
                format!("paused: {}", pause.reason),
                format!(
                    "find out who deletes (sexton census lists what is missing in those that are believed); \
                     sexton resume {} once it is known",
                    pause.id
                ),
            ));
        }
        for one in self.one_shots.iter().filter(|one| one.break_glass && one.until > now) {
            holding.add(glass::broken(one, self.undone.get(&one.deletion).map(String::as_str)));
        }
    }
}

impl Facts {
    /// One for each resource.
    fn drills(&self, now: Timestamp, holding: &mut Holding) {
        for drill in &self.drills {
            let resource = &drill.resource;
            let overdue = drill.is_open() && now >= drill.finish_by.plus_ms(drill::LEAST_MS);
            let text = match drill.standing().filter(|judged| judged.verdict.alarms()) {
                _ if overdue => {
                    format!(
                        "the drill with {resource} should be over by {}, and nobody says what came of it",
                        drill.finish_by
                    )
                }
                Some(drill::Judged { verdict, at }) => {
                    format!("the drill with {resource}: {}, {} ({at})", verdict.word(), verdict.text())
                }
                None => continue,
            };
            let subject = Subject::Resource { resource: resource.clone() };
            let todo = "what a cancel promises may not hold: find out why, then sexton drill run";
            holding.add(Alarm::new(AlarmKind::Drill, None, subject, text, todo));
        }
    }

    /// One for each kind and scope.
    fn censuses(&self, holding: &mut Holding) {
        for Lapse { kind, scope, why } in &self.lapses {
            let text = match why {
                Lapsed::Refused(refusal) => {
                    let Refusal { at, why, .. } = refusal;
                    let whose = refusal.whose();
                    format!("the newest census of {kind} in {scope} is not believed: {why} ({whose}, {at})")
                }
                Lapsed::Silent { since } => {
                    format!(
                        "no census of {kind} in {scope} was believed for more than a day: the last one at {since}"
                    )
                }
                Lapsed::Missed(missed) => missed.to_string(),
            };
            holding.add(Alarm::new(
                AlarmKind::Census,
                Some(scope.clone()),
                Subject::Censuses { kind: kind.clone(), scope: scope.clone() },
                text,
                "nobody sees what others delete there, and shares are of what was there once: put right what hands it in, or takes it; \
                 it ends with the next one that is believed",
            ));
        }
    }

    /// One for each consumer and kind, whatever it was asked; and one for what is tried in the job table.
    fn canaries(&self, holding: &mut Holding) {
        let mut found = BTreeMap::new();
        for canary in &self.canaries {
            let Some(Judged { verdict, at, .. }) = canary.standing().filter(|judged| judged.verdict.alarms())
            else {
                continue;
            };
            let (instance, probe) = (canary.probe.instance(), &canary.probe);
            let asked = match probe.tried_of() {
                None => probe.word().to_owned(),
                Some(_) => format!("{}, {}", probe.word(), probe.about()),
            };
            let (kind, todo) = match verdict {
                Verdict::Accepted { .. } => (
                    AlarmKind::CanaryAccepted,
                    "everything is paused: find out who answers for it, and only then sexton resume",
                ),
                Verdict::Unanswered | Verdict::Unclear { .. } | Verdict::Holds { .. }
                    if instance.is_none() =>
                {
                    (
                        AlarmKind::CanaryUnproved,
                        "see what it says, and have it tried again: sexton canaries run",
                    )
                }
                Verdict::Unanswered | Verdict::Unclear { .. } | Verdict::Holds { .. } => {
                    (AlarmKind::CanaryUnproved, "see whether it runs, and ask again: sexton canaries run")
                }
            };
            let text = format!(
                "{}: {asked}, which must be {}: {}, {} ({at})",
                probe.asked(),
                probe.must(),
                verdict.word(),
                verdict.text()
            );
            let subject = instance.map_or(Subject::Ledger, |of| Subject::Instance { instance: of.clone() });
            let alarm = || Alarm::new(kind, None, subject, text, todo);
            found.entry((kind, instance)).or_insert_with(alarm);
        }
        found.into_values().for_each(|alarm| holding.add(alarm));
    }
}

/// That a coordinator orders nothing because its witness could not be kept for so many seconds.
pub fn orders_stopped(name: &str, stale_s: u64) -> Alarm {
    // The number of seconds would make it another text each time.
    let minutes = stale_s / 60;
    Alarm::new(
        AlarmKind::OrdersStopped,
        None,
        Subject::Coordinator { name: name.to_owned() },
        format!(
            "the coordinator {name} orders nothing: its witness could not be kept for more than {minutes} min"
        ),
        "look whether the disk of the witness is full or gone; it goes on by itself",
    )
}

/// That a coordinator cannot read its calendar of holidays any more.
pub fn calendar(name: &str, why: &str) -> Alarm {
    Alarm::new(
        AlarmKind::Calendar,
        None,
        Subject::Coordinator { name: name.to_owned() },
        format!("the coordinator {name} goes by the holidays that it has read before: {why}"),
        "put the file right; it is read again within a minute",
    )
}

/// That a coordinator signs nothing more of the audit trail.
pub fn audit_trail(name: &str, why: &str) -> Alarm {
    Alarm::new(
        AlarmKind::AuditTrail,
        None,
        Subject::Coordinator { name: name.to_owned() },
        format!("the coordinator {name} signs nothing more of the audit trail: {why}"),
        "find out with sexton verify whether somebody has rewritten it, and keep the file of signed checkpoints; if its disk \
         is full or gone, it goes on by itself",
    )
}

/// That a process cannot reach the job table.
pub fn job_table(name: &str, why: &str) -> Alarm {
    Alarm::new(
        AlarmKind::JobTable,
        None,
        Subject::Coordinator { name: name.to_owned() },
        format!("the coordinator {name} cannot reach the job table: {why}"),
        "look at the database and at the way to it; nothing is deleted meanwhile, and it goes on by itself",
    )
}

/// Whether nothing of it is left: its data is destroyed, and nothing was let pass that may remain.
pub fn gone(d: &Deletion) -> bool {
    let done = |stage: Stage| d.stage_job(stage).is_some_and(|job| matches!(job.state, JobState::Done));
    let last = if d.plan.stage(Stage::Purge).steps.is_empty() { Stage::Hard } else { Stage::Purge };
    done(last) && d.may_remain().is_empty()
}

/// The end of the day by which it has to be gone, if that was asked for.
pub fn gone_by_end(d: &Deletion, day: Day) -> Option<Timestamp> {
    d.record.gone_by.map(|date| outlook::end_of(d, date, day))
}

/// From when on it is overdue, if it is a credential: the configured days after its due date, but not before its plan
/// would have had it gone.
pub fn overdue_from(d: &Deletion, at: &Moment) -> Option<Timestamp> {
    if d.record.resource.criticality != Criticality::Credential {
        return None;
    }
    let zone = d.record.due.zone.0;
    let due = add_days(d.date_of(Stage::Soft, at.day), i32::from(at.rules.credential_days), zone, at.day);
    let planned = add_days(d.date_of(Stage::Purge, at.day), 1, zone, at.day);
    Some(due.max(planned))
}

/// The job that is parked, and why.
pub fn parked(d: &Deletion) -> Option<(&Job, &str)> {
    d.jobs.iter().find_map(|job| match &job.state {
        JobState::Parked { reason } => Some((job, reason.as_str())),
        _ => None,
    })
}

/// The announcement of which not everybody could be told, since when, and why at first; none of what nobody wants to go, nor of a
/// drill, which says by itself what came of it.
pub fn untold(d: &Deletion) -> Option<(&Job, Timestamp, &str)> {
    let (job, first) = notice::undelivered(d)?;
    let wanted = d.status == RecordStatus::Live && !drill::is_drill(d);
    wanted.then_some((job, first.at, first.evidence.as_str()))
}

/// Why it is not gone, in some words.
pub fn standstill(d: &Deletion) -> String {
    let job = d.jobs.iter().find(|job| !job.state.name().over());
    let Some(job) = job else { return "every stage is over".to_owned() };
    let why = match &job.state {
        JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. } => format!(": {by}"),
        JobState::Waiting { reason, .. } | JobState::Parked { reason } => format!(": {reason}"),
        JobState::Scheduled { due_at: Some(due_at) } => format!(", due {due_at}"),
        _ => String::new(),
    };
    format!("{} is {}{why}", job.kind, job.state.name())
}

/// The alarms that hold because of one live deletion; `parked_at`: since when its job is parked, as far as that is known.
pub fn of_deletion(d: &Deletion, parked_at: Option<Timestamp>, at: &Moment) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let (resource, scope) = (&d.record.resource.id, &d.record.resource.scope);
    let mut add = |kind, text: String, todo: String| {
        let subject = Subject::Deletion { deletion: d.id, resource: resource.clone() };
        alarms.push(Alarm::new(kind, Some(scope.clone()), subject, text, todo));
    };
    // Whoever cancels does not want it gone any more, and nobody wants what a drill is held with to go.
    let wanted = d.status == RecordStatus::Live && !gone(d) && !drill::is_drill(d);
    if let Some(date) = d.record.gone_by.filter(|_| wanted)
        && gone_by_end(d, at.day).is_some_and(|end| at.now >= end)
    {
        let text = format!("{resource} should be gone by {date} and is not: {}", standstill(d));
        add(AlarmKind::MissedGoneBy, text, way_on(d, at));
    }
    if wanted && overdue_from(d, at).is_some_and(|from| at.now >= from) {
        let due = d.record.due.date;
        let text =
            format!("the credential {resource} was due on {due}, and may still be good: {}", standstill(d));
        add(AlarmKind::OverdueCredential, text, way_on(d, at));
    }
    let hour_ms = at.day.length_ms() / 24;
    let for_long = |since: Timestamp| at.now >= since.plus_ms(u64::from(at.rules.untold_hours) * hour_ms);
    let untold = untold(d).filter(|(_, since, _)| for_long(*since));
    if let Some((job, since, why)) = untold {
        let text = format!(
            "not everybody could be told since {since} that {resource} goes, and soft waits for it: {why}"
        );
        add(AlarmKind::Untold, text, untold_way_on(d, job, at));
    }
    let late = not_back(d, at);
    if let Some((job, reason)) = parked(d) {
        let refused = d.step_at(job).is_some_and(|(_, _, step)| step::is_refusal(&step.name, reason));
        // Whoever knows that nobody was told, or that it is not back, is not told that nothing goes on because of it.
        let known = untold.is_some() || late.is_some();
        let long = !known && parked_at.is_some_and(|since| at.now.ms_since(since) >= at.rules.parked_ms);
        if refused {
            let text = format!("{} of {resource} is parked: {reason}", job.kind);
            add(AlarmKind::Refused, text, refusal_way_on(d, at));
        } else if long {
            let text = format!(
                "{} of {resource} is parked since {}: {reason}",
                job.kind,
                parked_at.unwrap_or_default()
            );
            add(AlarmKind::Parked, text, way_on(d, at));
        }
    }
    if let Some(late) = late {
        alarms.push(late.alarm(d));
    }
    alarms
}

fn way_on(d: &Deletion, at: &Moment) -> String {
    let id = d.id;
    format!(
        "sexton show {id} says what it waits for, and which ways there are on; what can be undone: {}",
        undone(d, at)
    )
}

/// What to do about an announcement that is not delivered: nobody tries again one that is parked but who says so.
fn untold_way_on(d: &Deletion, job: &Job, at: &Moment) -> String {
    let (id, undone) = (d.id, undone(d, at));
    if matches!(job.state, JobState::Parked { .. }) {
        let mark = crate::decide::mark(d).unwrap_or_default();
        return format!(
            "it is parked, and not tried again by itself: put right what delivers it, then sexton retry {id}; or, after three \
             days, once everybody was told otherwise, sexton acknowledge {id} --mark {mark} --reason …; what can be undone: {undone}"
        );
    }
    format!(
        "put right what delivers it: it is tried again by itself, for three days; sexton show {id} says what it was answered last, and \
         from when on sexton acknowledge takes that they were told otherwise; what can be undone: {undone}"
    )
}

fn refusal_way_on(d: &Deletion, at: &Moment) -> String {
    let id = d.id;
    format!(
        "look whether it is still the same one (sexton show {id}); if somebody else's is there, sexton cancel {id}; \
         sexton retry {id} once it is put right; what can be undone: {}",
        undone(d, at)
    )
}

/// What can still be undone, and until when.
fn undone(d: &Deletion, at: &Moment) -> String {
    undo::undo(d, at.day, at.of_the_hour().now).offer()
}
