//! Whether it is ready, and how it says that it lives.
use std::sync::Arc;

use sexton_bus::{Bus, Queue};
use sexton_consumer::Condition;
use sexton_protocol::{Message, Pack, Pulse};
use sexton_service::Watched;

use crate::site::{Site, in_time, instance};

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
