//! Whose turn it is among batches of several groups that share a number.
use super::*;

/// Each of these scopes has begun one.
fn one_each(scopes: std::ops::Range<usize>) -> BTreeMap<Group, u64> {
    scopes.map(|n| (group(&format!("tenants/t{n}"), Stage::Hard), 1)).collect()
}

fn admit_to(
    budgets: &Budgets,
    due: BTreeMap<Group, Vec<JobId>>,
    waits: &[Waiting],
    used: &BTreeMap<Group, u64>,
) -> Admission {
    admit((budgets, &Population::default()), due, waits.to_vec(), used.clone())
}

/// As one of yesterday counts no more, one of another scope is due: without end.
#[test]
fn the_oldest_batch_gets_what_becomes_free_of_a_shared_number() {
    let budgets = Budgets::default();
    let mut waits = vec![waiting(1, "tenants/acme", 5)];
    for n in 0..3 {
        let begun = one_each(n..48);
        let new = format!("tenants/new{n}");
        let admission = admit_to(&budgets, due(&new, 1), &waits, &begun);
        assert_eq!((admission.admitted.len(), admission.fitting.len()), (0, 0), "{n}");
        let [(_, members, why)] = &admission.frozen[..] else { panic!("{admission:?}") };
        assert_eq!((why.members, why.used, why.alone()), (1, 48 - n as u64, false));
        assert_eq!(why.before, 5, "those of other scopes that came before it wait behind the batch, too");
        let begun = why.used;
        assert_eq!(
            why.to_string(),
            format!(
                "1 would begin where 50 may in a day in all scopes together, and {begun} have, and 5 wait before them"
            )
        );
        waits.push(waiting(n as i64 + 2, &new, members.len()));
    }
    let fits = |begun: &BTreeMap<Group, u64>, waits: &[Waiting]| {
        let admission = admit_to(&budgets, due("tenants/newest", 1), waits, begun);
        let fitting: Vec<i64> = admission.fitting.iter().map(|batch| batch.batch).collect();
        (fitting, admission.admitted.len())
    };
    assert_eq!(fits(&one_each(3..48), &waits), (vec![1], 0), "all that is free, and nothing is left");
    // Then the others, as they came.
    let mut begun = one_each(5..48);
    begun.extend(used("tenants/acme", 5));
    assert_eq!(fits(&begun, &waits[1..]), (vec![2, 3], 0));
}

/// A number of a scope and those below it is shared by them, and by nobody else.
#[test]
fn a_number_of_several_scopes_is_kept_for_those_that_share_it() {
    let budgets = budgets("a_day = 5\nscopes = [{ scope = \"tenants/acme\", a_day = 4 }]");
    let waits = [waiting(1, "tenants/acme/web", 3)];
    let begun = used("tenants/acme/db", 2);
    let begins = |of: &str| admit_to(&budgets, due(of, 1), &waits, &begun).admitted.len();
    for shares in ["tenants/acme/db", "tenants/acme", "tenants/acme/app"] {
        assert_eq!(begins(shares), 0, "{shares}");
    }
    for other in ["tenants/acmeX", "tenants/b", "tenants"] {
        assert_eq!(begins(other), 1, "{other}");
    }
    let fewer = admit_to(&budgets, due("tenants/acme/db", 1), &waits, &used("tenants/acme/db", 1));
    assert_eq!((fewer.fitting.len(), fewer.admitted.len()), (1, 0), "first the batch");
}

/// By a number of its own a scope below takes of the wider one whatever waits for that.
#[test]
fn a_number_that_does_not_bind_all_that_it_counts_is_kept_for_nobody() {
    let of = |narrower: &str| {
        let budgets =
            budgets(&format!("a_day = 5\nscopes = [{{ scope = \"tenants\", a_day = 4 }}{narrower}]"));
        let waits = [waiting(1, "tenants/web", 3)];
        admit_to(&budgets, due("tenants/db", 1), &waits, &used("tenants/acme", 2)).admitted.len()
    };
    assert_eq!(of(""), 0);
    assert_eq!(of(", { scope = \"tenants/acme\", a_day = 2 }"), 1);
    assert_eq!(of(", { scope = \"other/acme\", a_day = 2 }"), 0);
}

#[test]
fn what_waits_for_anything_else_keeps_nobody_waiting() {
    let budgets = budgets("a_day = 3\neverywhere = 6\nscopes = [{ scope = \"tenants/large\", a_day = 9 }]");
    let begins = |waits: &[Waiting], begun: &BTreeMap<Group, u64>| {
        admit_to(&budgets, due("tenants/b", 1), waits, begun).admitted.len()
    };
    let five = |of: &str, many: u64| {
        let mut begun = used("tenants/c", 5 - many);
        begun.extend(used(of, many));
        begun
    };
    let acme = || waiting(1, "tenants/acme", 2);
    assert_eq!(begins(&[acme()], &five("tenants/acme", 1)), 0, "it waits for all scopes alone");
    assert_eq!(begins(&[acme()], &five("tenants/acme", 2)), 1, "for its own scope, too");
    assert_eq!(begins(&[waiting(1, "tenants/acme", 4)], &five("tenants/acme", 0)), 1, "for an approval");
    assert_eq!(begins(&[waiting(1, "tenants/large", 7)], &five("tenants/d", 0)), 1, "more than all may");
    let crowd = [acme(), Waiting { batch: 2, ..acme() }];
    assert_eq!(begins(&crowd, &five("tenants/acme", 1)), 1, "it is a crowd with the other one");
    assert_eq!(
        begins(&[Waiting { stopped: true, ..acme() }], &five("tenants/acme", 1)),
        1,
        "for who holds it"
    );
    let own = waiting(1, "tenants/large", 3);
    assert_eq!(
        begins(std::slice::from_ref(&own), &five("tenants/large", 3)),
        0,
        "for what others have begun"
    );
    assert_eq!(begins(&[own], &five("tenants/large", 5)), 1, "for what it has begun itself");
    let purge = Waiting { group: group("tenants/acme", Stage::Purge), ..acme() };
    let mut begun = five("tenants/acme", 1);
    begun.extend([(group("tenants/c", Stage::Purge), 5)]);
    assert_eq!(begins(&[purge], &begun), 1, "another stage has a number of its own");
    // Those that are due at once have no age: each that fits begins, as long as nothing waits.
    let both: BTreeMap<_, _> = [("tenants/acme", 1, 2), ("tenants/b", 3, 1)]
        .map(|(of, from, many)| (group(of, Stage::Hard), jobs(from, many, Stage::Hard)))
        .into();
    let admission = admit_to(&budgets, both, &[], &five("tenants/acme", 1));
    assert_eq!((admission.admitted.len(), admission.frozen.len()), (1, 1));
}

/// In each part of a day one more is due, of ever another scope: as many as may begin. Once, a batch comes on top of that.
#[test]
fn nobody_starves_behind_those_that_come_later() {
    const PARTS: usize = 6;
    let budgets = budgets("a_day = 4\neverywhere = 6");
    let mut begun: Vec<BTreeMap<Group, u64>> = Vec::new();
    let (mut waits, mut fitted, mut large): (Vec<Waiting>, Vec<i64>, Option<usize>) = Default::default();
    for part in 0..60 {
        let single = (part < 40).then(|| (group(&format!("tenants/a{part}"), Stage::Hard), 1));
        let batch = (part == 8).then(|| (group("tenants/large", Stage::Hard), 4));
        let come = single.into_iter().chain(batch);
        let come = come.map(|(of, many)| (of, jobs(10 * part as i64, many, Stage::Hard))).collect();
        let mut counted: BTreeMap<Group, u64> = BTreeMap::new();
        for (of, many) in begun.iter().rev().take(PARTS - 1).flatten() {
            *counted.entry(of.clone()).or_default() += many;
        }
        let admission = admit_to(&budgets, come, &waits, &counted);
        let fitting: Vec<i64> = admission.fitting.iter().map(|batch| batch.batch).collect();
        if admission.fitting.iter().any(|batch| batch.members == 4) {
            large = Some(part);
        }
        let admitted = admission.admitted.into_iter().map(|(of, jobs)| (of, jobs.len() as u64));
        let fit = admission.fitting.into_iter().map(|batch| (batch.group, batch.members as u64));
        let now: BTreeMap<Group, u64> = admitted.chain(fit).collect();
        assert!(counted.values().chain(now.values()).sum::<u64>() <= 6, "in part {part}");
        begun.push(now);
        waits.retain(|batch| !fitting.contains(&batch.batch));
        fitted.extend(fitting);
        for (group, jobs, why) in admission.frozen {
            assert!(!why.alone(), "{why}");
            let batch = (fitted.len() + waits.len()) as i64;
            waits.push(Waiting { batch, group, members: jobs.len(), stopped: false });
        }
    }
    assert!(large.is_some_and(|part| part <= 8 + PARTS), "{large:?}");
    assert!(fitted.is_sorted() && waits.is_empty(), "as they came, and all of them: {fitted:?}, {waits:?}");
}
