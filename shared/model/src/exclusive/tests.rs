use serde_json::json;

use super::*;

fn membership(name: &str, exclusive: Option<&str>) -> Resource {
    let mut resource = json!({
        "id": format!("membership/{name}"), "scope": "storage", "criticality": "credential",
        "identity": {"cluster": name, "machine": "storage07"},
    });
    if let Some(exclusive) = exclusive {
        resource["exclusive"] = json!(exclusive);
    }
    serde_json::from_value(resource).unwrap()
}

fn holder(presence: Presence, leaving: Option<(bool, bool, bool)>) -> Holder {
    let leaving = leaving.map(|(purged, may_remain, receipt)| Leaving {
        deletion: DeletionId(7),
        purged,
        may_remain,
        receipt,
    });
    Holder { resource: "membership/a".parse().unwrap(), presence, leaving }
}

#[test]
fn another_may_be_registered_when_the_one_before_is_proved_gone() {
    let b = membership("b", Some("machine/storage07"));
    assert_eq!(check(None, &b, None), Ok(()));
    use Presence::{Recycled, Registered, Tombstone};
    for (presence, leaving, lacking) in [
        (Registered, None, Some(Lacks::Record)),
        (Registered, Some((false, false, false)), Some(Lacks::Hard)),
        // Whatever its record says: it is in the inventory.
        (Registered, Some((true, false, true)), Some(Lacks::Hard)),
        (Tombstone, None, Some(Lacks::Proof)),
        (Tombstone, Some((false, false, false)), Some(Lacks::Purge)),
        (Tombstone, Some((false, false, true)), Some(Lacks::Purge)),
        (Tombstone, Some((true, true, true)), Some(Lacks::Remains)),
        (Tombstone, Some((true, false, false)), Some(Lacks::Receipt)),
        (Tombstone, Some((true, false, true)), None),
        (Recycled, Some((false, false, false)), Some(Lacks::Purge)),
        (Recycled, None, None),
    ] {
        let holder = holder(presence, leaving);
        let verdict = check(None, &b, Some(&holder));
        match lacking {
            None => assert_eq!(verdict, Ok(()), "{holder:?}"),
            Some(expected) => match verdict {
                Err(CannotShare::Taken { place, by, deletion, lacks }) => {
                    assert_eq!(
                        (place.as_str(), by, lacks),
                        ("machine/storage07", holder.resource.clone(), expected)
                    );
                    assert_eq!(deletion, leaving.map(|_| DeletionId(7)));
                }
                other => panic!("{holder:?}: {other:?}"),
            },
        }
        // Itself it is not in the way of, nor of whoever states nothing.
        assert_eq!(check(None, &membership("a", Some("machine/storage07")), Some(&holder)), Ok(()));
        assert_eq!(check(None, &membership("b", None), None), Ok(()));
    }
}

#[test]
fn nobody_moves_without_being_deleted() {
    let a = membership("a", Some("machine/storage07"));
    let moved = CannotShare::Moved { resource: a.id.clone(), from: "machine/storage07".into() };
    for other in [None, Some("machine/storage08")] {
        let new = membership("a", other);
        assert_eq!(check(Some((&a, Presence::Registered)), &new, None), Err(moved.clone()));
        assert_eq!(check(Some((&a, Presence::Recycled)), &new, None), Ok(()), "it was deleted");
    }
    assert_eq!(check(Some((&a, Presence::Registered)), &a, None), Ok(()));
    // What stated nothing may state something.
    assert_eq!(check(Some((&membership("a", None), Presence::Registered)), &a, None), Ok(()));
    let taken = holder(Presence::Registered, None);
    let b = membership("b", None);
    let new = membership("b", Some("machine/storage07"));
    assert!(check(Some((&b, Presence::Registered)), &new, Some(&taken)).is_err(), "if nobody has it");
}

#[test]
fn nobody_changes_the_scope_without_being_deleted() {
    let elsewhere = |resource: &Resource| Resource { scope: "compute".parse().unwrap(), ..resource.clone() };
    let a = membership("a", Some("machine/storage07"));
    let refused = check(Some((&a, Presence::Registered)), &elsewhere(&a), None).unwrap_err();
    let (resource, place) = (a.id.clone(), "machine/storage07".to_owned());
    assert_eq!(refused, CannotShare::OtherScope { resource, place, from: a.scope.clone() });
    assert!(refused.to_string().ends_with("it has to leave first"), "{refused}");
    assert_eq!(check(Some((&a, Presence::Recycled)), &elsewhere(&a), None), Ok(()), "it was deleted");
    // What states nothing has no place to leave.
    let b = membership("b", None);
    assert_eq!(check(Some((&b, Presence::Registered)), &elsewhere(&b), None), Ok(()));
    assert_eq!(check(Some((&membership("a", None), Presence::Registered)), &elsewhere(&a), None), Ok(()));
}

#[test]
fn a_place_is_registered_in_lower_case_only() {
    let other = membership("b", Some("machine/Storage07"));
    let why = check(None, &other, None).unwrap_err();
    assert_eq!(
        why.to_string(),
        "exclusive: machine/Storage07: expected lower case (machine/storage07), so that one place is not stated in two ways"
    );
    for presence in [Presence::Tombstone, Presence::Recycled] {
        assert_eq!(check(Some((&other, presence)), &other, None), Err(why.clone()), "it has left");
    }
    let none = membership("b", None);
    assert_eq!(check(Some((&none, Presence::Registered)), &other, None), Err(why), "it states it anew");
    // Registered before that was asked: nobody could protect it any more.
    let protected = Resource { protected: true, ..other.clone() };
    assert_eq!(check(Some((&other, Presence::Registered)), &protected, None), Ok(()));
}

#[test]
fn the_reason_names_the_other_one_and_what_is_missing() {
    let b = membership("b", Some("machine/storage07"));
    let said = |holder: &Holder| check(None, &b, Some(holder)).unwrap_err().to_string();
    assert_eq!(
        said(&holder(Presence::Registered, None)),
        "exclusive: machine/storage07 is taken: membership/a is registered for it: delete that first"
    );
    assert_eq!(
        said(&holder(Presence::Tombstone, Some((false, false, false)))),
        "exclusive: machine/storage07 is taken: membership/a (d-7) was registered for it, and not all of it was seen \
         to be gone yet"
    );
}

#[test]
fn what_is_stated_is_bounded() {
    let stated = |text: &str| {
        let resource = json!({
            "id": "membership/a", "scope": "storage", "criticality": "credential", "identity": {"x": "y"},
            "exclusive": text,
        });
        serde_json::from_value::<Resource>(resource).is_ok()
    };
    assert!(stated("m") && stated(&"m".repeat(EXCLUSIVE_MAX)));
    assert!(
        !stated("") && !stated(&"m".repeat(EXCLUSIVE_MAX + 1)) && !stated(" machine/x") && !stated("a\nb")
    );
}
