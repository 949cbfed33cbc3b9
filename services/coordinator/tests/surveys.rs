//! Surveys are sent while what is known of the job table is kept outside of it, and not under review: as all orders are.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::json;
use sexton_bus::{Bus, BusError, Outgoing, PublishError, Queue, Subscription, Target};
use sexton_coordinator::{Engine, Hindrance, Now, Options, Plans, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Begun, Ledger, Limits};
use sexton_model::belts::Policy;
use sexton_model::checkpoint::Checkpoint;
use sexton_model::deletion::{Deletion, Due, Record, Zone};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::survey::{About, NewSurvey, Survey, looks};
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, Fence, ResourceId};
use sexton_protocol::{BeaconSigner, Holder, Keyring, Order, Pack};
use sexton_testkit::job_table;

/// Longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

const INSPECTS: &str = include_str!("looks/dns.toml");
const PLAN: &str = include_str!("looks/vm.toml");

/// Keeps which orders are published, each with what stands outside of the job table at that moment.
struct Published {
    witness: PathBuf,
    orders: Mutex<Vec<(Fence, Checkpoint)>>,
}

#[async_trait]
impl Bus for Published {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        for message in &messages {
            let Target::Queue(Queue::Orders(_)) = &message.target else { continue };
            for order in Pack::<Order>::decode(&message.body).unwrap().events {
                let known = serde_json::from_slice(&std::fs::read(&self.witness).unwrap()).unwrap();
                self.orders.lock().unwrap().push((order.data.fence, known));
            }
        }
        messages.iter().map(|_| Ok(())).collect()
    }

    async fn consume(&self, queue: &Queue, _: u16) -> Result<Box<dyn Subscription>, BusError> {
        Err(BusError::NoSuchQueue { queue: queue.to_string() })
    }

    async fn depth(&self, _: &Queue) -> Result<u64, BusError> {
        Ok(0)
    }

    async fn healthy(&self) -> Result<(), BusError> {
        Ok(())
    }
}

/// A coordinator that is called by hand.
struct Asking {
    engine: Engine,
    plan: Arc<Plan>,
    /// So many seconds have passed for its witness.
    passed_s: Arc<AtomicU64>,
    published: Arc<Published>,
    folder: tempfile::TempDir,
}

impl Asking {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = sexton_ledger::Options {
            day: Day::Rehearsal { length_ms: 1000 },
            limits: Limits::default(),
            policy: Policy::default(),
        };
        let ledger = SqliteLedger::open(folder.path().join("sexton.db"), options).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let (began, passed_s) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let passed = passed_s.clone();
        let now: Now = Arc::new(move || began + Duration::from_secs(passed.load(Ordering::SeqCst)));
        let file = folder.path().join("witness");
        let witness = Arc::new(Witness::open_at(&file, ledger.as_ref(), false, now).await.unwrap());
        // Written after each batch, before anybody is told.
        let witnessed = folder.path().join("witness.recent");
        let published = Arc::new(Published { witness: witnessed, orders: Mutex::default() });
        let mut rng = rand::rng();
        let engine = Engine::new(Options {
            ledger,
            bus: published.clone(),
            keyring: Arc::new(Keyring::generate([Holder::Instance("dns.main".parse().unwrap())], &mut rng)),
            signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
            unpacked: Vec::new(),
            witness,
        });
        let plans = Plans::of(&[("dns.toml", INSPECTS)], &[("vm.toml", PLAN)], true).unwrap();
        let plan = plans.of_kind(&"vm".parse().unwrap()).unwrap().clone();
        Self { engine, plan, passed_s, published, folder }
    }

    /// Begin a survey of a new resource.
    async fn begin(&self, name: &str) -> Survey {
        let (ledger, by): (_, Actor) = (&self.engine.ledger, "ops".parse().unwrap());
        let id: ResourceId = format!("vm/{name}").parse().unwrap();
        let facts = ledger.facts().await.unwrap();
        let resource: Resource = serde_json::from_value(json!({
            "id": id, "scope": "lab", "identity": { "uuid": name }, "criticality": "reproducible",
            "rebuilt": { "on": facts.now.utc().date_naive(), "evidence": "a test" },
        }))
        .unwrap();
        assert_eq!(ledger.register(vec![resource], &by, true).await.unwrap(), [Ok(())]);
        let resource = ledger.resource(&id).await.unwrap().unwrap().resource;
        let zone = Zone("UTC".parse().unwrap());
        let due = Due { date: facts.now.utc().date_naive(), zone, moment: Some(facts.now) };
        let record = Record {
            resource: resource.clone(),
            due,
            gone_by: None,
            requested_by: by.clone(),
            reason: "a look".into(),
            created_at: facts.now,
        };
        let d = Deletion::draw_up(DeletionId(0), record, self.plan.clone(), facts.day).unwrap();
        let about = About { resource, due, plan: Plan::clone(&self.plan) };
        let new = NewSurvey { by, about, within_ms: LONG_MS, looks: looks(&d, &[]).unwrap() };
        match self.engine.begin_survey(new).await.unwrap() {
            Ok(Begun::Now(survey)) => *survey,
            other => panic!("{other:?}"),
        }
    }

    /// The tick at which whatever is open is sent again: as if it had been sent long ago.
    async fn tend_later(&self) {
        job_table::alter(&self.folder.path().join("sexton.db"), "UPDATE surveys SET sent_at = 0");
        self.engine.tend_surveys().await.unwrap();
    }

    /// Orders that were published by now. Each was known outside of the job table before it was.
    fn ordered(&self) -> Vec<Fence> {
        let orders = self.published.orders.lock().unwrap();
        for (fence, known) in orders.iter() {
            assert!(fence.number <= known.mark.fence, "{fence} was published, and forgotten: {known:?}");
        }
        orders.iter().map(|(fence, _)| *fence).collect()
    }
}

#[tokio::test]
async fn a_survey_is_sent_once_its_numbers_are_known_outside_of_the_job_table() {
    let asking = Asking::new().await;
    asking.passed_s.store(61, Ordering::SeqCst);
    let survey = asking.begin("web01").await;
    assert_eq!(asking.engine.hindrances(), [Hindrance::Witness { stale: Duration::from_secs(61) }]);
    assert_eq!(asking.ordered(), [], "it is begun, and nobody is asked");
    asking.tend_later().await;
    assert_eq!(asking.ordered(), []);

    asking.engine.checkpoint().await.unwrap();
    asking.tend_later().await;
    let first = survey.looks[0].fence;
    assert_eq!(asking.ordered(), [first]);
    // With a witness it is sent at once.
    let next = asking.begin("web02").await.looks[0].fence;
    assert_eq!(asking.ordered(), [first, next]);
}

#[tokio::test]
async fn under_review_no_survey_is_sent_again() {
    let asking = Asking::new().await;
    let fence = asking.begin("web01").await.looks[0].fence;
    asking.tend_later().await;
    assert_eq!(asking.ordered(), [fence, fence]);

    let ledger = &asking.engine.ledger;
    let mut later = ledger.known();
    later.mark.number += 1;
    let review = ledger.confront(&later).await.unwrap().unwrap();
    asking.engine.checkpoint().await.unwrap();
    assert_eq!(asking.engine.hindrances(), [Hindrance::Review]);
    asking.tend_later().await;
    assert_eq!(asking.ordered().len(), 2, "nobody is asked for anything");

    let by = "ops".parse().unwrap();
    assert!(ledger.accept_review(review.epoch, &by, "compared").await.unwrap());
    asking.engine.checkpoint().await.unwrap();
    asking.tend_later().await;
    assert_eq!(asking.ordered().len(), 3, "it was open all the time");
}
