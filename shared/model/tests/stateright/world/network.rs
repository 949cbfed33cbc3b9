//! Orders, calls and answers under way, and the consumers that act on them.
use sexton_model::decide::Event;
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{Fence, JobId, Timestamp};

use super::World;
use super::fixed::TICK;

/// An order under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Order {
    pub fence: Fence,
    pub job: JobId,
    pub stage: Stage,
    pub step: u16,
    pub mode: Mode,
    pub deadline: Timestamp,
    /// What was captured, which travels with whatever is about taking it back.
    pub manifest: Option<bool>,
}

impl Order {
    /// Whether it is a stage's, and changes something.
    pub fn of_a_stage(&self) -> bool {
        self.job.slot() != JobKind::RESTORE_SLOT && self.mode.changes()
    }
}

/// A call that was begun and has not landed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub order: Order,
    pub until: Timestamp,
}

/// An answer under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Answer {
    pub fence: Fence,
    job: JobId,
    says: Says,
}

impl Answer {
    /// What it is to the job table.
    pub fn event(&self) -> Option<Event> {
        let outcome = match self.says {
            Says::Done(mode, seen) => Outcome::Done {
                presence: if mode == Mode::Perform && self.job.slot() >= Stage::Hard.index() {
                    Presence::Absent
                } else {
                    Presence::Present
                },
                evidence: String::new(),
                finding: match mode {
                    Mode::Inspect | Mode::Capture => Some(seen.into()),
                    Mode::Reread => Some(serde_json::json!({})),
                    Mode::Perform | Mode::Undo | Mode::Verify => None,
                },
            },
            Says::Failed => Outcome::failed(""),
            Says::Refused => Outcome::refused(""),
        };
        let from = "world.main".parse().ok()?;
        Some(Event::Outcome { job: self.job, from, fence: self.fence, outcome })
    }
}

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Says {
    /// Done, in this mode; of a capture: what it saw.
    Done(Mode, bool),
    Failed,
    Refused,
}

impl World {
    /// An answer arrives; `again`: and will arrive once more.
    pub(super) fn deliver(&mut self, index: usize, again: bool) -> Option<()> {
        let answer = self.answers[index].clone();
        let current = self.table.is_out(answer.fence);
        if again && (self.left.ghosts == 0 || !current) {
            return None;
        }
        if !again {
            self.answers.remove(index);
        }
        let event = answer.event()?;
        let done = self.commit(&event);
        if !current && done.is_some() {
            self.broken = Some("I10: an outdated answer counted");
        } else if answer.fence.epoch != self.epoch && done.is_some() {
            self.broken = Some("I15: an answer to an order of the epoch before counted");
        }
        // A refused answer is gone as well.
        Some(())
    }

    /// An order reaches a consumer, in time; `again`: and will reach one once more.
    fn take(&mut self, index: usize, again: bool) -> Order {
        if again {
            self.left.copies -= 1;
            return self.orders[index].clone();
        }
        self.orders.remove(index)
    }

    /// A consumer takes an order, and falls asleep when everything has been asked, right before the change: past its
    /// deadline, its lease, and whatever comes after.
    pub(super) fn sleep(&mut self, index: usize, again: bool) {
        self.left.naps -= 1;
        let order = self.take(index, again);
        // Nobody asks for it any more.
        self.asleep.push(Order { deadline: Timestamp(0), ..order });
    }

    /// A consumer takes an order, and does it or says that it cannot.
    pub(super) fn begin(&mut self, index: usize, again: bool, says: Option<Says>) {
        let order = self.take(index, again);
        match says {
            Some(says) => {
                self.left.failures -= 1;
                self.answers.push(Answer { fence: order.fence, job: order.job, says });
            }
            None if self.left.call_ticks > 0 && order.mode.changes() => {
                let until = Timestamp(TICK * i64::from(self.left.call_ticks));
                self.calls.push(Call { order, until });
            }
            None => self.land(&order),
        }
    }

    /// The call takes effect, if it is let, and is answered.
    pub(super) fn land(&mut self, order: &Order) {
        let says = if self.lets(order) { self.take_effect(order) } else { Says::Refused };
        self.answers.push(Answer { fence: order.fence, job: order.job, says });
    }

    /// Whether the thing lets itself be changed. One that holds a fence compares it and takes the new one over in one, as
    /// under a lock of its own; also if it is already as it is to be.
    fn lets(&mut self, order: &Order) -> bool {
        if !self.left.fenced || !order.mode.changes() {
            return true;
        }
        // Its fence has gone with it. There is nothing left to change, which is what whoever destroys it wants to see.
        if self.truth.gone[0] {
            return order.stage != Stage::Soft;
        }
        let lets = self.truth.held.is_none_or(|held| !held.refuses(order.fence));
        self.met(order.fence, lets);
        if lets {
            self.truth.held = Some(order.fence);
        }
        lets
    }

    fn take_effect(&mut self, order: &Order) -> Says {
        let which = self.which(order.step);
        match (order.mode, order.stage) {
            (Mode::Inspect | Mode::Reread, _) => Says::Done(order.mode, true),
            (Mode::Capture, _) => Says::Done(order.mode, self.truth.on[which]),
            (Mode::Perform, Stage::Soft) => {
                self.account.late |= self.table.restoring();
                self.truth.on[which] = false;
                Says::Done(order.mode, true)
            }
            (Mode::Perform, stage) => {
                self.truth.gone[usize::from(stage == Stage::Purge)] = true;
                Says::Done(order.mode, true)
            }
            (Mode::Undo, _) => match order.manifest {
                Some(before) => {
                    self.truth.on[which] = before;
                    Says::Done(order.mode, true)
                }
                None => {
                    self.broken = Some("an undo without a manifest");
                    Says::Refused
                }
            },
            (Mode::Verify, _) if Some(self.truth.on[which]) == order.manifest => Says::Done(order.mode, true),
            (Mode::Verify, _) => Says::Refused,
        }
    }

    /// Which of the two reversible steps of soft it is.
    pub(super) fn which(&self, step: u16) -> usize {
        let steps = &self.left.shape.base().plan.stage(Stage::Soft).steps;
        usize::from(steps.get(usize::from(step)).is_some_and(|step| step.name == "d"))
    }
}
