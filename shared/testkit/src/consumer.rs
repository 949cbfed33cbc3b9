//! The kit every consumer passes.
//!
//! A consumer's tests implement [`Fixture`] for each driver and call [`run_kit`]; what comes back lists every
//! promise that was broken, for which action, and how.
mod bench;
mod broker;
mod cases;
pub mod fault;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::{ActionName, Instance, ResourceId};
use std::collections::BTreeMap;

/// A driver under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Which instance the orders are for.
    fn instance(&self) -> Instance;

    /// The subsystem's catalogue.
    fn actions(&self) -> SubsystemActions;

    /// A world in which the resource is whole and `action` may be performed, untouched by any other case.
    async fn fresh(&self, action: &ActionName) -> Box<dyn World>;
}

/// One world of one case.
#[async_trait]
pub trait World: Send + Sync {
    /// The driver for this world.
    fn driver(&self) -> Arc<dyn Driver>;

    /// What orders about the resource say.
    fn template(&self) -> Template;

    /// Everything that matters in this world, comparable: without fences and without clocks.
    async fn snapshot(&self) -> Value;

    /// Replace the target of the action by another one of the same name.
    async fn other_identity(&self);

    /// Take the target of the action away, as if somebody had deleted it by hand.
    async fn make_absent(&self);
}

/// What orders about a resource say, whatever the action.
#[derive(Debug, Clone)]
pub struct Template {
    /// The resource.
    pub resource: ResourceId,
    /// What makes it this one.
    pub identity: Identity,
    /// What the platform registered for the subsystem.
    pub attributes: Value,
    /// What is pinned. `None`: the kit inspects, with the catalogue's action `inspect`.
    pub targets: Option<Value>,
    /// The plan's parameters.
    pub params: BTreeMap<String, Value>,
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// By which action.
    pub action: ActionName,
    /// In which case.
    pub case: &'static str,
    /// What was seen.
    pub seen: String,
}

/// All promises that were broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Violations(pub Vec<Violation>);

impl fmt::Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Violation { action, case, seen } in &self.0 {
            writeln!(f, "{action}: {case}: {seen}")?;
        }
        Ok(())
    }
}

/// Run every case for every action. Gives back how many were run.
///
/// # Errors
/// Every promise that was broken.
pub async fn run_kit(fixture: &dyn Fixture) -> Result<usize, Violations> {
    let mut violations = Vec::new();
    let mut run = 0;
    for (name, action) in fixture.actions().actions {
        for case in cases::of(action.nature) {
            run += 1;
            if let Err(seen) = cases::run(fixture, &name, &action, case).await {
                violations.push(Violation { action: name.clone(), case: case.promise(), seen });
            }
        }
    }
    if violations.is_empty() { Ok(run) } else { Err(Violations(violations)) }
}
