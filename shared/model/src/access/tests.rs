//! Every permission for every role, and what is inside of a scope.
use super::*;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

pub(super) fn limited(scopes: &[&str]) -> Extent {
    Extent::Scopes(scopes.iter().map(|text| scope(text)).collect())
}

fn bearer(role: Role, extent: Extent) -> Bearer {
    Bearer { name: "ci".parse().unwrap(), role, extent }
}

/// Written out, so that whoever changes a line of the rule changes one here, too.
const TABLE: [(Permission, &str); 28] = [
    (Permission::See, "viewer requester operator approver admin"),
    (Permission::SeeAll, "viewer requester operator approver admin"),
    (Permission::Register, "requester operator approver admin"),
    (Permission::Request, "requester operator approver admin"),
    (Permission::Survey, "requester operator approver admin"),
    (Permission::CancelOwn, "requester operator approver admin"),
    (Permission::Hold, "requester operator approver admin"),
    (Permission::ReleaseOwn, "requester operator approver admin"),
    (Permission::Cancel, "operator approver admin"),
    (Permission::Release, "operator approver admin"),
    (Permission::Pause, "operator approver admin"),
    (Permission::Resume, "operator approver admin"),
    (Permission::Halt, "operator approver admin"),
    (Permission::Steer, "operator approver admin"),
    (Permission::Vouch, "operator approver admin"),
    (Permission::Waive, "approver admin"),
    (Permission::Rescue, "approver admin"),
    (Permission::Approve, "approver admin"),
    (Permission::Override, "approver admin"),
    (Permission::BreakGlass, "admin"),
    (Permission::Ceiling, "approver admin"),
    (Permission::Review, ""),
    (Permission::Move, "approver admin"),
    (Permission::Regroup, "approver admin"),
    (Permission::Reclassify, "approver admin"),
    (Permission::Readdress, "approver admin"),
    (Permission::Unprotect, "admin"),
    (Permission::Tokens, "admin"),
];

#[test]
fn every_permission_is_for_those_roles() {
    assert_eq!(TABLE.map(|(permission, _)| permission), Permission::ALL);
    for (permission, allowed) in TABLE {
        for role in Role::ALL {
            let allowed = allowed.split(' ').any(|word| word == role.word());
            for (extent, reach, inside) in [
                (Extent::Everywhere, Reach::Everything, true),
                (Extent::Everywhere, Reach::Scope(&scope("other")), true),
                (Extent::Everywhere, Reach::Filtered, true),
                (limited(&["tenants/acme"]), Reach::Everything, false),
                (limited(&["tenants/acme"]), Reach::Scope(&scope("tenants/acme/web")), true),
                (limited(&["tenants/acme"]), Reach::Scope(&scope("tenants/acme2")), false),
                (limited(&["tenants/acme"]), Reach::Scope(&scope("tenants")), false),
                (limited(&["tenants/acme"]), Reach::Filtered, true),
            ] {
                let said = may(&bearer(role, extent.clone()), permission, reach);
                assert_eq!(
                    said.is_ok(),
                    allowed && inside,
                    "{permission:?} {role} {extent} {reach:?}: {said:?}"
                );
            }
        }
    }
}

#[test]
fn who_is_refused_is_told_what_it_takes() {
    fn said(bearer: Bearer, permission: Permission, reach: Reach<'_>) -> String {
        may(&bearer, permission, reach).unwrap_err().to_string()
    }
    let viewer = bearer(Role::Viewer, Extent::Everywhere);
    assert_eq!(
        said(viewer, Permission::Waive, Reach::Filtered),
        "waiving a step needs the role approver, and ci is viewer"
    );
    let acme = bearer(Role::Operator, limited(&["a", "b"]));
    assert_eq!(
        said(acme.clone(), Permission::Cancel, Reach::Scope(&scope("c"))),
        "c is outside of what ci is limited to: a, b"
    );
    let many: Vec<String> = (10..21).map(|n| format!("t{n}")).collect();
    let many = limited(&many.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(
        said(bearer(Role::Operator, many), Permission::Cancel, Reach::Scope(&scope("c")))
            .ends_with("t16, t17 and 3 more")
    );
    assert_eq!(
        said(acme, Permission::Pause, Reach::Everything),
        "pausing of every scope takes a token that is limited to none, and ci is limited to a, b"
    );
    let admin = bearer(Role::Admin, Extent::Everywhere);
    let why = said(admin.clone(), Permission::Review, Reach::Everything);
    assert!(why.starts_with("accepting the ledger as it is takes the configured token"), "{why}");
    let why = may_unreviewed(&admin, Permission::Resume).unwrap_err().to_string();
    assert!(why.starts_with("lifting a pause waits for the review"), "{why}");
}

/// A revoked token is good again in a job table that was put back.
#[test]
fn under_review_a_token_looks_and_stops() {
    let admin = bearer(Role::Admin, Extent::Everywhere);
    let those = Permission::ALL.into_iter().filter(|what| may_unreviewed(&admin, *what).is_ok());
    assert_eq!(
        those.map(Permission::what).collect::<Vec<_>>(),
        [
            "looking",
            "looking at what is of no scope",
            "cancelling a deletion of one's own",
            "placing a hold",
            "cancelling a deletion that somebody else asked for",
            "pausing",
            "parking, or saying that a notice came back,",
        ]
    );
}

#[test]
fn what_is_said_of_a_scope_around_it_matters_too() {
    let acme = limited(&["tenants/acme"]);
    for (text, meets) in
        [("tenants", true), ("tenants/acme", true), ("tenants/acme/web", true), ("tenants/other", false)]
    {
        assert_eq!(acme.meets(&scope(text)), meets, "{text}");
    }
    assert!(Extent::Everywhere.meets(&scope("x")));
}

#[test]
fn a_refusal_is_bounded() {
    let long = "ü".repeat(1000);
    let refusal = Refusal::new(&long, &long, 403, 0);
    assert_eq!((refusal.request.chars().count(), refusal.why.chars().count()), (REFUSAL_MAX, REFUSAL_MAX));
}
