use std::collections::BTreeMap;

use super::*;
use crate::belts::PauseSelector;
use crate::belts::census::CREDENTIAL_MAX;
use crate::resource::Identity;
use crate::step::Presence;

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

pub(in crate::belts::census) fn vm(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

pub(in crate::belts::census) fn instance(name: &str) -> Instance {
    format!("hypervisor.{name}").parse().unwrap()
}

pub(in crate::belts::census) fn entry(name: &str) -> Entry {
    let identity = BTreeMap::from([("uuid".to_owned(), format!("of-{name}"))]);
    Entry { id: vm(name), identity: Some(Identity::try_from(identity).unwrap()) }
}

pub(in crate::belts::census) fn page(
    after: Option<&str>,
    names: &[&str],
    (more, total): (bool, u64),
) -> Page {
    Page {
        after: after.map(vm),
        entries: names.iter().map(|name| entry(name)).collect(),
        more,
        total,
        credential: "uid 0".to_owned(),
        place: "here".to_owned(),
    }
}

pub(in crate::belts::census) fn listing(instances: &[&str]) -> Listing {
    let new = NewListing {
        by: "ops".parse().unwrap(),
        kind: "vm".parse().unwrap(),
        scope: "tenants".parse().unwrap(),
        within_ms: 20_000,
        instances: instances.iter().map(|name| instance(name)).collect(),
        seen: None,
    };
    new.numbered(Numbers { now: NOW, epoch: 1, revision: 7, first_fence: 100 })
}

fn came(page: &Page) -> Came {
    let finding = Some(serde_json::to_value(page).unwrap());
    Came::Answered(Outcome::Done { presence: Presence::Present, evidence: String::new(), finding })
}

/// What instance a says, which is asked first; or b.
fn heard(listing: &Listing, name: &str, came: &Came) -> Option<Heard> {
    let asked = listing.asked.iter().find(|asked| asked.instance == instance(name)).unwrap();
    listing.hear((&asked.instance, asked.fence), came, NOW)
}

fn refused(listing: &Listing, came: &Came) -> String {
    match heard(listing, "a", came).unwrap().listing.stands(NOW) {
        Stands::Not(NotTaken::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_come_one_behind_the_other_and_each_counts_once() {
    let begun = listing(&["a", "b"]);
    let first = page(None, &["one", "two"], (true, 3));
    let Heard { listing: behind, page: kept, more } = heard(&begun, "a", &came(&first)).unwrap();
    assert_eq!((kept, more), (Some((instance("a"), 0, first.clone())), true));
    let before = begun.asked[0].fence;
    let behind = behind.number(before, 200);
    assert_eq!(behind.hear((&instance("a"), before), &came(&first), NOW), None, "it has come");
    let asked: Vec<_> = behind.open().map(|(asked, page)| (asked.fence.number, page.after)).collect();
    assert_eq!(asked, [(200, Some(vm("two"))), (101, None)]);

    let last = page(Some("two"), &["zoo"], (false, 3));
    let Heard { listing: whole, page: kept, more } = heard(&behind, "a", &came(&last)).unwrap();
    assert_eq!((kept, more), (Some((instance("a"), 1, last.clone())), false));
    assert_eq!(whole.stands(NOW), Stands::Open, "the other one has not listed anything");
    assert_eq!(heard(&whole, "a", &came(&last)), None);
    let all = heard(&whole, "b", &came(&page(None, &[], (false, 0)))).unwrap().listing;
    assert_eq!((all.stands(NOW), all.stands(all.answer_by)), (Stands::Whole, Stands::Whole));
    assert!(refused(&behind, &came(&first)).contains("another page than the one it was asked for"));
}

#[test]
fn nobody_answers_for_another_one_nor_too_late() {
    let begun = listing(&["a", "b"]);
    let whole = came(&page(None, &["one"], (false, 1)));
    for (from, epoch, number) in [("b", 1, 100), ("a", 1, 101), ("a", 2, 100), ("a", 1, 99)] {
        assert_eq!(
            begun.hear((&instance(from), Fence { epoch, number }), &whole, NOW),
            None,
            "{from} {number}"
        );
    }
    let fence = Fence { epoch: 1, number: 100 };
    assert_eq!(begun.hear((&instance("a"), fence), &whole, begun.answer_by), None);
}

#[test]
fn without_one_instance_there_is_no_census() {
    let begun = listing(&["a", "b"]);
    let one = heard(&begun, "a", &came(&page(None, &["one"], (false, 1)))).unwrap().listing;
    let late = |listing: &Listing| match listing.stands(listing.answer_by) {
        Stands::Not(why) => why.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(late(&one), "no census: hypervisor.b has not listed everything within 20 s: no answer");
    let busy = Came::Answered(Outcome::spared("not begun: paused"));
    let told = heard(&one, "b", &busy).unwrap();
    assert_eq!((told.page, told.listing.stands(NOW)), (None, Stands::Open), "it is asked again");
    assert!(late(&told.listing).ends_with("within 20 s: not begun: paused"));
    assert_eq!(heard(&told.listing, "b", &busy), None, "that is known");

    // At once: there is nothing to wait for.
    let older = Came::Answered(Outcome::refused("hypervisor has no action census"));
    assert_eq!(refused(&begun, &older), "hypervisor has no action census");
    let empty = Came::Answered(Outcome::done(Presence::Present, "fine"));
    assert!(refused(&begun, &empty).contains("lists nothing"));
}

#[test]
fn what_is_no_page_is_refused() {
    let begun = listing(&["a"]);
    let good = page(None, &["one", "two"], (false, 2));
    assert_eq!(good.fault(&begun.kind), None);
    let long = ["uuid", "serial"].map(|name| (name.to_owned(), "x".repeat(256)));
    let long = Entry { id: vm("one"), identity: Some(Identity::try_from(BTreeMap::from(long)).unwrap()) };
    let many: Vec<Entry> = (0..=ENTRIES_MAX).map(|number| entry(&format!("{number:04}"))).collect();
    let image = Entry { id: "image/one".parse().unwrap(), identity: None };
    for (bad, part) in [
        (Page { credential: " ".to_owned(), ..good.clone() }, "credential"),
        (Page { place: String::new(), ..good.clone() }, "place"),
        (Page { entries: many, ..good.clone() }, "201 on one page"),
        (page(None, &[], (true, 2)), "empty page"),
        (page(None, &["two", "one"], (false, 2)), "vm/one does not come after"),
        (page(None, &["one", "one"], (false, 2)), "vm/one does not come after"),
        (Page { after: Some(vm("one")), ..good.clone() }, "vm/one does not come after"),
        (Page { entries: vec![long], ..good.clone() }, "vm/one takes"),
        (Page { entries: vec![image], ..good.clone() }, "not of kind vm"),
    ] {
        let why = bad.fault(&begun.kind).unwrap();
        assert!(why.contains(part), "{why}");
        assert!(refused(&begun, &came(&bad)).contains(part));
    }
}

/// A page of the longest entries is no more than an answer carries.
#[test]
fn a_page_fits_into_an_answer() {
    let name = |number: usize| format!("{number:0>128}");
    let entries: Vec<Entry> = (0..ENTRIES_MAX)
        .map(|number| {
            let value = "x".repeat(100);
            let identity = Identity::try_from(BTreeMap::from([("uuid".to_owned(), value)])).unwrap();
            Entry { id: vm(&name(number)), identity: Some(identity) }
        })
        .collect();
    let page = Page {
        after: None,
        entries,
        more: true,
        total: u64::MAX,
        credential: "ä".repeat(CREDENTIAL_MAX),
        place: "x".repeat(PLACE_MAX_BYTES),
    };
    assert_eq!(page.fault(&"vm".parse().unwrap()), None);
    assert_eq!(crate::step::too_large(&serde_json::to_value(&page).unwrap()), None);
    const { assert!(ENTRIES_MAX * (ENTRY_MAX_BYTES + 1) + 4 * 1024 < crate::step::FINDING_MAX_BYTES) }
}

#[test]
fn what_is_asked_is_read_as_it_was_written() {
    let begun = listing(&["a"]);
    let (_, asked) = begun.open().next().unwrap();
    assert_eq!(PageAsked::of(&asked.params()), Ok(asked.clone()));
    let behind = PageAsked { after: Some(vm("one")), ..asked };
    assert_eq!(PageAsked::of(&behind.params()), Ok(behind.clone()));
    assert!(PageAsked::of(&PageAsked { most: ENTRIES_MAX + 1, ..behind.clone() }.params()).is_err());
    assert!(PageAsked::of(&BTreeMap::new()).is_err());
}

#[test]
fn a_pause_of_the_kind_the_scope_or_the_subsystem_leaves_them_alone() {
    let (kind, scope, subsystem): (Kind, Scope, Subsystem) =
        ("vm".parse().unwrap(), "tenants/acme".parse().unwrap(), "hypervisor".parse().unwrap());
    let covered = |covers: PauseSelector| {
        let by = "ops".parse().unwrap();
        let pause = Pause { id: 3, covers, by, reason: "look".to_owned(), since: NOW };
        paused(&[pause], &kind, &scope, &subsystem).is_some()
    };
    let all = PauseSelector::default;
    assert!(covered(all()));
    assert!(covered(PauseSelector { kind: Some(kind.clone()), ..all() }));
    assert!(!covered(PauseSelector { kind: Some("image".parse().unwrap()), ..all() }));
    assert!(covered(PauseSelector { scope: Some("tenants".parse().unwrap()), ..all() }));
    assert!(!covered(PauseSelector { scope: Some("tenants/acme/web".parse().unwrap()), ..all() }));
    assert!(!covered(PauseSelector { subsystem: Some("dns".parse().unwrap()), ..all() }));
    assert!(!covered(PauseSelector { stage: Some(crate::job::Stage::Hard), ..all() }));
}
