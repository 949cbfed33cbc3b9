//! What subsystems hold is looked at before there is a record: exactly what a record pins then, and nothing is guessed
//! of whoever does not answer.
use std::sync::Arc;

use serde_json::{Value, json};
use sexton_bus::Queue;
use sexton_coordinator::{Engine, Witness};
use sexton_ledger::{Begun, NotDone};
use sexton_model::belts::PauseSelector;
use sexton_model::deletion::{Deletion, Due, Record, RecordStatus};
use sexton_model::plan::Plan;
use sexton_model::step::{Outcome, Presence};
use sexton_model::survey::{AGAIN_US, About, Answer, CannotSurvey, NewSurvey, Survey, looks};
use sexton_model::{DeletionId, Fence, Instance, ResourceId, Timestamp};
use sexton_protocol::{Direction, Event, Holder, OutcomeReport, Pack, Report};

use super::gate::Point;
use super::system::{System, U1, backup, hypervisor, monitoring, on_many_machines, ops, until, web01};

on_many_machines! {
    a_survey_shows_exactly_what_a_record_pins_afterwards_and_changes_nothing,
    nothing_is_guessed_of_a_consumer_that_is_down,
    what_is_in_use_or_another_one_is_shown_before_there_is_a_record,
    what_has_a_live_record_is_not_surveyed_and_its_orders_are_not_disturbed,
    an_answer_is_heard_by_another_coordinator_than_the_one_that_asked,
    a_stale_or_repeated_or_false_answer_changes_nothing,
    a_pause_stops_a_survey_that_was_begun_before_it,
    what_canaries_look_at_is_not_surveyed_meanwhile,
}

/// Longer than any test may take: nobody is in a hurry.
const LONG_MS: u64 = 600_000;

/// Everybody looks, and has something to do.
const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }, { do = "backup.inspect" }, { do = "hypervisor.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence" }, { do = "hypervisor.stop" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [
  { do = "hypervisor.undefine" },
  { do = "monitoring.remove_target" },
  { do = "backup.remove_schedule" },
]
[stages.purge]
offset_days = 2
steps = [{ do = "hypervisor.delete_volumes" }, { do = "backup.delete_archives", after = ["hypervisor.undefine"] }, { do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

impl System {
    /// What asks for a survey of `vm/web01`, as the API does.
    async fn asked(&self, within_ms: u64) -> NewSurvey {
        self.asked_about(&web01(), within_ms).await
    }

    async fn asked_about(&self, id: &ResourceId, within_ms: u64) -> NewSurvey {
        let facts = self.ledger.facts().await.unwrap();
        let resource = self.ledger.resource(id).await.unwrap().unwrap().resource;
        let now = facts.now;
        let due = Due { date: now.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(now) };
        let record = Record {
            resource: resource.clone(),
            due,
            gone_by: None,
            requested_by: ops(),
            reason: "a look".into(),
            created_at: now,
        };
        let d = Deletion::draw_up(DeletionId(0), record, self.plan.clone(), facts.day).unwrap();
        let looks = looks(&d, &self.ledger.pauses().await.unwrap()).unwrap();
        let about = About { resource, due, plan: Plan::clone(&self.plan) };
        NewSurvey { by: ops(), about, within_ms, looks }
    }

    async fn begin(&self, within_ms: u64) -> Survey {
        let new = self.asked(within_ms).await;
        match self.engine.begin_survey(new).await.unwrap() {
            Ok(Begun::Now(survey)) => *survey,
            other => panic!("{other:?}"),
        }
    }

    async fn survey(&self, id: i64) -> Survey {
        self.ledger.survey(id).await.unwrap().unwrap()
    }

    /// Until nothing is waited for any more.
    async fn over(&self, id: i64) -> Survey {
        let over = async || !self.survey(id).await.is_open(self.ledger.facts().await.unwrap().now);
        until("the survey is over", over).await;
        self.survey(id).await
    }

    /// What it has shown of that instance.
    async fn shown(&self, survey: &Survey, of: &Instance) -> Result<Value, String> {
        let now = self.ledger.facts().await.unwrap().now;
        survey.targets(now)[of].clone().cloned()
    }

    /// An answer to a look, under the key and the name of `by`.
    async fn say(&self, survey: &Survey, fence: Fence, by: &Instance, saw: Value) {
        let job = sexton_model::JobId::of(sexton_model::canary::DELETION, 0);
        let outcome =
            Outcome::Done { presence: Presence::Present, evidence: "seen".into(), finding: Some(saw) };
        let report = OutcomeReport { job, fence, instance: by.clone(), outcome };
        let report = Event::new("/double", survey.begun_at, Report::Outcome(report));
        let packed = Pack::one(report).encode().unwrap();
        let holder = Holder::Instance(by.clone());
        let seal = self.keyring.sign(&holder, Direction::Outcome, &packed.body).unwrap();
        self.send(&by.to_string(), Queue::Outcomes, packed, seal).await;
    }

    /// Until coordinators have had the time to hear what was said.
    async fn all_heard(&self) {
        until("every answer is taken", async || self.bus.depth(&Queue::Outcomes).await.unwrap() == 0).await;
        self.two_beacons().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survey_shows_exactly_what_a_record_pins_afterwards_and_changes_nothing() {
    let system = System::start_on(PLAN).await;
    let before = system.world();
    let begun = system.begin(LONG_MS).await;
    let survey = system.over(begun.id).await;
    let now = system.ledger.facts().await.unwrap().now;
    let seen: Vec<(Instance, Value)> = survey
        .targets(now)
        .into_iter()
        .map(|(at, seen)| (at.clone(), seen.unwrap_or_else(|why| panic!("{at}: {why}")).clone()))
        .collect();
    assert_eq!(seen.len(), 3);
    assert_eq!(system.world(), before);
    for gate in [&system.monitoring, &system.backup, &system.hypervisor] {
        assert!(gate.changes().is_empty());
    }
    let records = system.ledger.deletion_of(&web01()).await.unwrap();
    assert_eq!((records, system.ledger.review().await.unwrap()), (None, None));

    // Soft is only about to begin: nothing has joined yet.
    system.monitoring.close("silence", Point::Look);
    let id = system.delete().await;
    system.monitoring.reached().await;
    let pinned: Vec<(Instance, Value)> = system.view(id).await.targets.into_iter().collect();
    assert_eq!(seen, pinned);
    system.monitoring.open();
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_guessed_of_a_consumer_that_is_down() {
    let mut system = System::not_started().await;
    system.start_coordinator();
    system.start_consumer(&monitoring()).await;
    let begun = system.begin(4_000).await;
    let survey = system.over(begun.id).await;
    assert_eq!(system.shown(&survey, &backup()).await, Err("not looked at: no answer within 4 s".to_owned()));
    assert!(system.shown(&survey, &monitoring()).await.is_ok(), "{survey:?}");
    // What it says now is too late, and is no reason to doubt the job table.
    system.say(&survey, survey.looks[1].fence, &backup(), json!({ "snapshots": ["a"] })).await;
    system.all_heard().await;
    assert_eq!(system.survey(begun.id).await, survey);
    assert_eq!(system.ledger.review().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_use_or_another_one_is_shown_before_there_is_a_record() {
    let system = System::start_on(PLAN).await;
    system.recreate();
    let file = system.host().join("vms/web01.json");
    let mut vm: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    vm["protected"] = json!("its image is in use by vm/db01");
    std::fs::write(&file, vm.to_string()).unwrap();
    let begun = system.begin(LONG_MS).await;
    let survey = system.over(begun.id).await;
    let why = async |of: Instance| system.shown(&survey, &of).await.unwrap_err();
    assert_eq!(why(hypervisor()).await, "refused: protected: its image is in use by vm/db01");
    let other = why(monitoring()).await;
    assert!(other.starts_with("refused: vm/web01 is not the one: "), "{other}");
    assert!(system.shown(&survey, &backup()).await.is_ok(), "{survey:?}");

    // Not because somebody has written it down, but because it is so.
    vm["protected"] = Value::Null;
    std::fs::write(&file, vm.to_string()).unwrap();
    let clone = json!({ "identity": { "uuid": U1 }, "size": 1, "base": "web01-root" });
    std::fs::write(system.host().join("volumes/clone.json"), clone.to_string()).unwrap();
    let begun = system.begin(LONG_MS).await;
    let survey = system.over(begun.id).await;
    let used = system.shown(&survey, &hypervisor()).await.unwrap_err();
    assert_eq!(used, "refused: protected: volume web01-root is in use: volume clone builds on it");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_live_record_is_not_surveyed_and_its_orders_are_not_disturbed() {
    let system = System::start_on(PLAN).await;
    let new = system.asked(LONG_MS).await;
    // An order is out, and stands at the gate.
    system.backup.close("inspect", Point::Look);
    let id = system.delete().await;
    system.backup.reached().await;
    let refused = system.engine.begin_survey(new).await.unwrap();
    let live = NotDone::AlreadyLive { resource: web01(), deletion: id };
    assert_eq!(refused, Err(live));
    system.backup.open();
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_heard_by_another_coordinator_than_the_one_that_asked() {
    let mut system = System::not_started().await;
    // This one consumes nothing. The other one does nothing but.
    let witness = system.folder().join("witness-of-another");
    let witness = Arc::new(Witness::open(&witness, system.ledger.as_ref(), false).await.unwrap());
    let another = Engine::new(sexton_coordinator::Options {
        ledger: system.ledger.clone(),
        bus: system.bus.clone(),
        keyring: system.keyring.clone(),
        signer: system.signer.clone(),
        unpacked: Vec::new(),
        witness,
    });
    let asking = std::mem::replace(&mut system.engine, Arc::new(another));
    system.start_coordinator();
    for instance in [monitoring(), backup()] {
        system.start_consumer(&instance).await;
    }
    let new = system.asked(LONG_MS).await;
    let Ok(Begun::Now(begun)) = asking.begin_survey(new).await.unwrap() else { panic!("it was not begun") };
    let survey = system.over(begun.id).await;
    for of in [monitoring(), backup()] {
        assert!(system.shown(&survey, &of).await.is_ok(), "{survey:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_or_repeated_or_false_answer_changes_nothing() {
    let mut system = System::not_started().await;
    system.start_coordinator();
    let survey = system.begin(LONG_MS).await;
    let (at_monitoring, other) = (survey.looks[0].fence, json!({ "series": ["somebody else's"] }));
    assert_eq!(survey.looks[0].instance, monitoring());
    // Under its own key and name, about what another one was asked.
    system.say(&survey, at_monitoring, &backup(), other.clone()).await;
    // To orders that there never were.
    let next = survey.looks[1].fence;
    for fence in [Fence { number: next.number + 1, ..next }, Fence { epoch: next.epoch + 1, ..next }] {
        system.say(&survey, fence, &backup(), other.clone()).await;
    }
    system.all_heard().await;
    assert_eq!(system.survey(survey.id).await, survey);
    let right = json!({ "series": ["up"] });
    system.say(&survey, at_monitoring, &monitoring(), right.clone()).await;
    let heard = async || system.survey(survey.id).await.looks[0].answer.is_some();
    until("the right one is heard", heard).await;
    system.say(&survey, at_monitoring, &monitoring(), other).await;
    system.all_heard().await;
    let answer = system.survey(survey.id).await.looks[0].answer.clone();
    assert_eq!(answer, Some(Answer::Seen { evidence: "seen".into(), targets: right }));
    assert_eq!(system.ledger.review().await.unwrap(), None, "no order was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_stops_a_survey_that_was_begun_before_it() {
    let mut system = System::not_started().await;
    system.start_coordinator();
    let survey = system.begin(LONG_MS).await;
    system.ledger.pause(PauseSelector::default(), &ops(), "stop").await.unwrap();
    system.start_consumer(&monitoring()).await;
    let answered = async || system.survey(survey.id).await.looks[0].answer.is_some();
    until("it is answered", answered).await;
    // It is asked again, and each time under what was in force when the survey was begun.
    let again = Timestamp(survey.begun_at.0 + AGAIN_US).plus_ms(1_500);
    until("it is asked again", async || system.ledger.facts().await.unwrap().now > again).await;
    system.two_beacons().await;
    let now = system.survey(survey.id).await;
    let why = system.shown(&now, &monitoring()).await.unwrap_err();
    assert!(
        why.starts_with("not yet: not begun: the order was given under an older epoch or before a pause"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_canaries_look_at_is_not_surveyed_meanwhile() {
    let system = System::with_canaries(LONG_MS).await;
    // Nobody is there to answer them.
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    let canary: ResourceId = "vm/canary01".parse().unwrap();
    let new = system.asked_about(&canary, LONG_MS).await;
    let busy = NotDone::Survey(CannotSurvey::Busy(canary));
    assert_eq!(system.engine.begin_survey(new).await.unwrap(), Err(busy));
    // Anything else is.
    system.begin(LONG_MS).await;
}
