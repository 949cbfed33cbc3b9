//! I15: a ledger that has gone back in time dispatches nothing.
use sexton_ledger::{LedgerError, NotDone, Revocation};
use sexton_model::access::{DAY_S, Extent, NewToken, Role, token_hash};
use sexton_model::belts::PauseSelector;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::belts::one_shot::{NewOneShot, Passable};
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::checkpoint::{Checkpoint, Mark};
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::{Actor, JobId};

use super::Fixture;
use super::stage::{Stagehand, actor, job_id, named, options, right_answer};

fn refused(answer: Result<sexton_ledger::Decided, NotDone>) -> Refusal {
    match answer {
        Err(NotDone::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// A copy is taken, work goes on, the copy is put back, the ledger is opened again.
pub async fn a_ledger_that_went_back_dispatches_nothing_until_it_is_accepted(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    // One runs, one waits for its restore, one is due: whatever could be dispatched.
    let (running, cancelled, due) =
        (on.doomed("one").await, on.doomed("two").await, on.doomed("three").await);
    let order = on.play_to(running, |name, _| name == "hypervisor.stop").await.unwrap();
    on.play_to(cancelled, |name, _| name == "dns.withdraw").await.unwrap();
    on.one(cancelled, Event::Cancel { by: actor("ops"), reason: "back".into() }).await.unwrap();
    on.ledger.checkpoint().await.unwrap();
    fixture.copy().await;
    let last = on.answer(&order, right_answer(&order)).await.unwrap().dispatch.unwrap();
    let known = on.ledger.known();
    assert_eq!(known.mark.epoch, 1);
    assert!(known.mark.fence >= last.spec.fence.number, "what is given out is known");
    drop(on);
    fixture.put_back().await;

    let on = Stagehand { ledger: fixture.open(options()).await, plan: super::stage::plan() };
    let before = on.ledger.beacon().await.unwrap();
    let review = on.ledger.confront(&known).await.unwrap().unwrap();
    assert_eq!((review.epoch, review.behind.known), (2, known.mark));
    assert_eq!(on.ledger.review().await.unwrap(), Some(review.clone()));
    assert_eq!(on.ledger.health().await.unwrap().review, Some(review.clone()));
    let beacon = on.ledger.beacon().await.unwrap();
    assert!((beacon.epoch, beacon.revision) > (2, before.revision), "consumers hear of it");
    assert_eq!(on.ledger.facts().await.unwrap().epoch, 2);

    // Nothing goes on: not what is due, not what runs, not the restore.
    let under = || Refusal::UnderReview(2);
    on.until(last.spec.deadline).await;
    assert_eq!(refused(on.claim(due, Stage::Announce).await), under());
    assert_eq!(refused(on.answer(&order, right_answer(&order)).await), under());
    let restore = JobId::of(cancelled, JobKind::RESTORE_SLOT);
    for event in [Event::Claim { job: restore }, Event::Proceed { job: restore }] {
        assert_eq!(refused(on.one(cancelled, event).await), under());
    }
    let lease = on.job(running, JobKind::Stage(Stage::Soft)).await.state.out().unwrap().lease_until;
    on.until(lease).await;
    let woken = on.ledger.to_wake(10).await.unwrap();
    assert!(!woken.is_empty());
    for result in on.ledger.run(woken).await.unwrap() {
        assert_eq!(refused(result), under());
    }
    // What a person says against a deletion is taken, and starts nothing.
    let taken = on.one(due, Event::Cancel { by: actor("ops"), reason: "lost cancel".into() }).await.unwrap();
    assert!(taken.dispatch.is_none());

    // It survives being opened again, and is not entered twice.
    drop(on);
    let on = Stagehand::new(fixture).await;
    assert_eq!(on.ledger.confront(&known).await.unwrap(), Some(review.clone()));
    assert_eq!(refused(on.answer(&order, right_answer(&order)).await), under());

    let by: Actor = actor("ops");
    assert!(!on.ledger.accept_review(1, &by, "another one").await.unwrap());
    assert!(on.ledger.accept_review(2, &by, "compared by hand").await.unwrap());
    assert!(!on.ledger.accept_review(2, &by, "twice").await.unwrap());
    assert_eq!(on.ledger.review().await.unwrap(), None);
    assert!(matches!(refused(on.answer(&order, right_answer(&order)).await), Refusal::Stale { .. }));
    let again: Vec<_> = on.ledger.run(on.ledger.to_wake(10).await.unwrap()).await.unwrap();
    let again = again.into_iter().filter_map(|d| d.unwrap().dispatch).find(|d| d.spec.job == order.spec.job);
    let again = again.expect("the order that was out is given again");
    assert_eq!(named(&again), named(&order));
    assert!(again.spec.fence > last.spec.fence, "{} > {}", again.spec.fence, last.spec.fence);
    on.answer(&again, right_answer(&again)).await.unwrap();
    let known = on.ledger.checkpoint().await.unwrap();
    assert_eq!(known.mark.epoch, 2);
    assert_eq!(on.status(due).await, RecordStatus::Cancelled, "nothing had been done to it");
    for id in [running, cancelled, due] {
        assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
    }
}

pub async fn a_ledger_that_is_newer_than_its_witness_goes_on(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let first = on.ledger.checkpoint().await.unwrap();
    let id = on.doomed("one").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    let second = on.ledger.checkpoint().await.unwrap();
    assert!(second.mark.number > first.mark.number && second.mark.fence > first.mark.fence);
    drop(on);
    let on = Stagehand::new(fixture).await;
    for known in [first, second] {
        assert_eq!(on.ledger.confront(&known).await.unwrap(), None);
    }
    on.answer(&order, right_answer(&order)).await.unwrap();
    assert_eq!(on.ledger.facts().await.unwrap().epoch, 1);
}

/// Nothing was dispatched after the copy, but somebody had said stop.
pub async fn a_lost_pause_is_noticed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("one").await;
    on.ledger.checkpoint().await.unwrap();
    fixture.copy().await;
    on.ledger.pause(PauseSelector::default(), &actor("ops"), "stop").await.unwrap();
    let known = on.ledger.checkpoint().await.unwrap();
    assert_eq!(known.mark.revision, 1);
    drop(on);
    fixture.put_back().await;
    let on = Stagehand::new(fixture).await;
    // The checkpoints written since are enough, too; the pause alone has to do.
    let known = Checkpoint { mark: Mark { number: 0, ..known.mark }, decision: None, ..known };
    assert!(on.ledger.confront(&known).await.unwrap().is_some());
    assert_eq!(refused(on.claim(id, Stage::Announce).await), Refusal::UnderReview(2));
}

/// Nothing was dispatched after the copy, nobody said stop, and no checkpoint was written: but somebody was answered.
pub async fn a_lost_decision_that_is_no_records_is_noticed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, kept, ops) = (on.doomed("one").await, on.register("two").await, actor("ops"));
    on.ledger.checkpoint().await.unwrap();
    fixture.copy().await;
    let mut before = on.ledger.known().mark;
    let mut counted = |what: &str| {
        let mark = on.ledger.known().mark;
        assert!(mark.number > before.number, "{what}: {mark:?}");
        assert_eq!((mark.epoch, mark.at), (before.epoch, before.at), "no checkpoint was written");
        before = mark;
    };
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    counted("a ceiling");
    let lost = on.ledger.known();
    let protected = on.ledger.resource(&kept).await.unwrap().unwrap().resource;
    let protected = Resource { protected: true, ..protected };
    assert_eq!(on.ledger.register(vec![protected], &ops, false).await.unwrap(), [Ok(())]);
    counted("a protection");
    on.ledger.prioritize(&kept, 7, &ops).await.unwrap().unwrap();
    counted("a priority");
    let hold =
        NewHold { resource: kept.clone(), origin: ops.clone(), reason: "a lawsuit".into(), by: ops.clone() };
    on.ledger.hold_resource(hold).await.unwrap().unwrap();
    counted("a hold on a resource");
    let released =
        on.ledger.release_resource(&kept, Which::Origin(ops.clone()), &ops).await.unwrap().unwrap();
    assert_eq!(released.len(), 1);
    counted("its end");
    let token = NewToken {
        name: actor("ci"),
        role: Role::Operator,
        extent: Extent::Everywhere,
        good_for_s: DAY_S,
        by: ops.clone(),
    };
    on.ledger.issue_token(token, token_hash("a secret")).await.unwrap().unwrap();
    counted("a token");
    let revoked = on.ledger.revoke_token(&actor("ci"), &ops).await.unwrap();
    assert!(matches!(revoked, Revocation::Done(_)), "{revoked:?}");
    counted("its end");
    let shot = NewOneShot {
        deletion: id,
        stage: Stage::Announce,
        belt: Passable::Ceiling,
        by: actor("boss"),
        reason: "the rack is on fire".into(),
        break_glass: false,
    };
    let shot = on.ledger.give_one_shot(shot).await.unwrap().unwrap();
    counted("an override");
    assert!(on.ledger.take_back_one_shot(shot.id, &ops).await.unwrap());
    counted("its end");
    let paused = on.ledger.pause(PauseSelector::default(), &ops, "stop").await.unwrap();
    counted("a pause");
    assert!(on.ledger.resume(paused.pause.id, &ops, None).await.unwrap().unwrap());
    counted("its end");
    drop(on);
    fixture.put_back().await;
    let on = Stagehand::new(fixture).await;
    // Where there is more evidence than the number: that alone has to do.
    let lost = Checkpoint { decision: None, ..lost };
    let review = on.ledger.confront(&lost).await.unwrap().expect("it is noticed");
    assert!(review.behind.found.number < review.behind.known.number, "{review:?}");
    assert_eq!(refused(on.claim(id, Stage::Announce).await), Refusal::UnderReview(2));
}

/// A record that is lost was told of, signed and perhaps receipted under its number.
pub async fn the_numbers_of_lost_records_are_not_given_again(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let kept = on.doomed("one").await;
    on.ledger.checkpoint().await.unwrap();
    fixture.copy().await;
    let lost = on.doomed("two").await;
    let known = on.ledger.checkpoint().await.unwrap();
    assert!(lost > kept && known.records >= lost.0, "{lost}: {known:?}");
    drop(on);
    fixture.put_back().await;
    let on = Stagehand::new(fixture).await;
    let review = on.ledger.confront(&known).await.unwrap();
    assert!(review.is_some());
    let next = on.doomed("three").await;
    assert!(next > lost, "{next} is not behind {lost}");
    // Somebody else knows of more, and what cannot be moves nothing.
    let records = next.0 + 40;
    let more = Checkpoint { records, ..on.ledger.known() };
    assert_eq!(on.ledger.confront(&more).await.unwrap(), review);
    let further = on.doomed("four").await;
    assert!(further.0 > records, "{further} is not behind {records}");
    let wrong = Checkpoint { records: i64::MAX, ..on.ledger.known() };
    assert_eq!(on.ledger.confront(&wrong).await.unwrap(), review);
    // Nor what is said of one that nobody reviews.
    assert!(on.ledger.accept_review(2, &actor("ops"), "compared").await.unwrap());
    let late = Checkpoint { records: further.0 + 1_000_000, ..on.ledger.known() };
    assert_eq!(on.ledger.confront(&late).await.unwrap(), None);
    let last = on.doomed("five").await;
    assert!(last > further && last.0 < further.0 + 1000, "{last} is not the next one behind {further}");
}

pub async fn an_answer_that_nobody_asked_for_gives_an_older_ledger_away(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("one").await;
    let mut order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    order.spec.fence.number += 1_000_000;
    let fence = order.spec.fence;
    let answer = refused(on.answer(&order, right_answer(&order)).await);
    assert_eq!(answer, Refusal::NeverGiven { job: job_id(id, Stage::Announce), fence });
    let mut known = on.ledger.known();
    known.mark.fence = fence.number;
    assert!(on.ledger.confront(&known).await.unwrap().is_some());
    assert_eq!(on.state(id, Stage::Announce).await, StateName::Running);
}

pub async fn another_ledger_is_no_older_one(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let other = Checkpoint { ledger: "another".into(), ..on.ledger.known() };
    let answer = on.ledger.confront(&other).await;
    assert!(matches!(answer, Err(LedgerError::Unfit(_))), "{answer:?}");
    assert_eq!(on.ledger.review().await.unwrap(), None);
}
