//! What it takes to register something over what is registered.
//!
//! Contract: whoever registers a resource says where it belongs, what guards it, and who is told of its deletion. Whoever
//! registers it *again* takes it out from under no belt without the role for that: its protection, the scope whose
//! ceilings, budgets, pauses and tokens decide about it, the groups of which never two go at once, how dangerous it is to
//! delete or to forget, and whoever is to be told. To add to what guards it takes nothing more. Who is restored first is
//! no platform's matter while it is being restored: a registration by whoever is no operator leaves it.
//!
//! That is a question to the transaction that registers ([`Registrar::over`]), and not to whoever asks for it: what was read
//! before it may be older than what guards the resource by now.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::{Bearer, Denied, Permission, Reach, may};
use crate::id::Subsystem;
use crate::resource::{Criticality, Presence, Resource};

/// Who registers resources, and so by what each of them is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registrar {
    /// Whoever may register whatever they like.
    Trusted,
    /// Somebody who is known.
    Known {
        /// What they may, and where.
        bearer: Arc<Bearer>,
        /// Which subsystems tell people of a deletion ([`Catalogue::telling`](crate::catalogue::Catalogue::telling)).
        telling: BTreeSet<Subsystem>,
    },
}

/// Why somebody may not register a resource.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CannotRegister {
    /// It is stated in a scope where they may not, or is there in one.
    #[error(transparent)]
    Scope(#[from] Denied),
    /// Not with this field otherwise than it is.
    #[error("{field}: {why}")]
    Field {
        /// The field, as it is written in a registration.
        field: String,
        /// What it takes.
        why: Denied,
    },
}

impl Registrar {
    /// `new` as they register it over what is there under its name. To be asked of what is found where it is written, and not of
    /// what somebody has read before: at any moment an operator may set a priority, and others protect it, or say what guards
    /// it and who is told.
    ///
    /// # Errors
    /// Why they may not: who is limited to scopes registers in these only, and takes nothing into them that is of another one;
    /// and what takes it out from under a belt takes a role of its own.
    pub fn over<'a>(
        &self,
        there: Option<(&Resource, Presence)>,
        new: &'a Resource,
    ) -> Result<Cow<'a, Resource>, CannotRegister> {
        let Self::Known { bearer, telling } = self else { return Ok(Cow::Borrowed(new)) };
        may(bearer, Permission::Register, Reach::Scope(&new.scope))?;
        if let Some((old, _)) = there {
            may(bearer, Permission::Register, Reach::Scope(&old.scope))?;
        }
        let sets_priorities = may(bearer, Permission::Steer, Reach::Filtered).is_ok();
        let new = if sets_priorities { Cow::Borrowed(new) } else { keeping_its_priority(there, new) };
        for Takes { field, what } in to_register_over(there, &new, telling) {
            may(bearer, what, Reach::Filtered).map_err(|why| CannotRegister::Field { field, why })?;
        }
        Ok(new)
    }
}

/// What it takes to register one field otherwise than it is.
struct Takes {
    /// The field, as it is written in a registration.
    field: String,
    /// What whoever changes it has to be allowed.
    what: Permission,
}

/// The redundancy groups of `old`, which is registered, that `new` is not of.
pub fn groups_left<'a>(old: &'a Resource, new: &'a Resource) -> impl Iterator<Item = &'a String> {
    old.groups.iter().filter(move |group| !new.groups.contains(group))
}

/// What it takes to register `new` over what is there under its name, beside registering in both scopes; `telling` tell people of
/// a deletion.
fn to_register_over(
    there: Option<(&Resource, Presence)>,
    new: &Resource,
    telling: &BTreeSet<Subsystem>,
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
    for subsystem in telling {
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

/// `new` with the priority of what is registered under its name: whoever may set none leaves the one that is there. An operator may
/// have set it for restores that are under way, and platforms register what they have again and again, with what they state
/// themselves.
fn keeping_its_priority<'a>(there: Option<(&Resource, Presence)>, new: &'a Resource) -> Cow<'a, Resource> {
    match there {
        Some((old, Presence::Registered)) if old.priority != new.priority => {
            Cow::Owned(Resource { priority: old.priority, ..new.clone() })
        }
        Some(_) | None => Cow::Borrowed(new),
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

    use super::super::{Extent, Role};
    use super::*;
    use crate::resource::PRIORITY_DEFAULT;

    fn resource(scope: &str, groups: &Value, protected: bool) -> Resource {
        serde_json::from_value(json!({
            "id": "vm/db01", "scope": scope, "identity": {"uuid": "1"}, "criticality": "irreplaceable",
            "groups": groups, "protected": protected,
        }))
        .unwrap()
    }

    /// One that tells people. Others do not.
    fn telling() -> BTreeSet<Subsystem> {
        ["mail".parse().unwrap()].into()
    }

    /// Somebody of this role, who is limited to no scope.
    fn registrar(role: Role) -> Registrar {
        within(role, Extent::Everywhere)
    }

    fn within(role: Role, extent: Extent) -> Registrar {
        let bearer = Arc::new(Bearer { name: "ci".parse().unwrap(), role, extent });
        Registrar::Known { bearer, telling: telling() }
    }

    /// What it takes, of whichever field.
    fn taken(old: (&Resource, Presence), new: &Resource) -> Vec<Permission> {
        to_register_over(Some(old), new, &telling()).into_iter().map(|takes| takes.what).collect()
    }

    /// Which fields of `new` whoever registers it over `old` may not choose.
    fn refused(old: &Resource, new: &Resource) -> Vec<String> {
        let takes = to_register_over(Some((old, Presence::Registered)), new, &telling());
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
            assert!(to_register_over(None, &new, &telling()).is_empty());
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
        let (keeps, sets) = (registrar(Role::Requester), registrar(Role::Operator));
        for stated in [PRIORITY_DEFAULT, 7, -5] {
            let over = |by: &Registrar, there| by.over(there, &of(stated)).unwrap().priority;
            assert_eq!((over(&keeps, there), over(&sets, there)), (-5, stated));
            assert_eq!(over(&Registrar::Trusted, there), stated);
            let free = Some((&old, Presence::Recycled));
            assert_eq!(over(&keeps, free), stated, "the name is free");
            assert_eq!(over(&keeps, None), stated);
        }
        assert_eq!(taken((&old, Presence::Registered), &of(7)), [Permission::Steer]);
        assert_eq!(taken((&old, Presence::Registered), &of(-5)), []);
    }

    #[test]
    fn a_refusal_names_the_field_and_who_may() {
        let old = resource("acme/prod", &json!(["db"]), true);
        let there = Some((&old, Presence::Registered));
        let open = Resource { protected: false, ..old.clone() };
        let why = registrar(Role::Approver).over(there, &open).unwrap_err();
        let expected =
            "protected: taking the protection off a resource needs the role admin, and ci is approver";
        assert_eq!(why.to_string(), expected);
        // The first of several; the role for one is none for another.
        let all = resource("acme/lab", &json!([]), true);
        let why = registrar(Role::Requester).over(there, &all).unwrap_err();
        let expected =
            "scope: moving a resource to another scope needs the role approver, and ci is requester";
        assert_eq!(why.to_string(), expected);
        assert_eq!(registrar(Role::Approver).over(there, &all).unwrap().into_owned(), all);
        for may in [registrar(Role::Admin), Registrar::Trusted] {
            assert_eq!(may.over(there, &open).unwrap().into_owned(), open);
        }
        assert_eq!(registrar(Role::Requester).over(None, &open).unwrap().into_owned(), open);
    }

    #[test]
    fn whoever_is_limited_to_scopes_registers_what_is_and_stays_there() {
        let ci = within(Role::Admin, Extent::Scopes(["acme".parse().unwrap()].into()));
        let [ours, theirs] = ["acme/prod", "other"].map(|scope| resource(scope, &json!([]), false));
        let outside = "other is outside of what ci is limited to: acme";
        assert_eq!(ci.over(None, &ours).unwrap().into_owned(), ours);
        for presence in [Presence::Registered, Presence::Tombstone, Presence::Recycled] {
            let why = ci.over(Some((&theirs, presence)), &ours).unwrap_err();
            assert_eq!(why.to_string(), outside, "{presence:?}: nothing is taken into it");
            let why = ci.over(Some((&ours, presence)), &theirs).unwrap_err();
            assert_eq!(why.to_string(), outside, "{presence:?}: nor out of it");
        }
        assert_eq!(ci.over(None, &theirs).unwrap_err().to_string(), outside);
    }
}
