//! What each answer means, and what comes of all of them.
use serde_json::json;

use super::*;
use crate::belts::PauseSelector;
use crate::decide::test_deletion;
use crate::step::{FINDING_MAX_BYTES, Presence};

const BEGUN: Timestamp = Timestamp(1_000_000);

fn drawn_up() -> Deletion {
    test_deletion().0
}

fn pause(subsystem: Option<&str>) -> Pause {
    let covers =
        PauseSelector { subsystem: subsystem.map(|name| name.parse().unwrap()), ..PauseSelector::default() };
    Pause { id: 3, covers, by: "ops".parse().unwrap(), reason: "it is moved".into(), since: Timestamp(0) }
}

fn new(d: &Deletion, looks: Vec<NewLook>) -> NewSurvey {
    let (resource, due, plan) = (d.record.resource.clone(), d.record.due, Plan::clone(&d.plan));
    NewSurvey { by: "ann".parse().unwrap(), about: About { resource, due, plan }, within_ms: 20_000, looks }
}

const NUMBERS: Numbers = Numbers { now: BEGUN, epoch: 2, revision: 5, first_fence: 40 };

/// Asked of the hypervisor, once.
fn begun() -> Survey {
    let d = drawn_up();
    new(&d, looks(&d, &[]).unwrap()).numbered(NUMBERS)
}

fn hypervisor() -> Instance {
    "hypervisor.main".parse().unwrap()
}

fn fence(number: i64) -> Fence {
    Fence { epoch: 2, number }
}

fn saw(targets: Value) -> Came {
    let evidence = "seen".to_owned();
    Came::Answered(Outcome::Done { presence: Presence::Present, evidence, finding: Some(targets) })
}

fn volumes() -> Value {
    json!({ "volumes": [{ "path": "/a", "size": 7 }, { "path": "/b", "size": 9 }], "snapshots": [] })
}

fn hear(survey: &Survey, came: &Came) -> Option<Survey> {
    survey.hear((&hypervisor(), fence(40)), came, BEGUN)
}

fn over() -> Timestamp {
    BEGUN.plus_ms(20_000)
}

#[test]
fn what_looks_at_announce_is_asked_of_its_instance() {
    let survey = begun();
    assert_eq!((survey.id, survey.revision, survey.answer_by), (40, 5, over()));
    let [look] = survey.looks.as_slice() else { panic!("{:?}", survey.looks) };
    assert_eq!((look.step, &look.instance, look.fence, &look.answer), (0, &hypervisor(), fence(40), &None));
    assert_eq!(survey.step(look).unwrap().name, "hypervisor.inspect");
    assert!(survey.is_open(BEGUN) && !survey.is_open(over()));
}

#[test]
fn what_is_paused_is_not_asked() {
    let d = drawn_up();
    assert!(looks(&d, &[pause(Some("dns"))]).unwrap()[0].unasked.is_none(), "dns does not look");
    for covers in [None, Some("hypervisor")] {
        let why = looks(&d, &[pause(covers)]).unwrap_err().to_string();
        assert_eq!(why, "nobody is asked: pause 3: ops: it is moved");
    }
    // Another one is: then that one alone is left out.
    let mut two = drawn_up();
    let mut plan = Plan::clone(&two.plan);
    let mut at_dns = plan.stages[0].steps[0].clone();
    at_dns.name = "dns.inspect".into();
    at_dns.performer = crate::plan::Performer::Subsystem {
        subsystem: "dns".parse().unwrap(),
        action: "inspect".parse().unwrap(),
    };
    plan.stages[0].steps.push(at_dns);
    two.plan = std::sync::Arc::new(plan);
    let found = looks(&two, &[pause(Some("hypervisor"))]).unwrap();
    assert_eq!(found.iter().map(|look| look.unasked.is_some()).collect::<Vec<_>>(), [true, false]);
    let survey = new(&two, found).numbered(NUMBERS);
    assert_eq!(survey.looks[1].fence, fence(41));
    let shown: Vec<_> = survey.looks.iter().map(|look| survey.shown(look, BEGUN)).collect();
    assert_eq!(shown[0], Err("not looked at: pause 3: ops: it is moved".into()));
    assert_eq!(shown[1], Err("no answer yet".into()));

    let mut blind = drawn_up();
    let mut plan = Plan::clone(&blind.plan);
    plan.stages[0].steps.retain(|step| step.nature != Nature::Inspect);
    blind.plan = std::sync::Arc::new(plan);
    assert_eq!(looks(&blind, &[]), Err(CannotSurvey::Nothing("vm".parse().unwrap())));
}

#[test]
fn each_answer_means_one_thing() {
    let absent =
        Outcome::Done { presence: Presence::Absent, evidence: String::new(), finding: Some(volumes()) };
    let large = saw(json!({ "volumes": "x".repeat(FINDING_MAX_BYTES) }));
    let within = "not looked at within 20 s: ";
    for (came, last, shown) in [
        (
            Came::Answered(Outcome::refused("in use by vm/db01")),
            true,
            "refused: in use by vm/db01".to_owned(),
        ),
        (Came::Answered(Outcome::spared("locked")), false, format!("{within}locked")),
        (Came::Answered(Outcome::failed("no connection")), false, format!("{within}no connection")),
        (
            Came::Answered(absent),
            false,
            format!("{within}Inspect was answered done, but Absent was seen, not Present"),
        ),
        (
            Came::Answered(Outcome::done(Presence::Present, "said nothing")),
            false,
            format!("{within}Inspect was answered done, but says nothing of what was seen"),
        ),
        (Came::Dropped("stale".into()), false, format!("{within}the order was rejected: stale")),
        (Came::NotBelieved("forged".into()), false, format!("{within}the order was rejected: forged")),
        (Came::Rejected("large".into()), false, format!("{within}the order was rejected: large")),
        (
            large,
            true,
            format!(
                "refused: what was found takes {} bytes, more than the 65536 that travel with an order",
                FINDING_MAX_BYTES + 14
            ),
        ),
    ] {
        let heard = hear(&begun(), &came).unwrap();
        let look = &heard.looks[0];
        assert_eq!((look.is_open(), heard.is_open(BEGUN)), (!last, !last), "{came:?}");
        assert_eq!(heard.shown(look, over()), Err(shown), "{came:?}");
        assert_eq!(heard.targets(over())[&hypervisor()].clone().ok(), None);
    }
    assert_eq!(begun().shown(&begun().looks[0], over()), Err("not looked at: no answer within 20 s".into()));
}

#[test]
fn one_that_was_put_off_may_still_be_seen() {
    let spared = hear(&begun(), &Came::Answered(Outcome::spared("locked"))).unwrap();
    assert_eq!(spared.shown(&spared.looks[0], BEGUN), Err("not yet: locked".into()));
    assert_eq!(hear(&spared, &Came::Answered(Outcome::spared("locked"))), None, "nothing new");
    let seen = hear(&spared, &saw(volumes())).unwrap();
    assert_eq!(seen.targets(BEGUN)[&hypervisor()], Ok(&volumes()));
}

#[test]
fn an_answer_that_is_not_this_ones_changes_nothing() {
    let (survey, came) = (begun(), saw(volumes()));
    let heard =
        |from: &str, fence: Fence, at: Timestamp| survey.hear((&from.parse().unwrap(), fence), &came, at);
    assert!(heard("hypervisor.main", fence(40), BEGUN).is_some());
    assert_eq!(heard("dns.main", fence(40), BEGUN), None, "somebody else's");
    assert_eq!(heard("hypervisor.main", fence(41), BEGUN), None, "to another order");
    assert_eq!(heard("hypervisor.main", Fence { epoch: 1, number: 40 }, BEGUN), None, "of another epoch");
    assert_eq!(heard("hypervisor.main", fence(40), over()), None, "too late");
    let seen = hear(&survey, &came).unwrap();
    assert_eq!(hear(&seen, &saw(json!({}))), None, "what was seen stands");
    let refused = hear(&survey, &Came::Answered(Outcome::refused("no"))).unwrap();
    assert_eq!(hear(&refused, &came), None, "and so does a refusal");
}

#[test]
fn each_step_says_what_it_would_be_about() {
    let seen = hear(&begun(), &saw(volumes())).unwrap();
    let steps = seen.covered(BEGUN);
    assert_eq!(steps.len(), drawn_up().plan.stages.iter().map(|stage| stage.steps.len()).sum::<usize>());
    for (stage, step, instance, covered) in steps {
        match instance.map(|instance| instance.to_string()).as_deref() {
            Some("hypervisor.main") => {
                let things = vec!["volumes /a".to_owned(), "volumes /b".to_owned()];
                assert_eq!(covered, Covered::Exact { things }, "{stage} {}", step.name);
            }
            Some("dns.main") | None => assert_eq!(covered, Covered::Nothing, "{stage} {}", step.name),
            other => panic!("{other:?}"),
        }
    }
    for (_, _, instance, covered) in begun().covered(over()) {
        let why = "not looked at: no answer within 20 s".to_owned();
        let expected = match instance == Some(hypervisor()) {
            true => Covered::NotLookedAt { why },
            false => Covered::Nothing,
        };
        assert_eq!(covered, expected);
    }
}

#[test]
fn of_two_looks_at_one_instance_the_later_is_pinned_and_both_have_to_be_seen() {
    let d = drawn_up();
    let mut plan = Plan::clone(&d.plan);
    let mut again = plan.stages[0].steps[0].clone();
    again.name = "hypervisor.again".into();
    plan.stages[0].steps.push(again);
    let d = Deletion { plan: std::sync::Arc::new(plan), ..d };
    let survey = new(&d, looks(&d, &[]).unwrap()).numbered(NUMBERS);
    assert_eq!(survey.looks.iter().map(|look| look.step).collect::<Vec<_>>(), [0, 2]);
    let hear = |survey: &Survey, number, targets| {
        survey.hear((&hypervisor(), fence(number)), &saw(targets), BEGUN).unwrap()
    };
    let second = hear(&survey, 41, volumes());
    assert_eq!(second.targets(BEGUN)[&hypervisor()], Err("no answer yet".to_owned()), "the first is not");
    let first = hear(&survey, 40, json!({ "volumes": ["/a"] }));
    assert_eq!(first.targets(BEGUN)[&hypervisor()], Err("no answer yet".to_owned()));
    let both = hear(&first, 41, volumes());
    assert_eq!(both.targets(BEGUN)[&hypervisor()], Ok(&volumes()));
}
