//! Asks a driver as the coordinators would, by orders through the SDK's performer, in real time. For what is
//! special about a driver; what all of them promise is in [`crate::consumer`].
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;
use sexton_consumer::{Clock, Driver, Hearing, Performer, SystemClock, Verdict};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome, Presence, RetryClass};
use sexton_model::{ActionName, Instance, ResourceId};

use crate::consumer::Template;
use crate::order::{Asked, EPOCH, REVISION, order};

/// An identity that consists of a `uuid`.
///
/// # Panics
/// If `uuid` cannot be part of an identity.
pub fn identity(uuid: &str) -> Identity {
    BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]).try_into().unwrap()
}

/// One consumer with this driver, and what orders to it say.
#[derive(Debug)]
pub struct Bench {
    performer: Performer,
    hearing: Arc<Hearing>,
    clock: Arc<SystemClock>,
    actions: SubsystemActions,
    instance: Instance,
    number: AtomicI64,
    /// Which resource; `vm/web01` at first.
    pub resource: ResourceId,
    /// What makes it this one.
    pub identity: Identity,
    /// What the platform registered for the subsystem; nothing at first.
    pub attributes: Value,
    /// What is pinned; see [`Bench::pin`].
    pub targets: Value,
    /// The plan's parameters; none at first.
    pub params: BTreeMap<String, Value>,
}

impl Bench {
    /// The instance `main` of the subsystem that `actions` describes, asked about the resource `uuid`.
    ///
    /// # Panics
    /// If `uuid` cannot be part of an identity.
    pub fn new(driver: Arc<dyn Driver>, actions: SubsystemActions, uuid: &str) -> Self {
        let clock = Arc::new(SystemClock::default());
        let hearing = Arc::new(Hearing::new(clock.clone()));
        let instance: Instance = format!("{}.main", actions.subsystem).parse().unwrap();
        let performer =
            Performer::new(instance.clone(), actions.clone(), driver, clock.clone(), hearing.clone());
        Self {
            performer,
            hearing,
            clock,
            actions,
            instance,
            number: AtomicI64::new(1),
            resource: "vm/web01".parse().unwrap(),
            identity: identity(uuid),
            attributes: Value::Null,
            targets: Value::Null,
            params: BTreeMap::new(),
        }
    }

    /// Give an order numbered higher than all before, and a beacon each second while it is carried out.
    ///
    /// # Panics
    /// If there is no such action, or the order is dropped.
    pub async fn ask(&self, mode: Mode, action: &str, manifest: Option<&Value>) -> Outcome {
        let now = self.clock.now();
        self.hear();
        let name: ActionName = action.parse().unwrap();
        let asked =
            Asked { instance: &self.instance, action: &self.actions.actions[&name], name: &name, mode };
        let mut order = order(&asked, self.about(), self.number.fetch_add(1, Ordering::SeqCst), now);
        order.manifest = manifest.cloned();
        let verdict = tokio::select! {
            verdict = self.performer.perform_order(&order) => verdict,
            never = self.beacons() => match never {},
        };
        match verdict {
            Verdict::Answer(outcome) => outcome,
            Verdict::Expired(why) | Verdict::Stale(why) => panic!("{action} was dropped: {why}"),
        }
    }

    fn hear(&self) {
        self.hearing.hear(Beacon { epoch: EPOCH, revision: REVISION, read_at: self.clock.now() });
    }

    async fn beacons(&self) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.hear();
        }
    }

    fn about(&self) -> Template {
        Template {
            resource: self.resource.clone(),
            identity: self.identity.clone(),
            attributes: self.attributes.clone(),
            targets: Some(self.targets.clone()),
            params: self.params.clone(),
        }
    }

    /// Inspect, and pin what was found, if it was done.
    pub async fn pin(&mut self) -> Outcome {
        let outcome = self.ask(Mode::Inspect, "inspect", None).await;
        if let Outcome::Done { finding, .. } = &outcome {
            self.targets = finding.clone().unwrap();
        }
        outcome
    }

    /// The manifest for `action`.
    ///
    /// # Panics
    /// If it was not captured.
    pub async fn capture(&self, action: &str) -> Value {
        match self.ask(Mode::Capture, action, None).await {
            Outcome::Done { finding: Some(manifest), .. } => manifest,
            other => panic!("capture of {action}: {other:?}"),
        }
    }

    /// Perform what needs no manifest.
    pub async fn perform(&self, action: &str) -> Outcome {
        self.ask(Mode::Perform, action, None).await
    }

    /// Perform what has an undo.
    pub async fn perform_by(&self, action: &str, manifest: &Value) -> Outcome {
        self.ask(Mode::Perform, action, Some(manifest)).await
    }

    /// Undo it.
    pub async fn undo(&self, action: &str, manifest: &Value) -> Outcome {
        self.ask(Mode::Undo, action, Some(manifest)).await
    }
}

/// What `outcome`, which must be done with this presence, shows for it.
///
/// # Panics
/// If it is anything else.
pub fn evidence(outcome: &Outcome, wanted: Presence) -> String {
    match outcome {
        Outcome::Done { presence, evidence, .. } if *presence == wanted => evidence.clone(),
        other => panic!("expected done and {wanted:?}, got {other:?}"),
    }
}

/// Why it was refused.
///
/// # Panics
/// If it was not.
pub fn refusal(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { reason } => reason.clone(),
        other => panic!("expected refused, got {other:?}"),
    }
}

/// Why it is to be tried again.
///
/// # Panics
/// If it is not, or the class is another.
pub fn retry(outcome: &Outcome, wanted: RetryClass) -> String {
    match outcome {
        Outcome::Retry { class, reason } if *class == wanted => reason.clone(),
        other => panic!("expected retry {wanted:?}, got {other:?}"),
    }
}
