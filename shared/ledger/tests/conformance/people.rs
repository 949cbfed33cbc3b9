//! What is parked needs a person: retry, waive, rescue.
use serde_json::json;
use sexton_ledger::{Dispatch, NotDone};
use sexton_model::DeletionId;
use sexton_model::beacon::SKEW_MS;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::resource::Presence as Inventory;
use sexton_model::step::{Mode, Outcome, Presence};

use super::Fixture;
use super::stage::{Stagehand, actor, instance, job_id, named, right_answer};

/// Play to the hypervisor's undefine and have it refused.
async fn parked(on: &Stagehand, name: &str) -> (DeletionId, Dispatch) {
    let id = on.doomed(name).await;
    let order = on.play_to(id, |name, _| name == "hypervisor.undefine").await.unwrap();
    on.answer(&order, Outcome::refused("another identity")).await.unwrap();
    (id, order)
}

pub async fn refused_parks(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, order) = parked(&on, "web01").await;
    let job = on.job(id, JobKind::Stage(Stage::Hard)).await;
    let JobState::Parked { reason } = &job.state else { panic!("{:?}", job.state) };
    assert!(reason.contains("another identity"), "{reason}");
    assert!(on.ledger.due(10).await.unwrap().is_empty() && on.ledger.to_wake(10).await.unwrap().is_empty());
    assert!(on.answer(&order, right_answer(&order)).await.is_err());
    assert_eq!(on.ledger.health().await.unwrap().jobs[&StateName::Parked], 1);
}

pub async fn parked_and_tried_again(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, order) = parked(&on, "web01").await;
    let again = on.one(id, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&again).0, "hypervisor.undefine");
    assert!(again.spec.fence > order.spec.fence);
    let nothing = on.one(id, Event::Retry { by: actor("ops") }).await.unwrap_err();
    assert_eq!(nothing, NotDone::Refused(Refusal::NothingParked));
    on.play(Some(again), &mut Vec::new(), |_, _| false).await;
    assert_eq!(on.state(id, Stage::Hard).await, StateName::Done);
}

fn waive(mark: String, claim: WaiverClaim) -> Event {
    Event::Waive { by: actor("approver"), claim, mark, evidence: "seen in the rack".into() }
}

pub async fn waived_as_absent_lets_dependents_run(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, _) = parked(&on, "web01").await;
    let next = on.one(id, waive(on.mark(id).await, WaiverClaim::Absent)).await.unwrap().dispatch;
    let mut seen = Vec::new();
    on.play(next, &mut seen, |_, _| false).await;
    let names: Vec<_> = seen.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dns.remove", "ipam.release"]);
    let view = on.view(id).await;
    assert_eq!(view.deletion.waivers.len(), 1);
    let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(resource.presence, Inventory::Tombstone);
}

pub async fn waived_as_remaining_waives_dependents(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, _) = parked(&on, "web01").await;
    let next = on.one(id, waive(on.mark(id).await, WaiverClaim::MayRemain)).await.unwrap().dispatch;
    let mut seen = Vec::new();
    on.play(next, &mut seen, |_, _| false).await;
    let names: Vec<_> = seen.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["dns.remove"], "no address is released under a machine that may live");
    let view = on.view(id).await;
    let waived: Vec<_> = view.deletion.waivers.iter().map(|w| (w.slot, w.step, w.claim)).collect();
    let hard = Stage::Hard.index();
    assert_eq!(waived, [1, 3, 4].map(|step| (hard, step, WaiverClaim::MayRemain)));
    assert_eq!(view.deletion.job(job_id(id, Stage::Hard)).unwrap().state, JobState::Done);
    let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(resource.presence, Inventory::Registered, "nor is it taken out of the inventory");
}

/// I6: two people are asked for the first step, and one of them has it let pass. What the other says of it a moment later is
/// no evidence of the next one, which is parked by then.
pub async fn a_waiver_is_about_what_was_looked_at_alone(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, _) = parked(&on, "web01").await;
    let seen = on.mark(id).await;
    let next = on.one(id, waive(seen.clone(), WaiverClaim::Absent)).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&next).0, "dns.remove");
    on.answer(&next, Outcome::refused("another identity")).await.unwrap();
    let refused = on.one(id, waive(seen.clone(), WaiverClaim::Absent)).await.unwrap_err();
    let mark = on.mark(id).await;
    assert_ne!(mark, seen);
    assert_eq!(refused, NotDone::Refused(Refusal::OtherThings { mark }));
    assert_eq!(on.view(id).await.deletion.waivers.len(), 1);
    assert_eq!(on.state(id, Stage::Hard).await, StateName::Parked);
    on.one(id, waive(on.mark(id).await, WaiverClaim::Absent)).await.unwrap();
}

/// What has appeared since the targets were pinned stops the job; stated to belong to the deletion, it joins them, and
/// the statement survives whatever becomes of the process.
pub async fn what_belongs_joins_the_targets(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.play_to(id, |_, mode| mode == Mode::Reread).await.unwrap();
    let new = |volume: &str| Outcome::Done {
        presence: Presence::Present,
        evidence: "looked".into(),
        finding: Some(json!({ "volumes": [volume] })),
    };
    on.answer(&order, new("web01-data")).await.unwrap();
    let job = on.job(id, JobKind::Stage(Stage::Soft)).await;
    let JobState::Parked { reason } = &job.state else { panic!("{:?}", job.state) };
    assert!(reason.contains("web01-data"), "{reason}");
    let pinned = json!({ "seen": ["hypervisor.inspect"] });
    let hypervisor = instance("hypervisor.main");
    assert_eq!(on.view(id).await.targets[&hypervisor], pinned);
    // Only under the mark that is shown.
    assert!(on.one(id, waive(String::new(), WaiverClaim::Belongs)).await.is_err());
    let (shown, _) = reason.split_once("]. It is not among").unwrap();
    let mark = shown.rsplit_once('[').unwrap().1.to_owned();
    assert_eq!(mark, on.mark(id).await);
    let (by, claim) = (actor("approver"), WaiverClaim::Belongs);
    let stated = Event::Waive { by, claim, mark, evidence: "its owner says so".into() };
    let again = on.one(id, stated).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&again), ("hypervisor.inspect@soft".to_owned(), Mode::Reread));
    let next = on.answer(&again, new("web01-data")).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&next).0, "hypervisor.stop");
    let view = on.view(id).await;
    assert_eq!(
        view.targets[&hypervisor],
        json!({ "seen": ["hypervisor.inspect"], "volumes": ["web01-data"] })
    );
    assert_eq!(next.targets.as_ref(), Some(&view.targets[&hypervisor]));
    let drift: Vec<_> = view.audit.iter().map(|row| &row.event).filter(|e| !e.drift.is_empty()).collect();
    assert_eq!(drift.len(), 2, "{drift:?}");
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

/// A name is not given away while what used it may remain, and it is once somebody has seen that it is gone.
pub async fn what_may_remain_keeps_its_name(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, _) = parked(&on, "web01").await;
    let next = on.one(id, waive(on.mark(id).await, WaiverClaim::MayRemain)).await.unwrap().dispatch;
    on.play(next, &mut Vec::new(), |_, _| false).await;
    on.play_to(id, |_, _| false).await;
    let job = on.job(id, JobKind::Stage(Stage::Recycle)).await;
    let JobState::Parked { reason } = &job.state else { panic!("{:?}", job.state) };
    assert!(reason.contains("hypervisor.undefine"), "{reason}");
    let name = "vm/web01".parse().unwrap();
    let resource = on.ledger.resource(&name).await.unwrap().unwrap();
    assert_eq!((resource.presence, resource.live), (Inventory::Registered, Some(id)));
    for event in [Event::Retry { by: actor("ops") }, waive(on.mark(id).await, WaiverClaim::MayRemain)] {
        let refused = on.one(id, event).await.unwrap_err();
        assert!(matches!(refused, NotDone::Refused(Refusal::NameInUse(_))), "{refused:?}");
    }
    on.one(id, waive(on.mark(id).await, WaiverClaim::Absent)).await.unwrap();
    assert_eq!(on.status(id).await, RecordStatus::Recycled);
    let resource = on.ledger.resource(&name).await.unwrap().unwrap();
    assert_eq!((resource.presence, resource.live), (Inventory::Recycled, None));
}

pub async fn rescue_has_its_rules(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let rescue = || Event::Rescue { by: actor("ops"), evidence: "copied by hand".into() };
    let early = on.doomed("early").await;
    let refused = on.one(early, rescue()).await.unwrap_err();
    assert_eq!(refused, NotDone::Refused(Refusal::NoRescue("it can still be cancelled")));
    let (id, order) = parked(&on, "web01").await;
    let refused = on.one(id, rescue()).await;
    // A slow clock may still begin it that much later.
    let quiet = order.spec.deadline.plus_ms(SKEW_MS);
    if on.now().await <= quiet {
        assert_eq!(refused.unwrap_err(), NotDone::Refused(Refusal::OrderMayRun(quiet)));
    }
    on.until(quiet).await;
    if on.status(id).await == RecordStatus::Live {
        on.one(id, rescue()).await.unwrap();
    }
    let view = on.view(id).await;
    assert_eq!(view.deletion.status, RecordStatus::Rescued);
    for stage in [Stage::Hard, Stage::Purge, Stage::Recycle] {
        assert_eq!(view.deletion.stage_job(stage).unwrap().state, JobState::Rescued);
    }
    let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((resource.presence, resource.live), (Inventory::Registered, None));
    let late = on.doomed("late").await;
    on.play_to(late, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    let refused = on.one(late, rescue()).await.unwrap_err();
    assert_eq!(refused, NotDone::Refused(Refusal::NoRescue("purge has begun")));
}

pub async fn unknown_or_present_is_never_done(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for (name, presence) in [("one", Presence::Unknown), ("two", Presence::Present)] {
        let id = on.doomed(name).await;
        let order = on.play_to(id, |name, _| name == "hypervisor.undefine").await.unwrap();
        let decided = on.answer(&order, Outcome::done(presence, "204")).await.unwrap();
        assert!(decided.dispatch.is_none());
        let job = on.job(id, JobKind::Stage(Stage::Hard)).await;
        assert!(matches!(job.state, JobState::Waiting { .. }), "{:?}", job.state);
        assert_eq!((job.cursor, job.attempts), (1, 1));
        let until = if let JobState::Waiting { until, .. } = job.state { until } else { on.now().await };
        on.until(until).await;
        let woken = on.ledger.to_wake(10).await.unwrap();
        assert_eq!(woken.len(), 1);
        let again = on.ledger.run(woken).await.unwrap().remove(0).unwrap().dispatch.unwrap();
        assert_eq!((named(&again).0.as_str(), again.spec.attempts), ("hypervisor.undefine", 1));
        // The plan grants two attempts.
        on.answer(&again, Outcome::done(presence, "204")).await.unwrap();
        assert_eq!(on.state(id, Stage::Hard).await, StateName::Parked);
    }
}
