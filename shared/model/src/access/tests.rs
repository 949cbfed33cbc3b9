//! Every permission for every role, and what is inside of a scope.
use super::*;

fn scope(text: &str) -> Scope {
    text.parse().unwrap()
}

fn limited(scopes: &[&str]) -> Extent {
    Extent::Scopes(scopes.iter().map(|text| scope(text)).collect())
}

fn bearer(role: Role, extent: Extent) -> Bearer {
    Bearer { name: "ci".parse().unwrap(), role, extent }
}

/// Written out, so that whoever changes a line of the rule changes one here, too.
const TABLE: [(Permission, &str); 22] = [
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
    (Permission::Steer, "operator approver admin"),
    (Permission::Vouch, "operator approver admin"),
    (Permission::Waive, "approver admin"),
    (Permission::Rescue, "approver admin"),
    (Permission::Approve, "approver admin"),
    (Permission::Override, "approver admin"),
    (Permission::BreakGlass, "admin"),
    (Permission::Ceiling, "approver admin"),
    (Permission::Review, "approver admin"),
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
    assert_eq!(
        said(acme, Permission::Pause, Reach::Everything),
        "pausing, and lifting a pause, of every scope takes a token that is limited to none, and ci is limited to a, b"
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

fn new(name: &str, extent: Extent, days: u64) -> NewToken {
    let good_for_s = days * DAY_S;
    NewToken {
        name: name.parse().unwrap(),
        role: Role::Viewer,
        extent,
        good_for_s,
        by: "root".parse().unwrap(),
    }
}

#[test]
fn a_token_is_good_until_it_expires_or_is_revoked() {
    let day = 86_400_000_000;
    let token = new("ci", Extent::Everywhere, 2).issue(Timestamp(7), 0).unwrap();
    assert_eq!(token.expires_at, Timestamp(7 + 2 * day));
    assert!(token.bearer(Timestamp(6 + 2 * day)).is_ok());
    let expired = NotGood::Expired { name: token.name.clone(), at: token.expires_at };
    assert_eq!(token.bearer(Timestamp(7 + 2 * day)), Err(expired));
    let revoked = token.revoked(Timestamp(8), "root".parse().unwrap());
    assert!(matches!(revoked.bearer(Timestamp(9)), Err(NotGood::Revoked { at: Timestamp(8), .. })));
}

/// What decides by itself is no token's name, and whoever asks for one is told all of these.
#[test]
fn the_names_that_are_nobodys_are_said() {
    for nobodys in ["coordinator", "sexton", "scheduler", Actor::canary().as_str(), Actor::drill().as_str()] {
        let why = new(nobodys, Extent::Everywhere, 1).issue(Timestamp(0), 0).unwrap_err().to_string();
        assert!(why.contains("none of coordinator, sexton, scheduler, canary, drill; found"), "{why}");
    }
}

#[test]
fn what_is_no_token_is_not_issued() {
    let many: Vec<String> = (0..=SCOPES_MAX).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (new, part) in [
        (new("a/b", Extent::Everywhere, 1), "name"),
        (new("..", Extent::Everywhere, 1), "name"),
        (new("coordinator", Extent::Everywhere, 1), "name"),
        (new("ci", limited(&[]), 1), "scopes"),
        (new("ci", limited(&many), 1), "scopes"),
        (new("ci", Extent::Everywhere, 0), "good_for_s"),
        (new("ci", Extent::Everywhere, DAYS_MAX + 1), "good_for_s"),
    ] {
        let why = new.issue(Timestamp(0), 0).unwrap_err();
        assert!(why.to_string().starts_with(part), "{why}");
    }
    let why = new("ci", Extent::Everywhere, 1).issue(Timestamp(0), TOKENS_MAX).unwrap_err();
    assert_eq!(why, CannotIssue::TooMany);
}

#[test]
fn a_token_is_found_by_its_hash() {
    let text = token_text(&[0xab; SECRET_BYTES]);
    assert_eq!(text, format!("sxt_{}", "ab".repeat(32)));
    assert_eq!(token_hash(&text), token_hash(&text));
    assert_ne!(token_hash(&text), token_hash(&text[..67]));
}

#[test]
fn a_refusal_is_bounded() {
    let long = "ü".repeat(1000);
    let refusal = Refusal::new(&long, &long, 403, 0);
    assert_eq!((refusal.request.chars().count(), refusal.why.chars().count()), (REFUSAL_MAX, REFUSAL_MAX));
}
