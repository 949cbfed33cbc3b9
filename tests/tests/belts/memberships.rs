//! A machine's place in a cluster: its key goes in the cluster and on the machine, and only when it was seen to be gone in both
//! may the machine join another one.
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::json;
use sexton_ledger::NotDone;
use sexton_model::belts::PauseSelector;
use sexton_model::catalogue::Nature;
use sexton_model::decide::Event;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::exclusive::{CannotShare, Lacks};
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::receipt::{Proof, Receipt};
use sexton_model::resource::{Identity, Presence as Registration, Resource};
use sexton_model::step::Presence;
use sexton_model::{Actor, DeletionId, Instance, ResourceId};

use super::gate::{Flaw, Point};
use super::system::{System, cluster, machines, on_many_machines, ops};

on_many_machines! {
    another_cluster_is_joined_when_the_key_was_seen_to_be_gone_in_both_places,
    nobody_leaves_by_being_registered_for_another_machine_or_scope,
    what_is_revoked_in_words_or_out_of_sight_keeps_its_place,
    a_key_that_may_remain_keeps_its_place_until_somebody_has_seen_it_gone,
    a_key_that_nobody_has_looked_at_is_not_revoked,
}

const PLACE: &str = "machine/storage07";
const HARD: JobKind = JobKind::Stage(Stage::Hard);

fn id(cluster: &str) -> ResourceId {
    format!("membership/storage07-{cluster}").parse().unwrap()
}

fn identity(cluster: &str) -> Identity {
    let of = [("cluster", format!("fsid-{cluster}")), ("machine", "serial-7".to_owned())];
    let of: BTreeMap<String, String> = of.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    of.try_into().unwrap()
}

fn membership(cluster: &str) -> Resource {
    let stated = json!({
        "id": id(cluster), "scope": "storage/eu", "criticality": "credential", "identity": identity(cluster),
        "instances": { "cluster": cluster }, "exclusive": PLACE,
    });
    serde_json::from_value(stated).unwrap()
}

/// The keys of both memberships lie where they have to. Of the first one it is said that the machine has joined.
async fn member_of_a() -> System {
    let system = System::not_started_with_keys().await;
    for name in ["a", "b"] {
        for place in [cluster(name), machines()] {
            system.make_key(&place, &id(name), &identity(name));
        }
    }
    register(&system, membership("a")).await.unwrap();
    system
}

async fn register(system: &System, resource: Resource) -> Result<(), NotDone> {
    system.ledger.register(vec![resource], &ops(), true).await.unwrap().remove(0)
}

/// That it has joined the second one is not confirmed.
async fn refused(system: &System, leaving: Option<DeletionId>, lacks: Lacks) {
    let why = CannotShare::Taken { place: PLACE.to_owned(), by: id("a"), deletion: leaving, lacks };
    assert_eq!(register(system, membership("b")).await, Err(why.into()));
    assert!(system.ledger.resource(&id("b")).await.unwrap().is_none(), "it is registered all the same");
}

/// It is.
async fn joins_b(system: &System) {
    register(system, membership("b")).await.unwrap();
    let b = system.ledger.resource(&id("b")).await.unwrap().unwrap();
    assert_eq!(b.presence, Registration::Registered);
    // What went was the first one's.
    assert!(system.has_key(&cluster("b"), &id("b")) && system.has_key(&machines(), &id("b")));
}

/// It is to leave the first one, now.
async fn leave(system: &System) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(id("a"), now).await
}

/// Whether its key is there: in the cluster, and on the machine.
fn keys(system: &System) -> (bool, bool) {
    (system.has_key(&cluster("a"), &id("a")), system.has_key(&machines(), &id("a")))
}

fn is_done(state: &JobState) -> bool {
    *state == JobState::Done
}

/// What both places showed after the last key was taken away, each by its own answer.
fn seen_absent(receipt: &Receipt) -> Vec<&Instance> {
    let seen = receipt.steps.iter().filter(|step| {
        let absent = matches!(
            &step.proof,
            Proof::Seen { presence: Presence::Absent, evidence, .. } if !evidence.is_empty()
        );
        step.nature == Nature::Destructive && absent
    });
    seen.filter_map(|step| step.instance.as_ref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_cluster_is_joined_when_the_key_was_seen_to_be_gone_in_both_places() {
    let mut system = member_of_a().await;
    system.start_everything().await;
    refused(&system, None, Lacks::Record).await;
    let purge = PauseSelector { stage: Some(Stage::Purge), ..PauseSelector::default() };
    let paused = system.ledger.pause(purge, &ops(), "one after the other").await.unwrap().pause.id;
    let (in_cluster, on_machine) = (system.keys_at(&cluster("a")), system.keys_at(&machines()));
    in_cluster.close("revoke", Point::Look);
    on_machine.close("remove", Point::Look);

    let leaving = leave(&system).await;
    in_cluster.reached().await;
    assert_eq!(in_cluster.changes(), ["perform disable"], "good for nothing, and there");
    assert_eq!(keys(&system), (true, true));
    refused(&system, Some(leaving), Lacks::Hard).await;
    in_cluster.open();
    on_machine.reached().await;
    assert_eq!(keys(&system), (false, true));
    refused(&system, Some(leaving), Lacks::Hard).await;
    on_machine.open();
    system.until_job(leaving, Stage::Hard, is_done).await;
    assert_eq!(keys(&system), (false, false));
    refused(&system, Some(leaving), Lacks::Purge).await;

    // All of it is over, and nobody has signed that yet.
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    system.until_job(leaving, Stage::Purge, is_done).await;
    refused(&system, Some(leaving), Lacks::Receipt).await;
    system.stop_coordinator().await;
    let signed_by = system.coordinate_signing();
    system.start_coordinator();
    let receipt = system.until_receipt(leaving, &signed_by).await;
    assert!(receipt.complete, "{receipt:?}");
    assert_eq!(seen_absent(&receipt), [&cluster("a"), &machines()]);
    joins_b(&system).await;
    // Now that one is in the way of whoever wants to go back.
    register(&system, membership("a")).await.unwrap_err();
}

/// While its key is out of use, and there.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_leaves_by_being_registered_for_another_machine_or_scope() {
    let mut system = member_of_a().await;
    system.start_everything().await;
    let (scope, from) = ("storage/us".parse().unwrap(), membership("a").scope);
    let elsewhere = Resource { scope, ..membership("a") };
    let why = CannotShare::OtherScope { resource: id("a"), place: PLACE.to_owned(), from: from.clone() };
    assert_eq!(register(&system, elsewhere.clone()).await, Err(why.into()));
    let in_cluster = system.keys_at(&cluster("a"));
    in_cluster.close("revoke", Point::Look);
    let deletion = leave(&system).await;
    in_cluster.reached().await;
    let moved = CannotShare::Moved { resource: id("a"), from: PLACE.to_owned() };
    for place in [None, Some("machine/storage08".to_owned())] {
        let elsewhere = Resource { exclusive: place, ..membership("a") };
        assert_eq!(register(&system, elsewhere).await, Err(moved.clone().into()));
    }
    let stays = NotDone::StaysInScope { resource: id("a"), from, deletion };
    assert_eq!(register(&system, elsewhere).await, Err(stays));
    let a = system.ledger.resource(&id("a")).await.unwrap().unwrap().resource;
    assert_eq!((a.scope, a.exclusive), (membership("a").scope, Some(PLACE.to_owned())));
    assert_eq!(keys(&system), (true, true));
}

/// The cluster says that it has revoked the key, which is there; and of the machine nobody can tell.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_in_words_or_out_of_sight_keeps_its_place() {
    let mut system = member_of_a().await;
    let signed_by = system.coordinate_signing();
    system.start_everything().await;
    let (in_cluster, on_machine) = (system.keys_at(&cluster("a")), system.keys_at(&machines()));
    in_cluster.set_flaw("revoke", Some(Flaw::DoesNothing));
    on_machine.set_flaw("remove", Some(Flaw::SeesNothing));
    let leaving = leave(&system).await;
    let said = system.until_answered(leaving, "performed, but it was not seen to be gone").await;
    assert!(said.detail.contains("did nothing"), "{said:?}");
    assert_eq!(keys(&system), (true, true));
    refused(&system, Some(leaving), Lacks::Hard).await;

    in_cluster.set_flaw("revoke", None);
    system.until_answered(leaving, "yet not seen to be gone: nothing can be seen").await;
    // It is gone, and nobody knows.
    assert_eq!(keys(&system), (false, false));
    assert_ne!(system.job(leaving, HARD).await.state, JobState::Done);
    refused(&system, Some(leaving), Lacks::Hard).await;

    on_machine.set_flaw("remove", None);
    let receipt = system.until_receipt(leaving, &signed_by).await;
    assert_eq!(seen_absent(&receipt), [&cluster("a"), &machines()]);
    joins_b(&system).await;
}

/// A receipt alone is no way out: what may remain is named in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_may_remain_keeps_its_place_until_somebody_has_seen_it_gone() {
    let mut system = member_of_a().await;
    let signed_by = system.coordinate_signing();
    system.start_everything().await;
    system.keys_at(&machines()).set_flaw("remove", Some(Flaw::SeesNothing));
    let leaving = leave(&system).await;
    system.until_answered(leaving, "nothing can be seen").await;
    system.until_parked(leaving).await;
    let boss: Actor = "boss".parse().unwrap();
    let waive = async |claim: WaiverClaim, evidence: &str| {
        let (by, mark, evidence) = (boss.clone(), system.mark(leaving).await, evidence.to_owned());
        system.tell(leaving, Event::Waive { by, claim, mark, evidence }).await
    };
    waive(WaiverClaim::MayRemain, "the machine is not reached").await.unwrap();
    let receipt = system.until_receipt(leaving, &signed_by).await;
    let remain: Vec<&str> = receipt.remains.iter().map(|left| left.step.as_str()).collect();
    assert_eq!(remain, ["machine.remove", "inventory.remove"]);
    assert_eq!((receipt.complete, seen_absent(&receipt)), (false, vec![&cluster("a")]));
    refused(&system, Some(leaving), Lacks::Hard).await;

    let parked = |state: &JobState| state.name() == StateName::Parked;
    system.until_job(leaving, Stage::Recycle, parked).await;
    refused(&system, Some(leaving), Lacks::Hard).await;
    waive(WaiverClaim::Absent, "its disk was wiped").await.unwrap();
    system.until_over(leaving, RecordStatus::Recycled).await;
    joins_b(&system).await;
}

/// Its plan looks in one of both places only, as the linter allowed once.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_nobody_has_looked_at_is_not_revoked() {
    let mut system = member_of_a().await;
    let mut plan = Plan::clone(&system.plan);
    for stage in &mut plan.stages {
        stage.steps.retain(|step| !step.name.starts_with("cluster.inspect"));
    }
    system.plan = Arc::new(plan);
    system.start_everything().await;
    let leaving = leave(&system).await;
    let parked = |state: &JobState| state.name() == StateName::Parked;
    let hard = system.until_job(leaving, Stage::Hard, parked).await;
    let JobState::Parked { reason } = hard.state else { panic!("{hard:?}") };
    assert!(reason.contains("nothing is pinned to compare it with; inspect first"), "{reason}");
    assert_eq!(keys(&system), (true, true));
    // Once somebody has revoked it by hand, the rest goes on.
    system.revoke_by_hand(&cluster("a"), &id("a"));
    system.tell(leaving, Event::Retry { by: ops() }).await.unwrap();
    system.until_job(leaving, Stage::Hard, is_done).await;
    assert_eq!(keys(&system), (false, false));
}
