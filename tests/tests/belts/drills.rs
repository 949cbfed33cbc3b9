//! A drill in a running system: what is there for it is switched off and brought back, and goes no further.
use sexton_model::deletion::RecordStatus;
use sexton_model::drill::{self, Drill, Verdict};
use sexton_model::job::{Blocker, JobState, Stage};

use super::system::{System, ops, until, web01};

impl System {
    async fn drill(&self) -> Drill {
        self.ledger.drills().await.unwrap().remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_switches_off_and_brings_back_and_never_goes_beyond_soft() {
    let system = System::start_drilling().await;
    let before = system.world();
    assert_eq!(system.engine.run_drills(&ops()).await.unwrap(), Some(1));
    assert_eq!(system.engine.run_drills(&ops()).await.unwrap(), Some(0), "one goes on");
    let begun = system.drill().await;
    let id = begun.deletion.unwrap();
    assert_eq!((begun.resource, begun.by), (web01(), ops()));
    assert_eq!(system.view(id).await.deletion.record.requested_by, drill::actor());
    // Its hard stage is due right after soft; a tick may have cancelled it already.
    let hard = system
        .until_job(id, Stage::Hard, |state| {
            matches!(state, JobState::Held { by: Blocker::Drill, .. } | JobState::Cancelled)
        })
        .await;
    assert!(!matches!(hard.state, JobState::Done), "{hard:?}");
    assert_ne!(system.world(), before, "it is switched off");
    system.engine.tend_drills().await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
    system.engine.tend_drills().await.unwrap();
    let over = system.drill().await;
    let verdict = over.judged.clone().unwrap().verdict;
    assert!(matches!(&verdict, Verdict::Holds { how } if how.contains("as it was captured")), "{verdict:?}");
    // It is over: nothing is begun before a week has passed, unless somebody asks for it.
    system.engine.tend_drills().await.unwrap();
    assert_eq!(system.drill().await, over);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_that_cannot_be_brought_back_has_failed() {
    let system = System::start_drilling().await;
    assert_eq!(system.engine.run_drills(&ops()).await.unwrap(), Some(1));
    let id = system.drill().await.deletion.unwrap();
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
    // Another machine of that name is there by now: nothing of it is changed.
    system.recreate();
    until("it is told that it has failed", async || {
        system.engine.tend_drills().await.unwrap();
        system.drill().await.judged.is_some()
    })
    .await;
    let verdict = system.drill().await.judged.unwrap().verdict;
    assert!(matches!(&verdict, Verdict::Failed { why } if why.contains("restore is parked")), "{verdict:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_drill_can_be_held_with_is_told() {
    let system = System::start_drilling().await;
    system.register(true).await;
    assert_eq!(system.engine.run_drills(&ops()).await.unwrap(), Some(1));
    let drill = system.drill().await;
    let verdict = drill.judged.unwrap().verdict;
    assert!(matches!(&verdict, Verdict::Unclear { why } if why.contains("protected")), "{verdict:?}");
    assert_eq!(drill.deletion, None);
}
