//! What it takes to register something over what is registered.
//!
//! Contract: whoever registers a resource says where it belongs, and what guards it. Whoever registers it *again* takes it out
//! from under no belt without the role for that: its protection, the scope whose ceilings, budgets, pauses and tokens
//! decide about it, and the groups of which never two go at once. To add to what guards it takes nothing more.
use super::Permission;
use crate::resource::{Presence, Resource};

/// What it takes to register `new` over what is there under its name, beside registering in both scopes.
pub fn to_register_over(there: Option<(&Resource, Presence)>, new: &Resource) -> Vec<Permission> {
    // A name that is free again has nothing of what it was.
    let Some((old, Presence::Registered)) = there else { return Vec::new() };
    let unprotects = old.protected && !new.protected;
    let moves = old.scope != new.scope;
    let regroups = old.groups.iter().any(|group| !new.groups.contains(group));
    let all =
        [(unprotects, Permission::Unprotect), (moves, Permission::Move), (regroups, Permission::Regroup)];
    all.into_iter().filter(|(needed, _)| *needed).map(|(_, what)| what).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn resource(scope: &str, groups: &Value, protected: bool) -> Resource {
        serde_json::from_value(json!({
            "id": "vm/db01", "scope": scope, "identity": {"uuid": "1"}, "criticality": "irreplaceable",
            "groups": groups, "protected": protected,
        }))
        .unwrap()
    }

    #[test]
    fn what_takes_a_resource_out_from_under_a_belt_takes_a_role() {
        use Permission::{Move, Regroup, Unprotect};
        let old = resource("acme/prod", &json!(["db", "rack-1"]), true);
        for (new, takes) in [
            (old.clone(), vec![]),
            // The order of its groups is no matter, and one more only guards it better.
            (resource("acme/prod", &json!(["rack-2", "rack-1", "db"]), true), vec![]),
            (resource("acme/lab", &json!(["db", "rack-1"]), true), vec![Move]),
            // Neither is a scope below it the same one.
            (resource("acme/prod/new", &json!(["db", "rack-1"]), true), vec![Move]),
            (resource("acme/prod", &json!(["db"]), true), vec![Regroup]),
            (resource("acme/prod", &json!(["db", "rack-2"]), true), vec![Regroup]),
            (resource("acme/prod", &json!(["db", "rack-1"]), false), vec![Unprotect]),
            (resource("acme", &json!([]), false), vec![Unprotect, Move, Regroup]),
        ] {
            assert_eq!(to_register_over(Some((&old, Presence::Registered)), &new), takes, "{new:?}");
            assert_eq!(to_register_over(Some((&old, Presence::Recycled)), &new), [], "the name is free");
            assert_eq!(to_register_over(None, &new), []);
        }
        let plain = resource("acme/prod", &json!([]), false);
        assert_eq!(to_register_over(Some((&plain, Presence::Registered)), &old), [], "it only adds");
    }
}
