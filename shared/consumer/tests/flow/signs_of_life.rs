//! Whether it is ready, how it says that it lives, and what it makes of what is no beacon.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use sexton_bus::{Bus, Queue, Subscription, Target};
use sexton_consumer::{Clock, Condition, ConsumerError, Options};
use sexton_model::beacon::Beacon;
use sexton_protocol::{
    BeaconSigner, Broadcast, Check, Direction, Event, Extension, Message, Pack, Packed, Pulse, Rejected, Seal,
};
use sexton_service::Watched;
use sexton_testkit::clock::ManualClock;

use crate::noted::Asked;
use crate::site::{Site, in_time, instance, is_done};

#[tokio::test]
async fn it_is_ready_once_a_beacon_was_heard_and_not_after_the_bus_was_closed() {
    in_time(async {
        let site = Site::new().await;
        let bus: Arc<dyn Bus> = Arc::new(site.local.clone());
        let condition = Condition { instance: instance(), metrics: site.metrics.clone(), bus, sandbox: None };
        let (_, running) = site.start(0).await;
        let unheard = condition.hindered().await;
        assert!(unheard[0].contains("backup.main: no beacon was heard yet"), "{unheard:?}");
        site.beacon().await;
        assert_eq!(condition.hindered().await, Vec::<String>::new());
        site.local.close();
        let closed = condition.hindered().await;
        assert_eq!(closed, ["backup.main: the bus is closed"]);
        running.abort();
    })
    .await;
}

#[tokio::test]
async fn it_neither_pulses_nor_takes_orders_before_it_has_heard_a_beacon() {
    in_time(async {
        let site = Site::new().await;
        site.give(vec![site.order(1000)]).await;
        let (stop, running) = site.start(0).await;
        // One that no coordinator has signed is none.
        let listens = site.notes.beacons();
        let beacon = Beacon { epoch: 1, revision: 7, read_at: site.clock.now() };
        site.say_as(&BeaconSigner::generate("test", &mut rand::rng()), beacon.into()).await;
        site.notes.until_beacons_exceed(listens).await;
        let waits = [Asked::Subscribe(Queue::Beacon), Asked::NextBeacon, Asked::NextBeacon];
        assert_eq!(site.notes.all(), waits);
        site.beacon().await;
        let orders = Asked::Subscribe(Queue::Orders(instance()));
        assert_eq!(site.notes.all()[waits.len()], orders, "{:?}", site.notes.all());
        assert!(is_done(&site.outcome().await), "it was answered before it could be carried out");
        assert_eq!(site.metrics.counts().spared, 0);
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn it_can_be_stopped_while_it_waits_for_its_first_beacon() {
    in_time(async {
        let site = Site::new().await;
        site.give(vec![site.order(1000)]).await;
        let (stop, running) = site.start(0).await;
        stop.cancel();
        running.await.unwrap().unwrap();
        let left = site.local.depth(&Queue::Orders(instance())).await.unwrap();
        assert_eq!(left, 1, "the order is for somebody else");

        let (_, running) = site.start(0).await;
        site.local.close();
        assert!(matches!(running.await.unwrap(), Err(ConsumerError::Closed)));
    })
    .await;
}

#[tokio::test]
async fn it_pulses_under_its_own_key() {
    in_time(async {
        let site = Site::new().await;
        let mut pulses = site.local.consume(&Queue::Pulses, 1).await.unwrap();
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let delivery = pulses.next().await.unwrap();
        let (key, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        site.keyring.verify(&instance().into(), Pulse::DIRECTION, &delivery.body, key, mac).unwrap();
        let pulse = &Pack::<Pulse>::decode(&delivery.body).unwrap().events[0].data;
        assert_eq!((pulse.instance.clone(), pulse.version.as_str()), (instance(), "1.2.3"));
        assert_eq!((pulse.concurrency, pulse.answered), (16, 0));
        site.end(stop, running).await;
    })
    .await;
}

impl Site {
    /// Somebody says this on the beacon's exchange, under the id of an order; the consumer has heard it when this returns.
    async fn hear_body(&self, body: Bytes, seal: Seal) {
        let before = self.notes.beacons();
        let packed = Packed { body, message_id: "order-1:1000".into(), events: 1 };
        self.publish(Target::Beacon, packed, seal).await;
        self.notes.until_beacons_exceed(before).await;
    }
}

async fn next_shown(rejected: &mut Box<dyn Subscription>) -> Rejected {
    let delivery = rejected.next().await.unwrap();
    rejected.ack(vec![delivery.tag]).await;
    Pack::<Rejected>::decode(&delivery.body).unwrap().events.remove(0).data
}

#[tokio::test]
async fn what_is_no_beacon_is_counted_each_time_and_shown_once_a_minute_and_stops_nothing() {
    in_time(async {
        let clock = Arc::<ManualClock>::default();
        let site = Site::with(clock.clone(), Options { linger_ms: 0, ..Options::default() }).await;
        let mut rejected = site.local.consume(&Queue::Rejected, 10).await.unwrap();
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let body =
            |what: Broadcast| Pack::one(Event::new("/coordinator", clock.now(), what)).encode().unwrap().body;
        // Believed, it would pause everything.
        let pause = body(Beacon { epoch: 1, revision: 99, read_at: clock.now() }.into());
        let order = site.order(1000);
        let (job, fence) = (order.job, order.fence);
        let extension =
            body(Extension { job, fence, nonce: 1, deadline: order.deadline.plus_ms(60_000) }.into());
        let text = String::from_utf8(pause.to_vec()).unwrap();
        let unknown = Bytes::from(text.replacen("dev.sexton.beacon.v1", "dev.sexton.surprise.v1", 1));
        assert_ne!(unknown, pause);
        let malformed = Bytes::from_static(b"stop everything");
        let large = Bytes::from(vec![b' '; Broadcast::PACK_MAX_BYTES + 1]);
        let stranger = BeaconSigner::generate("test", &mut rand::rng());
        let own = |body: &Bytes| site.signer.sign(Direction::Beacon, body);
        let bad = [
            (malformed.clone(), own(&malformed)),
            (unknown.clone(), own(&unknown)),
            (pause.clone(), stranger.sign(Direction::Beacon, &pause)),
            (extension.clone(), stranger.sign(Direction::Beacon, &extension)),
            (pause.clone(), site.signer.sign(Direction::Event, &pause)),
            (pause.clone(), Seal { key_id: String::new(), mac: String::new() }),
            (large.clone(), own(&large)),
        ];
        for (count, (body, seal)) in (1_u64..).zip(bad) {
            site.hear_body(body, seal).await;
            assert_eq!(site.metrics.counts().rejected, BTreeMap::from([("beacon", count)]));
        }
        let mut shown = BTreeSet::new();
        for _ in 0..3 {
            let Rejected { check, queue, message_id, .. } = next_shown(&mut rejected).await;
            assert_eq!(
                (queue.as_str(), message_id),
                ("sexton.beacon", None),
                "it is no order that was rejected"
            );
            shown.insert(check.map(Check::word));
        }
        assert_eq!(shown, BTreeSet::from(["malformed", "unauthenticated", "oversized"].map(Some)));
        assert_eq!(site.local.depth(&Queue::Rejected).await.unwrap(), 0, "of each check only the first");
        site.give(vec![order]).await;
        assert!(is_done(&site.outcome().await));

        clock.advance(60_000);
        site.beacon().await;
        site.hear_body(malformed.clone(), own(&malformed)).await;
        assert_eq!(next_shown(&mut rejected).await.check, Some(Check::Malformed));
        site.end(stop, running).await;
    })
    .await;
}
