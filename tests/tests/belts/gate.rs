//! A driver around a driver, which stops where a test wants to do something meanwhile, and remembers what was
//! changed.
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use sexton_consumer::{Done, Driver, Found, Inspection, Obstacle, Permit, StepContext};
use sexton_model::step::Presence;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

/// Where a step stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before the driver looks.
    Look,
    /// The target was found; its change has not begun.
    Found,
    /// Before what was undone is compared with what was captured.
    Compared,
}

/// What is wrong with the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It says that it was done, and does nothing.
    DoesNothing,
    /// It says that it was undone, and undoes nothing.
    LeavesItUndone,
    /// It cannot see whether anything is left.
    SeesNothing,
    /// It takes whatever place for the one that was pinned.
    AnyPlace,
}

/// Cloning the `Arc` gives the test its end of it.
pub struct Gate {
    inner: Arc<dyn Driver>,
    /// Where, and how many are let past before.
    stop: Mutex<Option<(&'static str, Point, u32)>>,
    reached: Semaphore,
    go_on: Semaphore,
    /// Whether whatever is to be taken back waits.
    undo_held: watch::Sender<bool>,
    flaw: Mutex<Option<(&'static str, Flaw)>>,
    changes: Mutex<Vec<String>>,
}

impl Gate {
    pub fn new(inner: Arc<dyn Driver>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            stop: Mutex::default(),
            reached: Semaphore::new(0),
            go_on: Semaphore::new(0),
            undo_held: watch::Sender::new(false),
            flaw: Mutex::default(),
            changes: Mutex::default(),
        })
    }

    /// Let the next step of `action` stop there, once.
    pub fn close(&self, action: &'static str, point: Point) {
        *self.stop.lock().unwrap() = Some((action, point, 0));
    }

    /// The same, for the change of a reversible action: the first time it is only captured.
    pub fn close_at_change(&self, action: &'static str, point: Point) {
        *self.stop.lock().unwrap() = Some((action, point, 1));
    }

    /// The same, for the look whether the undo of `action` holds: the first look comes right behind the undo.
    pub fn close_at_verify(&self, action: &'static str) {
        *self.stop.lock().unwrap() = Some((action, Point::Compared, 1));
    }

    /// Until a step has stopped.
    pub async fn reached(&self) {
        super::system::in_time("a step comes to the gate", self.reached.acquire()).await.unwrap().forget();
    }

    /// Let the step that stopped go on.
    pub fn open(&self) {
        self.go_on.add_permits(1);
    }

    /// Let everything pass from now on: a step that stands here would keep a test that failed from ending.
    pub fn remove(&self) {
        self.go_on.close();
    }

    /// Let nothing be taken back until [`Self::let_undo`]. Only these steps wait: everything beside them goes on.
    pub fn hold_undo(&self) {
        self.undo_held.send_replace(true);
    }

    /// What waits is taken back, and whatever comes.
    pub fn let_undo(&self) {
        self.undo_held.send_replace(false);
    }

    pub fn set_flaw(&self, action: &'static str, flaw: Option<Flaw>) {
        *self.flaw.lock().unwrap() = flaw.map(|flaw| (action, flaw));
    }

    /// What was changed, or tried to be, in order: `perform silence`, `undo silence`.
    pub fn changes(&self) -> Vec<String> {
        self.changes.lock().unwrap().clone()
    }

    fn has(&self, step: &StepContext, flaw: Flaw) -> bool {
        *self.flaw.lock().unwrap() == Some((step.action.as_str(), flaw))
    }

    /// Stops the whole task, as a process does that sleeps: nothing beside the step goes on either.
    fn pass(&self, step: &StepContext, point: Point) {
        let stops = self.stop.lock().unwrap().take_if(|(action, at, before)| {
            let here = (*action, *at) == (step.action.as_str(), point);
            let past = here && *before > 0;
            *before -= u32::from(past);
            here && !past
        });
        if stops.is_some() {
            self.reached.add_permits(1);
            let passed = tokio::task::block_in_place(|| Handle::current().block_on(self.go_on.acquire()));
            // An error says that the gate is gone: the test has ended.
            if let Ok(passed) = passed {
                passed.forget();
            }
        }
    }

    fn note(&self, what: &str, step: &StepContext) {
        self.changes.lock().unwrap().push(format!("{what} {}", step.action));
    }
}

#[async_trait]
impl Driver for Gate {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        self.pass(step, Point::Look);
        let seen = self.inner.inspect(step).await?;
        if self.has(step, Flaw::AnyPlace) && !step.targets.is_null() {
            return Ok(Inspection { found: Found::Same, ..seen });
        }
        Ok(seen)
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        self.pass(step, Point::Look);
        let found = self.inner.find(step).await;
        self.pass(step, Point::Found);
        found
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        self.inner.capture(step).await
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        self.note("perform", step);
        if self.has(step, Flaw::DoesNothing) {
            return Ok(Done::saw("did nothing"));
        }
        self.inner.perform(step, manifest, permit).await
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        self.note("undo", step);
        if self.has(step, Flaw::LeavesItUndone) {
            return Ok(Done::saw("undid nothing"));
        }
        self.undo_held.subscribe().wait_for(|held| !*held).await.unwrap();
        self.inner.undo(step, manifest, permit).await
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        if self.has(step, Flaw::SeesNothing) {
            return Ok((Presence::Unknown, "nothing can be seen".into()));
        }
        self.inner.presence(step).await
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        self.pass(step, Point::Compared);
        self.inner.restored(step, manifest).await
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        self.pass(step, Point::Look);
        self.inner.check(step).await
    }
}
