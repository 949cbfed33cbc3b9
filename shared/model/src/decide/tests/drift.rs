//! What has appeared since the targets were pinned: what stops, what is told, what joins, and what people can do.
use serde_json::{Value, json};

use super::super::{Change, Decision, Effect, Event, Refusal};
use super::kit::{Bench, DAY_MS, actor, cancel, findings, plan_that_rereads, stage};
use crate::deletion::{RecordStatus, WaiverClaim};
use crate::job::{JobState, Stage, StateName};
use crate::step::{Mode, Outcome, Presence};

/// The targets are being read again before `which`.
fn reading(which: Stage) -> Bench {
    Bench::with(plan_that_rereads()).run_to(which, 0, Mode::Reread)
}

fn seen(appeared: Value) -> Outcome {
    Outcome::Done { presence: Presence::Present, evidence: "looked".into(), finding: Some(appeared) }
}

fn volume(name: &str) -> Value {
    json!({ "volumes": [{ "path": name, "file": "inode 7" }] })
}

fn waive(claim: WaiverClaim) -> Event {
    Event::Waive { by: actor("ops"), claim, mark: String::new(), evidence: "looked at it".into() }
}

fn retry() -> Event {
    Event::Retry { by: actor("ops") }
}

fn told(decision: &Decision) -> Option<&str> {
    decision.effects.iter().find_map(|effect| match effect {
        Effect::Happened { what: "drift", detail } => Some(detail.as_str()),
        _ => None,
    })
}

fn joined(decision: &Decision) -> Vec<Value> {
    let joins = findings(decision).into_iter().map(|change| match change {
        Change::Targets { value, join: true, .. } => value.clone(),
        other => panic!("{other:?}"),
    });
    joins.collect()
}

#[test]
fn targets_are_read_again_before_each_later_stage_that_uses_them() {
    let mut bench = Bench::with(plan_that_rereads());
    for which in Stage::ALL {
        bench.complete(which);
    }
    let modes: Vec<_> = bench.orders.iter().map(|o| (o.stage, o.mode)).collect();
    for which in [Stage::Soft, Stage::Hard, Stage::Purge] {
        let first = modes.iter().find(|(stage, _)| *stage == which);
        assert_eq!(first, Some(&(which, Mode::Reread)), "{which}");
    }
    let again = modes.iter().filter(|(_, mode)| *mode == Mode::Reread).count();
    assert_eq!(again, 3, "dns is inspected nowhere");
    assert!(bench.deletion.waivers.is_empty());
}

#[test]
fn nothing_new_goes_on_and_says_nothing() {
    for which in [Stage::Soft, Stage::Hard, Stage::Purge] {
        for presence in [Presence::Present, Presence::Absent] {
            let mut bench = reading(which);
            let finding = Some(json!({}));
            let decision = bench.answer(Outcome::Done { presence, evidence: String::new(), finding });
            assert_eq!((bench.job(stage(which)).cursor, told(&decision)), (1, None));
            assert!(decision.audit.drift.is_empty() && findings(&decision).is_empty());
        }
    }
}

#[test]
fn a_new_volume_stops_the_job_before_anything_is_touched() {
    for which in [Stage::Soft, Stage::Hard, Stage::Purge] {
        let mut bench = reading(which);
        let decision = bench.answer(seen(volume("web01-data")));
        let JobState::Parked { reason } = &bench.job(stage(which)).state else { panic!("{which} went on") };
        for part in ["hypervisor.main", "web01-data", "inode 7", "retry", "belongs", "may remain"] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        // What is left of the ways back, when it stops there.
        let (cancel, rescue) = match which {
            Stage::Soft => ("; or cancel", ""),
            Stage::Hard => ("Cancel is over", "until purge begins the resource can be saved by hand"),
            _ => ("Cancel and rescue are over", ""),
        };
        assert!(reason.contains(cancel) && reason.contains(rescue), "{which}: {reason}");
        assert!(findings(&decision).is_empty());
        assert_eq!(decision.audit.drift, ["volumes web01-data (inode 7)"]);
        let performed = bench.orders.iter().filter(|o| o.stage == which && o.mode.changes()).count();
        assert_eq!(performed, 0, "{which}");
    }
}

/// The mark is of all that appeared, so all of it has to be there to be looked at.
#[test]
fn all_that_stops_it_is_in_the_trail() {
    let mut bench = reading(Stage::Soft);
    let volumes: Vec<String> = (0..40).map(|n| format!("web01-data{n}")).collect();
    let new = json!({ "volumes": volumes, "records": ["www"] });
    let decision = bench.answer(seen(new.clone()));
    let all: Vec<String> = volumes.iter().map(|name| format!("volumes {name}")).collect();
    assert_eq!(decision.audit.drift, [all, vec!["records www".to_owned()]].concat());
    let JobState::Parked { reason } = &bench.job(stage(Stage::Soft)).state else { panic!("it went on") };
    for part in ["web01-data15; and 24 more [", "`sexton show` lists it"] {
        assert!(reason.contains(part), "{part}: {reason}");
    }
    bench.must(&bench.belongs());
    assert_eq!(joined(&bench.answer(seen(new))), [json!({ "volumes": volumes })]);
}

#[test]
fn other_drift_is_told_and_left_alone() {
    for which in [Stage::Soft, Stage::Hard, Stage::Purge] {
        let mut bench = reading(which);
        let decision = bench.answer(seen(json!({ "records": ["www"] })));
        assert_eq!(bench.job(stage(which)).cursor, 1);
        assert_eq!(decision.audit.drift, ["records www"]);
        assert!(told(&decision).unwrap().contains("records www"));
        assert!(findings(&decision).is_empty());
    }
}

#[test]
fn what_rolls_joins_at_hard_and_is_news_only_afterwards() {
    let new = json!({ "snapshots": ["nightly"] });
    for (which, joins, tells) in
        [(Stage::Soft, false, false), (Stage::Hard, true, false), (Stage::Purge, false, true)]
    {
        let mut bench = reading(which);
        let decision = bench.answer(seen(new.clone()));
        assert_eq!(bench.job(stage(which)).cursor, 1, "{which}");
        assert_eq!(joined(&decision), if joins { vec![new.clone()] } else { Vec::new() }, "{which}");
        assert_eq!(told(&decision).is_some(), tells, "{which}");
    }
}

#[test]
fn while_a_volume_stops_it_nothing_joins_that_rolls() {
    let mut bench = reading(Stage::Hard);
    let both = json!({ "snapshots": ["nightly"], "volumes": ["web01-data"] });
    assert!(joined(&bench.answer(seen(both.clone()))).is_empty());
    bench.must(&bench.belongs());
    assert_eq!(joined(&bench.answer(seen(both.clone()))), [both]);
}

#[test]
fn once_it_is_removed_a_retry_goes_on() {
    let mut bench = reading(Stage::Soft);
    bench.answer(seen(volume("web01-data")));
    bench.must(&retry());
    assert_eq!(bench.out().mode, Mode::Reread);
    // It is still there.
    bench.answer(seen(volume("web01-data")));
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked);
    bench.must(&retry());
    assert!(findings(&bench.comply()).is_empty());
    assert_eq!(bench.job(stage(Stage::Soft)).cursor, 1);
}

#[test]
fn what_a_person_states_to_belong_joins_if_it_is_exactly_that() {
    let mut bench = reading(Stage::Soft);
    bench.answer(seen(volume("web01-data")));
    let decision = bench.must(&bench.belongs());
    assert_eq!((decision.audit.by.as_str(), bench.out().mode), ("ops", Mode::Reread));
    assert!(decision.audit.detail.contains("belongs to it: looked at it"), "{:?}", decision.audit);
    // Another one has appeared meanwhile, or another file under the same name: nobody has looked at that.
    for other in [
        json!({ "volumes": ["web01-data", "web01-more"] }),
        json!({ "volumes": [{ "path": "web01-data", "file": "inode 8" }] }),
        json!({ "volumes": [{ "path": "web01-data", "file": "inode 7", "size": 1 }] }),
    ] {
        let mut bench = bench.clone();
        assert!(findings(&bench.answer(seen(other))).is_empty());
        assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked);
    }
    // Records come and go: that is another matter, and they do not join.
    let mut with = volume("web01-data");
    with["records"] = json!(["www"]);
    assert_eq!(joined(&bench.answer(seen(with))), [volume("web01-data")]);
    assert_eq!(bench.job(stage(Stage::Soft)).cursor, 1);
    bench.must(&cancel());
}

#[test]
fn a_statement_holds_for_its_stage_alone() {
    let mut bench = reading(Stage::Soft);
    bench.answer(seen(volume("web01-data")));
    bench.must(&bench.belongs());
    while bench.state(stage(Stage::Soft)) == StateName::Running {
        match bench.out().mode {
            Mode::Reread => drop(bench.answer(seen(volume("web01-data")))),
            _ => drop(bench.comply()),
        }
    }
    bench.claim(Stage::Hard);
    bench.answer(seen(volume("web01-data")));
    assert_eq!(
        bench.state(stage(Stage::Hard)),
        StateName::Parked,
        "it has joined, so it cannot have appeared"
    );
}

#[test]
fn only_what_was_shown_can_be_stated_to_belong() {
    let mut bench = Bench::with(plan_that_rereads()).run_to(Stage::Soft, 1, Mode::Perform);
    bench.answer(Outcome::refused("not mine"));
    assert_eq!(bench.go(&bench.belongs()), Err(Refusal::NothingAppeared));
    // Parked for another reason, even one that reads alike: nothing was shown.
    let mut bench = reading(Stage::Soft);
    let shown = reading(Stage::Soft);
    for reason in
        ["another place", ": since the targets were pinned there has appeared at x: y [0]. It is not"]
    {
        let mut bench = shown.clone();
        bench.answer(Outcome::refused(reason));
        assert_eq!(bench.go(&bench.belongs()), Err(Refusal::NothingAppeared));
    }
    // Whoever has seen one thing states nothing about another that has appeared before the statement came.
    bench.answer(seen(volume("web01-data")));
    let stated = bench.belongs();
    bench.must(&retry());
    bench.answer(seen(json!({ "volumes": ["web01-data", "web01-more"] })));
    let mark = bench.mark();
    for event in [stated, waive(WaiverClaim::Belongs)] {
        assert_eq!(bench.go(&event), Err(Refusal::OtherThings { mark: mark.clone() }));
    }
    for state in StateName::ALL.into_iter().filter(|state| *state != StateName::Parked) {
        assert_eq!(
            Bench::soft_in(state).go(&waive(WaiverClaim::Belongs)),
            Err(Refusal::NothingParked),
            "{state}"
        );
    }
}

#[test]
fn what_is_let_be_is_not_touched_and_keeps_the_name() {
    let mut bench = reading(Stage::Soft);
    bench.answer(seen(volume("web01-data")));
    bench.must(&bench.looked(waive(WaiverClaim::MayRemain)));
    while bench.state(stage(Stage::Soft)) == StateName::Running {
        assert!(findings(&bench.comply()).iter().all(|c| matches!(c, Change::Manifest { .. })));
    }
    for which in [Stage::Hard, Stage::Purge] {
        bench.complete(which);
    }
    bench.claim(Stage::Recycle);
    let JobState::Parked { reason } = &bench.job(stage(Stage::Recycle)).state else {
        panic!("the name is free")
    };
    assert!(reason.contains("hypervisor.inspect@soft"), "{reason}");
}

#[test]
fn it_can_be_cancelled_and_rescued_from_there() {
    let mut bench = reading(Stage::Soft);
    bench.answer(seen(volume("web01-data")));
    bench.must(&cancel());
    bench.restore();
    assert_eq!(bench.deletion.status, RecordStatus::Cancelled);
    let mut bench = reading(Stage::Hard);
    bench.answer(seen(volume("web01-data")));
    bench.wait_ms(DAY_MS);
    bench.must(&super::kit::rescue());
    assert_eq!(bench.deletion.status, RecordStatus::Rescued);
}

#[test]
fn nothing_is_compared_where_nothing_was_pinned() {
    let mut bench = Bench::with(plan_that_rereads()).run_to(Stage::Announce, 0, Mode::Inspect);
    bench.answer(Outcome::refused("not there"));
    bench.must(&bench.looked(waive(WaiverClaim::MayRemain)));
    while bench.state(stage(Stage::Announce)) == StateName::Running {
        bench.comply();
    }
    bench.claim(Stage::Soft);
    assert_eq!((bench.out().step, bench.out().mode), (1, Mode::Capture));
}
