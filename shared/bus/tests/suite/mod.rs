//! What every bus must do, whichever it is.
//!
//! Each test gets a bus of its own with the queues of two instances. Waits for something to arrive are bounded
//! by [`SOON`]; that something does *not* arrive is concluded from what arrives after it, or from the queue's
//! depth.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sexton_bus::{
    Bus, BusError, Delivery, Instance, MAX_BODY_BYTES, MAX_HEADER_BYTES, MAX_PREFETCH, Outgoing,
    PublishError, Queue, Subscription, Tag, Target, Topology,
};

/// Much longer than anything here takes, so that only a bug reaches it.
pub const SOON: Duration = Duration::from_secs(20);

pub const INSTANCES: [&str; 2] = ["hypervisor.main", "dns.main"];

/// One bus, seen by three of its users.
pub struct Setup {
    pub coordinator: Arc<dyn Bus>,
    pub scheduler: Arc<dyn Bus>,
    pub hypervisor: Arc<dyn Bus>,
}

pub fn instance(name: &str) -> Instance {
    name.parse().unwrap()
}

pub fn topology() -> Topology {
    Topology::for_instances(&INSTANCES.map(instance))
}

pub fn orders(name: &str) -> Queue {
    Queue::Orders(instance(name))
}

pub fn message(queue: Queue, text: &str) -> Outgoing {
    to(Target::Queue(queue), text)
}

pub fn to(target: Target, text: &str) -> Outgoing {
    Outgoing {
        target,
        body: text.as_bytes().to_vec().into(),
        key_id: "key-1".to_owned(),
        mac: "proof".to_owned(),
        message_id: format!("id-{text}"),
        ttl: None,
    }
}

pub fn messages(queue: &Queue, numbers: std::ops::Range<usize>) -> Vec<Outgoing> {
    numbers.map(|number| message(queue.clone(), &number.to_string())).collect()
}

pub async fn publish(bus: &Arc<dyn Bus>, messages: Vec<Outgoing>) {
    for result in bus.publish(messages).await {
        result.unwrap();
    }
}

pub fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.body.to_vec()).unwrap()
}

pub fn tags(deliveries: &[Delivery]) -> Vec<Tag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

pub async fn next(subscription: &mut Box<dyn Subscription>) -> Delivery {
    tokio::time::timeout(SOON, subscription.next()).await.expect("a delivery").expect("an open bus")
}

/// Exactly so many, in batches of any size.
pub async fn take(subscription: &mut Box<dyn Subscription>, count: usize) -> Vec<Delivery> {
    let started = Instant::now();
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(started.elapsed() < SOON, "{} of {count} deliveries came", taken.len());
        let left = count - taken.len();
        taken.extend(subscription.next_batch(left, Duration::from_millis(100)).await);
    }
    taken
}

/// A broker tells a queue's depth with a delay and nobody when it has changed: so it is asked, for a bounded time.
/// The one wait of this suite that looks again and again; everything else waits for deliveries.
pub async fn depth_becomes(bus: &Arc<dyn Bus>, queue: &Queue, expected: u64) {
    let started = Instant::now();
    loop {
        let depth = bus.depth(queue).await.unwrap();
        if depth == expected {
            return;
        }
        assert!(started.elapsed() < SOON, "{queue} has {depth} messages, not {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn what_is_published_arrives_as_it_was(setup: &Setup) {
    let mut subscription = setup.hypervisor.consume(&orders("hypervisor.main"), 10).await.unwrap();
    publish(&setup.coordinator, vec![message(orders("hypervisor.main"), "delete")]).await;
    let delivery = next(&mut subscription).await;
    assert_eq!(text(&delivery), "delete");
    assert_eq!(delivery.key_id.as_deref(), Some("key-1"));
    assert_eq!(delivery.mac.as_deref(), Some("proof"));
    assert_eq!(delivery.message_id.as_deref(), Some("id-delete"));
    assert!(!delivery.redelivered);
    subscription.ack(vec![delivery.tag]).await;
    drop(subscription);
    depth_becomes(&setup.coordinator, &orders("hypervisor.main"), 0).await;
    setup.coordinator.healthy().await.unwrap();
}

pub async fn the_publisher_is_stamped(setup: &Setup) {
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    publish(&setup.hypervisor, vec![message(Queue::Outcomes, "done")]).await;
    assert_eq!(next(&mut subscription).await.user_id.as_deref(), Some("hypervisor.main"));
    let mut subscription = setup.coordinator.consume(&Queue::StageDue, 10).await.unwrap();
    publish(&setup.scheduler, vec![message(Queue::StageDue, "due")]).await;
    assert_eq!(next(&mut subscription).await.user_id.as_deref(), Some("scheduler"));
}

pub async fn a_batch_keeps_its_order(setup: &Setup) {
    let count = 1500;
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..count)).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, MAX_PREFETCH).await.unwrap();
    let taken = take(&mut subscription, count).await;
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    assert_eq!(taken.iter().map(text).collect::<Vec<_>>(), expected);
    subscription.ack(tags(&taken)).await;
    drop(subscription);
    depth_becomes(&setup.coordinator, &Queue::Outcomes, 0).await;
}

pub async fn acks_in_any_order_from_any_task_and_twice(setup: &Setup) {
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..100)).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 100).await.unwrap();
    let mut all = tags(&take(&mut subscription, 100).await);
    all.rotate_left(37);
    let acker = subscription.acker();
    let tasks: Vec<_> = all
        .chunks(7)
        .map(|chunk| {
            let (acker, chunk) = (acker.clone(), chunk.to_vec());
            tokio::spawn(async move {
                acker.ack(chunk.clone()).await;
                acker.ack(chunk).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // The channel has survived the repetitions, and all of the prefetch is free again.
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 100..200)).await;
    let taken = take(&mut subscription, 100).await;
    assert!(taken.iter().all(|delivery| !delivery.redelivered));
    subscription.ack(tags(&taken)).await;
    drop(subscription);
    depth_becomes(&setup.coordinator, &Queue::Outcomes, 0).await;
}

pub async fn what_is_nacked_comes_again(setup: &Setup) {
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..3)).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    let first = take(&mut subscription, 3).await;
    subscription.ack(vec![first[0].tag, first[2].tag]).await;
    subscription.nack(vec![first[1].tag]).await;
    let again = next(&mut subscription).await;
    assert_eq!((text(&again), again.redelivered), ("1".to_owned(), true));
    subscription.ack(vec![again.tag]).await;
    drop(subscription);
    depth_becomes(&setup.coordinator, &Queue::Outcomes, 0).await;
}

pub async fn what_was_not_acked_comes_again_after_a_drop(setup: &Setup) {
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..10)).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    let taken = take(&mut subscription, 10).await;
    subscription.ack(tags(&taken[..4])).await;
    let acker = subscription.acker();
    drop(subscription);
    depth_becomes(&setup.coordinator, &Queue::Outcomes, 6).await;
    acker.ack(tags(&taken)).await;

    let mut other = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    let again = take(&mut other, 6).await;
    assert!(again.iter().all(|delivery| delivery.redelivered));
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["4", "5", "6", "7", "8", "9"]);
}

pub async fn the_prefetch_is_a_limit(setup: &Setup) {
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..10)).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 3).await.unwrap();
    let first = take(&mut subscription, 3).await;
    let more = subscription.next_batch(10, Duration::from_millis(200)).await;
    assert!(more.is_empty(), "no more before an ack");
    assert_eq!(setup.coordinator.depth(&Queue::Outcomes).await.unwrap(), 7);
    subscription.ack(tags(&first[..2])).await;
    take(&mut subscription, 2).await;
    let more = subscription.next_batch(10, Duration::from_millis(200)).await;
    assert!(more.is_empty(), "as many as were acked, no more");
}

pub async fn a_prefetch_out_of_bounds_is_refused(setup: &Setup) {
    for prefetch in [0, MAX_PREFETCH + 1] {
        let refused = setup.coordinator.consume(&Queue::Outcomes, prefetch).await.err();
        assert_eq!(refused, Some(BusError::Prefetch { prefetch }));
    }
}

pub async fn competitors_share_a_queue(setup: &Setup) {
    let mut one = setup.coordinator.consume(&Queue::Outcomes, 1).await.unwrap();
    let mut two = setup.coordinator.consume(&Queue::Outcomes, 1).await.unwrap();
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..2)).await;
    let (first, second) = tokio::join!(next(&mut one), next(&mut two));
    let seen = BTreeSet::from([text(&first), text(&second)]);
    assert_eq!(seen, BTreeSet::from(["0".to_owned(), "1".to_owned()]));
}

pub async fn everyone_hears_the_beacon_in_order(setup: &Setup) {
    let mut listeners = Vec::new();
    for bus in [&setup.coordinator, &setup.hypervisor, &setup.hypervisor] {
        listeners.push(bus.consume(&Queue::Beacon, 4).await.unwrap());
    }
    for number in 0..20 {
        publish(&setup.coordinator, vec![to(Target::Beacon, &number.to_string())]).await;
    }
    for listener in &mut listeners {
        // More than the prefetch, without an ack.
        for number in 0..20 {
            assert_eq!(text(&next(listener).await), number.to_string());
        }
    }
    drop(listeners);
    publish(&setup.coordinator, vec![to(Target::Beacon, "to nobody")]).await;
}

pub async fn events_go_to_whoever_asked_for_them(setup: &Setup) {
    let event = |topic: &str| to(Target::Event { topic: topic.to_owned() }, topic);
    let listen = |pattern: &str| Queue::Events { pattern: pattern.to_owned() };
    publish(&setup.coordinator, vec![event("before.anyone.listened")]).await;
    let mut all = setup.coordinator.consume(&listen("#"), 10).await.unwrap();
    let mut done = setup.coordinator.consume(&listen("deletion.*.done"), 10).await.unwrap();
    publish(&setup.coordinator, vec![event("deletion.hard.begun"), event("deletion.hard.done")]).await;
    assert_eq!(text(&next(&mut all).await), "deletion.hard.begun");
    assert_eq!(text(&next(&mut all).await), "deletion.hard.done");
    assert_eq!(text(&next(&mut done).await), "deletion.hard.done");
}

pub async fn what_has_expired_is_not_delivered(setup: &Setup) {
    let mut short = message(Queue::Outcomes, "short-lived");
    short.ttl = Some(Duration::from_millis(50));
    let mut long = message(Queue::Outcomes, "long-lived");
    long.ttl = Some(Duration::from_secs(600));
    publish(&setup.hypervisor, vec![short, long]).await;
    depth_becomes(&setup.coordinator, &Queue::Outcomes, 1).await;
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    assert_eq!(text(&next(&mut subscription).await), "long-lived");
}

pub async fn what_cannot_be_routed_is_reported_among_its_neighbours(setup: &Setup) {
    let known = orders("hypervisor.main");
    let unknown = orders("hypervisor.elsewhere");
    let batch: Vec<Outgoing> = (0..60)
        .map(|number| {
            let queue = if number % 7 == 3 { unknown.clone() } else { known.clone() };
            message(queue, &number.to_string())
        })
        .collect();
    for (number, result) in setup.coordinator.publish(batch).await.into_iter().enumerate() {
        let expected =
            if number % 7 == 3 { Err(PublishError::Unroutable { to: unknown.to_string() }) } else { Ok(()) };
        assert_eq!(result, expected, "message {number}");
    }
    let own = Queue::Events { pattern: "#".to_owned() };
    let result = setup.coordinator.publish(vec![message(own.clone(), "x")]).await;
    assert_eq!(result, [Err(PublishError::Unroutable { to: own.to_string() })]);
    let missing = Some(BusError::NoSuchQueue { queue: unknown.to_string() });
    assert_eq!(setup.coordinator.depth(&unknown).await.err(), missing);
}

pub async fn what_is_too_large_is_refused_among_its_neighbours(setup: &Setup) {
    let sized = |bytes: usize| message(Queue::Outcomes, &"x".repeat(bytes));
    let named = |id: usize, bytes: usize| Outgoing { message_id: format!("{id}"), ..sized(bytes) };
    let mut long_id = named(3, 1);
    long_id.message_id = "i".repeat(MAX_HEADER_BYTES + 1);
    let batch =
        vec![named(0, 1), named(1, MAX_BODY_BYTES + 1), named(2, MAX_BODY_BYTES), long_id, named(4, 1)];
    let results = setup.hypervisor.publish(batch).await;
    assert_eq!(results[0], Ok(()));
    assert_eq!(results[1], Err(PublishError::Oversized { bytes: MAX_BODY_BYTES + 1 }));
    assert_eq!(results[2], Ok(()));
    let header = PublishError::Header { header: "message_id", bytes: MAX_HEADER_BYTES + 1 };
    assert_eq!(results[3], Err(header));
    assert_eq!(results[4], Ok(()));
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    let lengths: Vec<usize> = take(&mut subscription, 3).await.iter().map(|taken| taken.body.len()).collect();
    assert_eq!(lengths, [1, MAX_BODY_BYTES, 1]);
}

pub async fn a_batch_takes_what_is_there_and_waits_no_longer_than_it_may(setup: &Setup) {
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 100).await.unwrap();
    let started = Instant::now();
    assert!(subscription.next_batch(10, Duration::from_secs(3600)).await.is_empty());
    assert!(started.elapsed() < Duration::from_secs(10), "an hour is cut to a second");
    publish(&setup.hypervisor, messages(&Queue::Outcomes, 0..5)).await;
    let started = Instant::now();
    assert_eq!(take(&mut subscription, 3).await.len(), 3, "no more than was asked for");
    assert_eq!(take(&mut subscription, 2).await.len(), 2);
    assert!(started.elapsed() < Duration::from_secs(10), "nothing is waited for that is there");
}

/// A caller that looks in for a moment again and again loses nothing.
pub async fn waiting_can_be_cancelled(setup: &Setup) {
    let mut subscription = setup.coordinator.consume(&Queue::Outcomes, 10).await.unwrap();
    let publisher = Arc::clone(&setup.hypervisor);
    let publishing = tokio::spawn(async move {
        for number in 0..50 {
            publish(&publisher, messages(&Queue::Outcomes, number..number + 1)).await;
        }
    });
    let mut seen = Vec::new();
    let started = Instant::now();
    while seen.len() < 50 {
        assert!(started.elapsed() < SOON);
        if let Ok(delivery) = tokio::time::timeout(Duration::from_micros(300), subscription.next()).await {
            let delivery = delivery.unwrap();
            subscription.ack(vec![delivery.tag]).await;
            seen.push(text(&delivery));
        }
    }
    publishing.await.unwrap();
    assert_eq!(seen, (0..50).map(|number| number.to_string()).collect::<Vec<_>>());
}

/// People read the one queue, coordinators the other: neither takes anything from the other.
pub async fn what_is_rejected_is_copied_for_the_coordinators(setup: &Setup) {
    let mut rejected = setup.coordinator.consume(&Queue::Rejected, 10).await.unwrap();
    let mut canaries = setup.coordinator.consume(&Queue::Canaries, 10).await.unwrap();
    publish(&setup.hypervisor, messages(&Queue::Rejected, 0..2)).await;
    for from in [&mut rejected, &mut canaries] {
        for expected in ["0", "1"] {
            let delivery = next(from).await;
            assert_eq!(
                (text(&delivery).as_str(), delivery.user_id.as_deref()),
                (expected, Some("hypervisor.main"))
            );
            from.ack(vec![delivery.tag]).await;
        }
    }
    let results = setup.coordinator.publish(vec![message(Queue::Canaries, "x")]).await;
    assert!(matches!(results[0], Err(PublishError::Unroutable { .. })), "{results:?}");
}
