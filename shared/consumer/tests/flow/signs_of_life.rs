//! Whether it is ready, and how it says that it lives.
use std::sync::Arc;

use sexton_bus::{Bus, Queue};
use sexton_consumer::{Condition, ConsumerError};
use sexton_model::beacon::Beacon;
use sexton_protocol::{BeaconSigner, Message, Pack, Pulse};
use sexton_service::Watched;

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
