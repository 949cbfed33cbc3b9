//! What stops a deletion: holds, pauses, protection, credit, what is down.
use std::collections::BTreeMap;

use sexton_ledger::{Alive, Intent, LedgerError, Limits, NotDone, Options, Stopped};
use sexton_model::belts::ceiling::{CannotSet, Ceiling, Ceilings};
use sexton_model::belts::pauses::PAUSES_MAX;
use sexton_model::belts::resource_hold::HOLDS_MAX;
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::{Event, Lane, Refusal};
use sexton_model::deletion::{CannotDelete, RecordStatus};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::step::Mode;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, alive, instance, job_id, named, options, resource, right_answer};

pub async fn a_hold_stops_and_its_release_goes_on(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let place = |why: &str| Event::PlaceHold { by: actor("legal"), reason: why.into() };
    on.one(id, place("lawsuit")).await.unwrap();
    on.one(id, place("second lawsuit")).await.unwrap();
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    let held = on.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(matches!(held.state, JobState::Held { by: Blocker::Hold { .. }, .. }), "{:?}", held.state);
    assert!(on.ledger.due(10).await.unwrap().is_empty(), "what is held is not due");
    let holds = on.view(id).await.deletion.holds.clone();
    assert_eq!(holds.len(), 2);
    let release = |hold| Event::ReleaseHold { hold, by: actor("legal") };
    on.one(id, release(holds[0].id)).await.unwrap();
    assert_eq!(on.state(id, Stage::Announce).await, StateName::Held);
    on.one(id, release(holds[1].id)).await.unwrap();
    let gone = on.one(id, release(holds[1].id)).await.unwrap_err();
    assert_eq!(gone, NotDone::Refused(Refusal::NoSuchHold(holds[1].id)));
    assert_eq!(on.ledger.due(10).await.unwrap(), [job_id(id, Stage::Announce)]);
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    // Between two steps: locked, no order out, and on again after the release.
    let placed = on.one(id, place("again")).await.unwrap();
    assert!(on.answer(&order, right_answer(&order)).await.unwrap().dispatch.is_none());
    let job = on.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(matches!(job.state, JobState::Ready { blocked: Some(Blocker::Hold { .. }), .. }));
    on.one(id, release(placed.audit_seq)).await.unwrap();
    let order = on.one(id, Event::Claim { job: job.id }).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&order).0, "notifier.announce");
}

pub async fn holds_on_a_record_are_bounded(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let place = || Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() };
    for _ in 0..HOLDS_MAX {
        on.one(id, place()).await.unwrap();
    }
    assert_eq!(on.one(id, place()).await.unwrap_err(), NotDone::Refused(Refusal::TooManyHolds));
    let holds = on.view(id).await.deletion.holds.clone();
    assert_eq!(holds.len(), HOLDS_MAX);
    on.one(id, Event::ReleaseHold { hold: holds[0].id, by: actor("legal") }).await.unwrap();
    on.one(id, place()).await.unwrap();
}

pub async fn pauses_are_bounded_and_stop_is_always_possible(fixture: &dyn Fixture) {
    const SIDES: usize = 8;
    let on = Stagehand::new(fixture).await;
    let of =
        |scope: String| PauseSelector { scope: Some(scope.parse().unwrap()), ..PauseSelector::default() };
    let mut placing = tokio::task::JoinSet::new();
    for side in 0..SIDES {
        let ledger = on.ledger.clone();
        placing.spawn(async move {
            for nth in 0..PAUSES_MAX / SIDES {
                let covers = of(format!("tenants/t{side}-{nth}"));
                ledger.pause(covers, &actor("ops"), "something smells").await.unwrap();
            }
        });
    }
    while let Some(placed) = placing.join_next().await {
        placed.unwrap();
    }
    let standing = on.ledger.pauses().await.unwrap();
    assert_eq!(standing.len(), PAUSES_MAX);
    let revision = on.ledger.beacon().await.unwrap().revision;
    let ops = actor("ops");
    let one_more = || on.ledger.pause(of("tenants/more".to_owned()), &ops, "something smells");
    assert!(matches!(one_more().await, Err(LedgerError::Pauses(_))));
    assert_eq!(on.ledger.beacon().await.unwrap().revision, revision, "nothing was done");
    // To stop is never refused.
    let stop = on.ledger.pause(PauseSelector::default(), &ops, "stop").await.unwrap().pause;
    let id = on.doomed("web01").await;
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    // There is room again once that and another one are lifted.
    assert!(matches!(one_more().await, Err(LedgerError::Pauses(_))));
    for pause in [stop.id, standing[0].id] {
        assert_eq!(on.ledger.resume(pause, &ops, None).await.unwrap(), Ok(true));
    }
    one_more().await.unwrap();
    assert_eq!(on.ledger.pauses().await.unwrap().len(), PAUSES_MAX);
    assert_eq!(fixture.compare().await, Ok(()));
}

pub async fn a_pause_stops_claims_and_dispatch_but_no_restore(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (early, midway, back) =
        (on.doomed("early").await, on.doomed("midway").await, on.doomed("back").await);
    let out =
        on.play_to(midway, |name, mode| (name, mode) == ("hypervisor.stop", Mode::Perform)).await.unwrap();
    on.play_to(back, |name, _| name == "dns.withdraw").await.unwrap();
    let revision = on.ledger.beacon().await.unwrap().revision;
    assert!(out.revision <= revision);
    let soft = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
    let paused = on.ledger.pause(soft, &actor("ops"), "something smells").await.unwrap();
    assert_eq!(paused.orders_out, 2);
    assert_eq!(on.ledger.pauses().await.unwrap(), vec![paused.pause.clone()]);
    assert!(on.ledger.beacon().await.unwrap().revision > revision);
    let everything = on.ledger.pause(PauseSelector::default(), &actor("ops"), "stop").await.unwrap();
    assert_eq!(everything.orders_out, 2);
    // No claim.
    assert!(on.claim(early, Stage::Announce).await.unwrap().dispatch.is_none());
    assert_eq!(on.state(early, Stage::Announce).await, StateName::Held);
    // No dispatch between two steps, although the answer is taken.
    assert!(on.answer(&out, right_answer(&out)).await.unwrap().dispatch.is_none());
    assert_eq!(on.state(midway, Stage::Soft).await, StateName::Ready);
    // But a restore.
    on.one(back, cancel()).await.unwrap();
    let job = on.job(back, JobKind::Stage(Stage::Soft)).await;
    let fence = job.state.out().unwrap().fence;
    let outcome = sexton_model::step::Outcome::failed("whatever");
    let answer = Event::Outcome { job: job.id, from: instance("dns.main"), fence, outcome };
    // On a slow machine the deadline of the order is over already, and the restore begins at once.
    let begun = on.one(back, answer).await.unwrap().dispatch;
    let seen = on.play_restore(back, begun).await;
    assert_eq!(seen[0], ("hypervisor.stop".to_owned(), Mode::Undo));
    assert_eq!(on.status(back).await, RecordStatus::Cancelled);
}

pub async fn a_resume_looks_at_what_it_stopped(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (early, midway) = (on.doomed("early").await, on.doomed("midway").await);
    let out = on.play_to(midway, |name, _| name == "hypervisor.stop").await.unwrap();
    let vms = PauseSelector { kind: Some("vm".parse().unwrap()), ..PauseSelector::default() };
    let one = on.ledger.pause(vms, &actor("ops"), "first").await.unwrap().pause;
    let acme = PauseSelector { scope: Some("tenants/acme".parse().unwrap()), ..PauseSelector::default() };
    let two = on.ledger.pause(acme, &actor("ops"), "second").await.unwrap().pause;
    on.claim(early, Stage::Announce).await.unwrap();
    on.answer(&out, right_answer(&out)).await.unwrap();
    assert!(on.ledger.resume(one.id, &actor("ops"), None).await.unwrap().unwrap());
    assert!(!on.ledger.resume(one.id, &actor("ops"), None).await.unwrap().unwrap(), "only once");
    let held = on.job(early, JobKind::Stage(Stage::Announce)).await;
    let JobState::Held { by: Blocker::Pause { pause, .. }, .. } = held.state else {
        panic!("{:?}", held.state)
    };
    assert_eq!(pause, two.id, "the other pause holds it now");
    assert!(on.ledger.due(10).await.unwrap().is_empty());
    // What was blocked midway by the first is found by the second's end, too: at the latest by its recheck.
    assert!(on.ledger.resume(two.id, &actor("ops"), None).await.unwrap().unwrap());
    assert!(on.ledger.pauses().await.unwrap().is_empty());
    assert_eq!(on.state(early, Stage::Announce).await, StateName::Scheduled);
    let due = on.ledger.due(10).await.unwrap();
    assert_eq!(due, [job_id(midway, Stage::Soft), job_id(early, Stage::Announce)], "in line before due");
    let soft = on.job(midway, JobKind::Stage(Stage::Soft)).await;
    assert!(matches!(soft.state, JobState::Ready { blocked: None, .. }), "{:?}", soft.state);
    assert!(on.one(midway, Event::Proceed { job: soft.id }).await.unwrap().dispatch.is_some());
}

/// A lower ceiling is in force when its call returns; a higher one is looked at by itself; both are written down.
pub async fn a_ceiling_stops_what_is_above_it(fixture: &dyn Fixture) {
    let limits = Limits { look_again_ms: 60_000, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let everywhere = on.ledger.ceilings().await.unwrap();
    assert_eq!(everywhere.everywhere(), Ceiling::Purge, "a rehearsal is there to be run through");
    let (early, midway) = (on.doomed("early").await, on.doomed("midway").await);
    let out = on.play_to(midway, |name, _| name == "hypervisor.stop").await.unwrap();
    on.ceiling(None, Some(Ceiling::Announce)).await.unwrap();
    assert!(on.answer(&out, right_answer(&out)).await.unwrap().dispatch.is_none(), "soft goes on");
    let stopped = on.job(midway, JobKind::Stage(Stage::Soft)).await;
    assert!(
        matches!(stopped.state, JobState::Ready { blocked: Some(Blocker::Ceiling { .. }), .. }),
        "{:?}",
        stopped.state
    );
    on.ceiling(Some("tenants"), Some(Ceiling::Observe)).await.unwrap();
    assert!(on.claim(early, Stage::Announce).await.unwrap().dispatch.is_none());
    let held = on.job(early, JobKind::Stage(Stage::Announce)).await;
    let JobState::Held { by: Blocker::Ceiling { of, ceiling, .. }, .. } = &held.state else {
        panic!("{:?}", held.state)
    };
    assert_eq!((of.as_str(), *ceiling), ("tenants", Ceiling::Observe));
    let counts = |below: Vec<Stopped>| -> Vec<(Stage, u64, u64)> {
        below.iter().map(|s| (s.group.stage, s.held, s.midway)).collect()
    };
    let below = on.below(Some("tenants"), Some(Ceiling::Announce)).await.unwrap();
    assert_eq!(counts(below), [(Stage::Announce, 1, 0)]);
    assert_eq!(on.below(None, Some(Ceiling::Soft)).await, Ok(Vec::new()), "that scope has its own");
    let is = on.below(Some("tenants"), Some(Ceiling::Hard)).await.unwrap_err();
    assert!(matches!(is, NotDone::Ceiling(CannotSet::TooFar { .. })), "{is}");
    assert_eq!(on.ledger.stopped_by(1).await.unwrap(), [], "there is no pause");
    let is = on.ceiling(Some("tenants"), Some(Ceiling::Hard)).await.unwrap_err();
    assert!(matches!(is, NotDone::Ceiling(CannotSet::TooFar { next: Ceiling::Announce, .. })), "{is}");

    // A person's word is enough: nobody has to wait for the next round.
    on.ledger.to_wake(64).await.unwrap();
    on.ceiling(Some("tenants"), None).await.unwrap();
    let woken = on.ledger.to_wake(64).await.unwrap();
    assert!(woken.iter().any(|intent| intent.deletion == early), "{woken:?}");
    on.ledger.run(woken).await.unwrap();
    assert_eq!(on.state(early, Stage::Announce).await, StateName::Scheduled);
    let below = on.below(None, Some(Ceiling::Soft)).await.unwrap();
    assert_eq!(counts(below), [(Stage::Soft, 0, 1)]);
    on.ceiling(None, Some(Ceiling::Soft)).await.unwrap();
    on.ledger.run(on.ledger.to_wake(64).await.unwrap()).await.unwrap();
    assert!(on.one(midway, Event::Proceed { job: stopped.id }).await.unwrap().dispatch.is_some());
    let said = on.ledger.ceilings().await.unwrap();
    assert_eq!(
        said.iter().map(|c| (c.scope.is_none(), c.ceiling)).collect::<Vec<_>>(),
        [(true, Ceiling::Soft)]
    );
    // What was refused is not among them.
    assert_eq!(fixture.count("SELECT pause_seq FROM ledger").await, 4);
    assert_eq!(on.ledger.verify_chains(None, 1000).await.unwrap().broken, []);
}

/// Nothing is done for a scope that nobody has raised.
pub async fn a_new_ledger_only_observes(fixture: &dyn Fixture) {
    let real = Options { day: Day::Calendar, ..options() };
    let ledger = fixture.open(real.clone()).await;
    assert_eq!(ledger.ceilings().await.unwrap(), Ceilings::default());
    drop(ledger);
    assert_eq!(fixture.open(real).await.ceilings().await.unwrap(), Ceilings::default(), "opened again");
}

pub async fn protection_stops_a_live_record(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let out = on.play_to(id, |name, _| name == "hypervisor.stop").await.unwrap();
    let mut guarded = resource("web01", "uuid-of-web01");
    guarded.protected = true;
    on.ledger.register(vec![guarded.clone()], &actor("ops"), true).await.unwrap();
    assert!(on.answer(&out, right_answer(&out)).await.unwrap().dispatch.is_none());
    let job = on.job(id, JobKind::Stage(Stage::Soft)).await;
    assert!(
        matches!(job.state, JobState::Ready { blocked: Some(Blocker::Protected), .. }),
        "{:?}",
        job.state
    );
    guarded.protected = false;
    on.ledger.register(vec![guarded], &actor("ops"), true).await.unwrap();
    assert!(on.one(id, Event::Proceed { job: job.id }).await.unwrap().dispatch.is_some());
}

/// Whatever is registered; also for a record that is there already.
pub async fn what_the_configuration_protects_is_not_deleted(fixture: &dyn Fixture) {
    let protecting = |name: &str| {
        let policy = Policy { protected: [name.parse().unwrap()].into(), ..options().policy };
        Options { policy, ..options() }
    };
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    on.register("web02").await;
    drop(on);
    let on = Stagehand::with(fixture, protecting("vm/web01")).await;
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    let job = on.job(id, JobKind::Stage(Stage::Announce)).await;
    assert!(matches!(job.state, JobState::Held { by: Blocker::Protected, .. }), "{:?}", job.state);
    drop(on);
    let on = Stagehand::with(fixture, protecting("vm/web02")).await;
    let wanted = on.wanted(&"vm/web02".parse().unwrap()).await;
    let refused = on.ledger.create(vec![wanted]).await.unwrap();
    assert_eq!(refused, [Err(NotDone::CannotDelete(CannotDelete::Configured("vm/web02".into())))]);
}

pub async fn nothing_is_claimed_for_what_is_down(fixture: &dyn Fixture) {
    let limits = Limits { down_after_ms: 300, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let id = on.doomed("web01").await;
    let pulsed = on.ledger.health().await.unwrap().instances[&instance("hypervisor.main")].0;
    on.until(pulsed.plus_ms(302)).await;
    let refused = on.claim(id, Stage::Announce).await.unwrap_err();
    assert_eq!(refused, NotDone::Refused(Refusal::NoCredit(instance("hypervisor.main"))));
    assert_eq!(on.state(id, Stage::Announce).await, StateName::Scheduled, "no lock is taken");
    let free = on.ledger.free_credit().await.unwrap();
    assert_eq!(free[&(instance("hypervisor.main"), Lane::Stages)], 0);
    on.ledger.pulse(vec![alive("hypervisor.main")]).await.unwrap();
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_some());
}

pub async fn credit_is_never_exceeded(fixture: &dyn Fixture) {
    let per_instance = BTreeMap::from([(instance("hypervisor.main"), 2), (instance("notifier.main"), 1)]);
    let limits = Limits { per_instance, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(on.doomed(&format!("vm{n}")).await);
    }
    for id in &ids {
        if let JobState::Scheduled { due_at: Some(at) } =
            on.job(*id, JobKind::Stage(Stage::Announce)).await.state
        {
            on.until(at).await;
        }
    }
    let hypervisor = instance("hypervisor.main");
    let free = |on: &Stagehand| {
        let ledger = on.ledger.clone();
        async move { ledger.free_credit().await.unwrap() }
    };
    assert_eq!(free(&on).await[&(hypervisor.clone(), Lane::Stages)], 2);
    let line = on.ledger.next_for(Some(&hypervisor), Lane::Stages, 10).await.unwrap();
    assert_eq!(line.len(), 4);
    assert!(on.ledger.next_for(Some(&hypervisor), Lane::Restores, 10).await.unwrap().is_empty());
    assert_eq!(on.ledger.next_for(Some(&hypervisor), Lane::Stages, 3).await.unwrap(), line[..3]);
    let claims =
        line.iter().map(|job| Intent { deletion: job.deletion(), event: Event::Claim { job: *job } });
    let results = on.ledger.run(claims.collect()).await.unwrap();
    let orders: Vec<_> = results.iter().flatten().filter_map(|d| d.dispatch.clone()).collect();
    assert_eq!(orders.len(), 2);
    let full = NotDone::Refused(Refusal::NoCredit(hypervisor.clone()));
    assert_eq!(results[2..].iter().map(|r| r.as_ref().unwrap_err()).collect::<Vec<_>>(), [&full, &full]);
    assert_eq!(free(&on).await[&(hypervisor.clone(), Lane::Stages)], 0);
    assert_eq!(on.ledger.health().await.unwrap().instances[&hypervisor].1, 2);
    // Both go on to the notifier, which has credit for one: the other waits in its line, locked.
    assert!(on.answer(&orders[0], right_answer(&orders[0])).await.unwrap().dispatch.is_some());
    assert!(on.answer(&orders[1], right_answer(&orders[1])).await.unwrap().dispatch.is_none());
    assert_eq!(free(&on).await[&(hypervisor, Lane::Stages)], 2, "freed at once");
    let waiting = on.ledger.next_for(Some(&instance("notifier.main")), Lane::Stages, 10).await.unwrap();
    assert_eq!(waiting, [orders[1].spec.job]);
    let ready = on.job(orders[1].spec.job.deletion(), JobKind::Stage(Stage::Announce)).await;
    assert_eq!(ready.state.name(), StateName::Ready);
    let again = on.one(ready.id.deletion(), Event::Claim { job: ready.id }).await.unwrap_err();
    assert_eq!(again, NotDone::Refused(Refusal::NotYet(ready.id)));
}

pub async fn what_is_in_line_at_an_instance_that_is_gone_parks(fixture: &dyn Fixture) {
    let limits = Limits { down_after_ms: 1_000, gone_after_ms: 2_000, look_again_ms: 10, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let id = on.doomed("web01").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    let pulsed = on.ledger.health().await.unwrap().instances[&instance("notifier.main")].0;
    on.until(pulsed.plus_ms(1_002)).await;
    assert!(on.answer(&order, right_answer(&order)).await.unwrap().dispatch.is_none(), "it is down");
    let JobState::Ready { since, .. } = on.job(id, JobKind::Stage(Stage::Announce)).await.state else {
        panic!("not in line")
    };
    assert_eq!(on.ledger.to_wake(10).await.unwrap(), [], "down is not gone");
    on.until(since.plus_ms(2_002)).await;
    let woken = on.ledger.to_wake(10).await.unwrap();
    assert_eq!(woken, [Intent { deletion: id, event: Event::Recheck { job: order.spec.job } }]);
    on.ledger.run(woken).await.unwrap().remove(0).unwrap();
    let job = on.job(id, JobKind::Stage(Stage::Announce)).await;
    let JobState::Parked { reason } = &job.state else { panic!("{:?}", job.state) };
    assert!(reason.contains("notifier.main"), "{reason}");
    // The instance is back, and a person says so.
    on.ledger.pulse(vec![alive("notifier.main")]).await.unwrap();
    assert!(on.one(id, Event::Retry { by: actor("ops") }).await.unwrap().dispatch.is_some());
}

/// The round over what is held goes through all of it, in pieces, and leaves no trace while nothing has changed.
pub async fn a_held_job_that_is_looked_at_writes_nothing(fixture: &dyn Fixture) {
    let limits = Limits { look_again_ms: 0, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let covers = PauseSelector::default();
    on.ledger.pause(covers, &actor("ops"), "look first").await.unwrap();
    let mut held = Vec::new();
    for n in 0..3 {
        let id = on.doomed(&format!("vm{n}")).await;
        on.claim(id, Stage::Announce).await.unwrap();
        held.push(job_id(id, Stage::Announce));
    }
    let before = on.view(held[0].deletion()).await;
    let recheck = |job: &JobId| Intent { deletion: job.deletion(), event: Event::Recheck { job: *job } };
    for _ in 0..2 {
        // A quarter of a look is for them.
        assert_eq!(on.ledger.to_wake(8).await.unwrap(), [recheck(&held[0]), recheck(&held[1])]);
        let rest = on.ledger.to_wake(8).await.unwrap();
        assert_eq!(rest, [recheck(&held[2])], "the round goes on where it was");
        for refused in on.ledger.run(held.iter().map(recheck).collect()).await.unwrap() {
            assert!(matches!(refused, Err(NotDone::Refused(Refusal::NotYet(_)))), "{refused:?}");
        }
    }
    let after = on.view(held[0].deletion()).await;
    assert_eq!(after.audit.len(), before.audit.len());
}

/// What is slow gets no more orders than its living consumers have hands, however much credit is configured; what is
/// quick gets as many as they do in a deadline.
pub async fn credit_is_what_the_consumers_can_do_in_time(fixture: &dyn Fixture) {
    let limits = Limits { down_after_ms: 1_000, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let copy = |copy: &str, hands| Alive { copy: copy.into(), hands, ..alive("hypervisor.main") };
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(on.doomed(&format!("vm{n}")).await);
    }
    // The first copy is silent from here on, and two others live.
    let began = on.ledger.health().await.unwrap().instances[&instance("hypervisor.main")].0;
    on.until(began.plus_ms(1_002)).await;
    on.ledger.pulse(vec![copy("two", 1), copy("three", 2)]).await.unwrap();
    let claims = |ids: &[DeletionId]| -> Vec<Intent> {
        let claim = |id: &DeletionId| Event::Claim { job: job_id(*id, Stage::Announce) };
        ids.iter().map(|id| Intent { deletion: *id, event: claim(id) }).collect()
    };
    // An inspection takes 100 of its 150 ms at most: one after the other is one.
    let given = on.ledger.run(claims(&ids)).await.unwrap();
    let orders: Vec<_> = given.iter().flatten().filter_map(|d| d.dispatch.clone()).collect();
    assert_eq!(orders.len(), 3, "three hands");
    on.ledger.pulse(vec![copy("two", 1), copy("three", 4)]).await.unwrap();
    let given = on.ledger.run(claims(&ids[3..])).await.unwrap();
    assert_eq!(given.iter().flatten().count(), 2, "two hands more");
}

/// A consumer that answers others is busy: its answers are in its pulses.
pub async fn pulses_tell_who_works(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (busy, dead) = (on.doomed("busy").await, on.doomed("dead").await);
    for (id, answered) in [(busy, 7), (dead, 7)] {
        let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
        // The second time the count has not grown.
        on.ledger.pulse(vec![Alive { answered, ..alive("hypervisor.main") }]).await.unwrap();
        let lease = on.job(id, JobKind::Stage(Stage::Announce)).await.state.out().unwrap().lease_until;
        on.until(lease).await;
        on.one(id, Event::LeaseOver { job: order.spec.job, fence: order.spec.fence }).await.unwrap();
    }
    assert_eq!(on.job(busy, JobKind::Stage(Stage::Announce)).await.in_vain, 1);
    assert_eq!(on.job(dead, JobKind::Stage(Stage::Announce)).await.in_vain, sexton_model::retry::SILENT);
}
