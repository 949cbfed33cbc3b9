//! What an earlier version kept of a record is understood by this one.
//!
//! The files in `written/v1` are frozen: they are what the first version stored, and nothing in them is ever changed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sexton_model::DeletionId;
use sexton_model::audit::{AuditEvent, What};
use sexton_model::catalogue::Nature;
use sexton_model::deletion::{Deletion, Record};
use sexton_model::job::Stage;
use sexton_model::outlook::{Foresight, estimates};
use sexton_model::plan::{Performer, Plan};
use sexton_model::resource::Resource;
use sexton_model::time::Day;

const PLAN: &str = include_str!("written/v1/plan.json");
const RECORD: &str = include_str!("written/v1/record.json");
const RESOURCE: &str = include_str!("written/v1/resource.json");
const EVENT: &str = include_str!("written/v1/event.json");

fn read<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &str) -> T {
    let read: T = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::from_str::<T>(&serde_json::to_string(&read).unwrap()).unwrap(), read);
    read
}

/// It does not say which step tells people. Where none can, nobody was told.
#[test]
fn of_a_plan_of_the_first_version_it_is_said_that_nobody_is_told() {
    let mut plan: Plan = read(PLAN);
    assert_eq!(plan.untold(), None, "it is a rehearsal's");
    plan.rehearsal = false;
    assert_eq!(plan.untold(), None, "notifier.announce may tell somebody");
    plan.stages[0].steps.retain(|step| step.nature == Nature::Inspect);
    assert_eq!(plan.untold().as_deref(), Some("its plan does not say why"));
    plan.unannounced = Some("nobody owns it".to_owned());
    assert_eq!(plan.untold().as_deref(), Some("nobody owns it"));
    plan.unannounced = None;
    for stage in &mut plan.stages {
        stage.steps.retain(|step| step.nature == Nature::Check);
    }
    assert_eq!(plan.untold(), None, "nothing happens");
}

/// A record's own copy of its plan says what it said then: what came to plans later is not in it.
#[test]
fn a_plan_of_the_first_version_means_what_it_meant() {
    let plan: Plan = read(PLAN);
    assert!(!plan.exclusive);
    // No step of it tells anybody, and it says nothing of that: it is not linted again.
    assert_eq!(plan.unannounced, None);
    let steps: Vec<_> = plan.stages.iter().flat_map(|stage| &stage.steps).collect();
    assert_eq!(steps.len(), 10);
    for step in steps {
        let later = step.slow || step.notice || !step.rolling.is_empty() || !step.irreplaceable.is_empty();
        assert!(!later && !step.name.contains('@'), "{}", step.name);
        let own = matches!(step.performer, Performer::Coordinator(_));
        assert_eq!(own, ["inventory.remove", "receipt"].contains(&&*step.name), "{}", step.name);
    }
    let hard = &plan.stage(Stage::Hard).steps;
    assert_eq!((hard[0].nature, hard[0].max_attempts), (Nature::Destructive, 2));
    assert_eq!(hard[2].after, ["hypervisor.undefine"]);
}

#[test]
fn a_record_of_the_first_version_is_drawn_up_with_its_plan() {
    let record: Record = read(RECORD);
    assert_eq!(record.resource, read::<Resource>(RESOURCE));
    let day = Day::Rehearsal { length_ms: 5 };
    let made = record.created_at;
    let deletion = Deletion::draw_up(DeletionId(1), record, Arc::new(read(PLAN)), day).unwrap();
    // Announce is due a day before the date, and the record was made on it: everything is a day later.
    let dates = estimates(&deletion, &Foresight::of_dates(day, made));
    assert_eq!((dates[&Stage::Announce].at, dates[&Stage::Recycle].at), (made, made.plus_ms(4 * 5)));
    let event: AuditEvent = read(EVENT);
    assert_eq!((event.what, event.by.as_str(), event.state), (What::Created, "platform", None));
}
