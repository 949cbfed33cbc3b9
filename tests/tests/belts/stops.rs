//! What people stop a deletion with: holds, protection, pauses, ceilings.
use std::path::Path;
use std::time::SystemTime;

use serde_json::json;
use sexton_ledger::NotDone;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, ResourceId, Timestamp};
use sexton_service::Config;

use super::access::{NONE, deletion, reason};
use super::gate::Point;
use super::system::{System, TRUSTED, ask, backup, monitoring, on_many_machines, ops, until};

on_many_machines! {
    a_hold_stops_before_the_claim_and_between_two_steps,
    a_protected_resource_goes_no_further,
    what_is_protected_once_it_has_a_record_does_not_begin,
    what_the_configuration_protects_is_refused_and_does_not_begin,
    nothing_goes_above_its_ceiling,
    a_lower_ceiling_stops_between_two_steps_and_no_restore,
    a_pause_stops_exactly_what_it_covers,
    a_pause_of_a_later_step_holds_a_stage_before_it_begins,
    a_stage_does_not_begin_while_a_later_step_has_nobody,
    orders_on_their_way_are_stopped_by_the_beacon,
    a_pause_by_http_stops_what_is_queued_and_what_is_delivered_until_it_is_lifted,
    a_pause_survives_a_restart,
    no_pause_stops_a_restore,
    nothing_is_undone_before_the_deadline_of_the_last_order,
    an_undo_that_is_under_way_is_not_stopped_by_a_pause,
}

const SOFT: JobKind = JobKind::Stage(Stage::Soft);

fn blocked(state: &JobState) -> Option<&Blocker> {
    match state {
        JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. } => Some(by),
        _ => None,
    }
}

/// A record whose soft stage has stopped before its first change, which `open` lets begin.
async fn in_soft(system: &System) -> DeletionId {
    system.monitoring.close("silence", Point::Look);
    let id = system.delete().await;
    system.monitoring.reached().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_before_the_claim_and_between_two_steps() {
    let mut system = System::not_started().await;
    let id = system.delete().await;
    let hold = Event::PlaceHold { by: ops(), reason: "lawsuit".into() };
    let placed = system.tell(id, hold.clone()).await.unwrap();
    system.start_everything().await;
    let job = system.until_job(id, Stage::Announce, |state| blocked(state).is_some()).await;
    assert!(matches!(job.state, JobState::Held { by: Blocker::Hold { .. }, .. }), "{job:?}");
    system.monitoring.close("silence", Point::Look);
    system.tell(id, Event::ReleaseHold { hold: placed.audit_seq, by: ops() }).await.unwrap();
    system.monitoring.reached().await;

    // The order that is out is carried out (it was only to capture); the next one is not given.
    let placed = system.tell(id, hold).await.unwrap();
    system.monitoring.open();
    let job = system.until_job(id, Stage::Soft, |state| blocked(state).is_some()).await;
    assert!(matches!(job.state, JobState::Ready { blocked: Some(Blocker::Hold { .. }), .. }), "{job:?}");
    system.two_beacons().await;
    assert!(system.monitoring.changes().is_empty());
    system.tell(id, Event::ReleaseHold { hold: placed.audit_seq, by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protected_resource_goes_no_further() {
    let system = System::start().await;
    let id = in_soft(&system).await;
    system.register(true).await;
    system.monitoring.open();
    let job = system.until_job(id, Stage::Soft, |state| blocked(state).is_some()).await;
    assert_eq!(blocked(&job.state), Some(&Blocker::Protected));
    system.two_beacons().await;
    assert!(system.monitoring.changes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_protected_once_it_has_a_record_does_not_begin() {
    let mut system = System::not_started().await;
    let before = system.world();
    let id = system.delete().await;
    system.register(true).await;
    system.start_coordinator();
    for instance in [monitoring(), backup()] {
        system.start_consumer(&instance).await;
    }
    let held = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Protected, .. });
    system.until_job(id, Stage::Announce, held).await;
    system.two_beacons().await;
    assert!(held(&system.job(id, JobKind::Stage(Stage::Announce)).await.state));
    assert_eq!(system.world(), before);
}

/// What `[protect]` comes to that names these.
fn protecting(resources: &[&str]) -> Policy {
    let text = format!("[protect]\nresources = {resources:?}\n");
    let config = Config::parse(Path::new("sexton.toml"), &text, &["protect"]).unwrap();
    sexton_coordinator::policy::read(&config, Timestamp::from(SystemTime::now())).unwrap()
}

/// Both are registered as not protected. One of them had a record before the configuration named it.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_configuration_protects_is_refused_and_does_not_begin() {
    let system = System::not_started().await;
    let before = system.world();
    let id = system.delete().await;
    let mut system = system.restarted_with(protecting(&["vm/web01", "vm/web02"])).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    for url in [system.serve_inventory().await, system.serve_beside().await] {
        let refused = ask(&url, TRUSTED, "POST", "/v1/deletions", &deletion("vm/web02")).await;
        let why = "vm/web02 is protected by [protect] in the coordinator's configuration";
        assert_eq!((refused.status, refused.detail()), (422, why), "{refused:?}");
    }
    let view = system.ledger.resource(&other).await.unwrap().unwrap();
    assert!(!view.resource.protected && view.live.is_none(), "{view:?}");

    let held = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Protected, .. });
    system.until_job(id, Stage::Announce, held).await;
    system.two_beacons().await;
    let job = system.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(held(&job.state) && job.cursor == 0, "not one step: {job:?}");
    assert_eq!(system.world(), before);
    let events = system.ledger.access_events(0, 100).await.unwrap();
    let refusals = events.iter().filter(|(_, event)| event.what == "refused" && event.by == "root").count();
    assert_eq!(refusals, 2, "each is written down");
}

async fn ceiling(system: &System, scope: Option<&str>, to: Option<Ceiling>) -> Result<(), NotDone> {
    let scope = scope.map(|scope| scope.parse().unwrap());
    let new = NewCeiling { scope, to, by: ops(), reason: "one step after the other".into() };
    system.ledger.set_ceiling(new, None).await.unwrap()
}

/// From the first observation to the end, as somebody does it who has just begun with a platform.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_above_its_ceiling() {
    let system = System::start().await;
    ceiling(&system, Some("tenants"), Some(Ceiling::Observe)).await.unwrap();
    let before = system.world();
    let id = system.delete().await;
    for (stage, next) in [
        (Stage::Announce, Ceiling::Announce),
        (Stage::Soft, Ceiling::Soft),
        (Stage::Hard, Ceiling::Hard),
        (Stage::Purge, Ceiling::Purge),
    ] {
        let job = system.until_job(id, stage, |state| state.name() == StateName::Held).await;
        assert!(matches!(blocked(&job.state), Some(Blocker::Ceiling { .. })), "{job:?}");
        system.two_beacons().await;
        assert_eq!(system.job(id, JobKind::Stage(stage)).await.state.name(), StateName::Held);
        if stage <= Stage::Soft {
            assert_eq!(system.world(), before, "before {stage}");
        }
        let above = next.above();
        if let Some(above) = above {
            let refused = ceiling(&system, Some("tenants"), Some(above)).await.unwrap_err();
            assert!(refused.to_string().contains("stage by stage"), "{refused}");
        }
        ceiling(&system, Some("tenants"), Some(next)).await.unwrap();
    }
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_ceiling_stops_between_two_steps_and_no_restore() {
    let system = quick().await;
    let before = system.world();
    system.monitoring.close_at_change("silence", Point::Found);
    let id = system.delete().await;
    system.monitoring.reached().await;
    ceiling(&system, None, Some(Ceiling::Observe)).await.unwrap();
    system.monitoring.open();
    let job = system.until_job(id, Stage::Soft, |state| blocked(state).is_some()).await;
    assert!(matches!(job.state, JobState::Ready { blocked: Some(Blocker::Ceiling { .. }), .. }), "{job:?}");
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

/// Each way to pause, and whether it covers the soft stage of `vm/web01` at a step of monitoring.
fn selectors() -> Vec<(PauseSelector, bool)> {
    let with = |change: fn(&mut PauseSelector)| {
        let mut selector = PauseSelector::default();
        change(&mut selector);
        selector
    };
    vec![
        (with(|_| {}), true),
        (with(|s| s.stage = Some(Stage::Soft)), true),
        (with(|s| s.stage = Some(Stage::Hard)), false),
        (with(|s| s.kind = Some("vm".parse().unwrap())), true),
        (with(|s| s.kind = Some("image".parse().unwrap())), false),
        (with(|s| s.scope = Some("tenants".parse().unwrap())), true),
        (with(|s| s.scope = Some("tenants/acme".parse().unwrap())), true),
        (with(|s| s.scope = Some("tenants/ac".parse().unwrap())), false),
        (with(|s| s.subsystem = Some("monitoring".parse().unwrap())), true),
        (with(|s| s.subsystem = Some("backup".parse().unwrap())), false),
    ]
}

/// In force when the call returns: the next order that is asked for is not given.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_exactly_what_it_covers() {
    for (selector, covers) in selectors() {
        let system = System::start().await;
        let id = in_soft(&system).await;
        let paused = system.ledger.pause(selector.clone(), &ops(), "something smells").await.unwrap();
        system.monitoring.open();
        if covers {
            assert_eq!(paused.orders_out, 1);
            let job = system.until_job(id, Stage::Soft, |state| blocked(state).is_some()).await;
            let by = blocked(&job.state).unwrap();
            assert!(matches!(by, Blocker::Pause { pause, .. } if *pause == paused.pause.id), "{by:?}");
            assert!(system.monitoring.changes().is_empty(), "{selector:?}");
            assert!(system.ledger.resume(paused.pause.id, &ops(), None).await.unwrap().unwrap());
        }
        let begun = async || !system.monitoring.changes().is_empty();
        until(&format!("{selector:?} does not stop it (any more)"), begun).await;
    }
}

/// Before hard monitoring is looked at first, and backup has a step of it, too. A cancel is still taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_of_a_later_step_holds_a_stage_before_it_begins() {
    let system = quick().await;
    let before = system.world();
    let covers = PauseSelector {
        stage: Some(Stage::Hard),
        subsystem: Some(backup().subsystem),
        ..PauseSelector::default()
    };
    let paused = system.ledger.pause(covers, &ops(), "backups are moved").await.unwrap().pause.id;
    let by_it = |state: &JobState| match state {
        JobState::Held { by: Blocker::Pause { pause, .. }, .. } => *pause == paused,
        _ => false,
    };
    let kept = system.delete().await;
    system.until_job(kept, Stage::Hard, by_it).await;
    system.tell(kept, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(kept, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);

    let id = system.delete().await;
    system.until_job(id, Stage::Hard, by_it).await;
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Before hard monitoring is looked at first; nobody is there for backup, which has a step of it, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_stage_does_not_begin_while_a_later_step_has_nobody() {
    let mut system = System::start_with_last(&backup()).await;
    let before = system.world();
    let covers = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    let paused = system.ledger.pause(covers, &ops(), "until nobody is there").await.unwrap().pause.id;
    let id = system.delete().await;
    system.until_job(id, Stage::Hard, |state| blocked(state).is_some()).await;
    system.stop_last_consumer().await;
    let down =
        async || system.ledger.instances().await.unwrap().get(&backup()).is_some_and(|state| state.down);
    until("backup is down", down).await;
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    let nobody = |state: &JobState| matches!(blocked(state), Some(Blocker::Consumer { instance }) if *instance == backup());
    let job = system.until_job(id, Stage::Hard, nobody).await;
    assert_eq!(job.state.name(), StateName::Held);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_on_their_way_are_stopped_by_the_beacon() {
    let system = System::start().await;
    system.monitoring.close_at_change("silence", Point::Found);
    let id = system.delete().await;
    system.monitoring.reached().await;
    // One order that has been begun, up to its change, and one that is still in the queue.
    let mut in_the_queue = system.good_order(id).await;
    // A number that was given: an answer to any other says that the job table went back in time.
    in_the_queue.fence = system.job(id, SOFT).await.state.out().unwrap().fence;
    let paused = system.ledger.pause(PauseSelector::default(), &ops(), "stop everything").await.unwrap();
    assert_eq!(paused.orders_out, 1);
    system.two_beacons().await;
    let before = system.world();
    system.monitoring.open();
    system.until_answered(id, "before a pause").await;
    system.give(in_the_queue).await;
    until("it is taken", async || system.orders_waiting(&monitoring()).await == 0).await;
    system.two_beacons().await;
    assert!(system.monitoring.changes().is_empty());
    assert_eq!(system.world(), before);
    assert_eq!(system.job(id, SOFT).await.attempts, 0, "a pause spends no attempt");
    assert!(system.ledger.resume(paused.pause.id, &ops(), None).await.unwrap().unwrap());
    system.until_over(id, RecordStatus::Recycled).await;
}

/// One order lies in its queue, for its consumer is not there; the next one is stopped right before its change.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_by_http_stops_what_is_queued_and_what_is_delivered_until_it_is_lifted() {
    let mut system = System::not_started().await;
    let url = system.serve_inventory().await;
    let pause = async || {
        let paused = ask(&url, TRUSTED, "POST", "/v1/pauses", &reason()).await;
        assert_eq!((paused.status, &paused.body["orders_out"]), (201, &json!(1)), "{paused:?}");
        format!("/v1/pauses/{}", paused.body["pause"]["id"])
    };
    let lift = async |pause: &str| {
        let lifted = ask(&url, TRUSTED, "DELETE", pause, &NONE).await;
        assert_eq!(lifted.status, 200, "{lifted:?}");
    };
    system.start_coordinator();
    for instance in [backup(), monitoring()] {
        system.start_consumer(&instance).await;
    }
    // It has just pulsed, and so is ordered to look.
    system.stop_last_consumer().await;
    let before = system.world();
    let id = system.delete().await;
    until("it lies in its queue", async || system.orders_waiting(&monitoring()).await == 1).await;
    let paused = pause().await;
    system.start_consumer(&monitoring()).await;
    system.until_answered(id, "before a pause").await;
    let by_it = |state: &JobState| matches!(blocked(state), Some(Blocker::Pause { .. }));
    let job = system.until_job(id, Stage::Announce, by_it).await;
    assert_eq!((job.cursor, job.attempts), (0, 0), "a pause spends no attempt: {job:?}");

    system.monitoring.close_at_change("silence", Point::Found);
    lift(&paused).await;
    system.monitoring.reached().await;
    let paused = pause().await;
    system.two_beacons().await;
    system.monitoring.open();
    let stopped = async || {
        let trail = system.view(id).await.audit;
        let mut of_soft = trail.iter().map(|row| &row.event).filter(|event| event.job == Some(SOFT));
        of_soft.any(|event| event.detail.contains("before a pause"))
    };
    until("what was delivered is answered", stopped).await;
    let job = system.until_job(id, Stage::Soft, by_it).await;
    assert_eq!(job.attempts, 0, "{job:?}");
    assert!(system.monitoring.changes().is_empty());
    assert_eq!(system.world(), before);
    lift(&paused).await;
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_survives_a_restart() {
    let system = System::start().await;
    let paused = system.ledger.pause(PauseSelector::default(), &ops(), "for the night").await.unwrap().pause;
    let id = system.delete().await;
    system.until_job(id, Stage::Announce, |state| state.name() == StateName::Held).await;
    let system = system.restarted().await;
    assert_eq!(system.ledger.pauses().await.unwrap(), std::slice::from_ref(&paused));
    let web02 = "vm/web02".parse().unwrap();
    system.register_named(&web02, false).await;
    let next = system.delete_named(web02, system.ledger.facts().await.unwrap().now).await;
    system.until_job(next, Stage::Announce, |state| state.name() == StateName::Held).await;
    assert_eq!(system.job(id, JobKind::Stage(Stage::Announce)).await.state.name(), StateName::Held);
    assert!(system.ledger.resume(paused.id, &ops(), None).await.unwrap().unwrap());
    system.until_over(id, RecordStatus::Recycled).await;
}

/// With a soft stage of short deadlines: a restore waits for them.
async fn quick() -> System {
    let short = |action: &str| format!("{{ do = \"{action}\", deadline_ms = 2000, longest_call_ms = 200 }}");
    let soft = "[{ do = \"monitoring.silence\" }, { do = \"backup.final\" }]";
    let quick = format!("[{}, {}]", short("monitoring.silence"), short("backup.final"));
    System::start_with(soft, &quick).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_pause_stops_a_restore() {
    let system = quick().await;
    let before = system.world();
    system.backup.close("final", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    assert_ne!(system.world(), before);
    let paused = system.ledger.pause(PauseSelector::default(), &ops(), "stop everything").await.unwrap();
    system.two_beacons().await;
    system.backup.open();
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
    assert_eq!(system.monitoring.changes(), ["perform silence", "undo silence"]);
    assert_eq!(system.ledger.pauses().await.unwrap(), [paused.pause], "it is still in force");
}

/// A broker may deliver the order once more: nothing is undone before that could no longer be begun.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_undone_before_the_deadline_of_the_last_order() {
    let system = quick().await;
    let before = system.world();
    system.monitoring.close_at_change("silence", Point::Found);
    let id = system.delete().await;
    system.monitoring.reached().await;
    let deadline = system.job(id, SOFT).await.state.out().unwrap().deadline;
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.monitoring.close("silence", Point::Look);
    system.monitoring.open();
    // The next that comes is the undo.
    system.monitoring.reached().await;
    let now = system.ledger.facts().await.unwrap().now;
    assert!(now > deadline, "it was to be undone at {now}, and could be begun until {deadline}");
    assert_eq!(system.monitoring.changes(), ["perform silence"]);
    system.monitoring.open();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_under_way_is_not_stopped_by_a_pause() {
    let system = quick().await;
    let before = system.world();
    system.backup.close("final", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    system.monitoring.close("silence", Point::Found);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.backup.open();
    system.monitoring.reached().await;
    system.ledger.pause(PauseSelector::default(), &ops(), "stop everything").await.unwrap();
    system.two_beacons().await;
    system.monitoring.open();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
    let turned_away = system.view(id).await.audit.into_iter().find(|row| row.event.detail.contains("pause"));
    assert!(turned_away.is_none(), "{turned_away:?}");
}
