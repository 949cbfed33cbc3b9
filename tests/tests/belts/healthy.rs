//! Healthy time: while nobody could have cancelled, no grace passes.
use sexton_ledger::Limits;
use sexton_model::audit::What;
use sexton_model::belts::Policy;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage};
use sexton_model::{DeletionId, ResourceId, Timestamp};

use super::budgets::policy;
use super::system::{System, on_many_machines, ops, until, web01};

on_many_machines! {
    hard_begins_as_much_later_as_nobody_could_have_cancelled,
    what_is_held_by_it_can_still_be_cancelled,
    what_has_waited_for_an_outage_begins_at_the_budgets_pace,
}

const HARD: JobKind = JobKind::Stage(Stage::Hard);

/// Two heartbeats may be lost.
const SILENT_MS: u64 = 2_500;

/// A day is a fifth of a second, so hard follows eight seconds after soft. With short deadlines, which a restore waits for.
async fn start() -> System {
    start_by(Policy::default()).await
}

/// The same, by this policy.
async fn start_by(policy: Policy) -> System {
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
    System::start_within(limits, policy, &changes).await
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

/// When hard of it began.
async fn claimed(system: &System, id: DeletionId) -> Timestamp {
    let trail = system.view(id).await.audit.into_iter().map(|row| row.event);
    trail.rev().find(|event| event.job == Some(HARD) && event.what == What::Claimed).unwrap().at
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_begins_as_much_later_as_nobody_could_have_cancelled() {
    let system = start().await;
    let id = system.delete().await;
    let (system, hard) = away_before_hard(system, id).await;
    let (due_at, until) = held(&hard);
    assert!(until.ms_since(due_at) >= SILENT_MS, "{due_at} {until}");
    system.until_over(id, RecordStatus::Recycled).await;

    let claimed = claimed(&system, id).await;
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

/// Of two scopes: whichever comes first, the other one waits for its turn. Fifteen days are three seconds, and what has
/// begun counts for five more at least.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_waited_for_an_outage_begins_at_the_budgets_pace() {
    const DAYS_15_MS: u64 = 3_000;
    let one_in_15_days = "a_day = 1\neverywhere = 1\ndays = 15\nstages = [\"hard\"]";
    let system = start_by(policy(one_in_15_days)).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.build(&other);
    system.register_in("tenants/other", &other, false).await;
    let ids = system.delete_both([web01(), other]).await;
    system.until_job(ids[1], Stage::Soft, |state| *state == JobState::Done).await;
    let (system, hard) = away_before_hard(system, ids[0]).await;
    held(&hard);
    system.until_answered(ids[1], "nobody could have cancelled").await;

    let by_budget = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Budget { .. }, .. });
    let begun = |state: &JobState| !matches!(state, JobState::Scheduled { .. } | JobState::Held { .. });
    let mut jobs = Vec::new();
    for id in ids {
        jobs.push(system.until_job(id, Stage::Hard, |state| by_budget(state) || begun(state)).await);
    }
    let (first, second): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| begun(&job.state));
    let ([first], [second]) = (first.as_slice(), second.as_slice()) else {
        panic!("not one of them began: {first:?}, and {second:?}")
    };
    let JobState::Held { by: Blocker::Budget { frozen, .. }, .. } = &second.state else {
        panic!("{second:?}")
    };
    assert_eq!((frozen.exceeded.used, frozen.exceeded.alone()), (1, false), "it waits for its turn");
    assert_eq!(second.cursor, 0, "not one step");

    // It has its turn when there is room, and nobody has to ask for it.
    let [first, second] = [first, second].map(|job| job.id.deletion());
    system.until_over(second, RecordStatus::Recycled).await;
    let apart_ms = claimed(&system, second).await.ms_since(claimed(&system, first).await);
    assert!(apart_ms >= DAYS_15_MS, "{apart_ms} ms apart");
}
