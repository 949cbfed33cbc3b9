//! One case's workbench: a fresh world, a clock that stands still, and a performer that hears beacons.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;
use sexton_consumer::{Clock, Hearing, Performer, Verdict};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::{Action, Nature};
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::{Mode, Outcome, RetryClass};
use sexton_model::{ActionName, Instance, JobId, Timestamp};
use sexton_protocol::Order;

use super::fault::{Fault, Faulty};
use super::{Fixture, Template, World};
use crate::clock::ManualClock;
use crate::order::{Asked, EPOCH, REVISION, order};

/// Tries of an order that is answered with "busy", and the pause between them in real time: far longer than a program
/// takes to start.
pub(super) const BUSY_TRIES: u32 = 10;
pub(super) const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Everything one case needs.
pub(super) struct Bench<'a> {
    pub(super) fixture: &'a dyn Fixture,
    pub(super) action: &'a Action,
    pub(super) name: &'a ActionName,
    pub(super) world: Box<dyn World>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) template: Template,
    pub(super) before: Value,
    instance: Instance,
    hearing: Arc<Hearing>,
    fences: AtomicI64,
}

impl<'a> Bench<'a> {
    pub(super) async fn new(
        fixture: &'a dyn Fixture,
        name: &'a ActionName,
        action: &'a Action,
    ) -> Result<Self, String> {
        let world = fixture.fresh(name).await;
        let clock = Arc::new(ManualClock::default());
        let hearing = Arc::new(Hearing::new(clock.clone()));
        hearing.hear(Beacon { epoch: EPOCH, revision: REVISION, read_at: clock.now() });
        let template = world.template();
        let before = world.snapshot().await;
        let mut bench = Self {
            instance: fixture.instance(),
            fences: AtomicI64::new(100),
            fixture,
            action,
            name,
            world,
            clock,
            template,
            before,
            hearing,
        };
        if bench.template.targets.is_none() && action.nature != Nature::Inspect {
            bench.template.targets = Some(bench.inspect().await?);
        }
        Ok(bench)
    }

    /// With the targets pinned.
    pub(super) async fn pinned(mut self) -> Result<Self, String> {
        self.template.targets = Some(self.inspect().await?);
        Ok(self)
    }

    /// The order to read the targets again before `stage`.
    pub(super) fn reread(&self, stage: Stage) -> Order {
        let kind = JobKind::Stage(stage);
        let order = self.order(Mode::Reread, None);
        Order { kind, job: JobId::of(order.deletion, kind.slot()), ..order }
    }

    /// Pin the targets: with the action itself if it inspects, else with the catalogue's first that does.
    async fn inspect(&self) -> Result<Value, String> {
        let actions = self.fixture.actions().actions;
        let (name, inspect) = if self.action.nature == Nature::Inspect {
            (self.name, self.action)
        } else {
            actions
                .iter()
                .find(|(_, action)| action.nature == Nature::Inspect)
                .ok_or("no targets in the template, and the catalogue has no action that inspects")?
        };
        let order = self.order_for(name, inspect, Mode::Inspect, None);
        match self.give(&order, None).await {
            Verdict::Answer(Outcome::Done { finding: Some(targets), .. }) => {
                self.unchanged("an inspection").await?;
                Ok(targets)
            }
            other => Err(format!("could not pin the targets: {other:?}")),
        }
    }

    /// A good order, numbered higher than all before.
    pub(super) fn order(&self, mode: Mode, manifest: Option<&Value>) -> Order {
        self.order_for(self.name, self.action, mode, manifest)
    }

    fn order_for(&self, name: &ActionName, action: &Action, mode: Mode, manifest: Option<&Value>) -> Order {
        let asked = Asked { instance: &self.instance, name, action, mode };
        let number = self.fences.fetch_add(1, Ordering::Relaxed);
        // What a long step does while it waits for an extension is tried in the SDK's own tests.
        let order = order(&asked, self.template.clone(), number, self.clock.now());
        Order { manifest: manifest.cloned(), long: false, ..order }
    }

    /// The mode that carries the action out.
    pub(super) fn mode(&self) -> Mode {
        if self.action.nature == Nature::Inspect { Mode::Inspect } else { Mode::Perform }
    }

    /// Give an order to a performer that was just started, with a driver that fails as told.
    pub(super) async fn give(&self, order: &Order, fault: Option<Fault>) -> Verdict {
        self.performer(fault).perform_order(order).await
    }

    pub(super) fn performer(&self, fault: Option<Fault>) -> Performer {
        let driver = Arc::new(Faulty::new(self.world.driver(), self.clock.clone(), fault));
        let actions = self.fixture.actions();
        Performer::new(self.instance.clone(), actions, driver, self.clock.clone(), self.hearing.clone())
    }

    /// Let time pass, with a beacon at its end.
    pub(super) fn pass(&self, ms: u64) {
        self.clock.advance(ms);
        self.hearing.hear(Beacon { epoch: EPOCH, revision: REVISION, read_at: self.clock.now() });
    }

    /// The manifest, if the action wants one.
    pub(super) async fn capture(&self) -> Result<Option<Value>, String> {
        if !self.action.nature.captures() {
            return Ok(None);
        }
        match self.give(&self.order(Mode::Capture, None), None).await {
            Verdict::Answer(Outcome::Done { finding: Some(manifest), .. }) => {
                self.unchanged("a capture").await?;
                Ok(Some(manifest))
            }
            other => Err(format!("could not capture: {other:?}")),
        }
    }

    /// Carry it out as ordered, and insist on success.
    pub(super) async fn succeed(&self, mode: Mode, manifest: Option<&Value>) -> Result<(), String> {
        self.done(mode, manifest).await.map(drop)
    }

    /// The same; what it has found, if it looks for something.
    pub(super) async fn done(&self, mode: Mode, manifest: Option<&Value>) -> Result<Option<Value>, String> {
        let mut tried = 1;
        loop {
            match self.give(&self.order(mode, manifest), None).await {
                Verdict::Answer(Outcome::Done { finding, .. }) => return Ok(finding),
                // A program that another world starts at the moment holds every lock of this process until it runs.
                Verdict::Answer(Outcome::Retry { class: RetryClass::Spared, .. }) if tried < BUSY_TRIES => {
                    tried += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                other => return Err(format!("{mode:?} was not done: {other:?}")),
            }
        }
    }

    pub(super) async fn unchanged(&self, after: &str) -> Result<(), String> {
        self.is(&self.before, after).await
    }

    pub(super) async fn is(&self, wanted: &Value, after: &str) -> Result<(), String> {
        let now = self.world.snapshot().await;
        if now == *wanted {
            return Ok(());
        }
        Err(format!("after {after} the world is {now}, and should be {wanted}"))
    }

    pub(super) fn past(&self) -> Timestamp {
        Timestamp(self.clock.now().0 - 1)
    }
}

/// Insist on a refusal.
pub(super) fn refused(verdict: &Verdict) -> Result<(), String> {
    match verdict {
        Verdict::Answer(Outcome::Refused { .. }) => Ok(()),
        other => Err(format!("was not refused: {other:?}")),
    }
}

/// Insist on `retry` of a class.
pub(super) fn retried(verdict: &Verdict, wanted: RetryClass) -> Result<(), String> {
    match verdict {
        Verdict::Answer(Outcome::Retry { class, .. }) if *class == wanted => Ok(()),
        other => Err(format!("was not answered with retry, {wanted:?}: {other:?}")),
    }
}
