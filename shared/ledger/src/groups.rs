//! Redundancy groups, as both footings read them.
use std::collections::{BTreeSet, HashMap};

use sexton_model::access::groups_left;
use sexton_model::belts::redundancy::{Going, Groups, Member, binds};
use sexton_model::deletion::{Record, RecordStatus};
use sexton_model::resource::{Presence, Resource};
use sexton_model::{DeletionId, ResourceId};

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

/// Its live record, with what no record says of itself.
pub(crate) struct LiveRow {
    pub(crate) deletion: DeletionId,
    /// Whether a protection or a hold is on the resource.
    pub(crate) kept: bool,
    /// Whether its soft stage is one of a batch that waits.
    pub(crate) frozen: bool,
}

/// What was read, with where the records of it stand: whose is not among `going` is over. One that is in no inventory and has no
/// record is no member any more.
pub(crate) fn groups(
    rows: impl IntoIterator<Item = MemberRow>,
    going: &HashMap<DeletionId, Going>,
) -> Groups {
    let there = |row: &MemberRow| row.live.is_some() || row.presence == Presence::Registered;
    Groups::of(rows.into_iter().filter(there).map(|row| {
        let going = row.live.and_then(|live| {
            let going = going.get(&live.deletion)?.clone();
            Some(Going { kept: going.kept || live.kept, frozen: live.frozen, ..going })
        });
        (row.group, Member { resource: row.resource, going })
    }))
}

/// Whether a record has ended that others of its groups may have waited for.
pub(crate) fn ends(record: &Record, status: RecordStatus) -> bool {
    !status.live() && !record.resource.groups.is_empty()
}
