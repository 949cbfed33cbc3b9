//! What must be refused every day: no canary ever changes anything, none is accepted, and whoever answers one all the same
//! stops everything.
use std::collections::BTreeSet;

use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::canary::{Canary, DELETION, Judged, Verdict};
use sexton_model::{Actor, Instance, ResourceId};
use sexton_protocol::Order;

use super::{Violation, violated};
use crate::simulation::platform::{Act, Things, Truth};

/// The machine that is there for canaries, and for nothing else.
pub fn resource() -> ResourceId {
    "vm/canary01".parse().unwrap()
}

/// What was seen of them.
#[derive(Debug, Default)]
pub struct Canaries {
    /// How that machine was in the beginning, if there is one.
    as_it_was: Option<Things>,
    /// In whose name somebody has answered what must not be believed.
    answered: BTreeSet<Instance>,
    /// Those that are known to be accepted.
    accepted: BTreeSet<i64>,
    /// Those that are known to hold.
    held: BTreeSet<i64>,
}

impl Canaries {
    /// There is a machine for them.
    pub fn begin(&mut self, truth: &Truth) {
        self.as_it_was = Some(truth.of(&resource()));
    }

    /// Somebody answers in the name of this instance.
    pub fn answered(&mut self, instance: Instance) {
        self.answered.insert(instance);
    }

    /// Whether somebody has, so that at any moment everything may be paused.
    pub fn doubtful(&self) -> bool {
        !self.answered.is_empty()
    }

    /// How many were refused as they must be.
    pub fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// Something was changed.
    ///
    /// # Errors
    /// If it was by a canary's order, or its machine.
    pub fn acted(&self, act: &Act, order: &Order, told: &impl Fn() -> String) -> Result<(), Violation> {
        if order.deletion == DELETION || act.vm == resource() {
            return violated("canary", format!("{}: nobody may ever do that", told()));
        }
        Ok(())
    }

    /// These are known, and these pauses in force.
    ///
    /// # Errors
    /// If one was accepted that nobody has answered falsely, or did not pause everything.
    pub fn see(&mut self, sent: &[Canary], pauses: &[Pause]) -> Result<(), Violation> {
        let paused = pauses
            .iter()
            .any(|pause| pause.by == Actor::canary() && pause.covers == PauseSelector::default());
        for canary in sent {
            match &canary.judged {
                Some(Judged { verdict: Verdict::Holds { .. }, .. }) => {
                    self.held.insert(canary.id);
                }
                Some(Judged { verdict: Verdict::Accepted { how }, .. }) => {
                    let falsely =
                        canary.probe.instance().is_some_and(|instance| self.answered.contains(instance));
                    if !falsely {
                        violated("canary", format!("{} was accepted: {how}", canary.probe))?;
                    }
                    if self.accepted.insert(canary.id) && !paused {
                        violated("canary", format!("{} was accepted, and nothing is paused", canary.probe))?;
                    }
                }
                Some(Judged { verdict: Verdict::Unanswered | Verdict::Unclear { .. }, .. }) | None => {}
            }
        }
        Ok(())
    }

    /// The run is over: the machine is as it was.
    ///
    /// # Errors
    /// If it is not.
    pub fn ended(&self, truth: &Truth) -> Result<(), Violation> {
        let is = truth.of(&resource());
        match &self.as_it_was {
            Some(was) if *was != is => violated("canary", format!("{was:?} is {is:?} now")),
            Some(_) | None => Ok(()),
        }
    }
}
