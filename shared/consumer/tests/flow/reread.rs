//! How much may have appeared since the targets were pinned.
use serde_json::{Value, json};
use sexton_model::catalogue::Nature;
use sexton_model::step::{FINDING_MAX_BYTES, Mode, Outcome, TARGETS_MAX_BYTES};

use crate::site::{Site, in_time};

fn text(bytes: usize) -> Value {
    "x".repeat(bytes).into()
}

/// What is answered if `pinned` are the targets and `seen` is there now.
async fn read_again(site: &Site, number: i64, pinned: Value, seen: Value) -> Outcome {
    *site.archive.seen.lock().unwrap() = seen;
    let mut order = site.order(number);
    (order.action, order.mode, order.nature) = ("inspect".parse().unwrap(), Mode::Reread, Nature::Inspect);
    order.targets = pinned;
    site.give(vec![order]).await;
    site.outcome().await
}

/// What the deletion's own steps have created counts among what is pinned, so that is mostly larger than one finding: it
/// has to be read again all the same, before each stage.
#[tokio::test]
async fn what_is_pinned_may_be_larger_than_one_finding() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let half = FINDING_MAX_BYTES / 2;
        let pinned = json!({ "a": text(half), "b": text(half), "c": text(half), "list": ["one"] });
        for (number, list, new) in
            [(1000, json!(["one"]), json!({})), (1001, json!(["one", "two"]), json!({ "list": ["two"] }))]
        {
            let mut seen = pinned.clone();
            seen["list"] = list;
            let outcome = read_again(&site, number, pinned.clone(), seen).await;
            assert!(
                matches!(&outcome, Outcome::Done { finding: Some(found), .. } if *found == new),
                "{outcome:?}"
            );
        }
        site.end(stop, running).await;
    })
    .await;
}

/// Were it answered, it could join, and no order would ever be small enough again.
#[tokio::test]
async fn what_appeared_is_refused_if_it_would_not_travel_with_an_order() {
    in_time(async {
        let site = Site::new().await;
        let (stop, running) = site.start(0).await;
        site.beacon().await;
        let pinned = json!({ "a": text(TARGETS_MAX_BYTES - 100) });
        let seen = json!({ "a": text(1), "b": text(200) });
        let outcome = read_again(&site, 1000, pinned.clone(), seen).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason } if reason.contains("more than the 262144 that travel")),
            "{outcome:?}"
        );
        // Nor may a single finding be larger than any other.
        let outcome =
            read_again(&site, 1001, Value::Null, json!({ "b": text(FINDING_MAX_BYTES) })).await;
        assert!(
            matches!(&outcome, Outcome::Refused { reason } if reason.contains("more than the 65536 that travel")),
            "{outcome:?}"
        );
        site.end(stop, running).await;
    })
    .await;
}
