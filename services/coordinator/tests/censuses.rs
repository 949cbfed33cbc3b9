//! A census is taken from every instance that lists the kind, page after page; without one of them there is none. If it is
//! configured, it is taken without anybody asking, and once, however many coordinators there are, of which each looks what has
//! come of what any of them has begun.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
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
use sexton_model::belts::census::daily::{Seen, Take};
use sexton_model::belts::census::listing::{
    ACTION, ENTRIES_MAX, Entry, Listing, NewListing, NotTaken, Page, PageAsked, Stands,
};
use sexton_model::belts::census::{Census, Rules, Sentinel, Stranger, Taken};
use sexton_model::resource::{Identity, Resource};
use sexton_model::step::{Outcome, Presence};
use sexton_model::time::Day;
use sexton_model::{Actor, Instance, ResourceId, Scope, Timestamp};
use sexton_protocol::{
    BeaconSigner, Event as Envelope, Holder, Keyring, Message as _, Order, OutcomeReport, Pack, Report,
};
use tokio::task::JoinHandle;

const LISTS: &str = "subsystem = \"hypervisor\"\nlists = [\"vm\"]\n[actions.inspect]\nnature = \"inspect\"\n\
     earliest = \"announce\"\ndeadline_ms = 60000\nlongest_call_ms = 1000\nabout = \"looks\"\n";
/// As many machines at the first instance as take three pages.
const MANY: usize = 2 * ENTRIES_MAX + 50;

fn instance(name: &str) -> Instance {
    format!("hypervisor.{name}").parse().unwrap()
}

fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

fn identity(uuid: &str) -> Identity {
    BTreeMap::from([("uuid".to_owned(), uuid.to_owned())]).try_into().unwrap()
}

/// What is there, by instance: name and identity of each.
type There = Arc<Mutex<BTreeMap<Instance, BTreeMap<ResourceId, Identity>>>>;

/// The machine's time, and so many milliseconds more.
struct Later {
    begun: Instant,
    ms: AtomicU64,
}

impl Later {
    fn by(&self, ms: u64) {
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

    fn pass(&self, _moment: Moment) -> Pass {
        Box::pin(std::future::ready(()))
    }
}

/// Two coordinators on one job table, and whoever answers their orders.
struct Site {
    taking: Arc<Engine>,
    hearing: Arc<Engine>,
    plans: Arc<Plans>,
    bus: Local,
    keyring: Arc<Keyring>,
    there: There,
    later: Arc<Later>,
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
    async fn new(many: usize) -> Self {
        Self::with(many, Policy::default()).await
    }

    /// The same, with this policy.
    async fn with(many: usize, policy: Policy) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let day = Day::Rehearsal { length_ms: 60_000 };
        let options = sexton_ledger::Options { day, limits: Limits::default(), policy };
        let later = Arc::new(Later { begun: Instant::now(), ms: AtomicU64::new(0) });
        let path = folder.path().join("sexton.db");
        let ledger = SqliteLedger::open_in(path, options, later.clone()).await.unwrap();
        let ledger: Arc<dyn Ledger> = Arc::new(ledger);
        let mut rng = rand::rng();
        let both = [instance("a"), instance("b")];
        let keyring = Arc::new(Keyring::generate(both.clone().map(Holder::Instance), &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let bus = Local::with_topology(Topology::for_instances(&both));
        let plans = Plans::of(
            &[("dns.toml", include_str!("looks/dns.toml")), ("hypervisor.toml", LISTS)],
            &[("vm.toml", include_str!("looks/vm.toml"))],
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
    async fn serve(&mut self, name: &str) {
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
    async fn hear(&mut self) {
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

    async fn all_answer(&mut self) {
        self.hear().await;
        self.serve("a").await;
        self.serve("b").await;
    }

    /// Look until it is so, for a bounded time. Each look returns, whatever has come.
    async fn until(&self, what: &str, so: impl AsyncFn() -> bool) {
        let looked = async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("not in time: {what}"));
    }

    /// The one that is believed, once this coordinator has looked often enough.
    async fn until_believed(&self, by: &Engine) -> Taken {
        self.until("one is believed", async || {
            by.tend_censuses().await.unwrap();
            !self.taking.ledger.censuses().await.unwrap().is_empty()
        })
        .await;
        let [taken] = self.taking.ledger.censuses().await.unwrap().try_into().unwrap();
        taken
    }

    /// The one that is kept, once all its pages have come. Nobody looks in the meantime.
    async fn until_whole(&self) -> Listing {
        let kept = async || {
            let [listing] = self.taking.ledger.listings().await.unwrap().try_into().unwrap();
            listing
        };
        self.until("all pages have come", async || kept().await.stands(self.later.now()) == Stands::Whole)
            .await;
        kept().await
    }

    async fn take(&self, within_ms: u64) -> Result<Census, String> {
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

/// Longer than any of this takes.
const LONG_MS: u64 = 60_000;
/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn all_pages_of_all_instances_are_one_census_whichever_coordinator_hears_them() {
    let mut site = Site::new(MANY).await;
    site.all_answer().await;
    let census = site.take(LONG_MS).await.unwrap();
    assert_eq!((census.listed.len(), census.total), (MANY + 2, MANY as u64 + 2));
    assert_eq!(census.credential, "the test at hypervisor.a; the test at hypervisor.b");
    assert!(census.listed.iter().all(|one| one.scope.as_str() == "tenants/acme"));
    // Nothing of it is left, and it may be taken again.
    assert!(site.taking.ledger.listing_orders().await.unwrap().is_empty());
    assert!(site.take(LONG_MS).await.is_ok());
}

#[tokio::test]
async fn without_one_instance_there_is_none() {
    let mut site = Site::new(3).await;
    site.hear().await;
    site.serve("a").await;
    let why = site.take(1_000).await.unwrap_err();
    assert_eq!(why, "no census: hypervisor.b has not listed everything within 1 s: no answer");
    assert!(site.taking.ledger.listing_orders().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_contradicts_the_inventory_or_itself_is_none() {
    let mut site = Site::new(3).await;
    site.all_answer().await;
    let change = |at: &str, name: &str, uuid: Option<&str>| {
        let mut there = site.there.lock().unwrap();
        let held = there.get_mut(&instance(at)).unwrap();
        match uuid {
            Some(uuid) => held.insert(vm(name), identity(uuid)),
            None => held.remove(&vm(name)),
        }
    };
    change("a", "a0001", Some("foreign"));
    let why = site.take(LONG_MS).await.unwrap_err();
    assert!(
        why.contains("vm/a0001 at hypervisor.a is not the one that is registered: it shows uuid foreign"),
        "{why}"
    );
    change("a", "a0001", Some("a0001"));
    change("a", "b1", Some("b1"));
    let why = site.take(LONG_MS).await.unwrap_err();
    assert!(why.contains("vm/b1 is at hypervisor.a and at hypervisor.b"), "{why}");
    // What nobody has registered is told, and no reason.
    change("a", "b1", None);
    change("b", "stray", Some("stray"));
    let census = site.take(LONG_MS).await.unwrap();
    let stray = Stranger {
        id: vm("stray"),
        scope: None,
        identity: Some(identity("stray")),
        instance: Some(instance("b")),
    };
    assert_eq!((census.listed.len(), census.total, census.unregistered), (5, 5, vec![stray]));
}

#[tokio::test]
async fn one_of_a_kind_and_scope_is_taken_at_once_and_none_that_nobody_lists() {
    let site = Site::new(1).await;
    let (one, other) = tokio::join!(site.take(1_000), site.take(1_000));
    let whys = [one.unwrap_err(), other.unwrap_err()];
    assert!(
        whys.iter().any(|why| why.contains("a census of vm in tenants is being taken until")),
        "{whys:?}"
    );
    assert!(whys.iter().any(|why| why.contains("has not listed everything")), "{whys:?}");
    let wanted = Wanted {
        by: "ops".parse().unwrap(),
        kind: "image".parse().unwrap(),
        scope: "tenants".parse().unwrap(),
        within_ms: 1_000,
        meant: Meant::default(),
        seen: None,
    };
    let why = take(&site.taking, &site.plans, wanted).await.unwrap().unwrap_err();
    assert_eq!(why, NotDone::Taking(NotTaken::NobodyLists("image".parse().unwrap())));
}

/// A census of all of them is to be taken each day, which takes no longer than that.
fn daily(within_secs: u64) -> Policy {
    let scope: Scope = "tenants".parse().unwrap();
    let sentinel = Sentinel { scope: scope.clone(), resource: vm("b1") };
    let take = Take { kind: "vm".parse().unwrap(), scope, every_hours: 24, within_secs };
    let census = Rules { sentinels: vec![sentinel], take: vec![take], ..Rules::default() };
    Policy { census, ..Policy::default() }
}

/// All five are there.
fn is_whole(taken: &Taken) -> bool {
    taken.counts == BTreeMap::from([("tenants/acme".to_owned(), 5)])
}

#[tokio::test]
async fn of_two_coordinators_one_takes_what_is_due() {
    let mut site = Site::with(3, daily(25)).await;
    site.all_answer().await;
    let both = async || {
        let (one, other) = tokio::join!(site.taking.tend_censuses(), site.hearing.tend_censuses());
        one.unwrap();
        other.unwrap();
    };
    both().await;
    site.until_whole().await;
    // Both find that all has come, and that nothing is due any more, however often they look.
    for _ in 0..3 {
        both().await;
        let censuses = site.taking.ledger.censuses().await.unwrap();
        let [taken] = censuses.as_slice() else { panic!("one, however often they look: {censuses:?}") };
        assert!(is_whole(taken), "{taken:?}");
    }
    assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away");
    let [latest] = site.taking.ledger.latest_censuses().await.unwrap().try_into().unwrap();
    assert_eq!(latest.refused, None, "whoever is too late notes nothing");
}

/// No look waits for a page: what begins it returns before anybody answers. Page follows page in the meantime.
#[tokio::test]
async fn what_is_due_is_begun_by_one_look_and_judged_by_a_later_one() {
    let mut site = Site::with(MANY, daily(25)).await;
    site.taking.tend_censuses().await.unwrap();
    let [begun] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
    site.taking.tend_censuses().await.unwrap();
    let [still] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
    assert_eq!(
        (&still, still.seen),
        (&begun, Some(Seen::default())),
        "it is looked at, and nothing else is begun"
    );
    site.all_answer().await;
    assert_eq!(site.until_whole().await.id, begun.id);
    assert!(site.taking.ledger.censuses().await.unwrap().is_empty(), "nobody has looked since");
    site.taking.tend_censuses().await.unwrap();
    let [taken] = site.taking.ledger.censuses().await.unwrap().try_into().unwrap();
    assert_eq!((taken.taken_at, taken.missing), (begun.begun_at, 0));
    assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away with that");
}

/// Whatever it has done of it when it dies: begun it, asked, or found that all has come.
#[tokio::test]
async fn what_a_coordinator_has_begun_that_dies_another_one_goes_on_with() {
    for (asks, hears) in [(false, false), (true, false), (true, true)] {
        let mut site = Site::with(3, daily(25)).await;
        let id = if asks {
            site.taking.tend_censuses().await.unwrap();
            let [begun] = site.taking.ledger.listings().await.unwrap().try_into().unwrap();
            begun.id
        } else {
            site.begin().await.id
        };
        site.all_answer().await;
        if hears {
            site.until_whole().await;
        }
        let taken = site.until_believed(&site.hearing).await;
        assert!(is_whole(&taken), "{taken:?}");
        assert_eq!(site.hearing.ledger.listing(id).await.unwrap(), None, "it is put away");
        let [latest] = site.hearing.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        assert_eq!(latest.refused, None, "and none was noted to be lacking");
    }
}

#[tokio::test]
async fn what_is_due_and_not_listed_is_noted_and_left_alone_for_a_while() {
    let mut site = Site::with(3, daily(1)).await;
    site.hear().await;
    site.serve("a").await;
    site.until("it is noted", async || {
        site.taking.tend_censuses().await.unwrap();
        !site.taking.ledger.latest_censuses().await.unwrap().is_empty()
    })
    .await;
    let mut noted = Vec::new();
    for by in [&site.taking, &site.hearing] {
        by.tend_censuses().await.unwrap();
        let [latest] = site.taking.ledger.latest_censuses().await.unwrap().try_into().unwrap();
        noted.push(latest.refused.unwrap());
        assert!(site.taking.ledger.listings().await.unwrap().is_empty(), "it is put away");
    }
    assert_eq!(noted[0], noted[1], "it is tried again later");
    assert!(noted[0].not_taken && noted[0].by == Actor::coordinator(), "{noted:?}");
    assert_eq!(noted[0].why, "no census: hypervisor.b has not listed everything within 1 s: no answer");
    assert!(site.taking.ledger.censuses().await.unwrap().is_empty());
}

impl Site {
    /// A coordinator finds that one is due, writes that down, and dies before it asks anybody.
    async fn begin(&self) -> Listing {
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
}

/// All coordinators die, and nobody looks at it before its time is long over.
#[tokio::test]
async fn what_a_coordinator_left_over_that_died_is_taken_anew() {
    let mut site = Site::with(3, daily(25)).await;
    let left = site.begin().await;
    site.all_answer().await;
    site.later.by(86_000);
    site.hearing.tend_censuses().await.unwrap();
    assert_eq!(site.taking.ledger.listing(left.id).await.unwrap(), None, "it is put away");
    assert_eq!(site.taking.ledger.latest_censuses().await.unwrap(), [], "nobody is to blame");
    let taken = site.until_believed(&site.hearing).await;
    assert!(is_whole(&taken) && taken.taken_at > left.answer_by, "{taken:?}");
}

#[tokio::test]
async fn what_others_hand_in_and_is_refused_puts_none_off() {
    let mut site = Site::with(3, daily(25)).await;
    site.all_answer().await;
    let whole = site.take(LONG_MS).await.unwrap();
    let cut = Census { total: whole.total + 1, ..whole };
    let platform: Actor = "platform".parse().unwrap();
    site.taking.ledger.take_census(cut, &platform).await.unwrap().unwrap_err();
    site.taking.tend_censuses().await.unwrap();
    assert!(!site.taking.ledger.listings().await.unwrap().is_empty(), "it is begun at once");
    let taken = site.until_believed(&site.taking).await;
    assert!(is_whole(&taken), "{taken:?}");
}
