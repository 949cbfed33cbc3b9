use std::sync::Arc;

use serde_json::{Value, json};
use sexton_model::Timestamp;
use sexton_model::deletion::{Deletion, Waiver};

use super::super::tests::{deletion, event, fence};
use super::*;

/// What is destroyed in hard.
const TARGET: &str = "monitoring.remove_target";
/// What is destroyed in purge.
const HISTORY: &str = "monitoring.delete_history";

/// The history is kept as long as anything may be measured.
fn record() -> Deletion {
    let mut record = deletion();
    let plan = Arc::make_mut(&mut record.plan);
    let steps = plan.stages.iter_mut().flat_map(|stage| &mut stage.steps);
    steps.filter(|step| step.name == HISTORY).for_each(|step| step.after = vec![TARGET.to_owned()]);
    record
}

/// A trail as it should be: each step of each stage is answered once.
fn good(record: &Deletion) -> Vec<Value> {
    let mut trail = Vec::new();
    for stage in Stage::ALL {
        let steps = &record.plan.stage(stage).steps;
        let state = |left: usize| if left == 0 { "done" } else { "running" };
        trail.push(event(0, "claimed", stage.word(), json!({ "state": state(steps.len()) })));
        for (answered, step) in (1..).zip(steps) {
            let (mode, presence) = match (step.nature, stage) {
                (Nature::Inspect, Stage::Announce) => ("inspect", "present"),
                (Nature::Inspect, _) => ("reread", "present"),
                (Nature::Destructive, _) => ("perform", "absent"),
                (Nature::Check | Nature::Adds | Nature::Reversible, _) => ("perform", "present"),
            };
            let more = json!({
                "fence": fence(1), "step": step.name, "mode": mode, "presence": presence,
                "state": state(steps.len() - answered),
            });
            trail.push(event(0, "settled", stage.word(), more));
        }
    }
    trail
}

fn waiver(stage: Stage, step: usize, claim: WaiverClaim) -> Waiver {
    Waiver {
        slot: stage.index(),
        step: step.try_into().unwrap(),
        claim,
        by: "eva".parse().unwrap(),
        evidence: "a test".to_owned(),
        at: Timestamp(0),
        untouched: false,
        shown: None,
    }
}

/// Which invariant a trail of that record breaks.
fn broken(record: Deletion, trail: Vec<Value>) -> Option<&'static str> {
    let view = DeletionView { deletion: record, targets: BTreeMap::new(), audit: Vec::new() };
    let mut course = Course::default();
    trail.into_iter().find_map(|event| {
        let event: AuditEvent = serde_json::from_value(event).unwrap();
        let seen = course.see(&view, &event, &|| format!("{event:?}"));
        seen.err().map(|violation| violation.invariant)
    })
}

/// The event that answers this step.
fn answers(trail: &[Value], step: &str) -> usize {
    trail.iter().position(|event| event["step"] == step).unwrap()
}

fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Option<&'static str> {
    let mut trail = good(&record());
    change(&mut trail);
    broken(record(), trail)
}

#[test]
fn a_good_course_breaks_nothing() {
    assert_eq!(broken(record(), good(&record())), None);
    let again = changed(|trail| {
        let at = answers(trail, TARGET);
        let mut failed = trail[at].clone();
        failed["state"] = json!("waiting");
        failed.as_object_mut().unwrap().remove("presence");
        trail.insert(at, failed);
    });
    assert_eq!(again, None, "a step that is tried again");
}

#[test]
fn each_rule_of_a_course_finds_what_it_is_about() {
    let removed = |step: &str| {
        changed(|trail| {
            let at = answers(trail, step);
            trail.remove(at);
        })
    };
    assert_eq!(removed("monitoring.inspect@soft"), Some("plan"), "the first step of a stage");
    assert_eq!(
        changed(|trail| {
            let at = answers(trail, "monitoring.silence");
            trail.swap(at - 1, at);
        }),
        Some("plan"),
        "one before the other"
    );
    assert_eq!(changed(|trail| trail[1]["step"] = json!("monitoring.paint")), Some("plan"));
    let unseen = |step: &str| {
        changed(|trail| {
            let at = answers(trail, step);
            trail[at].as_object_mut().unwrap().remove("presence");
        })
    };
    assert_eq!(unseen(TARGET), Some("I6"), "what comes after a target that may be there");
    assert_eq!(unseen(HISTORY), Some("I7"), "a record that ends");
    let mut early = record();
    let plan = Arc::make_mut(&mut early.plan);
    plan.stages[1].steps.iter_mut().for_each(|step| step.nature = Nature::Destructive);
    let trail = good(&early);
    assert_eq!(broken(early, trail), Some("I4"), "what cannot be taken back");
}

#[test]
fn what_people_state_is_believed_and_what_may_remain_keeps_what_comes_after_it() {
    let place = |stage: Stage, name: &str| {
        record().plan.stage(stage).steps.iter().position(|step| step.name == name).unwrap()
    };
    let target = place(Stage::Hard, TARGET);
    let without = |names: &[&str]| {
        let mut trail = good(&record());
        trail.retain(|event| !names.iter().any(|name| event["step"] == *name));
        trail
    };
    let stated = |waivers: &[Waiver], trail: Vec<Value>| {
        let mut record = record();
        record.waivers = waivers.to_vec();
        broken(record, trail)
    };
    let gone = waiver(Stage::Hard, target, WaiverClaim::Absent);
    assert_eq!(stated(&[gone], without(&[TARGET])), None);
    let remains = waiver(Stage::Hard, target, WaiverClaim::MayRemain);
    assert_eq!(stated(std::slice::from_ref(&remains), without(&[TARGET])), Some("I6"));
    let follows = waiver(Stage::Purge, place(Stage::Purge, HISTORY), WaiverClaim::MayRemain);
    let both = [remains, follows];
    assert_eq!(stated(&both, without(&[TARGET, HISTORY])), Some("I7"));
    let end = waiver(Stage::Recycle, 0, WaiverClaim::Absent);
    let [remains, follows] = both;
    assert_eq!(stated(&[remains, follows, end], without(&[TARGET, HISTORY])), None);
}

#[test]
fn only_what_is_about_an_order_is_there_once() {
    let of = |more: Value| serde_json::from_value::<AuditEvent>(event(0, "settled", "soft", more)).unwrap();
    let (answer, other, plain) =
        (of(json!({ "fence": fence(1) })), of(json!({ "fence": fence(2) })), of(json!({})));
    assert!(repeated(&answer, &answer));
    assert!(!repeated(&answer, &other));
    assert!(!repeated(&plain, &plain));
}
