//! One suite, both buses: `local` and, with feature `real-servers`, `real`; see `broker` for what that needs.
//! What only RabbitMQ can show is in `rabbit`.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#[cfg(feature = "real-servers")]
mod broker;
#[cfg(feature = "real-servers")]
mod rabbit;
mod suite;

/// A test of each name for one footing; `$begin` makes what keeps the setup and the setup.
macro_rules! conformance {
    ($begin:path: $($name:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (keeper, setup) = $begin().await;
                super::suite::$name(&setup).await;
                drop(setup);
                keeper.end().await;
            }
        )*
    };
    ($begin:path) => {
        conformance! { $begin:
            what_is_published_arrives_as_it_was,
            the_publisher_is_stamped,
            a_batch_keeps_its_order,
            acks_in_any_order_from_any_task_and_twice,
            what_is_nacked_comes_again,
            what_was_not_acked_comes_again_after_a_drop,
            the_prefetch_is_a_limit,
            a_prefetch_out_of_bounds_is_refused,
            competitors_share_a_queue,
            everyone_hears_the_beacon_in_order,
            events_go_to_whoever_asked_for_them,
            what_has_expired_is_not_delivered,
            what_is_rejected_is_copied_for_the_coordinators,
            what_cannot_be_routed_is_reported_among_its_neighbours,
            what_is_too_large_is_refused_among_its_neighbours,
            a_batch_takes_what_is_there_and_waits_no_longer_than_it_may,
            waiting_can_be_cancelled,
        }
    };
}

mod local {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use sexton_bus::local::Local;
    use sexton_bus::topology::Limits;
    use sexton_bus::{Bus, BusError, PublishError, Queue, Subscription};

    use crate::suite::{Setup, message, messages, orders, publish, topology};

    struct Keeper(Local);

    impl Keeper {
        async fn end(self) {
            self.0.close();
        }
    }

    async fn begin() -> (Keeper, Setup) {
        let local = Local::with_topology(topology());
        let setup = Setup {
            coordinator: Arc::new(local.clone()),
            scheduler: local.as_user("scheduler"),
            hypervisor: local.as_user("hypervisor.main"),
        };
        (Keeper(local), setup)
    }

    conformance!(begin);

    #[tokio::test]
    async fn without_a_topology_every_instance_has_a_queue() {
        let local = Local::new();
        assert_eq!(local.publish(vec![message(orders("hook.anywhere"), "x")]).await, [Ok(())]);
        assert_eq!(local.depth(&orders("hook.anywhere")).await, Ok(1));
    }

    #[tokio::test]
    async fn messages_expire_by_the_clock_that_it_was_given() {
        let now_s = Arc::new(AtomicU64::new(7));
        let clock = Arc::clone(&now_s);
        let now = Arc::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)));
        let bus: Arc<dyn Bus> = Arc::new(Local::by(now, topology()));
        let lasting = |text: &str, s: u64| {
            let mut message = message(Queue::Outcomes, text);
            message.ttl = Some(Duration::from_secs(s));
            message
        };
        publish(&bus, vec![lasting("short", 1), lasting("long", 600)]).await;
        assert_eq!(bus.depth(&Queue::Outcomes).await, Ok(2), "however long that took");
        now_s.store(8, Ordering::SeqCst);
        assert_eq!(bus.depth(&Queue::Outcomes).await, Ok(1));
        let mut outcomes = bus.consume(&Queue::Outcomes, 1).await.unwrap();
        assert_eq!(outcomes.next().await.unwrap().body.as_ref(), b"long");

        let limit_s = Limits::of(&Queue::Pulses).ttl.unwrap().as_secs();
        publish(&bus, messages(&Queue::Pulses, 0..1)).await;
        now_s.store(7 + limit_s, Ordering::SeqCst);
        assert_eq!(bus.depth(&Queue::Pulses).await, Ok(1), "a second too early");
        now_s.store(8 + limit_s, Ordering::SeqCst);
        assert_eq!(bus.depth(&Queue::Pulses).await, Ok(0));
    }

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_named() {
        let (_keeper, setup) = begin().await;
        let unknown = orders("hypervisor.elsewhere");
        let missing = BusError::NoSuchQueue { queue: unknown.to_string() };
        assert_eq!(setup.coordinator.consume(&unknown, 1).await.err(), Some(missing));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_or_forgets() {
        let bus: Arc<dyn Bus> = Arc::new(Local::new());
        let orders = orders("hook.main");
        let limit = Limits::of(&orders).length as usize;
        publish(&bus, messages(&orders, 0..limit)).await;
        let full = PublishError::Full { to: orders.to_string() };
        assert_eq!(bus.publish(messages(&orders, 0..1)).await, [Err(full)]);

        let limit = Limits::of(&Queue::Pulses).length as usize;
        publish(&bus, messages(&Queue::Pulses, 0..limit + 5)).await;
        assert_eq!(bus.depth(&Queue::Pulses).await, Ok(limit as u64));
        let mut pulses = bus.consume(&Queue::Pulses, 1).await.unwrap();
        assert_eq!(pulses.next().await.unwrap().body.as_ref(), b"5", "the oldest went");
    }

    #[tokio::test]
    async fn closing_ends_everything() {
        let local = Local::new();
        let mut waiting = local.consume(&Queue::Outcomes, 1).await.unwrap();
        let closer = local.clone();
        let (ended, ()) = tokio::join!(waiting.next(), async { closer.close() });
        assert!(ended.is_none());
        let ended: Vec<_> = waiting.next_batch(1, Duration::from_millis(10)).await;
        assert!(ended.is_empty());
        assert_eq!(local.publish(messages(&Queue::Outcomes, 0..1)).await, [Err(PublishError::Closed)]);
        assert!(local.healthy().await.is_err());
        fn is_send<T: Send + ?Sized>() {}
        is_send::<dyn Subscription>();
    }
}

#[cfg(feature = "real-servers")]
mod real {
    use crate::broker::begin;

    conformance!(begin);
}
