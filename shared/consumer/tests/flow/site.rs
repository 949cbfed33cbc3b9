//! A consumer on the in-process bus, and the coordinator's side of it, played by the test.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use serde_json::{Value, json};
use sexton_bus::local::Local;
use sexton_bus::{Bus, Outgoing, Queue, Subscription, Target};
use sexton_consumer::{Clock, Consumer, ConsumerError, Metrics, Options, SystemClock};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::job::{JobKind, Stage};
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{DeletionId, Fence, Instance, JobId};
use sexton_protocol::{
    BeaconSigner, Broadcast, Event, Keyring, Message, Order, OutcomeReport, Pack, Progress, Report,
};
use sexton_testkit::bus::Double;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::archive::{ACTIONS, Archive};
use crate::forgetful::Forgetful;
use crate::noted::{Noted, Notes};
use crate::swelling::Swelling;

/// A consumer that runs.
pub type Running = JoinHandle<Result<(), ConsumerError>>;

pub struct Site {
    pub local: Local,
    pub keyring: Arc<Keyring>,
    pub signer: BeaconSigner,
    pub clock: Arc<dyn Clock>,
    options: Options,
    pub archive: Arc<Archive>,
    pub metrics: Arc<Metrics>,
    pub notes: Arc<Notes>,
    outcomes: tokio::sync::Mutex<Box<dyn Subscription>>,
}

pub fn instance() -> Instance {
    "backup.main".parse().unwrap()
}

impl Site {
    pub async fn new() -> Self {
        Self::with(Arc::new(SystemClock::default()), Options::default()).await
    }

    /// The same with this clock and these bounds.
    pub async fn with(clock: Arc<dyn Clock>, options: Options) -> Self {
        let local = Local::new();
        let outcomes = local.consume(&Queue::Outcomes, 100).await.unwrap();
        Self {
            keyring: Arc::new(Keyring::generate([instance().into()], &mut rand::rng())),
            signer: BeaconSigner::generate("test", &mut rand::rng()),
            clock,
            options,
            archive: Arc::default(),
            metrics: Arc::default(),
            notes: Arc::default(),
            outcomes: outcomes.into(),
            local,
        }
    }

    /// A consumer that listens for its first beacon.
    pub async fn start(&self, lost: usize) -> (CancellationToken, Running) {
        let bus = Arc::new(Double(Swelling(self.local.as_user("backup.main"))));
        let bus = Arc::new(Double(Noted { inner: bus, notes: self.notes.clone() }));
        let consumer = Consumer {
            instance: instance(),
            driver: self.archive.clone(),
            actions: SubsystemActions::parse("backup.toml", ACTIONS).unwrap(),
            bus: Arc::new(Double(Forgetful { inner: bus, lost: AtomicUsize::new(lost) })),
            keyring: self.keyring.clone(),
            verifier: self.signer.verifier(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            version: "1.2.3".into(),
            options: self.options.clone(),
        };
        let before = self.notes.beacons();
        let stop = CancellationToken::new();
        let running = tokio::spawn(consumer.run(stop.clone()));
        self.notes.until_beacons_exceed(before).await;
        (stop, running)
    }

    pub async fn say(&self, what: Broadcast) {
        self.say_as(&self.signer, what).await;
    }

    pub async fn say_as(&self, signer: &BeaconSigner, what: Broadcast) {
        let packed = Pack::one(Event::new("/coordinator", self.clock.now(), what)).encode().unwrap();
        let seal = signer.sign(Broadcast::DIRECTION, &packed.body);
        self.publish(Target::Beacon, packed, seal).await;
    }

    /// The consumer has heard a beacon when this returns.
    pub async fn beacon(&self) {
        self.hear(Beacon { epoch: 1, revision: 7, read_at: self.clock.now() }).await;
    }

    /// The same with this beacon or extension: it is done with it once it asks for the next one.
    pub async fn hear(&self, what: impl Into<Broadcast>) {
        let before = self.notes.beacons();
        self.say(what.into()).await;
        self.notes.until_beacons_exceed(before).await;
    }

    pub async fn publish(
        &self,
        target: Target,
        packed: sexton_protocol::Packed,
        seal: sexton_protocol::Seal,
    ) {
        let (key_id, mac) = (seal.key_id, seal.mac);
        let message =
            Outgoing { target, body: packed.body, key_id, mac, message_id: packed.message_id, ttl: None };
        self.local.publish(vec![message]).await.remove(0).unwrap();
    }

    pub fn order(&self, number: i64) -> Order {
        let deletion = DeletionId(17);
        let identity = BTreeMap::from([("repository".to_owned(), "r1".to_owned())]);
        let kind = JobKind::Stage(Stage::Purge);
        Order {
            job: JobId::of(deletion, kind.slot()),
            deletion,
            resource: "vm/web01".parse().unwrap(),
            kind,
            step: 0,
            instance: instance(),
            action: "delete_archives".parse().unwrap(),
            mode: Mode::Perform,
            nature: Nature::Destructive,
            identity: Identity::try_from(identity).unwrap(),
            attributes: Value::Null,
            targets: json!(["s1"]),
            manifest: None,
            params: BTreeMap::new(),
            fence: Fence { epoch: 1, number },
            revision: 7,
            issued_at: self.clock.now(),
            deadline: self.clock.now().plus_ms(60_000),
            longest_call_ms: 1_000,
            long: false,
            attempt: 0,
        }
    }

    pub async fn give(&self, orders: Vec<Order>) {
        let events = orders.into_iter().map(|o| Event::new("/coordinator", o.issued_at, o)).collect();
        let packed = Pack { events }.encode().unwrap();
        let seal = self.keyring.sign(&instance().into(), Order::DIRECTION, &packed.body).unwrap();
        self.publish(Target::Queue(Queue::Orders(instance())), packed, seal).await;
    }

    pub async fn reports(&self) -> Vec<Report> {
        let mut outcomes = self.outcomes.lock().await;
        let delivery = outcomes.next().await.unwrap();
        outcomes.ack(vec![delivery.tag]).await;
        let (key, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.keyring.verify(&instance().into(), Report::DIRECTION, &delivery.body, key, mac).unwrap();
        assert_eq!(delivery.user_id.as_deref(), Some("backup.main"));
        Pack::<Report>::decode(&delivery.body).unwrap().events.into_iter().map(|e| e.data).collect()
    }

    pub async fn outcome(&self) -> Outcome {
        self.answer().await.outcome
    }

    pub async fn answer(&self) -> OutcomeReport {
        loop {
            for report in self.reports().await {
                if let Report::Outcome(answer) = report {
                    return answer;
                }
            }
        }
    }

    pub async fn progress(&self) -> Progress {
        loop {
            for report in self.reports().await {
                if let Report::Progress(progress) = report {
                    return progress;
                }
            }
        }
    }

    pub async fn end(&self, stop: CancellationToken, running: Running) {
        stop.cancel();
        running.await.unwrap().unwrap();
        assert_eq!(self.local.depth(&Queue::Orders(instance())).await.unwrap(), 0, "something was not acked");
    }
}

pub fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { presence: Presence::Absent, .. })
}

pub async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
}
