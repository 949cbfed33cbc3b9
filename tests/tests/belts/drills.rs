//! A drill in a running system: what is there for it is switched off and brought back, and goes no further. What takes no
//! more than the coordinator's handlers runs in a system of which nothing else does.
use serde_json::json;
use sexton_ledger::NewDeletion;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::belts::resource_hold::NewHold;
use sexton_model::deletion::{Due, RecordStatus};
use sexton_model::drill::{self, Drill, Verdict};
use sexton_model::job::{Blocker, JobState, Stage};
use sexton_model::resource::Resource;
use sexton_model::{DeletionId, ResourceId};

use super::system::{System, U1, on_many_machines, ops, until, web01};

on_many_machines! {
    a_drill_switches_off_and_brings_back_and_never_goes_beyond_soft,
    a_tick_begins_a_drill_each_week,
    a_drill_that_cannot_be_brought_back_has_failed,
    what_an_earlier_drill_left_behind_is_brought_back_first,
    somebody_elses_record_is_left_alone,
    what_is_not_named_any_more_is_not_switched_off,
    what_no_drill_can_be_held_with_is_told,
}

impl System {
    async fn drill(&self) -> Drill {
        self.drill_with(&web01()).await
    }

    async fn drill_with(&self, resource: &ResourceId) -> Drill {
        let mut drills = self.ledger.drills().await.unwrap();
        drills.retain(|drill| drill.resource == *resource);
        drills.remove(0)
    }

    /// Make a record about `vm/web01` as for a drill, which nobody goes on with.
    async fn leave_behind(&self) -> DeletionId {
        let now = self.ledger.facts().await.unwrap().now;
        let wanted = NewDeletion {
            resource: web01(),
            due: Due { date: now.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(now) },
            gone_by: None,
            by: drill::actor(),
            reason: "a drill".into(),
            plan: self.plan.clone(),
        };
        self.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
    }

    /// Why the drill with it shows nothing, and has no record.
    async fn unclear(&self, resource: &ResourceId) -> String {
        let drill = self.drill_with(resource).await;
        assert_eq!(drill.deletion, None, "{drill:?}");
        match drill.judged.unwrap().verdict {
            Verdict::Unclear { why } => why,
            other => panic!("{resource}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_switches_off_and_brings_back_and_never_goes_beyond_soft() {
    let system = System::start_drilling().await;
    let before = system.world();
    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(1));
    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(0), "one goes on");
    let begun = system.drill().await;
    let id = begun.deletion.unwrap();
    assert_eq!((begun.resource, begun.by), (web01(), ops()));
    assert_eq!(system.view(id).await.deletion.record.requested_by, drill::actor());
    // Its hard stage is due right after soft; a tick may have cancelled it already.
    let hard = system
        .until_job(id, Stage::Hard, |state| {
            matches!(state, JobState::Held { by: Blocker::Drill, .. } | JobState::Cancelled)
        })
        .await;
    assert!(!matches!(hard.state, JobState::Done), "{hard:?}");
    assert_ne!(system.world(), before, "it is switched off");
    system.engine.tend_drills().await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
    system.engine.tend_drills().await.unwrap();
    let over = system.drill().await;
    let verdict = over.judged.clone().unwrap().verdict;
    assert!(matches!(&verdict, Verdict::Holds { how } if how.contains("as it was captured")), "{verdict:?}");
    // It is over: nothing is begun before a week has passed, unless somebody asks for it.
    system.engine.tend_drills().await.unwrap();
    assert_eq!(system.drill().await, over);
}

/// Nobody asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_begins_a_drill_each_week() {
    let system = System::start_drilling().await;
    let before = system.world();
    let mut records = Vec::new();
    for week in 1..=2 {
        let begun = async || {
            let drills = system.ledger.drills().await.unwrap();
            let record = drills.first().and_then(|drill| drill.deletion);
            record.is_some_and(|record| !records.contains(&record))
        };
        until(&format!("a tick begins the drill of week {week}"), begun).await;
        until("it is over", async || {
            system.engine.tend_drills().await.unwrap();
            system.drill().await.judged.is_some()
        })
        .await;
        let over = system.drill().await;
        let holds = matches!(over.judged.as_ref().unwrap().verdict, Verdict::Holds { .. });
        assert!(holds && over.by == drill::actor(), "{over:?}");
        assert_eq!(system.world(), before);
        records.extend(over.deletion);
        // Of a rehearsal, too, one is followed by the next one after a quarter of an hour at the earliest.
        system.begun_earlier("drills", drill::LEAST_MS);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_cannot_be_brought_back_has_failed() {
    let system = System::start_drilling().await;
    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(1));
    let id = system.drill().await.deletion.unwrap();
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
    // Another machine of that name is there by now: nothing of it is changed.
    system.recreate();
    until("it is told that it has failed", async || {
        system.engine.tend_drills().await.unwrap();
        system.drill().await.judged.is_some()
    })
    .await;
    let failed = system.drill().await;
    let verdict = &failed.judged.as_ref().unwrap().verdict;
    assert!(matches!(verdict, Verdict::Failed { why } if why.contains("restore is parked")), "{verdict:?}");
    // Whoever asks for another one has to bring this one back first.
    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(0));
    system.engine.tend_drills().await.unwrap();
    assert_eq!(system.drill().await, failed);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_drill_left_behind_is_brought_back_first() {
    let system = System::start_drilling().await;
    let left = system.leave_behind().await;
    // A tick may have begun the next one already.
    let there = |state: &JobState| matches!(state, JobState::Done | JobState::Cancelled);
    system.until_job(left, Stage::Soft, there).await;
    system.engine.run_drills(&ops(), None).await.unwrap();
    until("it has a record of its own", async || {
        system.engine.tend_drills().await.unwrap();
        let drill = system.drill().await;
        assert_eq!(drill.judged, None);
        drill.deletion.is_some()
    })
    .await;
    assert_ne!(system.drill().await.deletion, Some(left));
    assert_eq!(system.view(left).await.deletion.status, RecordStatus::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_record_is_left_alone() {
    let system = System::with_drills(vec![web01()]).await;
    let theirs = system.delete().await;
    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(1));
    let why = system.unclear(&web01()).await;
    assert!(why.contains(&format!("{theirs}: look at that one first")), "{why}");
    system.engine.tend_drills().await.unwrap();
    assert_eq!(system.view(theirs).await.deletion.status, RecordStatus::Live);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_named_any_more_is_not_switched_off() {
    let system = System::with_drills(Vec::new()).await;
    // Whoever has begun it died before it had a record, and was started again with another configuration.
    let facts = system.ledger.facts().await.unwrap();
    let begun = Drill::begin((web01(), &system.plan), None, None, (facts.now, facts.day));
    assert!(system.ledger.keep_drill(None, &begun).await.unwrap());
    system.engine.tend_drills().await.unwrap();
    let why = system.unclear(&web01()).await;
    assert!(why.contains("no drills are held with vm/web01 any more"), "{why}");
    assert_eq!(system.ledger.deletion_of(&web01()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_drill_can_be_held_with_is_told() {
    let of = |name: &str| -> ResourceId { format!("vm/{name}").parse().unwrap() };
    let all = ["gone", "held", "low", "protected", "unknown"].map(of);
    let system = System::with_drills(all.to_vec()).await;
    let [gone, held, low, protected, unknown] = &all;
    let (origin, reason) = ("legal".parse().unwrap(), "a lawsuit".to_owned());
    let hold = NewHold { resource: held.clone(), origin, reason: reason.clone(), by: ops() };
    system.register_named(held, false).await;
    system.ledger.hold_resource(hold).await.unwrap().unwrap();
    system.register_named(protected, true).await;
    let elsewhere = [
        json!({ "id": low, "scope": "low" }),
        json!({ "id": unknown, "scope": "tenants/acme", "instances": { "monitoring": "nobody" } }),
    ];
    for mut resource in elsewhere {
        resource["identity"] = json!({ "uuid": U1 });
        resource["criticality"] = "reproducible".into();
        resource["rebuilt"] = system.rebuilt().await;
        let resource: Resource = serde_json::from_value(resource).unwrap();
        assert_eq!(system.ledger.register(vec![resource], &ops(), true).await.unwrap(), [Ok(())]);
    }
    let scope = Some("low".parse().unwrap());
    let ceiling = NewCeiling { scope, to: Some(Ceiling::Announce), by: ops(), reason };
    system.ledger.set_ceiling(ceiling, None).await.unwrap().unwrap();

    assert_eq!(system.engine.run_drills(&ops(), None).await.unwrap(), Some(all.len()));
    for (resource, expected) in [
        (gone, "vm/gone is not registered, or there is no plan for it"),
        (held, "vm/held is held: legal: a lawsuit"),
        (low, "deletions of low may go as far as announce: a drill needs soft"),
        (protected, "vm/protected is protected"),
        (unknown, "needs monitoring.nobody, of which there is no key here"),
    ] {
        let why = system.unclear(resource).await;
        assert!(why.contains(expected), "{why}");
        assert_eq!(system.ledger.deletion_of(resource).await.unwrap(), None, "{resource}");
    }
}
