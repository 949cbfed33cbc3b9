//! Healthy time: while nobody could have cancelled, no grace passes.
use sexton_ledger::Limits;
use sexton_model::audit::What;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage};
use sexton_model::{DeletionId, Timestamp};

use super::system::{System, on_many_machines, ops, until};

on_many_machines! {
    hard_begins_as_much_later_as_nobody_could_have_cancelled,
    what_is_held_by_it_can_still_be_cancelled,
}

const HARD: JobKind = JobKind::Stage(Stage::Hard);

/// Two heartbeats may be lost.
const SILENT_MS: u64 = 2_500;

/// A day is a fifth of a second, so hard follows eight seconds after soft. With short deadlines, which a restore waits for.
async fn start() -> System {
    let limits = Limits { outage_after_ms: Some(SILENT_MS), ..Limits::default() };
    let changes = [
        (
            r#"{ do = "monitoring.silence" }"#,
            r#"{ do = "monitoring.silence", deadline_ms = 2000, longest_call_ms = 200 }"#,
        ),
        (
            r#"{ do = "backup.final" }"#,
            r#"{ do = "backup.final", deadline_ms = 2000, longest_call_ms = 200 }"#,
        ),
        ("offset_days = 1", "offset_days = 40"),
        ("offset_days = 2", "offset_days = 41"),
        ("offset_days = 3", "offset_days = 42"),
    ];
    System::start_within(limits, &changes).await
}

/// Once soft is done, everything is away for longer than is tolerated, the API included, and comes back. The job of hard
/// when it is held or has begun.
async fn away_before_hard(mut system: System, id: DeletionId) -> (System, Job) {
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
    system.stop_coordinator().await;
    let back = system.ledger.healthy().await.unwrap().beat.plus_ms(SILENT_MS + 500);
    until("time passes", async || system.ledger.facts().await.unwrap().now > back).await;
    let system = system.restarted().await;
    let hard = system.until_job(id, Stage::Hard, |state| !matches!(state, JobState::Scheduled { .. })).await;
    (system, hard)
}

fn held(hard: &Job) -> (Timestamp, Timestamp) {
    match hard.state {
        JobState::Held { due_at, by: Blocker::Outage { until, .. } } => (due_at, until),
        ref other => panic!("hard is {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_begins_as_much_later_as_nobody_could_have_cancelled() {
    let system = start().await;
    let id = system.delete().await;
    let (system, hard) = away_before_hard(system, id).await;
    let (due_at, until) = held(&hard);
    assert!(until.ms_since(due_at) >= SILENT_MS, "{due_at} {until}");
    system.until_over(id, RecordStatus::Recycled).await;

    let trail = system.view(id).await.audit.into_iter().map(|row| row.event);
    let claimed =
        trail.rev().find(|event| event.job == Some(HARD) && event.what == What::Claimed).unwrap().at;
    let soft = system.job(id, JobKind::Stage(Stage::Soft)).await.ended_at.unwrap();
    let lost = system.ledger.healthy().await.unwrap().lost_us(soft, claimed);
    assert!(claimed.0 >= due_at.0 + lost, "{claimed}: due at {due_at}, and {lost} us were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_by_it_can_still_be_cancelled() {
    let system = start().await;
    let before = system.world();
    let id = system.delete().await;
    let (system, hard) = away_before_hard(system, id).await;
    held(&hard);
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}
