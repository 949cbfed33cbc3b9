//! Crowds that are foretold when a record is made.
use super::*;

#[test]
fn a_crowd_is_foretold_whatever_its_span_begins_with() {
    let budgets = budgets("a_day = 3\neverywhere = 5");
    let hour = 3_600_000_000;
    let told = |at: i64, others: &[(&str, i64)]| {
        let others: Vec<_> = others.iter().map(|(of, at)| (scope(of), Timestamp(at * hour))).collect();
        let group = group("a", Stage::Announce);
        let none = BTreeMap::new();
        foretell(
            (&budgets, &Population::default()),
            &group,
            Timestamp(at * hour),
            &others,
            &none,
            Day::Calendar,
        )
        .map(|e| e.to_string())
    };
    let many = Some("4 would begin where 3 may in a day in a".to_owned());
    assert_eq!(told(100, &[("a", 100), ("a", 100)]), None);
    assert_eq!(told(100, &[("a", 100), ("a", 100), ("a", 100)]), many);
    assert_eq!(told(100, &[("a", 80), ("a", 90), ("a", 103)]), many, "one day that all of them are in");
    assert_eq!(told(100, &[("a", 80), ("a", 90), ("a", 104)]), None, "just not");
    assert_eq!(told(100, &[("a", 123), ("a", 123), ("a", 123)]), many);
    assert_eq!(told(100, &[("a", 124), ("a", 124), ("a", 124)]), None, "tomorrow's are not its own day's");
    assert_eq!(told(100, &[("a", 76), ("a", 76), ("a", 76)]), None);
    assert_eq!(told(100, &[("b", 100), ("b", 100), ("b", 100)]), None, "of another scope");
    let all = Some("6 would begin where 5 may in a day in all scopes together".to_owned());
    assert_eq!(told(100, &[("b", 100), ("b", 100), ("b", 100), ("c", 100), ("c", 100)]), all);
    let soft = Group { stage: Stage::Soft, ..group("a", Stage::Soft) };
    let others = vec![(scope("a"), Timestamp(0)); 9];
    assert_eq!(
        foretell(
            (&budgets, &Population::default()),
            &soft,
            Timestamp(0),
            &others,
            &BTreeMap::new(),
            Day::Calendar
        ),
        None,
        "not counted"
    );
    assert_eq!(
        foretold_span(&budgets, Timestamp(0), Day::Calendar),
        (Timestamp(-24 * hour), Timestamp(24 * hour))
    );
}

#[test]
fn what_has_begun_by_now_is_one_of_a_crowd_that_is_foretold() {
    let budgets = budgets("a_day = 3\neverywhere = 5");
    let (hour, own) = (3_600_000_000_i64, group("a", Stage::Announce));
    let told = |begun: u64, others: &[i64]| {
        let others: Vec<_> = others.iter().map(|at| (scope("a"), Timestamp(at * hour))).collect();
        let begun = BTreeMap::from([(own.clone(), begun), (group("a", Stage::Hard), 9)]);
        let at = Timestamp(100 * hour);
        foretell((&budgets, &Population::default()), &own, at, &others, &begun, Day::Calendar)
            .map(|e| e.to_string())
    };
    assert_eq!(told(2, &[]), None);
    let fourth = Some("1 would begin where 3 may in a day in a, and 3 have".to_owned());
    assert_eq!(told(3, &[]), fourth);
    let with_one = Some("2 would begin where 3 may in a day in a, and 2 have".to_owned());
    assert_eq!(told(2, &[100]), with_one, "one is due, too");
    assert_eq!(told(2, &[110]), None, "what is due later waits for its turn");
    assert_eq!(told(0, &[]), None, "another stage is counted for itself");
}
