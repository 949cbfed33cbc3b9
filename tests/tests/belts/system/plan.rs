//! What plan and which days a system goes by, unless its test says otherwise.
use std::sync::Arc;

use sexton_coordinator::Plans;
use sexton_ledger::Limits;
use sexton_model::belts::Policy;
use sexton_model::catalogue::SubsystemActions;
use sexton_model::plan::Plan;
use sexton_model::time::Day;

/// A rehearsal's day, in milliseconds.
const DAY_MS: u64 = 200;

/// Announce and soft are due at once, the rest a day after each other.
pub const PLAN: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
rehearsal = true
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }, { do = "backup.inspect" }]
[stages.soft]
offset_days = 0
steps = [{ do = "monitoring.silence" }, { do = "backup.final" }]
[stages.hard]
offset_days = 1
steps = [{ do = "monitoring.remove_target" }, { do = "backup.remove_schedule" }]
[stages.purge]
offset_days = 2
steps = [{ do = "backup.delete_archives" }, { do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 3
steps = []
"#;

/// Twenty days, in milliseconds: between the notice of this plan and its soft stage.
pub const NOTICE_MS: u64 = 20 * DAY_MS;

/// It is not marked as a rehearsal's: the linter wants the notice, and the days.
const ANNOUNCING: &str = r#"
kind = "vm"
version = 1
criticality = "reproducible"
[stages.announce]
offset_days = 0
steps = [{ do = "monitoring.inspect" }, { do = "backup.inspect" }, { do = "monitoring.silence" }]
[stages.soft]
offset_days = 20
steps = [{ do = "backup.final" }]
[stages.hard]
offset_days = 21
steps = [{ do = "monitoring.remove_target" }, { do = "backup.remove_schedule" }]
[stages.purge]
offset_days = 22
steps = [{ do = "backup.delete_archives" }, { do = "monitoring.delete_history" }]
[stages.recycle]
offset_days = 23
steps = []
"#;

/// Monitoring, at which whoever is silenced was told.
fn telling() -> String {
    let silence = "nature = \"reversible\"\nearliest = \"soft\"";
    assert!(sexton_monitoring::ACTIONS.contains(silence));
    let tell = "nature = \"reversible\"\nearliest = \"announce\"\nnotice = true";
    sexton_monitoring::ACTIONS.replacen(silence, tell, 1)
}

/// What monitoring does where this plan is gone by.
pub fn monitoring_of(plan: &Plan) -> SubsystemActions {
    if plan.stages.iter().flat_map(|stage| &stage.steps).any(|step| step.notice) {
        return SubsystemActions::parse("monitoring.toml", &telling()).unwrap();
    }
    sexton_monitoring::actions()
}

/// A plan with a notice: whoever is silenced at monitoring was told.
pub fn announcing() -> Arc<Plan> {
    announcing_plans().of_kind(&"vm".parse().unwrap()).unwrap().clone()
}

/// It, with who tells people.
pub fn announcing_plans() -> Plans {
    let telling = telling();
    let catalogue = [("monitoring.toml", telling.as_str()), ("backup.toml", sexton_backup::ACTIONS)];
    Plans::of(&catalogue, &[("plan.toml", ANNOUNCING)], true).unwrap()
}

pub fn rehearsal() -> sexton_ledger::Options {
    let day = Day::Rehearsal { length_ms: DAY_MS };
    sexton_ledger::Options { day, limits: Limits::default(), policy: Policy::default() }
}

pub fn plans(plan: &str) -> Plans {
    let catalogue = [
        ("monitoring.toml", sexton_monitoring::ACTIONS),
        ("backup.toml", sexton_backup::ACTIONS),
        ("hypervisor.toml", sexton_hypervisor::ACTIONS),
    ];
    Plans::of(&catalogue, &[("plan.toml", plan)], true).unwrap()
}

/// The plan with a soft stage of short deadlines.
pub fn quick_soft() -> String {
    let short = |action: &str| format!("{{ do = \"{action}\", deadline_ms = 2000, longest_call_ms = 200 }}");
    ["monitoring.silence", "backup.final"].into_iter().fold(PLAN.to_owned(), |plan, action| {
        plan.replacen(&format!("{{ do = \"{action}\" }}"), &short(action), 1)
    })
}
