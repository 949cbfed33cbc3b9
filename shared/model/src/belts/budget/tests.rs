mod backlog;
mod foretold;
mod resume;
mod turns;

use proptest::prelude::*;

use super::*;
use crate::id::DeletionId;

fn scope(scope: &str) -> Scope {
    scope.parse().unwrap()
}

fn group(of: &str, stage: Stage) -> Group {
    Group { scope: scope(of), kind: "vm".parse().unwrap(), stage }
}

fn jobs(from: i64, many: i64, stage: Stage) -> Vec<JobId> {
    (from..from + many).map(|id| JobId::of(DeletionId(id), stage.index())).collect()
}

fn budgets(text: &str) -> Budgets {
    toml::from_str::<Written>(text).unwrap().budgets().unwrap()
}

fn due(of: &str, many: i64) -> BTreeMap<Group, Vec<JobId>> {
    [(group(of, Stage::Hard), jobs(1, many, Stage::Hard))].into()
}

fn used(of: &str, many: u64) -> BTreeMap<Group, u64> {
    [(group(of, Stage::Hard), many)].into()
}

#[test]
fn what_fits_is_admitted_and_what_does_not_is_frozen_as_a_whole() {
    let budgets = Budgets::default();
    let of = "tenants/acme";
    let admission = admit((&budgets, &Population::default()), due(of, 5), Vec::new(), BTreeMap::new());
    assert_eq!((admission.admitted.len(), admission.frozen.len()), (1, 0));
    let admission = admit((&budgets, &Population::default()), due(of, 6), Vec::new(), BTreeMap::new());
    assert!(admission.admitted.is_empty(), "not one of them");
    let (_, members, why) = &admission.frozen[0];
    assert_eq!((members.len(), why.alone()), (6, true));
    assert_eq!(why.to_string(), "6 would begin where 5 may in a day in tenants/acme");
}

#[test]
fn slow_drips_count() {
    let budgets = Budgets::default();
    let of = "tenants/acme";
    let admission = admit((&budgets, &Population::default()), due(of, 1), Vec::new(), used(of, 5));
    let (_, _, why) = &admission.frozen[0];
    assert!(!why.alone(), "tomorrow it fits");
    assert_eq!(why.to_string(), "1 would begin where 5 may in a day in tenants/acme, and 5 have");
    for others in [used("tenants/acme/web", 5), used("tenants/umbrella", 5)] {
        assert_eq!(
            admit((&budgets, &Population::default()), due(of, 5), Vec::new(), others).admitted.len(),
            1,
            "of another scope"
        );
    }
    let other_stage = [(group(of, Stage::Purge), 5)].into();
    assert_eq!(
        admit((&budgets, &Population::default()), due(of, 5), Vec::new(), other_stage).admitted.len(),
        1
    );
    let other_kind = Group { kind: "image".parse().unwrap(), ..group(of, Stage::Hard) };
    assert_eq!(
        admit((&budgets, &Population::default()), due(of, 5), Vec::new(), [(other_kind, 5)].into())
            .admitted
            .len(),
        1
    );
}

#[test]
fn a_scope_with_a_number_of_its_own_counts_all_below_it() {
    let budgets = budgets("a_day = 2\nscopes = [{ scope = \"tenants/acme\", a_day = 4 }]");
    let admitted = |of: &str, many, used| {
        admit((&budgets, &Population::default()), due(of, many), Vec::new(), used).frozen.is_empty()
    };
    assert!(admitted("tenants/acme/web", 4, BTreeMap::new()));
    assert!(!admitted("tenants/acme/web", 4, used("tenants/acme/db", 1)), "they are counted together");
    assert!(admitted("tenants/acmeX", 2, used("tenants/acme", 4)));
    assert!(!admitted("tenants/acmeX", 3, BTreeMap::new()), "it is not within tenants/acme");
}

#[test]
fn all_scopes_together_have_a_number_too() {
    let budgets = budgets("a_day = 2\neverywhere = 3");
    let both: BTreeMap<_, _> = ["tenants/a", "tenants/b"]
        .iter()
        .zip([1, 3])
        .map(|(of, from)| (group(of, Stage::Hard), jobs(from, 2, Stage::Hard)))
        .collect();
    let admission = admit((&budgets, &Population::default()), both, Vec::new(), BTreeMap::new());
    assert_eq!((admission.admitted.len(), admission.frozen.len()), (1, 1));
    assert_eq!(
        admission.frozen[0].2.to_string(),
        "2 would begin where 3 may in a day in all scopes together, and 2 have"
    );
}

fn waiting(batch: i64, of: &str, members: usize) -> Waiting {
    Waiting { batch, group: group(of, Stage::Hard), members, stopped: false }
}

#[test]
fn a_batch_that_fits_by_now_goes_first_and_the_oldest_before_the_others() {
    let budgets = Budgets::default();
    let of = "tenants/acme";
    let old = waiting(1, of, 4);
    let newer = waiting(2, of, 1);
    let batches =
        |used| admit((&budgets, &Population::default()), due(of, 1), vec![newer.clone(), old.clone()], used);
    let numbers = |admission: &Admission| admission.fitting.iter().map(|b| b.batch).collect::<Vec<_>>();
    let free = batches(BTreeMap::new());
    assert_eq!(numbers(&free), [1, 2]);
    assert_eq!(free.frozen.len(), 1, "nothing is left for what has come since");
    let tight = batches(used(of, 2));
    assert_eq!((numbers(&tight), tight.frozen.len()), (Vec::new(), 1), "nobody overtakes the old one");
    // Nobody overtakes one that only an approval can let go, either.
    let large = waiting(1, of, 6);
    let beside = admit((&budgets, &Population::default()), due(of, 1), vec![large.clone()], BTreeMap::new());
    assert_eq!((beside.admitted.len(), beside.fitting.len(), beside.frozen.len()), (0, 0, 1));
    assert_eq!(beside.frozen[0].2.to_string(), "7 would begin where 5 may in a day in tenants/acme");
    let elsewhere =
        admit((&budgets, &Population::default()), due("tenants/b", 5), vec![large], BTreeMap::new());
    assert_eq!((elsewhere.admitted.len(), elsewhere.frozen.len()), (1, 0), "of another group");
}

/// Five hundred that are due one after the other are as many as five hundred at once.
#[test]
fn many_that_come_one_by_one_are_a_crowd() {
    let (budgets, population, of) = (Budgets::default(), Population::default(), "tenants/acme");
    let (mut waits, mut begun) = (Vec::new(), 0);
    for number in 1..=500 {
        let admission = admit((&budgets, &population), due(of, 1), waits.clone(), used(of, begun));
        assert_eq!(admission.fitting, []);
        begun += u64::try_from(admission.admitted.len()).unwrap();
        for (_, jobs, why) in admission.frozen {
            waits.push(waiting(number, of, jobs.len()));
            // Until then tomorrow's number is enough for them.
            assert_eq!(why.alone(), waits.len() > 5, "{number}: {why}");
        }
    }
    assert_eq!((begun, waits.len()), (5, 495));
    let tomorrow = |waits: &[Waiting]| {
        let admission = admit((&budgets, &population), BTreeMap::new(), waits.to_vec(), BTreeMap::new());
        admission.fitting.len()
    };
    assert_eq!(tomorrow(&waits), 0, "waiting does not help");
    assert_eq!(tomorrow(&waits[489..]), 0, "six are left");
    assert_eq!(tomorrow(&waits[490..]), 5, "the others are approved");
}

/// What a pause held is looked at in pieces, and is one crowd all the same.
#[test]
fn the_last_piece_of_a_crowd_does_not_begin_because_it_is_small() {
    let (budgets, population, of) = (Budgets::default(), Population::default(), "tenants/acme");
    let first = admit((&budgets, &population), due(of, 128), Vec::new(), BTreeMap::new());
    assert_eq!((first.admitted.len(), first.frozen.len()), (0, 1));
    let last = admit((&budgets, &population), due(of, 2), vec![waiting(1, of, 128)], BTreeMap::new());
    assert_eq!((last.admitted.len(), last.frozen.len()), (0, 1));
    assert!(last.frozen[0].2.alone());
}

/// Nor does the first one: the others are still held by what is no longer there.
#[test]
fn the_first_piece_of_a_crowd_does_not_begin_because_it_is_looked_at_first() {
    let (budgets, population, of) = (Budgets::default(), Population::default(), "tenants/acme");
    let first = |behind: i64, waits: Vec<Waiting>, used| {
        let behind = [(group(of, Stage::Hard), jobs(3, behind, Stage::Hard))].into();
        admit_piece((&budgets, &population), due(of, 2), waits, used, behind)
    };
    let crowd = first(4, Vec::new(), BTreeMap::new());
    assert!(crowd.admitted.is_empty(), "not one of them");
    let [(_, members, why)] = &crowd.frozen[..] else { panic!("{crowd:?}") };
    assert_eq!((members, why.members, why.alone()), (&jobs(1, 6, Stage::Hard), 6, true), "as one batch");
    // What fits together begins piece by piece; who has not been looked at is not charged yet.
    let fits = first(3, Vec::new(), BTreeMap::new());
    assert_eq!(fits.admitted, due(of, 2));
    let today = first(3, Vec::new(), used(of, 1));
    assert_eq!((today.admitted.len(), today.frozen[0].1.len(), today.frozen[0].2.alone()), (0, 5, false));
    let with_others = first(3, vec![waiting(1, of, 1)], used(of, 5));
    assert_eq!((with_others.frozen[0].2.members, with_others.frozen[0].2.alone()), (6, true));
    let elsewhere = [(group("tenants/b", Stage::Hard), jobs(3, 9, Stage::Hard))].into();
    let beside = admit_piece((&budgets, &population), due(of, 2), Vec::new(), BTreeMap::new(), elsewhere);
    assert_eq!((beside.admitted, beside.frozen), (due(of, 2), Vec::new()), "of another group");
}

#[test]
fn a_few_each_day_need_no_approval() {
    let (budgets, population, of) = (Budgets::default(), Population::default(), "tenants/acme");
    // Yesterday's still count when today's become due.
    let today = admit((&budgets, &population), due(of, 3), Vec::new(), used(of, 3));
    let [(_, jobs, why)] = &today.frozen[..] else { panic!("{today:?}") };
    assert!(!why.alone(), "{why}");
    let soon = admit((&budgets, &population), BTreeMap::new(), vec![waiting(1, of, jobs.len())], used(of, 0));
    assert_eq!(soon.fitting.len(), 1);
}

#[test]
fn batches_of_one_group_are_a_crowd_together() {
    let why = |most| Exceeded {
        members: 1,
        used: 0,
        before: 0,
        limit: Limit { counted: Counted::Everywhere, most, days: 1, uncounted: false },
    };
    let (a, b) = (group("tenants/a", Stage::Hard), group("tenants/b", Stage::Hard));
    let (five, fifty) = (why(5), why(50));
    assert_eq!(crowds([(&a, 3, &five), (&a, 2, &five), (&b, 3, &five)]), BTreeSet::new());
    assert_eq!(crowds([(&a, 3, &fifty), (&a, 3, &five), (&b, 3, &five)]), BTreeSet::from([a.clone()]));
    assert_eq!(crowds([(&a, 0, &why(0)), (&a, 3, &five)]), BTreeSet::new(), "nobody is left in it");
}

#[test]
fn a_batch_whose_members_have_left_ends() {
    let gone = waiting(7, "tenants/acme", 0);
    let admission =
        admit((&Budgets::default(), &Population::default()), BTreeMap::new(), vec![gone], BTreeMap::new());
    assert_eq!((admission.left, admission.fitting.len()), (vec![7], 0));
}

#[test]
fn stages_that_are_not_counted_are_not_limited() {
    let budgets = Budgets::default();
    assert!(budgets.bind(Stage::Announce) && budgets.bind(Stage::Hard) && budgets.bind(Stage::Purge));
    assert!(!budgets.bind(Stage::Soft) && !budgets.bind(Stage::Recycle));
    let recycle = [(group("tenants/acme", Stage::Recycle), jobs(1, 100, Stage::Recycle))].into();
    assert!(
        admit((&budgets, &Population::default()), recycle, Vec::new(), BTreeMap::new()).frozen.is_empty()
    );
    let none = Budgets::none();
    assert!(Stage::ALL.iter().all(|stage| !none.bind(*stage)));
    assert_eq!(none.stages().count(), 0);
    assert!(
        admit((&none, &Population::default()), due("tenants/acme", 100), Vec::new(), BTreeMap::new())
            .frozen
            .is_empty()
    );
}

#[test]
fn who_counts_what_follows_counts_the_announcements() {
    let stages = |text: &str| budgets(text).looking_ahead().stages().collect::<Vec<_>>();
    for later in ["hard", "purge"] {
        assert_eq!(stages(&format!("stages = [\"{later}\"]"))[0], Stage::Announce, "{later}");
    }
    assert_eq!(stages("stages = [\"soft\"]"), [Stage::Soft], "a cancel brings that back");
    assert_eq!(stages("none = true"), []);
    assert_eq!(Budgets::default().looking_ahead(), Budgets::default());
}

#[test]
fn what_began_within_the_span_is_always_counted() {
    let budgets = Budgets::default();
    let hour = 3_600_000_000;
    let now = Timestamp(1_000_000 * hour + 17);
    // Admitted as early as can be, and begun as late as an admission is good.
    let admitted = Timestamp(now.0 - 24 * hour - 15 * hour / 60 + 1);
    assert!(Budgets::good_until(admitted, Day::Calendar).0 >= now.0 - 24 * hour);
    assert!(Budgets::bucket(admitted, Day::Calendar) >= budgets.counted_from(now, Day::Calendar));
    let later = Timestamp(now.0 + 3 * hour / 4);
    assert!(
        Budgets::bucket(admitted, Day::Calendar) < budgets.counted_from(later, Day::Calendar),
        "not for ever"
    );
    let rehearsal = Day::Rehearsal { length_ms: 5 };
    assert_eq!(Budgets::good_until(now, rehearsal).ms_since(now), 5_000, "a slow machine begins, too");
    assert!(Budgets::approved_until(now, Day::Calendar).ms_since(now) == 7 * 24 * 3_600_000);
}

#[test]
fn a_share_is_closed_before_anybody_has_counted() {
    let budgets = budgets("a_day = 5\npercent = 1");
    let admitted = |population: &Population, many| {
        let admission = admit((&budgets, population), due("tenants/acme", many), Vec::new(), BTreeMap::new());
        admission.frozen.first().map(|(_, _, why)| why.to_string())
    };
    let none = Population::default();
    assert_eq!(
        admitted(&none, 1).unwrap(),
        "1 would begin, and no complete census says how many there are in tenants/acme"
    );
    let counted = |many: u64| {
        let taken = serde_json::json!({
            "census": 1, "kind": "vm", "scope": "tenants", "credential": "c", "taken_at": 1, "accepted_at": 1,
            "counts": { "tenants/acme": many }, "missing": 0, "missing_named": [], "newly_missing": 0, "unknown": 0,
            "unknown_named": [],
        });
        Population::frozen([serde_json::from_value(taken).unwrap()], Timestamp(9))
    };
    assert_eq!(admitted(&counted(200), 2), None);
    assert_eq!(admitted(&counted(200), 3).unwrap(), "3 would begin where 2 may in a day in tenants/acme");
    assert_eq!(admitted(&counted(3), 1), None, "a small scope may lose one");
    assert!(admitted(&counted(3), 2).is_some());
    assert!(admitted(&counted(100_000), 6).unwrap().contains("where 5 may"), "the lower number counts");
    for percent in ["0", "0.001", "100.01", "-1", "\"1\""] {
        assert!(toml::from_str::<Written>(&format!("percent = {percent}")).is_err(), "{percent}");
    }
}

#[test]
fn a_digest_is_of_the_set_and_its_stage() {
    let (a, b): (ResourceId, ResourceId) = ("vm/a".parse().unwrap(), "vm/b".parse().unwrap());
    let of = |stage, set: &[(i64, &'static str)]| {
        let names: Vec<(JobId, ResourceId)> =
            set.iter().map(|(id, name)| (JobId::of(DeletionId(*id), 2), name.parse().unwrap())).collect();
        digest(stage, names.iter().map(|(job, resource)| (*job, resource)))
    };
    let both = of(Stage::Hard, &[(1, "vm/a"), (2, "vm/b")]);
    assert_eq!(both, of(Stage::Hard, &[(2, "vm/b"), (1, "vm/a")]), "in whatever order");
    assert_eq!(both.len(), 64);
    for other in [
        of(Stage::Purge, &[(1, "vm/a"), (2, "vm/b")]),
        of(Stage::Hard, &[(1, "vm/a")]),
        of(Stage::Hard, &[(1, "vm/a"), (3, "vm/b")]),
        of(Stage::Hard, &[(1, "vm/a"), (2, "vm/c")]),
    ] {
        assert_ne!(both, other);
    }
    assert_ne!(a, b);
}

#[test]
fn a_section_that_cannot_be_meant_is_refused() {
    let mistake = |text: &str| toml::from_str::<Written>(text).unwrap().budgets().unwrap_err().to_string();
    assert!(mistake("none = true\na_day = 5").starts_with("none = true"));
    assert!(mistake("none = true\nscopes = []").starts_with("none = true"));
    assert!(mistake("days = 0").starts_with("days = 0"));
    assert!(mistake("days = 32").starts_with("days = 32"));
    assert!(mistake("stages = []").starts_with("stages"));
    assert!(mistake("stages = [\"hard\", \"hard\"]").starts_with("stages"));
    let twice = "scopes = [{ scope = \"a/b\", a_day = 1 }, { scope = \"a/b\", a_day = 2 }]";
    assert!(mistake(twice).starts_with("scopes: a/b is there twice"));
    assert!(toml::from_str::<Written>("perday = 5").is_err());
    assert!(toml::from_str::<Written>("a_day = -1").is_err());
    assert_eq!(budgets("none = true"), Budgets::none());
    assert_eq!(budgets(""), Budgets::default());
}

proptest! {
    /// I11, over the limit not one step of the batch runs: whatever arrives, in whatever order, nothing is admitted that
    /// exceeds a number, a group is never torn apart, and nothing of a group begins while what waits of it, together with
    /// it, exceeds one. Days pass, and people approve the oldest batch.
    #[test]
    fn no_number_is_ever_exceeded(
        arrivals in prop::collection::vec((0usize..3, 1i64..8, 0u8..4), 1..20),
        each in 1u64..7, everywhere in 1u64..12,
    ) {
        let scopes = ["tenants/a", "tenants/b", "tenants/b/c"];
        let budgets = budgets(&format!("a_day = {each}\neverywhere = {everywhere}"));
        let (mut used, mut waiting, mut next, mut batches) = (BTreeMap::new(), Vec::new(), 1, 0);
        for (of, many, meanwhile) in arrivals {
            match meanwhile {
                0 => used.clear(),
                1 if !waiting.is_empty() => drop(waiting.remove(0)),
                _ => {}
            }
            let group = group(scopes[of], Stage::Hard);
            let arrived = jobs(next, many, Stage::Hard);
            next += many;
            let admission = admit((&budgets, &Population::default()), [(group.clone(), arrived.clone())].into(), waiting.clone(), used.clone());
            let mut together: BTreeMap<Group, u64> = BTreeMap::new();
            for batch in &waiting {
                *together.entry(batch.group.clone()).or_insert(0) += batch.members as u64;
            }
            for batch in &admission.fitting {
                prop_assert!(together[&batch.group] <= each.min(everywhere), "a crowd begins with its batches");
            }
            let left = |group: &Group| {
                let gone = admission.fitting.iter().filter(|batch| batch.group == *group).map(|batch| batch.members as u64);
                together.get(group).copied().unwrap_or(0) - gone.sum::<u64>()
            };
            for (group, jobs) in &admission.admitted {
                prop_assert_eq!(left(group), 0, "it overtakes");
                prop_assert!(jobs.len() as u64 <= each.min(everywhere));
            }
            let admitted = admission.admitted.into_iter().map(|(group, jobs)| (group, jobs.len()));
            let fitting: Vec<i64> = admission.fitting.iter().map(|batch| batch.batch).collect();
            for (group, members) in admitted.chain(admission.fitting.into_iter().map(|b| (b.group, b.members))) {
                *used.entry(group).or_insert(0) += members as u64;
            }
            waiting.retain(|batch: &Waiting| !fitting.contains(&batch.batch));
            for (group, members, _) in admission.frozen {
                prop_assert_eq!(&members, &arrived, "a group is frozen whole");
                batches += 1;
                waiting.push(Waiting { batch: batches, group, members: members.len(), stopped: false });
            }
            prop_assert!(used.values().all(|used| *used <= each));
            prop_assert!(used.values().sum::<u64>() <= everywhere);
        }
    }
}
