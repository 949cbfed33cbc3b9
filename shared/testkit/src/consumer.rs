//! The kit every consumer passes.
//!
//! A consumer's tests implement [`Fixture`] for each driver and call [`assert_promises_kept`], which lists every
//! promise that was broken, for which action, and how.
//!
//! A consumer sleeps at two moments here: between the look and the permit, where the SDK stops it, and between the permit and
//! the change, where only the driver's own question does (`Permit::again`). Each driver asks it right before each change. No
//! driver is excepted from that; without it is made, by those that are delivered, only what is part of a change that was asked
//! about, or tells of it:
//!
//! - the notifier writes down who got a message, and that all did: otherwise they would be told twice;
//! - the hypervisor of the sandbox writes down that a process has ended, or was started: otherwise nobody would know;
//! - the hypervisor of QEMU presses the power button again, through the same connection, while it waits for the guest, and
//!   kills the process whose monitor was asked to end it: either is asked about once;
//! - a volume goes with what describes it, a definition with its socket and process id.
//!
//! What lies between two changes of one step is tried in the tests of the drivers and of the SDK.
mod asleep;
mod bench;
mod broker;
mod cases;
mod census;
pub mod fault;
mod looks;
mod reread;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use serde_json::Value;
use sexton_consumer::Driver;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::{ActionName, Fence, Instance, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// What a driver whose targets hold no fence cannot show, as [`NotShown::case`] says it ([`World::raise_fence`]).
pub const FENCE_AT_TARGET: &str = "a target that holds a later fence refuses a consumer that remembers none";

/// A driver under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Which instance the orders are for.
    fn instance(&self) -> Instance;

    /// The subsystem's catalogue.
    fn actions(&self) -> SubsystemActions;

    /// How many cases may run at the same time, each in worlds of its own.
    fn at_once(&self) -> usize {
        1
    }

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

    /// Take the place from under the driver: nothing is on the disk any more, or another server answers that knows
    /// nothing of the resource.
    ///
    /// # Errors
    /// Why this world cannot lose it.
    async fn lose_place(&self) -> Result<(), CannotBe>;

    /// Write `fence` where the target of the action holds the fence of its last change, as the step of a later
    /// order would.
    ///
    /// # Errors
    /// That it can hold none, and why; what that means is said at the top of the driver.
    async fn raise_fence(&self, fence: Fence) -> Result<(), CannotBe>;
}

/// Why a world cannot be set up in some way. Nothing is left out by default: each driver's test says what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CannotBe(pub &'static str);

/// No promise was broken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// How many cases showed that a promise is kept.
    pub shown: usize,
    /// What could not be set up.
    pub not_shown: Vec<NotShown>,
}

/// A promise that was not put to the test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotShown {
    /// Of which action.
    pub action: ActionName,
    /// In which case.
    pub case: &'static str,
    /// Why not.
    pub why: &'static str,
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
    /// What is pinned. `None`: the kit inspects, with the action itself if it is one that does, else with the catalogue's first.
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

/// Run every case for every action. Gives back how many showed something, and what could not be shown.
///
/// # Errors
/// Every promise that was broken.
pub async fn run_kit(fixture: &dyn Fixture) -> Result<Kept, Violations> {
    let SubsystemActions { actions, compares_place, .. } = fixture.actions();
    let of = |nature| cases::of(nature, !compares_place.is_empty());
    let cases: Vec<_> = actions
        .iter()
        .flat_map(|(name, action)| of(action.nature).into_iter().map(move |case| (name, action, case)))
        .collect();
    let ended = stream::iter(cases).map(|(name, action, case)| async move {
        (name.clone(), case.promise(), cases::run(fixture, name, action, case).await)
    });
    let ended: Vec<_> = ended.buffered(fixture.at_once()).collect().await;
    let (mut kept, mut violations) = (Kept::default(), Vec::new());
    for (action, case, seen) in ended {
        match seen {
            Ok(None) => kept.shown += 1,
            Ok(Some(CannotBe(why))) => kept.not_shown.push(NotShown { action, case, why }),
            Err(seen) => violations.push(Violation { action, case, seen }),
        }
    }
    if let Some(action) = actions.keys().next().cloned() {
        // Of no action: it is told under the first.
        match census::run(fixture).await {
            Ok(None) => kept.shown += 1,
            Ok(Some(CannotBe(why))) => kept.not_shown.push(NotShown { action, case: census::PROMISE, why }),
            Err(seen) => violations.push(Violation { action, case: census::PROMISE, seen }),
        }
    }
    if violations.is_empty() { Ok(kept) } else { Err(Violations(violations)) }
}

/// Make the directory sandbox in `folder` an empty one that is another place. For [`World::lose_place`].
///
/// # Panics
/// If the file system refuses.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub fn replace_place(folder: &Path) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("place.json"), r#"{"place": "sandbox:another"}"#).unwrap();
}

/// Write `fence` into the object in `file`, where a directory sandbox holds it. For [`World::raise_fence`].
///
/// # Panics
/// If the file is no object.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub fn raise_fence_in(file: &Path, fence: Fence) {
    let mut object: serde_json::Map<String, Value> =
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    object.insert("fence".into(), serde_json::json!([fence.epoch, fence.number]));
    std::fs::write(file, Value::Object(object).to_string()).unwrap();
}

/// Run every case, and fail with a list of what was broken. `left_out` is what cannot be shown, all of it: actions, each
/// with a promise such as [`FENCE_AT_TARGET`].
///
/// # Panics
/// If a promise was broken, nothing was tried, or anything but `left_out` was not shown.
#[expect(clippy::panic, reason = "a test fails by panicking")]
pub async fn assert_promises_kept(fixture: &dyn Fixture, left_out: &[(&str, &str)]) {
    match run_kit(fixture).await {
        Ok(Kept { shown, not_shown }) => {
            for NotShown { action, case, why } in &not_shown {
                println!("{}: {action}: not shown that {case}: {why}", fixture.instance());
            }
            assert!(shown > 0, "{}: the kit ran no case", fixture.instance());
            let found: BTreeSet<_> = not_shown.iter().map(|one| (one.action.as_str(), one.case)).collect();
            let expected: BTreeSet<_> = left_out.iter().copied().collect();
            assert_eq!(found, expected, "{}: not shown is not what was expected", fixture.instance());
        }
        Err(violations) => panic!("{}:\n{violations}", fixture.instance()),
    }
}
