use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::decide::test_plan;
use crate::deletion::{CannotDelete, Deletion, Record};
use crate::id::DeletionId;
use crate::plan::Plan;
use crate::time::Day;

/// The first, and the last moment of 2026-12-01 in UTC.
const MORNING: Timestamp = Timestamp(1_796_083_200_000_000);
const NIGHT: Timestamp = Timestamp(1_796_083_200_000_000 + 86_399_999_999);

fn on(date: &str) -> NaiveDate {
    date.parse().unwrap()
}

fn stating(rebuilt: &Value) -> Result<Resource, String> {
    let resource = json!({
        "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "1" }, "criticality": "reproducible",
        "rebuilt": rebuilt,
    });
    serde_json::from_value(resource).map_err(|error| error.to_string())
}

fn resource(criticality: Criticality, rebuilt: Option<&str>) -> Resource {
    let rebuilt = rebuilt.map(|on| json!({ "on": on, "evidence": "run 17" })).unwrap_or_default();
    Resource { criticality, ..stating(&rebuilt).unwrap() }
}

/// What comes of a record that is made at `now`, with a plan for what is as critical as this.
fn made(resource: Resource, plan: Criticality, now: Timestamp) -> Result<(), CannotDelete> {
    let record = Record {
        resource,
        due: serde_json::from_value(json!({ "date": "2026-12-10", "zone": "Pacific/Kiritimati" })).unwrap(),
        gone_by: None,
        requested_by: "platform".parse().unwrap(),
        reason: "no longer needed".into(),
        created_at: now,
    };
    let plan = Plan { criticality: plan, ..test_plan() };
    Deletion::draw_up(DeletionId(1), record, Arc::new(plan), Day::Calendar).map(drop)
}

#[test]
fn what_is_reproducible_counts_as_irreplaceable_without_a_proof_that_holds() {
    use Criticality::{Credential, Irreplaceable, Reproducible};
    let (first, tomorrow, before) = (on("2025-12-01"), on("2026-12-02"), on("2025-11-30"));
    assert_eq!((on("2026-12-01") - first).num_days(), PROOF_DAYS);
    for (rebuilt, expected) in [
        (None, Some(Unproven::Missing)),
        (Some("2026-12-02"), Some(Unproven::Future { on: tomorrow, today: on("2026-12-01") })),
        (Some("2026-12-01"), None),
        (Some("2025-12-01"), None),
        (Some("2025-11-30"), Some(Unproven::Old { on: before, days: PROOF_DAYS + 1 })),
    ] {
        let resource = resource(Reproducible, rebuilt);
        for now in [MORNING, NIGHT] {
            assert_eq!(unproven(&resource, now), expected, "{rebuilt:?} at {now}");
            for plan in [Reproducible, Credential] {
                let refused = expected.clone().map(|why| CannotDelete::Unproven {
                    resource: "vm/web01".into(),
                    why,
                    plan,
                });
                assert_eq!(made(resource.clone(), plan, now).err(), refused, "{rebuilt:?} at {now}");
            }
            assert_eq!(made(resource.clone(), Irreplaceable, now), Ok(()), "{rebuilt:?} at {now}");
        }
    }
}

#[test]
fn what_is_not_reproducible_needs_no_proof_and_becomes_nothing_else_by_one() {
    use Criticality::{Credential, Irreplaceable, Reproducible};
    for rebuilt in [None, Some("2026-12-01")] {
        assert_eq!(made(resource(Credential, rebuilt), Credential, NIGHT), Ok(()));
        for (criticality, plan) in [(Credential, Reproducible), (Irreplaceable, Credential)] {
            let refused = made(resource(criticality, rebuilt), plan, NIGHT);
            assert!(matches!(refused, Err(CannotDelete::TooCritical { .. })), "{refused:?}");
        }
    }
}

#[test]
fn a_refusal_says_what_is_missing() {
    let refused = |rebuilt: Option<&str>| {
        let resource = resource(Criticality::Reproducible, rebuilt);
        made(resource, Criticality::Reproducible, NIGHT).unwrap_err().to_string()
    };
    let counts = "so it counts as irreplaceable, and its plan only grants the grace for Reproducible";
    for (rebuilt, why) in [
        (None, "states no dated proof (`rebuilt`) that it can be rebuilt"),
        (
            Some("2026-12-02"),
            "its proof that it can be rebuilt is dated 2026-12-02 (`rebuilt.on`), and today is 2026-12-01 in UTC",
        ),
        (
            Some("2025-11-30"),
            "its proof that it can be rebuilt is dated 2025-11-30 (`rebuilt.on`), 366 days ago, and one holds 365 days",
        ),
    ] {
        assert_eq!(refused(rebuilt), format!("vm/web01 is reproducible, but {why}, {counts}"));
    }
}

#[test]
fn a_proof_is_a_date_and_a_line_of_text() {
    let most = "x".repeat(EVIDENCE_MAX);
    for evidence in ["7", most.as_str()] {
        let taken = stating(&json!({ "on": "2026-12-01", "evidence": evidence })).unwrap();
        assert_eq!(taken.rebuilt, Some(Rebuilt { on: on("2026-12-01"), evidence: evidence.to_owned() }));
        let again: Resource = serde_json::from_str(&serde_json::to_string(&taken).unwrap()).unwrap();
        assert_eq!(again, taken);
    }
    let silent = stating(&Value::Null).unwrap();
    assert!(silent.rebuilt.is_none() && !serde_json::to_string(&silent).unwrap().contains("rebuilt"));
    let date = "2026-12-01";
    for (wrong, part) in [
        (json!({ "on": "2026-12-1", "evidence": "7" }), "expected a date as YYYY-MM-DD"),
        (json!({ "on": "2026-02-29", "evidence": "7" }), "no such date"),
        (json!({ "evidence": "7" }), "missing field `on`"),
        (json!({ "on": date }), "missing field `evidence`"),
        (json!({ "on": date, "evidence": "" }), "expected 1 to 500 characters"),
        (json!({ "on": date, "evidence": "  " }), "expected 1 to 500 characters"),
        (json!({ "on": date, "evidence": "run\n17" }), "expected 1 to 500 characters"),
        (json!({ "on": date, "evidence": format!("{most}x") }), "expected 1 to 500 characters"),
        (json!({ "on": date, "evidence": "7", "by": "ops" }), "unknown field `by`"),
    ] {
        let why = stating(&wrong).unwrap_err();
        assert!(why.contains(part), "{wrong}: {why}");
    }
}
