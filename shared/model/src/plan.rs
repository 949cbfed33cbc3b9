//! Plans: per kind of resource, the stages, when they are due, and their steps. Parsed from TOML and linted;
//! a deletion record keeps a copy, so editing a plan changes no running deletion.
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalogue::{Action, Catalogue, Nature};
use crate::id::{ActionName, Instance, Kind, Subsystem};
use crate::job::Stage;
use crate::resource::{Criticality, Resource};
use crate::retry;

mod lint;
mod reread;

/// Most steps one stage may have: a job's cursor and its undo list stay small.
pub const STEPS_MAX: usize = 64;
/// Furthest that a stage may be due before or after the record's date, in days: a hundred years. Beyond what calendars
/// count, a date is a typing error, and "never" to whoever compares it.
pub const OFFSET_MAX_DAYS: i32 = 36_500;
/// Longest name of a step, in characters: it stands in every audit event, reason and event about it.
pub const NAME_MAX: usize = 100;
/// Most bytes of one step's parameters as JSON, as much as a resource's attributes: they travel with every order of it.
/// With all that is found at their largest they leave more than half of an order free.
pub const PARAMS_MAX_BYTES: usize = 16_384;
/// Longest reason why nobody is told, or not in time, in characters: it is shown with every record of the plan, and to whoever approves.
pub const UNANNOUNCED_MAX: usize = 300;
/// Most names in one `after` or `rolling`: as many as there are steps to name in a stage.
pub const NAMED_MAX: usize = STEPS_MAX;

/// A plan that passed the linter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it deletes.
    pub kind: Kind,
    /// Counted up by whoever edits it.
    pub version: u32,
    /// The most critical resources it may be used for.
    pub criticality: Criticality,
    /// It only loads in a ledger that is a rehearsal.
    pub rehearsal: bool,
    /// Each resource has to state what no other one may be registered for at the same time ([`Resource::exclusive`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclusive: bool,
    /// Why nobody is told before anything happens, or not in time to say no, as it says itself: see [`Plan::untold`]. None if
    /// somebody is; and of a rehearsal, or of a record that is older than this, if nothing was said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unannounced: Option<String>,
    /// Announce, soft, hard, purge, recycle.
    pub stages: [PlanStage; 5],
}

/// One stage of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanStage {
    /// Days after the record's due date (negative: before), in the record's zone.
    pub offset_days: i32,
    /// One after another.
    pub steps: Vec<Step>,
}

/// Who carries out a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Performer {
    /// A consumer of this subsystem.
    Subsystem {
        /// The subsystem.
        subsystem: Subsystem,
        /// Its action.
        action: ActionName,
    },
    /// The coordinator itself, in the transaction that settles the step before it.
    Coordinator(OwnStep),
}

/// What the coordinator does itself, on its own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OwnStep {
    /// `inventory.remove`: the resource leaves a tombstone until recycle.
    RemoveFromInventory,
    /// `receipt`: says on the event channel that all before it is done. The receipt itself is drawn up and signed once
    /// purge is over, whether a plan has this step or not.
    Receipt,
}

impl OwnStep {
    /// The one that a plan calls so.
    fn of(text: &str) -> Option<Self> {
        match text {
            "inventory.remove" => Some(Self::RemoveFromInventory),
            "receipt" => Some(Self::Receipt),
            _ => None,
        }
    }
}

/// One step of a stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What others call it in `after`; `SUBSYSTEM.ACTION` unless the plan names it.
    pub name: String,
    /// Who carries it out.
    pub performer: Performer,
    /// What it does to the world.
    pub nature: Nature,
    /// Longest time one order may take, in milliseconds.
    pub deadline_ms: u64,
    /// Longest single call, in milliseconds.
    pub longest_call_ms: u64,
    /// May be extended by progress.
    pub long: bool,
    /// May take a good part of its deadline.
    #[serde(default)]
    pub slow: bool,
    /// Attempts before it parks.
    pub max_attempts: u16,
    /// Names of steps this one depends on: waived as "may remain" there means waived here.
    pub after: Vec<String>,
    /// Passed to the driver.
    pub params: BTreeMap<String, Value>,
    /// Of an inspection: what [`Action::irreplaceable`] says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub irreplaceable: Vec<String>,
    /// Of an inspection: the top-level keys of what it pins that grow by themselves while the resource runs (scheduled
    /// backups, snapshots). They are pinned anew when targets are read again before hard.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rolling: Vec<String>,
    /// See [`Action::notice`]. A record that is older than this has none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub notice: bool,
}

impl Step {
    /// Whether it changes anything but what people know.
    pub(crate) fn acts(&self) -> bool {
        !self.notice && !matches!(self.nature, Nature::Inspect | Nature::Check)
    }

    /// The instance that carries it out for `resource`; none if it is the coordinator's own.
    pub fn instance_at(&self, resource: &Resource) -> Option<Instance> {
        match &self.performer {
            Performer::Subsystem { subsystem, .. } => Some(resource.instance_of(subsystem)),
            Performer::Coordinator(_) => None,
        }
    }
}

impl Plan {
    /// For whoever looks at a record of it, or approves: why nobody is told in time to say no. None if somebody is, and of a
    /// plan that only loads in a rehearsal.
    ///
    /// A record that is older than such reasons has none in its copy, nor does that say which step tells people: where nothing
    /// but looking is done at announce, nobody is told.
    pub fn untold(&self) -> Option<String> {
        let [announce, later @ ..] = &self.stages;
        let looks = |step: &Step| matches!(step.nature, Nature::Inspect | Nature::Check);
        let silent = !self.rehearsal
            && announce.steps.iter().all(looks)
            && later.iter().flat_map(|stage| &stage.steps).any(Step::acts);
        self.unannounced.clone().or_else(|| silent.then(|| "its plan does not say why".to_owned()))
    }

    /// One stage.
    pub fn stage(&self, stage: Stage) -> &PlanStage {
        &self.stages[usize::from(stage.index())]
    }

    /// Every instance that it asks for, for one resource; some more than once.
    pub fn needs(&self, resource: &Resource) -> impl Iterator<Item = Instance> {
        self.subsystems().map(|subsystem| resource.instance_of(subsystem))
    }

    /// The subsystems of its steps; some more than once.
    pub fn subsystems(&self) -> impl Iterator<Item = &Subsystem> {
        self.stages.iter().flat_map(|stage| &stage.steps).filter_map(|step| match &step.performer {
            Performer::Subsystem { subsystem, .. } => Some(subsystem),
            Performer::Coordinator(_) => None,
        })
    }

    /// Parse and lint one plan file. `rehearsal`: whether the ledger it is for is a rehearsal.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its line.
    pub fn parse(file: &str, text: &str, catalogue: &Catalogue, rehearsal: bool) -> Result<Self, PlanErrors> {
        let raw: RawPlan = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| line_of(text, span.start));
            PlanErrors { file: file.to_owned(), problems: vec![Problem { line, reason: with_key(e) }] }
        })?;
        let mut found = Problems { text, problems: Vec::new() };
        let plan = build(raw, catalogue, rehearsal, &mut found);
        match plan {
            Some(plan) if found.problems.is_empty() => Ok(plan),
            Some(_) | None => {
                found.problems.sort_by_key(|p| p.line);
                Err(PlanErrors { file: file.to_owned(), problems: found.problems })
            }
        }
    }
}

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong and what was expected.
    pub reason: String,
}

/// Why a plan is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanErrors {
    /// The file.
    pub file: String,
    /// All of it, ascending by line; never empty.
    pub problems: Vec<Problem>,
}

impl std::error::Error for PlanErrors {}

impl std::fmt::Display for PlanErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, problem) in self.problems.iter().enumerate() {
            let end = if n + 1 < self.problems.len() { "\n" } else { "" };
            write!(f, "{}:{}: {}{end}", self.file, problem.line, problem.reason)?;
        }
        Ok(())
    }
}

struct Problems<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Problems<'_> {
    fn at(&mut self, offset: usize, reason: String) {
        self.problems.push(Problem { line: line_of(self.text, offset), reason });
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// What the parser says, behind the key that it is about, unless it begins with that itself. The parser tells the key only
/// where it has no text to quote.
fn with_key(mut error: toml::de::Error) -> String {
    error.set_input(None);
    let said = error.to_string();
    let said = said.trim_end();
    let Some((reason, keys)) = said.rsplit_once("\nin `") else { return said.to_owned() };
    let keys = keys.trim_end_matches('`');
    let last = keys.rsplit('.').next().unwrap_or(keys);
    if reason.starts_with(last) { reason.to_owned() } else { format!("{keys}: {reason}") }
}

type Spanned<T> = toml::Spanned<T>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    kind: Kind,
    version: u32,
    criticality: Criticality,
    #[serde(default)]
    rehearsal: Option<Spanned<bool>>,
    #[serde(default)]
    exclusive: bool,
    #[serde(default)]
    unannounced: Option<Spanned<String>>,
    stages: RawStages,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStages {
    #[serde(alias = "prepare")]
    announce: RawStage,
    soft: RawStage,
    hard: RawStage,
    purge: RawStage,
    recycle: RawStage,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStage {
    offset_days: Spanned<i32>,
    steps: Vec<Spanned<RawStep>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStep {
    #[serde(rename = "do")]
    act: Spanned<String>,
    name: Option<String>,
    #[serde(default)]
    after: Vec<Spanned<String>>,
    deadline_ms: Option<Spanned<u64>>,
    longest_call_ms: Option<Spanned<u64>>,
    max_attempts: Option<Spanned<u16>>,
    #[serde(default)]
    params: Option<Spanned<BTreeMap<String, Value>>>,
    #[serde(default)]
    rolling: Vec<String>,
}

fn build(raw: RawPlan, catalogue: &Catalogue, rehearsal: bool, found: &mut Problems<'_>) -> Option<Plan> {
    let only_rehearsal = raw.rehearsal.as_ref().is_some_and(|r| *r.get_ref());
    if only_rehearsal && !rehearsal {
        let offset = raw.rehearsal.as_ref().map_or(0, |r| r.span().start);
        found
            .at(offset, "rehearsal: this plan only loads in a ledger that was created as a rehearsal".into());
    }
    let stages =
        [raw.stages.announce, raw.stages.soft, raw.stages.hard, raw.stages.purge, raw.stages.recycle];
    let offsets: Vec<(i32, usize)> =
        stages.iter().map(|s| (*s.offset_days.get_ref(), s.offset_days.span().start)).collect();
    lint::offsets(&offsets, raw.criticality, only_rehearsal, found);
    let mut linted = lint::Linted::default();
    let mut names = BTreeSet::new();
    let mut built = Vec::new();
    let mut understood = true;
    for (stage, raw_stage) in Stage::ALL.into_iter().zip(stages) {
        let mut steps = Vec::new();
        for raw_step in raw_stage.steps {
            let offset = raw_step.span().start;
            if let Some((step, action)) = build_step(raw_step.into_inner(), catalogue, found) {
                if !names.insert(step.name.clone()) {
                    found
                        .at(offset, format!("step {}: the name is taken, give this one a `name`", step.name));
                }
                linted.step(stage, offset, &step, action, found);
                steps.push(step);
            } else {
                understood = false;
            }
        }
        built.push(PlanStage { offset_days: *raw_stage.offset_days.get_ref(), steps });
    }
    let unannounced = raw.unannounced.map(|reason| (reason.span().start, reason.into_inner()));
    // Whether a step that nobody understands would have looked, or told anybody, is not known.
    if understood {
        linted.inspections(catalogue, found);
        lint::notice((built.as_slice(), offsets.as_slice()), unannounced.as_ref(), only_rehearsal, found);
    }
    linted.finish(found);
    reread::before_later_stages(&mut built);
    for ((stage, built), (_, offset)) in Stage::ALL.into_iter().zip(&built).zip(&offsets) {
        if built.steps.len() > STEPS_MAX {
            found.at(
                *offset,
                format!("{stage}: at most {STEPS_MAX} steps, with those that read targets again"),
            );
        }
    }
    let stages: [PlanStage; 5] = built.try_into().ok()?;
    Some(Plan {
        kind: raw.kind,
        version: raw.version,
        criticality: raw.criticality,
        rehearsal: only_rehearsal,
        exclusive: raw.exclusive,
        unannounced: unannounced.map(|(_, reason)| reason),
        stages,
    })
}

fn build_step<'c>(
    raw: RawStep,
    catalogue: &'c Catalogue,
    found: &mut Problems<'_>,
) -> Option<(Step, Option<&'c Action>)> {
    let offset = raw.act.span().start;
    let text = raw.act.into_inner();
    let after: Vec<String> = raw.after.into_iter().map(Spanned::into_inner).collect();
    let max_attempts = raw.max_attempts.as_ref().map_or(retry::ATTEMPTS, |m| *m.get_ref());
    if max_attempts == 0 {
        found.at(offset, "max_attempts: expected at least 1".into());
    }
    let name = raw.name.unwrap_or_else(|| text.clone());
    let params_at = raw.params.as_ref().map_or(offset, |params| params.span().start);
    let params = raw.params.map(Spanned::into_inner).unwrap_or_default();
    lint::sizes((&name, offset), (&params, params_at), [("after", &after), ("rolling", &raw.rolling)], found);
    if let Some(own) = OwnStep::of(&text) {
        let step = own_step(own, name, max_attempts, (after, params, raw.rolling));
        return Some((step, None));
    }
    let Some((subsystem, action)) = text.split_once('.') else {
        found.at(offset, format!("do = {text:?}: expected SUBSYSTEM.ACTION, such as hypervisor.stop"));
        return None;
    };
    let known = subsystem.parse::<Subsystem>().ok().and_then(|s| catalogue.subsystem(&s).map(|a| (s, a)));
    let Some((subsystem, actions)) = known else {
        let have: Vec<_> = catalogue.subsystems().map(Subsystem::as_str).collect();
        found.at(offset, format!("unknown subsystem {subsystem:?}: expected one of {}", have.join(", ")));
        return None;
    };
    let known = action.parse::<ActionName>().ok().and_then(|a| actions.get_key_value(&a));
    let Some((action, facts)) = known else {
        let have: Vec<_> = actions.keys().map(ActionName::as_str).collect();
        found.at(offset, format!("unknown action {text:?}: {subsystem} has {}", have.join(", ")));
        return None;
    };
    let mut at_most = |key: &str, given: Option<&Spanned<u64>>, most: u64| {
        let value = given.map_or(most, |g| *g.get_ref());
        if value == 0 || value > most {
            found.at(offset, format!("{key}: expected 1 to {most}, the most {text} may take"));
        }
        value
    };
    let deadline_ms = at_most("deadline_ms", raw.deadline_ms.as_ref(), facts.deadline_ms);
    let longest_call_ms = at_most("longest_call_ms", raw.longest_call_ms.as_ref(), facts.longest_call_ms);
    let step = Step {
        name,
        performer: Performer::Subsystem { subsystem, action: action.clone() },
        nature: facts.nature,
        deadline_ms,
        longest_call_ms,
        long: facts.long,
        slow: facts.slow,
        max_attempts,
        after,
        params,
        irreplaceable: facts.irreplaceable.clone(),
        rolling: raw.rolling,
        notice: facts.notice,
    };
    Some((step, Some(facts)))
}

fn own_step(
    own: OwnStep,
    name: String,
    max_attempts: u16,
    (after, params, rolling): (Vec<String>, BTreeMap<String, Value>, Vec<String>),
) -> Step {
    Step {
        name,
        performer: Performer::Coordinator(own),
        nature: if own == OwnStep::RemoveFromInventory { Nature::Destructive } else { Nature::Check },
        deadline_ms: 0,
        longest_call_ms: 0,
        long: false,
        slow: false,
        max_attempts,
        after,
        params,
        irreplaceable: Vec::new(),
        rolling,
        notice: false,
    }
}

#[cfg(test)]
mod tests;
