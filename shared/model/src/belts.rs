//! Belts: what can stop a deletion. Evaluated in the claiming transaction, before the claim, and again before
//! every order. The first that says "not now" is the one shown. None of them ever stops a restore.
pub mod budget;
pub mod ceiling;
pub mod census;
pub mod covered;
pub mod healthy;
pub mod one_shot;
pub mod pauses;
pub mod redundancy;
pub mod resource_hold;
pub mod window;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claims::Claimable;
use crate::credit::Draw;
use crate::decide::{Capacity, Context, Lane, notice};
use crate::deletion::{CannotDelete, Deletion, Zone};
use crate::drill;
use crate::id::{Actor, Instance, Kind, ResourceId, Scope, Subsystem};
use crate::job::{Blocker, Job, JobKind, Stage};
use crate::time::{Day, Timestamp};

use budget::{Budgets, Standing};
use ceiling::{Ceiling, Ceilings};
use one_shot::{OneShot, Passable};
use window::Windows;

/// What a pause covers: everything that matches all that is given; nothing given covers everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseSelector {
    /// Only this stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Only this kind of resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Only this scope and those below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Only steps of this subsystem.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<Subsystem>,
}

impl fmt::Display for PauseSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stage, kind, scope, subsystem } = self;
        let parts: Vec<String> = [
            stage.map(|s| format!("stage {s}")),
            kind.as_ref().map(|k| format!("kind {k}")),
            scope.as_ref().map(|s| format!("scope {s}")),
            subsystem.as_ref().map(|s| format!("subsystem {s}")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if parts.is_empty() { f.write_str("everything") } else { f.write_str(&parts.join(", ")) }
    }
}

/// Somebody said stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Its number.
    pub id: i64,
    /// What it covers.
    pub covers: PauseSelector,
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

impl Pause {
    /// What it says to what it covers.
    pub fn blocker(&self) -> Blocker {
        Blocker::Pause { pause: self.id, what: format!("{}: {}", self.by, self.reason) }
    }

    /// Which stages of a deletion it covers that are not over, by any step that is left of them.
    pub fn stages_of(&self, deletion: &Deletion) -> Vec<Stage> {
        let open = |stage: &Stage| {
            let job = deletion.stage_job(*stage).filter(|job| !job.state.name().over());
            job.is_some_and(|job| self.covers.covers_any(deletion, job))
        };
        Stage::ALL.into_iter().filter(open).collect()
    }
}

/// What people have said that holds for many deletions at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InForce {
    /// The pauses.
    pub pauses: Vec<Pause>,
    /// How far deletions of each scope may go.
    pub ceilings: Ceilings,
    /// What single deletions may pass.
    pub one_shots: Vec<OneShot>,
}

/// What the configuration says, for all deletions at all times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// When stages past the end of cancel may begin; `None`: always.
    pub windows: Option<Windows>,
    /// How many may begin within a day; `None`: what [`Budgets::default`] says, and in a rehearsal as many as there are.
    pub budgets: Option<Budgets>,
    /// What makes a listing complete.
    pub census: census::Rules,
    /// These are protected, whatever is registered.
    pub protected: BTreeSet<ResourceId>,
    /// Which statements are one resource's alone, as the catalogue of subsystems says it.
    pub claimable: Claimable,
    /// Whose calendar a date is of that is stated without a zone.
    pub zone: Zone,
}

/// Whoever configures nothing has working hours all the same.
impl Default for Policy {
    fn default() -> Self {
        Self {
            windows: Some(Windows::default()),
            budgets: None,
            census: census::Rules::default(),
            protected: BTreeSet::new(),
            claimable: Claimable::default(),
            zone: Zone(Tz::UTC),
        }
    }
}

impl Policy {
    /// Whether a record may be made for a resource, as far as the configuration goes.
    ///
    /// # Errors
    /// If it protects it.
    pub fn lets_go(&self, resource: &ResourceId) -> Result<(), CannotDelete> {
        if self.protected.contains(resource) {
            return Err(CannotDelete::Configured(resource.to_string()));
        }
        Ok(())
    }

    /// What nobody would notice until it is too late: nothing is protected, Sexton's own machines neither. Whoever rehearses
    /// deletes none of those.
    pub fn lacks(&self, day: Day) -> Option<&'static str> {
        let lacks = self.protected.is_empty() && !day.is_rehearsal();
        lacks.then_some(
            "no resource is configured to be protected, Sexton's own machines neither: see [protect] resources",
        )
    }

    /// How many may begin within a day.
    pub fn budgets(&self, day: Day) -> Cow<'_, Budgets> {
        match &self.budgets {
            Some(budgets) => Cow::Borrowed(budgets),
            None if day.is_rehearsal() => Cow::Owned(Budgets::none()),
            None => Cow::Owned(Budgets::default()),
        }
    }

    /// Whether a job that has not begun `stage` yet has to be admitted; one that has piled up has to all the same
    /// ([`Self::counts_backlog`]).
    pub fn counts(&self, stage: Stage, day: Day) -> bool {
        match &self.budgets {
            Some(budgets) => budgets.bind(stage),
            None => !day.is_rehearsal() && Budgets::default().bind(stage),
        }
    }

    /// Whether a job that has not begun `stage` yet has to be admitted because it is one of a backlog.
    pub fn counts_backlog(&self, (stage, job): (Stage, &Job), now: Timestamp, day: Day) -> bool {
        budget::backlog::may_be(job, now) && self.budgets(day).backlog((stage, job), now, day)
    }
}

impl PauseSelector {
    /// Whether it covers the next step of `job`.
    pub fn covers(&self, deletion: &Deletion, job: &Job) -> bool {
        self.covers_stage(deletion, job)
            && self.subsystem.as_ref().is_none_or(|s| deletion.wants(job).is_some_and(|i| i.subsystem == *s))
    }

    /// Whether it covers any step that is left of `job`.
    pub fn covers_any(&self, deletion: &Deletion, job: &Job) -> bool {
        let has = |s: &Subsystem| deletion.left(job).any(|(_, instance)| instance.subsystem == *s);
        self.covers_stage(deletion, job) && self.subsystem.as_ref().is_none_or(has)
    }

    /// Whether it covers the stage of `job`, whatever its subsystem.
    fn covers_stage(&self, deletion: &Deletion, job: &Job) -> bool {
        let JobKind::Stage(stage) = job.kind else { return false };
        let resource = &deletion.record.resource;
        self.may_cover(stage, &resource.id.kind, &resource.scope)
    }

    /// Whether it covers this stage of what is of that kind and scope, if it has a step of its subsystem.
    fn may_cover(&self, stage: Stage, kind: &Kind, scope: &Scope) -> bool {
        self.stage.is_none_or(|s| s == stage)
            && self.kind.as_ref().is_none_or(|k| k == kind)
            && self.scope.as_ref().is_none_or(|s| within(scope, s))
    }
}

/// Whether `scope` is `outer` or below it: by whole path segments, so `tenants/ac` does not contain
/// `tenants/acme`.
pub fn within(scope: &Scope, outer: &Scope) -> bool {
    scope.as_str().strip_prefix(outer.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A belt, by what it looks at; in the order in which they stop a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Belt {
    /// The resource's protection.
    Protection,
    /// A drill goes no further than soft.
    Drill,
    /// Holds on the resource and on the record.
    Hold,
    /// A notice that came back.
    Notice,
    /// Pauses.
    Pause,
    /// How far deletions of the scope may go.
    Ceiling,
    /// Whether it is in use, as its subsystems see it.
    InUse,
    /// Grace in which nobody could have cancelled.
    HealthyTime,
    /// Whether those are there whom later steps need.
    Consumers,
    /// Working hours.
    Window,
    /// How many may begin.
    Budget,
    /// Others of its redundancy groups.
    Redundancy,
}

impl Belt {
    /// The words for it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Protection => "protection",
            Self::Drill => "drill",
            Self::Hold => "holds",
            Self::Notice => "notice",
            Self::Pause => "pauses",
            Self::Ceiling => "ceiling",
            Self::InUse => "in use",
            Self::HealthyTime => "healthy time",
            Self::Consumers => "consumers",
            Self::Window => "working hours",
            Self::Budget => "budget",
            Self::Redundancy => "redundancy",
        }
    }
}

/// What one belt says of the next step of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Which belt.
    pub belt: Belt,
    /// Why it says "not now", if it does.
    pub stopped: Option<Blocker>,
}

type Rule = for<'a, 'b> fn(&'a Deletion, (Stage, &'a Job), &'a Context<'b>) -> Option<Blocker>;

/// All that is known in the job table. Whether something is in use is asked of its subsystems, by steps of the plan.
const RULES: [(Belt, Rule); 11] = [
    (Belt::Protection, protected),
    // Whatever its date, and whoever lets it pass anything else.
    (Belt::Drill, drilled),
    (Belt::Hold, held),
    (Belt::Notice, untold),
    (Belt::Pause, paused),
    (Belt::Ceiling, above),
    // After those that somebody could do something about: they should be seen first.
    (Belt::HealthyTime, unhealthy),
    (Belt::Consumers, deserted),
    (Belt::Window, closed),
    // What was counted; only what nothing stops is, see `unadmitted`.
    (Belt::Budget, frozen),
    // Last: whom it holds nothing else holds, and that is why it counts as retired with its group.
    (Belt::Redundancy, not_alone),
];

/// What stops the next step of `job`, if anything does: the first of its [`verdicts`].
pub fn blocker(deletion: &Deletion, job: &Job, context: &Context<'_>) -> Option<Blocker> {
    let JobKind::Stage(stage) = job.kind else { return None };
    RULES.iter().find_map(|(_, rule)| rule(deletion, (stage, job), context))
}

/// What every belt says of the next step of `job`, whatever those before it say; none of a restore.
pub fn verdicts(deletion: &Deletion, job: &Job, context: &Context<'_>) -> Vec<Verdict> {
    let JobKind::Stage(stage) = job.kind else { return Vec::new() };
    let verdict =
        |(belt, rule): &(Belt, Rule)| Verdict { belt: *belt, stopped: rule(deletion, (stage, job), context) };
    RULES.iter().map(verdict).collect()
}

fn protected(deletion: &Deletion, _: (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    if deletion.protected {
        return Some(Blocker::Protected);
    }
    if context.policy.protected.contains(&deletion.record.resource.id) {
        return Some(Blocker::Protected);
    }
    None
}

fn drilled(deletion: &Deletion, (stage, _): (Stage, &Job), _: &Context<'_>) -> Option<Blocker> {
    if !stage.reversible() && drill::is_drill(deletion) {
        return Some(Blocker::Drill);
    }
    None
}

fn held(deletion: &Deletion, _: (Stage, &Job), _: &Context<'_>) -> Option<Blocker> {
    if let Some(hold) = deletion.resource_holds.first() {
        return Some(resource_hold::blocker(hold));
    }
    if let Some(hold) = deletion.holds.first() {
        return Some(hold.blocker());
    }
    None
}

fn untold(deletion: &Deletion, (stage, _): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    if stage == Stage::Soft
        && let Some(since) = notice::came_back_since(deletion)
    {
        let from = notice::patience_ends(deletion, since, context.day);
        return Some(Blocker::Untold { since, from });
    }
    None
}

/// A stage that has not begun is stopped by a pause of any of its steps: begun for the sake of the first ones, it
/// would stand before the others with its lock, and it would be too late for a cancel, or a rescue, though nothing
/// was touched.
fn paused(deletion: &Deletion, (_, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    let covers: fn(&PauseSelector, &Deletion, &Job) -> bool = match budget::bound(job) {
        true => PauseSelector::covers_any,
        false => PauseSelector::covers,
    };
    let pause = context.in_force.pauses.iter().find(|pause| covers(&pause.covers, deletion, job));
    pause.map(Pause::blocker)
}

fn above(deletion: &Deletion, (stage, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    above_ceiling(deletion, (stage, job), context.in_force, context.now)
}

/// What stops a stage that its scope's ceiling does not let begin, whenever it is due.
pub(crate) fn above_ceiling(
    deletion: &Deletion,
    (stage, job): (Stage, &Job),
    in_force: &InForce,
    now: Timestamp,
) -> Option<Blocker> {
    let (ceilings, scope) = (&in_force.ceilings, &deletion.record.resource.scope);
    let ceiling = ceilings.height(scope);
    let passes = passing(deletion, job, (&in_force.one_shots, now));
    if ceiling < Ceiling::needed_for(stage) && !passes(Passable::Ceiling) {
        let of = ceilings.of(scope).and_then(|said| said.scope.as_ref());
        return Some(Blocker::Ceiling { stage, of: ceiling::of(of), ceiling });
    }
    None
}

fn not_alone(deletion: &Deletion, (_, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    if let Some(redundancy) = redundancy::blocker(deletion, job, context) {
        return Some(redundancy);
    }
    None
}

fn unhealthy(deletion: &Deletion, (stage, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    if let Some(outage) = healthy::blocker(deletion, (stage, job), context.healthy, context.now) {
        return Some(outage);
    }
    None
}

/// A stage from soft on does not begin while somebody is down whom a later step of it needs: it would stand before
/// that step with its lock, half of it done, where a cancel of hard, or a rescue before purge, comes too late; and
/// whatever had come to stand there would go on all at once. Of whom its first step needs the claim asks anyway:
/// credit.
///
/// Only who was there and is down, and not who has been gone for a day, or was never there: such a stage begins and
/// parks at that step, which is the only place where a person can let it pass. So what is held here ends by itself.
fn deserted(deletion: &Deletion, (stage, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    if stage == Stage::Announce || !budget::bound(job) {
        return None;
    }
    let down = |instance: &Instance| (context.capacity)(instance, Lane::Stages, Draw::ANY) == Capacity::Down;
    let mut left = deletion.left(job).map(|(_, instance)| instance);
    let first = left.next()?;
    let instance = left.find(|instance| *instance != first && down(instance))?;
    Some(Blocker::Consumer { instance })
}

fn closed(deletion: &Deletion, (stage, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    let passes = passing(deletion, job, (&context.in_force.one_shots, context.now));
    let windows = context.policy.windows.as_ref().filter(|_| !context.day.is_rehearsal());
    if let Some(windows) =
        windows.filter(|w| window::bound(stage, job) && !w.open(context.now) && !passes(Passable::Window))
    {
        let opens = windows.next_opening(context.now);
        return Some(Blocker::Window { stage, opens, hours: windows.to_string() });
    }
    None
}

/// What is frozen stays so, whatever stages are counted by now, or by this coordinator: it has been one of a batch since it was to
/// begin, and is let go only together with it.
fn frozen(deletion: &Deletion, (stage, job): (Stage, &Job), context: &Context<'_>) -> Option<Blocker> {
    let passes = passing(deletion, job, (&context.in_force.one_shots, context.now));
    if budget::bound(job) && !passes(Passable::Budget) {
        return match (context.standing)(job.id) {
            Standing::Frozen(frozen) => Some(Blocker::Budget { stage, frozen }),
            Standing::Unknown | Standing::Admitted => None,
        };
    }
    None
}

/// Whether a job that has not begun has to be admitted.
fn counted((stage, job): (Stage, &Job), context: &Context<'_>) -> bool {
    let (policy, day) = (context.policy, context.day);
    policy.counts(stage, day) || policy.counts_backlog((stage, job), context.now, day)
}

/// Which belts an override lets `job` pass.
fn passing<'a>(
    deletion: &'a Deletion,
    job: &'a Job,
    (one_shots, now): (&'a [OneShot], Timestamp),
) -> impl Fn(Passable) -> bool + 'a {
    move |belt| one_shot::passing(one_shots, (deletion, job), belt, now).is_some()
}

/// Whether nobody has looked yet whether `job` may begin its stage, as far as budgets go. Only what nothing else stops is
/// asked for.
pub(crate) fn unadmitted(deletion: &Deletion, job: &Job, context: &Context<'_>) -> bool {
    let JobKind::Stage(stage) = job.kind else { return false };
    let passes = || {
        let one_shots = &context.in_force.one_shots;
        one_shot::passing(one_shots, (deletion, job), Passable::Budget, context.now).is_some()
    };
    budget::bound(job)
        && counted((stage, job), context)
        && (context.standing)(job.id) == Standing::Unknown
        && !passes()
}

/// The overrides that stand for `job`, in a sentence; nothing if there are none.
pub(crate) fn overridden(deletion: &Deletion, job: &Job, context: &Context<'_>) -> String {
    if context.in_force.one_shots.is_empty() {
        return String::new();
    }
    let passing =
        |belt: &Passable| one_shot::passing(&context.in_force.one_shots, (deletion, job), *belt, context.now);
    let used: Vec<String> = Passable::ALL.iter().filter_map(passing).map(ToString::to_string).collect();
    used.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_whole_segments_only() {
        let inside = |a: &str, b: &str| within(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(inside("tenants/acme", "tenants/acme"));
        assert!(inside("tenants/acme/web", "tenants/acme"));
        assert!(!inside("tenants/acme", "tenants/ac"));
        assert!(!inside("tenants", "tenants/acme"));
    }
}
