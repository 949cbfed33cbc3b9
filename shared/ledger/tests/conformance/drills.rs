//! Drills: the last one with each resource, which one coordinator at a time moves on.
use sexton_model::drill::{Drill, Verdict};

use super::Fixture;
use super::stage::{Stagehand, options};

pub async fn a_drill_is_kept_by_who_has_seen_what_stands(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    assert_eq!(on.ledger.drills().await.unwrap(), []);
    let facts = on.ledger.facts().await.unwrap();
    let begin = |name: &str, last: Option<&Drill>| {
        Drill::begin((name.parse().unwrap(), &on.plan), last, None, (facts.now, facts.day))
    };
    let (first, other) = (begin("vm/drill01", None), begin("vm/drill02", None));
    assert!(on.ledger.keep_drill(None, &first).await.unwrap());
    assert!(!on.ledger.keep_drill(None, &first).await.unwrap(), "somebody has begun it");
    assert!(on.ledger.keep_drill(None, &other).await.unwrap());
    let over = first.clone().judged(Verdict::failed("soft is parked"), facts.now);
    assert!(on.ledger.keep_drill(Some(&first), &over).await.unwrap());
    assert!(!on.ledger.keep_drill(Some(&first), &over).await.unwrap(), "somebody has judged it");
    drop(on.ledger);
    let on = Stagehand::with(fixture, options()).await;
    assert_eq!(on.ledger.drills().await.unwrap(), [over.clone(), other]);
    let next = Drill::begin((over.resource.clone(), &on.plan), Some(&over), None, (facts.now, facts.day));
    assert!(on.ledger.keep_drill(Some(&over), &next).await.unwrap());
    let standing = on.ledger.drills().await.unwrap().remove(0);
    assert_eq!((standing.standing(), standing.is_open()), (over.judged.as_ref(), true));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}
