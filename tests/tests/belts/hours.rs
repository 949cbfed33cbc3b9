//! Working hours: past the end of cancel nothing begins outside of them. In calendar days, since rehearsals have none.
use sexton_ledger::NotDone;
use sexton_model::belts::Policy;
use sexton_model::belts::window::Written;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, Timestamp};

use super::gate::Point;
use super::system::{System, on_many_machines, ops, web01};

on_many_machines! {
    hard_waits_for_working_hours_and_says_so_once,
    what_has_begun_goes_on_outside_of_them,
    a_restore_keeps_no_hours,
    hours_that_change_meanwhile_count_at_once,
}

/// Whole days, of the weekday on which it is so many days from now.
fn only_in(days: u64) -> Policy {
    let then = Timestamp::from(std::time::SystemTime::now()).plus_ms(days * 86_400_000).utc();
    let day = then.format("%a").to_string().to_lowercase();
    policy(&format!("days = [{day:?}]"))
}

fn policy(days: &str) -> Policy {
    let text = format!("zone = \"UTC\"\nfrom = \"00:00\"\nto = \"24:00\"\n{days}");
    let written: Written = toml::from_str(&text).unwrap();
    Policy { windows: written.windows().unwrap(), ..Policy::default() }
}

fn closed() -> Policy {
    only_in(3)
}

fn open() -> Policy {
    policy(r#"days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]"#)
}

async fn delete(system: &System) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(web01(), Timestamp(now.0 - 2 * 86_400_000_000)).await
}

fn by_hours(state: &JobState) -> bool {
    matches!(state, JobState::Held { by: Blocker::Window { .. }, .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_waits_for_working_hours_and_says_so_once() {
    let system = System::start_in_calendar_days(closed()).await;
    let id = delete(&system).await;
    let job = system.until_job(id, Stage::Hard, |state| state.name() == StateName::Held).await;
    let JobState::Held { by: Blocker::Window { opens, .. }, .. } = job.state else { panic!("{job:?}") };
    let now = system.ledger.facts().await.unwrap().now;
    assert!((2 * 86_400_000..=3 * 86_400_000).contains(&opens.ms_since(now)), "{now} {opens}");
    assert_eq!(system.job(id, JobKind::Stage(Stage::Soft)).await.state, JobState::Done);
    let (world, trail) = (system.world(), system.view(id).await.audit.len());
    system.two_beacons().await;
    let again = system.tell(id, Event::Recheck { job: job.id }).await;
    assert!(matches!(again, Err(NotDone::Refused(Refusal::NotYet(_)))), "{again:?}");
    assert_eq!((system.world(), system.view(id).await.audit.len()), (world, trail));

    let system = system.restarted_with(open()).await;
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_goes_on_outside_of_them() {
    let system = System::start_in_calendar_days(open()).await;
    system.monitoring.close("remove_target", Point::Look);
    let id = delete(&system).await;
    system.monitoring.reached().await;
    let placed = system.tell(id, Event::PlaceHold { by: ops(), reason: "lawsuit".into() }).await.unwrap();
    system.monitoring.open();
    system.until_job(id, Stage::Hard, |state| matches!(state, JobState::Ready { .. })).await;

    let system = system.restarted_with(closed()).await;
    system.tell(id, Event::ReleaseHold { hold: placed.audit_seq, by: ops() }).await.unwrap();
    system.until_job(id, Stage::Hard, |state| *state == JobState::Done).await;
    system.until_job(id, Stage::Purge, by_hours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_keeps_no_hours() {
    let system = System::start_in_calendar_days(closed()).await;
    let before = system.world();
    let id = delete(&system).await;
    system.until_job(id, Stage::Hard, by_hours).await;
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_change_meanwhile_count_at_once() {
    let system = System::start_in_calendar_days(open()).await;
    system.backup.close("final", Point::Look);
    let id = delete(&system).await;
    system.backup.reached().await;
    system.ledger.keep_hours(closed().windows.unwrap());
    system.backup.open();
    system.until_job(id, Stage::Hard, by_hours).await;
}
