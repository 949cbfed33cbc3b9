//! Restoring many at once: all of them in parallel, and in the order of their priority where there is not credit enough.
use std::time::Instant;

use sexton_ledger::{Alive, Dispatch, Intent, Ledger, Limits, NotDone, Options};
use sexton_model::DeletionId;
use sexton_model::decide::{Event, Lane};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, alive, instance, job_id, options, resource, right_answer};

fn with_restore_credit(restore_credit: u32) -> Options {
    Options { limits: Limits { restore_credit, ..options().limits }, ..options() }
}

/// Records whose soft stage is over: made, claimed and answered together.
async fn switched_off(on: &Stagehand, count: usize) -> Vec<DeletionId> {
    let copies = ["a", "b", "c", "d"].map(|copy| Alive { copy: copy.into(), ..alive("hypervisor.main") });
    on.ledger.pulse(copies.to_vec()).await.unwrap();
    let resources: Vec<_> =
        (0..count).map(|n| resource(&format!("vm{n:04}"), &format!("uuid-{n}"))).collect();
    let mut wanted = Vec::with_capacity(count);
    for resource in &resources {
        wanted.push(on.wanted(&resource.id).await);
    }
    let registered = on.ledger.register(resources, &actor("ops"), true).await.unwrap();
    assert!(registered.iter().all(Result::is_ok));
    let made = on.ledger.create(wanted).await.unwrap();
    let ids: Vec<DeletionId> = made.into_iter().map(Result::unwrap).collect();
    for stage in [Stage::Announce, Stage::Soft] {
        let last = on.job(*ids.last().unwrap(), JobKind::Stage(stage)).await;
        if let JobState::Scheduled { due_at: Some(due_at) } = last.state {
            on.until(due_at.plus_ms(1)).await;
        }
        let claim =
            |id: &DeletionId| Intent { deletion: *id, event: Event::Claim { job: job_id(*id, stage) } };
        let orders = orders(&*on.ledger, ids.iter().map(claim).collect()).await;
        assert_eq!(orders.len(), count, "{stage}");
        let mut orders = orders;
        while !orders.is_empty() {
            orders = answered(&*on.ledger, &orders).await;
        }
    }
    assert_eq!(on.state(ids[0], Stage::Soft).await, StateName::Done);
    ids
}

async fn orders(ledger: &dyn Ledger, batch: Vec<Intent>) -> Vec<Dispatch> {
    let decided = ledger.run(batch).await.unwrap();
    decided.into_iter().filter_map(|decided| decided.unwrap().dispatch).collect()
}

async fn answered(ledger: &dyn Ledger, out: &[Dispatch]) -> Vec<Dispatch> {
    let answer = |order: &Dispatch| Intent {
        deletion: order.spec.job.deletion(),
        event: Event::Outcome {
            job: order.spec.job,
            from: order.spec.instance.clone(),
            fence: order.spec.fence,
            outcome: right_answer(order),
        },
    };
    orders(ledger, out.iter().map(answer).collect()).await
}

fn all(ids: &[DeletionId], event: impl Fn(DeletionId) -> Event) -> Vec<Intent> {
    ids.iter().map(|id| Intent { deletion: *id, event: event(*id) }).collect()
}

/// The restores of these that wait for a moment, and the last of those moments, which has then passed.
async fn due_restores(on: &Stagehand, ids: &[DeletionId]) -> Vec<Intent> {
    let mut waiting = Vec::new();
    let mut last = None;
    for id in ids {
        let view = on.view(*id).await;
        let restore = view.deletion.jobs.iter().find(|job| job.kind == JobKind::Restore);
        if let Some(JobState::Waiting { until, .. }) = restore.map(|job| &job.state) {
            last = last.max(Some(*until));
            waiting.push(*id);
        }
    }
    if let Some(last) = last {
        on.until(last).await;
    }
    all(&waiting, |id| Event::Proceed { job: sexton_model::JobId::of(id, JobKind::RESTORE_SLOT) })
}

/// A thousand machines, with the credit that nobody configured: each has a lock of its own, all orders are out at once, and
/// none waits for another.
pub async fn a_thousand_are_restored_in_parallel(fixture: &dyn Fixture) {
    const COUNT: usize = 1000;
    let on = Stagehand::new(fixture).await;
    let ids = switched_off(&on, COUNT).await;
    let locks = "SELECT count(*) FROM jobs WHERE locks";
    assert_eq!(fixture.count(locks).await, 0);
    let within = on.ledger.live_within(&"tenants".parse().unwrap()).await.unwrap();
    assert_eq!(within.iter().map(|one| one.deletion).collect::<Vec<_>>(), ids);

    let begun = Instant::now();
    let decided = on.ledger.run(all(&ids, |_| cancel())).await.unwrap();
    let cancelled = begun.elapsed();
    assert!(decided.iter().all(|one| one.as_ref().unwrap().status == RecordStatus::Restoring));
    assert_eq!(fixture.count(locks).await, i64::try_from(COUNT).unwrap(), "one lock each");
    let at_once: Vec<Dispatch> = decided.into_iter().filter_map(|one| one.unwrap().dispatch).collect();
    let waiting = due_restores(&on, &ids).await;
    assert_eq!(at_once.len() + waiting.len(), COUNT);
    let begun = Instant::now();
    let mut out = at_once;
    out.extend(orders(&*on.ledger, waiting).await);
    let ordered = begun.elapsed();
    assert_eq!(out.len(), COUNT, "all of them are out, and none waits for another");
    assert_eq!(
        fixture.count("SELECT count(*) FROM jobs WHERE state = 3").await,
        i64::try_from(COUNT).unwrap()
    );

    // Once more, in the middle of it: each says that it is on its way.
    let again = on.ledger.run(all(&ids, |_| cancel())).await.unwrap();
    let on_its_way = NotDone::Refused(sexton_model::decide::Refusal::NotLive(RecordStatus::Restoring));
    assert!(again.iter().all(|one| one.as_ref().unwrap_err() == &on_its_way));
    let begun = Instant::now();
    let mut rounds = 0;
    while !on.ledger.live_within(&"tenants/acme".parse().unwrap()).await.unwrap().is_empty() {
        while !out.is_empty() {
            out = answered(&*on.ledger, &out).await;
            rounds += 1;
        }
        let waiting = due_restores(&on, &ids).await;
        out = orders(&*on.ledger, waiting).await;
    }
    println!(
        "{COUNT} restores: cancelled in {cancelled:?}, ordered in {ordered:?}, over after {rounds} rounds and {:?}",
        begun.elapsed()
    );
    for id in ids {
        assert_eq!(on.status(id).await, RecordStatus::Cancelled);
    }
    assert_eq!(fixture.count(locks).await, 0);
}

/// Where there is not credit for all, the lower priority goes first, as it is when credit comes free.
pub async fn who_waits_for_credit_is_restored_by_priority(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, with_restore_credit(1)).await;
    let ids = switched_off(&on, 6).await;
    let name = |n: usize| format!("vm/vm{n:04}").parse::<sexton_model::ResourceId>().unwrap();
    let prioritize = async |n: usize, priority: i16| {
        on.ledger.prioritize(&name(n), priority, &actor("ops")).await.unwrap()
    };
    assert_eq!(prioritize(4, -7).await, Ok(()));
    assert_eq!(prioritize(2, 900).await, Ok(()));
    let order: Vec<_> = on.ledger.live_within(&"tenants".parse().unwrap()).await.unwrap();
    let order: Vec<_> = order.into_iter().map(|one| (one.deletion, one.priority)).collect();
    let wanted = [(4, -7), (0, 100), (1, 100), (3, 100), (5, 100), (2, 900)];
    assert_eq!(order, wanted.map(|(n, priority)| (ids[n], priority)));

    let _ = on.ledger.run(all(&ids, |_| cancel())).await.unwrap();
    let waiting = due_restores(&on, &ids).await;
    let first = orders(&*on.ledger, waiting).await;
    assert_eq!(first.len(), 1, "credit for one");
    let in_line = async || {
        let found = on.ledger.next_for(Some(&instance("dns.main")), Lane::Restores, 10).await.unwrap();
        found.into_iter().map(|job| job.deletion()).filter(|id| *id != ids[0]).collect::<Vec<_>>()
    };
    assert_eq!(first[0].spec.job.deletion(), ids[0]);
    assert_eq!(in_line().await, [4, 1, 3, 5, 2].map(|n| ids[n]));
    assert_eq!(on.ledger.due(10).await.unwrap(), [], "the scheduler wakes nobody out of turn");
    // While they wait.
    assert_eq!(prioritize(5, -100).await, Ok(()));
    assert_eq!(prioritize(4, 200).await, Ok(()));
    assert_eq!(in_line().await, [5, 1, 3, 4, 2].map(|n| ids[n]));
    let one = on.ledger.next_for(Some(&instance("dns.main")), Lane::Restores, 1).await.unwrap();
    assert_eq!(one.len(), 1);
    // Nothing else of the resource has changed, its chain tells of it, and the same once more is no event.
    let before = on.ledger.resource(&name(5)).await.unwrap().unwrap();
    assert_eq!((before.resource.priority, before.resource.identity.attributes().count()), (-100, 1));
    let events = "SELECT count(*) FROM ledger_audit WHERE chain = 'vm/vm0005'";
    assert_eq!(fixture.count(events).await, 2);
    assert_eq!(prioritize(5, -100).await, Ok(()));
    assert_eq!(fixture.count(events).await, 2);
    assert_eq!(on.ledger.verify_chains(None, 1000).await.unwrap().broken, []);
    assert_eq!(prioritize(77, 1).await, Err(NotDone::NotRegistered(name(77))));
}

/// Soon after soft all of them wait until no order of it can be carried out any more. Of those for whom that is over at one
/// look the lower priority goes first, whoever has waited for longer.
pub async fn whose_wait_is_over_together_is_restored_by_priority(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, with_restore_credit(1)).await;
    let ids = switched_off(&on, 4).await;
    let _ = on.ledger.run(all(&ids, |_| cancel())).await.unwrap();
    for (n, priority) in [(0, 900), (2, -7)] {
        let name = format!("vm/vm{n:04}").parse().unwrap();
        assert_eq!(on.ledger.prioritize(&name, priority, &actor("ops")).await.unwrap(), Ok(()));
    }
    assert_eq!(due_restores(&on, &ids).await.len(), ids.len(), "all of them have waited");
    let woken = on.ledger.to_wake(64).await.unwrap();
    let order: Vec<DeletionId> = woken.iter().map(|intent| intent.deletion).collect();
    assert_eq!(order, [2, 1, 3, 0].map(|n| ids[n]));
    let first = orders(&*on.ledger, woken).await;
    assert_eq!(first.iter().map(|order| order.spec.job.deletion()).collect::<Vec<_>>(), [ids[2]]);
    let in_line = on.ledger.next_for(Some(&instance("dns.main")), Lane::Restores, 10).await.unwrap();
    assert_eq!(in_line.into_iter().map(|job| job.deletion()).collect::<Vec<_>>(), [1, 3, 0].map(|n| ids[n]));
}

pub async fn a_scope_ends_where_another_begins(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut ids = Vec::new();
    for (name, scope) in
        [("a", "tenants/acme"), ("b", "tenants/acme/web"), ("c", "tenants/acme-two"), ("d", "tenants")]
    {
        let mut resource = resource(name, name);
        resource.scope = scope.parse().unwrap();
        let id = resource.id.clone();
        assert_eq!(on.ledger.register(vec![resource], &actor("ops"), true).await.unwrap(), [Ok(())]);
        let wanted = on.wanted(&id).await;
        ids.push(on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap());
    }
    let within = async |scope: &str| {
        let found = on.ledger.live_within(&scope.parse().unwrap()).await.unwrap();
        found.into_iter().map(|one| one.deletion).collect::<Vec<_>>()
    };
    assert_eq!(within("tenants/acme").await, ids[..2]);
    assert_eq!(within("tenants").await, ids);
    assert_eq!(within("tenants/acme/web").await, ids[1..2]);
    assert_eq!(within("elsewhere").await, []);
    // What is over is left out.
    on.one(ids[0], cancel()).await.unwrap();
    assert_eq!(within("tenants/acme").await, ids[1..2]);
}
