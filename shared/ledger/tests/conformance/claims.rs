//! What a resource has to itself by what it states: no record lives while another one that is registered claims the same.
use serde_json::{Value, json};
use sexton_ledger::{NotDone, Options};
use sexton_model::access::{Registrar, Role};
use sexton_model::belts::Policy;
use sexton_model::catalogue::Catalogue;
use sexton_model::claims::{Contested, Rival};
use sexton_model::decide::Event;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{Stage, StateName};
use sexton_model::resource::Resource;
use sexton_model::step::Outcome;
use sexton_model::{DeletionId, ResourceId};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, options, registrar, resource};

const IPAM: &str = r#"
subsystem = "ipam"
claims = [["addresses"], ["mac"]]
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 1000
longest_call_ms = 1000
about = "looks"
"#;

/// Addresses and network cards are one resource's alone.
pub fn claiming() -> Options {
    let mut catalogue = Catalogue::default();
    catalogue.add("ipam.toml", IPAM).unwrap();
    let policy = Policy { claimable: catalogue.claimable().clone(), ..options().policy };
    Options { policy, ..options() }
}

/// A machine with this network card, in a scope of its own.
pub fn with_card(name: &str, mac: &str) -> Resource {
    with(name, json!({ "ipam": { "mac": mac } }))
}

fn with(name: &str, attributes: Value) -> Resource {
    let attributes = serde_json::from_value(attributes).unwrap();
    let scope = format!("tenants/{name}").parse().unwrap();
    Resource { attributes, scope, ..resource(name, &format!("uuid-of-{name}")) }
}

fn id(name: &str) -> ResourceId {
    format!("vm/{name}").parse().unwrap()
}

fn rival(name: &str, claim: &str, live: Option<DeletionId>) -> Rival {
    let scope = format!("tenants/{name}").parse().unwrap();
    Rival { claim: format!("ipam.main: {claim}"), resource: id(name), scope, live }
}

impl Stagehand {
    async fn declare(&self, resource: Resource) -> Result<(), NotDone> {
        self.ledger.register(vec![resource], &actor("ops"), false).await.unwrap().remove(0)
    }

    async fn condemn(&self, name: &str) -> Result<DeletionId, NotDone> {
        let wanted = self.wanted(&id(name)).await;
        self.ledger.create(vec![wanted]).await.unwrap().remove(0)
    }
}

/// Somebody registers its own machine with another's network card, and asks for its deletion.
pub async fn no_record_is_made_while_another_claims_the_same(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("theirs", "52:54:00:00:00:01")).await.unwrap();
    on.declare(with_card("mine", "52-54-00-00-00-01")).await.unwrap();
    on.declare(with_card("other", "52:54:00:00:00:02")).await.unwrap();
    let shared = |name: &str| Contested::Shared(rival(name, "mac 52:54:00:00:00:01", None));
    for (asked, by) in [("mine", "theirs"), ("theirs", "mine")] {
        assert_eq!(on.condemn(asked).await, Err(shared(by).into()));
        let stated = on.ledger.resource(&id(asked)).await.unwrap().unwrap().resource;
        assert_eq!(on.ledger.uncontested(&stated).await.unwrap(), Err(shared(by).into()));
    }
    on.condemn("other").await.unwrap();
    // Who states it no longer claims nothing of it.
    on.declare(with("mine", json!({ "ipam": { "none": true } }))).await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM claims WHERE resource = 'vm/mine'").await, 0);
    on.condemn("mine").await.unwrap();
    on.condemn("theirs").await.unwrap();
    let unclear = on.declare(with_card("unclear", "52:54:00:00:00:0\\49")).await;
    assert!(matches!(unclear, Err(NotDone::NoClaim(_))), "{unclear:?}");
    assert_eq!(on.ledger.verify_chains(None, 20).await.unwrap().broken, []);
}

/// What a record goes by is not given to another one before it is over, whatever is registered meanwhile.
pub async fn nobody_claims_what_is_being_deleted(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("old", "52:54:00:00:00:01")).await.unwrap();
    let old = on.condemn("old").await.unwrap();
    let leaving = || -> Result<(), NotDone> {
        Err(Contested::Leaving(rival("old", "mac 52:54:00:00:00:01", Some(old))).into())
    };
    assert_eq!(on.declare(with_card("new", "52:54:00:00:00:01")).await, leaving());
    let asked = on
        .ledger
        .check_resources(&Registrar::Trusted, vec![with_card("new", "52:54:00:00:00:01")], &actor("ops"))
        .await;
    assert_eq!(asked.unwrap(), [leaving()]);
    assert!(on.ledger.resource(&id("new")).await.unwrap().is_none());
    // Nor does it let go of that by stating something else: its record has a copy of what was stated.
    on.declare(with_card("old", "52:54:00:00:00:02")).await.unwrap();
    on.declare(with_card("third", "52:54:00:00:00:03")).await.unwrap();
    assert_eq!(on.declare(with_card("new", "52:54:00:00:00:01")).await, leaving());
    let taken = Contested::Taken(rival("third", "mac 52:54:00:00:00:03", None));
    assert_eq!(on.declare(with_card("old", "52:54:00:00:00:03")).await, Err(taken.into()));
    // Within a list what comes behind sees what came before.
    let list = vec![with_card("fourth", "52:54:00:00:00:04"), with_card("old", "52:54:00:00:00:04")];
    let results = on.ledger.register(list, &actor("ops"), false).await.unwrap();
    let taken = Contested::Taken(rival("fourth", "mac 52:54:00:00:00:04", None));
    assert_eq!(results, [Ok(()), Err(taken.into())]);

    assert_eq!(on.one(old, cancel()).await.unwrap().status, RecordStatus::Cancelled);
    on.declare(with_card("new", "52:54:00:00:00:01")).await.unwrap();
    // The record that is over has left nothing that stands in the way of others' deletions.
    on.condemn("new").await.unwrap();
    // It goes by what is registered now.
    let next = on.condemn("old").await.unwrap();
    let claims = "SELECT count(*) FROM claims WHERE resource = 'vm/old'";
    assert_eq!(fixture.count(claims).await, 1);
    let leaving = Contested::Leaving(rival("old", "mac 52:54:00:00:00:02", Some(next)));
    assert_eq!(on.declare(with_card("fifth", "52:54:00:00:00:02")).await, Err(leaving.into()));
    on.play_to(next, |_, _| false).await;
    assert_eq!(on.view(next).await.deletion.status, RecordStatus::Recycled);
    on.declare(with_card("fifth", "52:54:00:00:00:02")).await.unwrap();
    on.condemn("fifth").await.unwrap();
    assert_eq!(fixture.compare().await, Ok(()));
}

/// Long before its name, what a machine used is free: nothing of its record looks there once its purge is done. What was let
/// pass because it may remain keeps it.
pub async fn what_is_purged_claims_nothing_unless_something_may_remain(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    for (name, mac) in [("gone", "52:54:00:00:00:01"), ("kept", "52:54:00:00:00:02")] {
        on.declare(with_card(name, mac)).await.unwrap();
    }
    let gone = on.condemn("gone").await.unwrap();
    let kept = on.condemn("kept").await.unwrap();
    let leaving = |name: &str, mac: &str, record: DeletionId| -> Result<(), NotDone> {
        Err(Contested::Leaving(rival(name, &format!("mac {mac}"), Some(record))).into())
    };
    let last = on.play_to(gone, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    let new = with_card("new", "52:54:00:00:00:01");
    assert_eq!(on.declare(new.clone()).await, leaving("gone", "52:54:00:00:00:01", gone));
    on.play(Some(last), &mut Vec::new(), |_, _| false).await;
    assert_eq!(on.state(gone, Stage::Purge).await, StateName::Done);
    assert_eq!(on.status(gone).await, RecordStatus::Live, "its name is not free yet");
    on.declare(new).await.unwrap();
    // It is not only registered: it can be changed, and deleted, too.
    on.declare(Resource { priority: 7, ..with_card("new", "52:54:00:00:00:01") }).await.unwrap();
    on.condemn("new").await.unwrap();

    let last = on.play_to(kept, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    on.answer(&last, Outcome::refused("another identity")).await.unwrap();
    let waive = Event::Waive {
        by: actor("boss"),
        claim: WaiverClaim::MayRemain,
        mark: on.mark(kept).await,
        evidence: "nobody finds the disk".into(),
    };
    on.one(kept, waive).await.unwrap();
    on.play_to(kept, |_, _| false).await;
    assert_eq!(on.state(kept, Stage::Purge).await, StateName::Done);
    let newer = with_card("newer", "52:54:00:00:00:02");
    assert_eq!(on.declare(newer).await, leaving("kept", "52:54:00:00:00:02", kept));
    assert_eq!(fixture.compare().await, Ok(()));
}

/// Three were registered with one network card before anybody asked, and one of them has a record: another one is not kept from
/// changing what is no claim. It gets nothing more by that.
pub async fn what_has_been_shared_since_earlier_may_be_updated(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    for name in ["old", "one", "two"] {
        on.declare(with_card(name, "52:54:00:00:00:01")).await.unwrap();
    }
    let old = on.condemn("old").await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    let otherwise = Resource { priority: 7, ..with_card("one", "52-54-00-00-00-01") };
    on.declare(otherwise).await.unwrap();
    let leaving = || -> Result<(), NotDone> {
        Err(Contested::Leaving(rival("old", "mac 52:54:00:00:00:01", Some(old))).into())
    };
    let more = json!({ "ipam": { "mac": "52:54:00:00:00:01", "addresses": ["192.0.2.1"] } });
    assert_eq!(on.declare(with("one", more)).await, leaving());
    assert!(matches!(on.condemn("one").await, Err(NotDone::Contested(Contested::Shared(_)))));
    // What it has given up it does not get back.
    on.declare(with("one", json!({ "ipam": { "none": true } }))).await.unwrap();
    assert_eq!(on.declare(with_card("one", "52:54:00:00:00:01")).await, leaving());
    on.condemn("one").await.unwrap();
}

/// One was registered before anybody asked, with a card that cannot be compared: stated just so it stays registered. Whoever may set no
/// priority states it just so with another one, too, and whoever asks beforehand is told the same.
pub async fn a_check_goes_by_the_priorities_that_registering_would(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let there = with_card("old", "52:54:00:00:00:0\\49");
    on.declare(there.clone()).await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    let (ops, list) = (actor("ops"), vec![Resource { priority: 7, ..there.clone() }]);
    for (registrar, sets) in [(registrar(Role::Operator), true), (registrar(Role::Requester), false)] {
        let checked = on.ledger.check_resources(&registrar, list.clone(), &ops).await.unwrap();
        match sets {
            true => assert!(matches!(checked[..], [Err(NotDone::NoClaim(_))]), "{checked:?}"),
            false => assert_eq!(checked, [Ok(())]),
        }
        let registered = on.ledger.register_with(&registrar, list.clone(), &ops, false).await.unwrap();
        assert_eq!(registered, checked, "{registrar:?}");
        assert_eq!(on.ledger.resource(&there.id).await.unwrap().unwrap().resource, there);
    }
}

/// Coordinators go by other files: none forgets what another one wrote down, and what it did not write down is found at the next
/// start.
pub async fn whoever_goes_by_other_files_forgets_no_claim(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("one", "52:54:00:00:00:01")).await.unwrap();
    // Who says who comes back first goes by no files.
    on.ledger.prioritize(&id("one"), 5, &actor("platform")).await.unwrap().unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM claimable WHERE declared = ''").await, 0);
    drop(on);
    // By the files of this one nothing is a claim.
    let on = Stagehand::new(fixture).await;
    on.declare(with_card("one", "52:54:00:00:00:02")).await.unwrap();
    on.declare(with_card("two", "52:54:00:00:00:03")).await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM claims").await, 1);
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("three", "52:54:00:00:00:03")).await.unwrap();
    let shared = Contested::Shared(rival("two", "mac 52:54:00:00:00:03", None));
    assert_eq!(on.condemn("three").await, Err(shared.into()));
    // Meanwhile another one has gone through all by other files.
    fixture.execute("UPDATE claimable SET declared = 'other'").await;
    on.declare(with("two", json!({ "ipam": { "none": true } }))).await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM claims WHERE resource = 'vm/two'").await, 1);
    assert_eq!(fixture.count("SELECT count(*) FROM claimable WHERE declared = ''").await, 1);
    // It is a row, and no claim: nobody states it.
    on.condemn("three").await.unwrap();
    drop(on);
    drop(Stagehand::with(fixture, claiming()).await);
    assert_eq!(fixture.count("SELECT count(*) FROM claimable WHERE declared LIKE '{%'").await, 1);
}

/// They were registered before anybody asked what they claim: one of them has a record, and states something else by now.
pub async fn what_was_registered_earlier_claims_the_same(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.declare(with_card("old", "52:54:00:00:00:01")).await.unwrap();
    let old = on.condemn("old").await.unwrap();
    on.declare(with_card("old", "52:54:00:00:00:02")).await.unwrap();
    for name in ["one", "two"] {
        on.declare(with_card(name, "52:54:00:00:00:03")).await.unwrap();
    }
    assert_eq!(fixture.count("SELECT count(*) FROM claims").await, 0);
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    assert_eq!(fixture.count("SELECT count(*) FROM claims").await, 4);
    for mac in ["mac 52:54:00:00:00:01", "mac 52:54:00:00:00:02"] {
        let leaving = Contested::Leaving(rival("old", mac, Some(old)));
        let new = with_card("new", mac.strip_prefix("mac ").unwrap());
        assert_eq!(on.declare(new).await, Err(leaving.into()));
    }
    let shared = Contested::Shared(rival("two", "mac 52:54:00:00:00:03", None));
    assert_eq!(on.condemn("one").await, Err(shared.into()));
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    assert_eq!(fixture.count("SELECT count(*) FROM claims").await, 4);
    assert_eq!(fixture.count("SELECT count(*) FROM claimable").await, 1);
    assert!(on.ledger.resource(&id("new")).await.unwrap().is_none());
}

/// A machine is registered with another card, and gets a record, while nothing is a claim by the files of its coordinator: the row
/// of its first card is left. Neither that card nor one that it had only meanwhile is kept from others; what its record has as a
/// copy is, and what is registered of it now.
pub async fn what_a_live_record_does_not_go_by_is_free(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("old", "52:54:00:00:00:01")).await.unwrap();
    drop(on);
    let on = Stagehand::new(fixture).await;
    on.declare(with_card("old", "52:54:00:00:00:02")).await.unwrap();
    let old = on.condemn("old").await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    for mac in ["52:54:00:00:00:03", "52:54:00:00:00:04"] {
        on.declare(with_card("old", mac)).await.unwrap();
    }
    assert_eq!(fixture.count("SELECT count(*) FROM claims WHERE resource = 'vm/old'").await, 4);
    for mac in ["52:54:00:00:00:02", "52:54:00:00:00:04"] {
        let leaving = Contested::Leaving(rival("old", &format!("mac {mac}"), Some(old)));
        assert_eq!(on.declare(with_card("new", mac)).await, Err(leaving.into()));
    }
    // Also behind it in one list.
    let otherwise = Resource { priority: 7, ..with_card("old", "52:54:00:00:00:04") };
    let list = vec![otherwise, with_card("first", "52:54:00:00:00:01")];
    assert_eq!(on.ledger.register(list, &actor("ops"), false).await.unwrap(), [Ok(()), Ok(())]);
    on.declare(with_card("third", "52:54:00:00:00:03")).await.unwrap();
    on.condemn("third").await.unwrap();
    let first = on.condemn("first").await.unwrap();
    let leaving = Contested::Leaving(rival("first", "mac 52:54:00:00:00:01", Some(first)));
    assert_eq!(on.declare(with_card("old", "52:54:00:00:00:01")).await, Err(leaving.into()));
    assert_eq!(on.one(old, cancel()).await.unwrap().status, RecordStatus::Cancelled);
    on.declare(with_card("second", "52:54:00:00:00:02")).await.unwrap();
    assert_eq!(fixture.compare().await, Ok(()));
}

/// The record of a machine has a copy in words that cannot be compared, which were registered while nothing was a claim. They may
/// say what its row says.
pub async fn what_cannot_be_told_of_a_live_record_stays_claimed(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, claiming()).await;
    on.declare(with_card("old", "52:54:00:00:00:01")).await.unwrap();
    drop(on);
    let on = Stagehand::new(fixture).await;
    on.declare(with_card("old", "52:54:00:00:00:0\\49")).await.unwrap();
    let old = on.condemn("old").await.unwrap();
    on.declare(with("old", json!({ "ipam": { "none": true } }))).await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, claiming()).await;
    let leaving = Contested::Leaving(rival("old", "mac 52:54:00:00:00:01", Some(old)));
    assert_eq!(on.declare(with_card("new", "52:54:00:00:00:01")).await, Err(leaving.into()));
    assert_eq!(on.one(old, cancel()).await.unwrap().status, RecordStatus::Cancelled);
    on.declare(with_card("new", "52:54:00:00:00:01")).await.unwrap();
}
