//! Was it really deleted? What a person lets pass, or saves by hand, and what is signed of a record then.
use std::sync::Arc;

use serde_json::json;
use sexton_api::{ClientError, Rescue, Waive};
use sexton_coordinator::api::{Api, serve};
use sexton_ledger::{AlarmFilter, Decided, NotDone};
use sexton_model::access::Role;
use sexton_model::alarm::{Alarm, AlarmKind, Severity, Subject};
use sexton_model::audit::What;
use sexton_model::belts::PauseSelector;
use sexton_model::catalogue::Nature;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::receipt::{Proof, Receipt, SignedReceipt, StepProof};
use sexton_model::resource::{Presence as Registration, Resource};
use sexton_model::step::Presence;
use sexton_model::{Actor, DeletionId};
use sexton_protocol::receipt::open;
use sexton_protocol::{BeaconSigner, BeaconVerifier};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::gate::{Flaw, Point};
use super::system::footing::Footing;
use super::system::{System, monitoring, on_many_machines, ops, until, web01};

on_many_machines! {
    the_receipt_says_what_each_subsystem_showed_and_what_a_person_stated,
    what_may_remain_keeps_what_it_uses_and_the_name_until_somebody_has_seen_it_gone,
    what_nobody_could_see_completes_nothing,
    what_was_saved_by_hand_is_rescued_behind_hard_once_all_is_quiet,
    nothing_is_rescued_once_purge_has_begun,
    only_an_approver_of_its_scope_waives_and_rescues,
    a_purge_whose_trail_was_rewritten_has_no_receipt_and_that_is_told,
}

/// Nothing that is ordered up to the end of hard is carried out after five seconds: a rescue waits for that.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }, { do = "backup.inspect" }]
[stages.soft]
offset_days = 0
steps = [
  { do = "monitoring.silence", deadline_ms = 5000, longest_call_ms = 500 },
  { do = "backup.final", deadline_ms = 5000, longest_call_ms = 500 },
]
[stages.hard]
offset_days = 1
steps = [
  { do = "monitoring.remove_target", deadline_ms = 5000, longest_call_ms = 500 },
  { do = "backup.remove_schedule", deadline_ms = 5000, longest_call_ms = 500 },
  { do = "inventory.remove", after = ["monitoring.remove_target"] },
]
[stages.purge]
offset_days = 2
steps = [
  { do = "backup.delete_archives", after = ["backup.remove_schedule"] },
  { do = "monitoring.delete_history", after = ["monitoring.remove_target"] },
  { do = "receipt" },
]
[stages.recycle]
offset_days = 3
steps = []
"#;
const PURGE: JobKind = JobKind::Stage(Stage::Purge);
const NOT_SEEN: &str = "performed, but it was not seen to be gone";

/// Everything runs, and receipts are signed; what verifies them.
async fn signing() -> (System, BeaconVerifier) {
    let mut system = System::not_started_on(PLAN).await;
    let keys = system.coordinate_signing();
    system.start_everything().await;
    (system, keys)
}

fn boss() -> Actor {
    "boss".parse().unwrap()
}

/// Nobody can see whether the target was removed, and the step is parked.
async fn out_of_sight(system: &System) -> DeletionId {
    system.monitoring.set_flaw("remove_target", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    system.until_answered(id, NOT_SEEN).await;
    assert!(
        system.backup.changes().iter().all(|change| change == "perform final"),
        "what follows has to wait"
    );
    system.until_parked(id).await;
    id
}

async fn waive(
    system: &System,
    id: DeletionId,
    claim: WaiverClaim,
    evidence: &str,
) -> Result<Decided, NotDone> {
    let (mark, evidence) = (system.mark(id).await, evidence.to_owned());
    system.tell(id, Event::Waive { by: boss(), claim, mark, evidence }).await
}

async fn rescue(system: &System, id: DeletionId) -> Result<Decided, NotDone> {
    system.tell(id, Event::Rescue { by: boss(), evidence: "started again by hand".into() }).await
}

fn step<'a>(receipt: &'a Receipt, name: &str) -> &'a StepProof {
    receipt.steps.iter().find(|step| step.step == name).unwrap()
}

/// Each answer that it rests on stands in the audit trail so; what was destroyed was seen to be gone, and nothing is
/// unknown. The names of the others: what a person stated.
async fn stated(system: &System, id: DeletionId, receipt: &Receipt) -> Vec<String> {
    let view = system.view(id).await;
    let all: usize = Stage::ALL.into_iter().map(|stage| view.deletion.plan.stage(stage).steps.len()).sum();
    assert_eq!(receipt.steps.len(), all, "each step is named");
    let mut waived = Vec::new();
    for step in &receipt.steps {
        match &step.proof {
            Proof::Seen { presence, evidence, at, fence, event } => {
                let said = &view.audit.iter().find(|row| row.seq == *event).unwrap().event;
                assert_eq!(
                    (said.presence, said.at, said.fence),
                    (Some(*presence), *at, Some(*fence)),
                    "{step:?}"
                );
                assert!(said.detail == *evidence && !evidence.is_empty(), "{step:?}");
                assert!(receipt.created_at <= *at && *at <= receipt.purged_at, "{step:?}");
                let gone = *presence == Presence::Absent;
                assert!(gone || step.nature != Nature::Destructive, "{step:?}");
                assert_ne!(*presence, Presence::Unknown, "{step:?}");
            }
            Proof::Decided { .. } => assert_eq!(step.instance, None, "{step:?}"),
            Proof::Waived { .. } => waived.push(step.step.clone()),
        }
    }
    let end = view.audit.iter().find(|row| row.seq == receipt.rests_on.seq).unwrap();
    assert_eq!(end.hash, receipt.rests_on.hash);
    waived
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receipt_says_what_each_subsystem_showed_and_what_a_person_stated() {
    let (system, keys) = signing().await;
    let id = out_of_sight(&system).await;
    waive(&system, id, WaiverClaim::Absent, "the server lists no such target").await.unwrap();
    let receipt = system.until_receipt(id, &keys).await;
    assert_eq!(stated(&system, id, &receipt).await, ["monitoring.remove_target"]);
    let Proof::Waived { claim, by, evidence, shown, .. } = &step(&receipt, "monitoring.remove_target").proof
    else {
        panic!("{receipt:?}")
    };
    assert_eq!((*claim, by.as_str(), *shown), (WaiverClaim::Absent, "boss", None));
    assert_eq!(evidence, "the server lists no such target");
    // What depends on it was carried out.
    assert!(system.monitoring.changes().contains(&"perform delete_history".to_owned()));
    assert_eq!((receipt.complete, receipt.deletion, &receipt.resource.id), (true, id, &web01()));
    assert_eq!(receipt.sentence(), "all of it is gone (1 step on a person's statement)");

    // Nobody else has signed it, nor anything else.
    let signed = system.ledger.receipt(id).await.unwrap().unwrap();
    let changed = SignedReceipt { body: signed.body.replace("boss", "root"), ..signed.clone() };
    assert_ne!(changed, signed);
    open(&changed, &keys).unwrap().signed.unwrap_err();
    let stranger = BeaconSigner::generate(signed.key_id.as_str(), &mut rand::rng()).verifier();
    open(&signed, &stranger).unwrap().signed.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_remain_keeps_what_it_uses_and_the_name_until_somebody_has_seen_it_gone() {
    let (system, keys) = signing().await;
    let id = out_of_sight(&system).await;
    waive(&system, id, WaiverClaim::MayRemain, "the server is gone").await.unwrap();
    let receipt = system.until_receipt(id, &keys).await;
    let remain = ["monitoring.remove_target", "inventory.remove", "monitoring.delete_history"];
    assert_eq!(stated(&system, id, &receipt).await, remain);
    let named: Vec<&str> = receipt.remains.iter().map(|left| left.step.as_str()).collect();
    assert_eq!((receipt.complete, &named[..]), (false, &remain[..]));
    assert_eq!(receipt.remains[0].evidence, "the server is gone");
    assert_eq!(receipt.remains[2].evidence, "follows from: the server is gone");
    assert_eq!(receipt.remains[2].instance, Some(monitoring()));
    assert!(receipt.sentence().starts_with("NOT all of it is gone (3 steps on a person's statement): "));
    // What does not depend on it was carried out, and nothing else.
    assert_eq!(system.monitoring.changes(), ["perform silence", "perform remove_target"]);
    assert_eq!(
        system.backup.changes(),
        ["perform final", "perform remove_schedule", "perform delete_archives"]
    );
    assert!(!system.world()[0]["history"].is_null());

    let parked = |state: &JobState| state.name() == StateName::Parked;
    let job = system.until_job(id, Stage::Recycle, parked).await;
    let JobState::Parked { reason } = &job.state else { panic!("{job:?}") };
    assert!(reason.starts_with(&format!("the name stays taken: {}", remain.join(", "))), "{reason}");
    let another = json!({
        "id": web01(), "scope": "tenants/acme", "identity": { "uuid": "u2" }, "criticality": "irreplaceable",
    });
    let another: Resource = serde_json::from_value(another).unwrap();
    let registered = system.ledger.register(vec![another], &ops(), true).await.unwrap().remove(0);
    assert!(
        matches!(registered, Err(NotDone::NameTaken { .. } | NotDone::OtherIdentity(_))),
        "{registered:?}"
    );
    // Neither trying again nor saying once more that it may remain is a way out.
    let in_use = NotDone::from(Refusal::NameInUse(remain.join(", ")));
    assert_eq!(system.tell(id, Event::Retry { by: ops() }).await.unwrap_err(), in_use);
    assert_eq!(waive(&system, id, WaiverClaim::MayRemain, "as before").await.unwrap_err(), in_use);
    let signed = system.ledger.receipt(id).await.unwrap();
    waive(&system, id, WaiverClaim::Absent, "its disks were shredded").await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert_eq!(system.ledger.receipt(id).await.unwrap(), signed, "it says what was known then");
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_could_see_completes_nothing() {
    let (system, keys) = signing().await;
    system.monitoring.set_flaw("delete_history", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    system.until_answered(id, NOT_SEEN).await;
    // It is gone, and nobody knows.
    assert!(system.world()[0]["history"].is_null());
    system.until_answered(id, "yet not seen to be gone: nothing can be seen").await;
    assert_ne!(system.job(id, PURGE).await.state, JobState::Done);
    assert_eq!(system.ledger.receipt(id).await.unwrap(), None);

    system.monitoring.set_flaw("delete_history", None);
    let receipt = system.until_receipt(id, &keys).await;
    assert_eq!(stated(&system, id, &receipt).await, Vec::<String>::new());
    assert_eq!((receipt.complete, receipt.sentence().as_str()), (true, "all of it is gone"));
    let Proof::Seen { evidence, .. } = &step(&receipt, "monitoring.delete_history").proof else {
        panic!("{receipt:?}")
    };
    assert!(evidence.contains("already absent in sandbox:monitoring.main"), "{evidence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_saved_by_hand_is_rescued_behind_hard_once_all_is_quiet() {
    let (system, _) = signing().await;
    let purge = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
    let paused = system.ledger.pause(purge, &ops(), "somebody saves it").await.unwrap().pause.id;
    system.backup.close("final", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    let early = NotDone::from(Refusal::NoRescue("it can still be cancelled"));
    assert_eq!(rescue(&system, id).await.unwrap_err(), early);
    system.monitoring.close("remove_target", Point::Look);
    system.backup.open();
    system.monitoring.reached().await;
    let refused = rescue(&system, id).await.unwrap_err();
    assert!(matches!(refused, NotDone::Refused(Refusal::OrderMayRun(_))), "{refused}");
    system.monitoring.open();

    let job = system.until_job(id, Stage::Hard, |state| *state == JobState::Done).await;
    let at = async || system.ledger.resource(&web01()).await.unwrap().unwrap();
    assert_eq!(at().await.presence, Registration::Tombstone);
    let is_quiet = async || system.ledger.facts().await.unwrap().now > job.quiet_after;
    until("nothing of hard can be carried out any more", is_quiet).await;
    let held = system.until_job(id, Stage::Purge, |state| state.name() == StateName::Held).await;
    assert!(!held.touched, "{held:?}");
    assert_eq!(rescue(&system, id).await.unwrap().status, RecordStatus::Rescued);
    let there = at().await;
    assert_eq!((there.presence, there.live), (Registration::Registered, None));

    // It is over: nothing more is done to it, and nobody signs that it is gone.
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    system.claim_everything_now(id).await;
    system.two_beacons().await;
    assert_eq!(system.job(id, PURGE).await.state, JobState::Rescued);
    assert_eq!(system.backup.changes(), ["perform final", "perform remove_schedule"]);
    assert_eq!(system.ledger.receipt(id).await.unwrap(), None);
    let over = NotDone::from(Refusal::NotLive(RecordStatus::Rescued));
    assert_eq!(rescue(&system, id).await.unwrap_err(), over);
    assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_rescued_once_purge_has_begun() {
    let (system, keys) = signing().await;
    system.backup.close("delete_archives", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    let late = NotDone::from(Refusal::NoRescue("purge has begun"));
    assert_eq!(rescue(&system, id).await.unwrap_err(), late);
    system.backup.open();
    assert!(system.until_receipt(id, &keys).await.complete);
}

/// What it refuses with.
fn status<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> u16 {
    match answer {
        Err(ClientError::Problem(problem)) => problem.status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_approver_of_its_scope_waives_and_rescues() {
    let (system, _) = signing().await;
    let purge = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
    system.ledger.pause(purge, &ops(), "somebody saves it").await.unwrap();
    let id = out_of_sight(&system).await;
    let api = Arc::new(Api { engine: system.engine.clone(), plans: Arc::default(), token: None });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(listener, api, stop.clone()));
    let (claim, evidence) = (WaiverClaim::Absent, "I have looked".to_owned());
    let gone = Waive { claim, mark: system.mark(id).await, evidence };
    let saved = Rescue { evidence: "it runs elsewhere".into() };
    let others =
        [("olga", Role::Operator, "tenants/acme", 403), ("otto", Role::Approver, "tenants/other", 404)];
    for (name, role, scope, refused) in others {
        let client = system.asking(&url, (name, role, scope)).await;
        assert_eq!(status(client.waive(id, &gone).await), refused, "{name}");
        assert_eq!(status(client.rescue(id, &saved).await), refused, "{name}");
    }
    let view = system.view(id).await;
    assert_eq!((view.deletion.waivers.len(), view.deletion.status), (0, RecordStatus::Live));

    let anna = system.asking(&url, ("anna", Role::Approver, "tenants")).await;
    // It is shown to her, and another thing is not what she has looked at.
    let info = anna.deletion(&id.to_string()).await.unwrap();
    assert_eq!(info.mark.as_ref(), Some(&gone.mark));
    let other = Waive { mark: "0".repeat(12), ..gone.clone() };
    assert_eq!(status(anna.waive(id, &other).await), 409);
    assert_eq!(anna.waive(id, &gone).await.unwrap().status, RecordStatus::Live);
    let job = system.until_job(id, Stage::Hard, |state| *state == JobState::Done).await;
    let is_quiet = async || system.ledger.facts().await.unwrap().now > job.quiet_after;
    until("nothing of hard can be carried out any more", is_quiet).await;
    assert_eq!(anna.rescue(id, &saved).await.unwrap().status, RecordStatus::Rescued);
    let trail = system.view(id).await.audit;
    let decided = trail.iter().map(|row| (row.event.what, row.event.by.as_str(), row.event.detail.as_str()));
    let by_people: Vec<_> =
        decided.filter(|(what, ..)| matches!(what, What::Waived | What::Rescued)).collect();
    assert_eq!(
        by_people,
        [(What::Waived, "anna", "absent: I have looked"), (What::Rescued, "anna", "it runs elsewhere")]
    );
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_whose_trail_was_rewritten_has_no_receipt_and_that_is_told() {
    let (system, _) = signing().await;
    let purge = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
    let paused = system.ledger.pause(purge, &ops(), "somebody rewrites its trail").await.unwrap().pause.id;
    let id = system.delete().await;
    system.until_job(id, Stage::Purge, |state| state.name() == StateName::Held).await;
    system.execute(match Footing::now() {
        Footing::Embedded => "DROP TRIGGER audit_keeps_events",
        Footing::Many => "DROP TRIGGER append_only ON audit",
    });
    let by = "'\"by\":\"', '\"by\":\"x'";
    let rewrite =
        format!("UPDATE audit SET body = replace(body, {by}) WHERE deletion_id = {} AND seq = 1", id.0);
    system.execute(&rewrite);
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    system.until_job(id, Stage::Purge, |state| *state == JobState::Done).await;

    let told = async || -> Vec<Alarm> {
        system.engine.alarm().await.unwrap();
        let filter = AlarmFilter { ended: false, before: None, limit: 100 };
        let open = system.ledger.alarms(filter).await.unwrap().items.into_iter();
        open.map(|view| view.standing.alarm).filter(|alarm| alarm.kind == AlarmKind::NoReceipt).collect()
    };
    until("somebody is told", async || !told().await.is_empty()).await;
    let [alarm] = told().await.try_into().unwrap();
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    assert_eq!((&alarm.subject, alarm.severity), (&subject, Severity::Critical));
    assert!(alarm.text.contains("is purged and has no receipt: its audit chain is broken"), "{alarm:?}");
    assert_eq!(system.ledger.receipt(id).await.unwrap(), None);
}
