//! Holds on resources, and redundancy groups.
mod stopped;

use sexton_ledger::{Intent, NewDeletion, NotDone, Options};
use sexton_model::access::Registrar;
use sexton_model::belts::resource_hold::{CannotHold, NewHold, RELEASE, Which};
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{Hold, RecordStatus};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::step::Mode;
use sexton_model::{DeletionId, ResourceId};

pub use self::stopped::*;

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, job_id, options, resource, right_answer};

async fn hold(on: &Stagehand, resource: &str, origin: &str) -> Result<Hold, NotDone> {
    let (origin, by) = (actor(origin), actor("alice"));
    let new = NewHold { resource: resource.parse().unwrap(), origin, reason: "a lawsuit".into(), by };
    on.ledger.hold_resource(new).await.unwrap()
}

async fn release(on: &Stagehand, resource: &str, which: Which) -> usize {
    release_as(on, (resource, which), "alice").await.unwrap()
}

async fn release_as(on: &Stagehand, (resource, which): (&str, Which), by: &str) -> Result<usize, NotDone> {
    let released = on.ledger.release_resource(&resource.parse().unwrap(), which, &actor(by)).await.unwrap();
    released.map(|holds| holds.len())
}

/// Who has requested the deletion says so.
fn requested(what: &'static str) -> NotDone {
    Refusal::Requested { by: actor("platform"), what }.into()
}

pub async fn whoever_requested_it_reaches_no_hold_of_anothers(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.register("web01").await;
    let legal = hold(&on, "vm/web01", "legal").await.unwrap();
    hold(&on, "vm/web01", "platform").await.unwrap();
    // Without a record it is nobody's own.
    assert_eq!(release_as(&on, ("vm/web01", Which::Number(legal.id)), "platform").await, Ok(1));
    hold(&on, "vm/web01", "legal").await.unwrap();
    let legal = hold(&on, "vm/web01", "legal").await.unwrap();
    let id = on.doomed("web01").await;
    for which in [Which::Number(legal.id), Which::Origin(actor("legal"))] {
        let refused = release_as(&on, ("vm/web01", which), "platform").await;
        assert_eq!(refused, Err(requested(RELEASE)));
    }
    let own = Which::Origin(actor("platform"));
    assert_eq!(release_as(&on, ("vm/web01", own), "platform").await, Ok(1), "what it holds itself");
    assert_eq!(on.view(id).await.deletion.resource_holds.len(), 2, "the lawyers' stand");
    assert_eq!(release_as(&on, ("vm/web01", Which::Origin(actor("legal"))), "alice").await, Ok(2));

    let placed = on.one(id, Event::PlaceHold { by: actor("legal"), reason: "a lawsuit".into() }).await;
    let hold = placed.unwrap().audit_seq;
    let release = |by: &str| Event::ReleaseHold { hold, by: actor(by) };
    assert_eq!(on.one(id, release("platform")).await.unwrap_err(), requested(RELEASE));
    on.one(id, release("alice")).await.unwrap();
    fixture.compare().await.unwrap();
    assert_eq!(on.ledger.verify_chains(None, 100).await.unwrap().broken, []);
}

/// Somebody else has to take it out of `db-main`.
fn stays(resource: &ResourceId, by: &str) -> NotDone {
    NotDone::StaysInGroup { resource: resource.clone(), group: "db-main".into(), by: actor(by) }
}

pub async fn whoever_requested_it_takes_it_out_of_no_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = member(&on, "db1").await;
    let there = on.ledger.resource(&id).await.unwrap().unwrap().resource;
    let alone = Resource { groups: Vec::new(), ..there.clone() };
    let both = Resource { groups: vec!["db-main".into(), "rack-1".into()], ..there.clone() };
    let register = async |new: &Resource, by: &str| {
        on.ledger.register(vec![new.clone()], &actor(by), true).await.unwrap().remove(0)
    };
    assert_eq!(register(&alone, "platform").await, Ok(()), "it has no record");
    assert_eq!(register(&there, "platform").await, Ok(()));
    let deletion = doomed(&on, &id).await;
    let refused = Err(stays(&id, "platform"));
    assert_eq!(register(&alone, "platform").await, refused);
    assert_eq!(
        on.ledger
            .check_resources(&Registrar::Trusted, vec![alone.clone()], &actor("platform"))
            .await
            .unwrap(),
        [refused]
    );
    assert_eq!(on.ledger.resource(&id).await.unwrap().unwrap().resource, there, "nothing was written");
    assert_eq!(register(&both, "platform").await, Ok(()), "one more takes nobody");
    assert_eq!(register(&alone, "alice").await, Ok(()));
    assert_eq!(on.status(deletion).await, RecordStatus::Live);
    fixture.compare().await.unwrap();
}

/// Of three the platform wants the first gone, and somebody else the second; the third is to stay.
pub async fn whoever_requested_one_takes_no_other_out_of_its_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, member(&on, "db3").await);
    let second = NewDeletion { by: actor("bob"), ..on.wanted(&two).await };
    on.ledger.create(vec![second]).await.unwrap().remove(0).unwrap();
    let first = doomed(&on, &one).await;
    let register =
        async |all: Vec<Resource>, by: &str| on.ledger.register(all, &actor(by), false).await.unwrap();
    let there = async |id: &ResourceId| on.ledger.resource(id).await.unwrap().unwrap().resource;
    let (mut members, mut alone) = (Vec::new(), Vec::new());
    for id in [&two, &three] {
        let member = there(id).await;
        alone.push(Resource { groups: Vec::new(), ..member.clone() });
        members.push(member);
    }
    for by in ["platform", "bob"] {
        let refused = [Err(stays(&two, by)), Err(stays(&three, by))];
        assert_eq!(register(alone.clone(), by).await, refused, "one goes for bob, and one stays");
        assert_eq!(
            on.ledger.check_resources(&Registrar::Trusted, alone.clone(), &actor(by)).await.unwrap(),
            refused
        );
    }
    assert_eq!(members, [there(&two).await, there(&three).await], "nothing was written");
    // Nothing of it is bound by another group.
    let groups = vec!["db-main".into(), "rack-1".into()];
    let both = Resource { groups, ..members[1].clone() };
    assert_eq!(register(vec![both], "platform").await, [Ok(())]);
    assert_eq!(register(vec![members[1].clone()], "platform").await, [Ok(())]);
    assert_eq!(register(vec![alone[0].clone()], "alice").await, [Ok(())], "somebody else may");
    assert_eq!(register(vec![alone[1].clone()], "bob").await, [Ok(())], "it is not bob's group any more");
    assert_eq!(register(members, "alice").await, [Ok(()), Ok(())]);
    let refused = [Err(stays(&three, "platform"))];
    assert_eq!(register(vec![alone[1].clone()], "platform").await, refused, "it has no record itself");
    // Once the record is over, so is that.
    on.one(first, cancel()).await.unwrap();
    assert_eq!(on.status(first).await, RecordStatus::Cancelled);
    assert_eq!(register(alone, "platform").await, [Ok(()), Ok(())]);
    fixture.compare().await.unwrap();
}

async fn blocked(on: &Stagehand, id: DeletionId, stage: Stage) -> Option<Blocker> {
    match on.job(id, JobKind::Stage(stage)).await.state {
        JobState::Held { by, .. } | JobState::Ready { blocked: Some(by), .. } => Some(by),
        _ => None,
    }
}

pub async fn a_hold_on_a_resource_stops_every_record_of_it_until_it_is_released(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let unknown = NotDone::NotRegistered("vm/web01".parse().unwrap());
    assert_eq!(hold(&on, "vm/web01", "legal").await, Err(unknown));
    on.register("web01").await;
    let first = hold(&on, "vm/web01", "legal").await.unwrap();
    hold(&on, "vm/web01", "legal").await.unwrap();
    let billing = hold(&on, "vm/web01", "billing").await.unwrap();
    assert!(first.id < billing.id);
    let id = on.doomed("web01").await;
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    let by = blocked(&on, id, Stage::Announce).await.unwrap();
    assert_eq!(by.to_string(), "hold: legal: a lawsuit (on the resource)");
    assert_eq!(on.view(id).await.deletion.resource_holds.len(), 3);
    let shown = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(shown.holds.len(), 3);
    let listed = on.ledger.deletions(&Default::default()).await.unwrap().items.remove(0);
    assert!(listed.at.unwrap().3.contains("on the resource"));

    assert_eq!(release(&on, "vm/web01", Which::Origin(actor("nobody"))).await, 0);
    assert_eq!(release(&on, "vm/web01", Which::Origin(actor("legal"))).await, 2);
    let by = blocked(&on, id, Stage::Announce).await.unwrap();
    assert!(by.to_string().contains("billing"), "looked at again at once: {by}");
    assert_eq!(release(&on, "vm/web01", Which::Number(billing.id)).await, 1);
    assert_eq!(on.state(id, Stage::Announce).await, StateName::Scheduled, "goes on at once");

    // Between two steps, of a deletion that is remembered.
    let out = on.play_to(id, |name, _| name == "hypervisor.stop").await.unwrap();
    hold(&on, "vm/web01", "legal").await.unwrap();
    assert!(on.answer(&out, right_answer(&out)).await.unwrap().dispatch.is_none());
    assert!(matches!(blocked(&on, id, Stage::Soft).await, Some(Blocker::Hold { .. })));
    fixture.compare().await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    let proceed = Event::Proceed { job: job_id(id, Stage::Soft) };
    assert!(
        !on.one(id, proceed).await.is_ok_and(|decided| decided.dispatch.is_some()),
        "after a restart, too"
    );

    // Never a restore, and it outlives the record.
    let first = on.one(id, cancel()).await.unwrap().dispatch;
    on.play_restore(id, first).await;
    assert_eq!(on.status(id).await, RecordStatus::Cancelled);
    let again = on.doomed("web01").await;
    on.claim(again, Stage::Announce).await.unwrap();
    assert!(matches!(blocked(&on, again, Stage::Announce).await, Some(Blocker::Hold { .. })));
    fixture.compare().await.unwrap();
    let verified = on.ledger.verify_chains(None, 100).await.unwrap();
    assert!(verified.broken.is_empty(), "{verified:?}");
    // Registered, three holds, two releases, another hold.
    assert_eq!(fixture.count("SELECT audit_seq FROM resources WHERE id = 'vm/web01'").await, 7);
}

pub async fn holds_on_a_resource_are_bounded(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.register("web01").await;
    for _ in 0..sexton_model::belts::resource_hold::HOLDS_MAX {
        hold(&on, "vm/web01", "legal").await.unwrap();
    }
    let full = Err(NotDone::Hold(CannotHold::TooMany("vm/web01".parse().unwrap())));
    assert_eq!(hold(&on, "vm/web01", "legal").await, full);
}

async fn member(on: &Stagehand, name: &str) -> ResourceId {
    let mut member = resource(name, &format!("uuid-of-{name}"));
    member.groups = vec!["db-main".into()];
    on.ledger.register(vec![member.clone()], &actor("ops"), true).await.unwrap().remove(0).unwrap();
    member.id
}

async fn doomed(on: &Stagehand, resource: &ResourceId) -> DeletionId {
    let wanted = on.wanted(resource).await;
    on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
}

/// Announced, and soft is due.
async fn announced(on: &Stagehand, id: DeletionId) {
    let first = on.claim(id, Stage::Announce).await.unwrap().dispatch;
    on.play(first, &mut Vec::new(), |_, _| false).await;
    soft_is_due(on, id).await;
}

async fn soft_is_due(on: &Stagehand, id: DeletionId) {
    if let JobState::Scheduled { due_at: Some(due_at) } = on.job(id, JobKind::Stage(Stage::Soft)).await.state
    {
        on.until(due_at).await;
    }
}

pub async fn one_of_a_redundancy_group_goes_at_a_time(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, member(&on, "db3").await);
    let (first, second) = (doomed(&on, &one).await, doomed(&on, &two).await);
    announced(&on, first).await;
    announced(&on, second).await;
    // In one batch, where the second has to see what the first has begun.
    let claim = |id| Intent { deletion: id, event: Event::Claim { job: job_id(id, Stage::Soft) } };
    let mut batch = vec![claim(second)];
    // So many that SQLite decides the two in pieces of which one is not written yet.
    let other = on.doomed("web01").await;
    let recheck = Intent { deletion: other, event: Event::Recheck { job: job_id(other, Stage::Hard) } };
    batch.extend(std::iter::repeat_n(recheck, 150));
    batch.push(claim(first));
    let mut decided = on.ledger.run(batch).await.unwrap();
    decided.retain(Result::is_ok);
    let given: Vec<_> = decided.iter().map(|d| d.as_ref().unwrap().dispatch.is_some()).collect();
    assert_eq!(given, [true, false]);
    let by = Blocker::Redundancy { group: "db-main".into(), other: two.clone() };
    assert_eq!(blocked(&on, first, Stage::Soft).await, Some(by.clone()));
    let groups = on.ledger.groups_of(&three).await.unwrap();
    assert!(!groups.is_empty());
    fixture.compare().await.unwrap();

    // Not while it is being restored; then it is looked at again at once.
    let order = decided[0].as_ref().unwrap().dispatch.clone();
    let stop = |name: &str, mode| (name, mode) == ("hypervisor.stop", Mode::Perform);
    let order = on.play(order, &mut Vec::new(), stop).await.unwrap();
    on.one(second, cancel()).await.unwrap();
    let restore = on.answer(&order, right_answer(&order)).await.unwrap().dispatch;
    assert_eq!(on.status(second).await, RecordStatus::Restoring);
    let recheck = Event::Recheck { job: job_id(first, Stage::Soft) };
    assert!(on.one(first, recheck.clone()).await.is_err(), "nothing has changed");
    assert_eq!(blocked(&on, first, Stage::Soft).await, Some(by));
    while !on.ledger.to_wake(64).await.unwrap().is_empty() {}
    on.play_restore(second, restore).await;
    let woken = on.ledger.to_wake(64).await.unwrap();
    assert!(woken.contains(&Intent { deletion: first, event: recheck.clone() }), "{woken:?}");
    on.one(first, recheck).await.unwrap();
    let out = on.claim(first, Stage::Soft).await.unwrap().dispatch.unwrap();

    // The whole group is retired: nobody waits.
    let (second, third) = (doomed(&on, &two).await, doomed(&on, &three).await);
    announced(&on, second).await;
    announced(&on, third).await;
    let decided = on.ledger.run(vec![claim(second), claim(third)]).await.unwrap();
    assert!(decided.iter().all(|d| d.as_ref().unwrap().dispatch.is_some()), "{decided:?}");
    on.play(Some(out), &mut Vec::new(), |_, _| false).await;
    // One of them is to stay after all: of the two that go, the older record goes first.
    on.one(third, cancel()).await.unwrap();
    let order = decided[0].as_ref().unwrap().dispatch.clone();
    on.play(order, &mut Vec::new(), |_, _| false).await;
    assert!(on.claim(second, Stage::Hard).await.unwrap().dispatch.is_none());
    let by = Blocker::Redundancy { group: "db-main".into(), other: one };
    assert_eq!(blocked(&on, second, Stage::Hard).await, Some(by));
    assert!(on.claim(first, Stage::Hard).await.unwrap().dispatch.is_some());
    fixture.compare().await.unwrap();
}

pub async fn who_is_not_retired_now_is_not_retired_with_the_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, member(&on, "db3").await);
    let mut later = on.wanted(&three).await;
    let due = on.now().await.plus_ms(3_650 * 86_400_000);
    (later.due.date, later.due.moment) = (due.utc().date_naive(), Some(due));
    let third = on.ledger.create(vec![later]).await.unwrap().remove(0).unwrap();
    let (first, second) = (doomed(&on, &one).await, doomed(&on, &two).await);
    announced(&on, first).await;
    announced(&on, second).await;
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    // All three have a record, but the third is due in years, and would be the only one until then.
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_none());
    let by = Blocker::Redundancy { group: "db-main".into(), other: one };
    assert_eq!(blocked(&on, second, Stage::Soft).await, Some(by));

    on.one(third, cancel()).await.unwrap();
    let third = doomed(&on, &three).await;
    announced(&on, third).await;
    let recheck = Event::Recheck { job: job_id(second, Stage::Soft) };
    // It is due by now, but something keeps it.
    let place = Event::PlaceHold { by: actor("legal"), reason: "a lawsuit".into() };
    let placed = on.one(third, place).await.unwrap().audit_seq;
    assert!(on.one(second, recheck.clone()).await.is_err(), "a hold on its record");
    hold(&on, "vm/db3", "legal").await.unwrap();
    on.one(third, Event::ReleaseHold { hold: placed, by: actor("legal") }).await.unwrap();
    assert!(on.one(second, recheck.clone()).await.is_err(), "a hold on the resource");
    assert_eq!(release(&on, "vm/db3", Which::Origin(actor("legal"))).await, 1);
    on.one(second, recheck).await.unwrap();
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_some());
    fixture.compare().await.unwrap();
}

pub async fn what_the_configuration_protects_is_not_retired_with_the_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two, three) = (member(&on, "db1").await, member(&on, "db2").await, member(&on, "db3").await);
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    drop(on);
    // It has a record, which is due, and nobody has looked at it since.
    let policy = Policy { protected: [three].into(), ..options().policy };
    let on = Stagehand::with(fixture, Options { policy, ..options() }).await;
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_none());
    let by = Blocker::Redundancy { group: "db-main".into(), other: one };
    assert_eq!(blocked(&on, second, Stage::Soft).await, Some(by));
    fixture.compare().await.unwrap();
}

pub async fn who_is_stopped_by_anything_else_is_not_retired_with_the_group(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two) = (member(&on, "db1").await, member(&on, "db2").await);
    let mut three = resource("db3", "uuid-of-db3");
    three.groups = vec!["db-main".into()];
    three.scope = "tenants/globex".parse().unwrap();
    on.ledger.register(vec![three.clone()], &actor("ops"), true).await.unwrap().remove(0).unwrap();
    let (first, second, third) =
        (doomed(&on, &one).await, doomed(&on, &two).await, doomed(&on, &three.id).await);
    for id in [first, second, third] {
        announced(&on, id).await;
    }
    // All three are due, and the third is paused: it would be the only one for as long as that lasts.
    let globex = PauseSelector { scope: Some(three.scope.clone()), ..PauseSelector::default() };
    let pause = on.ledger.pause(globex, &actor("ops"), "something smells").await.unwrap().pause;
    assert!(on.claim(third, Stage::Soft).await.unwrap().dispatch.is_none());
    assert!(matches!(blocked(&on, third, Stage::Soft).await, Some(Blocker::Pause { .. })));
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_none());
    let by = Blocker::Redundancy { group: "db-main".into(), other: one };
    assert_eq!(blocked(&on, second, Stage::Soft).await, Some(by));
    let recheck = Event::Recheck { job: job_id(second, Stage::Soft) };
    assert!(on.one(second, recheck.clone()).await.is_err(), "the third stays for now");
    fixture.compare().await.unwrap();

    // Whom the group alone holds retires with it: now the third goes, and then the second.
    assert!(on.ledger.resume(pause.id, &actor("ops"), None).await.unwrap().unwrap());
    assert_eq!(on.state(third, Stage::Soft).await, StateName::Scheduled);
    assert!(on.claim(third, Stage::Soft).await.unwrap().dispatch.is_some());
    on.one(second, recheck).await.unwrap();
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_some());
    fixture.compare().await.unwrap();
}

pub async fn what_is_registered_later_is_a_member_at_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two) = (on.register("db1").await, on.register("db2").await);
    let (first, second) = (doomed(&on, &one).await, doomed(&on, &two).await);
    on.register("db3").await;
    announced(&on, first).await;
    announced(&on, second).await;
    assert!(on.claim(first, Stage::Soft).await.unwrap().dispatch.is_some());
    for name in ["db1", "db2", "db3"] {
        member(&on, name).await;
    }
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_none());
    assert!(matches!(blocked(&on, second, Stage::Soft).await, Some(Blocker::Redundancy { .. })));
    assert_eq!(fixture.count("SELECT count(*) FROM redundancy_groups").await, 3);
    // It no longer states it.
    on.register("db2").await;
    let recheck = Event::Recheck { job: job_id(second, Stage::Soft) };
    on.one(second, recheck).await.unwrap();
    assert!(on.claim(second, Stage::Soft).await.unwrap().dispatch.is_some());
    assert_eq!(fixture.count("SELECT count(*) FROM redundancy_groups").await, 2);
}
