//! What it takes to register something over what is registered.
//!
//! Contract: whoever registers a resource says where it belongs, what guards it, and who is told of its deletion. Whoever
//! registers it *again* takes it out from under no belt without the role for that: its protection, the scope whose
//! ceilings, budgets, pauses and tokens decide about it, the groups of which never two go at once, how dangerous it is to
//! delete or to forget, and whoever is to be told. To add to what guards it takes nothing more. Who is restored first is
//! no platform's matter while it is being restored: a registration by whoever is no operator leaves it.
use std::borrow::Cow;

use serde_json::Value;

use super::Permission;
use crate::catalogue::Catalogue;
use crate::resource::{Criticality, Presence, Resource};

/// What it takes to register one field otherwise than it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Takes {
    /// The field, as it is written in a registration.
    pub field: String,
    /// What whoever changes it has to be allowed.
    pub what: Permission,
}

/// The redundancy groups of `old`, which is registered, that `new` is not of.
pub fn groups_left<'a>(old: &'a Resource, new: &'a Resource) -> impl Iterator<Item = &'a String> {
    old.groups.iter().filter(move |group| !new.groups.contains(group))
}

/// What it takes to register `new` over what is there under its name, beside registering in both scopes. `catalogue`
/// says who tells people of a deletion.
pub fn to_register_over(
    there: Option<(&Resource, Presence)>,
    new: &Resource,
    catalogue: &Catalogue,
) -> Vec<Takes> {
    // A name that is free again has nothing of what it was.
    let Some((old, Presence::Registered)) = there else { return Vec::new() };
    let unprotects = old.protected && !new.protected;
    let moves = old.scope != new.scope;
    let regroups = groups_left(old, new).next().is_some();
    // What was reproducible is only guarded better. A credential that is one no more is missed by nobody when it is overdue.
    let reclassifies = old.criticality != new.criticality && old.criticality != Criticality::Reproducible;
    let prioritizes = old.priority != new.priority;
    let all = [
        (unprotects, "protected", Permission::Unprotect),
        (moves, "scope", Permission::Move),
        (regroups, "groups", Permission::Regroup),
        (reclassifies, "criticality", Permission::Reclassify),
        (prioritizes, "priority", Permission::Steer),
    ];
    let changed = all.into_iter().filter(|(needed, ..)| *needed);
    let mut takes: Vec<_> = changed.map(|(_, field, what)| Takes { field: field.to_owned(), what }).collect();
    for subsystem in catalogue.telling() {
        let part =
            |resource: &Resource| resource.attributes.get(subsystem.as_str()).cloned().unwrap_or_default();
        if !still_told(&part(old), &part(new)) {
            takes.push(Takes { field: format!("attributes.{subsystem}"), what: Permission::Readdress });
        }
        // Another one tells others besides, and from elsewhere.
        if old.instance_of(subsystem) != new.instance_of(subsystem) {
            takes.push(Takes { field: format!("instances.{subsystem}"), what: Permission::Readdress });
        }
    }
    takes
}

/// With which priorities somebody registers what is registered already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priorities {
    /// With those that are stated: whoever may set them.
    Stated,
    /// With those that they have: whoever may set none. An operator may have set one for restores that are under way, and platforms
    /// register what they have again and again, with what they state themselves.
    Kept,
}

impl Priorities {
    /// `new` as it is registered over what is there under its name. To be asked of what is found where it is written: an operator
    /// may set one at any moment.
    pub fn over<'a>(self, there: Option<(&Resource, Presence)>, new: &'a Resource) -> Cow<'a, Resource> {
        match (self, there) {
            (Self::Kept, Some((old, Presence::Registered))) if old.priority != new.priority => {
                Cow::Owned(Resource { priority: old.priority, ..new.clone() })
            }
            (Self::Kept | Self::Stated, _) => Cow::Borrowed(new),
        }
    }
}

/// Whether all who were to be told still are. Nobody was where nothing was stated, or that there is nobody.
fn still_told(old: &Value, new: &Value) -> bool {
    let nobody = |part: &Value| part.is_null() || part.get("none") == Some(&Value::Bool(true));
    nobody(old) || !nobody(new) && says_all_of(new, old)
}

/// Whether `new` says all that `old` does: more may stand in its lists, and beside its keys.
fn says_all_of(new: &Value, old: &Value) -> bool {
    match (old, new) {
        (Value::Array(old), Value::Array(new)) => old.iter().all(|one| new.contains(one)),
        (Value::Object(old), Value::Object(new)) => {
            old.iter().all(|(key, part)| new.get(key).is_some_and(|new| says_all_of(new, part)))
        }
        (old, new) => old == new,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::id::Subsystem;
    use crate::resource::PRIORITY_DEFAULT;

    fn resource(scope: &str, groups: &Value, protected: bool) -> Resource {
        serde_json::from_value(json!({
            "id": "vm/db01", "scope": scope, "identity": {"uuid": "1"}, "criticality": "irreplaceable",
            "groups": groups, "protected": protected,
        }))
        .unwrap()
    }

    /// One subsystem that tells people, and one that does not.
    fn catalogue() -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (subsystem, notice) in [("mail", true), ("dns", false)] {
            let text = format!(
                "subsystem = \"{subsystem}\"\n[actions.announce]\nnature = \"reversible\"\nearliest = \"announce\"\n\
                 notice = {notice}\ndeadline_ms = 1000\nlongest_call_ms = 1000\nabout = \"tells\"\n"
            );
            catalogue.add(subsystem, &text).unwrap();
        }
        catalogue
    }

    /// What it takes, of whichever field.
    fn taken(old: (&Resource, Presence), new: &Resource) -> Vec<Permission> {
        to_register_over(Some(old), new, &catalogue()).into_iter().map(|takes| takes.what).collect()
    }

    /// Which fields of `new` whoever registers it over `old` may not choose.
    fn refused(old: &Resource, new: &Resource) -> Vec<String> {
        let takes = to_register_over(Some((old, Presence::Registered)), new, &catalogue());
        takes.into_iter().map(|takes| takes.field).collect()
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
            assert_eq!(taken((&old, Presence::Registered), &new), takes, "{new:?}");
            assert_eq!(taken((&old, Presence::Recycled), &new), [], "the name is free");
            assert_eq!(to_register_over(None, &new, &catalogue()), []);
        }
        let plain = resource("acme/prod", &json!([]), false);
        assert_eq!(taken((&plain, Presence::Registered), &old), [], "it only adds");
        assert_eq!(refused(&old, &resource("acme", &json!([]), false)), ["protected", "scope", "groups"]);
    }

    #[test]
    fn whoever_is_to_be_told_stays_so() {
        let plain = resource("acme", &json!([]), false);
        let told = |mail: Value| Resource { attributes: [("mail".to_owned(), mail)].into(), ..plain.clone() };
        let both = told(json!({ "contacts": ["a@x", "b@x"] }));
        let nobody = told(json!({ "none": true }));
        for new in [
            json!({ "contacts": ["a@x", "b@x"] }),
            json!({ "contacts": ["c@x", "b@x", "a@x"] }),
            json!({ "contacts": ["a@x", "b@x"], "language": "de" }),
        ] {
            assert_eq!(refused(&both, &told(new.clone())), Vec::<String>::new(), "{new}: they are all told");
        }
        for new in [
            json!({ "contacts": ["a@x"] }),
            json!({ "contacts": ["c@x", "b@x"] }),
            json!({ "contacts": [] }),
            json!({ "contacts": "a@x, b@x" }),
            json!({ "contacts": ["a@x", "b@x"], "none": true }),
            json!({ "none": true }),
            json!({}),
            Value::Null,
        ] {
            assert_eq!(refused(&both, &told(new.clone())), ["attributes.mail"], "{new}");
            assert_eq!(taken((&both, Presence::Registered), &told(new.clone())), [Permission::Readdress]);
            assert_eq!(taken((&both, Presence::Recycled), &told(new)), [], "the name is free");
        }
        assert_eq!(refused(&both, &plain), ["attributes.mail"]);
        // Who was to tell nobody may tell whom they like, and what nobody is told by may change.
        for old in [&nobody, &plain, &told(Value::Null)] {
            assert_eq!(refused(old, &both), Vec::<String>::new());
            assert_eq!(refused(old, &nobody), Vec::<String>::new());
        }
        let named = |dns: Value| Resource { attributes: [("dns".to_owned(), dns)].into(), ..plain.clone() };
        assert_eq!(
            refused(&named(json!({ "names": ["a.x"] })), &named(json!({ "none": true }))),
            Vec::<String>::new()
        );
        // Who tells them has others to tell, too.
        let by = |subsystem: &str, name: &str| {
            let instance: (Subsystem, Subsystem) = (subsystem.parse().unwrap(), name.parse().unwrap());
            Resource { instances: [instance].into(), ..both.clone() }
        };
        assert_eq!(refused(&both, &by("mail", "second")), ["instances.mail"]);
        assert_eq!(refused(&both, &by("mail", "main")), Vec::<String>::new());
        assert_eq!(refused(&both, &by("dns", "second")), Vec::<String>::new());
    }

    #[test]
    fn what_is_dangerous_to_delete_or_to_forget_stays_so() {
        use Criticality::{Credential, Irreplaceable, Reproducible};
        let of = |criticality| Resource { criticality, ..resource("acme", &json!([]), false) };
        for (old, new, takes) in [
            (Irreplaceable, Credential, true),
            (Irreplaceable, Reproducible, true),
            (Credential, Reproducible, true),
            // Overdue it would be an alarm no more.
            (Credential, Irreplaceable, true),
            (Reproducible, Credential, false),
            (Reproducible, Irreplaceable, false),
            (Irreplaceable, Irreplaceable, false),
        ] {
            let found = taken((&of(old), Presence::Registered), &of(new));
            assert_eq!(found, vec![Permission::Reclassify; usize::from(takes)], "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_priority_is_set_by_an_operator_and_left_by_anybody_else() {
        let of = |priority| Resource { priority, ..resource("acme", &json!([]), false) };
        let old = of(-5);
        let there = Some((&old, Presence::Registered));
        for stated in [PRIORITY_DEFAULT, 7, -5] {
            let over = |priorities: Priorities, there| priorities.over(there, &of(stated)).priority;
            assert_eq!((over(Priorities::Kept, there), over(Priorities::Stated, there)), (-5, stated));
            let free = Some((&old, Presence::Recycled));
            assert_eq!(over(Priorities::Kept, free), stated, "the name is free");
            assert_eq!(over(Priorities::Kept, None), stated);
        }
        assert_eq!(taken((&old, Presence::Registered), &of(7)), [Permission::Steer]);
        assert_eq!(taken((&old, Presence::Registered), &of(-5)), []);
    }
}
