//! Cancel, restore, and when it is too late.
use sexton_ledger::NotDone;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::resource::Presence as Inventory;
use sexton_model::step::Mode;
use sexton_model::undo::Salvage;

use super::Fixture;
use super::stage::{Stagehand, actor, named, right_answer};

pub fn cancel() -> Event {
    Event::Cancel { by: actor("ops"), reason: "wanted after all".into() }
}

pub async fn cancelled_before_anything_happened(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let decided = on.one(id, cancel()).await.unwrap();
    assert!(decided.dispatch.is_none());
    assert_eq!(decided.status, RecordStatus::Cancelled);
    let view = on.view(id).await;
    for job in &view.deletion.jobs {
        let wanted = if job.kind == JobKind::Restore { JobState::Done } else { JobState::Cancelled };
        assert_eq!(job.state, wanted, "{}", job.kind);
    }
    assert_eq!(
        on.one(id, cancel()).await.unwrap_err(),
        NotDone::Refused(Refusal::NotLive(RecordStatus::Cancelled))
    );
    assert!(on.claim(id, Stage::Announce).await.is_err());
    let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((resource.presence, resource.live), (Inventory::Registered, None));
}

pub async fn cancelled_while_running_is_undone_in_reverse_order(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    // The withdrawal is out: it may have been done, so it is undone, too.
    let order = on.play_to(id, |name, mode| (name, mode) == ("dns.withdraw", Mode::Perform)).await.unwrap();
    let decided = on.one(id, cancel()).await.unwrap();
    assert!(decided.dispatch.is_none(), "nothing is dispatched while an order is out");
    assert_eq!(decided.status, RecordStatus::Restoring);
    assert_eq!(on.state(id, Stage::Soft).await, StateName::Cancelling);
    assert_eq!(on.state(id, Stage::Hard).await, StateName::Cancelled);
    let decided = on.answer(&order, right_answer(&order)).await.unwrap();
    assert_eq!(on.state(id, Stage::Soft).await, StateName::Cancelled);
    let seen = on.play_restore(id, decided.dispatch).await;
    let wanted = ["dns.withdraw", "hypervisor.stop", "notifier.announce"]
        .into_iter()
        .flat_map(|step| [(step.to_owned(), Mode::Undo), (step.to_owned(), Mode::Verify)]);
    assert_eq!(seen, wanted.collect::<Vec<_>>());
    assert_eq!(on.status(id).await, RecordStatus::Cancelled);
    let undo = on.view(id).await;
    assert_eq!(undo.deletion.jobs.iter().filter(|job| job.state.name().locks()).count(), 0);
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
    // And the resource can be condemned again.
    let again = on.wanted(&"vm/web01".parse().unwrap()).await;
    assert!(on.ledger.create(vec![again]).await.unwrap().remove(0).is_ok());
}

pub async fn too_late_to_cancel(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.play_to(id, |name, _| name == "hypervisor.undefine").await.unwrap();
    let before = on.view(id).await;
    let asked = on.now().await;
    let refused = on.one(id, cancel()).await.unwrap_err();
    let NotDone::Refused(Refusal::TooLate { reached: Stage::Hard, still: Salvage::Data { until } }) = refused
    else {
        panic!("{refused:?}")
    };
    assert!(until.is_some_and(|until| until > asked), "purge begins behind hard: {until:?}");
    assert_eq!(on.view(id).await.deletion, before.deletion);
    on.play(Some(order), &mut Vec::new(), |_, _| false).await;
    let JobState::Scheduled { due_at: Some(due_at) } = on.job(id, JobKind::Stage(Stage::Purge)).await.state
    else {
        panic!("purge is not due yet")
    };
    let refused = on.one(id, cancel()).await.unwrap_err();
    let NotDone::Refused(Refusal::TooLate { reached: Stage::Hard, still: Salvage::Data { until } }) = refused
    else {
        panic!("{refused:?}")
    };
    match until {
        Some(until) => assert_eq!(until, due_at, "once hard is over, the date is certain"),
        // A day is short here.
        None => assert!(due_at <= on.now().await, "{due_at} is still to come"),
    }
    let order = on.play_to(id, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    assert_eq!(named(&order).1, Mode::Perform);
    let refused = on.one(id, cancel()).await.unwrap_err();
    let steps = vec!["hypervisor.delete_volumes".to_owned()];
    let still = Salvage::Rest { steps, begun: true, may_remain: Vec::new() };
    let wanted = Refusal::TooLate { reached: Stage::Purge, still };
    assert_eq!(refused, NotDone::Refused(wanted));
}
