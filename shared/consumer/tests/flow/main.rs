//! From order to ack on the in-process bus: what is lost on the way is done again, and nothing twice too many.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use sexton_bus::local::Local;
use sexton_bus::{Bus, BusError, Outgoing, PublishError, Queue, Subscription, Target};
use sexton_consumer::{
    Clock, Condition, Consumer, Done, Driver, Found, Inspection, Metrics, Obstacle, Options, Permit, Place,
    StepContext, SystemClock,
};
use sexton_model::beacon::Beacon;
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::job::{JobKind, Stage};
use sexton_model::resource::Identity;
use sexton_model::step::{Mode, Outcome, Presence};
use sexton_model::{DeletionId, Fence, Instance, JobId};
use sexton_protocol::{
    BeaconSigner, Broadcast, Event, Extension, Keyring, Message, Order, OutcomeReport, Pack, Progress, Pulse,
    Rejected, Report,
};
use sexton_service::Watched;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const ACTIONS: &str = r#"
subsystem = "backup"
[actions.delete_archives]
nature = "destructive"
earliest = "purge"
deadline_ms = 60000
longest_call_ms = 1000
long = true
about = "deletes"
"#;

/// Deletes a thing; can be made to hang, and says when it began.
#[derive(Default)]
struct Archive {
    gone: Mutex<bool>,
    performed: AtomicUsize,
    hangs: AtomicUsize,
    /// Waits before the change, and asks again.
    in_two: AtomicUsize,
    waits: Notify,
    began: Notify,
    go_on: Notify,
    panics: AtomicUsize,
}

fn taken(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[async_trait]
impl Driver for Archive {
    async fn inspect(&self, _: &StepContext) -> Result<Inspection, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn find(&self, _: &StepContext) -> Result<Found, Obstacle> {
        let gone = *self.gone.lock().unwrap();
        Ok(if gone { Found::Absent(Place("memory".into())) } else { Found::Same })
    }
    async fn capture(&self, _: &StepContext) -> Result<Value, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn perform(&self, step: &StepContext, _: Option<&Value>, permit: Permit) -> Result<Done, Obstacle> {
        assert!(!taken(&self.panics), "made to panic");
        if taken(&self.in_two) {
            self.waits.notify_one();
            self.go_on.notified().await;
            permit.again()?;
        }
        *self.gone.lock().unwrap() = true;
        self.performed.fetch_add(1, Ordering::SeqCst);
        step.progress.report(1, 2);
        self.began.notify_one();
        if taken(&self.hangs) {
            self.go_on.notified().await;
        }
        Ok(Done::saw("deleted"))
    }
    async fn undo(&self, _: &StepContext, _: &Value, _: Permit) -> Result<Done, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn presence(&self, _: &StepContext) -> Result<(Presence, String), Obstacle> {
        let gone = *self.gone.lock().unwrap();
        Ok((if gone { Presence::Absent } else { Presence::Present }, "looked".into()))
    }
    async fn restored(&self, _: &StepContext, _: &Value) -> Result<String, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn check(&self, _: &StepContext) -> Result<Done, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
}

/// A bus whose confirms of answers get lost a few times: half of those messages arrive all the same.
struct Forgetful {
    inner: Arc<dyn Bus>,
    lost: AtomicUsize,
}

#[async_trait]
impl Bus for Forgetful {
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let answers = messages.iter().any(|m| m.target == Target::Queue(Queue::Outcomes));
        if answers && taken(&self.lost) {
            let unconfirmed = PublishError::Unconfirmed { to: "sexton.outcomes".into(), waited_ms: 1 };
            let results = vec![Err(unconfirmed); messages.len()];
            if self.lost.load(Ordering::SeqCst).is_multiple_of(2) {
                self.inner.publish(messages).await;
            }
            return results;
        }
        self.inner.publish(messages).await
    }
    async fn consume(&self, queue: &Queue, prefetch: u16) -> Result<Box<dyn Subscription>, BusError> {
        self.inner.consume(queue, prefetch).await
    }
    async fn depth(&self, queue: &Queue) -> Result<u64, BusError> {
        self.inner.depth(queue).await
    }
    async fn healthy(&self) -> Result<(), BusError> {
        self.inner.healthy().await
    }
}

struct Site {
    local: Local,
    keyring: Arc<Keyring>,
    signer: BeaconSigner,
    clock: Arc<SystemClock>,
    archive: Arc<Archive>,
    metrics: Arc<Metrics>,
    outcomes: tokio::sync::Mutex<Box<dyn Subscription>>,
}

fn instance() -> Instance {
    "backup.main".parse().unwrap()
}

impl Site {
    async fn new() -> Self {
        let local = Local::new();
        let outcomes = local.consume(&Queue::Outcomes, 100).await.unwrap();
        Self {
            keyring: Arc::new(Keyring::generate([instance().into()], &mut rand::rng())),
            signer: BeaconSigner::generate("test", &mut rand::rng()),
            clock: Arc::new(SystemClock::default()),
            archive: Arc::default(),
            metrics: Arc::default(),
            outcomes: outcomes.into(),
            local,
        }
    }

    fn start(&self, lost: usize) -> (CancellationToken, JoinHandle<()>) {
        let bus = self.local.as_user("backup.main");
        let consumer = Consumer {
            instance: instance(),
            driver: self.archive.clone(),
            actions: SubsystemActions::parse("backup.toml", ACTIONS).unwrap(),
            bus: Arc::new(Forgetful { inner: bus, lost: AtomicUsize::new(lost) }),
            keyring: self.keyring.clone(),
            verifier: self.signer.verifier(),
            clock: self.clock.clone(),
            metrics: self.metrics.clone(),
            version: "1.2.3".into(),
            options: Options::default(),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = tokio::spawn(async move { consumer.run(stopped).await.unwrap() });
        (stop, running)
    }

    async fn say(&self, what: Broadcast) {
        let packed = Pack::one(Event::new("/coordinator", self.clock.now(), what)).encode().unwrap();
        let seal = self.signer.sign(Broadcast::DIRECTION, &packed.body);
        self.publish(Target::Beacon, packed, seal).await;
    }

    async fn beacon(&self) {
        self.say(Beacon { epoch: 1, revision: 7, read_at: self.clock.now() }.into()).await;
    }

    /// Until the consumer has heard it, seen by its judging an order that was given before it.
    async fn hear(&self, beacon: Beacon) {
        for number in 1.. {
            self.say(beacon.into()).await;
            let mut probe = self.order(number);
            probe.resource = "vm/hears".parse().unwrap();
            self.give(vec![probe]).await;
            if matches!(self.outcome().await, Outcome::Retry { .. }) {
                return;
            }
            *self.archive.gone.lock().unwrap() = false;
        }
    }

    async fn publish(&self, target: Target, packed: sexton_protocol::Packed, seal: sexton_protocol::Seal) {
        let (key_id, mac) = (seal.key_id, seal.mac);
        let message =
            Outgoing { target, body: packed.body, key_id, mac, message_id: packed.message_id, ttl: None };
        self.local.publish(vec![message]).await.remove(0).unwrap();
    }

    fn order(&self, number: i64) -> Order {
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

    async fn give(&self, orders: Vec<Order>) {
        let events = orders.into_iter().map(|o| Event::new("/coordinator", o.issued_at, o)).collect();
        let packed = Pack { events }.encode().unwrap();
        let seal = self.keyring.sign(&instance().into(), Order::DIRECTION, &packed.body).unwrap();
        self.publish(Target::Queue(Queue::Orders(instance())), packed, seal).await;
    }

    async fn reports(&self) -> Vec<Report> {
        let mut outcomes = self.outcomes.lock().await;
        let delivery = outcomes.next().await.unwrap();
        outcomes.ack(vec![delivery.tag]).await;
        let (key, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.keyring.verify(&instance().into(), Report::DIRECTION, &delivery.body, key, mac).unwrap();
        assert_eq!(delivery.user_id.as_deref(), Some("backup.main"));
        Pack::<Report>::decode(&delivery.body).unwrap().events.into_iter().map(|e| e.data).collect()
    }

    async fn outcome(&self) -> Outcome {
        self.answer().await.outcome
    }

    async fn answer(&self) -> OutcomeReport {
        loop {
            for report in self.reports().await {
                if let Report::Outcome(answer) = report {
                    return answer;
                }
            }
        }
    }

    async fn progress(&self) -> Progress {
        loop {
            for report in self.reports().await {
                if let Report::Progress(progress) = report {
                    return progress;
                }
            }
        }
    }

    /// Until the consumer subscribes to the beacon and hears one: orders before are answered "spared".
    async fn warm_up(&self) {
        let mut number = 1;
        loop {
            self.beacon().await;
            let mut probe = self.order(number);
            probe.resource = "vm/probe".parse().unwrap();
            // Gone already: answered without a change once a beacon was heard.
            *self.archive.gone.lock().unwrap() = true;
            self.give(vec![probe]).await;
            if matches!(self.outcome().await, Outcome::Done { .. }) {
                *self.archive.gone.lock().unwrap() = false;
                return;
            }
            number += 1;
        }
    }

    async fn end(&self, stop: CancellationToken, running: JoinHandle<()>) {
        stop.cancel();
        running.await.unwrap();
        assert_eq!(self.local.depth(&Queue::Orders(instance())).await.unwrap(), 0, "something was not acked");
    }
}

fn is_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Done { presence: Presence::Absent, .. })
}

async fn in_time<T>(test: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), test).await.expect("the test hangs")
}

#[tokio::test]
async fn an_order_is_performed_answered_and_acked_though_confirms_are_lost() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(4);
        site.warm_up().await;
        site.give(vec![site.order(1000)]).await;
        assert!(is_done(&site.outcome().await));
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 1);
        assert_eq!(site.metrics.counts().republished, 4);
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn it_is_ready_once_a_beacon_was_heard_and_not_after_the_bus_was_closed() {
    in_time(async {
        let site = Site::new().await;
        let bus: Arc<dyn Bus> = Arc::new(site.local.clone());
        let condition = Condition { instance: instance(), metrics: site.metrics.clone(), bus };
        let (_, running) = site.start(0);
        let unheard = condition.hindered().await;
        assert!(unheard[0].contains("backup.main: no beacon was heard yet"), "{unheard:?}");
        site.warm_up().await;
        assert_eq!(condition.hindered().await, Vec::<String>::new());
        site.local.close();
        let closed = condition.hindered().await;
        assert_eq!(closed, ["backup.main: the bus is closed"]);
        running.abort();
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_dies_after_the_effect_loses_nothing() {
    in_time(async {
        let site = Site::new().await;
        let (_, running) = site.start(0);
        site.warm_up().await;
        site.archive.hangs.store(1, Ordering::SeqCst);
        site.give(vec![site.order(1000)]).await;
        site.archive.began.notified().await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());

        let (stop, running) = site.start(0);
        // The order may come before the first beacon, and is spared then: the coordinator gives it again.
        let mut number = 1000;
        while !is_done(&site.outcome().await) {
            site.beacon().await;
            number += 1;
            site.give(vec![site.order(number)]).await;
        }
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 1, "gone already, so not performed again");
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn what_can_never_be_carried_out_here_is_refused() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0);
        site.warm_up().await;
        type Spoil = fn(&mut Order);
        let spoilt: [(&str, Spoil); 6] = [
            ("is for backup.other", |o| o.instance = "backup.other".parse().unwrap()),
            ("no action explode", |o| o.action = "explode".parse().unwrap()),
            ("out of date", |o| o.nature = Nature::Adds),
            ("before purge", |o| o.kind = JobKind::Stage(Stage::Soft)),
            ("no Undo", |o| o.mode = Mode::Undo),
            ("in restore", |o| o.kind = JobKind::Restore),
        ];
        for (says, spoil) in spoilt {
            let mut order = site.order(1000);
            spoil(&mut order);
            site.give(vec![order]).await;
            let outcome = site.outcome().await;
            assert!(
                matches!(&outcome, Outcome::Refused { reason } if reason.contains(says)),
                "{says}: {outcome:?}"
            );
        }
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 0);
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn a_panic_is_an_answer() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0);
        site.warm_up().await;
        site.archive.panics.store(1, Ordering::SeqCst);
        site.give(vec![site.order(1000)]).await;
        let outcome = site.outcome().await;
        assert!(
            matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("panicked")),
            "{outcome:?}"
        );
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn one_expired_order_of_a_pack_is_dropped_and_shown_and_the_rest_is_done() {
    in_time(async {
        let site = Site::new().await;
        let mut rejected = site.local.consume(&Queue::Rejected, 1).await.unwrap();
        let (stop, running) = site.start(0);
        site.warm_up().await;
        let mut late = site.order(1001);
        // The ledger's time, as heard, lags by a beacon's way; so clearly late.
        late.deadline = sexton_model::Timestamp(site.clock.now().0 - 10_000_000);
        late.resource = "vm/late".parse().unwrap();
        site.give(vec![late, site.order(1000)]).await;
        assert!(is_done(&site.outcome().await));
        let delivery = rejected.next().await.unwrap();
        let shown = Pack::<Rejected>::decode(&delivery.body).unwrap();
        assert!(shown.events[0].data.reason.contains("after its deadline"), "{shown:?}");
        assert_eq!(site.metrics.counts().rejected["expired"], 1);
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn a_long_step_goes_on_only_for_its_own_extension_and_is_acked_then() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0);
        site.warm_up().await;
        site.archive.hangs.store(2, Ordering::SeqCst);
        // Without an extension it is stopped at its deadline.
        let mut order = site.order(1000);
        order.long = true;
        order.deadline = site.clock.now().plus_ms(300);
        site.give(vec![order]).await;
        let outcome = site.outcome().await;
        assert!(
            matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("deadline")),
            "{outcome:?}"
        );

        *site.archive.gone.lock().unwrap() = false;
        let mut order = site.order(1001);
        order.long = true;
        order.deadline = site.clock.now().plus_ms(1_500);
        let (job, fence, first_deadline) = (order.job, order.fence, order.deadline);
        site.give(vec![order]).await;
        let begun = loop {
            let progress = site.progress().await;
            if progress.fence == fence {
                break progress;
            }
        };
        assert_eq!((begun.done, begun.job), (0, job));
        let deadline = site.clock.now().plus_ms(60_000);
        let stranger = Extension { job, fence, nonce: begun.nonce ^ 1, deadline: deadline.plus_ms(60_000) };
        site.say(stranger.into()).await;
        site.say(Extension { job, fence, nonce: begun.nonce, deadline }.into()).await;
        // The driver's own progress comes a second later and says that the step still runs.
        let going_on = site.progress().await;
        assert_eq!((going_on.done, going_on.total, going_on.nonce), (1, 2, begun.nonce));
        // The first deadline is over: without the extension the step would have been stopped by now.
        while site.clock.now() <= first_deadline {
            site.clock.sleep(first_deadline.ms_since(site.clock.now()) + 1).await;
        }
        site.archive.go_on.notify_one();
        assert!(is_done(&site.outcome().await));
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn what_comes_while_a_step_waits_keeps_it_from_its_next_change() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0);
        site.warm_up().await;
        let paused = Beacon { epoch: 1, revision: 8, read_at: site.clock.now() };
        for (n, expected) in [(0, "deleted"), (1, "overtaken"), (2, "pause")] {
            site.archive.in_two.store(1, Ordering::SeqCst);
            site.give(vec![site.order(1000 + 10 * n)]).await;
            site.archive.waits.notified().await;
            match n {
                1 => {
                    // A later order for the same resource, that fails and so leaves it as it is.
                    site.archive.panics.store(1, Ordering::SeqCst);
                    site.give(vec![site.order(1015)]).await;
                    assert!(matches!(site.outcome().await, Outcome::Retry { .. }));
                }
                2 => site.hear(paused).await,
                _ => {}
            }
            site.archive.go_on.notify_one();
            let outcome = format!("{:?}", site.outcome().await);
            assert!(outcome.contains(expected), "{n}: {outcome}");
            let performed = site.archive.performed.load(Ordering::SeqCst);
            assert_eq!(performed, 1, "{n}: only the first went on");
            *site.archive.gone.lock().unwrap() = false;
        }
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn an_order_that_comes_again_while_it_is_worked_on_is_not_worked_on_twice() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0);
        site.warm_up().await;
        site.archive.hangs.store(1, Ordering::SeqCst);
        site.give(vec![site.order(1000)]).await;
        site.archive.began.notified().await;
        site.give(vec![site.order(1000)]).await;
        // Given after the repeat, and answered before it.
        site.give(vec![{
            let mut other = site.order(1001);
            other.resource = "vm/web02".parse().unwrap();
            other
        }])
        .await;
        assert_eq!(site.answer().await.fence.number, 1001);
        site.archive.go_on.notify_one();
        assert_eq!(site.answer().await.fence.number, 1000);
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 1);
        // Its repeat was acked with it.
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn it_pulses_under_its_own_key() {
    in_time(async {
        let site = Site::new().await;
        let mut pulses = site.local.consume(&Queue::Pulses, 1).await.unwrap();
        let (stop, running) = site.start(0);
        let delivery = pulses.next().await.unwrap();
        let (key, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        site.keyring.verify(&instance().into(), Pulse::DIRECTION, &delivery.body, key, mac).unwrap();
        let pulse = &Pack::<Pulse>::decode(&delivery.body).unwrap().events[0].data;
        assert_eq!((pulse.instance.clone(), pulse.version.as_str()), (instance(), "1.2.3"));
        assert_eq!((pulse.concurrency, pulse.answered), (16, 0));
        stop.cancel();
        running.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_is_not_accepted_is_shown_and_counted_and_stops_nothing() {
    in_time(async {
        let site = Site::new().await;
        let mut rejected = site.local.consume(&Queue::Rejected, 1).await.unwrap();
        let (stop, running) = site.start(0);
        site.warm_up().await;
        let own = |body: &[u8]| site.keyring.sign(&instance().into(), Order::DIRECTION, body).unwrap();
        let pack =
            |order: Order| Pack::one(Event::new("/coordinator", order.issued_at, order)).encode().unwrap();
        let good = pack(site.order(1000));
        let changed = |from: &str, to: &str| {
            let text = String::from_utf8(good.body.to_vec()).unwrap();
            assert!(text.contains(from), "{text}");
            bytes::Bytes::from(text.replacen(from, to, 1))
        };
        let strangers = Keyring::generate([instance().into()], &mut rand::rng());
        let foreign = strangers.sign(&instance().into(), Order::DIRECTION, &good.body).unwrap();
        let forged = sexton_protocol::Seal { key_id: own(b"").key_id, mac: foreign.mac.clone() };
        let unsealed = sexton_protocol::Seal { key_id: String::new(), mac: String::new() };
        let answer = site.keyring.sign(&instance().into(), Report::DIRECTION, &good.body).unwrap();
        let nested = bytes::Bytes::from("[".repeat(10_000));
        let field = changed("\"attempt\":0", "\"attempt\":0,\"force\":true");
        let unknown = changed("dev.sexton.order.v1", "dev.sexton.surprise.v1");
        let cases = [
            ("malformed", "", bytes::Bytes::from_static(b"delete everything"), None),
            ("malformed", "", nested, None),
            ("malformed", "force", field, None),
            ("malformed", "type", unknown, None),
            ("unauthenticated", "key", good.body.clone(), Some(unsealed)),
            ("unauthenticated", "key", good.body.clone(), Some(foreign)),
            ("unauthenticated", "does not fit", good.body.clone(), Some(forged)),
            ("unauthenticated", "does not fit", good.body.clone(), Some(answer)),
        ];
        let mut counted = BTreeMap::new();
        for (class, part, body, seal) in cases {
            let seal = seal.unwrap_or_else(|| own(&body));
            let packed = sexton_protocol::Packed { body, ..good.clone() };
            site.publish(Target::Queue(Queue::Orders(instance())), packed, seal).await;
            let delivery = rejected.next().await.unwrap();
            rejected.ack(vec![delivery.tag]).await;
            let shown = Pack::<Rejected>::decode(&delivery.body).unwrap().events.remove(0).data;
            assert!(shown.reason.contains(part), "{class}: {shown:?}");
            assert_eq!(shown.queue, "sexton.orders.backup.main");
            *counted.entry(class).or_insert(0) += 1;
            assert_eq!(site.metrics.counts().rejected, counted);
        }
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 0);
        site.give(vec![site.order(1000)]).await;
        assert!(is_done(&site.outcome().await));
        site.end(stop, running).await;
    })
    .await;
}
