//! Was it looked at? What a person states is stated of what that person was shown, whatever is parked by then.
use sexton_ledger::NotDone;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{Stage, StateName};

use super::gate::Flaw;
use super::system::{System, boss, on_many_machines, ops};

on_many_machines! {
    a_waiver_of_one_step_does_not_let_the_next_one_pass,
}

const NOT_SEEN: &str = "performed, but it was not seen to be gone";

fn gone(mark: &str) -> Event {
    let (mark, evidence) = (mark.to_owned(), "the server lists no such target".to_owned());
    Event::Waive { by: boss(), claim: WaiverClaim::Absent, mark, evidence }
}

/// Two people have looked at the first step, and one has it let pass. The next one is parked at once, in the same stage, by the
/// same person and for the same reason: what the other one says then is no evidence of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_waiver_of_one_step_does_not_let_the_next_one_pass() {
    let system = System::start().await;
    system.monitoring.set_flaw("remove_target", Some(Flaw::SeesNothing));
    system.backup.set_flaw("remove_schedule", Some(Flaw::SeesNothing));
    let id = system.delete().await;
    system.until_answered(id, NOT_SEEN).await;
    system.until_parked(id).await;
    let seen = system.mark(id).await;
    system.tell(id, gone(&seen)).await.unwrap();
    system.until_parked(id).await;

    let refused = system.tell(id, gone(&seen)).await.unwrap_err();
    let mark = system.mark(id).await;
    assert_ne!(mark, seen);
    assert_eq!(refused, NotDone::Refused(Refusal::OtherThings { mark }));
    let parked = system.until_job(id, Stage::Hard, |state| state.name() == StateName::Parked).await;
    assert_eq!((parked.cursor, system.view(id).await.deletion.waivers.len()), (3, 1));

    system.backup.set_flaw("remove_schedule", None);
    system.tell(id, Event::Retry { by: ops() }).await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
    assert!(system.backup.changes().contains(&"perform remove_schedule".to_owned()), "it is done itself");
}
