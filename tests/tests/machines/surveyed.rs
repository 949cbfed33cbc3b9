//! What subsystems hold of a machine, shown before there is a record of it: they are asked through the broker, and what
//! they say is kept in the database.
use std::time::Duration;

use sexton_api::SurveyInfo;
use sexton_model::survey::Covered;

use crate::date;
use crate::installation::Installation;
use crate::waiting::wait_for;

/// Longest wait for a record to have looked at everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// Announce is due at once then.
const DUE_DAYS: u64 = 5;

/// `sexton plan` shows exactly what a record pins afterwards.
pub fn plan_shows_what_a_record_pins(installation: &Installation, resource: &str) {
    let on = date(DUE_DAYS);
    let planned = installation.sexton(&["plan", resource, "--on", &on, "--within", "120"]);
    let survey: SurveyInfo =
        serde_json::from_value(planned["survey"].clone()).unwrap_or_else(|why| panic!("{why}: {planned}"));
    let lacking: Vec<_> = survey.looks.iter().filter_map(|look| look.lacks.as_ref()).collect();
    assert!(!survey.open && lacking.is_empty(), "{lacking:?}");
    let volumes = survey.steps.iter().find(|step| step.step == "hypervisor.delete_volumes").unwrap();
    assert!(
        matches!(&volumes.about, Covered::Exact { things } if !things.is_empty()),
        "nothing would be deleted: {volumes:?}"
    );
    assert!(installation.record(resource).is_none(), "a record was made");

    installation.sexton(&["delete", resource, "--on", &on, "--reason", "a test"]);
    let pinned = wait_for(PATIENCE, || {
        let pinned = installation.record(resource).ok_or("no coordinator answers")?.targets;
        if pinned.len() == survey.targets.len() { Ok(pinned) } else { Err(format!("pinned: {pinned:?}")) }
    });
    assert_eq!(pinned, survey.targets);
}
