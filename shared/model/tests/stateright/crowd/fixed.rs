//! What is the same in every history: the deletions, the budget, and what time means for it.
#![expect(clippy::unwrap_used, reason = "fixed records and numbers; a mistake in them fails every test")]

use std::sync::{Arc, LazyLock};

use sexton_model::belts::Policy;
use sexton_model::belts::budget::{Budgets, Group, Written};
use sexton_model::deletion::Deletion;
use sexton_model::job::{JobState, Stage};
use sexton_model::time::{Day, Timestamp};
use sexton_model::{DeletionId, JobId};

use super::Row;
use crate::world::{Shape, drawn_up};

/// How many deletions there are.
pub const MEMBERS: usize = 3;
/// How many of them may begin within the span.
pub const A_DAY: usize = 1;

/// Half a step of time. No part of a day that admissions are counted in is shorter than a step.
pub const DAY: Day = Day::Rehearsal { length_ms: 2_500 };
/// Days of the span that is counted over.
const DAYS: u8 = 4;
/// The same in steps of time: whoever began so long ago no longer counts.
pub const SPAN_TICKS: u8 = DAYS / 2;
/// An approval is good for seven days. They are over at this step of time.
pub const APPROVED_TICKS: u8 = 4;

static BASES: LazyLock<[Deletion; MEMBERS]> = LazyLock::new(|| {
    std::array::from_fn(|index| {
        let id = DeletionId(i64::try_from(index).unwrap() + 1);
        let mut deletion = drawn_up(id, Shape::Bare, DAY);
        // Each was asked for by somebody else.
        Arc::make_mut(&mut deletion.record).requested_by = format!("tenant{}", id.0).parse().unwrap();
        for job in &mut deletion.jobs {
            job.state = match job.kind.slot().cmp(&Stage::Hard.index()) {
                std::cmp::Ordering::Less => JobState::Done,
                std::cmp::Ordering::Equal => JobState::Scheduled { due_at: Some(Timestamp(0)) },
                std::cmp::Ordering::Greater => JobState::Scheduled { due_at: None },
            };
        }
        deletion
    })
});

/// A deletion as it is when its hard stage becomes due.
pub fn base(index: usize) -> &'static Deletion {
    &BASES[index]
}

/// Which one a job is of.
pub fn index_of(job: JobId) -> usize {
    usize::try_from(job.deletion().0 - 1).unwrap()
}

/// The hard stage of a deletion.
pub fn hard_of(deletion: &Deletion) -> Row {
    Row(deletion.stage_job(Stage::Hard).unwrap().clone())
}

/// What all of them have in common.
pub static GROUP: LazyLock<Group> = LazyLock::new(|| {
    let resource = &base(0).record.resource;
    Group { scope: resource.scope.clone(), kind: resource.id.kind.clone(), stage: Stage::Hard }
});

/// How many may begin.
pub static BUDGETS: LazyLock<Budgets> = LazyLock::new(|| {
    let text = format!("a_day = {A_DAY}\ndays = {DAYS}\nstages = [\"hard\"]");
    toml::from_str::<Written>(&text).unwrap().budgets().unwrap()
});

/// The same as the configuration says it.
pub static POLICY: LazyLock<Policy> =
    LazyLock::new(|| Policy { budgets: Some(BUDGETS.clone()), ..Policy::default() });
