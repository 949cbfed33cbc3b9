//! A member of a redundancy group that something stops now stays for now, whether or not anybody has looked at it since.
use sexton_ledger::{Approval, Intent};
use sexton_model::ResourceId;
use sexton_model::belts::PauseSelector;
use sexton_model::decide::Event;
use sexton_model::job::{Blocker, Stage, StateName};
use sexton_model::step::Outcome;

use super::{announced, blocked, doomed, member, soft_is_due};
use crate::conformance::Fixture;
use crate::conformance::budgets::policy;
use crate::conformance::stage::{DAY, Stagehand, actor, job_id, resource};

/// One more of the group, in another scope.
async fn elsewhere(on: &Stagehand, name: &str) -> ResourceId {
    let mut member = resource(name, &format!("uuid-of-{name}"));
    member.groups = vec!["db-main".into()];
    member.scope = "tenants/globex".parse().unwrap();
    on.ledger.register(vec![member.clone()], &actor("ops"), true).await.unwrap().remove(0).unwrap();
    member.id
}

fn behind(other: &ResourceId) -> Option<Blocker> {
    Some(Blocker::Redundancy { group: "db-main".into(), other: other.clone() })
}

pub async fn who_is_paused_stays_before_anybody_has_looked_at_it(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, elsewhere(&on, "db3").await);
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    let scope = Some("tenants/globex".parse().unwrap());
    let soft = PauseSelector { stage: Some(Stage::Soft), scope, ..PauseSelector::default() };
    let pause = on.ledger.pause(soft, &actor("ops"), "something smells").await.unwrap().pause;
    // As they are claimed: the one that is paused last.
    let claim = |id| Intent { deletion: id, event: Event::Claim { job: job_id(id, Stage::Soft) } };
    let decided = on.ledger.run([first, second, third].map(claim).to_vec()).await.unwrap();
    let given: Vec<bool> = decided.iter().map(|d| d.as_ref().unwrap().dispatch.is_some()).collect();
    assert_eq!(given, [true, false, false]);
    assert_eq!(blocked(&on, second, Stage::Soft).await, behind(&one));
    assert!(matches!(blocked(&on, third, Stage::Soft).await, Some(Blocker::Pause { .. })));
    fixture.compare().await.unwrap();

    assert!(on.ledger.resume(pause.id, &actor("ops"), None).await.unwrap().unwrap());
    assert!(on.claim(third, Stage::Soft).await.unwrap().dispatch.is_some());
    on.one(second, Event::Recheck { job: job_id(second, Stage::Soft) }).await.unwrap();
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_some());
    fixture.compare().await.unwrap();
}

pub async fn who_is_parked_or_was_not_told_stays(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, elsewhere(&on, "db3").await);
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    let order = on.claim(third, Stage::Soft).await.unwrap().dispatch.unwrap();
    on.answer(&order, Outcome::refused("another uuid")).await.unwrap();
    assert_eq!(on.state(third, Stage::Soft).await, StateName::Parked);
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_none());
    assert_eq!(blocked(&on, first, Stage::Soft).await, behind(&three), "nothing of it may be off");

    // It goes on, but by now the notice of another one came back, and nobody has looked at that one.
    assert!(on.one(third, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.is_some());
    let back = Event::Bounced { by: actor("postmaster"), reason: "no such box".into() };
    let since = on.one(second, back).await.unwrap().at;
    assert_eq!(on.state(second, Stage::Soft).await, StateName::Scheduled);
    let recheck = Event::Recheck { job: job_id(first, Stage::Soft) };
    assert!(on.one(first, recheck.clone()).await.is_err(), "the second one stays for now");
    fixture.compare().await.unwrap();

    on.until(since.plus_ms(3 * DAY.length_ms())).await;
    let (by, mark) = (actor("ops"), on.mark(second).await);
    let told = Event::Acknowledge { by, mark, reason: "called the owner by phone".into() };
    on.one(second, told).await.unwrap();
    soft_is_due(&on, second).await;
    on.one(first, recheck).await.unwrap();
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    fixture.compare().await.unwrap();
}

/// What is decided first may not be stored yet when the last of a long batch is decided.
pub async fn who_was_parked_in_the_same_batch_is_not_retired_with_the_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, elsewhere(&on, "db3").await);
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    let order = on.claim(third, Stage::Soft).await.unwrap().dispatch.unwrap();
    let outcome = Outcome::refused("another uuid");
    let (from, fence) = (order.spec.instance.clone(), order.spec.fence);
    let refused = Event::Outcome { job: order.spec.job, from, fence, outcome };
    let idle = Intent { deletion: second, event: Event::Recheck { job: job_id(second, Stage::Soft) } };
    let mut batch = vec![idle; 200];
    batch.insert(0, Intent { deletion: third, event: refused });
    batch.push(Intent { deletion: first, event: Event::Claim { job: job_id(first, Stage::Soft) } });
    let last = on.ledger.run(batch).await.unwrap().pop().unwrap().unwrap();
    assert!(last.dispatch.is_none());
    assert_eq!(blocked(&on, first, Stage::Soft).await, behind(&three), "nothing of it may be off");
    fixture.compare().await.unwrap();
}

pub async fn who_is_one_of_a_batch_stays_before_anybody_has_looked_at_it(fixture: &dyn Fixture) {
    let none_of_globex = "stages = [\"soft\"]\nscopes = [{ scope = \"tenants/globex\", a_day = 0 }]";
    let on = Stagehand::with(fixture, policy(none_of_globex)).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, elsewhere(&on, "db3").await);
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    let soft = |id| vec![job_id(id, Stage::Soft)];
    let batch = on.ledger.admit(soft(third)).await.unwrap().frozen.remove(0).batch;
    assert_eq!(on.state(third, Stage::Soft).await, StateName::Scheduled);
    assert!(on.ledger.admit(soft(first)).await.unwrap().frozen.is_empty());
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_none());
    assert_eq!(blocked(&on, second, Stage::Soft).await, behind(&one));
    fixture.compare().await.unwrap();

    let digest = on.ledger.batch(batch).await.unwrap().unwrap().digest();
    let (by, reason) = (actor("alice"), "it is empty".to_owned());
    on.ledger.approve(Approval { batch, digest, by, reason }).await.unwrap().unwrap();
    on.one(second, Event::Recheck { job: job_id(second, Stage::Soft) }).await.unwrap();
    fixture.compare().await.unwrap();
}
