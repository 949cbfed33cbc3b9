//! What becomes of one order. No bus in here: an order in, a verdict out.
//!
//! First everything that can be decided without the subsystem, cheapest and safest first: is it meant for this
//! instance and known here, is it in time, do the coordinators still say go, is it the newest for its resource.
//! Then the driver looks; then, right before the change, time, fence and beacon are asked once more; and only
//! then there is a [`Permit`](crate::Permit).
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::{FutureExt, poll};
use sexton_model::Instance;
use sexton_model::belts::census::listing;
use sexton_model::canary;
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::{Mode, Outcome};
use sexton_protocol::Order;

use crate::clock::Clock;
use crate::driver::{Driver, StepContext};
use crate::fences::Fences;
use crate::hearing::Hearing;
use crate::lifeline::Lifeline;
use crate::permit::Right;
use crate::step::Step;

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// It is answered.
    Answer(Outcome),
    /// It came too late: dropped and shown to people. Its lease runs out.
    Expired(String),
    /// A later order for the same resource is known: dropped and shown to people.
    Stale(String),
}

/// Performs orders for one instance.
pub struct Performer {
    instance: Instance,
    actions: SubsystemActions,
    driver: Arc<dyn Driver>,
    clock: Arc<dyn Clock>,
    hearing: Arc<Hearing>,
    fences: Arc<Fences>,
}

impl std::fmt::Debug for Performer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Performer").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl Performer {
    /// A performer that has seen no order yet.
    pub fn new(
        instance: Instance,
        actions: SubsystemActions,
        driver: Arc<dyn Driver>,
        clock: Arc<dyn Clock>,
        hearing: Arc<Hearing>,
    ) -> Self {
        Self { instance, actions, driver, clock, hearing, fences: Arc::default() }
    }

    /// Check and carry out `order`, within its deadline.
    pub async fn perform_order(&self, order: &Order) -> Verdict {
        let (lifeline, _tether) = Lifeline::new(order.deadline);
        self.perform_extendable(order, &lifeline).await
    }

    /// The same, for a step that reports progress and may be extended through its lifeline.
    pub async fn perform_extendable(&self, order: &Order, lifeline: &Lifeline) -> Verdict {
        let step = match self.admit(order, lifeline) {
            Ok(context) => Step { order, context, driver: &*self.driver },
            Err(verdict) => return verdict,
        };
        lifeline.begin();
        // A driver that panics must not take the others' orders with it.
        let mut carried_out = pin!(AssertUnwindSafe(step.carry_out()).catch_unwind());
        // Most steps that wait for nothing end here.
        let outcome = match poll!(&mut carried_out) {
            Poll::Ready(outcome) => Some(outcome),
            // From now on time may have passed, up to a night's sleep of the machine: the deadline is asked first.
            Poll::Pending => tokio::select! {
                biased;
                () = lifeline.run_out(&self.hearing, &*self.clock) => None,
                outcome = carried_out => Some(outcome),
            },
        };
        let outcome = match outcome {
            Some(outcome) => outcome.unwrap_or_else(|_| Outcome::failed("the driver panicked")),
            None => Outcome::failed("stopped at its deadline; what it had begun may be done or not"),
        };
        Verdict::Answer(outcome.bounded())
    }

    fn admit(&self, order: &Order, lifeline: &Lifeline) -> Result<StepContext, Verdict> {
        if let Some(reason) = self.unfit(order) {
            return Err(Verdict::Answer(Outcome::refused(reason).bounded()));
        }
        let now = self.hearing.ledger_now();
        if let Some(now) = now.filter(|now| *now >= order.deadline) {
            let late_ms = now.ms_since(order.deadline);
            return Err(Verdict::Expired(format!("{late_ms} ms after its deadline {}", order.deadline)));
        }
        self.judge(order).map_err(|reason| Verdict::Answer(Outcome::spared(reason)))?;
        // A page of a census is about no resource, whose orders it would be before or behind.
        if !is_census(order) {
            self.fences.admit(&order.resource, order.fence).map_err(|higher| {
                Verdict::Stale(format!(
                    "fence {} is older than {higher}, seen for {}",
                    order.fence, order.resource
                ))
            })?;
        }
        let right = Right {
            resource: order.resource.clone(),
            fence: order.fence,
            revision: order.revision,
            undoing: undoing(order),
            deadline: lifeline.deadline(),
            hearing: self.hearing.clone(),
            fences: self.fences.clone(),
        };
        Ok(StepContext {
            resource: order.resource.clone(),
            identity: order.identity.clone(),
            attributes: order.attributes.clone(),
            targets: order.targets.clone(),
            action: order.action.clone(),
            params: order.params.clone(),
            fence: order.fence,
            reversible_stage: match order.kind {
                JobKind::Stage(stage) => stage.reversible(),
                JobKind::Restore => true,
            },
            progress: lifeline.progress(),
            right: Arc::new(right),
        })
    }

    /// Why the order can never be carried out here, whatever the time.
    fn unfit(&self, order: &Order) -> Option<String> {
        if order.instance != self.instance {
            return Some(format!("the order is for {}, this is {}", order.instance, self.instance));
        }
        if is_census(order) {
            return self.unfit_for_census(order);
        }
        let known = self
            .actions
            .actions
            .get(&order.action)
            .filter(|_| self.actions.subsystem == self.instance.subsystem);
        let Some(action) = known else {
            return Some(format!("{} has no action {}", self.instance.subsystem, order.action));
        };
        if action.nature != order.nature {
            return Some(format!(
                "{} is {:?} here, and the plan took it for {:?}: one of them is out of date",
                order.action, action.nature, order.nature
            ));
        }
        if let JobKind::Stage(stage) = order.kind
            && stage < action.earliest
        {
            return Some(format!(
                "{} must not run before {}, this is {stage}",
                order.action, action.earliest
            ));
        }
        let fits = match order.mode {
            Mode::Inspect => action.nature == Nature::Inspect,
            Mode::Reread => {
                action.nature == Nature::Inspect
                    && matches!(order.kind, JobKind::Stage(stage) if stage != Stage::Announce)
            }
            Mode::Perform => action.nature != Nature::Inspect && order.kind != JobKind::Restore,
            Mode::Capture | Mode::Undo | Mode::Verify => action.nature == Nature::Reversible,
        };
        if !fits {
            return Some(format!(
                "{} is {:?}: there is no {:?} of it in {}",
                order.action, action.nature, order.mode, order.kind
            ));
        }
        let by_manifest = match order.mode {
            Mode::Perform => action.nature.captures(),
            Mode::Undo | Mode::Verify => true,
            Mode::Inspect | Mode::Reread | Mode::Capture => false,
        };
        (by_manifest && order.manifest.is_none())
            .then(|| format!("{:?} of {} without the manifest that was captured", order.mode, order.action))
    }

    /// The same of an order for a page of a census: it is no step of a record, and is asked of whoever lists that kind.
    fn unfit_for_census(&self, order: &Order) -> Option<String> {
        let looks = order.mode == Mode::Inspect && order.nature == Nature::Inspect;
        if !looks || order.deletion != canary::DELETION {
            return Some(format!("{} is asked of no record, and only looks", order.action));
        }
        let kind = &order.resource.kind;
        let lists = self.actions.subsystem == self.instance.subsystem && self.actions.lists.contains(kind);
        (!lists).then(|| format!("{} takes no census of {kind}", self.instance.subsystem))
    }

    fn judge(&self, order: &Order) -> Result<(), String> {
        self.hearing
            .judge(order.fence.epoch, order.revision, undoing(order))
            .map_err(|not_now| format!("not begun: {not_now}"))
    }
}

fn is_census(order: &Order) -> bool {
    order.action.as_str() == listing::ACTION
}

fn undoing(order: &Order) -> bool {
    match order.mode {
        Mode::Undo | Mode::Verify => true,
        Mode::Inspect | Mode::Reread | Mode::Capture | Mode::Perform => false,
    }
}
