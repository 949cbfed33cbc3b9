//! The audit trail: one event per decision, chained, append-only.
use sexton_model::audit::{Broken, What};
use sexton_model::decide::Event;
use sexton_model::job::Stage;

use super::Fixture;
use super::attested::{keep_all, kept};
use super::stage::{Stagehand, actor, right_answer};

pub async fn every_decision_is_one_event_and_the_chain_holds(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.claim(id, Stage::Announce).await.unwrap();
    assert_eq!(order.audit_seq, 2);
    let order = order.dispatch.unwrap();
    let settled = on.answer(&order, right_answer(&order)).await.unwrap();
    assert_eq!(settled.audit_seq, 3);
    let hold = Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() };
    assert_eq!(on.one(id, hold).await.unwrap().audit_seq, 4);
    on.one(id, Event::ReleaseHold { hold: 99, by: actor("legal") }).await.unwrap_err();
    let view = on.view(id).await;
    let what: Vec<_> = view.audit.iter().map(|row| row.event.what).collect();
    assert_eq!(what, [What::Created, What::Claimed, What::Settled, What::HoldPlaced]);
    assert_eq!(view.audit.iter().map(|row| row.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(view.audit[0].event.by, "platform");
    assert_eq!(view.audit[2].event.fence, Some(order.spec.fence));
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

pub async fn tampering_is_found(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (changed, cut, holed) = (on.doomed("one").await, on.doomed("two").await, on.doomed("three").await);
    for id in [changed, cut, holed] {
        on.play_to(id, |name, _| name == "hypervisor.stop").await.unwrap();
        assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
    }
    let last = on.view(cut).await.deletion.audit_seq;
    fixture.change_event(changed, 2).await;
    assert_eq!(on.ledger.verify_chain(changed).await.unwrap(), Err(Broken::Changed { seq: 2 }));
    fixture.remove_event(cut, last).await;
    let wanted = Broken::Cut { expected: last, found: last - 1 };
    assert_eq!(on.ledger.verify_chain(cut).await.unwrap(), Err(wanted));
    fixture.remove_event(holed, 2).await;
    let wanted = Broken::Gap { expected: 2, found: 3 };
    assert_eq!(on.ledger.verify_chain(holed).await.unwrap(), Err(wanted));
}

pub async fn history_cannot_be_changed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    keep_all(&*on.ledger).await;
    let before = on.view(id).await;
    let attempts = fixture.try_to_change_history().await;
    assert!(attempts.len() >= 4);
    for (n, attempt) in attempts.iter().enumerate() {
        assert!(attempt.is_err(), "attempt {n} changed {attempt:?} rows");
    }
    assert_eq!(kept(&*on.ledger).await.0.number(), 2);
    let after = on.view(id).await;
    assert_eq!(after.audit.len(), before.audit.len());
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

/// Pages small enough to end in the middle of everything.
async fn broken_chains(on: &Stagehand) -> (u64, Vec<(String, Broken)>) {
    let (mut checked, mut broken, mut after) = (0, Vec::new(), None::<String>);
    loop {
        let page = on.ledger.verify_chains(after.as_deref(), 2).await.unwrap();
        checked += page.checked;
        broken.extend(page.broken);
        after = page.next;
        if after.is_none() {
            return (checked, broken);
        }
    }
}

pub async fn all_chains_are_checked(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for name in ["one", "two", "three"] {
        on.doomed(name).await;
    }
    on.register("four").await;
    for _ in 0..2 {
        let covers = sexton_model::belts::PauseSelector::default();
        on.ledger.pause(covers, &actor("ops"), "stop").await.unwrap();
    }
    // The pauses, four resources, three records.
    assert_eq!(broken_chains(&on).await, (8, vec![]));
    fixture.change_ledger_event("pauses", 1).await;
    fixture.change_ledger_event("vm/two", 1).await;
    let third = on.ledger.deletion_of(&"vm/three".parse().unwrap()).await.unwrap().unwrap();
    fixture.change_event(third, 1).await;
    let changed = |chain: &str| (chain.to_owned(), Broken::Changed { seq: 1 });
    let third = changed(&third.to_string());
    assert_eq!(broken_chains(&on).await, (8, vec![changed("pauses"), changed("vm/two"), third]));
}

/// A page is bounded in events, too: a chain that is said to be very long ends its page, and the next one goes on
/// behind it.
pub async fn a_long_chain_ends_its_page(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for name in ["one", "three", "two"] {
        on.register(name).await;
    }
    fixture.execute("UPDATE resources SET audit_seq = 1000000 WHERE id = 'vm/three'").await;
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = on.ledger.verify_chains(after.as_deref(), 1000).await.unwrap();
        pages.push(page.checked);
        assert_eq!(page.broken.len(), usize::from(pages.len() == 2), "{page:?}");
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // The pauses and the first resource; the long one; the third one; no record at all.
    assert_eq!(pages, [2, 1, 1, 0]);
    fixture.execute("UPDATE resources SET audit_seq = 1 WHERE id = 'vm/three'").await;
    assert_eq!(broken_chains(&on).await, (4, vec![]));
    fixture.execute("UPDATE ledger SET pause_seq = 1000000").await;
    let page = on.ledger.verify_chains(None, 1000).await.unwrap();
    assert_eq!((page.checked, page.broken.len()), (1, 1));
    let page = on.ledger.verify_chains(page.next.as_deref(), 1000).await.unwrap();
    assert_eq!((page.checked, page.broken.len()), (3, 0), "no resource is passed over");
}
