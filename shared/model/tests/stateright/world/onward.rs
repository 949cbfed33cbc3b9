//! What people and machines do who want it to end, with nothing in their way: is an end still within reach?
use sexton_model::job::JobState;

use super::{Act, Bounds, World};

impl World {
    /// The same world without limits to what is needed to go on, and with nothing more that goes wrong: a copy of the job
    /// table is never put back, and who sleeps does not wake.
    pub fn in_good_weather(&self) -> World {
        let Bounds { shape, was, ghosts, call_ticks, fenced, .. } = self.left;
        let left = Bounds { was, ghosts, call_ticks, fenced, leases: 1, ..Bounds::of(shape) };
        World { left, kept: None, ..self.clone() }
    }

    /// The record is over.
    pub fn is_over(&self) -> bool {
        !self.table.status.live()
    }

    /// The next thing that is done, unless it breaks a rule.
    pub fn onward(&self) -> Option<World> {
        let next = self.helps().into_iter().find_map(|act| self.after(&act))?;
        next.broken.is_none().then(|| next.in_good_weather())
    }

    /// What helps, the most urgent first. What means nothing now changes nothing.
    fn helps(&self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.review {
            acts.push(Act::Accept);
        }
        acts.extend(self.table.holds.iter().map(|id| Act::Release(*id)));
        acts.extend(self.table.pauses.iter().map(|covers| Act::Resume(*covers)));
        acts.extend((0..self.calls.len()).map(Act::Land));
        let answered = |index: &usize| self.table.is_out(self.answers[*index].fence);
        acts.extend((0..self.answers.len()).filter(answered).map(|index| Act::Deliver(index, false)));
        let ordered = |index: &usize| self.table.is_out(self.orders[*index].fence);
        acts.extend((0..self.orders.len()).filter(ordered).map(|index| Act::Begin(index, false, None)));
        for row in &self.table.jobs {
            let id = row.0.id;
            match &row.0.state {
                JobState::Scheduled { .. } => acts.push(Act::Claim(id)),
                JobState::Held { .. } | JobState::Ready { blocked: Some(_), .. } => {
                    acts.push(Act::Recheck(id));
                }
                JobState::Ready { blocked: None, .. } | JobState::Waiting { .. } => {
                    acts.push(Act::Proceed(id));
                }
                JobState::Running(out) | JobState::Cancelling(out) => {
                    acts.push(Act::LeaseOver(id, out.fence));
                }
                JobState::Parked { .. } => acts.push(Act::Retry),
                JobState::Done | JobState::Cancelled | JobState::Rescued => {}
            }
        }
        acts.push(Act::Tick);
        acts
    }
}
