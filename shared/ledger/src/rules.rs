//! Pure rules that both footings share: what registering means, how a record begins, what
//! the ledger's own audit events look like.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_model::access::{groups_left, is_own};
use sexton_model::audit::{self, AuditEvent, What};
use sexton_model::belts::ceiling::{Ceiling, ScopeCeiling};
use sexton_model::belts::one_shot::OneShot;
use sexton_model::belts::resource_hold::{RELEASE, is_others};
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{Deletion, Hold};
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage, StateName};
use sexton_model::resource::{Presence, Resource};
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, JobId, Timestamp};

use crate::batch::AuditWrite;
use crate::{Intent, LedgerError, NotDone};

/// What is to be written for one resource that is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registering {
    /// The name is new, or free again.
    Anew,
    /// The same one, with other properties.
    Update,
    /// Nothing changes: nothing is written.
    Same,
}

/// Whether `new` may be registered over what is there, which may have a live record.
///
/// # Errors
/// [`NotDone::NameTaken`] while a record protects the name; [`NotDone::OtherIdentity`] if another thing of
/// that name is registered; [`NotDone::StaysInScope`] if it has a record, and would be another scope's.
pub fn registering(
    there: Option<(&Resource, Presence)>,
    live: Option<DeletionId>,
    new: &Resource,
) -> Result<Registering, NotDone> {
    let Some((old, presence)) = there else { return Ok(Registering::Anew) };
    let same = old.identity == new.identity;
    match (presence, live) {
        (Presence::Recycled, None) => Ok(Registering::Anew),
        (Presence::Registered, _) if same && old == new => Ok(Registering::Same),
        // Its record goes by the scope that it was made in: ceilings, budgets and pauses of that one decide, and whoever sees
        // the other one would see a resource whose record is none of theirs.
        (Presence::Registered, Some(deletion)) if same && old.scope != new.scope => {
            Err(NotDone::StaysInScope { resource: new.id.clone(), from: old.scope.clone(), deletion })
        }
        (Presence::Registered, _) if same => Ok(Registering::Update),
        (Presence::Registered | Presence::Tombstone | Presence::Recycled, Some(deletion)) => {
            Err(NotDone::NameTaken { resource: new.id.clone(), deletion })
        }
        (Presence::Registered | Presence::Tombstone, None) => Err(NotDone::OtherIdentity(new.id.clone())),
    }
}

/// Who asked for the live records of a redundancy group's members, by the name of the group.
pub type Requesters = BTreeMap<String, Vec<Actor>>;

/// Whether `by` may register `new` over what is there. Whoever asked for the deletion of one of a redundancy group takes none out of
/// it, not that one and not another: what would hold the deletion is that there are others, be they on their way out for
/// somebody else, or there to stay.
///
/// # Errors
/// [`NotDone::StaysInGroup`] if they would.
pub fn regrouping(
    (there, new): (Option<(&Resource, Presence)>, &Resource),
    requesters: &Requesters,
    by: &Actor,
) -> Result<(), NotDone> {
    // A name that is free again has nothing of what it was.
    let Some((old, Presence::Registered)) = there else { return Ok(()) };
    let own =
        |group: &&String| requesters.get(*group).is_some_and(|all| all.iter().any(|one| is_own(one, by)));
    match groups_left(old, new).find(own) {
        Some(group) => {
            let (resource, group) = (new.id.clone(), group.clone());
            Err(NotDone::StaysInGroup { resource, group, by: by.clone() })
        }
        None => Ok(()),
    }
}

/// Whether `by` may release these holds of a resource, which has a live record if somebody `requested_by` asked for one.
///
/// # Errors
/// [`Refusal::Requested`] if they did themselves, and one of the holds is another's.
pub fn releasing(holds: &[Hold], requested_by: Option<&Actor>, by: &Actor) -> Result<(), NotDone> {
    let others = |hold: &Hold| requested_by.is_some_and(|requested_by| is_others(hold, requested_by, by));
    if holds.iter().any(others) {
        return Err(Refusal::Requested { by: by.clone(), what: RELEASE }.into());
    }
    Ok(())
}

/// Look again at every stage of a deletion: a refusal means that something else has moved it on, or that nothing stopped
/// it.
pub fn look_again(deletion: DeletionId) -> Vec<Intent> {
    let recheck = |stage: Stage| {
        let job = JobId::of(deletion, stage.index());
        Intent { deletion, event: Event::Recheck { job } }
    };
    Stage::ALL.into_iter().map(recheck).collect()
}

/// The first link of a new record's chain.
///
/// # Errors
/// If the event cannot be written down, which would be a defect.
pub fn created(deletion: &Deletion) -> Result<AuditWrite, LedgerError> {
    let record = &deletion.record;
    let event = AuditEvent {
        at: record.created_at,
        what: What::Created,
        by: record.requested_by.to_string(),
        job: None,
        step: None,
        mode: None,
        fence: None,
        presence: None,
        state: None,
        ordered: None,
        own: Vec::new(),
        drift: Vec::new(),
        unannounced: deletion.plan.unannounced.clone(),
        detail: record.reason.clone(),
    };
    let body = text(&event)?;
    let hash = audit::link(&audit::GENESIS, 1, body.as_bytes());
    Ok(AuditWrite { deletion: deletion.id, seq: 1, body, hash })
}

/// How far deletions may go in a job table that was just founded at `now`: a rehearsal is there to be run through, and
/// anything else begins by being observed.
pub fn ceiling_at_founding(day: Day, now: Timestamp) -> Option<ScopeCeiling> {
    let by = "sexton".parse().ok()?;
    let reason = "it was founded as a rehearsal".to_owned();
    let rehearsal = ScopeCeiling { scope: None, ceiling: Ceiling::Purge, by, reason, since: now };
    day.is_rehearsal().then_some(rehearsal)
}

/// One event of the ledger's own chains: those of its resources, and of its pauses, ceilings and reviews.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEvent {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// `registered`, `updated`, `paused`, `resumed`, `ceiling`, `frozen`, `approved`, `fits`, `left`, `overridden`, `glass_broken`,
    /// `census`, `census_refused`, `hold_placed`, `hold_released`, `alarm_acknowledged` or
    /// `override_taken_back`.
    pub what: String,
    /// Who.
    pub by: String,
    /// The resource or the pause as it is from then on, the hold, or the ceiling that was asked for.
    pub body: Value,
}

/// Take the overrides out of `all` that are over: nothing can begin by them any more, and by then what began by them has
/// had another week. Their numbers.
pub fn one_shots_over(all: &mut Vec<OneShot>, now: Timestamp) -> Vec<i64> {
    const KEPT_MS: u64 = 7 * 24 * 3_600_000;
    let over = |one: &OneShot| one.until.plus_ms(KEPT_MS) < now;
    let ended = all.iter().filter(|one| over(one)).map(|one| one.id).collect();
    all.retain(|one| !over(one));
    ended
}

/// The bytes of an event that are stored and hashed.
///
/// # Errors
/// If it cannot be written down, which would be a defect.
pub fn text(event: &impl Serialize) -> Result<String, LedgerError> {
    serde_json::to_string(event)
        .map_err(|e| LedgerError::Store { doing: "writing down an event", source: Box::new(e) })
}

/// What is woken in one look of at most `limit`: leases and back-offs that are over first, but what is looked at
/// `again`, held and stuck jobs at a [`quarter`] each, is not crowded out by them.
pub fn share(limit: usize, over: Vec<Intent>, again: Vec<Intent>) -> Vec<Intent> {
    let mut woken = over;
    woken.truncate(limit.saturating_sub(again.len()));
    woken.extend(again);
    woken
}

/// How many held, and how many stuck jobs one look of at most `limit` takes: a quarter each, one at least.
pub fn quarter(limit: u32) -> u32 {
    (limit / 4).max(1)
}

/// Where a deletion stands, for a listing: its first job that is not over, when that is due, and why it does
/// not go on. The first `hold` that stands is said before its job is due: held is the job only from then on.
pub fn stands_at(
    jobs: &[Job],
    hold: Option<Blocker>,
) -> Option<(JobKind, StateName, Option<Timestamp>, String)> {
    // A restore stands behind all stages and is what counts once it exists.
    let open = |job: &&Job| !job.state.name().over();
    let job = jobs.iter().rev().find(|j| j.kind == JobKind::Restore).filter(open);
    let job = job.or_else(|| jobs.iter().find(open))?;
    let (due_at, why) = match &job.state {
        JobState::Scheduled { due_at } => {
            // Holds do not stop a restore.
            let hold = hold.filter(|_| job.kind != JobKind::Restore);
            (*due_at, hold.map_or_else(String::new, |hold| hold.to_string()))
        }
        JobState::Held { due_at, by, .. } => (Some(*due_at), by.to_string()),
        JobState::Ready { since, blocked } => {
            (Some(*since), blocked.as_ref().map_or_else(String::new, ToString::to_string))
        }
        JobState::Waiting { until, reason } => (Some(*until), reason.clone()),
        JobState::Parked { reason } => (None, reason.clone()),
        JobState::Running(_)
        | JobState::Cancelling(_)
        | JobState::Done
        | JobState::Cancelled
        | JobState::Rescued => (None, String::new()),
    };
    Some((job.kind, job.state.name(), due_at, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(uuid: &str, protected: bool) -> Resource {
        serde_json::from_value(json!({
            "id": "vm/web01", "scope": "tenants/acme", "identity": {"uuid": uuid},
            "criticality": "reproducible", "protected": protected,
        }))
        .unwrap()
    }

    #[test]
    fn a_name_is_free_when_it_is_new_or_recycled() {
        let (one, other) = (resource("1", false), resource("2", false));
        let live = Some(DeletionId(7));
        let taken = NotDone::NameTaken { resource: one.id.clone(), deletion: DeletionId(7) };
        let differs = NotDone::OtherIdentity(one.id.clone());
        use Presence::{Recycled, Registered, Tombstone};
        assert_eq!(registering(None, None, &one), Ok(Registering::Anew));
        assert_eq!(registering(Some((&one, Recycled)), None, &other), Ok(Registering::Anew));
        assert_eq!(registering(Some((&one, Registered)), live, &one), Ok(Registering::Same));
        let protected = resource("1", true);
        assert_eq!(registering(Some((&one, Registered)), live, &protected), Ok(Registering::Update));
        assert_eq!(registering(Some((&one, Registered)), live, &other), Err(taken.clone()));
        assert_eq!(registering(Some((&one, Tombstone)), live, &one), Err(taken));
        let moved = Resource { scope: "tenants/other".parse().unwrap(), ..one.clone() };
        let (resource, from, deletion) = (one.id.clone(), one.scope.clone(), DeletionId(7));
        let stays = NotDone::StaysInScope { resource, from, deletion };
        assert_eq!(registering(Some((&one, Registered)), live, &moved), Err(stays));
        assert_eq!(registering(Some((&one, Registered)), None, &moved), Ok(Registering::Update));
        assert_eq!(registering(Some((&one, Recycled)), None, &moved), Ok(Registering::Anew));
        assert_eq!(registering(Some((&one, Registered)), None, &other), Err(differs));
    }

    #[test]
    fn whoever_requested_one_of_a_group_takes_none_out_of_it() {
        let of = |groups: &[&str]| Resource {
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..resource("1", false)
        };
        let (alice, bob): (Actor, Actor) = ("alice".parse().unwrap(), "bob".parse().unwrap());
        let old = of(&["db", "rack-1"]);
        let stays = |group: &str| {
            let (resource, group) = (old.id.clone(), group.to_owned());
            Err(NotDone::StaysInGroup { resource, group, by: alice.clone() })
        };
        for (new, requested, expected) in [
            (of(&["db"]), vec![("rack-1", &alice)], stays("rack-1")),
            (of(&["db", "rack-2"]), vec![("rack-1", &bob), ("rack-1", &alice)], stays("rack-1")),
            (of(&[]), vec![("db", &bob), ("rack-1", &alice)], stays("rack-1")),
            (of(&["db"]), vec![("db", &alice), ("rack-1", &bob)], Ok(())),
            (of(&["rack-2", "rack-1", "db"]), vec![("db", &alice), ("rack-1", &alice)], Ok(())),
            (of(&[]), vec![("db", &bob)], Ok(())),
            (of(&[]), vec![], Ok(())),
        ] {
            let mut requesters = Requesters::new();
            for (group, by) in requested {
                requesters.entry(group.to_owned()).or_default().push(by.clone());
            }
            let over = |presence| regrouping((Some((&old, presence)), &new), &requesters, &alice);
            assert_eq!(over(Presence::Registered), expected, "{new:?}");
            assert_eq!(over(Presence::Recycled), Ok(()), "the name is free");
            assert_eq!(regrouping((None, &new), &requesters, &alice), Ok(()));
        }
    }
}
