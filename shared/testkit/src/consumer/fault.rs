//! A driver around a driver that fails where it is told to.
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use serde_json::Value;
use sexton_consumer::{
    CensusContext, Done, Driver, Found, Inspection, Listed, Obstacle, Permit, StepContext,
};
use sexton_model::step::Presence;

use crate::clock::ManualClock;

/// What goes wrong, once, with a change or with a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and nothing has happened.
    BeforeEffect,
    /// It happens and its answer is lost.
    AfterEffect,
    /// It happens and then the driver panics.
    PanicAfterEffect,
    /// The process sleeps for so many milliseconds after the target was found and before the SDK gives a permit.
    SleepAfterFind(u64),
    /// The process sleeps for so many milliseconds after the SDK has given a permit and before the driver is called.
    SleepUnderPermit(u64),
}

/// Fails once, as told; passes everything else on.
pub struct Faulty {
    inner: Arc<dyn Driver>,
    clock: Arc<ManualClock>,
    fault: Mutex<Option<Fault>>,
}

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Faulty").field("fault", &self.fault).finish_non_exhaustive()
    }
}

impl Faulty {
    /// Around `inner`; fails once by `fault`.
    pub fn new(inner: Arc<dyn Driver>, clock: Arc<ManualClock>, fault: Option<Fault>) -> Self {
        Self { inner, clock, fault: Mutex::new(fault) }
    }

    fn take(&self, which: impl FnOnce(Fault) -> bool) -> Option<Fault> {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.filter(|f| which(*f))?;
        fault.take()
    }

    fn before(&self) -> Result<(), Obstacle> {
        match self.take(|f| matches!(f, Fault::BeforeEffect | Fault::SleepUnderPermit(_))) {
            Some(Fault::SleepUnderPermit(ms)) => {
                self.clock.advance(ms);
                Ok(())
            }
            Some(_) => Err(Obstacle::Unclear("made to fail before the effect".into())),
            None => Ok(()),
        }
    }

    #[expect(clippy::panic, reason = "a driver that panics is what is tested")]
    fn after<T: std::fmt::Debug>(&self, did: Result<T, Obstacle>) -> Result<T, Obstacle> {
        match self.take(|f| matches!(f, Fault::AfterEffect | Fault::PanicAfterEffect)) {
            Some(Fault::PanicAfterEffect) => panic!("made to panic after the effect"),
            Some(_) => Err(Obstacle::Unclear(format!("made to lose the answer {did:?}"))),
            None => did,
        }
    }
}

#[async_trait]
impl Driver for Faulty {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        self.before()?;
        self.after(self.inner.inspect(step).await)
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        let found = self.inner.find(step).await;
        if let Some(Fault::SleepAfterFind(ms)) = self.take(|f| matches!(f, Fault::SleepAfterFind(_))) {
            self.clock.advance(ms);
        }
        found
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        self.before()?;
        self.after(self.inner.capture(step).await)
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        self.before()?;
        self.after(self.inner.perform(step, manifest, permit).await)
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        self.before()?;
        self.after(self.inner.undo(step, manifest, permit).await)
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        self.inner.presence(step).await
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        self.inner.restored(step, manifest).await
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        self.before()?;
        self.after(self.inner.check(step).await)
    }

    async fn census(&self, page: &CensusContext) -> Result<Listed, Obstacle> {
        self.inner.census(page).await
    }
}
