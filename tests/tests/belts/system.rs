//! A whole Sexton in this process: job table on SQLite, coordinator, and three consumers with their sandboxes.
//! Everything is as `sexton serve` has it, but for gates at the drivers, and a clock of the consumers that a
//! test can put forward.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_backup::sandbox::SandboxBackup;
use sexton_bus::local::Local;
use sexton_bus::{Bus, Outgoing, Queue, Subscription, Target, Topology};
use sexton_consumer::{Clock, Consumer, Driver, Options, SystemClock};
use sexton_coordinator::{Alarmer, Canaries, Engine, Plans, Witness, alarms};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Decided, DeletionView, Intent, Ledger, Limits, NewDeletion, NotDone};
use sexton_model::audit::AuditEvent;
use sexton_model::belts::Policy;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus};
use sexton_model::job::{Job, JobKind, JobState, Stage};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, Instance, ResourceId, Timestamp};
use sexton_monitoring::sandbox::SandboxMonitoring;
use sexton_protocol::{BeaconSigner, Holder, Keyring, Pack, Packed, Rejected, Seal};
use sexton_testkit::bench::identity;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::gate::Gate;

/// Longest wait for anything: a busy machine is slow, a test that hangs must end.
const PATIENCE: Duration = Duration::from_secs(60);
/// A rehearsal's day, in milliseconds.
const DAY_MS: u64 = 200;

/// Announce and soft are due at once, the rest a day after each other.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }, { do = "backup.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [{ do = "monitoring.remove_target" }, { do = "backup.remove_schedule" }]
[stages.purge]
offset_days = 2
steps = [{ do = "backup.delete_archives" }, { do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

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

pub fn web01() -> ResourceId {
    "vm/web01".parse().unwrap()
}

pub fn ops() -> Actor {
    "ops".parse().unwrap()
}

/// `what` comes true before patience ends.
pub async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The consumers' clock.
#[derive(Default)]
pub struct Hands {
    machine: SystemClock,
    ahead_ms: AtomicU64,
}

impl Hands {
    /// Time passes at once, as for a machine that sleeps.
    pub fn advance(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for Hands {
    fn now(&self) -> Timestamp {
        self.machine.now().plus_ms(self.ahead_ms.load(Ordering::SeqCst))
    }
    fn steady_ms(&self) -> u64 {
        self.machine.steady_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }
    async fn sleep(&self, ms: u64) {
        self.machine.sleep(ms).await;
    }
    fn random(&self) -> u64 {
        self.machine.random()
    }
}

fn rehearsal() -> sexton_ledger::Options {
    let day = Day::Rehearsal { length_ms: DAY_MS };
    sexton_ledger::Options { day, limits: Limits::default(), policy: Policy::default() }
}

fn plans(plan: &str) -> Plans {
    let catalogue = [
        ("monitoring.toml", sexton_monitoring::ACTIONS),
        ("backup.toml", sexton_backup::ACTIONS),
        ("hypervisor.toml", sexton_hypervisor::ACTIONS),
    ];
    Plans::of(&catalogue, &[("plan.toml", plan)], true).unwrap()
}

/// The plan with a soft stage of short deadlines.
fn quick_soft() -> String {
    let short = |action: &str| format!("{{ do = \"{action}\", deadline_ms = 2000, longest_call_ms = 200 }}");
    ["monitoring.silence", "backup.final"].into_iter().fold(PLAN.to_owned(), |plan, action| {
        plan.replacen(&format!("{{ do = \"{action}\" }}"), &short(action), 1)
    })
}

type Task = (CancellationToken, JoinHandle<()>);

pub struct System {
    /// `None` once it was left behind.
    folder: Option<tempfile::TempDir>,
    pub plan: Arc<Plan>,
    options: sexton_ledger::Options,
    telling: alarms::Options,
    pub ledger: Arc<dyn Ledger>,
    pub engine: Arc<Engine>,
    pub bus: Local,
    pub keyring: Arc<Keyring>,
    pub signer: Arc<BeaconSigner>,
    pub monitoring: Arc<Gate>,
    pub backup: Arc<Gate>,
    pub hypervisor: Arc<Gate>,
    pub clock: Arc<Hands>,
    coordinator: Option<Task>,
    consumers: Vec<Task>,
    rejected: tokio::sync::Mutex<Box<dyn Subscription>>,
}

impl Drop for System {
    fn drop(&mut self) {
        self.monitoring.remove();
        self.backup.remove();
        self.hypervisor.remove();
    }
}

impl System {
    /// Everything runs, and `vm/web01` is registered.
    pub async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// With the whole plan being this one.
    pub async fn start_on(plan: &str) -> Self {
        let mut system = Self::stopped(plan, rehearsal()).await;
        system.start_everything().await;
        system
    }

    /// As it is delivered, with `instead` in the plan for `part` of it.
    pub async fn start_with(part: &str, instead: &str) -> Self {
        let mut system = Self::stopped(&PLAN.replacen(part, instead, 1), rehearsal()).await;
        system.start_everything().await;
        system
    }

    /// The same with several parts of the plan, and with other limits.
    pub async fn start_within(limits: Limits, changes: &[(&str, &str)]) -> Self {
        let options = sexton_ledger::Options { limits, ..rehearsal() };
        let plan =
            changes.iter().fold(PLAN.to_owned(), |plan, (part, instead)| plan.replacen(part, instead, 1));
        let mut system = Self::stopped(&plan, options).await;
        system.start_everything().await;
        system
    }

    /// Everything runs, on a plan that was copied before plans had their bounds: a step has these parameters.
    pub async fn start_on_older(step: &str, params: serde_json::Value) -> Self {
        let mut system = Self::stopped(PLAN, rehearsal()).await;
        let mut plan = serde_json::to_value(&*system.plan).unwrap();
        let steps = plan.pointer_mut("/stages/1/steps").and_then(|steps| steps.as_array_mut()).unwrap();
        let found = steps.iter_mut().find(|found| found["name"] == step).unwrap();
        found["params"] = params;
        system.plan = Arc::new(serde_json::from_value(plan).unwrap());
        system.start_everything().await;
        system
    }

    /// `vm/web01` is registered, and nothing runs.
    pub async fn not_started() -> Self {
        Self::stopped(PLAN, rehearsal()).await
    }

    /// Nothing runs, and a machine is there for canaries, which have to be answered within so many milliseconds.
    pub async fn with_canaries(within_ms: u64) -> Self {
        Self::with_canaries_by(within_ms, Policy::default()).await
    }

    /// The same, by this policy.
    pub async fn with_canaries_by(within_ms: u64, policy: Policy) -> Self {
        Self::with_canaries_told(within_ms, policy, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn with_canaries_told(within_ms: u64, policy: Policy, telling: alarms::Options) -> Self {
        let canary = "vm/canary01".parse().unwrap();
        let canaries = Canaries::new(Arc::new(plans(PLAN)), vec![canary], within_ms);
        let options = sexton_ledger::Options { policy, ..rehearsal() };
        let system = Self::stopped_with(PLAN, options, (telling, Some(canaries))).await;
        let canary: ResourceId = "vm/canary01".parse().unwrap();
        let (root, u1) = (system.folder.as_ref().unwrap().path(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), &canary, &u1, "192.0.2.11:9100").unwrap();
        sexton_backup::sandbox::create(root, &backup(), &canary, &u1, &["a"]).unwrap();
        system.register_named(&canary, false).await;
        system
    }

    /// Everything runs, and drills are held with `vm/web01`.
    pub async fn start_drilling() -> Self {
        let mut system = Self::with_drills(vec![web01()]).await;
        system.start_everything().await;
        system
    }

    /// Nothing runs, and drills are held with these. With a soft stage of short deadlines: a restore waits for them.
    pub async fn with_drills(drill: Vec<ResourceId>) -> Self {
        Self::with_drills_told(drill, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn with_drills_told(drill: Vec<ResourceId>, telling: alarms::Options) -> Self {
        let plan = quick_soft();
        let canaries = Canaries::new(Arc::new(plans(&plan)), Vec::new(), 1_000).drilling(drill);
        Self::stopped_with(&plan, rehearsal(), (telling, Some(canaries))).await
    }

    /// In calendar days, of which none has to pass: every stage is due at once. Only this policy may say otherwise. With a
    /// soft stage of short deadlines: a restore waits for them.
    pub async fn start_in_calendar_days(policy: Policy) -> Self {
        Self::start_telling(policy, alarms::Options::default()).await
    }

    /// The same, and alarms are told so.
    pub async fn start_telling(policy: Policy, telling: alarms::Options) -> Self {
        let plan = quick_soft();
        let plan: Vec<_> = plan
            .lines()
            .map(|line| if line.starts_with("offset_days") { "offset_days = 0" } else { line })
            .collect();
        // What is held is looked at again at once, and not within a minute.
        let limits = Limits { look_again_ms: 100, ..Limits::default() };
        let options = sexton_ledger::Options { day: Day::Calendar, limits, policy };
        let mut system = Self::stopped_with(&plan.join("\n"), options, (telling, None)).await;
        for ceiling in Ceiling::ALL.into_iter().skip(1) {
            let (by, reason) = (ops(), "this is about something else".to_owned());
            let new = NewCeiling { scope: None, to: Some(ceiling), by, reason };
            system.ledger.set_ceiling(new).await.unwrap().unwrap();
        }
        system.start_everything().await;
        system
    }

    async fn stopped(plan: &str, options: sexton_ledger::Options) -> Self {
        Self::stopped_with(plan, options, (alarms::Options::default(), None)).await
    }

    async fn stopped_with(
        plan: &str,
        options: sexton_ledger::Options,
        asked: (alarms::Options, Option<Canaries>),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (root, about, u1) = (folder.path(), web01(), identity(U1));
        sexton_monitoring::sandbox::create(root, &monitoring(), &about, &u1, "192.0.2.10:9100").unwrap();
        sexton_backup::sandbox::create(root, &backup(), &about, &u1, &["a"]).unwrap();
        let uuid = U1.parse().unwrap();
        sexton_hypervisor::sandbox::create_vm(root, &hypervisor(), "web01", uuid, false).unwrap();
        let plan = plans(plan).of_kind(&"vm".parse().unwrap()).unwrap().clone();
        let system = Self::on(folder, plan, options, asked).await;
        system.register(false).await;
        system
    }

    /// A new process on what lies in `folder`. Its broker's queues are empty and its keys are new.
    async fn on(
        folder: tempfile::TempDir,
        plan: Arc<Plan>,
        options: sexton_ledger::Options,
        (telling, canaries): (alarms::Options, Option<Canaries>),
    ) -> Self {
        let mut rng = rand::rng();
        let holders = instances().map(Holder::Instance).into_iter().chain([Holder::Scheduler]);
        let keyring = Arc::new(Keyring::generate(holders, &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let bus = Local::with_topology(Topology::for_instances(&instances()));
        let ledger = SqliteLedger::open(folder.path().join("sexton.db"), options.clone()).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let witness = folder.path().join("witness");
        let witness = Arc::new(Witness::open(&witness, ledger.as_ref(), false).await.unwrap());
        let engine = Engine::new(sexton_coordinator::Options {
            ledger: ledger.clone(),
            bus: Arc::new(bus.clone()),
            keyring: keyring.clone(),
            signer: signer.clone(),
            unpacked: Vec::new(),
            witness,
        });
        let engine = engine.alarming(Alarmer::new(telling.clone()));
        let engine = Arc::new(engine.with_canaries(canaries));
        let rejected = bus.consume(&Queue::Rejected, 100).await.unwrap().into();
        let root = folder.path().to_owned();
        let monitoring = Gate::new(Arc::new(SandboxMonitoring::new(&sexton_monitoring::sandbox::Config {
            root: root.clone(),
            instance: monitoring(),
        })));
        let backup = Gate::new(Arc::new(SandboxBackup::new(&sexton_backup::sandbox::Config {
            root: root.clone(),
            instance: backup(),
        })));
        let host = sexton_hypervisor::sandbox::Config { root, instance: hypervisor() };
        let host = sexton_hypervisor::driver(sexton_hypervisor::DriverConfig::Sandbox(host)).unwrap();
        let hypervisor = Gate::new(host);
        let (clock, coordinator, consumers) = (Arc::default(), None, Vec::new());
        Self {
            folder: Some(folder),
            plan,
            options,
            telling,
            ledger,
            engine,
            bus,
            keyring,
            signer,
            monitoring,
            backup,
            hypervisor,
            clock,
            coordinator,
            consumers,
            rejected,
        }
    }

    async fn start_everything(&mut self) {
        self.start_coordinator();
        for instance in instances() {
            self.start_consumer(&instance).await;
        }
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
        for (stop, running) in std::mem::take(&mut self.consumers) {
            stop.cancel();
            running.await.unwrap();
        }
        let options = sexton_ledger::Options { policy, ..self.options.clone() };
        let telling = self.telling.clone();
        let (folder, plan) = self.left_behind();
        let mut next = Self::on(folder, plan, options, (telling, None)).await;
        next.start_everything().await;
        next
    }

    /// What stays when the process is gone: everything else is dropped here.
    fn left_behind(mut self) -> (tempfile::TempDir, Arc<Plan>) {
        (self.folder.take().unwrap(), self.plan.clone())
    }

    /// Register `vm/web01`, or register it anew.
    pub async fn register(&self, protected: bool) {
        self.register_named(&web01(), protected).await;
    }

    /// Register another one.
    pub async fn register_named(&self, id: &ResourceId, protected: bool) {
        let resource: Resource = serde_json::from_value(json!({
            "id": id, "scope": "tenants/acme", "identity": { "uuid": U1 },
            "criticality": "reproducible", "rebuilt": self.rebuilt().await, "protected": protected,
        }))
        .unwrap();
        assert_eq!(self.ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
    }

    /// The proof, of today, that something can be rebuilt.
    pub async fn rebuilt(&self) -> Value {
        let today = self.ledger.facts().await.unwrap().now.utc().date_naive();
        json!({ "on": today, "evidence": "a test" })
    }

    pub fn start_coordinator(&mut self) {
        let (engine, bus, stop) = (self.engine.clone(), Arc::new(self.bus.clone()), CancellationToken::new());
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

    /// Start a consumer that has seen nothing yet, and wait until its pulse has arrived.
    pub async fn start_consumer(&mut self, instance: &Instance) {
        let (driver, actions): (Arc<dyn Driver>, _) = if *instance == monitoring() {
            (self.monitoring.clone(), sexton_monitoring::actions())
        } else if *instance == backup() {
            (self.backup.clone(), sexton_backup::actions())
        } else {
            (self.hypervisor.clone(), sexton_hypervisor::actions())
        };
        let consumer = Consumer {
            instance: instance.clone(),
            driver,
            actions,
            bus: self.bus.as_user(&instance.to_string()),
            keyring: Arc::new(self.keyring.only(&Holder::Instance(instance.clone()))),
            verifier: self.signer.verifier(),
            clock: self.clock.clone(),
            metrics: Arc::default(),
            version: "test".into(),
            options: Options::default(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { consumer.run(stopped).await.unwrap() });
        self.consumers.push((stop, running));
        until("a pulse arrives", async || self.pulsed(instance).await.is_some()).await;
    }

    /// Orders that wait in the queue of `instance`.
    pub async fn orders_waiting(&self, instance: &Instance) -> u64 {
        self.bus.depth(&Queue::Orders(instance.clone())).await.unwrap()
    }

    /// When the instance last pulsed.
    pub async fn pulsed(&self, instance: &Instance) -> Option<Timestamp> {
        self.ledger.health().await.unwrap().instances.get(instance).map(|(pulsed, _)| *pulsed)
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
        let due = Due { date: moment.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(moment) };
        let wanted = NewDeletion {
            resource,
            due,
            gone_by,
            by: ops(),
            reason: "no longer needed".into(),
            plan: self.plan.clone(),
        };
        self.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
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

    /// Until the job of `stage` is in a state that `wanted` likes.
    pub async fn until_job(
        &self,
        deletion: DeletionId,
        stage: Stage,
        wanted: impl Fn(&JobState) -> bool,
    ) -> Job {
        let kind = JobKind::Stage(stage);
        until(&format!("{stage} gets there"), async || wanted(&self.job(deletion, kind).await.state)).await;
        self.job(deletion, kind).await
    }

    /// Until the record is over, as `status`.
    pub async fn until_over(&self, deletion: DeletionId, status: RecordStatus) {
        until("the record is over", async || self.view(deletion).await.deletion.status == status).await;
    }

    /// Until so many orders were answered with a reason that contains `text`; what was said then.
    pub async fn until_answered(&self, deletion: DeletionId, text: &str) -> AuditEvent {
        let said = async || {
            let trail = self.view(deletion).await.audit;
            trail.into_iter().map(|row| row.event).find(|event| event.detail.contains(text))
        };
        until(&format!("an answer with {text:?}"), async || said().await.is_some()).await;
        said().await.unwrap()
    }

    /// Until consumers have had two beacons: what was to be stopped by the first was stopped.
    pub async fn two_beacons(&self) {
        let mut beacons = self.bus.consume(&Queue::Beacon, 10).await.unwrap();
        for _ in 0..2 {
            in_time("a beacon", beacons.next()).await.unwrap();
        }
    }

    /// Publish as `user`.
    pub async fn send(&self, user: &str, to: Queue, packed: Packed, seal: Seal) {
        publish(&*self.bus.as_user(user), to, packed, seal).await;
    }

    /// Until a message is rejected for a reason that contains `text`.
    pub async fn until_rejected(&self, text: &str) {
        let mut rejected = self.rejected.lock().await;
        loop {
            let delivery = in_time(&format!("a rejection with {text:?}"), rejected.next()).await.unwrap();
            rejected.ack(vec![delivery.tag]).await;
            let shown = Pack::<Rejected>::decode(&delivery.body).unwrap();
            if shown.events[0].data.reason.contains(text) {
                return;
            }
        }
    }

    /// What the subsystems show of `vm/web01`.
    pub fn world(&self) -> Value {
        let root = self.folder.as_ref().unwrap().path();
        json!([
            sexton_monitoring::sandbox::describe(root, &monitoring(), &web01()).unwrap(),
            sexton_backup::sandbox::describe(root, &backup(), &web01()).unwrap(),
            sexton_hypervisor::sandbox::describe_vm(root, &hypervisor(), "web01").unwrap(),
        ])
    }

    /// The job table's file.
    pub fn file(&self) -> std::path::PathBuf {
        self.folder.as_ref().unwrap().path().join("sexton.db")
    }

    /// What somebody else does to that file.
    pub fn execute(&self, sql: &str) {
        let script = "import sqlite3, sys\n\
                      job_table = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)\n\
                      job_table.execute(sys.argv[2])\n";
        let mut python = std::process::Command::new("python3");
        let done = python.args(["-c", script]).arg(self.file()).arg(sql).status().unwrap();
        assert!(done.success(), "{sql}");
    }

    /// What was begun of these (`canaries`, `drills`) was begun so much earlier, in milliseconds.
    pub fn begun_earlier(&self, table: &str, ms: u64) {
        let earlier = format!("json_extract(body, '$.begun_at') - {}", ms * 1000);
        self.execute(&format!("UPDATE {table} SET body = json_set(body, '$.begun_at', {earlier})"));
    }

    /// The folder of the hypervisor's sandbox.
    pub fn host(&self) -> std::path::PathBuf {
        self.folder.as_ref().unwrap().path().join("hypervisor/main")
    }

    /// Another machine of the same name, as monitoring sees it.
    pub fn recreate(&self) {
        let root = self.folder.as_ref().unwrap().path();
        std::fs::remove_dir_all(root.join("monitoring")).unwrap();
        sexton_monitoring::sandbox::create(root, &monitoring(), &web01(), &identity("u2"), "192.0.2.10:9100")
            .unwrap();
    }
}

/// Look until it is so, for a bounded time. What is waited for is seen in very different places (job table, queues,
/// the subsystems' own files, the clock), of which none tells anybody; and a system that told its tests would not be
/// the one that runs. Every wait that no gate and no message ends is here.
pub async fn until(what: &str, so: impl AsyncFn() -> bool) {
    in_time(what, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Publish, as the user whose bus it is.
pub async fn publish(bus: &dyn Bus, to: Queue, packed: Packed, seal: Seal) {
    let message = Outgoing {
        target: Target::Queue(to),
        body: packed.body,
        key_id: seal.key_id,
        mac: seal.mac,
        message_id: packed.message_id,
        ttl: None,
    };
    bus.publish(vec![message]).await.remove(0).unwrap();
}
