//! Two coordinators on one job table, and instances that list what is there.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use sexton_bus::local::Local;
use sexton_bus::{Bus as _, Outgoing, Queue, Target, Topology};
use sexton_coordinator::taken::{Wanted, take};
use sexton_coordinator::{Engine, Options, Plans, Witness};
use sexton_ledger::sqlite::{Moment, Pass, SqliteLedger, Surroundings};
use sexton_ledger::{Ledger, Limits, NotDone};
use sexton_model::belts::Policy;
use sexton_model::belts::census::assembled::Meant;
use sexton_model::belts::census::daily::Seen;
use sexton_model::belts::census::listing::{ACTION, Entry, Listing, NewListing, Page, PageAsked, Stands};
use sexton_model::belts::census::{Census, Taken};
use sexton_model::resource::{Identity, Resource};
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{Actor, Instance, ResourceId, Timestamp};
use sexton_protocol::{
    BeaconSigner, Event as Envelope, Holder, Keyring, Message as _, Order, OutcomeReport, Pack, Report,
};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LISTS: &str = "subsystem = \"hypervisor\"\nlists = [\"vm\"]\n[actions.inspect]\nnature = \"inspect\"\n\
     earliest = \"announce\"\ndeadline_ms = 60000\nlongest_call_ms = 1000\nabout = \"looks\"\n";

pub fn instance(name: &str) -> Instance {
    format!("hypervisor.{name}").parse().unwrap()
}

pub fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

pub fn identity(uuid: &str) -> Identity {
    BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]).try_into().unwrap()
}

/// What is there, by instance: name and identity of each.
pub type There = Arc<Mutex<BTreeMap<Instance, BTreeMap<ResourceId, Identity>>>>;

/// The machine's time, and so many milliseconds more.
pub struct Later {
    begun: Instant,
    ms: AtomicU64,
    /// So many of those who write next wait for the others.
    to_meet: AtomicUsize,
    met: Arc<Barrier>,
}

impl Later {
    fn new() -> Self {
        let met = Arc::new(Barrier::new(2));
        Self { begun: Instant::now(), ms: AtomicU64::new(0), to_meet: AtomicUsize::new(0), met }
    }

    /// The next two who write have both read all that they go by.
    pub fn two_meet(&self) {
        self.to_meet.store(2, Ordering::SeqCst);
    }

    pub fn by(&self, ms: u64) {
        self.ms.store(ms, Ordering::SeqCst);
    }
}

impl Surroundings for Later {
    fn now(&self) -> Timestamp {
        Timestamp::from(chrono::Utc::now()).plus_ms(self.ms.load(Ordering::SeqCst))
    }

    fn steady_ms(&self) -> u64 {
        let passed = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        passed.saturating_add(self.ms.load(Ordering::SeqCst))
    }

    fn pass(&self, moment: Moment) -> Pass {
        let one_less = |left: usize| left.checked_sub(1);
        let meets = moment == Moment::BeforeWrite
            && self.to_meet.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok();
        let met = self.met.clone();
        Box::pin(async move {
            if meets {
                met.wait().await;
            }
        })
    }
}

/// Two coordinators on one job table, and whoever answers their orders.
pub struct Site {
    pub taking: Arc<Engine>,
    pub hearing: Arc<Engine>,
    pub plans: Arc<Plans>,
    bus: Local,
    keyring: Arc<Keyring>,
    pub there: There,
    pub later: Arc<Later>,
    tasks: Vec<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Site {
    /// All that are registered are there: `many` at a, two at b. Nobody answers yet.
    pub async fn new(many: usize) -> Self {
        Self::with(many, Policy::default()).await
    }

    /// The same, with this policy.
    pub async fn with(many: usize, policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let day = Day::Rehearsal { length_ms: 60_000 };
        let options = sexton_ledger::Options { day, limits: Limits::default(), policy };
        let later = Arc::new(Later::new());
        let path = folder.path().join("sexton.db");
        let ledger = SqliteLedger::open_in(path, options, later.clone()).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let mut rng = rand::rng();
        let both = [instance("a"), instance("b")];
        let keyring = Arc::new(Keyring::generate(both.clone().map(Holder::Instance), &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let bus = Local::with_topology(Topology::for_instances(&both));
        let plans = Plans::of(
            &[("dns.toml", include_str!("../looks/dns.toml")), ("hypervisor.toml", LISTS)],
            &[("vm.toml", include_str!("../looks/vm.toml"))],
            true,
        );
        let plans = Arc::new(plans.unwrap());
        let mut engines = Vec::new();
        for name in ["first", "second"] {
            let witness = Witness::open(&folder.path().join(name), &*ledger, true).await.unwrap();
            let engine = Engine::new(Options {
                ledger: ledger.clone(),
                bus: Arc::new(bus.clone()),
                keyring: keyring.clone(),
                signer: signer.clone(),
                unpacked: Vec::new(),
                witness: Arc::new(witness),
            });
            engines.push(Arc::new(engine.with_censuses(Some(plans.clone()))));
        }
        let mut there: BTreeMap<Instance, BTreeMap<ResourceId, Identity>> = BTreeMap::new();
        let mut resources: Vec<Resource> = Vec::new();
        let names = (0..many).map(|number| (format!("a{number:04}"), "a"));
        for (name, at) in names.chain(["b1", "b2"].map(|name| (name.to_owned(), "b"))) {
            let resource = json!({
                "id": vm(&name), "scope": "tenants/acme", "identity": { "uuid": name },
                "criticality": "reproducible", "instances": { "hypervisor": at },
            });
            resources.push(serde_json::from_value(resource).unwrap());
            there.entry(instance(at)).or_default().insert(vm(&name), identity(&name));
        }
        let by: Actor = "ops".parse().unwrap();
        let registered = ledger.register(resources, &by, true).await.unwrap();
        assert!(registered.iter().all(Result::is_ok), "{registered:?}");
        let [taking, hearing] = <[Arc<Engine>; 2]>::try_from(engines).ok().unwrap();
        Self {
            taking,
            hearing,
            plans,
            bus,
            keyring,
            there: Arc::new(Mutex::new(there)),
            later,
            tasks: Vec::new(),
            _folder: folder,
        }
    }

    /// This instance answers from now on.
    pub async fn serve(&mut self, name: &str) {
        let (instance, keyring, there) = (instance(name), self.keyring.clone(), self.there.clone());
        let mut orders = self.bus.consume(&Queue::Orders(instance.clone()), 16).await.unwrap();
        let as_itself = self.bus.as_user(&instance.to_string());
        self.tasks.push(tokio::spawn(async move {
            while let Some(delivery) = orders.next().await {
                for event in Pack::<Order>::decode(&delivery.body).unwrap().events {
                    let order = event.data;
                    assert_eq!(order.action.as_str(), ACTION);
                    let held = there.lock().unwrap()[&instance].clone();
                    let report = OutcomeReport {
                        job: order.job,
                        fence: order.fence,
                        instance: instance.clone(),
                        outcome: listed(&order, &held),
                    };
                    let report = Report::from(report);
                    let packed = Pack::one(Envelope::new("/test", order.issued_at, report)).encode().unwrap();
                    let holder = Holder::Instance(instance.clone());
                    let seal = keyring.sign(&holder, Report::DIRECTION, &packed.body).unwrap();
                    let message = Outgoing {
                        target: Target::Queue(Queue::Outcomes),
                        body: packed.body,
                        key_id: seal.key_id,
                        mac: seal.mac,
                        message_id: packed.message_id,
                        ttl: None,
                    };
                    let sent = as_itself.publish(vec![message]).await;
                    assert!(sent.iter().all(Result::is_ok), "{sent:?}");
                }
                orders.ack(vec![delivery.tag]).await;
            }
        }));
    }

    /// The other coordinator hears all answers: none comes to the one that takes the census.
    pub async fn hear(&mut self) {
        let mut outcomes = self.bus.consume(&Queue::Outcomes, 16).await.unwrap();
        let hearing = self.hearing.clone();
        self.tasks.push(tokio::spawn(async move {
            loop {
                let deliveries = outcomes.next_batch(16, Duration::from_millis(50)).await;
                hearing.on_reports(&deliveries).await.unwrap();
                outcomes.ack(deliveries.into_iter().map(|delivery| delivery.tag).collect()).await;
            }
        }));
    }

    pub async fn all_answer(&mut self) {
        self.hear().await;
        self.serve("a").await;
        self.serve("b").await;
    }

    /// Look until it is so, for a bounded time. Each look returns, whatever has come.
    pub async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let looked = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// The one that is believed, once this coordinator has looked often enough.
    pub async fn until_believed(&self, by: &Engine) -> Taken {
        self.until("one is believed", async || {
            by.tend_censuses().await.unwrap();
            !self.taking.ledger.censuses().await.unwrap().is_empty()
        })
        .await;
        let [taken] = self.taking.ledger.censuses().await.unwrap().try_into().unwrap();
        taken
    }

    /// The one that is kept, once all its pages have come. Nobody looks in the meantime.
    pub async fn until_whole(&self) -> Listing {
        let kept = async || -> Listing {
            let [listing] = self.taking.ledger.listings().await.unwrap().try_into().unwrap();
            listing
        };
        self.until("all pages have come", async || kept().await.stands(self.later.now()) == Stands::Whole)
            .await;
        kept().await
    }

    /// A coordinator finds that one is due, writes that down, and dies before it asks anybody.
    pub async fn begin(&self) -> Listing {
        let new = NewListing {
            by: Actor::coordinator(),
            kind: "vm".parse().unwrap(),
            scope: "tenants".parse().unwrap(),
            within_ms: 25_000,
            instances: vec![instance("a"), instance("b")],
            seen: Some(Seen::default()),
        };
        self.taking.ledger.begin_listing(new).await.unwrap().unwrap()
    }

    pub async fn take(&self, within_ms: u64) -> Result<Census, String> {
        let wanted = Wanted {
            by: "ops".parse().unwrap(),
            kind: "vm".parse().unwrap(),
            scope: "tenants".parse().unwrap(),
            within_ms,
            meant: Meant::default(),
            seen: None,
        };
        match take(&self.taking, &self.plans, wanted).await.unwrap() {
            Ok(census) => Ok(census),
            Err(NotDone::Taking(why)) => Err(why.to_string()),
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// What a consumer answers.
fn listed(order: &Order, held: &BTreeMap<ResourceId, Identity>) -> Outcome {
    let PageAsked { after, most, .. } = PageAsked::of(&order.params).unwrap();
    let behind = held.iter().filter(|(id, _)| after.as_ref().is_none_or(|after| *id > after));
    let mut entries: Vec<Entry> =
        behind.map(|(id, identity)| Entry { id: id.clone(), identity: Some(identity.clone()) }).collect();
    let more = entries.len() > most;
    entries.truncate(most);
    let place = order.instance.to_string();
    let total = held.len() as u64;
    let page = Page { after, entries, more, total, credential: "the test".to_owned(), place };
    let finding = Some(serde_json::to_value(page).unwrap());
    Outcome::Done { presence: Presence::Present, evidence: String::new(), finding }
}
