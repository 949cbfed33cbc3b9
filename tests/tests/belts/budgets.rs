//! The breaker: over a budget not one step of the batch runs, and an approval lets exactly that set go.
use std::sync::Arc;

use sexton_ledger::{Approval, NotDone, Stopped};
use sexton_model::belts::budget::{CannotApprove, CannotResume, Counted, Exceeded, Written};
use sexton_model::belts::census::{Rules, Sentinel};
use sexton_model::belts::one_shot::Passable;
use sexton_model::belts::{PauseSelector, Policy};
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, Job, JobKind, JobState, Stage, StateName};
use sexton_model::plan::Plan;
use sexton_model::{DeletionId, ResourceId};

use super::system::{System, on_many_machines, ops, until, web01};

on_many_machines! {
    over_a_budget_nothing_begins_before_somebody_else_approves_it,
    a_restart_forgets_neither_the_count_nor_the_batch,
    what_is_frozen_stays_so_whatever_is_counted_by_now,
    what_is_frozen_before_hard_comes_back_with_a_cancel,
    what_has_piled_up_before_soft_does_not_begin_all_at_once,
    a_share_is_of_those_that_were_there_before_any_of_them_went,
    each_kind_has_a_number_of_its_own,
    each_stage_has_a_number_of_its_own,
    all_scopes_together_have_a_number,
    a_pause_is_lifted_for_exactly_the_crowd_that_somebody_looked_at,
    an_override_lets_one_stage_of_one_deletion_begin_beside_the_budget,
}

pub fn policy(text: &str) -> Policy {
    let written: Written = toml::from_str(text).unwrap();
    Policy { windows: None, budgets: Some(written.budgets().unwrap()), ..Policy::default() }
}

/// With this sentinel in each census of `tenants/acme`.
pub fn counting(policy: Policy, sentinel: ResourceId) -> Policy {
    let sentinels = vec![Sentinel { scope: "tenants/acme".parse().unwrap(), resource: sentinel }];
    Policy { census: Rules { sentinels, ..Rules::default() }, ..policy }
}

pub fn frozen(state: &JobState) -> bool {
    matches!(state, JobState::Held { by: Blocker::Budget { .. }, .. })
}

pub fn exceeded(job: Job) -> Exceeded {
    match job.state {
        JobState::Held { by: Blocker::Budget { frozen, .. }, .. } => frozen.exceeded,
        other => panic!("it is {other:?}"),
    }
}

/// Two records due at once, where one may begin. Only the first machine is there.
async fn two(system: &System) -> [DeletionId; 2] {
    let other = "vm/web02".parse().unwrap();
    system.register_named(&other, false).await;
    system.delete_both([web01(), other]).await
}

fn approval(batch: i64, digest: String, by: &str) -> Approval {
    Approval { batch, digest, by: by.parse().unwrap(), reason: "both are empty".into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_budget_nothing_begins_before_somebody_else_approves_it() {
    let system = System::start_in_calendar_days(policy("a_day = 1\nstages = [\"announce\"]")).await;
    let before = system.world();
    let ids = two(&system).await;
    for id in ids {
        system.until_job(id, Stage::Announce, frozen).await;
    }
    system.two_beacons().await;
    assert_eq!(system.world(), before);
    for id in ids {
        let job = system.until_job(id, Stage::Announce, frozen).await;
        assert_eq!(job.cursor, 0, "not one step");
    }
    let batch = system.ledger.batches().await.unwrap()[0].batch;
    let digest = system.ledger.batch(batch).await.unwrap().unwrap().digest();
    let own = system.engine.approve(approval(batch, digest.clone(), ops().as_str())).await.unwrap();
    assert!(matches!(own, Err(NotDone::Approval(CannotApprove::Requested { .. }))), "{own:?}");
    assert_eq!(system.engine.approve(approval(batch, digest, "boss")).await.unwrap(), Ok(2));
    system.until_over(ids[0], RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_forgets_neither_the_count_nor_the_batch() {
    let policy = policy("a_day = 1\nstages = [\"announce\"]");
    let system = System::start_in_calendar_days(policy).await;
    let id = system.delete().await;
    system.until_over(id, RecordStatus::Recycled).await;

    let system = system.restarted().await;
    system.register(false).await;
    let id = system.delete().await;
    system.until_job(id, Stage::Announce, frozen).await;
    let system = system.restarted().await;
    system.two_beacons().await;
    system.until_job(id, Stage::Announce, frozen).await;
    let batch = system.ledger.batches().await.unwrap();
    assert_eq!((batch.len(), batch[0].exceeded.used, batch[0].exceeded.alone()), (1, 1, false));
    system.tell(id, Event::Cancel { by: ops(), reason: "kept".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    until("the batch is left", async || system.ledger.batches().await.unwrap().is_empty()).await;
}

/// The next coordinator counts another stage. Nobody has approved what the one before has frozen.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_stays_so_whatever_is_counted_by_now() {
    let system = System::start_in_calendar_days(policy("a_day = 1\nstages = [\"announce\"]")).await;
    let before = system.world();
    let ids = two(&system).await;
    for id in ids {
        system.until_job(id, Stage::Announce, frozen).await;
    }
    let system = system.restarted_with(policy("a_day = 1\nstages = [\"purge\"]")).await;
    for id in ids {
        let job = system.job(id, JobKind::Stage(Stage::Announce)).await.id;
        let refused = system.tell(id, Event::Recheck { job }).await;
        assert!(matches!(refused, Err(NotDone::Refused(Refusal::NotYet(_)))), "{refused:?}");
    }
    // Its ticks judge the batch, and look at what is held.
    system.two_beacons().await;
    for id in ids {
        assert!(frozen(&system.job(id, JobKind::Stage(Stage::Announce)).await.state));
    }
    assert_eq!(system.world(), before);
    let batch = system.ledger.batches().await.unwrap()[0].batch;
    let digest = system.ledger.batch(batch).await.unwrap().unwrap().digest();
    assert_eq!(system.engine.approve(approval(batch, digest, "boss")).await.unwrap(), Ok(2));
    system.until_over(ids[0], RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_before_hard_comes_back_with_a_cancel() {
    let system = System::start_in_calendar_days(policy("a_day = 0\nstages = [\"hard\"]")).await;
    let before = system.world();
    let id = system.delete().await;
    let job = system.until_job(id, Stage::Hard, frozen).await;
    assert_eq!(job.state.name(), StateName::Held);
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

/// Soft is not counted by itself. After two days in which it could not begin, what has waited for it is.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_piled_up_before_soft_does_not_begin_all_at_once() {
    let system = System::start_in_calendar_days(policy("a_day = 0\nstages = [\"hard\"]")).await;
    let before = system.world();
    let soft = PauseSelector { stage: Some(Stage::Soft), ..PauseSelector::default() };
    let paused = system.ledger.pause(soft, &ops(), "nobody is there").await.unwrap().pause.id;
    let id = system.delete().await;
    system.until_job(id, Stage::Soft, |state| state.name() == StateName::Held).await;
    system.execute("UPDATE jobs SET due_at = due_at - 172800000000 WHERE held");
    let system = system.restarted().await;
    assert!(system.ledger.resume(paused, &ops(), None).await.unwrap().unwrap());
    let job = system.until_job(id, Stage::Soft, frozen).await;
    assert_eq!(job.cursor, 0, "not one step");
    assert_eq!(system.world(), before);
    let batch = system.ledger.batches().await.unwrap()[0].batch;
    let digest = system.ledger.batch(batch).await.unwrap().unwrap().digest();
    assert_eq!(system.engine.approve(approval(batch, digest, "boss")).await.unwrap(), Ok(1));
    system.until_job(id, Stage::Soft, |state| *state == JobState::Done).await;
}

/// At the first stage, and by itself.
async fn until_begun(system: &System, id: DeletionId) {
    let begun = |state: &JobState| !matches!(state, JobState::Scheduled { .. } | JobState::Held { .. });
    system.until_job(id, Stage::Announce, begun).await;
}

/// Not one step of its stage is done. What it would exceed.
async fn until_frozen(system: &System, id: DeletionId, stage: Stage) -> Exceeded {
    let job = system.until_job(id, stage, frozen).await;
    assert_eq!(job.cursor, 0, "not one step");
    exceeded(job)
}

async fn delete_now(system: &System, id: &ResourceId) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(id.clone(), now).await
}

/// The batch that waits before this stage is let go.
async fn approve_before(system: &System, stage: Stage) {
    let batches = system.ledger.batches().await.unwrap();
    let row = batches.iter().find(|row| row.group.stage == stage).unwrap_or_else(|| panic!("{batches:?}"));
    let digest = system.ledger.batch(row.batch).await.unwrap().unwrap().digest();
    assert_eq!(system.engine.approve(approval(row.batch, digest, "boss")).await.unwrap(), Ok(1));
}

/// By the same plan, of two kinds: what has begun of one takes nothing from the other.
#[tokio::test(flavor = "multi_thread")]
async fn each_kind_has_a_number_of_its_own() {
    let mut system = System::start_in_calendar_days(policy("a_day = 1\nstages = [\"announce\"]")).await;
    until_begun(&system, system.delete().await).await;
    system.plan = Arc::new(Plan { kind: "machine".parse().unwrap(), ..Plan::clone(&system.plan) });
    let [first, second] = ["machine/box01", "machine/box02"].map(|id| id.parse::<ResourceId>().unwrap());
    for id in [&first, &second] {
        system.register_named(id, false).await;
    }
    until_begun(&system, delete_now(&system, &first).await).await;
    let id = delete_now(&system, &second).await;
    let why = until_frozen(&system, id, Stage::Announce).await;
    assert_eq!((why.members, why.used, why.limit.most), (1, 1, 1), "{why}");
    system.two_beacons().await;
    until_frozen(&system, id, Stage::Announce).await;
    approve_before(&system, Stage::Announce).await;
    until_begun(&system, id).await;
}

/// What begins one stage takes nothing from the next, and is frozen before each of them.
#[tokio::test(flavor = "multi_thread")]
async fn each_stage_has_a_number_of_its_own() {
    let numbers = policy("a_day = 1\nstages = [\"announce\", \"hard\"]");
    let system = System::start_in_calendar_days(numbers).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.build(&other);
    system.register_named(&other, false).await;
    let first = system.delete().await;
    system.until_over(first, RecordStatus::Recycled).await;
    let id = delete_now(&system, &other).await;
    for stage in [Stage::Announce, Stage::Hard] {
        let why = until_frozen(&system, id, stage).await;
        assert_eq!((why.members, why.used, why.limit.most), (1, 1, 1), "{stage}: {why}");
        system.two_beacons().await;
        until_frozen(&system, id, stage).await;
        approve_before(&system, stage).await;
    }
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Of no scope are they too many.
#[tokio::test(flavor = "multi_thread")]
async fn all_scopes_together_have_a_number() {
    let numbers = policy("a_day = 5\neverywhere = 2\nstages = [\"announce\"]");
    let system = System::start_in_calendar_days(numbers).await;
    let [first, second, third] = ["t1", "t2", "t3"].map(|tenant| {
        let id: ResourceId = format!("vm/{tenant}-web").parse().unwrap();
        (format!("tenants/{tenant}"), id)
    });
    for (scope, id) in [&first, &second, &third] {
        system.register_in(scope, id, false).await;
    }
    for (_, id) in [&first, &second] {
        until_begun(&system, delete_now(&system, id).await).await;
    }
    let id = delete_now(&system, &third.1).await;
    let why = until_frozen(&system, id, Stage::Announce).await;
    assert_eq!((why.members, why.used, why.limit.most), (1, 2, 2), "{why}");
    assert_eq!(why.limit.counted, Counted::Everywhere, "{why}");
    system.two_beacons().await;
    until_frozen(&system, id, Stage::Announce).await;
    approve_before(&system, Stage::Announce).await;
    until_begun(&system, id).await;
}

/// 30 % of four are two, since a part of one counts as one; of three it would be one.
#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_of_those_that_were_there_before_any_of_them_went() {
    let [keeper, web02, web03] =
        ["vm/keeper", "vm/web02", "vm/web03"].map(|id| id.parse::<ResourceId>().unwrap());
    let budgets = policy("a_day = 5\npercent = 30\nstages = [\"announce\"]");
    let system = System::start_in_calendar_days(counting(budgets, keeper.clone())).await;
    for id in [&keeper, &web02, &web03] {
        system.register_named(id, false).await;
    }
    let delete = async |id: &ResourceId| {
        let now = system.ledger.facts().await.unwrap().now;
        system.delete_named(id.clone(), now).await
    };
    let first = delete(&web01()).await;
    let why = exceeded(system.until_job(first, Stage::Announce, frozen).await);
    assert!(why.limit.uncounted, "{why}");
    let all = [keeper.clone(), web01(), web02.clone(), web03.clone()];
    assert_eq!(system.hand_in(&all, 4).await.unwrap().paused, None);
    system.until_over(first, RecordStatus::Recycled).await;

    // It is gone, and a census says so. The share stays.
    let left = [keeper, web02.clone(), web03.clone()];
    assert_eq!(system.hand_in(&left, 3).await.unwrap().paused, None);
    let second = delete(&web02).await;
    let begun = |state: &JobState| !matches!(state, JobState::Scheduled { .. } | JobState::Held { .. });
    system.until_job(second, Stage::Announce, begun).await;
    let third = delete(&web03).await;
    let job = system.until_job(third, Stage::Announce, frozen).await;
    assert_eq!(job.cursor, 0, "not one step");
    let why = exceeded(job);
    assert_eq!((why.members, why.used, why.limit.most), (1, 2, 2), "{why}");
}

/// Announcing is not counted here: nothing but the approval stands between the crowd and its begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_lifted_for_exactly_the_crowd_that_somebody_looked_at() {
    let system = System::start_in_calendar_days(policy("a_day = 1\nstages = [\"recycle\"]")).await;
    let before = system.world();
    let pause = system.ledger.pause(PauseSelector::default(), &ops(), "look").await.unwrap().pause.id;
    let paused = |state: &JobState| matches!(state, JobState::Held { by: Blocker::Pause { .. }, .. });
    let digest = async || Stopped::digest(&system.ledger.stopped_by(pause).await.unwrap()).unwrap();
    let lift = async |by: &str, approved: Option<&str>| {
        system.ledger.resume(pause, &by.parse().unwrap(), approved).await.unwrap()
    };
    let ids = two(&system).await;
    for id in ids {
        system.until_job(id, Stage::Announce, paused).await;
    }
    let seen = digest().await;
    let refused = lift("boss", None).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::NeedsApproval { members: 2, .. })), "{refused}");
    let third = "vm/web03".parse().unwrap();
    system.register_named(&third, false).await;
    let third = system.delete_named(third, system.ledger.facts().await.unwrap().now).await;
    system.until_job(third, Stage::Announce, paused).await;
    let refused = lift("boss", Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::OtherSet { members: 3, .. })), "{refused}");
    let seen = digest().await;
    let refused = lift(ops().as_str(), Some(&seen)).await.unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::Requested { .. })), "{refused}");
    system.two_beacons().await;
    assert_eq!(system.world(), before);
    for id in ids {
        assert_eq!(system.until_job(id, Stage::Announce, paused).await.cursor, 0, "not one step");
    }
    assert_eq!(lift("boss", Some(&seen)).await, Ok(true));
    system.until_over(ids[0], RecordStatus::Recycled).await;
}

/// Of two that no budget lets begin, one may pass it, and waits again before the next stage that is counted.
#[tokio::test(flavor = "multi_thread")]
async fn an_override_lets_one_stage_of_one_deletion_begin_beside_the_budget() {
    let none = policy("a_day = 0\nstages = [\"announce\", \"hard\"]");
    let system = System::start_in_calendar_days(none).await;
    let [passes, waits] = two(&system).await;
    for id in [passes, waits] {
        system.until_job(id, Stage::Announce, frozen).await;
    }
    system.let_pass(passes, Stage::Announce, Passable::Budget).await;
    let hard = system.until_job(passes, Stage::Hard, frozen).await;
    system.until_answered(passes, "boss overrode the budget (1): it has to be tonight").await;
    system.two_beacons().await;
    assert_eq!(system.job(passes, JobKind::Stage(Stage::Hard)).await, hard, "once");
    let job = system.until_job(waits, Stage::Announce, frozen).await;
    assert_eq!(job.cursor, 0, "not one step");
    let batches = system.ledger.batches().await.unwrap();
    let waiting: Vec<(Stage, u64)> = batches.iter().map(|row| (row.group.stage, row.waiting)).collect();
    assert_eq!(waiting, [(Stage::Announce, 1), (Stage::Hard, 1)]);
}
