//! What a driver does for its subsystem. One driver is one way to reach one instance: QEMU over QMP, a
//! directory sandbox, BIND over RFC 2136.
//!
//! The SDK calls, for an action that changes something: [`Driver::find`], then [`Driver::perform`] or
//! [`Driver::undo`] with a [`Permit`], then [`Driver::presence`]. Right before each change, the first one too, a driver
//! asks [`Permit::again`]: it looks before it changes anything, and meanwhile the machine may have slept. A driver
//! therefore never decides whether it *may*; it says what it sees and does what it is told, to pinned targets and nothing
//! else.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use sexton_model::belts::census::listing::Entry;
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{ActionName, Fence, Kind, ResourceId};

use crate::permit::{Permit, Right};

/// What a driver is told of the step.
#[derive(Debug)]
pub struct StepContext {
    /// The resource the deletion is about.
    pub resource: ResourceId,
    /// What makes it this one; compared with what the driver finds.
    pub identity: Identity,
    /// What the platform registered for this subsystem (`Resource::attributes[subsystem]`), or `Null`.
    pub attributes: Value,
    /// What was pinned at announce for this instance, exactly as [`Driver::inspect`] gave it, plus what the
    /// deletion's own steps created; `Null` before that.
    pub targets: Value,
    /// The action.
    pub action: ActionName,
    /// The plan's parameters for this step.
    pub params: BTreeMap<String, Value>,
    /// Numbers this order; a later order for the same resource is always greater.
    pub fence: Fence,
    /// Whether the end of cancel has not been reached: then unexpected absence of the resource is refused.
    pub reversible_stage: bool,
    /// Tells the coordinator that a long step goes on; see [`Progress`].
    pub progress: Progress,
    /// What the order may still do.
    pub(crate) right: Arc<Right>,
}

impl StepContext {
    /// Time left until the step's deadline, extensions included, as of now: the bound for every call to the
    /// subsystem. No call may be begun after it.
    pub fn time_left(&self) -> Duration {
        self.right.time_left()
    }
}

impl StepContext {
    /// The refusal to undo an action that has no undo.
    pub fn no_undo(&self) -> Obstacle {
        Obstacle::Refuse(format!("{}: {} has no undo", self.resource, self.action))
    }

    /// The refusal to pass an action as a check that is none.
    pub fn no_check(&self) -> Obstacle {
        Obstacle::Refuse(format!("{}: {} is no check", self.resource, self.action))
    }

    /// Whether the platform says, with the attribute `none = true`, that this subsystem holds nothing for the
    /// resource. Without it, nothing at announce means that somebody looks at the wrong instance.
    pub fn none_expected(&self) -> bool {
        self.attributes.get("none") == Some(&Value::Bool(true))
    }
}

/// What a driver is told of a page of a census.
#[derive(Debug)]
pub struct CensusContext {
    /// Of which kind all that is there is listed.
    pub kind: Kind,
    /// Behind which one this page begins; none: with the first.
    pub after: Option<ResourceId>,
    /// How many it may list.
    pub most: usize,
    /// Until when.
    pub(crate) right: Arc<Right>,
}

impl CensusContext {
    /// Time left until the order's deadline: no call to the subsystem may be begun after it.
    pub fn time_left(&self) -> Duration {
        self.right.time_left()
    }

    /// The refusal to list a kind that this driver does not list whole.
    pub fn no_census(&self) -> Obstacle {
        Obstacle::Refuse(format!("takes no census of {}", self.kind))
    }
}

/// A page of a census.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// What is there behind [`CensusContext::after`], ascending by id, and at most [`CensusContext::most`].
    pub entries: Vec<Entry>,
    /// Whether there is more behind the last one.
    pub more: bool,
    /// How many there are in all: as the subsystem counts them itself, and not how many were read for this page.
    pub total: u64,
    /// What it was listed with, by name and never by value: another one may see another part.
    pub credential: String,
    /// Where: as it showed itself before the first and after the last of them.
    pub place: Place,
}

/// How a long step says that it goes on.
#[derive(Debug, Clone)]
pub struct Progress(pub(crate) tokio::sync::watch::Sender<Option<(u64, u64)>>);

impl Progress {
    /// `done` of `total` units; cheap, call it as often as you like.
    pub fn report(&self, done: u64, total: u64) {
        self.0.send_replace(Some((done, total)));
    }
}

/// Proof that the driver really looked at the place where the target would be: what the instance showed of
/// its own identity in the same session (fsid, host uuid, zone serial, repository id).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(pub String);

/// What the driver found where the target should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is there, and it is this one.
    Same,
    /// It is not there, and the place is the right one.
    Absent(Place),
    /// Something else goes by that name, or the place is another one; why.
    Different(String),
}

/// What an inspection saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Whether the resource, as this subsystem sees it, is there and is this one.
    pub found: Found,
    /// The exact objects this instance holds for the resource: pinned, and passed to every later step. With the place they
    /// were seen in, under a key that the catalogue names (`compares_place`): a canary asks each day whether it is compared.
    pub targets: Value,
    /// The subsystem's own protection flag or a reason why it is in use; stops the deletion.
    pub protected: Option<String>,
    /// What was seen, for people.
    pub evidence: String,
}

/// What an action achieved.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Done {
    /// What was done and seen, for the audit trail.
    pub evidence: String,
    /// Objects the action created (a final backup): they join the targets. An object is merged by key.
    pub created: Option<Value>,
}

impl Done {
    /// Done, with this to show for it.
    pub fn saw(evidence: impl Into<String>) -> Self {
        Self { evidence: evidence.into(), created: None }
    }
}

/// Why a driver did not do it. A driver never guesses: what it could not see is never taken for absent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// An error, or no answer to a change, which may have been made: tried, to be tried again; counts as an attempt.
    #[error("{0}")]
    Unclear(String),
    /// The subsystem is away, or somebody else holds its lock, and it is certain that what was asked for changed nothing:
    /// nobody could be connected to, it was not taken on, or what only looks was not answered. Tried again, spends no
    /// attempt: an outage costs time, and parks nothing before a day is over.
    #[error("{0}")]
    Busy(String),
    /// It must not be done: another identity, changed by others, still in use. A person has to look.
    #[error("{0}")]
    Refuse(String),
}

/// One way to reach one instance of a subsystem.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// Look at the resource and list what this instance holds for it. Changes nothing.
    ///
    /// Asked at announce, and again before each later stage, then with what was pinned in `step.targets`: at another
    /// place than the pinned one nothing is [`Found::Same`]. By then it may be off, without its definition, or gone
    /// ([`Found::Absent`]); what this deletion's own steps created and pinned is not listed as something new.
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle>;

    /// Read the target of `step.action` again, right before the call, and compare it with the identity.
    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle>;

    /// What an exact undo of `step.action` needs to know. Changes nothing. Refuses unless written: not every
    /// action has an undo.
    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        Err(step.no_undo())
    }

    /// Do `step.action`. For a reversible action `manifest` is what was captured: per attribute accept what
    /// was captured or what is intended, and refuse anything else. Idempotent.
    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle>;

    /// Take `step.action` back, to exactly what `manifest` says. Idempotent; refuses what others changed.
    /// Refuses unless written.
    async fn undo(&self, step: &StepContext, _manifest: &Value, _permit: Permit) -> Result<Done, Obstacle> {
        Err(step.no_undo())
    }

    /// Whether the effect of `step.action` is there: for a destructive action, whether its targets are
    /// ([`Presence::Absent`] = gone). With evidence.
    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle>;

    /// Whether an undo of `step.action` holds: everything is as `manifest` says, of the one that was pinned and in
    /// its place, which the driver compares here itself. `Err(Refuse)` says what is not. Refuses unless written.
    async fn restored(&self, step: &StepContext, _manifest: &Value) -> Result<String, Obstacle> {
        Err(step.no_undo())
    }

    /// One page of all resources of a kind that this instance holds, whoever made them. Changes nothing, and needs no
    /// permit. Refuses unless written: [`sexton_model::catalogue::SubsystemActions::lists`] says of which kinds it is.
    ///
    /// Cut by the resources' ids, which are the same whatever else changes. What cannot be read, has no id that can be
    /// written, or goes away while it is read, fails the page: a listing that left it out would prove nothing.
    async fn census(&self, page: &CensusContext) -> Result<Listed, Obstacle> {
        Err(page.no_census())
    }

    /// Check that `step.action`, an action that only looks (nature `check`), may be passed. Nothing is found before it is
    /// asked: it compares identity and place itself. Refuses unless written.
    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        Err(step.no_check())
    }
}
