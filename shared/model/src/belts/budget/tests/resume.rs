//! What goes on at once where a pause is lifted or a ceiling raised, and who may let it.
use super::*;

#[test]
fn what_no_budget_counts_is_a_crowd_if_it_is_more_than_may_begin() {
    let (budgets, population) = (Budgets::default(), Population::default());
    let crowds = |held: &[(&str, Stage, u64)]| {
        let held = held.iter().map(|(scope, stage, held)| (group(scope, *stage), *held));
        at_once((&budgets, &population), held)
    };
    assert_eq!(crowds(&[("tenants/acme", Stage::Soft, A_DAY), ("tenants/b", Stage::Soft, 0)]), []);
    assert_eq!(crowds(&[("tenants/acme", Stage::Hard, 500)]), [], "that becomes a batch");
    let found = crowds(&[("tenants/acme", Stage::Soft, 500), ("tenants/b", Stage::Soft, 1)]);
    let of: Vec<_> = found.iter().map(|(group, why)| (group.scope.as_str(), why.members)).collect();
    assert_eq!(of, [("tenants/acme", 500), ("tenants/b", 1)], "the second one is too many in all scopes");
    let many: Vec<String> = (0..20).map(|n| format!("tenants/t{n}")).collect();
    let spread: Vec<_> = many.iter().map(|scope| (scope.as_str(), Stage::Soft, A_DAY)).collect();
    assert_eq!(crowds(&spread).len(), 10, "a few in each of many scopes are many");

    assert_eq!(at_once((&Budgets::none(), &population), [(group("a", Stage::Soft), 9)]), []);
}

/// A crowd of these records, which begin `stage`.
fn crowd(of: &str, stage: Stage, records: &[i64]) -> Crowd {
    let limit = Limit { counted: Counted::In(scope(of)), most: 2, days: 1, uncounted: false };
    let member = |id: &i64| Member {
        job: JobId::of(DeletionId(*id), stage.index()),
        resource: format!("vm/web{id}").parse().unwrap(),
        requested_by: if id % 2 == 0 { "even" } else { "odd" }.parse().unwrap(),
    };
    let why = Exceeded { members: records.len() as u64, used: 0, before: 0, limit };
    Crowd { group: group(of, stage), why, members: records.iter().map(member).collect() }
}

#[test]
fn whoever_lifts_a_pause_approves_exactly_the_set_that_begins() {
    let boss = "boss".parse().unwrap();
    let (one, other) =
        (crowd("tenants/acme", Stage::Soft, &[1, 2, 3]), crowd("b", Stage::Recycle, &[4, 5, 6]));
    let seen = digest_of_crowds([&one, &other]);
    assert_eq!(may_resume(&[], &boss, None), Ok(()), "nothing would begin that needs it");
    let refused = may_resume(&[&one, &other], &boss, None).unwrap_err().to_string();
    assert!(
        refused.starts_with("6 would begin soft at once in tenants/acme (3 would begin where 2 may in a day"),
        "{refused}"
    );
    assert_eq!(may_resume(&[&one, &other], &boss, Some(&seen)), Ok(()));
    assert_eq!(digest_of_crowds([&other, &one]), seen, "in whatever order");
    // As many, and not these.
    for others in [
        [crowd("tenants/acme", Stage::Soft, &[1, 2, 7]), other.clone()],
        [crowd("tenants/acme", Stage::Purge, &[1, 2, 3]), other.clone()],
        [one.clone(), crowd("b", Stage::Recycle, &[4, 5, 8])],
    ] {
        let set: Vec<&Crowd> = others.iter().collect();
        let refused = may_resume(&set, &boss, Some(&seen)).unwrap_err();
        let CannotResume::OtherSet { members: 6, digest } = &refused else { panic!("{refused}") };
        assert_eq!(may_resume(&set, &boss, Some(digest)), Ok(()), "once somebody has looked again");
    }
    assert!(may_resume(&[&one], &boss, Some(&seen)).is_err(), "fewer are another set, too");
    let as_a_batch = digest_of_batch(Stage::Soft, &one.members);
    assert_ne!(digest_of_crowds([&one]), as_a_batch, "the approval of a batch lifts no pause");
}

#[test]
fn whoever_requested_one_of_a_crowd_does_not_approve_it() {
    let (one, other) = (crowd("a", Stage::Soft, &[1, 3, 5]), crowd("b", Stage::Soft, &[2]));
    let approve = |by: &str| {
        let seen = digest_of_crowds([&one, &other]);
        may_resume(&[&one, &other], &by.parse().unwrap(), Some(&seen))
    };
    let refused = approve("even").unwrap_err();
    let CannotResume::Requested { by, resource } = &refused else { panic!("{refused}") };
    assert_eq!((by.as_str(), resource.to_string().as_str()), ("even", "vm/web2"));
    assert!(approve("odd").is_err());
    assert_eq!(approve("boss"), Ok(()));
}
