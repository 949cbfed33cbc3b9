//! How much one call may ask for, and how much an answer may bring.
use serde_json::json;
use sexton_ledger::{CREATE_MAX, Intent, LedgerError, PULSE_MAX, REGISTER_MAX, RUN_MAX};
use sexton_model::DeletionId;
use sexton_model::access::Registrar;
use sexton_model::decide::Event;
use sexton_model::job::{JobKind, JobState, Stage};
use sexton_model::step::{FINDING_MAX_BYTES, Mode, Outcome, Presence, TARGETS_MAX_BYTES};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, alive, job_id, named, resource, right_answer};

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, LedgerError>, max: usize) {
    match answer {
        Err(LedgerError::TooMany { found, most, .. }) => assert_eq!((found, most), (max + 1, max)),
        other => panic!("expected a refusal of more than {max}, got {other:?}"),
    }
}

pub async fn a_call_that_asks_for_too_much_is_refused_whole(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let hold = Intent { deletion: id, event: Event::PlaceHold { by: actor("ops"), reason: "wait".into() } };
    refused(on.ledger.run(vec![hold.clone(); RUN_MAX + 1]).await, RUN_MAX);
    let new: Vec<_> = (0..=REGISTER_MAX).map(|n| resource(&format!("vm{n}"), "1")).collect();
    refused(on.ledger.check_resources(&Registrar::Trusted, new.clone(), &actor("ops")).await, REGISTER_MAX);
    refused(on.ledger.register(new, &actor("ops"), false).await, REGISTER_MAX);
    let name = on.register("web02").await;
    let wanted = on.wanted(&name).await;
    refused(on.ledger.create(vec![wanted; CREATE_MAX + 1]).await, CREATE_MAX);
    refused(on.ledger.pulse(vec![alive("other.main"); PULSE_MAX + 1]).await, PULSE_MAX);

    let view = on.view(id).await;
    assert_eq!((view.deletion.holds.len(), view.audit.len()), (0, 1), "nothing was decided");
    assert!(
        on.ledger.resource(&"vm/vm0".parse().unwrap()).await.unwrap().is_none(),
        "nothing was registered"
    );
    assert_eq!(on.ledger.deletion_of(&name).await.unwrap(), None, "no record was made");
    assert!(!on.ledger.instances().await.unwrap().contains_key(&"other.main".parse().unwrap()));

    // As much as is allowed is done, and the next batch's orders have greater numbers.
    let mut batch = vec![Intent { deletion: DeletionId(99), ..hold.clone() }; RUN_MAX];
    batch[RUN_MAX - 1] = Intent { deletion: id, event: Event::Claim { job: job_id(id, Stage::Announce) } };
    let mut results = on.ledger.run(batch).await.unwrap();
    assert_eq!(results.len(), RUN_MAX);
    let last = results.remove(RUN_MAX - 1).unwrap().dispatch.unwrap();
    let next = on.answer(&last, right_answer(&last)).await.unwrap().dispatch.unwrap();
    assert!(next.spec.fence > last.spec.fence, "{} then {}", last.spec.fence, next.spec.fence);
}

fn brought(presence: Presence, bytes: usize, key: &str) -> Outcome {
    let finding = Some(json!({ key: "x".repeat(bytes) }));
    Outcome::Done { presence, evidence: "seen".into(), finding }
}

async fn parked_for(on: &Stagehand, id: DeletionId, stage: Stage, text: &str) {
    let job = on.job(id, JobKind::Stage(stage)).await;
    assert!(matches!(&job.state, JobState::Parked { reason } if reason.contains(text)), "{job:?}");
}

/// What steps create joins what is pinned, and travels with every later order. Before it is too much for one, the job
/// parks.
pub async fn targets_that_grow_too_large_park_the_job(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let stop = |name: &str, mode| name == "hypervisor.stop" && mode == Mode::Perform;
    let order = on.play_to(id, stop).await.unwrap();
    let part = TARGETS_MAX_BYTES * 2 / 3;
    let next = on.answer(&order, brought(Presence::Present, part, "one")).await.unwrap().dispatch;
    on.play(next, &mut Vec::new(), |_, _| false).await;
    let reread = on.claim(id, Stage::Hard).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&reread), ("hypervisor.inspect@hard".to_owned(), Mode::Reread));
    // What appeared is held to the same bound.
    on.answer(&reread, brought(Presence::Present, part, "two")).await.unwrap();
    parked_for(&on, id, Stage::Hard, "with what has appeared the targets of").await;
    let reread = on.one(id, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.unwrap();
    let order = on.answer(&reread, brought(Presence::Present, 0, "seen")).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&order).0, "hypervisor.undefine");
    let pinned = order.targets.clone().unwrap();
    assert!(pinned["one"].as_str().unwrap().len() == part && pinned["seen"].is_array());

    on.answer(&order, brought(Presence::Absent, part, "two")).await.unwrap();
    parked_for(&on, id, Stage::Hard, "more than the 262144 that travel with an order").await;
    assert_eq!(on.view(id).await.targets[&order.spec.instance], pinned, "they stay as they were");
    // The same thing again is no more than there is, and another instance has targets of its own.
    let again = on.one(id, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.unwrap();
    assert_eq!(again.targets, Some(pinned));
    let next = on.answer(&again, brought(Presence::Absent, part, "one")).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&next).0, "dns.remove");
    on.answer(&next, brought(Presence::Absent, part, "two")).await.unwrap();
    assert_eq!(on.view(id).await.targets[&next.spec.instance]["two"].as_str().unwrap().len(), part);
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

pub async fn a_finding_that_is_too_large_parks_the_job(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (seen, captured) = (on.doomed("web01").await, on.doomed("web02").await);
    let order = on.claim(seen, Stage::Announce).await.unwrap().dispatch.unwrap();
    on.answer(&order, brought(Presence::Present, FINDING_MAX_BYTES, "seen")).await.unwrap();
    parked_for(&on, seen, Stage::Announce, "more than the 65536").await;
    let order = on.play_to(captured, |_, mode| mode == Mode::Capture).await.unwrap();
    on.answer(&order, brought(Presence::Present, FINDING_MAX_BYTES, "manifest")).await.unwrap();
    parked_for(&on, captured, Stage::Announce, "more than the 65536").await;
    assert!(on.view(seen).await.targets.is_empty(), "nothing of it is kept");
}

/// Wanted back while a step was under way that created more than fits: the step is undone all the same, and the undo
/// knows of what it created.
pub async fn what_a_cancelled_step_created_is_kept_though_it_is_too_large(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let stop = |name: &str, mode| name == "hypervisor.stop" && mode == Mode::Perform;
    let order = on.play_to(id, stop).await.unwrap();
    on.one(id, cancel()).await.unwrap();
    let decided = on.answer(&order, brought(Presence::Present, TARGETS_MAX_BYTES, "made")).await.unwrap();
    let job = on.job(id, JobKind::Stage(Stage::Soft)).await;
    assert_eq!(job.state, JobState::Cancelled);
    let pinned = on.view(id).await.targets.remove(&order.spec.instance).unwrap();
    assert_eq!(pinned["made"].as_str().unwrap().len(), TARGETS_MAX_BYTES);
    let undo = match decided.dispatch {
        Some(undo) => undo,
        None => on.wake(id, JobKind::Restore).await.dispatch.unwrap(),
    };
    assert_eq!(named(&undo), ("hypervisor.stop".to_owned(), Mode::Undo));
    assert_eq!(undo.targets, Some(pinned));
    // That no message can carry it, who publishes it says; it parks, and a person can look.
    on.answer(&undo, Outcome::refused("the order cannot be written down")).await.unwrap();
    assert!(matches!(on.job(id, JobKind::Restore).await.state, JobState::Parked { .. }));
}
