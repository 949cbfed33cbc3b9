//! The rules a plan must keep. Each says the line and the reason; none has a silent default.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::reread::MARK;
use super::{
    NAME_MAX, NAMED_MAX, OFFSET_MAX_DAYS, OwnStep, PARAMS_MAX_BYTES, Performer, PlanStage, Problems, Step,
    UNANNOUNCED_MAX,
};
use crate::catalogue::{Action, Catalogue, Nature, REVERSIBLE_DEADLINE_MAX_MS};
use crate::id::Subsystem;
use crate::job::Stage;
use crate::resource::Criticality;

/// Offsets grow from stage to stage, by at least the grace that the criticality demands where something
/// becomes less reversible.
pub(super) fn offsets(
    offsets: &[(i32, usize)],
    criticality: Criticality,
    rehearsal: bool,
    found: &mut Problems<'_>,
) {
    for ((days, at), stage) in offsets.iter().zip(Stage::ALL) {
        if days.unsigned_abs() > OFFSET_MAX_DAYS.unsigned_abs() {
            found.at(
                *at,
                format!(
                    "offset_days: {stage}: expected -{OFFSET_MAX_DAYS} to {OFFSET_MAX_DAYS}, found {days}"
                ),
            );
        }
    }
    for (pair, stage) in offsets.windows(2).zip(&Stage::ALL[1..]) {
        let grace = i64::from(pair[1].0) - i64::from(pair[0].0);
        if grace < 0 {
            found.at(pair[1].1, format!("offset_days: {stage} would be due before the stage it follows"));
        }
        let least = match stage {
            Stage::Hard | Stage::Purge if !rehearsal => i64::from(criticality.least_grace_days()),
            Stage::Announce | Stage::Soft | Stage::Hard | Stage::Purge | Stage::Recycle => 0,
        };
        if (0..least).contains(&grace) {
            found.at(
                pair[1].1,
                format!(
                    "offset_days: {stage} follows after {grace} days, but {criticality:?} resources need at \
                     least {least}"
                ),
            );
        }
    }
}

/// How a plan says why nobody is told.
const REASON: &str = "unannounced = \"REASON\"";

/// Before anything happens somebody is told, and has at least a day to say no; or the plan says why nobody is, or not in time.
/// What looks, checks or tells people is nothing that happens. Offsets are those of the stages, with each its place in the file.
pub(super) fn notice(
    (stages, offsets): (&[PlanStage], &[(i32, usize)]),
    unannounced: Option<&(usize, String)>,
    rehearsal: bool,
    found: &mut Problems<'_>,
) {
    if let Some((at, reason)) = unannounced {
        let length = reason.chars().count();
        if reason.trim().is_empty() || length > UNANNOUNCED_MAX || reason.contains(char::is_control) {
            let expected = format!("expected a line of 1 to {UNANNOUNCED_MAX} characters, found {length}");
            found.at(*at, format!("unannounced: {expected}: it says why nobody is told, or not in time"));
        }
    }
    let ([announce, later @ ..], [(announced, at), following @ ..]) = (stages, offsets) else { return };
    let told = announce.steps.iter().find(|step| step.notice);
    let early = announce.steps.iter().find(|step| step.acts());
    let acting = |stage: &PlanStage| stage.steps.iter().any(Step::acts);
    let behind = Stage::ALL.into_iter().skip(1);
    let first = later.iter().zip(following).zip(behind).find(|((stage, _), _)| acting(stage));
    let at_once = first.filter(|((_, (days, _)), _)| days == announced);
    if let (Some(step), Some((at, _))) = (told, unannounced)
        && early.is_none()
        && at_once.is_none()
    {
        found.at(*at, format!("unannounced: somebody is told, by {}: leave one of the two out", step.name));
    }
    if rehearsal || unannounced.is_some() || (early.is_none() && first.is_none()) {
        return;
    }
    if told.is_none() {
        let expected =
            "announce: expected a step that tells people, such as notifier.announce, or why nobody is told";
        found.at(*at, format!("{expected}: {REASON}"));
        return;
    }
    if let Some(step) = early {
        let name = &step.name;
        let expected = "expected it in a later stage, or why nobody is told in time";
        found.at(*at, format!("announce: {name} acts before anybody could say no: {expected}: {REASON}"));
    }
    if let Some(((_, (_, at)), stage)) = at_once {
        let why = format!("{stage} follows the notice at once, and nobody could say no");
        let expected = "expected at least a day, or why nobody is told in time";
        found.at(*at, format!("offset_days: {why}: {expected}: {REASON}"));
    }
}

/// What a step says is no more than can travel and be shown. With each its place in the file.
pub(super) fn sizes(
    (name, at): (&str, usize),
    (params, params_at): (&BTreeMap<String, Value>, usize),
    lists: [(&str, &Vec<String>); 2],
    found: &mut Problems<'_>,
) {
    // The rest of a name that is too long would make the reason as long.
    let shown: String = name.chars().take(NAME_MAX).collect();
    let length = name.chars().count();
    if !(1..=NAME_MAX).contains(&length) {
        found.at(at, format!("step {shown}: name: expected 1 to {NAME_MAX} characters, found {length}"));
    }
    let bytes = serde_json::to_vec(params).map_or(usize::MAX, |text| text.len());
    if bytes > PARAMS_MAX_BYTES {
        let expected = format!("expected at most {PARAMS_MAX_BYTES} bytes of JSON, found {bytes}");
        found.at(params_at, format!("step {shown}: params: {expected}"));
    }
    for (key, list) in lists {
        let longest = list.iter().map(|entry| entry.chars().count()).max().unwrap_or(0);
        if list.len() > NAMED_MAX || longest > NAME_MAX {
            let expected = format!("expected at most {NAMED_MAX} names of at most {NAME_MAX} characters");
            found.at(at, format!("step {shown}: {key}: {expected}"));
        }
    }
}

/// What the linter remembers of the steps it has passed.
#[derive(Default)]
pub(super) struct Linted {
    /// Step name → its offset in the file.
    seen: Vec<String>,
    /// What → the steps that end its use.
    enders: BTreeMap<String, Vec<String>>,
    /// Steps that give something away, or take it away for good.
    releases: Vec<Release>,
    /// Who has looked at announce, and so has pinned something to compare with.
    inspected: BTreeSet<Subsystem>,
    /// Steps that destroy something: their offsets in the file, their names, and at whom.
    destroys: Vec<(usize, String, Subsystem)>,
}

struct Release {
    /// Of the step in the file.
    offset: usize,
    name: String,
    /// What it does with it, as the catalogue says: `releases` or `withdraws`.
    does: &'static str,
    what: String,
    after: Vec<String>,
    /// How many of the steps that end its use stand before this one.
    earlier: usize,
}

/// In the catalogue and in reasons: what another one may get.
const RELEASES: &str = "releases";
/// In the catalogue and in reasons: what nobody has afterwards.
const WITHDRAWS: &str = "withdraws";

impl Linted {
    pub(super) fn step(
        &mut self,
        stage: Stage,
        offset: usize,
        step: &Step,
        action: Option<&Action>,
        found: &mut Problems<'_>,
    ) {
        let name = &step.name;
        if name.contains(MARK) {
            found.at(
                offset,
                format!("step {name}: {MARK} stands in the names of steps that read targets again, and in no others"),
            );
        }
        if stage.reversible() && step.nature == Nature::Destructive {
            found.at(offset, format!("step {name}: {stage} can be cancelled, but this step has no undo"));
        }
        if stage.reversible()
            && step.nature != Nature::Inspect
            && step.deadline_ms > REVERSIBLE_DEADLINE_MAX_MS
        {
            let most = REVERSIBLE_DEADLINE_MAX_MS;
            found.at(
                offset,
                format!(
                    "step {name}: deadline_ms: expected at most {most} in {stage}: a restore waits for it"
                ),
            );
        }
        if stage == Stage::Recycle {
            found.at(offset, format!("step {name}: recycle only frees the name, it has no steps"));
        }
        if let Some(action) = action
            && stage < action.earliest
        {
            found.at(
                offset,
                format!("step {name}: {stage} is before {}, its earliest stage", action.earliest),
            );
        }
        self.pins(stage, offset, step, found);
        if stage == Stage::Announce && step.notice && !step.after.is_empty() {
            let before = step.after.join(", ");
            let why = "people are told all the same if that is waived: expected no `after` of the notice";
            found.at(offset, format!("step {name}: after = {before}: {why}"));
        }
        match &step.performer {
            Performer::Coordinator(OwnStep::RemoveFromInventory) if stage != Stage::Hard => {
                found.at(offset, format!("step {name}: belongs into hard"));
            }
            Performer::Coordinator(OwnStep::Receipt) if stage != Stage::Purge => {
                found.at(offset, format!("step {name}: belongs into purge"));
            }
            Performer::Coordinator(_) | Performer::Subsystem { .. } => {}
        }
        for wanted in &step.after {
            if !self.seen.contains(wanted) {
                found.at(offset, format!("step {name}: after = {wanted:?} names no step before this one"));
            }
        }
        if let Some(action) = action {
            let releases = action.releases.iter().map(|what| (RELEASES, what));
            let withdraws = action.withdraws.iter().map(|what| (WITHDRAWS, what));
            for (does, what) in releases.chain(withdraws) {
                self.releases.push(Release {
                    offset,
                    name: name.clone(),
                    does,
                    what: what.clone(),
                    after: step.after.clone(),
                    earlier: self.enders.get(what).map_or(0, Vec::len),
                });
            }
            for what in &action.ends_use_of {
                self.enders.entry(what.clone()).or_default().push(name.clone());
            }
        }
        self.seen.push(name.clone());
    }

    /// What is pinned is pinned at announce, and by itself never more than the plan and the subsystem allow.
    fn pins(&mut self, stage: Stage, offset: usize, step: &Step, found: &mut Problems<'_>) {
        let name = &step.name;
        if let Performer::Subsystem { subsystem, .. } = &step.performer {
            if step.nature == Nature::Inspect && stage == Stage::Announce {
                self.inspected.insert(subsystem.clone());
            }
            if step.nature == Nature::Destructive {
                self.destroys.push((offset, name.clone(), subsystem.clone()));
            }
        }
        if step.nature == Nature::Inspect && stage != Stage::Announce {
            found.at(
                offset,
                format!(
                    "step {name}: belongs into announce; what it pins is read again by itself before each later \
                     stage"
                ),
            );
        }
        if step.nature != Nature::Inspect && !step.rolling.is_empty() {
            found.at(offset, format!("step {name}: rolling: only a step that inspects pins anything"));
        }
        for key in step.rolling.iter().filter(|key| step.irreplaceable.contains(key)) {
            found.at(
                offset,
                format!("step {name}: rolling = {key:?} is irreplaceable: nothing new of it is ever pinned by itself"),
            );
        }
    }

    /// Nothing is destroyed at a subsystem that was not looked at while anybody could say no: what is pinned then is what its later
    /// steps, and whoever looks before each stage, compare with. One without an action that looks has nothing to pin.
    pub(super) fn inspections(&self, catalogue: &Catalogue, found: &mut Problems<'_>) {
        for (offset, name, subsystem) in &self.destroys {
            let actions = catalogue.subsystem(subsystem).into_iter().flatten();
            let looks = actions.filter(|(_, action)| action.nature == Nature::Inspect);
            let looks: Vec<_> = looks.map(|(action, _)| format!("{subsystem}.{action}")).collect();
            if !looks.is_empty() && !self.inspected.contains(subsystem) {
                let expected = looks.join(" or ");
                let why = "destroys what nobody has looked at and pinned";
                found.at(*offset, format!("step {name} {why}: expected {expected} at announce"));
            }
        }
    }

    /// What is given away, or taken away for good, must have been given up before, by steps that the one which does it depends on:
    /// else it would go although what uses it may remain. What is given away is always used by something.
    pub(super) fn finish(self, found: &mut Problems<'_>) {
        for release in self.releases {
            let Release { offset, name, does, what, after, earlier } = release;
            let enders = self.enders.get(&what).map_or(&[][..], Vec::as_slice);
            if enders.is_empty() && does == RELEASES {
                let reason = format!("step {name} {does} {what}, but no step removes what uses it");
                found.at(offset, reason);
            }
            for (n, ender) in enders.iter().enumerate() {
                if n >= earlier {
                    found
                        .at(offset, format!("step {name} {does} {what} before {ender}, which still uses it"));
                } else if !after.contains(ender) {
                    found.at(offset, format!("step {name} {does} {what}: expected after = [\"{ender}\"]"));
                }
            }
        }
    }
}
