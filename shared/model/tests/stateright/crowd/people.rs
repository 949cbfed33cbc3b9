//! People who look at batches and approve them. What was looked at may be another set by the time it is approved, and whoever
//! approves may have asked for one of it.
use sexton_model::Timestamp;
use sexton_model::belts::budget::{self, Budgets, CannotApprove, digest_of_batch, may_approve};
use sexton_model::job::Stage;

use super::Crowd;
use super::admission::Admission;
use super::fixed::{DAY, base};
use crate::world::OPS;

/// What somebody has seen of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Look {
    batch: i64,
    /// What is approved by.
    digest: String,
    /// For the rules: who was one of it.
    set: Vec<usize>,
}

impl Crowd {
    /// These, as they wait in a batch.
    fn listed(&self, set: &[usize]) -> Vec<budget::Member> {
        let one = |index: &usize| {
            let record = &base(*index).record;
            budget::Member {
                job: self.members[*index].hard.0.id,
                resource: record.resource.id.clone(),
                requested_by: record.requested_by.clone(),
            }
        };
        set.iter().map(one).collect()
    }

    /// Look at a batch; what was seen before is forgotten.
    pub(super) fn look_at(&mut self, batch: i64) -> Option<()> {
        self.left.looks -= 1;
        let set = self.waiting(batch);
        if set.is_empty() {
            return None;
        }
        let digest = digest_of_batch(Stage::Hard, &self.listed(&set));
        self.look = Some(Look { batch, digest, set });
        Some(())
    }

    /// What is said to somebody who approves what was looked at: to who asked for this one, or for none.
    fn answer(&self, look: &Look, asked_for: Option<usize>) -> Result<(), CannotApprove> {
        let waiting = self.listed(&self.waiting(look.batch));
        let by = asked_for.map_or(&*OPS, |index| &base(index).record.requested_by);
        may_approve((look.batch, Stage::Hard), &waiting, by, &look.digest)
    }

    /// Approve what was looked at, if it still waits and is the same, and who approves it asked for none of it. Whoever asks
    /// twice is heard once.
    pub(super) fn approve(&mut self, asked_for: Option<usize>) -> Option<()> {
        let look = self.look.clone()?;
        self.answer(&look, asked_for).ok()?;
        let set = self.waiting(look.batch);
        if set != look.set {
            self.broken = Some("I11: others were approved than were looked at");
        }
        if asked_for.is_some_and(|index| set.contains(&index)) {
            self.broken = Some("I11: somebody approved what they had asked for");
        }
        let good_until = Budgets::approved_until(Timestamp(0), DAY);
        self.end(look.batch);
        for index in set {
            let member = &mut self.members[index];
            member.admission = Some(Admission { bucket: None, good_until });
            member.approved = Some(0);
        }
        Some(())
    }

    /// Whether what was looked at waits for somebody who asked for none of it: who asked for one is refused for that alone.
    pub fn refuses_who_asked(&self) -> bool {
        self.look.as_ref().is_some_and(|look| {
            let refused = |index: &usize| {
                matches!(self.answer(look, Some(*index)), Err(CannotApprove::Requested { .. }))
            };
            self.answer(look, None).is_ok() && look.set.iter().all(refused)
        })
    }
}
