//! People who look at batches and approve them. What was looked at may be another set by the time it is approved.
use sexton_model::Timestamp;
use sexton_model::belts::budget::{Budgets, digest};
use sexton_model::job::Stage;

use super::Crowd;
use super::admission::Admission;
use super::fixed::{DAY, base};

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
    fn digest(&self, set: &[usize]) -> String {
        let job = |index: &usize| (self.members[*index].hard.0.id, &base(*index).record.resource.id);
        digest(Stage::Hard, set.iter().map(job))
    }

    /// Look at a batch; what was seen before is forgotten.
    pub(super) fn look_at(&mut self, batch: i64) -> Option<()> {
        self.left.looks -= 1;
        let set = self.waiting(batch);
        if set.is_empty() {
            return None;
        }
        self.look = Some(Look { batch, digest: self.digest(&set), set });
        Some(())
    }

    /// Approve what was looked at, if it still waits and is the same. Whoever asks twice is heard once.
    pub(super) fn approve(&mut self) -> Option<()> {
        let look = self.look.clone()?;
        let set = self.waiting(look.batch);
        if set.is_empty() || self.digest(&set) != look.digest {
            return None;
        }
        if set != look.set {
            self.broken = Some("I11: others were approved than were looked at");
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
}
