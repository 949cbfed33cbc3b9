//! What plan and which days a system goes by, unless its test says otherwise.
use sexton_coordinator::Plans;
use sexton_ledger::Limits;
use sexton_model::belts::Policy;
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
