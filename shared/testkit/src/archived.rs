//! A record as a file of the archive holds it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::sync::Arc;

use serde_json::json;
use sexton_model::archive::{Document, FORMAT, Link};
use sexton_model::audit::{GENESIS, link};
use sexton_model::catalogue::Catalogue;
use sexton_model::deletion::{Deletion, RecordStatus};
use sexton_model::job::{Job, JobState};
use sexton_model::plan::Plan;
use sexton_model::time::Day;
use sexton_model::{DeletionId, Timestamp};

const PLAN: &str = "kind = \"vm\"\nversion = 1\ncriticality = \"irreplaceable\"\nrehearsal = true\n\
    [stages.announce]\noffset_days = -1\nsteps = []\n[stages.soft]\noffset_days = 0\nsteps = []\n\
    [stages.hard]\noffset_days = 1\nsteps = [{ do = \"inventory.remove\" }]\n[stages.purge]\noffset_days = 2\n\
    steps = [{ do = \"receipt\" }]\n[stages.recycle]\noffset_days = 3\nsteps = []\n";

/// A record that is over, with something of everything: `d-17`, which deleted `vm/web01` because it was "no longer needed".
pub fn document() -> Document {
    let record = json!({
        "resource": {
            "id": "vm/web01", "scope": "tenants/acme", "identity": { "uuid": "u" }, "criticality": "irreplaceable",
        },
        "due": { "date": "2026-12-01", "zone": "UTC", "moment": 0 }, "requested_by": "ops",
        "reason": "no longer needed", "created_at": 0,
    });
    let plan = Plan::parse("vm.toml", PLAN, &Catalogue::default(), true).unwrap();
    let statement = serde_json::from_value(record.clone()).unwrap();
    let day = Day::Rehearsal { length_ms: 1 };
    let made = Deletion::draw_up(DeletionId(17), statement, Arc::new(plan), day).unwrap();
    let over = |job: &Job| Job { state: JobState::Done, ended_at: Some(Timestamp(5)), ..job.clone() };
    let body = json!({ "at": 0, "what": "created", "by": "ops", "detail": "no longer needed" }).to_string();
    let head = link(&GENESIS, 1, body.as_bytes());
    Document {
        format: FORMAT,
        ledger: "l".into(),
        deletion: made.id,
        resource: made.record.resource.id.clone(),
        status: RecordStatus::Recycled,
        ended_at: Timestamp(5),
        plan: serde_json::to_value(&*made.plan).unwrap(),
        record,
        jobs: made.jobs.iter().map(over).collect(),
        holds: vec![],
        waivers: vec![json!({
            "slot": 2, "step": 0, "claim": "may_remain", "by": "ops", "evidence": "looked", "at": 3,
        })],
        targets: [("dns.main".parse().unwrap(), json!({ "rrsets": [] }))].into(),
        manifests: vec![],
        events: vec![Link { seq: 1, body, hash: head }],
        head,
        receipt: None,
    }
}
