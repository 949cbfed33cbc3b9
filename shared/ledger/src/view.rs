//! What can be read of the ledger.
use std::collections::BTreeMap;

use serde_json::Value;
use sexton_model::attest::{Head, Shrunk};
use sexton_model::audit::{AuditEvent, Broken, Hash};
use sexton_model::belts::{Pause, resource_hold, within};
use sexton_model::checkpoint::Review;
use sexton_model::deletion::{Deletion, Hold, RecordStatus};
use sexton_model::job::{JobKind, StateName};
use sexton_model::resource::{Presence, Resource};
use sexton_model::time::Day;
use sexton_model::{DeletionId, Instance, Kind, ResourceId, Scope, Timestamp};

use crate::rules;

/// What a ledger is.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Drawn when it was created.
    pub ledger: String,
    /// Its epoch.
    pub epoch: u32,
    /// What a day is.
    pub day: Day,
    /// The store's clock.
    pub now: Timestamp,
    /// Whether it has ever decided anything.
    pub decided: bool,
}

/// One page of a listing.
#[derive(Debug, Clone)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Give this as `after` for the next page; none if this was the last.
    pub next: Option<String>,
}

/// A resource and its record.
#[derive(Debug, Clone)]
pub struct ResourceView {
    /// The resource as it is registered now.
    pub resource: Resource,
    /// Whether its name may be used.
    pub presence: Presence,
    /// Its live record.
    pub live: Option<DeletionId>,
    /// Holds on it, ascending.
    pub holds: Vec<Hold>,
}

/// Which resources.
#[derive(Debug, Clone, Default)]
pub struct ResourceFilter {
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Only this scope (exactly).
    pub scope: Option<Scope>,
    /// Only of these scopes and those below them; none: of all.
    pub scopes: Option<Vec<Scope>>,
    /// Behind this id.
    pub after: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// Which deletions.
#[derive(Debug, Clone, Default)]
pub struct DeletionFilter {
    /// Only those in this status.
    pub status: Option<RecordStatus>,
    /// Only those with a job in this state. Held is also what a belt has stopped between two steps, which is `ready` by its state.
    pub state: Option<StateName>,
    /// Only this scope (exactly).
    pub scope: Option<Scope>,
    /// Only of these scopes and those below them; none: of all.
    pub scopes: Option<Vec<Scope>>,
    /// Only this kind.
    pub kind: Option<Kind>,
    /// Behind this id.
    pub after: Option<String>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// Which scopes a listing goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through<'a> {
    /// All there are.
    Everything,
    /// Exactly this one.
    One(&'a Scope),
    /// These and those below them, and what is in no other is not even read.
    Below(&'a [Scope]),
    /// None: what is asked for is outside of what whoever asks is limited to.
    Nothing,
}

impl<'a> Through<'a> {
    /// For whoever asks for `scope`, and is limited to `limits` and what is below them.
    pub(crate) fn of(scope: Option<&'a Scope>, limits: Option<&'a [Scope]>) -> Self {
        match (scope, limits) {
            (None, None) => Self::Everything,
            (None, Some(limits)) => Self::Below(limits),
            (Some(scope), None) => Self::One(scope),
            (Some(scope), Some(limits)) => match limits.iter().any(|outer| within(scope, outer)) {
                true => Self::One(scope),
                false => Self::Nothing,
            },
        }
    }
}

/// One line of a listing.
#[derive(Debug, Clone)]
pub struct DeletionRow {
    /// Its id.
    pub id: DeletionId,
    /// The resource.
    pub resource: ResourceId,
    /// Its scope.
    pub scope: Scope,
    /// Where the record stands.
    pub status: RecordStatus,
    /// The first job that is not over, its state, when it is due, and why it does not go on.
    pub at: Option<(JobKind, StateName, Option<Timestamp>, String)>,
    /// All of it, for whoever says what can still be undone, and what would stop it.
    pub deletion: Deletion,
}

impl DeletionRow {
    /// The line of a deletion.
    pub(crate) fn of(deletion: Deletion) -> Self {
        let on_resource = deletion.resource_holds.first().map(resource_hold::blocker);
        let hold = on_resource.or_else(|| deletion.holds.first().map(Hold::blocker));
        Self {
            id: deletion.id,
            resource: deletion.record.resource.id.clone(),
            scope: deletion.record.resource.scope.clone(),
            status: deletion.status,
            at: rules::stands_at(&deletion.jobs, hold),
            deletion,
        }
    }
}

/// One event of a trail.
#[derive(Debug, Clone)]
pub struct AuditRow {
    /// Its number in the chain, from 1.
    pub seq: i64,
    /// The event.
    pub event: AuditEvent,
    /// The very text that was hashed.
    pub body: String,
    /// Its hash.
    pub hash: Hash,
}

/// Everything about one deletion.
#[derive(Debug, Clone)]
pub struct DeletionView {
    /// Record, jobs, holds, waivers.
    pub deletion: Deletion,
    /// Pinned targets by instance.
    pub targets: BTreeMap<Instance, Value>,
    /// The trail, ascending.
    pub audit: Vec<AuditRow>,
}

/// An instance, as the job table sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceState {
    /// When a consumer of it pulsed last, if ever.
    pub pulse_at: Option<Timestamp>,
    /// No pulse for so long that nothing is claimed for it.
    pub down: bool,
    /// Jobs that are due or in line for it, counted up to [`WAITING_MAX`].
    pub waiting: u64,
}

/// Jobs that wait for an instance are counted up to so many: who reads it only wants to know that they are many.
pub const WAITING_MAX: u64 = 10_000;

/// Some chains that were checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many.
    pub checked: u64,
    /// Those that do not hold: `pauses`, a resource, or a deletion.
    pub broken: Vec<(String, Broken)>,
    /// Give this as `after` for the next ones; none if these were the last.
    pub next: Option<String>,
}

/// Some chains whose heads no signed checkpoint holds yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grown {
    /// Their heads.
    pub heads: Vec<Head>,
    /// Chains whose heads are *before* what was signed of them: they were cut.
    pub shrunk: Vec<Shrunk>,
    /// Give this as `after` for the next ones; none if these were the last.
    pub next: Option<String>,
}

/// How the job table is doing.
#[derive(Debug, Clone)]
pub struct Health {
    /// The store's clock.
    pub now: Timestamp,
    /// Jobs by state.
    pub jobs: BTreeMap<StateName, u64>,
    /// The oldest moment a job that is not claimed was due.
    pub oldest_due: Option<Timestamp>,
    /// Instances, the last pulse of each, and orders out.
    pub instances: BTreeMap<Instance, (Timestamp, u64)>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// Set if the ledger went back in time and nobody has accepted that yet.
    pub review: Option<Review>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_goes_through_what_is_asked_for_and_inside() {
        let scope = |text: &str| -> Scope { text.parse().unwrap() };
        let (acme, web, other) = (scope("tenants/acme"), scope("tenants/acme/web"), scope("tenants/acme2"));
        let limits = [acme.clone(), scope("lab")];
        assert_eq!(Through::of(None, None), Through::Everything);
        assert_eq!(Through::of(Some(&other), None), Through::One(&other));
        assert_eq!(Through::of(None, Some(&limits)), Through::Below(&limits));
        assert_eq!(Through::of(Some(&acme), Some(&limits)), Through::One(&acme));
        assert_eq!(Through::of(Some(&web), Some(&limits)), Through::One(&web));
        assert_eq!(Through::of(Some(&other), Some(&limits)), Through::Nothing);
        let around = scope("tenants");
        assert_eq!(
            Through::of(Some(&around), Some(&limits)),
            Through::Nothing,
            "exactly that scope is asked for"
        );
        assert_eq!(Through::of(Some(&acme), Some(&[])), Through::Nothing);
    }
}
