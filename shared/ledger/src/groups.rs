//! Redundancy groups, as both footings read them.
use std::collections::BTreeSet;

use sexton_model::access::groups_left;
use sexton_model::belts::redundancy::{Going, Groups, Member, binds};
use sexton_model::deletion::{Record, RecordStatus};
use sexton_model::job::Stage;
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId, Scope, Timestamp, drill};

use crate::{Intent, budget};

/// The deletions of a batch of intents whose groups have to be known for it, ascending.
pub(crate) fn asked(intents: &[Intent]) -> Vec<i64> {
    let beginning = intents.iter().filter_map(|intent| intent.event.begins());
    let bound = beginning.filter(|job| budget::stage(*job).is_some_and(binds));
    let mut asked: Vec<i64> = bound.map(|job| job.deletion().0).collect();
    asked.sort_unstable();
    asked.dedup();
    asked
}

/// The names of all groups that one of `new` leaves, if what is registered under its name is so `there`.
pub(crate) fn left<'a>(
    new: &'a [Resource],
    there: impl Fn(&ResourceId) -> Option<&'a Resource>,
) -> Vec<String> {
    let left = new.iter().filter_map(|new| Some(groups_left(there(&new.id)?, new))).flatten();
    let left: BTreeSet<&String> = left.collect();
    left.into_iter().cloned().collect()
}

/// One member as it was read.
pub(crate) struct MemberRow {
    pub(crate) group: String,
    pub(crate) resource: ResourceId,
    pub(crate) presence: Presence,
    pub(crate) live: Option<LiveRow>,
}

/// Its live record.
pub(crate) struct LiveRow {
    pub(crate) deletion: DeletionId,
    pub(crate) status: RecordStatus,
    /// The slot of the last stage of which anything was or may have been done.
    pub(crate) reached: Option<i64>,
    /// When its soft stage is due, if that is known, it has not begun, and nothing but redundancy holds it.
    pub(crate) soft_due: Option<i64>,
    /// Whether its soft stage is over.
    pub(crate) off: bool,
    /// Whether its soft stage stands midway, parked or stopped between two steps, or its notice came back.
    pub(crate) stopped: bool,
    /// Whether its soft stage is one of a batch that waits.
    pub(crate) frozen: bool,
    /// Whether a hold or a protection is on it.
    pub(crate) kept: bool,
    pub(crate) scope: Scope,
    pub(crate) requested_by: String,
}

/// What was read. One that is in no inventory and has no record is no member any more.
pub(crate) fn groups(rows: impl IntoIterator<Item = MemberRow>) -> Groups {
    let there = |row: &MemberRow| row.live.is_some() || row.presence == Presence::Registered;
    Groups::of(rows.into_iter().filter(there).map(|row| {
        let going = row.live.map(|live| Going {
            deletion: live.deletion,
            reached: live.reached.and_then(stage).filter(|stage| binds(*stage)),
            soft_due: live.soft_due.map(Timestamp),
            off: live.off,
            stopped: live.stopped,
            frozen: live.frozen,
            restoring: live.status == RecordStatus::Restoring,
            kept: live.kept || live.requested_by == drill::actor().as_str(),
            scope: live.scope,
        });
        (row.group, Member { resource: row.resource, going })
    }))
}

fn stage(slot: i64) -> Option<Stage> {
    usize::try_from(slot).ok().and_then(|slot| Stage::ALL.get(slot).copied())
}

/// Whether a record has ended that others of its groups may have waited for.
pub(crate) fn ends(record: &Record, status: RecordStatus) -> bool {
    !status.live() && !record.resource.groups.is_empty()
}
