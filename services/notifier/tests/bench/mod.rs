//! Asks a driver as the coordinators would: by orders, through the SDK's performer.
#![allow(dead_code, reason = "each test file uses a part of it")]
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use serde_json::Value;
use sexton_consumer::{Clock, Driver, Hearing, Performer, SystemClock, Verdict};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::job::JobKind;
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{DeletionId, Fence, Instance, JobId, ResourceId};
use sexton_protocol::Order;

pub struct Bench {
    performer: Performer,
    hearing: Arc<Hearing>,
    clock: Arc<SystemClock>,
    actions: SubsystemActions,
    instance: Instance,
    fence: AtomicI64,
    pub resource: ResourceId,
    pub identity: Identity,
    pub attributes: Value,
    pub targets: Value,
    pub params: BTreeMap<String, Value>,
}

pub fn identity(uuid: &str) -> Identity {
    serde_json::from_value(serde_json::json!({ "uuid": uuid })).unwrap()
}

impl Bench {
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
            fence: AtomicI64::new(1),
            resource: "vm/web01".parse().unwrap(),
            identity: identity(uuid),
            attributes: Value::Null,
            targets: Value::Null,
            params: BTreeMap::new(),
        }
    }

    pub async fn ask(&self, mode: Mode, action: &str, manifest: Option<&Value>) -> Outcome {
        let now = self.clock.now();
        self.hearing.hear(Beacon { epoch: 1, revision: 1, read_at: now });
        let described = &self.actions.actions[&action.parse().unwrap()];
        let order = Order {
            job: JobId::of(DeletionId(1), described.earliest.index()),
            deletion: DeletionId(1),
            resource: self.resource.clone(),
            kind: if matches!(mode, Mode::Undo | Mode::Verify) {
                JobKind::Restore
            } else {
                JobKind::Stage(described.earliest)
            },
            step: 0,
            instance: self.instance.clone(),
            action: action.parse().unwrap(),
            mode,
            nature: described.nature,
            identity: self.identity.clone(),
            attributes: self.attributes.clone(),
            targets: self.targets.clone(),
            manifest: manifest.cloned(),
            params: self.params.clone(),
            fence: Fence { epoch: 1, number: self.fence.fetch_add(1, Ordering::SeqCst) },
            revision: 1,
            issued_at: now,
            deadline: now.plus_ms(described.deadline_ms),
            longest_call_ms: described.longest_call_ms,
            long: described.long,
            attempt: 0,
        };
        match self.performer.perform_order(&order).await {
            Verdict::Answer(outcome) => outcome,
            Verdict::Expired(why) | Verdict::Stale(why) => panic!("{action} was dropped: {why}"),
        }
    }

    /// Inspect, and pin what was found.
    pub async fn pin(&mut self) -> Outcome {
        let outcome = self.ask(Mode::Inspect, "inspect", None).await;
        if let Outcome::Done { finding, .. } = &outcome {
            self.targets = finding.clone().unwrap();
        }
        outcome
    }

    pub async fn capture(&self, action: &str) -> Value {
        match self.ask(Mode::Capture, action, None).await {
            Outcome::Done { finding: Some(manifest), .. } => manifest,
            other => panic!("capture of {action}: {other:?}"),
        }
    }

    pub async fn perform(&self, action: &str, manifest: Option<&Value>) -> Outcome {
        self.ask(Mode::Perform, action, manifest).await
    }

    pub async fn undo(&self, action: &str, manifest: &Value) -> Outcome {
        self.ask(Mode::Undo, action, Some(manifest)).await
    }
}

pub fn evidence(outcome: &Outcome, wanted: Presence) -> String {
    match outcome {
        Outcome::Done { presence, evidence, .. } if *presence == wanted => evidence.clone(),
        other => panic!("expected done and {wanted:?}, got {other:?}"),
    }
}

pub fn refusal(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { reason } => reason.clone(),
        other => panic!("expected refused, got {other:?}"),
    }
}

pub fn retry(outcome: &Outcome, wanted: sexton_model::step::RetryClass) -> String {
    match outcome {
        Outcome::Retry { class, reason } if *class == wanted => reason.clone(),
        other => panic!("expected retry {wanted:?}, got {other:?}"),
    }
}
