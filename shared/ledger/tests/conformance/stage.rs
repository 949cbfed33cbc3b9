//! The stage on which the scenarios play: a catalogue, a plan, and hands that claim and answer.
use std::sync::Arc;
use std::time::{Duration, Instant as Steady};

use serde_json::json;
use sexton_ledger::{
    Alive, Decided, DeletionView, Dispatch, Intent, Ledger, Limits, NewDeletion, NotDone, Options, Stopped,
};
use sexton_model::access::{Bearer, Extent, Registrar, Role};
use sexton_model::belts::Policy;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::catalogue::{Catalogue, Nature};
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus, Zone};
use sexton_model::job::{Job, JobKind, JobState, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, Fence, Instance, JobId, ResourceId, Timestamp};

use super::Fixture;

const SUBSYSTEMS: [(&str, &str); 4] = [
    (
        "hypervisor.toml",
        r#"
subsystem = "hypervisor"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 150
longest_call_ms = 100
irreplaceable = ["volumes"]
about = "look"
[actions.stop]
nature = "reversible"
earliest = "soft"
deadline_ms = 150
longest_call_ms = 1
about = "stop"
[actions.undefine]
nature = "destructive"
earliest = "hard"
deadline_ms = 150
longest_call_ms = 1
ends_use_of = ["address"]
about = "undefine"
[actions.delete_volumes]
nature = "destructive"
earliest = "purge"
deadline_ms = 150
longest_call_ms = 1
about = "delete volumes"
"#,
    ),
    (
        "ipam.toml",
        r#"
subsystem = "ipam"
[actions.release]
nature = "destructive"
earliest = "hard"
deadline_ms = 150
longest_call_ms = 1
releases = ["address"]
about = "release"
"#,
    ),
    (
        "dns.toml",
        r#"
subsystem = "dns"
[actions.withdraw]
nature = "reversible"
earliest = "soft"
deadline_ms = 150
longest_call_ms = 1
about = "withdraw"
[actions.remove]
nature = "destructive"
earliest = "hard"
deadline_ms = 150
longest_call_ms = 1
about = "remove"
"#,
    ),
    (
        "notifier.toml",
        r#"
subsystem = "notifier"
[actions.announce]
nature = "reversible"
earliest = "announce"
notice = true
deadline_ms = 150
longest_call_ms = 1
about = "tell"
"#,
    ),
];

const PLAN: &str = r#"kind = "vm"
version = 1
criticality = "irreplaceable"
rehearsal = true
[stages.announce]
offset_days = -1
steps = [{ do = "hypervisor.inspect" }, { do = "notifier.announce" }]
[stages.soft]
offset_days = 0
steps = [{ do = "hypervisor.stop" }, { do = "dns.withdraw" }]
[stages.hard]
offset_days = 1
steps = [
  { do = "hypervisor.undefine", max_attempts = 2 },
  { do = "dns.remove" },
  { do = "ipam.release", after = ["hypervisor.undefine"] },
  { do = "inventory.remove", after = ["hypervisor.undefine"] },
]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_volumes" }, { do = "receipt" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

/// All that a deletion of the plan asks for, in order.
pub const WHOLE_LIFE: [(&str, Mode); 14] = [
    ("hypervisor.inspect", Mode::Inspect),
    ("notifier.announce", Mode::Capture),
    ("notifier.announce", Mode::Perform),
    ("hypervisor.inspect@soft", Mode::Reread),
    ("hypervisor.stop", Mode::Capture),
    ("hypervisor.stop", Mode::Perform),
    ("dns.withdraw", Mode::Capture),
    ("dns.withdraw", Mode::Perform),
    ("hypervisor.inspect@hard", Mode::Reread),
    ("hypervisor.undefine", Mode::Perform),
    ("dns.remove", Mode::Perform),
    ("ipam.release", Mode::Perform),
    ("hypervisor.inspect@purge", Mode::Reread),
    ("hypervisor.delete_volumes", Mode::Perform),
];

/// A day in these rehearsals, in milliseconds.
pub const DAY: Day = Day::Rehearsal { length_ms: 5 };

/// Longest time anything is waited for: a lease takes three seconds, a slow machine some more.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn options() -> Options {
    // Scenarios never pulse again: what was heard of once stays up. Nor are there heartbeats, but for the first one.
    let limits = Limits { down_after_ms: 600_000, outage_after_ms: Some(600_000), ..Limits::default() };
    Options { day: DAY, limits, policy: Policy::default() }
}

pub fn plan() -> Arc<Plan> {
    let mut catalogue = Catalogue::default();
    for (file, text) in SUBSYSTEMS {
        catalogue.add(file, text).unwrap();
    }
    Arc::new(Plan::parse("vm.toml", PLAN, &catalogue, true).unwrap())
}

pub fn actor(name: &str) -> Actor {
    name.parse().unwrap()
}

pub fn instance(name: &str) -> Instance {
    name.parse().unwrap()
}

/// A copy of that instance with as many hands as one may have.
pub fn alive(name: &str) -> Alive {
    Alive { instance: instance(name), copy: "one".into(), hands: 256, answered: 0 }
}

pub fn resource(name: &str, uuid: &str) -> Resource {
    serde_json::from_value(json!({
        "id": format!("vm/{name}"), "scope": "tenants/acme", "identity": {"uuid": uuid},
        "criticality": "irreplaceable",
    }))
    .unwrap()
}

/// Somebody of this role, called `ci`, who is limited to no scope.
pub fn registrar(role: Role) -> Registrar {
    let bearer = Arc::new(Bearer { name: actor("ci"), role, extent: Extent::Everywhere });
    Registrar::Known { bearer, telling: ["notifier".parse().unwrap()].into() }
}

/// A ledger, all subsystems up.
pub struct Stagehand {
    pub ledger: Arc<dyn Ledger>,
    pub plan: Arc<Plan>,
}

impl Stagehand {
    pub async fn new(fixture: &dyn Fixture) -> Self {
        Self::with(fixture, options()).await
    }

    pub async fn with(fixture: &dyn Fixture, options: Options) -> Self {
        let this = Self { ledger: fixture.open(options).await, plan: plan() };
        let all = ["hypervisor.main", "ipam.main", "dns.main", "notifier.main"];
        this.ledger.pulse(all.map(alive).to_vec()).await.unwrap();
        this
    }

    pub async fn now(&self) -> Timestamp {
        self.ledger.facts().await.unwrap().now
    }

    /// Wait until the ledger's clock has passed `moment`: it is the database server's, so time has to pass, and the
    /// clock has to be asked. No test waits for time elsewhere.
    pub async fn until(&self, moment: Timestamp) {
        let begun = Steady::now();
        while self.now().await <= moment {
            assert!(begun.elapsed() < PATIENCE, "the ledger's clock does not reach {moment}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn register(&self, name: &str) -> ResourceId {
        let resource = resource(name, &format!("uuid-of-{name}"));
        let id = resource.id.clone();
        assert_eq!(self.ledger.register(vec![resource], &actor("ops"), false).await.unwrap(), [Ok(())]);
        id
    }

    /// What asks for a deletion that is due at once.
    pub async fn wanted(&self, resource: &ResourceId) -> NewDeletion {
        let now = self.now().await;
        NewDeletion {
            resource: resource.clone(),
            due: Due {
                date: now.utc().date_naive(),
                zone: Zone("Europe/Berlin".parse().unwrap()),
                moment: Some(now),
            },
            gone_by: None,
            by: actor("platform"),
            reason: "no longer needed".into(),
            plan: self.plan.clone(),
        }
    }

    /// Register a resource and make its record.
    pub async fn doomed(&self, name: &str) -> DeletionId {
        let resource = self.register(name).await;
        let wanted = self.wanted(&resource).await;
        self.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
    }

    pub async fn one(&self, deletion: DeletionId, event: Event) -> Result<Decided, NotDone> {
        self.ledger.run(vec![Intent { deletion, event }]).await.unwrap().remove(0)
    }

    /// Say how far deletions of a scope may go.
    pub async fn ceiling(&self, scope: Option<&str>, to: Option<Ceiling>) -> Result<(), NotDone> {
        let scope = scope.map(|scope| scope.parse().unwrap());
        let new = NewCeiling { scope, to, by: actor("ops"), reason: "step by step".into() };
        self.ledger.set_ceiling(new, None).await.unwrap()
    }

    /// What would go on under that ceiling.
    pub async fn below(&self, scope: Option<&str>, to: Option<Ceiling>) -> Result<Vec<Stopped>, NotDone> {
        let scope = scope.map(|scope| scope.parse().unwrap());
        let new = NewCeiling { scope, to, by: actor("ops"), reason: "a look".into() };
        self.ledger.stopped_below(&new).await.unwrap()
    }

    pub async fn view(&self, id: DeletionId) -> DeletionView {
        self.ledger.deletion(id).await.unwrap().unwrap()
    }

    /// The mark of what a person has to look at now, if there is anything.
    pub async fn mark(&self, id: DeletionId) -> String {
        sexton_model::decide::mark(&self.view(id).await.deletion).unwrap_or_default()
    }

    pub async fn status(&self, id: DeletionId) -> RecordStatus {
        self.view(id).await.deletion.status
    }

    pub async fn job(&self, id: DeletionId, kind: JobKind) -> Job {
        let view = self.view(id).await;
        view.deletion.jobs.iter().find(|job| job.kind == kind).cloned().unwrap()
    }

    pub async fn state(&self, id: DeletionId, stage: Stage) -> StateName {
        self.job(id, JobKind::Stage(stage)).await.state.name()
    }

    /// Wait until the job is due by its own row, then claim it.
    pub async fn claim(&self, id: DeletionId, stage: Stage) -> Result<Decided, NotDone> {
        let job = self.job(id, JobKind::Stage(stage)).await;
        if let JobState::Scheduled { due_at: Some(due_at) } = job.state {
            self.until(due_at).await;
        }
        self.one(id, Event::Claim { job: job.id }).await
    }

    pub async fn answer(&self, order: &Dispatch, outcome: Outcome) -> Result<Decided, NotDone> {
        let event = Event::Outcome {
            job: order.spec.job,
            from: order.spec.instance.clone(),
            fence: order.spec.fence,
            outcome,
        };
        self.one(order.spec.job.deletion(), event).await
    }

    /// Answer orders as they should be until none comes, or `stop` says so of one: that one is returned.
    pub async fn play(
        &self,
        first: Option<Dispatch>,
        seen: &mut Vec<(String, Mode)>,
        stop: impl Fn(&str, Mode) -> bool,
    ) -> Option<Dispatch> {
        let mut next = first;
        while let Some(order) = next {
            let (name, mode) = named(&order);
            if stop(&name, mode) {
                return Some(order);
            }
            seen.push((name, mode));
            let outcome = right_answer(&order);
            next = self.answer(&order, outcome).await.unwrap().dispatch;
        }
        None
    }

    /// Claim stage after stage and answer everything, until `stop` says so of an order, which is returned.
    pub async fn play_to(&self, id: DeletionId, stop: impl Fn(&str, Mode) -> bool) -> Option<Dispatch> {
        for stage in Stage::ALL {
            if self.state(id, stage).await == StateName::Done {
                continue;
            }
            let first = self.claim(id, stage).await.unwrap().dispatch;
            if let Some(order) = self.play(first, &mut Vec::new(), &stop).await {
                return Some(order);
            }
        }
        None
    }

    /// Go on with a waiting job until it gives an order or ends.
    pub async fn wake(&self, id: DeletionId, kind: JobKind) -> Decided {
        let job = self.job(id, kind).await;
        if let JobState::Waiting { until, .. } = job.state {
            self.until(until).await;
        }
        self.one(id, Event::Proceed { job: job.id }).await.unwrap()
    }

    /// Play a restore to its end; what was undone and looked at, in order.
    pub async fn play_restore(&self, id: DeletionId, first: Option<Dispatch>) -> Vec<(String, Mode)> {
        let mut seen = Vec::new();
        self.play(first, &mut seen, |_, _| false).await;
        while self.status(id).await == RecordStatus::Restoring {
            let next = self.wake(id, JobKind::Restore).await.dispatch;
            self.play(next, &mut seen, |_, _| false).await;
        }
        seen
    }
}

/// The step's name in the plan, and what is asked of it.
pub fn named(order: &Dispatch) -> (String, Mode) {
    let step = &order.plan.stage(order.spec.stage).steps[usize::from(order.spec.step)];
    (step.name.clone(), order.spec.mode)
}

/// What a consumer says when all is well.
pub fn right_answer(order: &Dispatch) -> Outcome {
    let step = &order.plan.stage(order.spec.stage).steps[usize::from(order.spec.step)];
    let finding = |what: &str| Some(json!({ what: [step.name] }));
    let (presence, finding) = match (order.spec.mode, step.nature) {
        (Mode::Inspect, _) => (Presence::Present, finding("seen")),
        (Mode::Reread, _) => (Presence::Present, Some(json!({}))),
        (Mode::Capture, _) => (Presence::Present, finding("manifest")),
        (Mode::Perform, Nature::Destructive) => (Presence::Absent, None),
        (Mode::Perform | Mode::Undo | Mode::Verify, _) => (Presence::Present, None),
    };
    Outcome::Done { presence, evidence: "seen".into(), finding }
}

pub fn older(fence: Fence) -> Fence {
    Fence { number: fence.number - 1, ..fence }
}

pub fn job_id(id: DeletionId, stage: Stage) -> JobId {
    JobId::of(id, stage.index())
}
