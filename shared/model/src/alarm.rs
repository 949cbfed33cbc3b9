//! Alarms: what a person has to know of now, whether or not anybody looks.
//!
//! Contract: an alarm follows from facts alone ([`Facts::alarms`], [`of_deletion`]), so it is raised when they begin to
//! hold and ended when they do not any more; nobody raises or ends one by hand. Some facts raise none, and only keep one that is
//! open ([`excused`], [`Holding::keep`]). A person may *acknowledge* one: then it
//! is told no more for a while, and stays open as long as it holds. What has changed is found by [`compare`], and what is
//! to be told by which route, and when again, by [`due`].
//!
//! A new kind of alarm is one more [`AlarmKind`], with its words, and one more place in [`hold`] that adds it.
//!
//! Bounded: many alarms of one kind in one scope are told as one ([`TOGETHER`]), and there are at most [`OPEN_MAX`].
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Actor, DeletionId, Instance, Kind, ResourceId, Scope};
use crate::time::Timestamp;

mod glass;
pub mod hold;
mod not_back;
mod notice;
pub mod receipt;
pub mod telling;

pub use hold::{Facts, Moment, Rules, of_deletion};
pub use not_back::{NOT_BACK_MS, NotBack, excused, not_back};
pub use notice::Notice;
pub use telling::{BackOff, Change, Phase, Telling, compare, due, due_once};

/// More than so many alarms of one kind in one scope are told as one: whoever is called by a hundred reads none.
pub const TOGETHER: usize = 20;
/// Most alarms that are open at once. If more hold, the last one says how many are left out.
pub const OPEN_MAX: usize = 1000;
/// Scopes and kinds that are told apart: what is beyond is counted.
const APART_MAX: usize = 10_000;
/// Subjects that are named where many are told as one.
const NAMED: usize = 5;
/// How long an acknowledgement keeps an alarm from being told again, in milliseconds: a week.
pub const ACKNOWLEDGED_MS: u64 = 7 * 24 * 3_600_000;
/// How long an alarm is kept after it has ended, in milliseconds: 30 days.
pub const KEPT_MS: u64 = 30 * 24 * 3_600_000;
/// Longest text of an alarm, in characters.
const TEXT_MAX: usize = 2000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody has to look today.
    Warning,
    /// Somebody has to look now.
    Critical,
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What is the matter. The name is stored and sent, and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AlarmKind {
    /// The job table went back in time: nothing is dispatched before somebody has accepted it.
    Review,
    /// A coordinator orders nothing, because its witness cannot be kept.
    OrdersStopped,
    /// The job table cannot be reached. Told by the process that tries, not through the table.
    JobTable,
    /// A credential should be gone, and is not.
    OverdueCredential,
    /// A resource should be gone by a date that has passed.
    MissedGoneBy,
    /// What must be refused every day was not.
    CanaryAccepted,
    /// Whether what must be refused is refused is not known.
    CanaryUnproved,
    /// What a cancel promises was not seen lately: a drill has failed, or shows nothing.
    Drill,
    /// A step was refused: something else is there than was pinned, or others have changed it.
    Refused,
    /// Many were deleted by others, and their scope is paused.
    ForeignDeletions,
    /// Whoever asked for a deletion let it pass a belt with nobody else.
    BrokenGlass,
    /// A batch exceeds a budget, and waits for an approval.
    FrozenBatch,
    /// A job has been parked for more than a day.
    Parked,
    /// A notice was not delivered for hours: the deletion waits for it.
    Untold,
    /// What was cancelled has not come back within minutes.
    NotBack,
    /// A purge is over, and no receipt can be drawn up of it.
    NoReceipt,
    /// A census was refused, or none was believed for more than a policy day, or one that is to be taken each day does not come.
    Census,
    /// A coordinator signs nothing more of the audit trail: it cannot, or finds another one than was signed.
    AuditTrail,
    /// A coordinator cannot read its calendar of holidays, and goes by what it has read before.
    Calendar,
    /// More alarms hold than are kept.
    TooMany,
}

impl AlarmKind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Review,
        Self::OrdersStopped,
        Self::JobTable,
        Self::OverdueCredential,
        Self::MissedGoneBy,
        Self::CanaryAccepted,
        Self::CanaryUnproved,
        Self::Drill,
        Self::Refused,
        Self::ForeignDeletions,
        Self::BrokenGlass,
        Self::FrozenBatch,
        Self::Parked,
        Self::Untold,
        Self::NotBack,
        Self::NoReceipt,
        Self::Census,
        Self::AuditTrail,
        Self::Calendar,
        Self::TooMany,
    ];

    /// Its stable name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::OrdersStopped => "orders_stopped",
            Self::JobTable => "job_table",
            Self::OverdueCredential => "overdue_credential",
            Self::MissedGoneBy => "missed_gone_by",
            Self::CanaryAccepted => "canary_accepted",
            Self::CanaryUnproved => "canary_unproved",
            Self::Drill => "drill",
            Self::Refused => "refused",
            Self::ForeignDeletions => "foreign_deletions",
            Self::BrokenGlass => "broken_glass",
            Self::FrozenBatch => "frozen_batch",
            Self::Parked => "parked",
            Self::Untold => "untold",
            Self::NotBack => "not_back",
            Self::NoReceipt => "no_receipt",
            Self::Census => "census",
            Self::AuditTrail => "audit_trail",
            Self::Calendar => "calendar",
            Self::TooMany => "too_many",
        }
    }

    /// How bad it is.
    pub fn severity(self) -> Severity {
        match self {
            Self::Review
            | Self::OrdersStopped
            | Self::JobTable
            | Self::OverdueCredential
            | Self::CanaryAccepted
            | Self::Refused
            | Self::ForeignDeletions
            | Self::NotBack
            | Self::NoReceipt
            | Self::AuditTrail
            | Self::TooMany => Severity::Critical,
            Self::MissedGoneBy
            | Self::CanaryUnproved
            | Self::Drill
            | Self::BrokenGlass
            | Self::FrozenBatch
            | Self::Parked
            | Self::Untold
            | Self::Census
            | Self::Calendar => Severity::Warning,
        }
    }

    /// Several of it, as in "23 deletions are parked".
    fn many(self) -> &'static str {
        match self {
            Self::Review => "reviews are open",
            Self::OrdersStopped => "coordinators order nothing",
            Self::JobTable => "job tables cannot be reached",
            Self::OverdueCredential => "credentials are overdue",
            Self::MissedGoneBy => "resources are not gone by their date",
            Self::CanaryAccepted => "canaries were accepted that must be refused",
            Self::CanaryUnproved => "canaries have not shown that what must be refused is",
            Self::Drill => "drills have failed, or show nothing",
            Self::Refused => "deletions were refused a step",
            Self::ForeignDeletions => "pauses because of deletions by others",
            Self::BrokenGlass => "belts were passed by whoever asked for the deletion",
            Self::FrozenBatch => "batches wait for an approval",
            Self::Parked => "deletions have been parked for more than a day",
            Self::Untold => "deletions wait because not everybody could be told of them for hours",
            Self::NotBack => "deletions were cancelled, and what they had switched off is not back",
            Self::NoReceipt => "purges are over, and no receipt can be drawn up of them",
            Self::Census => "censuses were refused, or do not come any more",
            Self::AuditTrail => "coordinators sign nothing more of the audit trail",
            Self::Calendar => "coordinators cannot read their calendar",
            Self::TooMany => "kinds of alarm are too many",
        }
    }

    /// How to find them, where many are told as one.
    fn list(self) -> &'static str {
        match self {
            Self::FrozenBatch => "sexton batches",
            Self::ForeignDeletions => "sexton pause",
            Self::BrokenGlass => "sexton override",
            Self::Parked | Self::Refused => "sexton list --state parked",
            Self::OverdueCredential | Self::MissedGoneBy | Self::Untold => "sexton digest",
            Self::NotBack => "sexton list --status restoring",
            Self::NoReceipt => "the log of a coordinator that signs receipts",
            Self::CanaryAccepted | Self::CanaryUnproved => "sexton canaries",
            Self::Drill => "sexton drill",
            Self::Census => "sexton census",
            Self::Review
            | Self::OrdersStopped
            | Self::JobTable
            | Self::AuditTrail
            | Self::Calendar
            | Self::TooMany => "sexton health",
        }
    }
}

impl fmt::Display for AlarmKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What it is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", tag = "of")]
pub enum Subject {
    /// A deletion.
    Deletion {
        /// Which.
        deletion: DeletionId,
        /// What it deletes.
        resource: ResourceId,
    },
    /// A batch.
    Batch {
        /// Its number.
        batch: i64,
    },
    /// A pause.
    Pause {
        /// Its number.
        pause: i64,
    },
    /// An override.
    Override {
        /// Its number.
        id: i64,
    },
    /// A resource.
    Resource {
        /// Which.
        resource: ResourceId,
    },
    /// A consumer.
    Instance {
        /// Which.
        instance: Instance,
    },
    /// The censuses of a kind in a scope.
    Censuses {
        /// Which kind.
        kind: Kind,
        /// Which scope, with those below it.
        scope: Scope,
    },
    /// One coordinator.
    Coordinator {
        /// Its name.
        name: String,
    },
    /// Many in one scope.
    Scope {
        /// Which.
        scope: Scope,
    },
    /// The job table, or many in no scope.
    Ledger,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deletion { deletion, resource } => write!(f, "{deletion} ({resource})"),
            Self::Batch { batch } => write!(f, "batch {batch}"),
            Self::Pause { pause } => write!(f, "pause {pause}"),
            Self::Override { id } => write!(f, "override {id}"),
            Self::Resource { resource } => resource.fmt(f),
            Self::Instance { instance } => instance.fmt(f),
            Self::Censuses { kind, scope } => write!(f, "censuses of {kind} in {scope}"),
            Self::Coordinator { name } => write!(f, "coordinator {name}"),
            Self::Scope { scope } => write!(f, "scope {scope}"),
            Self::Ledger => f.write_str("the job table"),
        }
    }
}

/// An alarm that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Alarm {
    /// What is the matter.
    pub kind: AlarmKind,
    /// How bad it is.
    pub severity: Severity,
    /// Where; none if it is of no scope, or of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What it is about.
    pub subject: Subject,
    /// What is the matter, in a sentence.
    pub text: String,
    /// What to do now.
    pub todo: String,
}

impl Alarm {
    /// An alarm of this kind.
    pub fn new(
        kind: AlarmKind,
        scope: Option<Scope>,
        subject: Subject,
        text: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        let cut = |text: String| match text.char_indices().nth(TEXT_MAX) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        let (text, todo) = (cut(text.into()), cut(todo.into()));
        Self { kind, severity: kind.severity(), scope, subject, text, todo }
    }

    /// What makes it the same alarm as one that is open.
    pub fn key(&self) -> String {
        match &self.subject {
            Subject::Deletion { deletion, .. } => format!("{}/{deletion}", self.kind),
            Subject::Batch { batch } => format!("{}/batch/{batch}", self.kind),
            Subject::Pause { pause } => format!("{}/pause/{pause}", self.kind),
            Subject::Override { id } => format!("{}/override/{id}", self.kind),
            Subject::Resource { resource } => format!("{}/resource/{resource}", self.kind),
            Subject::Instance { instance } => format!("{}/instance/{instance}", self.kind),
            Subject::Censuses { kind, scope } => format!("{}/kind/{kind}/{scope}", self.kind),
            Subject::Coordinator { name } => format!("{}/coordinator/{name}", self.kind),
            Subject::Scope { scope } => format!("{}/scope/{scope}", self.kind),
            Subject::Ledger => format!("{}/ledger", self.kind),
        }
    }
}

/// Somebody has seen it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Acknowledged {
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
    /// What is being done.
    pub reason: String,
}

/// An alarm as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// Its number.
    pub id: i64,
    /// The alarm, as it was found last.
    #[serde(flatten)]
    pub alarm: Alarm,
    /// Since when.
    pub raised_at: Timestamp,
    /// Until when; none while it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// Whether somebody has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// Alarms that hold, as they are found.
#[derive(Debug, Default)]
pub struct Holding {
    of: BTreeMap<(AlarmKind, Option<Scope>), (usize, Vec<Alarm>)>,
    /// Of more kinds and scopes than are told apart.
    beyond: usize,
    /// Keys of those that are open.
    open: BTreeSet<String>,
    /// Those of which many are told of as one, and some hold by that alone.
    as_one: BTreeSet<(AlarmKind, Option<Scope>)>,
}

impl Holding {
    /// None yet, beside these, which are open.
    pub fn beside<'a>(open: impl IntoIterator<Item = &'a Alarm>) -> Self {
        Self { open: open.into_iter().map(Alarm::key).collect(), ..Self::default() }
    }

    /// One more if it is open, by itself or together with others of its kind and scope: it raises none. What is told of together
    /// stays so: or all would be told of one by one as soon as they are fewer, just when they are on their way back.
    pub fn keep(&mut self, alarm: Alarm) {
        let as_one = Alarm { subject: all_of(alarm.scope.as_ref()), ..alarm.clone() };
        if self.open.contains(&as_one.key()) {
            self.as_one.insert((alarm.kind, alarm.scope.clone()));
        } else if !self.open.contains(&alarm.key()) {
            return;
        }
        self.add(alarm);
    }

    /// One more.
    pub fn add(&mut self, alarm: Alarm) {
        let key = (alarm.kind, alarm.scope.clone());
        if self.of.len() >= APART_MAX && !self.of.contains_key(&key) {
            self.beyond += 1;
            return;
        }
        let (count, first) = self.of.entry(key).or_default();
        *count += 1;
        if first.len() < TOGETHER {
            first.push(alarm);
        }
    }

    /// All of them, each or together, the worst first.
    pub fn finish(self) -> Vec<Alarm> {
        let Self { of, beyond, as_one, .. } = self;
        let mut all: Vec<Alarm> = Vec::new();
        for (key, (count, first)) in of {
            match count > TOGETHER || as_one.contains(&key) {
                false => all.extend(first),
                true => all.push(together(key.0, key.1, count, &first)),
            }
        }
        all.sort_by_key(|alarm| (std::cmp::Reverse(alarm.severity), alarm.kind));
        let left = all.len().saturating_sub(OPEN_MAX - 1);
        if all.len() > OPEN_MAX || beyond > 0 {
            all.truncate(OPEN_MAX - 1);
            let more = left + beyond;
            all.push(Alarm::new(
                AlarmKind::TooMany,
                None,
                Subject::Ledger,
                format!("{more} more alarms hold, in other scopes, and are told by nothing else"),
                "look at sexton health and sexton digest; pause everything if nobody knows why",
            ));
        }
        all
    }
}

fn together(kind: AlarmKind, scope: Option<Scope>, count: usize, first: &[Alarm]) -> Alarm {
    let named: Vec<String> = first.iter().take(NAMED).map(|alarm| alarm.subject.to_string()).collect();
    let place = scope.as_ref().map(|scope| format!(" in {scope}")).unwrap_or_default();
    let more = match count - named.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let text = format!("{count} {}{place}: {}{more}", kind.many(), named.join(", "));
    let subject = all_of(scope.as_ref());
    Alarm::new(kind, scope, subject, text, format!("all of them: {}", kind.list()))
}

/// What many are told of as one.
fn all_of(scope: Option<&Scope>) -> Subject {
    scope.map_or(Subject::Ledger, |scope| Subject::Scope { scope: scope.clone() })
}

#[cfg(test)]
pub(crate) mod tests;
