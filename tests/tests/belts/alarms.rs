//! Alarms: told by routes that need neither broker nor consumers, by the second one while the first one fails, and once.
use sexton_coordinator::alarms::{Alarmer, Options};
use sexton_ledger::{AlarmFilter, AlarmSeen, AlarmView, NotDone};
use sexton_model::alarm::{AlarmKind, Phase, Rules, Subject};
use sexton_model::belts::census::{Census, NotBelieved};
use sexton_model::belts::one_shot::{NewOneShot, Passable};
use sexton_model::belts::resource_hold::Which;
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::canary::{Canary, Probe};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, ResourceId, Timestamp};

use super::budgets::{counting, policy};
use super::gate::Flaw;
use super::on_call::OnCall;
use super::system::{System, backup, monitoring, on_many_machines, ops, until, web01};

on_many_machines! {
    a_frozen_batch_is_told_by_both_routes_and_once,
    a_date_that_was_missed_is_told_by_the_second_route_while_the_first_fails,
    another_machine_of_that_name_is_refused_and_told,
    what_is_parked_for_long_is_told,
    that_nobody_could_be_told_is_told,
    a_credential_that_should_be_gone_is_told,
    whoever_breaks_the_glass_is_told_of,
    whoever_breaks_the_glass_and_takes_that_back_is_told_of,
    what_was_cancelled_and_is_not_back_is_told,
    that_others_delete_is_told,
    that_others_delete_most_of_it_stops_the_scope_though_it_is_not_believed,
    a_census_that_is_refused_is_told_until_one_is_believed,
    a_drill_that_shows_nothing_is_told,
    a_canary_that_nobody_answers_and_one_that_is_accepted_are_told,
    a_job_table_that_cannot_be_reached_is_told_without_it_and_once,
}

fn one_a_day() -> Policy {
    policy("a_day = 1\nstages = [\"announce\"]")
}

fn one_a_day_at_hard() -> Policy {
    policy("a_day = 1\nstages = [\"hard\"]")
}

fn any_time() -> Policy {
    policy("none = true")
}

async fn open(system: &System) -> Vec<AlarmView> {
    let filter = AlarmFilter { ended: false, before: None, limit: 100 };
    system.ledger.alarms(filter).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_batch_is_told_by_both_routes_and_once() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(one_a_day(), on_call.options()).await;
    let other = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    let ids = system.delete_both([web01(), other]).await;
    let kind = AlarmKind::FrozenBatch;
    until("both routes are told", async || {
        !on_call.by_webhook(kind).is_empty() && !on_call.by_command(kind).is_empty()
    })
    .await;
    // Who is stopped before that is noted has its lease, and nobody else tells anything until that is over.
    let noted = async || {
        let told = open(&system).await.into_iter().flat_map(|view| view.told);
        told.filter(|(_, telling)| telling.told.is_some()).count() == 2
    };
    until("that is noted", noted).await;
    let batch = system.ledger.batches().await.unwrap()[0].batch;
    let raised = vec![(Phase::Raised, Subject::Batch { batch })];
    assert_eq!((on_call.by_webhook(kind), on_call.by_command(kind)), (raised.clone(), raised.clone()));

    // Another coordinator, and this one started anew, have nothing to tell.
    let system = system.restarted().await;
    let another = Alarmer::new(Options { name: "another".into(), ..on_call.options() });
    for _ in 0..20 {
        let (one, two) = tokio::join!(another.tick(&*system.ledger, &[]), system.engine.alarm());
        one.and(two).unwrap();
    }
    assert_eq!((on_call.by_webhook(kind), on_call.by_command(kind)), (raised.clone(), raised));

    // Somebody has seen it. It holds until nobody waits any more, and that is told, too.
    let [view] = open(&system).await.try_into().unwrap();
    let seen = system.ledger.acknowledge_alarm(view.standing.id, &ops(), "both stay").await.unwrap();
    assert!(matches!(seen, AlarmSeen::Done(_)), "{seen:?}");
    for id in ids {
        let cancel = sexton_model::decide::Event::Cancel { by: ops(), reason: "kept".into() };
        system.tell(id, cancel).await.unwrap();
    }
    until("its end is told", async || {
        on_call.by_webhook(kind).len() == 2 && on_call.by_command(kind).len() == 2
    })
    .await;
    assert_eq!(on_call.by_webhook(kind)[1].0, Phase::Ended);
    assert_eq!(open(&system).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_that_was_missed_is_told_by_the_second_route_while_the_first_fails() {
    let on_call = OnCall::new().await;
    on_call.answers(500);
    let system = System::start_telling(any_time(), on_call.options()).await;
    system.hold(&web01()).await;
    let now = system.ledger.facts().await.unwrap().now;
    let yesterday = now.utc().date_naive().pred_opt();
    let id = system.delete_by(web01(), now, yesterday).await;
    let kind = AlarmKind::MissedGoneBy;
    until("the program is told", async || !on_call.by_command(kind).is_empty()).await;
    let failing = async || {
        let views = open(&system).await;
        let told = views.first().map(|view| view.told.clone()).unwrap_or_default();
        told.iter().any(|(route, telling)| {
            route == "webhook" && telling.error.as_ref().is_some_and(|why| why.contains("500"))
        })
    };
    until("whoever looks sees that the other one fails", failing).await;
    assert_eq!(on_call.by_webhook(kind), []);
    let raised = (Phase::Raised, Subject::Deletion { deletion: id, resource: web01() });
    assert_eq!(on_call.by_command(kind), std::slice::from_ref(&raised));

    // It is tried again, and told once it works.
    on_call.answers(204);
    until("the server is told, late", async || !on_call.by_webhook(kind).is_empty()).await;
    assert_eq!(on_call.by_webhook(kind), std::slice::from_ref(&raised));
    assert_eq!(on_call.by_command(kind), [raised], "and nobody twice");
    let (legal, boss) = ("legal".parse().unwrap(), "boss".parse().unwrap());
    system.ledger.release_resource(&web01(), Which::Origin(legal), &boss).await.unwrap().unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    until("its end is told", async || on_call.by_webhook(kind).len() == 2).await;
    assert_eq!(on_call.by_webhook(kind)[1].0, Phase::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_of_that_name_is_refused_and_told() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(any_time(), on_call.options()).await;
    system.recreate();
    let id = system.delete().await;
    let kind = AlarmKind::Refused;
    until("both routes are told", async || {
        !on_call.by_webhook(kind).is_empty() && !on_call.by_command(kind).is_empty()
    })
    .await;
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    assert_eq!(on_call.by_command(kind), [(Phase::Raised, subject)]);
}

/// Until both routes were told that it began.
async fn both_are_told(on_call: &OnCall, kind: AlarmKind, subject: Subject) {
    let raised = (Phase::Raised, subject);
    until(&format!("both routes are told of {}", kind.word()), async || {
        [on_call.by_webhook(kind), on_call.by_command(kind)].iter().all(|told| told.contains(&raised))
    })
    .await;
}

/// Whoever is told of a deletion is told what a cancel would take back.
fn says_what_comes_back(on_call: &OnCall, kind: AlarmKind) {
    let told = on_call.todo(kind);
    assert!(told.iter().all(|todo| todo.contains("what can be undone: everything: ")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_for_long_is_told() {
    let on_call = OnCall::new().await;
    // Long is at once.
    let options = Options { rules: Rules { parked_ms: 0, ..Rules::default() }, ..on_call.options() };
    let system = System::start_telling(any_time(), options).await;
    system.monitoring.set_flaw("silence", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    let soft = JobKind::Stage(Stage::Soft);
    // It waits between two attempts, in vain; whoever looks has it wait for a person instead.
    until("it is parked", async || {
        let park = Event::Park { by: ops(), reason: "the cluster is gone".into() };
        system.tell(id, park).await.is_ok() || system.job(id, soft).await.state.name() == StateName::Parked
    })
    .await;
    both_are_told(&on_call, AlarmKind::Parked, Subject::Deletion { deletion: id, resource: web01() }).await;
    says_what_comes_back(&on_call, AlarmKind::Parked);
    assert_eq!(on_call.by_command(AlarmKind::Refused), []);
}

/// The notice is not delivered: somebody is called by other routes, long before anybody has to acknowledge it.
#[tokio::test(flavor = "multi_thread")]
async fn that_nobody_could_be_told_is_told() {
    let on_call = OnCall::new().await;
    let system = System::start_announcing_on_call(on_call.options()).await;
    system.monitoring.set_flaw("silence", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    both_are_told(&on_call, AlarmKind::Untold, subject.clone()).await;
    assert_eq!(on_call.by_command(AlarmKind::Parked), []);
    system.tell(id, Event::Cancel { by: ops(), reason: "nobody knows of it".into() }).await.unwrap();
    let over = (Phase::Ended, subject);
    until("both are told that it is over", async || {
        [on_call.by_webhook(AlarmKind::Untold), on_call.by_command(AlarmKind::Untold)]
            .iter()
            .all(|told| told.contains(&over))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_should_be_gone_is_told() {
    let on_call = OnCall::new().await;
    let mut system = System::start_telling(any_time(), on_call.options()).await;
    system.register_credential(&web01()).await;
    system.hold(&web01()).await;
    let now = system.ledger.facts().await.unwrap().now;
    let days_ago = Timestamp(now.0 - 3 * 24 * 3_600_000_000);
    let id = system.delete_at(days_ago).await;
    let subject = Subject::Deletion { deletion: id, resource: web01() };
    both_are_told(&on_call, AlarmKind::OverdueCredential, subject).await;
}

/// Whoever asked for the deletion lets its hard stage pass the hours, with nobody else.
async fn break_the_glass(system: &System, id: DeletionId) -> i64 {
    let (stage, belt) = (Stage::Hard, Passable::Window);
    let reason = "nobody else is awake".to_owned();
    let new = NewOneShot { deletion: id, stage, belt, by: ops(), reason, break_glass: true };
    system.ledger.give_one_shot(new).await.unwrap().unwrap().id
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_glass_is_told_of() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(any_time(), on_call.options()).await;
    system.hold(&web01()).await;
    let id = system.delete().await;
    let given = break_the_glass(&system, id).await;
    both_are_told(&on_call, AlarmKind::BrokenGlass, Subject::Override { id: given }).await;
    says_what_comes_back(&on_call, AlarmKind::BrokenGlass);
}

/// At once, and before anybody has looked: by then the stage could have begun.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_glass_and_takes_that_back_is_told_of() {
    let on_call = OnCall::new().await;
    let system = System::start_telling(any_time(), on_call.options()).await;
    system.hold(&web01()).await;
    let id = system.delete().await;
    let given = break_the_glass(&system, id).await;
    assert!(system.ledger.take_back_one_shot(given, &ops()).await.unwrap());
    until("it is said who took it back", async || {
        let open = open(&system).await;
        open.iter().any(|view| view.standing.alarm.text.contains("ops took it back at "))
    })
    .await;
    both_are_told(&on_call, AlarmKind::BrokenGlass, Subject::Override { id: given }).await;
    says_what_comes_back(&on_call, AlarmKind::BrokenGlass);
    // However often it is looked at, it stands.
    for _ in 0..3 {
        system.engine.alarm().await.unwrap();
    }
    let open = open(&system).await;
    assert!(open.iter().any(|view| view.standing.alarm.kind == AlarmKind::BrokenGlass), "{open:?}");
}

/// Its consumers are down: it stands in line, and nobody has parked it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_cancelled_and_is_not_back_is_told() {
    let on_call = OnCall::new().await;
    // Ten minutes are over at once.
    let options = Options { rules: Rules { not_back_ms: 0, ..Rules::default() }, ..on_call.options() };
    let mut system = System::start_telling(any_time(), options).await;
    let hard = PauseSelector { stage: Some(Stage::Hard), ..PauseSelector::default() };
    system.ledger.pause(hard, &ops(), "somebody wants it back").await.unwrap();
    let before = system.world();
    let id = system.delete().await;
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
    system.stop_consumers().await;
    system.tell(id, Event::Cancel { by: ops(), reason: "it is wanted".into() }).await.unwrap();
    let subject = || Subject::Deletion { deletion: id, resource: web01() };
    both_are_told(&on_call, AlarmKind::NotBack, subject()).await;
    let late = async || {
        let mut open = open(&system).await;
        open.retain(|view| view.standing.alarm.kind == AlarmKind::NotBack);
        open.pop().map(|view| view.standing.alarm.text)
    };
    // The first order that nobody takes is within its time until its deadline.
    let said = "is not back: its restore stands at ";
    until("it is said where it stands", async || late().await.is_some_and(|text| text.contains(said))).await;
    assert_eq!(on_call.by_command(AlarmKind::Parked), []);

    for instance in [monitoring(), backup()] {
        system.start_consumer(&instance).await;
    }
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world()[0], before[0], "monitoring is as it was");
    until("it is back", async || {
        open(&system).await.iter().all(|view| view.standing.alarm.kind != AlarmKind::NotBack)
    })
    .await;
    let over = (Phase::Ended, subject());
    let told = || [on_call.by_webhook(AlarmKind::NotBack), on_call.by_command(AlarmKind::NotBack)];
    until("both are told that it is back", async || told().iter().all(|told| told.contains(&over))).await;
    // Of none of the steps in between: each was out for the first time once.
    let once = vec![(Phase::Raised, subject()), over.clone()];
    assert_eq!(told(), [once.clone(), once]);
}

#[tokio::test(flavor = "multi_thread")]
async fn that_others_delete_is_told() {
    let on_call = OnCall::new().await;
    let policy = counting(one_a_day_at_hard(), web01());
    let system = System::start_telling(policy, on_call.options()).await;
    let others = ["vm/web02", "vm/web03", "vm/web04"].map(|id| id.parse::<ResourceId>().unwrap());
    // Each has a record, and none of it has been done yet.
    let in_a_year = system.ledger.facts().await.unwrap().now.plus_ms(365 * 86_400_000);
    for id in &others {
        system.register_named(id, false).await;
        system.delete_named(id.clone(), in_a_year).await;
    }
    let all = [&[web01()][..], &others[..]].concat();
    assert_eq!(system.hand_in(&all, 4).await.unwrap().paused, None);
    let counted = system.hand_in(&[web01()], 1).await.unwrap();
    let pause = counted.paused.unwrap_or_else(|| panic!("{:?}", counted.taken));
    both_are_told(&on_call, AlarmKind::ForeignDeletions, Subject::Pause { pause }).await;
}

/// So many are gone that the census is refused, unless somebody says that it is meant: whoever deletes them is noticed by that.
#[tokio::test(flavor = "multi_thread")]
async fn that_others_delete_most_of_it_stops_the_scope_though_it_is_not_believed() {
    let on_call = OnCall::new().await;
    let policy = counting(one_a_day_at_hard(), web01());
    let system = System::start_telling(policy, on_call.options()).await;
    let others = ["vm/web02", "vm/web03", "vm/web04"].map(|id| id.parse::<ResourceId>().unwrap());
    for id in &others {
        system.register_named(id, false).await;
    }
    let all = [&[web01()][..], &others[..]].concat();
    assert_eq!(system.hand_in(&all, 4).await.unwrap().paused, None);
    let refused = async |total: u64| {
        let census = Census { fewer: false, ..system.census(&[web01()], total).await };
        system.ledger.take_census(census, &ops()).await.unwrap().unwrap_err()
    };
    let cut = refused(4).await;
    assert!(matches!(cut, NotDone::Census(NotBelieved::Total { .. })), "{cut}");
    assert_eq!(system.ledger.pauses().await.unwrap(), [], "a listing that was cut says nothing");
    for _ in 0..2 {
        let fewer = refused(1).await;
        assert!(
            matches!(fewer, NotDone::Census(NotBelieved::Fewer { census: 1, before: 4, listed: 1 })),
            "{fewer}"
        );
    }
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("one pause, however often it is handed in: {pauses:?}") };
    let scope = "tenants/acme".parse().unwrap();
    let covers = PauseSelector { scope: Some(scope), ..PauseSelector::default() };
    assert_eq!(pause.covers, covers);
    let why =
        "lists too few to be believed: 3 of vm are gone that are not being removed here, where 1 may go";
    assert!(pause.reason.contains(why), "{pause:?}");
    both_are_told(&on_call, AlarmKind::ForeignDeletions, Subject::Pause { pause: pause.id }).await;
    let latest = system.ledger.latest_censuses().await.unwrap();
    assert!(latest[0].refused_last().is_some(), "it is refused all the same: {latest:?}");
    assert_eq!(system.ledger.censuses().await.unwrap().len(), 1);

    // Whoever lifts it has not said that they may be gone.
    assert!(system.ledger.resume(pause.id, &ops(), None).await.unwrap().unwrap());
    refused(1).await;
    assert_eq!(system.ledger.pauses().await.unwrap().len(), 1, "and again");
    assert_eq!(system.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_census_that_is_refused_is_told_until_one_is_believed() {
    let on_call = OnCall::new().await;
    let policy = counting(one_a_day_at_hard(), web01());
    let system = System::start_telling(policy, on_call.options()).await;
    let hand_in = async |total: u64| system.hand_in(&[web01()], total).await;
    hand_in(1).await.unwrap();
    hand_in(2).await.unwrap_err();
    let subject = || {
        let (kind, scope) = ("vm".parse().unwrap(), "tenants/acme".parse().unwrap());
        Subject::Censuses { kind, scope }
    };
    both_are_told(&on_call, AlarmKind::Census, subject()).await;
    let text = open(&system).await.remove(0).standing.alarm.text;
    assert!(text.contains("the platform counts 2, and 1 are listed"), "{text}");
    hand_in(1).await.unwrap();
    until("its end is told", async || {
        on_call.by_command(AlarmKind::Census).contains(&(Phase::Ended, subject()))
    })
    .await;
    assert_eq!(open(&system).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_shows_nothing_is_told() {
    let on_call = OnCall::new().await;
    let gone: ResourceId = "vm/gone".parse().unwrap();
    let mut system = System::with_drills_told(vec![gone.clone()], on_call.options()).await;
    system.start_coordinator();
    system.engine.run_drills(&ops(), None).await.unwrap();
    both_are_told(&on_call, AlarmKind::Drill, Subject::Resource { resource: gone }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_that_nobody_answers_and_one_that_is_accepted_are_told() {
    let on_call = OnCall::new().await;
    let mut system = System::with_canaries_told(2_000, Policy::default(), on_call.options()).await;
    system.start_coordinator();
    assert!(system.engine.run_canaries(&ops(), None).await.unwrap().is_some());
    let all = system.until_judged().await;
    let subject = || Subject::Instance { instance: monitoring() };
    both_are_told(&on_call, AlarmKind::CanaryUnproved, subject()).await;
    // It counts whenever it comes.
    let forged = |canary: &&Canary| canary.probe == Probe::ForgedOrder { instance: monitoring() };
    system.believe(all.iter().find(forged).unwrap()).await;
    both_are_told(&on_call, AlarmKind::CanaryAccepted, subject()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_table_that_cannot_be_reached_is_told_without_it_and_once() {
    let on_call = OnCall::new().await;
    on_call.answers(503);
    let system = System::start_telling(any_time(), on_call.options()).await;
    let kind = AlarmKind::JobTable;
    let thief = system.lock_job_table();
    until("the program is told", async || !on_call.by_command(kind).is_empty()).await;
    on_call.answers(204);
    until("the server is told, once it answers", async || !on_call.by_webhook(kind).is_empty()).await;
    assert_eq!((on_call.by_webhook(kind).len(), on_call.by_command(kind).len()), (1, 1), "once an outage");
    drop(thief);
    until("its end is told", async || {
        on_call.by_webhook(kind).len() == 2 && on_call.by_command(kind).len() == 2
    })
    .await;
    assert_eq!((on_call.by_webhook(kind)[1].0, on_call.by_command(kind)[1].0), (Phase::Ended, Phase::Ended));
}
