//! What a person sees of a job that is parked because something has appeared.
use std::collections::BTreeMap;

use sexton_api::{LostInfo, TrailLine};
use sexton_model::attest::Lost;
use sexton_model::audit::What;
use sexton_model::deletion::RecordStatus;
use sexton_model::{DeletionId, Timestamp};

use super::*;

const AT: Timestamp = Timestamp(1_796_083_200_000_000);

fn parked_at(stage: Stage, step: &str, drift: Vec<String>) -> DeletionInfo {
    let resource = serde_json::from_value(serde_json::json!({
        "id": "vm/web01", "scope": "lab", "identity": {"uuid": "u1"}, "criticality": "irreplaceable",
    }))
    .unwrap();
    let event = AuditEvent {
        at: AT,
        what: What::Settled,
        by: "coordinator".into(),
        job: Some(JobKind::Stage(stage)),
        step: Some(step.to_owned()),
        mode: Some(Mode::Reread),
        fence: None,
        presence: None,
        state: Some(StateName::Parked),
        ordered: None,
        own: Vec::new(),
        drift,
        unannounced: None,
        detail: "looked".into(),
    };
    let job = JobInfo {
        job: JobKind::Stage(stage),
        state: StateName::Parked,
        due_at: None,
        estimated: false,
        ended_at: None,
        steps: (0, 3),
        step: Some(step.to_owned()),
        why: "since the targets were pinned there has appeared [1234]".into(),
    };
    DeletionInfo {
        id: DeletionId(17),
        resource,
        status: RecordStatus::Live,
        due: "2026-12-01".parse().unwrap(),
        zone: "UTC".parse().unwrap(),
        gone_by: None,
        requested_by: "ops".into(),
        reason: "contract ended".into(),
        unannounced: None,
        created_at: AT,
        jobs: vec![job],
        holds: Vec::new(),
        resource_holds: Vec::new(),
        mark: Some("ab12".into()),
        waivers: Vec::new(),
        undo: String::new(),
        cancel_until: None,
        receipt: None,
        targets: BTreeMap::new(),
        trail: vec![TrailLine { seq: 1, event, hash: String::new() }],
        chain: "verified".into(),
    }
}

#[test]
fn all_that_appeared_is_listed_before_anybody_states_that_it_belongs() {
    let all: Vec<String> = (0..40).map(|n| format!("volumes web01-data{n}")).collect();
    let info = parked_at(Stage::Soft, "hypervisor.inspect@soft", all.clone());
    let text = deletion(&info, false);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(all.iter().all(|thing| lines.contains(&thing.as_str())), "{text}");
    // The trail is a table: there it is cut.
    let trail = trail(&info);
    assert!(trail.contains("volumes web01-data15; …; looked") && !trail.contains("data16"), "{trail}");
}

#[test]
fn the_ways_out_are_those_that_are_left() {
    let text = |stage, step| deletion(&parked_at(stage, step, Vec::new()), false);
    let (cancel, rescue) = ("sexton cancel d-17 --reason", "sexton rescue d-17 --evidence");
    for stage in [Stage::Announce, Stage::Soft] {
        let text = text(stage, "hypervisor.inspect@soft");
        assert!(text.contains(cancel) && !text.contains(rescue), "{stage}: {text}");
    }
    for step in ["hypervisor.inspect@hard", "hypervisor.undefine"] {
        let text = text(Stage::Hard, step);
        assert!(text.contains("cancel is over") && text.contains("until purge begins"), "{text}");
        assert!(!text.contains(cancel) && text.contains(rescue), "{text}");
        assert!(text.contains("sexton retry d-17") && text.contains("--may-remain --mark ab12"), "{text}");
        assert!(text.contains("\nmark        ab12\n"), "{text}");
    }
    let text = text(Stage::Purge, "hypervisor.inspect@purge");
    assert!(text.contains("cancel and rescue are over"), "{text}");
    assert!(!text.contains(cancel) && !text.contains(rescue) && text.contains("--belongs ab12"), "{text}");
}

#[test]
fn whoever_is_asked_is_shown_what_is_meant() {
    let parked = looked_at(&parked_at(Stage::Soft, "hypervisor.inspect@soft", vec!["volumes data".into()]));
    for part in
        ["d-17 of vm/web01", "volumes data", "hypervisor.inspect@soft (soft)", "[1234]", "mark        ab12"]
    {
        assert!(parked.contains(part), "{part}: {parked}");
    }
    // A notice that came back: of whom that was said since everybody was told otherwise.
    let mut back = parked_at(Stage::Soft, "hypervisor.stop", Vec::new());
    back.jobs[0].state = StateName::Held;
    let said = |claim, evidence: &str| WaiverInfo {
        job: JobKind::Stage(Stage::Announce),
        step: Some("notifier.announce".into()),
        claim,
        by: "postmaster".into(),
        evidence: evidence.into(),
        at: AT,
    };
    let of = |claim, who: &str| said(claim, &format!("{who}@example.org"));
    back.waivers = vec![
        of(WaiverClaim::Bounced, "ann"),
        of(WaiverClaim::Told, "all"),
        of(WaiverClaim::Bounced, "ben"),
        of(WaiverClaim::Bounced, "cem"),
    ];
    let back = (looked_at(&back), deletion(&back, false));
    assert!(back.0.contains("ben@") && back.0.contains("cem@") && !back.0.contains("ann@"), "{}", back.0);
    assert!(back.1.contains("sexton acknowledge d-17 --mark ab12 --reason"), "{}", back.1);
}

#[test]
fn a_date_that_moves_with_the_clock_is_no_change() {
    let at = |seconds: i64, certain: bool, why: &str| {
        let mut info = parked_at(Stage::Soft, "hypervisor.stop", Vec::new());
        let due_at = Some(Timestamp(AT.0 + seconds * 1_000_000));
        info.cancel_until = due_at;
        info.jobs[0] = JobInfo { due_at, estimated: !certain, why: why.to_owned(), ..info.jobs[0].clone() };
        serde_json::to_string(&without_estimates(&info)).unwrap()
    };
    assert_eq!(at(0, false, ""), at(1, false, ""));
    assert_ne!(at(0, true, ""), at(1, true, ""), "a date that is certain has changed");
    assert_ne!(at(0, false, ""), at(0, false, "hold: legal: a lawsuit"));
}

#[test]
fn what_is_cut_in_the_trail_ends_with_an_ellipsis() {
    let mut info = parked_at(Stage::Soft, "hypervisor.inspect@soft", Vec::new());
    info.trail[0].event.detail = "x".repeat(81);
    let trail = trail(&info);
    assert!(trail.contains(&format!("{}…", "x".repeat(79))) && !trail.contains(&"x".repeat(80)), "{trail}");
}

#[test]
fn whoever_reviews_is_told_what_is_lost_and_how_to_find_out_more() {
    let of = |total: u64| {
        let chain = |n: u64| Lost { chain: format!("d-{n}"), seq: 5, another: n == 2 };
        lost(&LostInfo { total, chains: (1..=total.min(1000)).map(chain).collect(), not_compared: None })
    };
    assert!(of(0).contains("no chain has lost anything"), "{}", of(0));
    let two = of(2);
    assert!(two.contains("2 chains lost what was signed of them"), "{two}");
    for line in
        ["d-1: event 5 was signed, and it is missing", "d-2: event 5 was signed, and another one is there"]
    {
        assert!(two.contains(line), "{two}");
    }
    assert!(of(5000).contains("and 4960 more"), "{}", of(5000));
    let why = LostInfo { not_compared: Some("it is gone".into()), ..LostInfo::default() };
    assert!(lost(&why).contains("NOT COMPARED with what was signed: it is gone"));
    let (verify, accept) =
        (REVIEWING.find("sexton verify FILE --key"), REVIEWING.find("sexton review --accept"));
    assert!(verify.is_some() && verify < accept, "first one looks, and then one accepts");
    let revoke = REVIEWING.find("sexton token revoke NAME");
    assert!(
        revoke.is_some() && revoke < accept,
        "and what was revoked in what is lost is good once it is accepted"
    );
}
