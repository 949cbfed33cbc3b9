//! What a pause or a ceiling keeps back is told before it is lifted or raised, and goes on for exactly the crowd that somebody
//! has looked at.
use sexton_ledger::{NotDone, Stopped};
use sexton_model::DeletionId;
use sexton_model::belts::PauseSelector;
use sexton_model::belts::budget::CannotResume;
use sexton_model::belts::ceiling::{Ceiling, NewCeiling};
use sexton_model::decide::Event;
use sexton_model::job::{Stage, StateName};

use super::{announce, policy};
use crate::conformance::Fixture;
use crate::conformance::cancel::cancel;
use crate::conformance::stage::{Stagehand, actor, job_id, right_answer};

pub async fn what_a_pause_stops_is_told_before_it_is_lifted(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1")).await;
    let begun = on.all_due(&["web01"]).await;
    on.admit(&begun).await;
    let order = on.one(begun[0], Event::Claim { job: announce(begun[0]) }).await.unwrap().dispatch.unwrap();
    let counted: Vec<(Stage, u64)> =
        on.ledger.begun().await.unwrap().into_iter().map(|(group, count)| (group.stage, count)).collect();
    assert_eq!(counted, [(Stage::Announce, 1)]);
    let pause = on.ledger.pause(PauseSelector::default(), &actor("ops"), "look").await.unwrap().pause.id;
    assert_eq!(on.ledger.stopped_by(pause).await.unwrap(), [], "an order is out");
    on.answer(&order, right_answer(&order)).await.unwrap();
    let ids = on.all_due(&["web02"]).await;
    on.try_to_announce(ids[0]).await.unwrap();
    let [stopped] = &on.ledger.stopped_by(pause).await.unwrap()[..] else { panic!("of one group") };
    assert_eq!((stopped.held, stopped.midway, stopped.group.stage), (1, 1, Stage::Announce));
    assert_eq!(stopped.at_once(), 1, "what stands midway goes on; what has not begun is counted first");
    let why = stopped.exceeded.as_ref().unwrap();
    assert_eq!((why.members, why.used, why.alone()), (1, 1, false));
    assert_eq!(on.ledger.stopped_by(pause + 1).await.unwrap(), [], "of another pause");
}

/// Of a stage that is not counted a pause holds back what goes on at once, and what is counted first.
pub async fn what_has_piled_up_under_a_pause_is_told_as_a_batch(fixture: &dyn Fixture) {
    let counts_hard = || policy("a_day = 1\nstages = [\"hard\"]");
    let on = Stagehand::with(fixture, counts_hard()).await;
    let soft = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
    let pause = on.ledger.pause(soft, &actor("ops"), "look").await.unwrap().pause.id;
    let mut ids = Vec::new();
    for name in ["web01", "web02", "fresh", "fresher"] {
        let id = on.doomed(name).await;
        for stage in [Stage::Announce, Stage::Soft] {
            let first = on.claim(id, stage).await.unwrap().dispatch;
            on.play(first, &mut Vec::new(), |_, _| false).await;
        }
        assert_eq!(on.state(id, Stage::Soft).await, StateName::Held);
        ids.push(id);
    }
    drop(on);
    let long = "UPDATE jobs SET due_at = due_at - 120000000 WHERE id % 8 = 1 \
         AND deletion_id IN (SELECT DISTINCT deletion_id FROM jobs ORDER BY deletion_id LIMIT 2)";
    fixture.execute(long).await;
    let on = Stagehand::with(fixture, counts_hard()).await;
    let [stopped] = &on.ledger.stopped_by(pause).await.unwrap()[..] else { panic!("of one group") };
    assert_eq!((stopped.held, stopped.counted, stopped.at_once()), (4, 2, 2));
    assert_eq!(stopped.exceeded.as_ref().map(|why| why.members), Some(2));
    // Whoever lifts it approves the others, and not the batch, too.
    let crowd = stopped.crowd.as_ref().unwrap();
    let members: Vec<_> = crowd.members.iter().map(|member| member.job).collect();
    let soft = |id: &DeletionId| job_id(*id, Stage::Soft);
    assert_eq!((members, crowd.why.members), (ids[2..].iter().map(soft).collect::<Vec<_>>(), 2));
}

/// Announcing is not counted here: nothing but the approval stands between the crowd and its begin.
const UNCOUNTED: &str = "a_day = 1\nstages = [\"recycle\"]";

pub async fn a_pause_is_lifted_for_exactly_the_crowd_that_was_looked_at(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy(UNCOUNTED)).await;
    let pause = on.ledger.pause(PauseSelector::default(), &actor("ops"), "look").await.unwrap().pause.id;
    let lift =
        async |by: &str, approved: Option<&str>| on.ledger.resume(pause, &actor(by), approved).await.unwrap();
    let digest = async || Stopped::digest(&on.ledger.stopped_by(pause).await.unwrap());
    let mut ids = on.all_held(&["web01"]).await;
    assert_eq!(digest().await, None, "one may begin");
    ids.extend(on.all_held(&["web02"]).await);
    let seen = digest().await.unwrap();
    let stopped = on.ledger.stopped_by(pause).await.unwrap();
    let [Stopped { crowd: Some(crowd), .. }] = stopped.as_slice() else { panic!("{stopped:?}") };
    let members: Vec<_> = crowd.members.iter().map(|m| (m.job, m.requested_by.as_str())).collect();
    assert_eq!(members, [(announce(ids[0]), "platform"), (announce(ids[1]), "platform")]);
    let refused = lift("boss", None).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::NeedsApproval { members: 2, .. })), "{refused}");
    // As many, and not these.
    on.one(ids[0], cancel()).await.unwrap();
    ids.extend(on.all_held(&["web03"]).await);
    let refused = lift("boss", Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::OtherSet { members: 2, .. })), "{refused}");
    let seen = digest().await.unwrap();
    let refused = lift("platform", Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::Requested { .. })), "{refused}");
    assert_eq!(on.ledger.pauses().await.unwrap().len(), 1, "it is in force");
    assert_eq!(on.state(ids[1], Stage::Announce).await, StateName::Held);
    assert_eq!(lift("boss", Some(&seen)).await, Ok(true));
    for id in &ids[1..] {
        assert_eq!(on.state(*id, Stage::Announce).await, StateName::Scheduled);
    }
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn what_stands_midway_is_of_the_crowd_that_goes_on(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy(UNCOUNTED)).await;
    let begun = on.all_due(&["web01"]).await[0];
    let order = on.one(begun, Event::Claim { job: announce(begun) }).await.unwrap().dispatch.unwrap();
    let pause = on.ledger.pause(PauseSelector::default(), &actor("ops"), "look").await.unwrap().pause.id;
    on.answer(&order, right_answer(&order)).await.unwrap();
    let held = on.all_held(&["web02"]).await[0];
    let stopped = on.ledger.stopped_by(pause).await.unwrap();
    let [Stopped { crowd: Some(crowd), .. }] = stopped.as_slice() else { panic!("{stopped:?}") };
    let members: Vec<_> = crowd.members.iter().map(|member| member.job).collect();
    assert_eq!((members, crowd.why.members), (vec![announce(begun), announce(held)], 2));
    let seen = Stopped::digest(&stopped).unwrap();
    let own = on.ledger.resume(pause, &actor("platform"), Some(&seen)).await.unwrap();
    assert!(matches!(own, Err(NotDone::Resume(CannotResume::Requested { .. }))), "{own:?}");
    assert_eq!(on.ledger.resume(pause, &actor("boss"), Some(&seen)).await.unwrap(), Ok(true));
}

pub async fn a_ceiling_is_raised_for_exactly_the_crowd_that_was_looked_at(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy(UNCOUNTED)).await;
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let raise = async |by: &str, approved: Option<&str>| {
        let (to, reason) = (Some(Ceiling::Announce), "looked".to_owned());
        let new = NewCeiling { scope: None, to, by: actor(by), reason };
        on.ledger.set_ceiling(new, approved).await.unwrap()
    };
    let digest = async || Stopped::digest(&on.below(None, Some(Ceiling::Announce)).await.unwrap()).unwrap();
    on.all_held(&["web01", "web02"]).await;
    let seen = digest().await;
    let refused = raise("boss", None).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::NeedsApproval { members: 2, .. })), "{refused}");
    on.all_held(&["web03"]).await;
    let refused = raise("boss", Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::OtherSet { members: 3, .. })), "{refused}");
    let seen = digest().await;
    let refused = raise("platform", Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::Requested { .. })), "{refused}");
    assert_eq!(on.ledger.ceilings().await.unwrap().everywhere(), Ceiling::Observe, "it is as it was");
    assert_eq!(raise("boss", Some(&seen)).await, Ok(()));
    assert_eq!(on.ledger.ceilings().await.unwrap().everywhere(), Ceiling::Announce);
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}
