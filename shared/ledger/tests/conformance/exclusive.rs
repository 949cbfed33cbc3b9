//! What only one resource at a time may be registered for.
use sexton_ledger::NotDone;
use sexton_model::decide::Event;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::exclusive::{CannotShare, Lacks};
use sexton_model::job::{Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::step::Outcome;
use sexton_model::{DeletionId, ResourceId};

use super::stage::{Stagehand, actor, resource, right_answer};
use super::{Fixture, keep_all, keep_receipt, stub};

const PLACE: &str = "machine/storage07";

fn member(name: &str, place: Option<&str>) -> Resource {
    Resource { exclusive: place.map(str::to_owned), ..resource(name, &format!("uuid-of-{name}")) }
}

fn id(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

fn taken(by: &str, deletion: Option<DeletionId>, lacks: Lacks) -> Result<(), NotDone> {
    Err(CannotShare::Taken { place: PLACE.to_owned(), by: id(by), deletion, lacks }.into())
}

impl Stagehand {
    async fn join(&self, name: &str) -> Result<(), NotDone> {
        self.state_it(member(name, Some(PLACE))).await
    }

    async fn state_it(&self, resource: Resource) -> Result<(), NotDone> {
        self.ledger.register(vec![resource], &actor("ops"), false).await.unwrap().remove(0)
    }

    async fn leave(&self, name: &str) -> DeletionId {
        let wanted = self.wanted(&id(name)).await;
        self.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap()
    }
}

/// The story of 2014: a machine leaves one cluster and joins another.
pub async fn one_at_a_time_is_registered_for_what_is_exclusive(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.join("a").await.unwrap();
    on.join("a").await.unwrap();
    assert_eq!(on.join("b").await, taken("a", None, Lacks::Record));
    let (place, lower) = ("machine/Storage07".to_owned(), PLACE.to_owned());
    let in_other_letters = on.state_it(member("b", Some(&place))).await;
    assert_eq!(in_other_letters, Err(CannotShare::NotLowerCase { place, lower }.into()), "it is one machine");
    // Another machine is another's business, and so is what states nothing.
    on.state_it(member("c", Some("machine/storage08"))).await.unwrap();
    on.state_it(member("d", None)).await.unwrap();
    // Nobody slips out of it.
    let moved = CannotShare::Moved { resource: id("a"), from: PLACE.to_owned() };
    for elsewhere in [None, Some("machine/storage09")] {
        assert_eq!(on.state_it(member("a", elsewhere)).await, Err(moved.clone().into()));
    }
    assert_eq!(on.join("d").await, taken("a", None, Lacks::Record));
    // A change of who is restored first is none of that.
    on.ledger.prioritize(&id("a"), 7, &actor("ops")).await.unwrap().unwrap();

    let leaving = on.leave("a").await;
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Hard));
    let order = on.play_to(leaving, |name, _| name == "hypervisor.undefine").await.unwrap();
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Hard));
    let next = on.answer(&order, right_answer(&order)).await.unwrap().dispatch;
    on.play(next, &mut Vec::new(), |_, _| false).await;
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Purge));
    let order = on.play_to(leaving, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Purge));
    on.answer(&order, right_answer(&order)).await.unwrap();
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Receipt));
    keep_receipt(&*on.ledger, leaving).await;
    on.join("b").await.unwrap();
    // Now it is b's.
    assert_eq!(on.join("d").await, taken("b", None, Lacks::Record));
    assert_eq!(fixture.count("SELECT count(*) FROM exclusives WHERE resource = 'vm/b'").await, 1);
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// In another scope other ceilings, pauses and tokens decide about it.
pub async fn what_is_exclusive_stays_in_its_scope_until_it_left(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let elsewhere = |name: &str, place: Option<&str>| Resource {
        scope: "tenants/other".parse().unwrap(),
        ..member(name, place)
    };
    on.join("a").await.unwrap();
    let refused =
        CannotShare::OtherScope { resource: id("a"), place: PLACE.to_owned(), from: member("a", None).scope };
    assert_eq!(on.state_it(elsewhere("a", Some(PLACE))).await, Err(refused.into()));
    // What is not exclusive may, as long as it has no record.
    on.state_it(member("d", None)).await.unwrap();
    on.state_it(elsewhere("d", None)).await.unwrap();
    let leaving = on.leave("a").await;
    let from = member("a", None).scope;
    let stays = NotDone::StaysInScope { resource: id("a"), from, deletion: leaving };
    assert_eq!(on.state_it(elsewhere("a", Some(PLACE))).await, Err(stays));
    on.join("a").await.unwrap();
    on.play_to(leaving, |_, _| false).await;
    assert_eq!(on.view(leaving).await.deletion.status, RecordStatus::Recycled);
    on.state_it(elsewhere("a", Some(PLACE))).await.unwrap();
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// The name is free, and nobody has signed yet that nothing is left.
pub async fn what_was_recycled_keeps_its_place_until_its_receipt(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.join("a").await.unwrap();
    let gone = on.leave("a").await;
    on.play_to(gone, |_, _| false).await;
    assert_eq!(on.view(gone).await.deletion.status, RecordStatus::Recycled);
    assert_eq!(on.join("b").await, taken("a", Some(gone), Lacks::Receipt));
    assert_eq!(fixture.compare().await, Ok(()));
    keep_receipt(&*on.ledger, gone).await;
    // It is there, and archived with its record.
    keep_all(&*on.ledger).await;
    let archive = fixture.archive().await;
    let document = archive.whole(gone).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    on.join("b").await.unwrap();
    assert_eq!(on.join("c").await, taken("b", None, Lacks::Record));
    let next = on.leave("b").await;
    on.play_to(next, |_, _| false).await;
    keep_receipt(&*on.ledger, next).await;
    on.join("c").await.unwrap();
}

pub async fn what_may_remain_keeps_its_place(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.join("a").await.unwrap();
    let leaving = on.leave("a").await;
    let order = on.play_to(leaving, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    on.answer(&order, Outcome::refused("another identity")).await.unwrap();
    let waive = Event::Waive {
        by: actor("boss"),
        claim: WaiverClaim::MayRemain,
        mark: on.mark(leaving).await,
        evidence: "nobody finds the disk".into(),
    };
    on.one(leaving, waive).await.unwrap();
    on.play_to(leaving, |_, _| false).await;
    assert_eq!(on.state(leaving, Stage::Purge).await, StateName::Done);
    keep_receipt(&*on.ledger, leaving).await;
    assert_eq!(on.join("b").await, taken("a", Some(leaving), Lacks::Remains));
}

pub async fn a_list_is_gone_through_in_order(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let list =
        vec![member("a", Some(PLACE)), member("b", Some(PLACE)), member("c", Some("machine/storage08"))];
    let results = on.ledger.register(list.clone(), &actor("ops"), true).await.unwrap();
    assert_eq!(results[1], taken("a", None, Lacks::Record));
    assert_eq!((&results[0], &results[2]), (&Err(NotDone::WithTheRest), &Err(NotDone::WithTheRest)));
    assert_eq!(fixture.count("SELECT count(*) FROM exclusives").await, 0);
    let results = on.ledger.register(list, &actor("ops"), false).await.unwrap();
    assert_eq!(results, [Ok(()), taken("a", None, Lacks::Record), Ok(())]);
    assert!(on.ledger.resource(&id("b")).await.unwrap().is_none());
}

/// Two platforms register at the same instant: one of them is the first.
pub async fn of_two_that_join_at_one_instant_one_does(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for round in 0..10 {
        let place = format!("machine/m{round}");
        let ask = |side: &str| {
            let (ledger, new) = (on.ledger.clone(), member(&format!("{side}{round}"), Some(&place)));
            tokio::spawn(
                async move { ledger.register(vec![new], &actor("ops"), false).await.unwrap().remove(0) },
            )
        };
        let (left, right) = (ask("left"), ask("right"));
        let results = [left.await.unwrap(), right.await.unwrap()];
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
        let refused = results.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(refused, NotDone::Exclusive(CannotShare::Taken { lacks: Lacks::Record, .. })));
    }
}
