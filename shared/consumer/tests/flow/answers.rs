//! Each order is answered once it is carried out, and acked only then.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sexton_bus::{Bus, Queue};
use sexton_consumer::Options;
use sexton_model::catalogue::Nature;
use sexton_model::job::{JobKind, Stage};
use sexton_model::step::{Mode, Outcome};
use sexton_protocol::{Check, Order, Pack, Rejected};
use sexton_testkit::clock::ManualClock;

use crate::site::{Site, in_time, is_done};

#[tokio::test]
async fn an_order_is_performed_answered_and_acked_though_confirms_are_lost() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(4).await;
        site.beacon().await;
        site.give(vec![site.order(1000)]).await;
        // Twice it arrives although the confirm is lost, the third time it is confirmed.
        for _ in 0..3 {
            assert!(is_done(&site.outcome().await));
        }
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 1);
        assert_eq!(site.metrics.counts().republished, 4);
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn a_consumer_that_dies_after_the_effect_loses_nothing() {
    in_time(async {
        let site = Site::new().await;
        let (_, running) = site.start(0).await;
        site.beacon().await;
        site.archive.hangs.store(1, Ordering::SeqCst);
        site.give(vec![site.order(1000)]).await;
        site.archive.began.notified().await;
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());

        let (stop, running) = site.start(0).await;
        site.beacon().await;
        assert!(is_done(&site.outcome().await));
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 1, "gone already, so not performed again");
        site.end(stop, running).await;
    })
    .await;
}

#[tokio::test]
async fn what_can_never_be_carried_out_here_is_refused() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0).await;
        site.beacon().await;
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
        let (stop, running) = site.start(0).await;
        site.beacon().await;
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
        let (stop, running) = site.start(0).await;
        site.beacon().await;
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

/// Nobody was there in time. How long the broker keeps it for whoever comes late, the coordinator says.
#[tokio::test]
async fn what_expired_before_anybody_came_is_shown_and_counted_and_not_carried_out() {
    in_time(async {
        let clock = Arc::<ManualClock>::default();
        let site = Site::with(clock.clone(), Options { linger_ms: 0, ..Options::default() }).await;
        let mut rejected = site.local.consume(&Queue::Rejected, 1).await.unwrap();
        site.give(vec![site.order(1000)]).await;
        clock.advance(60_000);
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let delivery = rejected.next().await.unwrap();
        let shown = Pack::<Rejected>::decode(&delivery.body).unwrap().events.remove(0).data;
        assert_eq!(shown.check, Some(Check::Expired));
        assert!(shown.reason.starts_with("0 ms after its deadline"), "{shown:?}");
        assert_eq!(site.metrics.counts().rejected["expired"], 1);
        assert_eq!(site.archive.performed.load(Ordering::SeqCst), 0);
        // What is ordered in its place is carried out.
        site.give(vec![site.order(1001)]).await;
        assert!(is_done(&site.outcome().await));
        site.end(stop, running).await;
    })
    .await;
}
