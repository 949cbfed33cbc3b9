//! What a resource has to state of itself before it may be registered: a typing error there would otherwise be found
//! on the day of the deletion, or never.
use std::collections::BTreeSet;

use crate::catalogue::{Catalogue, Nature};
use crate::id::Subsystem;
use crate::job::Stage;
use crate::plan::{Performer, Plan};
use crate::resource::Resource;

/// Most characters of a wrong key that an error repeats.
const KEY_SHOWN_MAX: usize = 80;

/// Why a resource cannot be deleted by its plan as it is stated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misstated {
    /// A part of its attributes that no subsystem would ever read.
    #[error("attributes.{key}: no subsystem reads it; known are {known}")]
    Unread {
        /// Its key, shortened.
        key: String,
        /// The subsystems that could read one.
        known: String,
    },
    /// What no other resource may be registered for at the same time.
    #[error(
        "exclusive: missing, and the plan wants it: what no other resource may be registered for at the same time, such \
         as machine/NAME"
    )]
    Exclusive,
    /// A part that its subsystem could not find out by itself.
    #[error(
        "attributes.{subsystem}: missing, and the plan asks {subsystem}; state its part, or {{\"none\": true}} if \
         {subsystem} holds nothing for it"
    )]
    Missing {
        /// Whose part.
        subsystem: Subsystem,
    },
}

/// Whether `resource` states what the subsystems of its `plan` have to know, and nothing that none of them reads.
///
/// # Errors
/// The first part that is wrong.
pub fn check(catalogue: &Catalogue, plan: &Plan, resource: &Resource) -> Result<(), Misstated> {
    let known: BTreeSet<&str> =
        plan.subsystems().chain(catalogue.subsystems()).map(Subsystem::as_str).collect();
    if let Some(key) = resource.attributes.keys().find(|key| !known.contains(key.as_str())) {
        let key = key.chars().take(KEY_SHOWN_MAX).collect();
        return Err(Misstated::Unread { key, known: Vec::from_iter(known).join(", ") });
    }
    if plan.exclusive && resource.exclusive.is_none() {
        return Err(Misstated::Exclusive);
    }
    let stated = |subsystem: &Subsystem| {
        resource.attributes.get(subsystem.as_str()).is_some_and(|part| !part.is_null())
    };
    match asked_at_announce(plan).find(|s| catalogue.requires_attributes(s) && !stated(s)) {
        Some(subsystem) => Err(Misstated::Missing { subsystem: subsystem.clone() }),
        None => Ok(()),
    }
}

/// The subsystems that are asked at announce what they hold.
fn asked_at_announce(plan: &Plan) -> impl Iterator<Item = &Subsystem> {
    let steps = &plan.stage(Stage::Announce).steps;
    steps.iter().filter(|step| step.nature == Nature::Inspect).filter_map(|step| match &step.performer {
        Performer::Subsystem { subsystem, .. } => Some(subsystem),
        Performer::Coordinator(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const IPAM: &str = r#"
subsystem = "ipam"
attributes_required = true
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 10000
longest_call_ms = 5000
about = "look"
"#;

    const PLAN: &str = r#"kind = "vm"
version = 1
criticality = "reproducible"
[stages.announce]
offset_days = -5
steps = [{ do = "ipam.inspect" }]
[stages.soft]
offset_days = 0
steps = []
[stages.hard]
offset_days = 3
steps = []
[stages.purge]
offset_days = 8
steps = []
[stages.recycle]
offset_days = 38
steps = []
"#;

    fn checked(attributes: Value) -> Result<(), String> {
        let mut catalogue = Catalogue::default();
        catalogue.add("ipam.toml", IPAM).unwrap();
        catalogue
            .add("dns.toml", &IPAM.replace("ipam", "dns"))
            .expect("a subsystem that the plan does not ask");
        let plan = Plan::parse("vm.toml", PLAN, &catalogue, false).unwrap();
        let resource = serde_json::from_value(json!({
            "id": "vm/web01", "identity": { "uuid": "2f1c" }, "scope": "tenants/acme",
            "criticality": "reproducible", "attributes": attributes,
        }));
        check(&catalogue, &plan, &resource.unwrap()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_a_subsystem_must_know_has_to_be_stated() {
        assert_eq!(checked(json!({ "ipam": { "mac": "52:54:00:00:00:01" } })), Ok(()));
        assert_eq!(checked(json!({ "ipam": { "none": true } })), Ok(()));
        for missing in [json!({}), json!({ "ipam": null }), json!({ "dns": { "none": true } })] {
            let why = checked(missing.clone()).unwrap_err();
            assert!(why.starts_with("attributes.ipam: missing"), "{missing}: {why}");
        }
    }

    #[test]
    fn what_is_exclusive_has_to_be_stated_where_the_plan_wants_it() {
        let mut catalogue = Catalogue::default();
        catalogue.add("ipam.toml", &IPAM.replace("attributes_required = true\n", "")).unwrap();
        let mut plan = Plan::parse("vm.toml", PLAN, &catalogue, false).unwrap();
        assert!(!plan.exclusive);
        let wanting = PLAN.replace("[stages.announce]", "exclusive = true\n[stages.announce]");
        let exclusive = Plan::parse("vm.toml", &wanting, &catalogue, false).unwrap();
        assert!(exclusive.exclusive);
        let mut resource: Resource = serde_json::from_value(json!({
            "id": "vm/web01", "identity": { "uuid": "2f1c" }, "scope": "tenants/acme",
            "criticality": "reproducible",
        }))
        .unwrap();
        assert_eq!(check(&catalogue, &plan, &resource), Ok(()));
        assert_eq!(check(&catalogue, &exclusive, &resource), Err(Misstated::Exclusive));
        resource.exclusive = Some("machine/storage07".to_owned());
        assert_eq!(check(&catalogue, &exclusive, &resource), Ok(()));
        plan = exclusive;
        let copy: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
        assert_eq!(copy, plan);
    }

    #[test]
    fn a_part_that_nobody_reads_is_a_typing_error() {
        let part = json!({ "none": true });
        assert_eq!(checked(json!({ "ipam": part, "dns": part })), Ok(()), "another plan may ask it");
        let why = checked(json!({ "ipam": part, "dsn": part })).unwrap_err();
        assert_eq!(why, "attributes.dsn: no subsystem reads it; known are dns, ipam");
        let why = checked(json!({ "ipam": part, "x".repeat(500): part })).unwrap_err();
        assert!(why.contains(&format!("attributes.{}:", "x".repeat(KEY_SHOWN_MAX))), "{why}");
    }
}
