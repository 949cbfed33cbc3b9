use std::collections::BTreeMap;

use serde_json::{Value, json};
use sexton_coordinator::Plans;
use sexton_model::DeletionId;
use sexton_model::audit::GENESIS;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::job::Out;

use super::*;

const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = -1
steps = [{ do = "monitoring.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence" }]
[stages.hard]
offset_days = 1
steps = [{ do = "monitoring.remove_target" }]
[stages.purge]
offset_days = 2
steps = [{ do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;
const DAY: Day = Day::Rehearsal { length_ms: 1_000 };
/// When soft is due, in milliseconds.
const DUE: i64 = 1_000_000;

pub(super) fn deletion() -> Deletion {
    let plans = Plans::of(&[("monitoring.toml", sexton_monitoring::ACTIONS)], &[("plan.toml", PLAN)], true);
    let record: Record = serde_json::from_value(json!({
        "resource": {
            "id": "vm/web01", "scope": "tenants/acme", "criticality": "reproducible",
            "rebuilt": { "on": "1970-01-01", "evidence": "a test" },
            "identity": { "uuid": "00000000-0000-0000-0000-000000000001" },
        },
        "due": { "date": "2030-01-10", "zone": "UTC", "moment": DUE * 1000 },
        "requested_by": "eva", "reason": "contract ended", "created_at": (DUE - 2_000) * 1000,
    }))
    .unwrap();
    let plan = plans.unwrap().of_kind(&"vm".parse().unwrap()).unwrap().clone();
    Deletion::draw_up(DeletionId(1), record, plan, DAY).unwrap()
}

pub(super) fn fence(number: i64) -> Value {
    json!({ "epoch": 1, "number": number })
}

/// So many milliseconds after the due date.
pub(super) fn event(after_ms: i64, what: &str, stage: &str, more: Value) -> Value {
    let mut event = json!({ "at": (DUE + after_ms) * 1000, "what": what, "by": "coordinator" });
    if !stage.is_empty() {
        event["job"] = json!({ "stage": stage });
    }
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event
}

/// A trail as it should be, until hard is done.
fn good() -> Vec<Value> {
    let step = "monitoring.remove_target";
    vec![
        event(-2_000, "created", "", json!({})),
        event(-1_000, "claimed", "announce", json!({ "ordered": fence(1), "state": "running" })),
        event(-900, "settled", "announce", json!({ "fence": fence(1), "state": "done" })),
        event(100, "claimed", "soft", json!({ "ordered": fence(2), "state": "running" })),
        event(200, "settled", "soft", json!({ "fence": fence(2), "state": "done" })),
        event(1_200, "claimed", "hard", json!({ "ordered": fence(3), "state": "running" })),
        event(
            1_300,
            "settled",
            "hard",
            json!({ "fence": fence(3), "state": "done", "presence": "absent", "mode": "perform", "step": step }),
        ),
    ]
}

/// What is judged is the event: its hash is what others verify.
fn row(seq: i64, event: Value) -> AuditRow {
    let body = event.to_string();
    AuditRow { seq, event: serde_json::from_value(event).unwrap(), body, hash: GENESIS }
}

/// Which invariant a trail breaks.
fn broken(trail: Vec<Value>) -> Option<&'static str> {
    let audit = (1..).zip(trail).map(|(seq, event)| row(seq, event));
    let view = DeletionView { deletion: deletion(), targets: BTreeMap::new(), audit: audit.collect() };
    let mut seen = Trail::default();
    view.audit.iter().find_map(|row| seen.see(&view, row, DAY).err()).map(|violation| violation.invariant)
}

fn changed(change: impl FnOnce(&mut Vec<Value>)) -> Option<&'static str> {
    let mut trail = good();
    change(&mut trail);
    broken(trail)
}

#[test]
fn a_good_trail_breaks_nothing() {
    assert_eq!(broken(good()), None);
    let set_back = changed(|trail| {
        (trail[4]["fence"], trail[5]["ordered"], trail[6]["fence"]) = (fence(3), fence(4), fence(4));
        trail.insert(4, event(-500, "dispatched", "soft", json!({ "ordered": fence(3) })));
        trail.insert(4, event(-600, "settled", "soft", json!({ "fence": fence(2), "state": "ready" })));
    });
    assert_eq!(set_back, None, "what has begun goes on by a clock that was set back since");
    let cancelled = changed(|trail| {
        trail.truncate(4);
        trail.push(event(150, "cancelled", "", json!({ "by": "eva" })));
        let ended = json!({ "fence": fence(2), "state": "cancelled", "ordered": fence(4) });
        trail.push(event(200, "settled", "soft", ended));
    });
    assert_eq!(cancelled, None);
}

#[test]
fn each_rule_finds_what_it_is_about() {
    let at =
        |index: usize, after_ms: i64| changed(|trail| trail[index]["at"] = json!((DUE + after_ms) * 1000));
    assert_eq!(at(1, -1_001), Some("I1"), "announce before its date");
    assert_eq!(at(3, 50), Some("I1"), "soft within the grace since announce");
    assert_eq!(
        changed(|trail| trail[4]["state"] = json!("waiting")),
        Some("I1"),
        "hard before soft has ended"
    );
    let cancel = event(300, "cancelled", "", json!({ "by": "eva" }));
    assert_eq!(changed(|trail| trail.insert(5, cancel.clone())), Some("I4"));
    assert_eq!(changed(|trail| trail.push(cancel.clone())), Some("I5"));
    assert_eq!(changed(|trail| trail.insert(5, event(300, "hold_placed", "", json!({})))), Some("hold"));
    for presence in ["unknown", "present"] {
        assert_eq!(changed(|trail| trail[6]["presence"] = json!(presence)), Some("I9"), "{presence}");
    }
    assert_eq!(changed(|trail| trail[4]["fence"] = fence(1)), Some("I10"), "an answer to an older order");
    assert_eq!(changed(|trail| trail[5]["ordered"] = fence(2)), Some("I10"), "an order under a used fence");
    assert_eq!(changed(|trail| drop(trail.remove(4))), Some("I3"), "an order while another one is out");
    let over = |trail: &mut Vec<Value>| {
        trail[6]["job"] = json!({ "stage": "recycle" });
        trail.push(event(9_000, "dispatched", "purge", json!({ "ordered": fence(4) })));
    };
    assert_eq!(changed(over), Some("I5"), "an order after the end");
}

#[test]
fn a_missing_event_is_noticed() {
    let view = DeletionView { deletion: deletion(), targets: BTreeMap::new(), audit: Vec::new() };
    let first = |seq| row(seq, good().swap_remove(0));
    assert_eq!(Trail::default().see(&view, &first(1), DAY), Ok(()));
    let gap = Trail::default().see(&view, &first(2), DAY).unwrap_err();
    assert_eq!(gap.invariant, "I12", "{gap}");
}

#[test]
fn a_job_locks_from_its_beginning_to_its_end_whatever_it_waits_for() {
    let mut view = DeletionView { deletion: deletion(), targets: BTreeMap::new(), audit: Vec::new() };
    assert_eq!(locks(&view), 0, "nothing has begun");
    let (at, fence) = (Timestamp(DUE * 1000), Fence { epoch: 1, number: 1 });
    let out = Out { fence, deadline: at, lease_until: at, started: false, performer: None };
    let reason = "a test".to_owned();
    for (state, many) in [
        (JobState::Ready { since: at, blocked: None }, 1),
        (JobState::Running(out), 1),
        (JobState::Waiting { until: at, reason: reason.clone() }, 1),
        (JobState::Cancelling(out), 1),
        (JobState::Parked { reason }, 1),
        (JobState::Scheduled { due_at: Some(at) }, 0),
        (JobState::Done, 0),
        (JobState::Cancelled, 0),
        (JobState::Rescued, 0),
    ] {
        view.deletion.jobs[0].state = state;
        assert_eq!(locks(&view), many, "{:?}", view.deletion.jobs[0].state);
    }
}
