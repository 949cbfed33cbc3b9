//! Overrides: given once, read with what is in force, and taken back.
use sexton_ledger::NotDone;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::belts::one_shot::{CannotOverride, NewOneShot, OneShot, Passable};
use sexton_model::decide::Event;
use sexton_model::job::{Stage, StateName};
use sexton_model::{DeletionId, Timestamp};

use super::Fixture;
use super::stage::{Stagehand, actor, job_id, options};

fn asked(deletion: DeletionId, by: &str, break_glass: bool) -> NewOneShot {
    let (by, reason) = (actor(by), "the rack is on fire".to_owned());
    NewOneShot { deletion, stage: Stage::Announce, belt: Passable::Ceiling, by, reason, break_glass }
}

impl Stagehand {
    async fn give(&self, new: NewOneShot) -> Result<OneShot, NotDone> {
        self.ledger.give_one_shot(new).await.unwrap()
    }
}

pub async fn an_override_lets_one_deletion_pass(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let (one, other) = (on.doomed("web01").await, on.doomed("web02").await);
    for id in [one, other] {
        assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    }
    assert!(matches!(
        on.give(asked(one, "platform", false)).await,
        Err(NotDone::Override(CannotOverride::Requested { .. }))
    ));
    let nobody = DeletionId(4711);
    assert_eq!(on.give(asked(nobody, "boss", false)).await, Err(NotDone::NoSuchDeletion(nobody)));
    let given = on.give(asked(one, "boss", false)).await.unwrap();
    assert_eq!(on.ledger.one_shots().await.unwrap(), [given]);
    let recheck = |id| Event::Recheck { job: job_id(id, Stage::Announce) };
    on.one(one, recheck(one)).await.unwrap();
    on.one(other, recheck(other)).await.unwrap_err();
    let order = on.claim(one, Stage::Announce).await.unwrap().dispatch.unwrap();
    assert_eq!(on.state(other, Stage::Announce).await, StateName::Held);
    on.play(Some(order), &mut Vec::new(), |_, _| false).await;
    assert_eq!(on.state(one, Stage::Announce).await, StateName::Done);
    assert!(matches!(
        on.give(asked(one, "boss", false)).await,
        Err(NotDone::Override(CannotOverride::Begun { .. }))
    ));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn an_override_is_taken_back_and_outlives_a_restart(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let id = on.doomed("web01").await;
    let given = on.give(asked(id, "platform", true)).await.unwrap();
    assert!(given.break_glass && given.until > given.since);
    let events = "SELECT count(*) FROM ledger_audit WHERE body LIKE '%\"glass_broken\"%'";
    assert_eq!(fixture.count(events).await, 1, "it is written down");
    // What is remembered of it goes with the handle.
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    assert_eq!(on.ledger.one_shots().await.unwrap(), std::slice::from_ref(&given));
    assert!(on.ledger.take_back_one_shot(given.id, &actor("ops")).await.unwrap());
    assert!(!on.ledger.take_back_one_shot(given.id, &actor("ops")).await.unwrap());
    assert_eq!(on.ledger.one_shots().await.unwrap(), []);
    // Whoever looks later sees that the glass was broken, and who has taken that back.
    let seen = on.ledger.broken_glass().await.unwrap();
    let [broken] = seen.as_slice() else { panic!("{seen:?}") };
    let back = broken.taken_back.as_ref().unwrap();
    assert!(back.by == actor("ops") && back.at >= given.since, "{back:?}");
    assert_eq!(OneShot { taken_back: None, ..broken.clone() }, given);
    assert!(on.claim(id, Stage::Announce).await.unwrap().dispatch.is_none());
    assert_eq!(on.state(id, Stage::Announce).await, StateName::Held);
    let again = on.give(asked(id, "boss", false)).await.unwrap();
    assert_eq!(again.id, given.id + 1, "numbers are not given again");
    assert!(again.since > Timestamp(0));
    assert_eq!(on.ledger.broken_glass().await.unwrap(), seen, "nobody has broken it for that one");
    // Once nothing could have begun by it any more it is not looked at.
    fixture.execute("UPDATE one_shots SET good_until = 0 WHERE id = 1").await;
    assert_eq!(on.ledger.broken_glass().await.unwrap(), []);
}
