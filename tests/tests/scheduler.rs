//! The scheduler's one duty: what is due in a job table reaches the coordinators, in a form that they take. In a running
//! system nobody would miss it, since coordinators look, too (`Engine::refill`).
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sexton_bus::local::Local;
use sexton_bus::{Bus, Outgoing, PublishError, Queue};
use sexton_coordinator::{Plans, intake};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{DueReader, Ledger, LedgerError, Limits, NewDeletion, Options};
use sexton_model::belts::Policy;
use sexton_model::deletion::Due;
use sexton_model::job::{JobKind, Stage};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{Actor, JobId, Timestamp};
use sexton_protocol::message::STAGE_DUE_MAX;
use sexton_protocol::{Holder, Keyring};
use sexton_scheduler::Scheduler;
use sexton_testkit::bus::{Double, Instead};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Longer than any of this takes: a day of the policy.
const DAY_MS: u64 = 3_600_000;
/// What an instance has due: together more than one message may name.
const PER_INSTANCE: usize = 400;
const INSTANCES: [&str; 3] = ["north", "east", "south"];
/// Announce is due at the date.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "irreplaceable"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }]
[stages.soft]
offset_days = 1
steps = [{ do = "monitoring.silence" }]
[stages.hard]
offset_days = 2
steps = [{ do = "monitoring.remove_target" }]
[stages.purge]
offset_days = 3
steps = [{ do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 4
steps = []
"#;

/// The scheduler's bus, on which a test sees what it publishes.
struct Watched {
    inner: Arc<dyn Bus>,
    published: Mutex<Vec<Outgoing>>,
}

#[async_trait]
impl Instead for Watched {
    fn behind(&self) -> &dyn Bus {
        &*self.inner
    }

    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        self.published.lock().unwrap().extend(messages.iter().cloned());
        self.inner.publish(messages).await
    }
}

/// A job table without a coordinator, and a scheduler that looks when it is told to.
struct Looking {
    ledger: Arc<SqliteLedger>,
    plan: Arc<Plan>,
    /// The coordinators'.
    bus: Local,
    keyring: Keyring,
    watched: Arc<Double<Watched>>,
    scheduler: Scheduler,
    _folder: tempfile::TempDir,
}

impl Looking {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let day = Day::Rehearsal { length_ms: DAY_MS };
        let options = Options { day, limits: Limits::default(), policy: Policy::default() };
        let ledger = Arc::new(SqliteLedger::open(folder.path().join("sexton.db"), options).await.unwrap());
        let catalogue = [("monitoring.toml", sexton_monitoring::ACTIONS)];
        let plans = Plans::of(&catalogue, &[("vm.toml", PLAN)], true).unwrap();
        let plan = plans.of_kind(&"vm".parse().unwrap()).unwrap().clone();
        let holders = [Holder::Instance("monitoring.north".parse().unwrap()), Holder::Scheduler];
        let keyring = Keyring::generate(holders, &mut rand::rng());
        let bus = Local::new();
        let watched = Watched { inner: bus.as_user("scheduler"), published: Mutex::default() };
        let watched = Arc::new(Double(watched));
        let scheduler = Scheduler {
            due: ledger.clone(),
            bus: watched.clone(),
            keyring: Arc::new(keyring.only(&Holder::Scheduler)),
            every: Duration::from_secs(1),
            looks: Arc::default(),
        };
        Self { ledger, plan, bus, keyring, watched, scheduler, _folder: folder }
    }

    /// Records of so many machines at an instance, due then. Returns their first jobs.
    async fn announced(&self, instance: &str, count: usize, moment: Timestamp) -> Vec<JobId> {
        let by: Actor = "ops".parse().unwrap();
        let resources: Vec<Resource> = (0..count)
            .map(|n| {
                let id = format!("vm/{instance}-{n}");
                let resource = serde_json::json!({
                    "id": id, "scope": "lab", "identity": { "uuid": id }, "criticality": "irreplaceable",
                    "instances": { "monitoring": instance },
                });
                serde_json::from_value(resource).unwrap()
            })
            .collect();
        let due = Due { date: moment.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(moment) };
        let records = resources.iter().map(|resource| NewDeletion {
            resource: resource.id.clone(),
            due,
            gone_by: None,
            by: by.clone(),
            reason: "no longer needed".into(),
            plan: self.plan.clone(),
        });
        let records: Vec<NewDeletion> = records.collect();
        for registered in self.ledger.register(resources, &by, true).await.unwrap() {
            registered.unwrap();
        }
        let created = self.ledger.create(records).await.unwrap();
        let first = JobKind::Stage(Stage::Announce).slot();
        created.into_iter().map(|id| JobId::of(id.unwrap(), first)).collect()
    }

    async fn now(&self) -> Timestamp {
        self.ledger.facts().await.unwrap().now
    }

    /// How much the coordinators could take.
    async fn ready(&self) -> u64 {
        self.bus.depth(&Queue::StageDue).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_reaches_the_coordinators_in_messages_that_they_take() {
    let looking = Looking::new().await;
    let now = looking.now().await;
    let mut due = Vec::new();
    for instance in INSTANCES {
        due.extend(looking.announced(instance, PER_INSTANCE, now).await);
    }
    looking.announced("west", 3, now.plus_ms(DAY_MS)).await;
    assert!(due.len() > STAGE_DUE_MAX, "this test is about nothing");

    assert_eq!(looking.scheduler.tick().await.unwrap(), due.len());
    let mut coordinator = looking.bus.consume(&Queue::StageDue, 10).await.unwrap();
    let deliveries = coordinator.next_batch(10, Duration::from_secs(1)).await;
    let taken: Vec<Vec<JobId>> =
        deliveries.iter().map(|delivery| intake::stage_due(&looking.keyring, delivery).unwrap()).collect();
    let sizes: Vec<usize> = taken.iter().map(Vec::len).collect();
    assert_eq!(sizes, [STAGE_DUE_MAX, due.len() - STAGE_DUE_MAX]);
    let mut taken = taken.concat();
    assert_eq!(taken, looking.ledger.due(4096).await.unwrap(), "in the order in which they are to begin");
    taken.sort_unstable();
    due.sort_unstable();
    assert_eq!(taken, due);

    // What nobody has taken is said again by the next looks, and must not pile up.
    let published = looking.watched.0.published.lock().unwrap();
    let ttls: Vec<Option<Duration>> = published.iter().map(|message| message.ttl).collect();
    assert_eq!(ttls, [Some(Duration::from_secs(5)); 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_due_wakes_nobody() {
    let looking = Looking::new().await;
    let now = looking.now().await;
    looking.announced("north", 3, now.plus_ms(DAY_MS)).await;
    assert_eq!(looking.scheduler.tick().await.unwrap(), 0);
    assert_eq!(looking.ready().await, 0);
}

/// A database that takes a question and never answers.
struct Silent(Arc<Notify>);

#[async_trait]
impl DueReader for Silent {
    async fn due(&self, _limit: u32) -> Result<Vec<JobId>, LedgerError> {
        self.0.notify_one();
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_database_that_does_not_answer_keeps_nobody_from_ending_who_is_told_to() {
    let (looking, asked) = (Looking::new().await, Arc::new(Notify::new()));
    let scheduler = Scheduler { due: Arc::new(Silent(asked.clone())), ..looking.scheduler };
    let stop = CancellationToken::new();
    let told = stop.clone();
    let running = tokio::spawn(async move { scheduler.run(told).await });
    asked.notified().await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(30), running).await.unwrap().unwrap();
}
