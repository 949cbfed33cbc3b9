//! The world of one run: it lets exactly one thing go on at a time, and looks at everything after each.
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_bus::local::Local;
use sexton_bus::{Bus, Queue, Subscription, Topology};
use sexton_coordinator::{Engine, Plans};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Intent, Limits};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::Budgets;
use sexton_model::belts::census::{Rules, Sentinel};
use sexton_model::deletion::RecordStatus;
use sexton_model::plan::Plan;
use sexton_model::time::Day;
use sexton_model::{DeletionId, Instance, ResourceId, Timestamp};
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use tokio::task::JoinHandle;

use super::allowed::Allowed;
use super::bus::{Frozen, StormyBus, Traffic};
use super::check::budgets::Seen;
use super::check::pauses::BESIDE;
use super::check::{Checker, DAY_MS, canaries};
use super::gates::Gates;
use super::hands::Hands;
use super::platform::{Machines, Truth};
use super::script::{KINDS, PLANS, Script};
use super::time::{ProcessClock, StoreClock, Time};
use super::weather::Dice;

mod around;
pub mod census;
mod look;
mod processes;
pub mod requests;
mod signed;
mod turn;

use around::Around;
use census::BeingTaken;
use requests::Request;
use turn::{Begun, Defects};

/// Coordinators of a run.
pub const COORDINATORS: usize = 2;
/// Copies of each consumer.
pub(super) const COPIES: usize = 2;
/// A coordinator does each of its rounds this often, in milliseconds.
const ROUND_MS: u64 = 1_000;
/// But for canaries, which it looks after as often as in production.
const CANARIES_MS: u64 = 10_000;
/// Keys of requests are looked through for what is old this often: rather more often than in production, beside what else happens.
const FORGET_MS: u64 = 10_000;
/// Heads of audit chains are signed this often: as often as a day begins, and rather too rarely than too often, for that takes a
/// dozen looks at the job table.
const SIGN_MS: u64 = DAY_MS;
/// Coordinators look whether a census is due as often as in production, in milliseconds.
const CENSUSES_MS: u64 = 3_000;
/// A canary has to be answered within so many milliseconds.
const ANSWERED_WITHIN_MS: u64 = 30_000;
/// Instances whose consumers run, with what their subsystems can do.
pub(super) const SUBSYSTEMS: [(&str, &str); 7] = [
    ("hypervisor", include_str!("../../../deploy/subsystems/hypervisor.toml")),
    ("ipam", include_str!("../../../deploy/subsystems/ipam.toml")),
    ("monitoring", include_str!("../../../deploy/subsystems/monitoring.toml")),
    ("backup", include_str!("../../../deploy/subsystems/backup.toml")),
    ("notifier", include_str!("../../../deploy/subsystems/notifier.toml")),
    ("dns", include_str!("../../../deploy/subsystems/dns.toml")),
    ("config", include_str!("../../../deploy/subsystems/config.toml")),
];
/// Everything that goes wrong with machines' plans goes wrong with these: all versions of one.
const VERSIONS: [&str; PLANS] =
    [include_str!("plan.toml"), include_str!("plan-2.toml"), include_str!("plan-3.toml")];

/// The broker user of the scheduler.
const SCHEDULER: &str = "scheduler";

/// What a coordinator does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Round {
    Beacon,
    Checkpoint,
    Refill,
    Wake,
    Admit,
    Canaries,
    Forget,
    Sign,
    Censuses,
}

const ROUNDS: [Round; 9] = [
    Round::Beacon,
    Round::Checkpoint,
    Round::Refill,
    Round::Wake,
    Round::Admit,
    Round::Canaries,
    Round::Forget,
    Round::Sign,
    Round::Censuses,
];
const INBOXES: [Queue; 4] = [Queue::Outcomes, Queue::StageDue, Queue::Pulses, Queue::Canaries];

/// One that runs.
pub(super) struct Coordinator {
    pub(super) engine: Arc<Engine>,
    inboxes: Vec<Box<dyn Subscription>>,
    rounds: BTreeMap<Round, Timestamp>,
    handlers: Vec<Begun>,
}

/// A process of a consumer, whether or not it runs.
pub(super) struct ConsumerProcess {
    instance: Instance,
    pub(super) frozen: Arc<Frozen>,
    pub(super) hands: Arc<Hands>,
    pub(super) clock: Arc<ProcessClock>,
    running: Option<JoinHandle<()>>,
    pub(super) again_at: Option<Timestamp>,
    pub(super) thaws_at: Option<Timestamp>,
}

/// One run.
pub struct World {
    pub(super) script: Script,
    pub(super) dice: Arc<Dice>,
    pub(super) time: Arc<Time>,
    pub(super) store: Arc<StoreClock>,
    pub(super) gates: Arc<Gates>,
    pub(super) truth: Arc<Mutex<Truth>>,
    pub(super) traffic: Arc<Traffic>,
    decided: Arc<Mutex<BTreeSet<DeletionId>>>,
    /// Transactions of the job table, and how many there were when everything was looked at last.
    commits: Arc<AtomicU64>,
    pub(super) looked: u64,
    defects: Defects,
    /// Who waits for what never comes, if somebody does.
    hung: Mutex<Option<String>>,
    folder: tempfile::TempDir,
    pub(super) ledger: Option<Arc<SqliteLedger>>,
    pub(super) bus: Local,
    pub(super) keyring: Arc<Keyring>,
    signer: Arc<BeaconSigner>,
    /// All versions, and by which records are made.
    plans: Vec<Arc<Plans>>,
    pub(super) version: usize,
    /// The census that is being taken.
    census: Option<BeingTaken>,
    /// What was there when a listing was begun, by when that was and its scope.
    listed: BTreeMap<(Timestamp, String), Machines>,
    /// Whether nobody waits for records to be over yet, so that coordinators still take censuses without being asked.
    counting: bool,
    /// Whether one of them may have looked for a due one since everything was looked at last.
    tending: bool,
    /// What a person saw last of a batch.
    pub(super) seen: Option<Seen>,
    pub(super) coordinators: Vec<Result<Coordinator, Timestamp>>,
    pub(super) consumers: Vec<ConsumerProcess>,
    /// Since when everything is down, and until when.
    pub(super) down: Option<(Timestamp, Timestamp)>,
    scheduler_at: Timestamp,
    scheduling: Option<Begun>,
    handlers: u64,
    /// What people ask for and is not answered yet, and how much they have asked for.
    pub(super) requests: Vec<Request>,
    /// What was answered, to be looked at once more: an attempt that was taken for dead may do it after that.
    answered: Vec<Request>,
    asked: u64,
    /// How many keys of requests coordinators have forgotten.
    forgotten: Arc<AtomicU64>,
    pub(super) checker: Checker,
    /// How many records ended how.
    pub(super) ended: BTreeMap<RecordStatus, u64>,
    pub(super) uuids: u64,
    /// What happened, in words.
    pub history: Vec<String>,
    pub(super) step: u64,
}

pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Round {
    /// How often it is done, in milliseconds.
    fn every_ms(self) -> u64 {
        match self {
            Self::Beacon | Self::Checkpoint | Self::Refill | Self::Wake | Self::Admit => ROUND_MS,
            Self::Canaries => CANARIES_MS,
            Self::Forget => FORGET_MS,
            Self::Sign => SIGN_MS,
            Self::Censuses => CENSUSES_MS,
        }
    }

    /// Whether it is done in such a run.
    fn of(self, script: &Script) -> bool {
        match self {
            Self::Beacon | Self::Checkpoint | Self::Refill | Self::Wake | Self::Admit => true,
            Self::Canaries => script.canaries,
            Self::Forget | Self::Sign => script.tends,
            Self::Censuses => script.takes_censuses(),
        }
    }
}

/// One version of the plans of all kinds.
fn plans(version: &str) -> Plans {
    let subsystems = SUBSYSTEMS.map(|(subsystem, text)| (format!("{subsystem}.toml"), text));
    let subsystems: Vec<(&str, &str)> =
        subsystems.iter().map(|(file, text)| (file.as_str(), *text)).collect();
    let kinds = KINDS.map(|kind| {
        let text = version.replace("kind = \"vm\"", &format!("kind = \"{kind}\""));
        (format!("{kind}.toml"), text)
    });
    let kinds: Vec<(&str, &str)> = kinds.iter().map(|(file, text)| (file.as_str(), text.as_str())).collect();
    Plans::of(&subsystems, &kinds, true).unwrap()
}

impl ConsumerProcess {
    /// Whose consumer it is.
    pub(super) fn instance(&self) -> &Instance {
        &self.instance
    }
}

impl World {
    /// Everything runs, and nothing has happened.
    pub async fn begin(script: &Script, template: Option<&Path>) -> Self {
        let folder = tempfile::tempdir_in(memory()).unwrap();
        if let Some(template) = template {
            std::fs::copy(template, folder.path().join("sexton.db")).unwrap();
        }
        let dice = Arc::new(Dice::new(script.seed, script.weather));
        let instances: Vec<Instance> =
            SUBSYSTEMS.iter().map(|(subsystem, _)| format!("{subsystem}.main").parse().unwrap()).collect();
        let mut rng = rand::rng();
        let holders = instances.iter().cloned().map(Holder::Instance).chain([Holder::Scheduler]);
        let keyring = Arc::new(Keyring::generate(holders, &mut rng));
        let signer = Arc::new(BeaconSigner::generate("beacon", &mut rng));
        let time = Arc::new(Time::default());
        let consumers = instances.iter().flat_map(|instance| std::iter::repeat_n(instance, COPIES)).zip(0..);
        let consumers = consumers.map(|(instance, number)| {
            let frozen = Arc::new(Frozen::default());
            ConsumerProcess {
                instance: instance.clone(),
                clock: Arc::new(ProcessClock::new(time.clone(), frozen.now.clone(), number + 1)),
                frozen,
                hands: Arc::default(),
                running: None,
                again_at: Some(time.now()),
                thaws_at: None,
            }
        });
        let clock = time.clone();
        let passed = Arc::new(move || clock.passed());
        let mut world = Self {
            script: script.clone(),
            dice,
            store: Arc::new(StoreClock::new(time.clone())),
            gates: Arc::default(),
            truth: Arc::default(),
            traffic: Arc::default(),
            decided: Arc::default(),
            commits: Arc::default(),
            looked: 0,
            defects: Arc::default(),
            hung: Mutex::default(),
            folder,
            ledger: None,
            bus: Local::by(passed, Topology::for_instances(&instances)),
            keyring,
            signer,
            plans: VERSIONS.iter().map(|version| Arc::new(plans(version))).collect(),
            version: 0,
            census: None,
            listed: BTreeMap::new(),
            counting: true,
            tending: false,
            seen: None,
            coordinators: (0..COORDINATORS).map(|_| Err(time.now())).collect(),
            consumers: consumers.collect(),
            down: None,
            scheduler_at: time.now(),
            time,
            scheduling: None,
            handlers: 0,
            requests: Vec::new(),
            answered: Vec::new(),
            asked: 0,
            forgotten: Arc::default(),
            checker: Checker::new(script.allowed.clone()),
            ended: BTreeMap::new(),
            uuids: 0,
            history: Vec::new(),
            step: 0,
        };
        world.open_ledger().await;
        for vm in script.all().chain(script.sentinels().map(|(vm, _)| vm)) {
            world.appear(&vm).await;
        }
        if script.canaries {
            world.appear(&canaries::resource()).await;
            let truth = world.truth.clone();
            world.checker.canaries.begin(&held(&truth));
        }
        world
    }

    /// The plan by which a record of this resource would be made now.
    pub(super) fn plan(&self, resource: &ResourceId) -> Arc<Plan> {
        self.plans[self.version].of_kind(&resource.kind).unwrap().clone()
    }

    /// Open the job table, and note its epoch.
    pub(super) async fn open_ledger(&mut self) {
        let around = Around {
            time: self.time.clone(),
            store: self.store.clone(),
            gates: self.gates.clone(),
            dice: self.dice.clone(),
            decided: self.decided.clone(),
            commits: self.commits.clone(),
        };
        let before = self.store.shown();
        self.store.opened();
        self.checker.lost.reopened(before, self.store.shown());
        let budgets = self.script.allowed.as_ref().map_or_else(Budgets::none, Allowed::budgets);
        let always = self.script.sentinels();
        let always = always.map(|(resource, scope)| Sentinel { scope: scope.parse().unwrap(), resource });
        let take = if self.script.takes_censuses() { vec![census::daily()] } else { Vec::new() };
        let census = Rules { sentinels: always.collect(), take, ..Rules::default() };
        let policy = Policy { windows: None, budgets: Some(budgets), census, ..Policy::default() };
        let limits = Limits { look_again_ms: 5_000, ..Limits::default() };
        let options = sexton_ledger::Options { day: Day::Rehearsal { length_ms: DAY_MS }, limits, policy };
        let ledger = SqliteLedger::open_in(self.file(), options, Arc::new(around)).await.unwrap();
        self.ledger = Some(Arc::new(ledger));
    }

    /// The job table's file.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join("sexton.db")
    }

    /// How often each thing happened.
    pub(super) fn happened(&self) -> BTreeMap<&'static str, u64> {
        let mut happened = self.dice.counted();
        happened.insert(BESIDE, self.checker.pauses.beside);
        happened
    }

    pub(super) fn say(&mut self, what: impl Into<String>) {
        self.say_what_chance_did();
        self.write_down(&what.into());
    }

    /// Whatever went wrong by chance since this was told last, before anything that came of it. But not who was stopped where: that
    /// lets others go first, and nothing else.
    pub(super) fn say_what_chance_did(&mut self) {
        for what in self.dice.take_told() {
            self.write_down(&what);
        }
    }

    fn write_down(&mut self, what: &str) {
        let at = self.time.since_begin_ms();
        self.history.push(format!("{at:>8} ms, step {:>5}: {what}", self.step));
    }

    /// Whether the process is stopped where it stands.
    fn frozen(&self) -> impl Fn(usize) -> bool + use<> {
        let frozen: Vec<bool> = self.consumers.iter().map(|one| one.frozen.is()).collect();
        move |process| {
            process.checked_sub(COORDINATORS).and_then(|at| frozen.get(at)).copied().unwrap_or(false)
        }
    }

    fn stormy(&self, process: usize, user: Option<&str>, frozen: Arc<Frozen>) -> Arc<dyn Bus> {
        let inner: Arc<dyn Bus> = match user {
            Some(user) => self.bus.as_user(user),
            None => Arc::new(self.bus.clone()),
        };
        Arc::new(StormyBus {
            inner,
            process,
            consumer: user.is_some_and(|user| user != SCHEDULER),
            frozen,
            gates: self.gates.clone(),
            dice: self.dice.clone(),
            time: self.time.clone(),
            traffic: self.traffic.clone(),
        })
    }

    /// One decision, as a person's request has it.
    pub(super) async fn ask(&mut self, intent: Intent) -> bool {
        let engine = self.coordinators.iter().flatten().map(|one| one.engine.clone()).next();
        let Some(engine) = engine else { return false };
        let done = engine.run(vec![intent]).await;
        // Whoever has heard of it is done before anything else is asked.
        self.quiet().await;
        matches!(done.as_deref(), Ok([Ok(_)]))
    }
}

/// A folder in memory, if there is one: a sync costs nothing there, and nothing is to outlive the run.
pub(super) fn memory() -> PathBuf {
    let shared = PathBuf::from("/dev/shm");
    if shared.is_dir() { shared } else { std::env::temp_dir() }
}
