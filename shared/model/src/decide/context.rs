//! What a decision needs to know besides the deletion: time, what is in force, credit.
use crate::belts::budget::Standing;
use crate::belts::healthy::Healthy;
use crate::belts::redundancy::Groups;
use crate::belts::{InForce, Policy};
use crate::credit::Draw;
use crate::id::{Fence, Instance, JobId};
use crate::time::{Day, Timestamp};

/// Which credit an order draws on: restores have their own, so that no backlog delays them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Deletions.
    Stages,
    /// Restores.
    Restores,
}

/// Whether an instance can take an order now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// It has credit.
    Free,
    /// Its credit is used up.
    Full,
    /// No consumer of it pulses.
    Down,
    /// None has for so long that a person has to look, or none ever did.
    Gone,
}

/// What a decision needs to know besides the deletion.
pub struct Context<'a> {
    /// The store's clock.
    pub now: Timestamp,
    /// What a policy's day is here.
    pub day: Day,
    /// Pauses and ceilings.
    pub in_force: &'a InForce,
    /// What the configuration says.
    pub policy: &'a Policy,
    /// The epoch whose ledger a person has to review first: it went back in time, so nothing is dispatched.
    pub review: Option<u32>,
    /// The fence an order given by this decision has.
    pub fence: Fence,
    /// Credit, as counted from the table.
    pub capacity: &'a dyn Fn(&Instance, Lane, Draw) -> Capacity,
    /// Whether a job that has not begun was admitted. Asked only of what the policy counts: stages, and a backlog
    /// of others.
    pub standing: &'a dyn Fn(JobId) -> Standing,
    /// When people could have cancelled. Asked only of stages that have a grace and have not begun.
    pub healthy: &'a Healthy,
    /// Redundancy groups of what may begin a stage that is bound by them.
    pub groups: &'a Groups,
    /// When consumers of an instance last answered or reported anything, as their pulses tell.
    pub answered: &'a dyn Fn(&Instance) -> Option<Timestamp>,
}
