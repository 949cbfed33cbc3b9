//! What must be refused every day is, by every consumer of a running system; and what follows if it is not.
use serde_json::json;
use sexton_bus::{Delivery, Queue, Subscription};
use sexton_ledger::{DeletionFilter, Intent, NewRun};
use sexton_model::JobId;
use sexton_model::belts::PauseSelector;
use sexton_model::canary::{Canary, DELETION, ELSEWHERE, EVERY_LEAST_MS, Probe, Verdict, actor};
use sexton_model::decide::Event as SaidEvent;
use sexton_model::job::{Blocker, JobKind, JobState, Stage};
use sexton_model::step::{Outcome, Presence};
use sexton_protocol::{Direction, Event, Holder, Order, OutcomeReport, Pack, Report};

use super::budgets::policy;
use super::gate::Flaw;
use super::system::{System, backup, hypervisor, monitoring, on_many_machines, ops, until};

on_many_machines! {
    every_consumer_refuses_what_it_must_every_day,
    a_tick_begins_a_run_each_day,
    what_the_job_table_must_refuse_is_refused_at_once,
    who_counts_nothing_finds_no_budget_broken_and_stops_nobody,
    a_trial_that_fails_in_passing_is_made_again,
    who_believes_a_forged_order_stops_everything,
    who_takes_any_place_for_the_pinned_one_stops_everything,
    who_believes_an_order_of_an_earlier_run_stops_everything,
    a_consumer_that_does_not_answer_a_canary_is_told,
}

/// Longer than any test may take: nobody is in a hurry.
const LONG_MS: u64 = 600_000;

impl System {
    async fn canaries(&self) -> Vec<Canary> {
        self.ledger.canaries().await.unwrap()
    }

    pub async fn until_judged(&self) -> Vec<Canary> {
        let judged = async || !self.canaries().await.iter().any(Canary::is_open);
        until("every canary is judged", judged).await;
        self.canaries().await
    }

    /// Answer a canary of monitoring, as whoever believes it does.
    pub async fn believe(&self, canary: &Canary) {
        let outcome = Outcome::done(Presence::Present, "whatever you say");
        let (job, fence) = (JobId::of(DELETION, 0), canary.fence);
        let report = OutcomeReport { job, fence, instance: monitoring(), outcome };
        let report = Event::new("/double", canary.begun_at, Report::Outcome(report));
        let packed = Pack::one(report).encode().unwrap();
        let holder = Holder::Instance(monitoring());
        let seal = self.keyring.sign(&holder, Direction::Outcome, &packed.body).unwrap();
        self.send("monitoring.main", Queue::Outcomes, packed, seal).await;
    }
}

fn verdicts(canaries: &[Canary]) -> Vec<(&'static str, String, &'static str)> {
    let verdict = |canary: &Canary| canary.judged.as_ref().map_or("open", |judged| judged.verdict.word());
    let one = |canary: &Canary| (canary.probe.word(), canary.probe.asked(), verdict(canary));
    canaries.iter().map(one).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_consumer_refuses_what_it_must_every_day() {
    let mut system = System::with_canaries(LONG_MS).await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    let before = system.world();
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    let all = system.until_judged().await;
    let forged = ["backup.main", "hypervisor.main", "monitoring.main"].map(|of| ("forged order", of));
    let sorts = ["right identity", "wrong identity", "right place", "wrong place"];
    let looked = ["backup.main", "monitoring.main"].into_iter().flat_map(|of| sorts.map(|sort| (sort, of)));
    let tried = [("protected", "the job table")];
    let expected = tried.into_iter().chain(forged).chain(looked);
    let expected: Vec<_> = expected.map(|(what, of)| (what, of.to_owned(), "holds")).collect();
    assert_eq!(verdicts(&all), expected, "{all:#?}");
    for canary in &all {
        let said = canary.judged.as_ref().unwrap().verdict.text();
        match canary.probe {
            Probe::ForgedOrder { .. } => assert!(said.contains("proof does not fit"), "{said}"),
            Probe::WrongIdentity { .. } => assert!(said.contains("vm/canary01 is not the one"), "{said}"),
            Probe::RightIdentity { .. } | Probe::RightPlace { .. } => {}
            Probe::WrongPlace { .. } => {
                assert!(said.contains("vm/canary01 is not the one") && said.contains(ELSEWHERE), "{said}");
            }
            // There are no budgets in a rehearsal.
            Probe::Protected { .. } | Probe::OverBudget { .. } => {
                assert!(said.contains("protected"), "{said}")
            }
        }
    }
    // Whoever sends the same request again, after its answer was lost, gets that run and no other.
    let sent = all.iter().map(|canary| canary.begun_at).min();
    assert_eq!(system.engine.run_canaries(&ops(), sent).await.unwrap(), Some(true));
    let runs = |all: &[Canary]| all.iter().map(|canary| canary.run).collect::<Vec<_>>();
    assert_eq!(runs(&system.ledger.canaries().await.unwrap()), runs(&all));
    // Nothing was changed, nobody is stopped, and no answer was taken for one to an order that was lost.
    assert_eq!(system.world(), before);
    for gate in [&system.monitoring, &system.backup, &system.hypervisor] {
        assert!(gate.changes().is_empty());
    }
    assert_eq!(
        (system.ledger.pauses().await.unwrap(), system.ledger.review().await.unwrap()),
        (vec![], None)
    );

    // A deletion of the canaries' resource goes before them: its orders are not disturbed, and that is told.
    let soon = system.ledger.facts().await.unwrap().now.plus_ms(LONG_MS);
    system.delete_named("vm/canary01".parse().unwrap(), soon).await;
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    for canary in system.until_judged().await {
        let (verdict, forged) = (canary.judged.unwrap().verdict, canary.probe.resource().is_none());
        assert_eq!(verdict.word(), if forged { "holds" } else { "unclear" }, "{verdict:?}");
    }
}

/// Nobody asks for them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tick_begins_a_run_each_day() {
    let mut system = System::with_canaries(LONG_MS).await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    let mut last = 0;
    for day in 1..=2 {
        let begun = async || system.canaries().await.first().is_some_and(|canary| canary.run > last);
        until(&format!("a tick begins the run of day {day}"), begun).await;
        let run = system.until_judged().await;
        assert!(run.iter().all(|canary| canary.by == actor() && canary.holds()), "{run:#?}");
        last = run[0].run;
        // Of a rehearsal, too, a run is followed by the next one after a minute at the earliest.
        system.begun_earlier("canaries", EVERY_LEAST_MS);
    }
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_job_table_must_refuse_is_refused_at_once() {
    let system = System::with_canaries_by(LONG_MS, policy("a_day = 2")).await;
    let (before, deletions) = (system.world(), system.ledger.deletions(&all()).await.unwrap().items.len());
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    let tried: Vec<_> =
        system.canaries().await.into_iter().filter(|canary| canary.probe.instance().is_none()).collect();
    let holds = |what| (what, "the job table".to_owned(), "holds");
    assert_eq!(verdicts(&tried), [holds("protected"), holds("over budget")], "{tried:#?}");
    assert!(matches!(&tried[1].probe, Probe::OverBudget { stage: Stage::Hard, .. }));
    let said = tried[1].judged.as_ref().unwrap().verdict.text();
    assert!(said.contains("2 would begin where 2 may in a day"), "{said}");
    // Nothing of it is left, and nobody is stopped.
    assert_eq!(system.world(), before);
    assert_eq!(system.ledger.deletions(&all()).await.unwrap().items.len(), deletions);
    assert_eq!(system.ledger.batches().await.unwrap(), vec![]);
    assert_eq!(system.ledger.resource(&"vm/sexton-canary-1".parse().unwrap()).await.unwrap().map(drop), None);
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
}

/// The run is another coordinator's, which counts otherwise than this one.
#[tokio::test(flavor = "multi_thread")]
async fn who_counts_nothing_finds_no_budget_broken_and_stops_nobody() {
    let system = System::with_canaries_by(LONG_MS, policy("none = true")).await;
    let over = Probe::OverBudget { of: "vm".parse().unwrap(), stage: Stage::Hard };
    let new = NewRun { asked_by: Some(ops()), within_ms: LONG_MS, probes: vec![(over, None)] };
    system.ledger.begin_canaries(new).await.unwrap().unwrap();
    system.engine.tend_canaries().await.unwrap();
    let tried = system.canaries().await;
    assert_eq!(verdicts(&tried), [("over budget", "the job table".to_owned(), "unclear")], "{tried:#?}");
    let said = tried[0].judged.as_ref().unwrap().verdict.text();
    assert!(said.contains("no budget for hard"), "{said}");
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
    for instance in [monitoring(), backup(), hypervisor()] {
        assert_eq!(system.orders_waiting(&instance).await, 0, "{instance} is asked about it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_fails_in_passing_is_made_again() {
    let system = System::with_canaries_by(LONG_MS, policy("a_day = 2")).await;
    let tried = async || {
        let all = system.canaries().await;
        verdicts(&all.into_iter().filter(|canary| canary.probe.instance().is_none()).collect::<Vec<_>>())
    };
    let with = |over| {
        let one = |what, verdict| (what, "the job table".to_owned(), verdict);
        [one("protected", "holds"), one("over budget", over)]
    };
    system.execute("ALTER TABLE admitted RENAME TO elsewhere");
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    assert_eq!(tried().await, with("open"));
    system.engine.tend_canaries().await.unwrap();
    assert_eq!(tried().await, with("open"));
    system.execute("ALTER TABLE elsewhere RENAME TO admitted");
    system.engine.tend_canaries().await.unwrap();
    assert_eq!(tried().await, with("holds"));
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
}

/// A forged order was believed, and the answer that says so has come: nobody has heard it yet.
async fn believed() -> (System, Box<dyn Subscription>, Delivery) {
    let system = System::with_canaries_by(LONG_MS, policy("a_day = 2")).await;
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    let forged = Probe::ForgedOrder { instance: monitoring() };
    let canary = system.canaries().await.into_iter().find(|canary| canary.probe == forged).unwrap();
    system.believe(&canary).await;
    let mut outcomes = system.bus.consume(&Queue::Outcomes, 16).await.unwrap();
    let delivery = outcomes.next().await.unwrap();
    (system, outcomes, delivery)
}

/// Whoever waits for outcomes of records does not wait for those of canaries, and one that is lost on the way comes again.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_canary_that_cannot_be_written_down_is_put_back_alone() {
    let (system, mut outcomes, delivery) = believed().await;
    let tag = delivery.tag;
    let deliveries = [delivery];
    system.execute("ALTER TABLE canaries RENAME TO elsewhere");
    assert_eq!(system.engine.on_reports(&deliveries).await.unwrap(), [tag], "all else is done");
    system.execute("ALTER TABLE elsewhere RENAME TO canaries");
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
    assert_eq!(system.engine.on_reports(&deliveries).await.unwrap(), []);
    assert_eq!(system.ledger.pauses().await.unwrap().len(), 1, "it was believed");
    outcomes.ack(vec![tag]).await;
}

/// The order of the first canary is one of two that were believed, and its verdict cannot be written.
#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_is_heard_behind_an_answer_that_cannot_be_written_down() {
    let system = System::with_canaries_by(LONG_MS, policy("a_day = 2")).await;
    let mut outcomes = system.bus.consume(&Queue::Outcomes, 16).await.unwrap();
    let forged = Probe::ForgedOrder { instance: monitoring() };
    let mut deliveries = Vec::new();
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let probes = vec![(forged.clone(), None)];
        let new = NewRun { asked_by: Some(ops()), within_ms: 1, probes };
        let canary = system.ledger.begin_canaries(new).await.unwrap().unwrap().remove(0);
        let over = async || system.ledger.miss_canaries().await.unwrap().len() == 1;
        until("nobody has answered in time", over).await;
        numbers.push(canary.id);
        system.believe(&canary).await;
        deliveries.push(outcomes.next().await.unwrap());
    }
    let [first, _] = numbers[..] else { panic!("{numbers:?}") };
    let odd = format!(
        "CREATE TRIGGER odd BEFORE UPDATE ON canaries WHEN OLD.id = {first} BEGIN SELECT RAISE(ABORT, 'odd'); END"
    );
    system.execute(&odd);
    assert_eq!(system.engine.on_reports(&deliveries).await.unwrap().len(), 2);
    assert_eq!(system.ledger.pauses().await.unwrap().len(), 1, "the second was believed");
    outcomes.ack(deliveries.into_iter().map(|delivery| delivery.tag).collect()).await;
}

/// Whether it answers a survey cannot be found out, and that it believes a canary can.
#[tokio::test(flavor = "multi_thread")]
async fn an_acceptance_is_heard_whatever_becomes_of_surveys() {
    let (system, mut outcomes, delivery) = believed().await;
    let tag = delivery.tag;
    system.execute("ALTER TABLE surveys RENAME TO elsewhere");
    assert_eq!(system.engine.on_reports(&[delivery]).await.unwrap(), [tag]);
    assert_eq!(system.ledger.pauses().await.unwrap().len(), 1, "it was believed");
    outcomes.ack(vec![tag]).await;
}

fn all() -> DeletionFilter {
    DeletionFilter { limit: 100, ..DeletionFilter::default() }
}

/// A consumer that asks for no proof. The real one has no such fault to show, so this one only reads and answers.
async fn believe_everything(system: &System) {
    let holder = Holder::Instance(monitoring());
    let (bus, keyring) = (system.as_user("monitoring.main"), system.keyring.clone());
    let mut orders = bus.consume(&Queue::Orders(monitoring()), 16).await.unwrap();
    tokio::spawn(async move {
        while let Some(delivery) = orders.next().await {
            for Event { data: order, time, .. } in Pack::<Order>::decode(&delivery.body).unwrap().events {
                let (evidence, finding) =
                    ("whatever you say".to_owned(), json!({ "place": "here", "target": true }));
                let outcome = Outcome::Done { presence: Presence::Present, evidence, finding: Some(finding) };
                let report =
                    OutcomeReport { job: order.job, fence: order.fence, instance: monitoring(), outcome };
                let report = Event::new("/double", time, Report::Outcome(report));
                let packed = Pack::one(report).encode().unwrap();
                let seal = keyring.sign(&holder, Direction::Outcome, &packed.body).unwrap();
                super::system::publish(&*bus, Queue::Outcomes, packed, seal).await;
            }
            orders.ack(vec![delivery.tag]).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_believes_a_forged_order_stops_everything() {
    let mut system = System::with_canaries(LONG_MS).await;
    system.start_coordinator();
    for instance in [backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    believe_everything(&system).await;
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    let all = system.until_judged().await;
    let forged = |of: &Canary| of.probe == Probe::ForgedOrder { instance: monitoring() };
    let believed = all.iter().find(|canary| forged(canary)).unwrap().judged.clone().unwrap();
    assert!(matches!(believed.verdict, Verdict::Accepted { .. }), "{believed:?}");
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    assert_eq!((&pause.covers, &pause.by), (&PauseSelector::default(), &actor()));
    assert_eq!(system.ledger.review().await.unwrap(), None);
    // It looks at whatever it is told to look at, too, and finds it to be the one, wherever that is.
    for sort in ["wrong identity", "wrong place"] {
        let wrong = |of: &Canary| of.probe.word() == sort && of.probe.instance() == Some(&monitoring());
        let wrong = all.iter().find(|canary| wrong(canary)).unwrap().judged.clone().unwrap();
        assert_eq!(wrong.verdict.word(), "ACCEPTED", "{sort}");
    }

    // Nobody pulses for the double, so nothing would be tried for it by itself.
    let id = system.delete().await;
    let claim = Intent { deletion: id, event: SaidEvent::Claim { job: JobId::of(id, 0) } };
    system.engine.run(vec![claim]).await.unwrap();
    let job = system.until_job(id, Stage::Announce, |state| matches!(state, JobState::Held { .. })).await;
    let JobState::Held { by: Blocker::Pause { pause: by, what }, .. } = job.state else { panic!("{job:?}") };
    assert_eq!(by, pause.id);
    assert!(what.starts_with("canary: "), "{what}");
    assert_eq!(job.kind, JobKind::Stage(Stage::Announce));
}

/// It believes no forged order, and knows one identity from another: nothing else would find it out.
#[tokio::test(flavor = "multi_thread")]
async fn who_takes_any_place_for_the_pinned_one_stops_everything() {
    let mut system = System::with_canaries(LONG_MS).await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    system.monitoring.set_flaw("inspect", Some(Flaw::AnyPlace));
    let before = system.world();
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    for canary in system.until_judged().await {
        let here = canary.probe.word() == "wrong place" && canary.probe.instance() == Some(&monitoring());
        let word = canary.judged.as_ref().unwrap().verdict.word();
        assert_eq!(word, if here { "ACCEPTED" } else { "holds" }, "{canary:?}");
    }
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    assert_eq!((&pause.covers, &pause.by), (&PauseSelector::default(), &actor()));
    assert!(pause.reason.starts_with("wrong place to monitoring.main about vm/canary01"), "{}", pause.reason);
    // It has looked, and that is all.
    assert_eq!(system.world(), before);
    for gate in [&system.monitoring, &system.backup, &system.hypervisor] {
        assert!(gate.changes().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_believes_an_order_of_an_earlier_run_stops_everything() {
    let mut system = System::with_canaries(LONG_MS).await;
    system.start_coordinator();
    for instance in [monitoring(), backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    let mut runs = Vec::new();
    for _ in 0..2 {
        assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
        let run = system.until_judged().await;
        let forged = |of: &Canary| of.probe == Probe::ForgedOrder { instance: monitoring() };
        runs.push(run.into_iter().find(forged).unwrap());
    }
    let [earlier, last] = runs.as_slice() else { panic!("{runs:?}") };
    assert!(earlier.run < last.run && earlier.holds() && last.holds(), "{runs:?}");

    system.believe(earlier).await;
    until("a pause", async || !system.ledger.pauses().await.unwrap().is_empty()).await;
    let pauses = system.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    assert_eq!((&pause.covers, &pause.by), (&PauseSelector::default(), &actor()));
    // That it was asked again since, and was right, changes nothing.
    let now = system.canaries().await.into_iter().find(|canary| canary.id == last.id).unwrap();
    let Verdict::Accepted { how } = now.judged.unwrap().verdict else { panic!("{:?}", now.probe) };
    assert!(how.starts_with(&format!("in run {}: ", earlier.run)), "{how}");
    assert_eq!(system.ledger.review().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_does_not_answer_a_canary_is_told() {
    let mut system = System::with_canaries(2_000).await;
    system.start_coordinator();
    for instance in [backup(), hypervisor()] {
        system.start_consumer(&instance).await;
    }
    assert_eq!(system.engine.run_canaries(&ops(), None).await.unwrap(), Some(true));
    for canary in system.until_judged().await {
        let verdict = canary.judged.unwrap().verdict;
        if canary.probe.instance() == Some(&monitoring()) {
            assert_eq!(verdict, Verdict::Unanswered, "{}", canary.probe);
        } else {
            // A busy machine may be too late; what it says in time has to be right.
            assert!(matches!(verdict, Verdict::Holds { .. } | Verdict::Unanswered), "{verdict:?}");
        }
    }
    assert_eq!(system.ledger.pauses().await.unwrap(), vec![]);
}
