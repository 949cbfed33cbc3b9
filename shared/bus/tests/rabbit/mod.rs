//! What only a real broker shows: its rights, its own checks, and its death.
//!
//! The tests with a restart start a broker of their own in a folder below `SEXTON_TEST_RABBIT_DIR`, with
//! `scripts/components/rabbitmq`, so that they disturb no others.
mod pipelined;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use sexton_bus::rabbit::{Rabbit, RabbitOptions};
use sexton_bus::topology::Exchange;
use sexton_bus::{Bus, BusError, Outgoing, PublishError, Queue, Subscription, Target};
use tokio::process::Command;
use tokio::sync::{mpsc, oneshot};

use crate::broker::{Keeper, begin};
use crate::suite::{SOON, message, messages, next, orders, publish, tags, text, to, topology};

fn is_refused(result: &Result<(), PublishError>) -> bool {
    matches!(result, Err(PublishError::Refused { .. }))
}

#[tokio::test]
async fn an_instance_reads_its_own_orders_only() {
    let (keeper, setup) = begin().await;
    let others = [
        orders("dns.main"),
        Queue::Outcomes,
        Queue::StageDue,
        Queue::Pulses,
        Queue::Rejected,
        Queue::Canaries,
    ];
    for queue in others.into_iter().chain([Queue::Events { pattern: "#".to_owned() }]) {
        let error = setup.hypervisor.consume(&queue, 1).await.err();
        assert!(matches!(error, Some(BusError::Refused { .. })), "{queue}: {error:?}");
    }
    setup.hypervisor.consume(&orders("hypervisor.main"), 1).await.unwrap();
    setup.hypervisor.consume(&Queue::Beacon, 1).await.unwrap();
    for queue in [Queue::StageDue, Queue::Outcomes, Queue::Beacon] {
        assert!(setup.scheduler.consume(&queue, 1).await.is_err(), "{queue}");
    }
    drop(setup);
    keeper.end().await;
}

#[tokio::test]
async fn an_instance_answers_and_gives_no_orders() {
    let (keeper, setup) = begin().await;
    for queue in [Queue::Outcomes, Queue::Pulses, Queue::Rejected] {
        publish(&setup.hypervisor, vec![message(queue, "x")]).await;
    }
    let event = Target::Event { topic: "x".to_owned() };
    let refused = [orders("dns.main"), orders("hypervisor.main"), Queue::StageDue]
        .map(Target::Queue)
        .into_iter()
        .chain([Target::Beacon, event]);
    for target in refused {
        let results = setup.hypervisor.publish(vec![to(target.clone(), "x")]).await;
        assert!(is_refused(&results[0]), "{target}: {results:?}");
    }
    publish(&setup.scheduler, vec![message(Queue::StageDue, "x")]).await;
    let results = setup.scheduler.publish(vec![message(Queue::Outcomes, "x")]).await;
    assert!(is_refused(&results[0]), "{results:?}");
    drop(setup);
    keeper.end().await;
}

/// It gives orders and reads answers. A coordinator that was taken over carries nobody's orders off, and answers for
/// nobody. What it can do is to throw orders away.
#[tokio::test]
async fn a_coordinator_takes_no_orders_and_answers_for_nobody() {
    let (keeper, setup) = begin().await;
    for queue in [orders("hypervisor.main"), orders("dns.main")] {
        let error = setup.coordinator.consume(&queue, 1).await.err();
        assert!(matches!(error, Some(BusError::Refused { .. })), "{queue}: {error:?}");
    }
    for queue in [Queue::Outcomes, Queue::Pulses, Queue::StageDue] {
        let results = setup.coordinator.publish(vec![message(queue.clone(), "x")]).await;
        assert!(is_refused(&results[0]), "{queue}: {results:?}");
    }
    let (_connection, channel) = raw_channel(&keeper, "coordinator").await;
    assert!(raw_publish(&channel, "", "sexton.outcomes", "coordinator").await.is_err());
    // What is its part, it may.
    let event = Target::Event { topic: "x".to_owned() };
    let own = [Target::Queue(orders("dns.main")), Target::Queue(Queue::Rejected), Target::Beacon, event];
    publish(&setup.coordinator, own.into_iter().map(|target| to(target, "x")).collect()).await;
    for queue in [Queue::Outcomes, Queue::StageDue, Queue::Pulses, Queue::Rejected, Queue::Canaries] {
        setup.coordinator.consume(&queue, 1).await.unwrap();
    }
    // Whoever may declare a queue may delete it.
    let (_connection, channel) = raw_channel(&keeper, "coordinator").await;
    let queue = orders("dns.main").to_string();
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
    drop(setup);
    keeper.end().await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_is_named() {
    let keeper = Keeper::from_environment().await;
    let unknown = orders("hypervisor.elsewhere");
    let missing = BusError::NoSuchQueue { queue: unknown.to_string() };
    let all = Rabbit::connect(RabbitOptions::new(keeper.administrator())).await.unwrap();
    assert_eq!(all.consume(&unknown, 1).await.err(), Some(missing));
    drop(all);
    keeper.end().await;
}

/// A queue that takes no more says so to who publishes, and goes on when there is room. Its limit is lowered here by a
/// policy; what it does then is what it was declared with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses() {
    let (keeper, setup) = begin().await;
    let queue = orders("hypervisor.main");
    let short = r#"{"pattern":"^sexton\\.orders\\.","definition":{"max-length":10},"apply-to":"queues"}"#;
    let path = format!("policies/{}/short", keeper.vhost);
    keeper.call(reqwest::Method::PUT, &path, Some(short.to_owned())).await;
    let full = PublishError::Full { to: queue.to_string() };
    // A policy takes a moment, and a quorum queue notices a moment late that it is full.
    let started = Instant::now();
    let mut confirmed = 0;
    loop {
        assert!(started.elapsed() < SOON, "{confirmed} messages were taken");
        match setup.coordinator.publish(messages(&queue, confirmed..confirmed + 1)).await.remove(0) {
            Ok(()) => confirmed += 1,
            Err(refused) => {
                assert_eq!(refused, full);
                break;
            }
        }
    }
    let mut subscription = setup.hypervisor.consume(&queue, 100).await.unwrap();
    let mut seen = BTreeSet::new();
    received_until(&mut subscription, &mut seen, |seen| seen.len() >= confirmed).await;
    assert_eq!(
        seen,
        (0..confirmed).collect::<BTreeSet<usize>>(),
        "what was confirmed is there, and what was refused is not"
    );
    let started = Instant::now();
    while setup.coordinator.publish(messages(&queue, confirmed..confirmed + 1)).await != [Ok(())] {
        assert!(started.elapsed() < SOON, "there is room, but nothing is taken");
    }
    drop((setup, subscription));
    keeper.end().await;
}

/// The broker ends the channel over a refused message, and with it the confirms of all others.
#[tokio::test]
async fn a_refused_message_harms_no_neighbour() {
    let (keeper, setup) = begin().await;
    let batch: Vec<Outgoing> = (0..40)
        .map(|number| {
            let queue = if number == 17 { orders("dns.main") } else { Queue::Outcomes };
            message(queue, &number.to_string())
        })
        .collect();
    for (number, result) in setup.hypervisor.publish(batch).await.iter().enumerate() {
        assert_eq!(is_refused(result), number == 17, "message {number}: {result:?}");
    }
    let mut outcomes = setup.coordinator.consume(&Queue::Outcomes, 100).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 39 {
        let delivery = next(&mut outcomes).await;
        seen.insert(text(&delivery));
    }
    drop((setup, outcomes));
    keeper.end().await;
}

async fn raw_channel(keeper: &Keeper, user: &str) -> (Connection, Channel) {
    let connection = Connection::connect(&keeper.url(user), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

async fn raw_publish(channel: &Channel, exchange: &str, key: &str, user: &str) -> Result<(), lapin::Error> {
    let properties = BasicProperties::default().with_user_id(user.into());
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange.into(), key.into(), options, b"forged", properties).await?.await?;
    Ok(())
}

#[tokio::test]
async fn tools_at_the_broker_see_what_a_body_is() {
    let (keeper, setup) = begin().await;
    publish(&setup.hypervisor, vec![message(Queue::Outcomes, "x")]).await;
    let (_connection, channel) = raw_channel(&keeper, "coordinator").await;
    let get = BasicGetOptions { no_ack: true };
    let got = channel.basic_get("sexton.outcomes".into(), get).await.unwrap().unwrap();
    let said = got.delivery.properties.content_type().as_ref().map(|text| text.as_str().to_owned());
    assert_eq!(said.as_deref(), Some("application/cloudevents-batch+json"));
    drop(setup);
    keeper.end().await;
}

#[tokio::test]
async fn a_forged_user_is_refused() {
    let (keeper, setup) = begin().await;
    let outcomes = format!("{}outcomes", Exchange::SEND);
    let (_connection, channel) = raw_channel(&keeper, "hypervisor.main").await;
    raw_publish(&channel, &outcomes, "", "hypervisor.main").await.unwrap();
    let error = raw_publish(&channel, &outcomes, "", "dns.main").await.unwrap_err();
    assert!(error.to_string().contains("user_id"), "{error}");
    drop(setup);
    keeper.end().await;
}

/// The broker checks a name that is given and asks for none: who reads sees that nobody vouches for it.
#[tokio::test]
async fn a_missing_user_stays_missing() {
    let (keeper, setup) = begin().await;
    let mut outcomes = setup.coordinator.consume(&Queue::Outcomes, 1).await.unwrap();
    let (_connection, channel) = raw_channel(&keeper, "hypervisor.main").await;
    let exchange = format!("{}outcomes", Exchange::SEND);
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let none = BasicProperties::default();
    channel
        .basic_publish(exchange.as_str().into(), "".into(), options, b"by nobody", none)
        .await
        .unwrap()
        .await
        .unwrap();
    let delivery = next(&mut outcomes).await;
    assert_eq!((text(&delivery).as_str(), delivery.user_id.as_deref()), ("by nobody", None));
    drop((setup, outcomes));
    keeper.end().await;
}

/// Ways around the exchanges: the default one, binding queues, declaring them.
#[tokio::test]
async fn there_is_no_way_around_the_exchanges() {
    let (keeper, setup) = begin().await;
    let user = "hypervisor.main";
    let (_connection, channel) = raw_channel(&keeper, user).await;
    assert!(raw_publish(&channel, "", "sexton.orders.dns.main", user).await.is_err());

    let (_connection, channel) = raw_channel(&keeper, user).await;
    let bound = channel.queue_bind(
        "sexton.outcomes".into(),
        Exchange::BEACON.into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    assert!(bound.await.is_err());

    for name in ["sexton.orders.dns.main", "sexton.beacon.dns.main.0123456789abcdef", "anything"] {
        let (_connection, channel) = raw_channel(&keeper, user).await;
        let options = QueueDeclareOptions::default();
        assert!(channel.queue_declare(name.into(), options, FieldTable::default()).await.is_err(), "{name}");
    }
    drop(setup);
    keeper.end().await;
}

#[tokio::test]
async fn a_wrong_password_is_told_at_once() {
    let keeper = Keeper::from_environment().await;
    let url = format!("amqp://coordinator:wrong@{}/{}", keeper.host, keeper.vhost);
    let started = Instant::now();
    let error = Rabbit::connect(RabbitOptions::new(url)).await.err();
    assert!(matches!(error, Some(BusError::Refused { .. })), "{error:?}");
    assert!(started.elapsed() < RabbitOptions::TIMEOUT);
    let error = Rabbit::connect(RabbitOptions::new("http://x")).await.err();
    assert!(matches!(error, Some(BusError::Address { .. })), "{error:?}");
    keeper.end().await;
}

/// What the coordinator declares on connecting is what the definitions say, or the broker would refuse it.
#[tokio::test]
async fn declaring_agrees_with_the_definitions() {
    let keeper = Keeper::from_environment().await;
    let options = RabbitOptions { declare: Some(topology()), ..keeper.options("coordinator") };
    Rabbit::connect(options).await.unwrap().healthy().await.unwrap();
    // A consumer may not, and says so.
    let options = RabbitOptions { declare: Some(topology()), ..keeper.options("dns.main") };
    assert!(matches!(Rabbit::connect(options).await.err(), Some(BusError::Refused { .. })));
    keeper.end().await;
}

#[tokio::test]
async fn closing_ends_everything() {
    let keeper = Keeper::from_environment().await;
    let rabbit = keeper.connect("coordinator").await;
    let mut waiting = rabbit.consume(&Queue::Outcomes, 1).await.unwrap();
    rabbit.close();
    assert!(tokio::time::timeout(SOON, waiting.next()).await.unwrap().is_none());
    assert!(waiting.next().await.is_none());
    assert_eq!(rabbit.publish(messages(&Queue::Outcomes, 0..1)).await, [Err(PublishError::Closed)]);
    assert_eq!(rabbit.consume(&Queue::Outcomes, 1).await.err(), Some(BusError::Closed));
    keeper.end().await;
}

/// A broker of this test alone.
struct OwnBroker {
    folder: String,
    script: &'static str,
}

impl OwnBroker {
    async fn start(name: &str) -> (Self, Keeper) {
        let folder = std::env::var("SEXTON_TEST_RABBIT_DIR").expect(
            "SEXTON_TEST_RABBIT_DIR is not set: name a folder below which a broker may be started and killed",
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/components/rabbitmq");
        let own = Self { folder: format!("{folder}/{name}"), script };
        let variables = own.run("up").await;
        let value = |name: &str| {
            let line = variables.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.unwrap_or_else(|| panic!("no {name} in {variables}")).trim_matches('\'').to_owned()
        };
        let keeper = Keeper::new(&value("AMQP_URL"), &value("RABBIT_MGMT_URL")).await;
        (own, keeper)
    }

    /// What `rabbitmqctl` does for this broker.
    async fn ctl(&self, arguments: &[&str]) {
        let output =
            Command::new(format!("{}/rabbitmqctl", self.folder)).args(arguments).output().await.unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn run(&self, verb: &str) -> String {
        let output = Command::new(self.script).arg(verb).arg(&self.folder).output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{} {verb} {}: {errors}", self.script, self.folder);
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Publishes numbered messages, one after the other, until told to stop; each until it is confirmed. Says
/// every number that was.
async fn publish_until(bus: Arc<dyn Bus>, mut stop: oneshot::Receiver<()>, confirmed: mpsc::Sender<usize>) {
    for number in 0.. {
        if stop.try_recv().is_ok() {
            return;
        }
        while bus.publish(messages(&Queue::Outcomes, number..number + 1)).await != [Ok(())] {}
        confirmed.send(number).await.unwrap();
    }
}

async fn received_until(
    subscription: &mut Box<dyn Subscription>,
    seen: &mut BTreeSet<usize>,
    enough: impl Fn(&BTreeSet<usize>) -> bool,
) {
    let started = Instant::now();
    while !enough(seen) {
        assert!(started.elapsed() < Duration::from_secs(120), "{} messages arrived", seen.len());
        let batch = subscription.next_batch(100, Duration::from_millis(5)).await;
        seen.extend(batch.iter().map(|delivery| text(delivery).parse::<usize>().unwrap()));
        subscription.ack(tags(&batch)).await;
    }
}

/// Everything that was confirmed arrives, though the broker is killed in between; nobody has to do anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publisher_and_subscribers_survive_the_brokers_death() {
    let (own, keeper) = OwnBroker::start("restart").await;
    let setup = keeper.setup().await;
    let mut outcomes = setup.coordinator.consume(&Queue::Outcomes, 100).await.unwrap();
    let mut beacon = setup.hypervisor.consume(&Queue::Beacon, 10).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let (confirmed, mut confirms) = mpsc::channel(1 << 20);
    let publisher = tokio::spawn(publish_until(Arc::clone(&setup.hypervisor), stopped, confirmed));

    let mut seen = BTreeSet::new();
    received_until(&mut outcomes, &mut seen, |seen| seen.len() >= 200).await;
    let before = next(&mut outcomes).await;
    own.run("kill").await;
    // A publisher is told within its limit, and the outage is visible.
    let started = Instant::now();
    let results = setup.coordinator.publish(vec![to(Target::Beacon, "into the void")]).await;
    assert!(matches!(results[0], Err(PublishError::Unconfirmed { .. })), "{results:?}");
    assert!(started.elapsed() < RabbitOptions::TIMEOUT + Duration::from_secs(2));
    assert!(setup.coordinator.healthy().await.is_err());

    own.run("up").await;
    let reached = seen.len() + 200;
    received_until(&mut outcomes, &mut seen, |seen| seen.len() >= reached).await;
    // A tag from before the outage is void: its message has come again, and acking it harms nothing.
    outcomes.ack(vec![before.tag]).await;
    stop.send(()).unwrap();
    publisher.await.unwrap();
    let mut published = BTreeSet::new();
    while let Some(number) = confirms.recv().await {
        published.insert(number);
    }
    received_until(&mut outcomes, &mut seen, |seen| published.is_subset(seen)).await;
    assert!(seen.contains(&text(&before).parse().unwrap()));

    beacon_is_heard_again(&setup.coordinator, &mut beacon).await;
    setup.coordinator.healthy().await.unwrap();
    drop((setup, outcomes, beacon));
    own.run("down").await;
}

/// A broker that is short of memory takes nothing, and says nothing: publishers are told within their limit, and
/// go on when it does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_broker_is_waited_for_and_gets_no_repeats() {
    let (own, keeper) = OwnBroker::start("memory").await;
    let setup = keeper.setup().await;
    let mut outcomes = setup.coordinator.consume(&Queue::Outcomes, 100).await.unwrap();
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..1)).await;
    own.ctl(&["set_vm_memory_high_watermark", "0.0000001"]).await;
    // The alarm takes a moment: until then messages pass.
    let mut passed = 1;
    while setup.hypervisor.publish(messages(&Queue::Outcomes, passed..passed + 1)).await == [Ok(())] {
        passed += 1;
    }
    assert!(matches!(setup.hypervisor.healthy().await, Err(BusError::Blocked)));
    // Not one of these is even kept.
    for _ in 0..3 {
        let started = Instant::now();
        let results = setup.hypervisor.publish(messages(&Queue::Outcomes, 9_000..9_100)).await;
        assert!(results.iter().all(|r| matches!(r, Err(PublishError::Unconfirmed { .. }))), "{results:?}");
        assert!(started.elapsed() < RabbitOptions::TIMEOUT + Duration::from_secs(2));
    }
    own.ctl(&["set_vm_memory_high_watermark", "0.6"]).await;
    let last = 9_999;
    while setup.hypervisor.publish(messages(&Queue::Outcomes, last..last + 1)).await != [Ok(())] {}
    let mut seen = BTreeSet::new();
    received_until(&mut outcomes, &mut seen, |seen| seen.contains(&last)).await;
    assert!(!seen.iter().any(|number| (9_000..9_100).contains(number)), "{seen:?}");
    drop((setup, outcomes));
    own.run("down").await;
}

/// Beacons are sent every second; a listener that was away hears the next ones.
async fn beacon_is_heard_again(coordinator: &Arc<dyn Bus>, beacon: &mut Box<dyn Subscription>) {
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < Duration::from_secs(60));
        publish(coordinator, vec![to(Target::Beacon, "back")]).await;
        let heard = beacon.next_batch(10, Duration::from_millis(500)).await;
        if heard.iter().any(|delivery| text(delivery) == "back") {
            return;
        }
    }
}
