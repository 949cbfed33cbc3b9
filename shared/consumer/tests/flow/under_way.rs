//! What comes while a step is under way: an extension, a pause, a later order, the same order again.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sexton_consumer::{Clock, Options};
use sexton_model::beacon::Beacon;
use sexton_model::step::Outcome;
use sexton_protocol::Extension;
use sexton_testkit::clock::ManualClock;

use crate::site::{Site, in_time, is_done};

#[tokio::test]
async fn a_long_step_goes_on_only_for_its_own_extension_and_is_acked_then() {
    in_time(async {
        let clock = Arc::<ManualClock>::default();
        // Answers that wait for others to come with them would wait for this clock.
        let site = Site::with(clock.clone(), Options { linger_ms: 0, ..Options::default() }).await;
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        site.archive.hangs.store(2, Ordering::SeqCst);
        // Without an extension it is stopped at its deadline.
        let mut order = site.order(1000);
        order.long = true;
        order.deadline = clock.now().plus_ms(300);
        site.give(vec![order]).await;
        site.archive.began.notified().await;
        clock.advance(300);
        let outcome = site.outcome().await;
        assert!(
            matches!(&outcome, Outcome::Retry { reason, .. } if reason.contains("deadline")),
            "{outcome:?}"
        );

        *site.archive.gone.lock().unwrap() = false;
        let mut order = site.order(1001);
        order.long = true;
        order.deadline = clock.now().plus_ms(1_500);
        let (job, fence) = (order.job, order.fence);
        site.give(vec![order]).await;
        let begun = loop {
            let progress = site.progress().await;
            if progress.fence == fence {
                break progress;
            }
        };
        assert_eq!((begun.done, begun.job), (0, job));
        let deadline = clock.now().plus_ms(60_000);
        let stranger = Extension { job, fence, nonce: begun.nonce ^ 1, deadline: deadline.plus_ms(60_000) };
        site.hear(stranger).await;
        site.hear(Extension { job, fence, nonce: begun.nonce, deadline }).await;
        // The driver's own progress is passed on a second later and says that the step still runs. By then what was
        // heard before has been taken note of.
        site.archive.began.notified().await;
        clock.advance(1_000);
        let going_on = site.progress().await;
        assert_eq!((going_on.done, going_on.total, going_on.nonce), (1, 2, begun.nonce));
        // The first deadline is over: without the extension the step would be stopped, before the next is heard.
        clock.advance(1_000);
        site.beacon().await;
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
        let (stop, running) = site.start(0).await;
        site.beacon().await;
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
        let (stop, running) = site.start(0).await;
        site.beacon().await;
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
