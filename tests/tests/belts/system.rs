//! A whole Sexton in this process: job table, coordinator, broker, and three consumers with their sandboxes. Everything is
//! as `sexton serve` has it, or as many machines have it ([`footing`]), but for gates at the drivers, and a clock of the
//! consumers that a test can put forward.
mod asked;
mod consumers;
pub mod footing;
mod job_table;
mod keys;
mod many;
mod older;
mod plan;
mod served;
mod standing;
mod start;
#[cfg(feature = "real-servers")]
mod tables;
mod waits;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sexton_bus::topology::COORDINATOR;
use sexton_bus::{Bus, Queue, Subscription, Topology};
use sexton_coordinator::hours::Calendar;
use sexton_coordinator::{Alarmer, Attester, Canaries, Engine, Witness, alarms, attester};
use sexton_ledger::{Counted, Decided, DeletionView, Intent, Ledger, NewDeletion, NotDone};
use sexton_model::belts::Policy;
use sexton_model::belts::census::{Census, Listed};
use sexton_model::belts::one_shot::{NewOneShot, Passable};
use sexton_model::belts::resource_hold::NewHold;
use sexton_model::decide::Event;
use sexton_model::deletion::Due;
use sexton_model::job::{Job, JobKind, Stage};
use sexton_model::plan::Plan;
use sexton_model::resource::{Criticality, Resource};
use sexton_model::{Actor, DeletionId, Instance, ResourceId, Scope, Timestamp};
use sexton_protocol::{BeaconSigner, BeaconVerifier, Holder, Keyring};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;
use consumers::Hands;
use footing::Broker;
use standing::Standing;

pub use asked::{Answer, TRUSTED, ask, bearer};
pub(crate) use footing::on_many_machines;
pub use keys::{cluster, machines};
pub use plan::NOTICE_MS;
pub use waits::{in_time, publish, until};

/// The UUID of `vm/web01`.
pub const U1: &str = "6f0c1d8e-1111-4a7b-9c55-0a4f0e2b7c01";

pub fn monitoring() -> Instance {
    "monitoring.main".parse().unwrap()
}

pub fn backup() -> Instance {
    "backup.main".parse().unwrap()
}

pub fn hypervisor() -> Instance {
    "hypervisor.main".parse().unwrap()
}

fn instances() -> [Instance; 3] {
    [monitoring(), backup(), hypervisor()]
}

/// Who is there for the kind of this plan.
fn instances_of(plan: &Plan) -> Vec<Instance> {
    if plan.kind == keys::kind() { keys::instances().into() } else { instances().into() }
}

pub fn web01() -> ResourceId {
    "vm/web01".parse().unwrap()
}

pub fn ops() -> Actor {
    "ops".parse().unwrap()
}

/// Who has requested nothing.
pub fn boss() -> Actor {
    "boss".parse().unwrap()
}

type Task = (CancellationToken, JoinHandle<()>);

pub struct System {
    /// `None` once it was left behind.
    standing: Option<Standing>,
    pub plan: Arc<Plan>,
    options: sexton_ledger::Options,
    telling: alarms::Options,
    pub ledger: Arc<dyn Ledger>,
    pub engine: Arc<Engine>,
    broker: Broker,
    /// The coordinator's.
    pub bus: Arc<dyn Bus>,
    witness: Arc<Witness>,
    pub keyring: Arc<Keyring>,
    pub signer: Arc<BeaconSigner>,
    pub monitoring: Arc<Gate>,
    pub backup: Arc<Gate>,
    pub hypervisor: Arc<Gate>,
    /// Of memberships, in place of the three.
    keys: BTreeMap<Instance, Arc<Gate>>,
    pub clock: Arc<Hands>,
    coordinator: Option<Task>,
    consumers: Vec<Task>,
    /// Its API.
    serving: Vec<Task>,
    rejected: tokio::sync::Mutex<Box<dyn Subscription>>,
}

impl Drop for System {
    fn drop(&mut self) {
        self.monitoring.remove();
        self.backup.remove();
        self.hypervisor.remove();
        for gate in self.keys.values() {
            gate.remove();
        }
        // What they stand on goes from under them.
        for (_, running) in self.coordinator.iter().chain(&self.consumers).chain(&self.serving) {
            running.abort();
        }
    }
}

impl System {
    /// A new process on what stands there. Its broker's queues are empty and its keys are new.
    async fn on(
        standing: Standing,
        plan: Arc<Plan>,
        options: sexton_ledger::Options,
        (telling, canaries): (alarms::Options, Option<Canaries>),
    ) -> Self {
        let mut rng = rand::rng();
        let instances = instances_of(&plan);
        let holders = instances.iter().cloned().map(Holder::Instance).chain([Holder::Scheduler]);
        let keyring = Arc::new(Keyring::generate(holders, &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let broker = Broker::new(Topology::for_instances(&instances)).await;
        let bus = broker.as_user(COORDINATOR);
        let ledger = standing.job_table.open(options.clone()).await;
        let witness = standing.folder.path().join("witness");
        let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), false).await.unwrap());
        let engine = Engine::new(sexton_coordinator::Options {
            ledger: ledger.clone(),
            bus: bus.clone(),
            keyring: keyring.clone(),
            signer: signer.clone(),
            unpacked: Vec::new(),
            witness: witness.clone(),
        });
        let engine = engine.alarming(Alarmer::new(telling.clone()));
        let engine = Arc::new(engine.with_canaries(canaries));
        let rejected = bus.consume(&Queue::Rejected, 100).await.unwrap().into();
        let [monitoring, backup, hypervisor] = consumers::gates(standing.folder.path());
        let keys = keys::gates(standing.folder.path(), &plan);
        let (clock, coordinator, consumers, serving) = (Arc::default(), None, Vec::new(), Vec::new());
        Self {
            standing: Some(standing),
            plan,
            options,
            telling,
            ledger,
            engine,
            broker,
            bus,
            witness,
            keyring,
            signer,
            monitoring,
            backup,
            hypervisor,
            keys,
            clock,
            coordinator,
            consumers,
            serving,
            rejected,
        }
    }

    /// What this user sees of the broker.
    pub fn as_user(&self, user: &str) -> Arc<dyn Bus> {
        self.broker.as_user(user)
    }

    /// Everything ends, and begins again as another process.
    pub async fn restarted(self) -> Self {
        let policy = self.options.policy.clone();
        self.restarted_with(policy).await
    }

    /// The same, and its configuration was changed.
    pub async fn restarted_with(mut self, policy: Policy) -> Self {
        if self.coordinator.is_some() {
            self.stop_coordinator().await;
        }
        self.stop_consumers().await;
        let options = sexton_ledger::Options { policy, ..self.options.clone() };
        let telling = self.telling.clone();
        let (standing, plan) = self.left_behind();
        let mut next = Self::on(standing, plan, options, (telling, None)).await;
        next.start_everything().await;
        next
    }

    /// What stays when the process is gone: everything else is dropped here.
    fn left_behind(mut self) -> (Standing, Arc<Plan>) {
        (self.standing.take().unwrap(), self.plan.clone())
    }

    pub fn start_coordinator(&mut self) {
        let (engine, bus, stop) = (self.engine.clone(), self.bus.clone(), CancellationToken::new());
        let stopped = stop.clone();
        let running =
            tokio::spawn(async move { sexton_coordinator::run(engine, bus, stopped).await.unwrap() });
        self.coordinator = Some((stop, running));
    }

    pub async fn stop_coordinator(&mut self) {
        let (stop, running) = self.coordinator.take().unwrap();
        stop.cancel();
        running.await.unwrap();
    }

    /// The next coordinator that is started has this bus, and tends no canaries.
    fn coordinate_on(&mut self, bus: Arc<dyn Bus>) {
        self.bus = bus;
        self.engine = Arc::new(self.another_engine());
    }

    /// The next coordinator that is started reads this calendar of holidays, and tends no canaries.
    pub fn coordinate_by(&mut self, calendar: Calendar) {
        self.engine = Arc::new(self.another_engine().with_calendar(Some(calendar)));
    }

    /// The next coordinator that is started signs receipts, and tends no canaries. What verifies them.
    pub fn coordinate_signing(&mut self) -> BeaconVerifier {
        let signer = Arc::new(BeaconSigner::generate("audit", &mut rand::rng()));
        let verifier = signer.verifier();
        let (file, every) = (self.folder().join("checkpoints"), Duration::from_secs(300));
        let options = attester::Options { file, every, signer, known: BeaconVerifier::default() };
        self.engine = Arc::new(self.another_engine().signing(Some(Attester::new(options))));
        verifier
    }

    fn another_engine(&self) -> Engine {
        self.engine_on(self.ledger.clone(), self.witness.clone())
    }

    fn engine_on(&self, ledger: Arc<dyn Ledger>, witness: Arc<Witness>) -> Engine {
        let engine = Engine::new(sexton_coordinator::Options {
            ledger,
            bus: self.bus.clone(),
            keyring: self.keyring.clone(),
            signer: self.signer.clone(),
            unpacked: Vec::new(),
            witness,
        });
        engine.alarming(Alarmer::new(self.telling.clone()))
    }

    /// Register `vm/web01`, or register it anew.
    pub async fn register(&self, protected: bool) {
        self.register_named(&web01(), protected).await;
    }

    /// Register another one.
    pub async fn register_named(&self, id: &ResourceId, protected: bool) {
        self.register_in("tenants/acme", id, protected).await;
    }

    /// Register another one, of that scope.
    pub async fn register_in(&self, scope: &str, id: &ResourceId, protected: bool) {
        self.register_as(json!({
            "id": id, "scope": scope, "identity": { "uuid": U1 },
            "criticality": "reproducible", "rebuilt": self.rebuilt().await, "protected": protected,
        }))
        .await;
    }

    /// Register a credential. What is deleted from now on goes by a plan of credentials.
    pub async fn register_credential(&mut self, id: &ResourceId) {
        self.plan = Arc::new(Plan { criticality: Criticality::Credential, ..Plan::clone(&self.plan) });
        self.register_as(json!({
            "id": id, "scope": "tenants/acme", "identity": { "uuid": U1 }, "criticality": "credential",
        }))
        .await;
    }

    async fn register_as(&self, stated: Value) {
        let resource: Resource = serde_json::from_value(stated).unwrap();
        assert_eq!(self.ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
    }

    /// A hold of the lawyers' on it.
    pub async fn hold(&self, resource: &ResourceId) {
        let (resource, origin) = (resource.clone(), "legal".parse().unwrap());
        let hold = NewHold { resource, origin, reason: "evidence".into(), by: ops() };
        self.ledger.hold_resource(hold).await.unwrap().unwrap();
    }

    /// Somebody who has not asked for it lets one stage of it pass a belt.
    pub async fn let_pass(&self, deletion: DeletionId, stage: Stage, belt: Passable) {
        let (by, reason) = ("boss".parse().unwrap(), "it has to be tonight".into());
        let new = NewOneShot { deletion, stage, belt, by, reason, break_glass: false };
        self.ledger.give_one_shot(new).await.unwrap().unwrap();
    }

    /// Hand in a census of all machines of `tenants/acme`: these are listed, ascending, and so many are said to be there.
    pub async fn hand_in(&self, listed: &[ResourceId], total: u64) -> Result<Counted, NotDone> {
        let census = self.census(listed, total).await;
        self.ledger.take_census(census, &ops()).await.unwrap()
    }

    /// The same before it is handed in. That there are fewer, or more, is meant.
    pub async fn census(&self, listed: &[ResourceId], total: u64) -> Census {
        let scope: Scope = "tenants/acme".parse().unwrap();
        Census {
            kind: "vm".parse().unwrap(),
            scope: scope.clone(),
            credential: "census-ro".into(),
            new_credential: false,
            fewer: true,
            more: true,
            taken_at: self.ledger.facts().await.unwrap().now,
            total,
            listed: listed
                .iter()
                .map(|id| Listed { id: id.clone(), scope: scope.clone(), identity: None })
                .collect(),
            unregistered: Vec::new(),
            itself: false,
        }
    }

    /// The proof, of today, that something can be rebuilt.
    pub async fn rebuilt(&self) -> Value {
        let today = self.ledger.facts().await.unwrap().now.utc().date_naive();
        json!({ "on": today, "evidence": "a test" })
    }

    /// A record about `vm/web01`, due at once.
    pub async fn delete(&self) -> DeletionId {
        let now = self.ledger.facts().await.unwrap().now;
        self.delete_at(now).await
    }

    /// A record about `vm/web01`, due then.
    pub async fn delete_at(&self, moment: Timestamp) -> DeletionId {
        self.delete_named(web01(), moment).await
    }

    /// A record about `resource`, due then.
    pub async fn delete_named(&self, resource: ResourceId, moment: Timestamp) -> DeletionId {
        self.delete_by(resource, moment, None).await
    }

    /// The same, to be gone by that date.
    pub async fn delete_by(
        &self,
        resource: ResourceId,
        moment: Timestamp,
        gone_by: Option<chrono::NaiveDate>,
    ) -> DeletionId {
        self.create(vec![self.wanted(resource, moment, gone_by)]).await.remove(0)
    }

    /// Records about both, due at once: nobody finds the one without the other.
    pub async fn delete_both(&self, both: [ResourceId; 2]) -> [DeletionId; 2] {
        self.delete_all(both.into()).await.try_into().unwrap()
    }

    /// The same of any number.
    pub async fn delete_all(&self, all: Vec<ResourceId>) -> Vec<DeletionId> {
        let now = self.ledger.facts().await.unwrap().now;
        let wanted = all.into_iter().map(|resource| self.wanted(resource, now, None)).collect();
        self.create(wanted).await
    }

    fn wanted(
        &self,
        resource: ResourceId,
        moment: Timestamp,
        gone_by: Option<chrono::NaiveDate>,
    ) -> NewDeletion {
        // A calendar's day begins five minutes after midnight: until then what is due at once was so yesterday.
        let date = Timestamp(moment.0 - 5 * 60_000_000).utc().date_naive();
        let due = Due { date, zone: "UTC".parse().unwrap(), moment: Some(moment) };
        let (by, reason) = (ops(), "no longer needed".into());
        NewDeletion { resource, due, gone_by, by, reason, plan: self.plan.clone() }
    }

    async fn create(&self, wanted: Vec<NewDeletion>) -> Vec<DeletionId> {
        let created = self.ledger.create(wanted).await.unwrap();
        created.into_iter().map(Result::unwrap).collect()
    }

    /// Tell the coordinator, as its API does.
    pub async fn tell(&self, deletion: DeletionId, event: Event) -> Result<Decided, NotDone> {
        self.engine.run(vec![Intent { deletion, event }]).await.unwrap().remove(0)
    }

    pub async fn view(&self, deletion: DeletionId) -> DeletionView {
        self.ledger.deletion(deletion).await.unwrap().unwrap()
    }

    pub async fn job(&self, deletion: DeletionId, kind: JobKind) -> Job {
        self.view(deletion).await.deletion.jobs.iter().find(|job| job.kind == kind).unwrap().clone()
    }
}
