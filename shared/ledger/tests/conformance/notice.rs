//! The notice: what was stated of it survives whatever becomes of the process.
use sexton_ledger::{Dispatch, NotDone};
use sexton_model::DeletionId;
use sexton_model::Timestamp;
use sexton_model::audit::What;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::WaiverClaim;
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::step::{Mode, Outcome};
use sexton_model::time::Day;

use super::Fixture;
use super::stage::{Stagehand, actor, job_id, named, options};

const ANNOUNCE: JobKind = JobKind::Stage(Stage::Announce);

/// Days that are long enough to see what happens before their end.
const DAY_MS: u64 = 400;

async fn patient(fixture: &dyn Fixture) -> Stagehand {
    let day = Day::Rehearsal { length_ms: DAY_MS };
    Stagehand::with(fixture, sexton_ledger::Options { day, ..options() }).await
}

/// The order to tell everybody.
async fn telling(on: &Stagehand, id: DeletionId) -> Dispatch {
    on.play_to(id, |name, mode| name == "notifier.announce" && mode == Mode::Perform).await.unwrap()
}

/// It is not delivered until its job is parked. When it failed first.
async fn in_vain(on: &Stagehand, id: DeletionId, mut order: Dispatch) -> Timestamp {
    loop {
        on.answer(&order, Outcome::spared("no route to the relay")).await.unwrap();
        if on.state(id, Stage::Announce).await == StateName::Parked {
            let waivers = on.view(id).await.deletion.waivers;
            let untold: Vec<_> = waivers.iter().filter(|w| w.claim == WaiverClaim::Untold).collect();
            assert_eq!(untold.len(), 1, "{waivers:?}");
            return untold[0].at;
        }
        order = on.wake(id, ANNOUNCE).await.dispatch.unwrap();
        assert_eq!(named(&order), ("notifier.announce".to_owned(), Mode::Perform));
    }
}

fn acknowledge(mark: String) -> Event {
    Event::Acknowledge { by: actor("ops"), mark, reason: "called the owner by phone".into() }
}

/// Soft is due its notice period, a day, after `told`.
async fn soft_waits(on: &Stagehand, id: DeletionId, told: Timestamp) {
    let soft = on.job(id, JobKind::Stage(Stage::Soft)).await;
    let JobState::Scheduled { due_at: Some(due_at) } = soft.state else { panic!("{soft:?}") };
    assert_eq!(due_at, told.plus_ms(DAY_MS));
    let early = on.one(id, Event::Claim { job: soft.id }).await.unwrap_err();
    assert_eq!(early, NotDone::Refused(Refusal::NotYet(soft.id)));
}

pub async fn a_notice_is_tried_for_days_and_soft_waits_for_it(fixture: &dyn Fixture) {
    let on = patient(fixture).await;
    let id = on.doomed("web01").await;
    let order = telling(&on, id).await;
    on.answer(&order, Outcome::failed("the box is full")).await.unwrap();
    let JobState::Waiting { reason, .. } = on.job(id, ANNOUNCE).await.state else { panic!() };
    assert!(reason.contains("not everybody could be told since") && reason.contains("the box is full"));
    let soft = job_id(id, Stage::Soft);
    // Its date passed long ago.
    let refused = on.one(id, Event::Claim { job: soft }).await.unwrap_err();
    assert!(matches!(refused, NotDone::Refused(Refusal::NotInState { .. })), "{refused:?}");
    drop(on);
    // Another process knows since when.
    let on = patient(fixture).await;
    let order = on.wake(id, ANNOUNCE).await.dispatch.unwrap();
    let told = on.answer(&order, super::stage::right_answer(&order)).await.unwrap().at;
    soft_waits(&on, id, told).await;
    let view = on.view(id).await;
    assert_eq!(view.deletion.waivers.len(), 1, "that it failed at first stays written down");
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

pub async fn an_acknowledgement_replaces_a_notice_after_three_days(fixture: &dyn Fixture) {
    let on = patient(fixture).await;
    let id = on.doomed("web01").await;
    let order = telling(&on, id).await;
    let none = on.one(id, acknowledge(on.mark(id).await)).await.unwrap_err();
    assert_eq!(none, NotDone::Refused(Refusal::NothingToAcknowledge));
    on.answer(&order, Outcome::spared("no route to the relay")).await.unwrap();
    let early = on.one(id, acknowledge(on.mark(id).await)).await.unwrap_err();
    assert!(matches!(early, NotDone::Refused(Refusal::StillTried(_))), "{early:?}");
    let order = on.wake(id, ANNOUNCE).await.dispatch.unwrap();
    let since = in_vain(&on, id, order).await;
    assert!(on.now().await >= since.plus_ms(3 * DAY_MS), "parked before three days had passed");
    let waived = Event::Waive {
        by: actor("approver"),
        claim: WaiverClaim::Absent,
        mark: on.mark(id).await,
        evidence: "in a hurry".into(),
    };
    assert_eq!(on.one(id, waived).await.unwrap_err(), NotDone::Refused(Refusal::NotWaived));
    drop(on);
    let on = patient(fixture).await;
    let told = on.one(id, acknowledge(on.mark(id).await)).await.unwrap().at;
    soft_waits(&on, id, told).await;
    let view = on.view(id).await;
    let event = &view.audit.iter().find(|row| row.event.what == What::Acknowledged).unwrap().event;
    assert_eq!((&*event.by, &*event.detail), ("ops", "called the owner by phone"));
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

pub async fn a_notice_that_comes_back_holds_soft(fixture: &dyn Fixture) {
    let on = patient(fixture).await;
    let id = on.doomed("web01").await;
    let order = telling(&on, id).await;
    let bounced = || Event::Bounced { by: actor("postmaster"), reason: "no such box".into() };
    assert_eq!(on.one(id, bounced()).await.unwrap_err(), NotDone::Refused(Refusal::NotSentYet));
    on.answer(&order, super::stage::right_answer(&order)).await.unwrap();
    let since = on.one(id, bounced()).await.unwrap().at;
    let again = on.one(id, bounced()).await.unwrap_err();
    assert_eq!(again, NotDone::Refused(Refusal::KnownToBeBack), "it is written down once");
    drop(on);
    // Another process knows it, and soft, whose date passed long ago, is not begun.
    let on = patient(fixture).await;
    let soft = job_id(id, Stage::Soft);
    on.until(since.plus_ms(2 * DAY_MS)).await;
    on.one(id, Event::Claim { job: soft }).await.unwrap();
    let JobState::Held { by, .. } = on.job(id, JobKind::Stage(Stage::Soft)).await.state else { panic!() };
    assert_eq!(by, Blocker::Untold { since, from: since.plus_ms(3 * DAY_MS) });
    on.until(since.plus_ms(3 * DAY_MS)).await;
    let told = on.one(id, acknowledge(on.mark(id).await)).await.unwrap().at;
    soft_waits(&on, id, told).await;
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}
