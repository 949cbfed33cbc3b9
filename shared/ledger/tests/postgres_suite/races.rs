//! What many coordinators at once must not be able to do to each other.
mod signing;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{DeletionFilter, Dispatch, DueReader, Intent, Ledger, NotDone, Stopped};
use sexton_model::belts::PauseSelector;
use sexton_model::belts::budget::{CannotResume, Written};
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Stage, StateName};
use sexton_model::{DeletionId, Fence, JobId, Timestamp};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

use crate::conformance::stage::{self, Stagehand, actor, job_id, right_answer};
use crate::database::Database;

/// A handle of its own for each task, as if each were a process.
pub(super) async fn handles(database: &Database, count: usize) -> (Vec<Arc<PgLedger>>, Stagehand) {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(database.open(stage::options()).await.unwrap());
    }
    let hand = Stagehand { ledger: all[0].clone(), plan: stage::plan() };
    let instances = ["hypervisor.main", "ipam.main", "dns.main", "notifier.main"].map(stage::alive);
    hand.ledger.pulse(instances.to_vec()).await.unwrap();
    (all, hand)
}

async fn records(hand: &Stagehand, count: usize) -> Vec<DeletionId> {
    let names: Vec<String> = (0..count).map(|n| format!("vm{n}")).collect();
    let resources: Vec<_> = names.iter().map(|n| stage::resource(n, n)).collect();
    let ids: Vec<_> = resources.iter().map(|r| r.id.clone()).collect();
    assert!(hand.ledger.register(resources, &actor("ops"), true).await.unwrap().iter().all(Result::is_ok));
    let mut wanted = Vec::new();
    for id in &ids {
        wanted.push(hand.wanted(id).await);
    }
    hand.ledger.create(wanted).await.unwrap().into_iter().map(Result::unwrap).collect()
}

fn answer(order: &Dispatch) -> Intent {
    let event = Event::Outcome {
        job: order.spec.job,
        from: order.spec.instance.clone(),
        fence: order.spec.fence,
        outcome: right_answer(order),
    };
    Intent { deletion: order.spec.job.deletion(), event }
}

/// Eight coordinators hear of everything, in different orders and all of it eight times.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_claim_and_settle_the_same_and_each_step_is_settled_once() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 8).await;
    let ids = records(&hand, 200).await;
    let orders = Arc::new(tokio::sync::Mutex::new(HashMap::<JobId, Dispatch>::new()));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for (place, ledger) in ledgers.into_iter().enumerate() {
        let (ids, orders, over) = (ids.clone(), orders.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            let mut fences = HashSet::new();
            while !over.load(Ordering::SeqCst) {
                let mut batch: Vec<Intent> = ledger.due(200).await.unwrap().into_iter().map(claim).collect();
                batch.extend(orders.lock().await.values().map(answer));
                let turn = place * 31 % batch.len().max(1);
                batch.rotate_left(turn);
                batch.truncate(97);
                for decided in ledger.run(batch).await.unwrap().into_iter().flatten() {
                    let mut orders = orders.lock().await;
                    if let Some(order) = decided.dispatch {
                        assert!(fences.insert(order.spec.fence), "two orders under one fence");
                        let newer =
                            orders.get(&order.spec.job).is_none_or(|o| o.spec.fence < order.spec.fence);
                        if newer {
                            orders.insert(order.spec.job, order);
                        }
                    }
                    if decided.status == RecordStatus::Recycled {
                        orders.retain(|job, _| job.deletion() != decided.deletion);
                    }
                }
                let mut db_done = true;
                for id in &ids {
                    db_done &= ledger.deletion(*id).await.unwrap().unwrap().deletion.status
                        == RecordStatus::Recycled;
                    if !db_done {
                        break;
                    }
                }
                if db_done {
                    over.store(true, Ordering::SeqCst);
                }
            }
            fences
        }));
    }
    let mut fences: HashSet<Fence> = HashSet::new();
    for task in tasks {
        for fence in task.await.unwrap() {
            assert!(fences.insert(fence), "{fence} was given to two coordinators");
        }
    }
    assert_eq!(fences.len(), ids.len() * stage::WHOLE_LIFE.len(), "every step was ordered exactly once");
    for id in ids {
        assert_eq!(hand.ledger.verify_chain(id).await.unwrap(), Ok(()));
    }
    drop(hand);
    assert_eq!(database.deadlocks().await, 0, "one order of locking, so nobody waits in a circle");
}

pub(super) fn claim(job: JobId) -> Intent {
    Intent { deletion: job.deletion(), event: Event::Claim { job } }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cancel_and_the_claim_of_hard_never_both_win() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let ids = records(&hand, 40).await;
    let mut won = [0, 0];
    for (round, id) in ids.into_iter().enumerate() {
        hand.play_to(id, |name, _| name == "dns.withdraw").await.unwrap();
        // Answer the last orders of soft, so that hard is due.
        for _ in 0..2 {
            let out = hand.view(id).await;
            let job = out.deletion.locking_job().unwrap().clone();
            let fence = job.state.out().unwrap().fence;
            let outcome = sexton_model::step::Outcome::Done {
                presence: sexton_model::step::Presence::Present,
                evidence: "seen".into(),
                finding: Some(serde_json::json!({})),
            };
            let from = stage::instance("dns.main");
            hand.one(id, Event::Outcome { job: job.id, from, fence, outcome }).await.unwrap();
        }
        let hard = hand.job(id, sexton_model::job::JobKind::Stage(Stage::Hard)).await;
        if let sexton_model::job::JobState::Scheduled { due_at: Some(at) } = hard.state {
            hand.until(at).await;
        }
        let claim = Event::Claim { job: job_id(id, Stage::Hard) };
        let cancel = Event::Cancel { by: actor("owner"), reason: "still needed".into() };
        let one = |ledger: usize, event: Event| {
            let (ledger, id) = (ledgers[ledger].clone(), id);
            async move { ledger.run(vec![Intent { deletion: id, event }]).await.unwrap().remove(0) }
        };
        // In the first two rounds one goes clearly first, so that each wins at least once.
        let (claim, cancel) = match round {
            0 => {
                let claim = one(0, claim).await;
                (claim, one(1, cancel).await)
            }
            1 => {
                let cancel = one(1, cancel).await;
                (one(0, claim).await, cancel)
            }
            _ => {
                let barrier = Arc::new(Barrier::new(2));
                let tasks = [(0, claim), (1, cancel)].map(|(ledger, event)| {
                    let (barrier, run) = (barrier.clone(), one(ledger, event));
                    tokio::spawn(async move {
                        barrier.wait().await;
                        run.await
                    })
                });
                let [claim, cancel] = tasks;
                (claim.await.unwrap(), cancel.await.unwrap())
            }
        };
        let view = hand.view(id).await;
        match (&claim, &cancel) {
            (Ok(_), Err(NotDone::Refused(Refusal::TooLate { .. }))) => {
                won[0] += 1;
                assert_eq!(view.deletion.status, RecordStatus::Live);
                assert_eq!(view.deletion.stage_job(Stage::Hard).unwrap().state.name(), StateName::Running);
            }
            (Err(NotDone::Refused(_)), Ok(_)) => {
                won[1] += 1;
                assert_eq!(view.deletion.status, RecordStatus::Restoring);
                assert_eq!(view.deletion.stage_job(Stage::Hard).unwrap().state.name(), StateName::Cancelled);
            }
            both => panic!("not exactly one won: {both:?}"),
        }
        assert_eq!(hand.ledger.verify_chain(id).await.unwrap(), Ok(()));
    }
    println!("the claim won {} times, the cancel {} times", won[0], won[1]);
    assert!(won.iter().all(|times| *times > 0), "one of them never won: {won:?}");
    drop((ledgers, hand));
    assert_eq!(database.deadlocks().await, 0);
}

/// Claimers, each with a part of the jobs, that begin with `barrier`: how many claims that began after `stopped` was set
/// were given an order, and all orders.
fn claimers(
    ledgers: &[Arc<PgLedger>],
    jobs: &[JobId],
    stopped: &Arc<AtomicBool>,
    barrier: &Arc<Barrier>,
) -> Vec<JoinHandle<(u32, Vec<Dispatch>)>> {
    let parts = jobs.chunks(jobs.len() / ledgers.len()).map(<[JobId]>::to_vec);
    let claimer = |(ledger, jobs): (Arc<PgLedger>, Vec<JobId>)| {
        let (stopped, barrier) = (stopped.clone(), barrier.clone());
        tokio::spawn(async move {
            barrier.wait().await;
            let mut late = 0;
            let mut given = Vec::new();
            for job in jobs {
                let begun_after = stopped.load(Ordering::SeqCst);
                let decided = ledger.run(vec![claim(job)]).await.unwrap().remove(0);
                if let Some(order) = decided.ok().and_then(|d| d.dispatch) {
                    late += u32::from(begun_after);
                    given.push(order);
                }
            }
            (late, given)
        })
    };
    ledgers.iter().cloned().zip(parts).map(claimer).collect()
}

/// What other processes remember of ceilings does not outlive a lower one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_ceiling_was_lowered_nothing_above_it_is_dispatched() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 5).await;
    for round in 0..6 {
        let mut jobs = Vec::new();
        for n in 0..60 {
            jobs.push(job_id(hand.doomed(&format!("r{round}-{n}")).await, Stage::Announce));
        }
        let (lowered, barrier) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(5)));
        let tasks = claimers(&ledgers[1..], &jobs, &lowered, &barrier);
        barrier.wait().await;
        hand.ceiling(Some("tenants"), Some(Ceiling::Observe)).await.unwrap();
        let out = hand.ledger.health().await.unwrap().instances[&stage::instance("hypervisor.main")].1;
        lowered.store(true, Ordering::SeqCst);
        let mut all = 0;
        for task in tasks {
            let (late, given) = task.await.unwrap();
            assert_eq!(late, 0, "dispatched after the ceiling was lowered");
            all += given.len() as u64;
        }
        assert_eq!(out, all, "what was under way came before it");
        for ceiling in [Ceiling::Announce, Ceiling::Soft, Ceiling::Hard, Ceiling::Purge] {
            hand.ceiling(Some("tenants"), Some(ceiling)).await.unwrap();
        }
        for id in jobs.iter().map(|job| job.deletion()) {
            let event = Event::Cancel { by: actor("ops"), reason: "the round is over".into() };
            hand.one(id, event).await.unwrap();
        }
        finish(&hand).await;
    }
    drop((ledgers, hand));
    assert_eq!(database.deadlocks().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn after_a_pause_returned_nothing_is_dispatched_for_what_it_covers() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 5).await;
    for round in 0..6 {
        let names: Vec<String> = (0..60).map(|n| format!("r{round}-{n}")).collect();
        let mut jobs = Vec::new();
        for name in &names {
            jobs.push(job_id(hand.doomed(name).await, Stage::Announce));
        }
        let (paused, barrier) = (Arc::new(AtomicBool::new(false)), Arc::new(Barrier::new(5)));
        let tasks = claimers(&ledgers[1..], &jobs, &paused, &barrier);
        barrier.wait().await;
        let all = PauseSelector::default();
        let held = hand.ledger.pause(all, &actor("ops"), "look first").await.unwrap();
        paused.store(true, Ordering::SeqCst);
        let mut before = 0;
        for task in tasks {
            let (late, given) = task.await.unwrap();
            assert_eq!(late, 0, "dispatched after the pause had returned");
            assert!(given.iter().all(|order| order.revision < revision_of(round)), "under the new revision");
            before += given.len() as u64;
        }
        assert_eq!(held.orders_out, before, "what is out was counted before the pause returned");
        assert!(hand.ledger.resume(held.pause.id, &actor("ops"), None).await.unwrap().unwrap());
        let health = hand.ledger.health().await.unwrap();
        assert_eq!(health.jobs.get(&StateName::Held), None, "everything was looked at again");
        for id in jobs.iter().map(|job| job.deletion()) {
            let event = Event::Cancel { by: actor("ops"), reason: "the round is over".into() };
            hand.one(id, event).await.unwrap();
        }
        finish(&hand).await;
    }
    drop((ledgers, hand));
    assert_eq!(database.deadlocks().await, 0);
}

/// What another coordinator has decided and not committed yet when a pause is lifted is one of those that somebody approves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_another_coordinator_holds_meanwhile_is_seen_before_a_pause_is_lifted() {
    let database = Database::new().await;
    let written: Written = toml::from_str("a_day = 1\nstages = [\"recycle\"]").unwrap();
    let mut options = stage::options();
    options.policy.budgets = Some(written.budgets().unwrap());
    let hand = Stagehand { ledger: database.open(options).await.unwrap(), plan: stage::plan() };
    hand.ledger.pulse(vec![stage::alive("hypervisor.main")]).await.unwrap();
    let pause = hand.ledger.pause(PauseSelector::default(), &actor("ops"), "look").await.unwrap().pause.id;
    let ids = records(&hand, 3).await;
    for id in &ids[..2] {
        assert!(hand.claim(*id, Stage::Announce).await.unwrap().dispatch.is_none());
    }
    let seen = Stopped::digest(&hand.ledger.stopped_by(pause).await.unwrap()).unwrap();
    // The gate and the job, as the other one has them until it commits.
    let mut other = database.raw().await;
    sqlx::raw_sql("BEGIN; SELECT pg_advisory_xact_lock_shared(x'534558544f4e'::bigint)")
        .execute(&mut other)
        .await
        .unwrap();
    let hold = "UPDATE jobs SET state = 1, held = true, queued = false, wants = NULL, \
                reason = (SELECT reason FROM jobs WHERE id = $2) WHERE id = $1";
    let [first, last] = [ids[0], ids[2]].map(|id| job_id(id, Stage::Announce).0);
    let held = sqlx::query(hold).bind(last).bind(first).execute(&mut other).await.unwrap();
    assert_eq!(held.rows_affected(), 1);
    let (ledger, approved) = (hand.ledger.clone(), seen.clone());
    let lifting =
        tokio::spawn(async move { ledger.resume(pause, &actor("boss"), Some(&approved)).await.unwrap() });
    let mut db = database.raw().await;
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory' \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    while !lifting.is_finished() && sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut db).await.unwrap() == 0
    {
        tokio::task::yield_now().await;
    }
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    let refused = lifting.await.unwrap().unwrap_err();
    assert!(matches!(refused, NotDone::Resume(CannotResume::OtherSet { members: 3, .. })), "{refused}");
    assert_eq!(hand.ledger.pauses().await.unwrap().len(), 1, "it is in force");
}

/// Whoever protects a resource is told so only when nothing that did not see it is still to be claimed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_claim_that_did_not_see_the_protection_came_before_it() {
    let database = Database::new().await;
    let (ledgers, hand) = handles(&database, 2).await;
    let mut db = database.raw().await;
    let mut won = [0, 0];
    for round in 0..60 {
        let name = format!("vm{round}");
        let id = hand.doomed(&name).await;
        let mut resource = stage::resource(&name, &format!("uuid-of-{name}"));
        resource.protected = true;
        let barrier = Arc::new(Barrier::new(2));
        let (ledger, waits) = (ledgers[1].clone(), barrier.clone());
        let protecting = tokio::spawn(async move {
            waits.wait().await;
            ledger.register(vec![resource], &actor("ops"), true).await.unwrap().remove(0).unwrap();
        });
        barrier.wait().await;
        let claimed = hand.one(id, Event::Claim { job: job_id(id, Stage::Announce) }).await.unwrap();
        protecting.await.unwrap();
        let sql = "SELECT body FROM ledger_audit WHERE chain = $1 ORDER BY seq DESC LIMIT 1";
        let body: String =
            sqlx::query_scalar(sql).bind(format!("vm/{name}")).fetch_one(&mut db).await.unwrap();
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["body"]["protected"], true);
        let protected_at: Timestamp = serde_json::from_value(body["at"].clone()).unwrap();
        let dispatched = claimed.dispatch.is_some();
        won[usize::from(!dispatched)] += 1;
        assert_eq!(dispatched, claimed.at < protected_at, "{:?} {protected_at:?}", claimed.at);
    }
    println!("the claim won {} times, the protection {} times", won[0], won[1]);
}

/// The revision that the pause of this round begins.
fn revision_of(round: i64) -> i64 {
    round + 1
}

/// Wait until no order is out.
async fn finish(hand: &Stagehand) {
    loop {
        let health = hand.ledger.health().await.unwrap();
        if health.instances.values().all(|(_, out)| *out == 0) {
            return;
        }
        let filter =
            DeletionFilter { state: Some(StateName::Cancelling), limit: 1000, ..DeletionFilter::default() };
        for row in hand.ledger.deletions(&filter).await.unwrap().items {
            let view = hand.view(row.id).await;
            let job = view.deletion.locking_job().unwrap().clone();
            let Some(out) = job.state.out() else { continue };
            let event = Event::Outcome {
                job: job.id,
                from: view.deletion.wants(&job).unwrap(),
                fence: out.fence,
                outcome: sexton_model::step::Outcome::failed("stopped"),
            };
            hand.one(row.id, event).await.unwrap();
        }
    }
}

/// Each coordinator admits one of another scope, all at once: together they may be five, and no more are.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_admit_at_once_make_one_decision() {
    let database = Database::new().await;
    let written: Written = toml::from_str("a_day = 5\neverywhere = 5").unwrap();
    let mut options = stage::options();
    options.policy.budgets = Some(written.budgets().unwrap());
    let mut ledgers = Vec::new();
    for _ in 0..8 {
        ledgers.push(database.open(options.clone()).await.unwrap());
    }
    let hand = Stagehand { ledger: ledgers[0].clone(), plan: stage::plan() };
    for round in 0..10 {
        let mut ids = Vec::new();
        for n in 0..ledgers.len() {
            let mut resource = stage::resource(&format!("vm{round}-{n}"), &format!("{round}-{n}"));
            resource.scope = format!("tenants/t{round}-{n}").parse().unwrap();
            let id = resource.id.clone();
            assert_eq!(hand.ledger.register(vec![resource], &actor("ops"), true).await.unwrap(), [Ok(())]);
            let wanted = hand.wanted(&id).await;
            ids.push(hand.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap());
        }
        hand.until(hand.now().await.plus_ms(5)).await;
        let barrier = Arc::new(Barrier::new(ledgers.len()));
        let tasks: Vec<JoinHandle<usize>> = ledgers
            .iter()
            .zip(&ids)
            .map(|(ledger, id)| {
                let (ledger, barrier, job) = (ledger.clone(), barrier.clone(), job_id(*id, Stage::Announce));
                tokio::spawn(async move {
                    barrier.wait().await;
                    ledger.admit(vec![job]).await.unwrap().frozen.len()
                })
            })
            .collect();
        let mut frozen = 0;
        for task in tasks {
            frozen += task.await.unwrap();
        }
        assert_eq!(frozen, ledgers.len() - 5, "in round {round}");
        let mut db = database.raw().await;
        sqlx::raw_sql("DELETE FROM admitted; DELETE FROM batch_members; UPDATE batches SET waits = false")
            .execute(&mut db)
            .await
            .unwrap();
    }
}
