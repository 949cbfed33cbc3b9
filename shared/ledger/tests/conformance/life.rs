//! A deletion's life, and what messages may do to it.
use std::collections::HashSet;

use serde_json::json;
use sexton_ledger::{Intent, LedgerError, Limits, NotDone, Options};
use sexton_model::DeletionId;
use sexton_model::audit::What;
use sexton_model::decide::{Effect, Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{JobKind, JobState, Stage, StateName};
use sexton_model::resource::Presence as Inventory;
use sexton_model::step::{Mode, Outcome, Presence};

use super::Fixture;
use super::stage::{Stagehand, WHOLE_LIFE, actor, instance, job_id, named, older, options, right_answer};

pub async fn the_whole_life_from_announce_to_recycle(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let mut seen = Vec::new();
    let mut happened = Vec::new();
    for stage in Stage::ALL {
        let mut decided = on.claim(id, stage).await.unwrap();
        loop {
            for effect in &decided.effects {
                if let Effect::Happened { what, detail } = effect {
                    happened.push(format!("{what} {detail}"));
                }
            }
            let Some(order) = decided.dispatch else { break };
            let (name, mode) = named(&order);
            let captured = mode == Mode::Perform && order.spec.stage.reversible();
            assert_eq!(order.manifest, captured.then(|| json!({"manifest": [name]})), "{name} {mode:?}");
            if name == "hypervisor.stop" {
                assert_eq!(order.targets, Some(json!({"seen": ["hypervisor.inspect"]})));
            }
            seen.push((name, mode));
            decided = on.answer(&order, right_answer(&order)).await.unwrap();
        }
        if stage == Stage::Hard {
            let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
            assert_eq!((resource.presence, resource.live), (Inventory::Tombstone, Some(id)));
        }
    }
    assert_eq!(seen, WHOLE_LIFE.map(|(name, mode)| (name.to_owned(), mode)));
    let wanted = [
        "stage_done announce",
        "stage_done soft",
        "stage_done hard",
        "receipt purge",
        "stage_done purge",
        "recycled ",
    ];
    assert_eq!(happened, wanted);
    let view = on.view(id).await;
    assert_eq!(view.deletion.status, RecordStatus::Recycled);
    assert!(view.deletion.jobs.iter().all(|job| job.state == JobState::Done));
    assert_eq!(view.audit.first().unwrap().event.what, What::Created);
    assert_eq!(view.audit.len() as i64, view.deletion.audit_seq);
    assert_eq!(view.targets[&instance("hypervisor.main")], json!({"seen": ["hypervisor.inspect"]}));
    let resource = on.ledger.resource(&"vm/web01".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((resource.presence, resource.live), (Inventory::Recycled, None));
    assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

pub async fn a_stale_outcome_changes_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    let before = on.view(id).await;
    let job = order.spec.job;
    let (older, never) = (older(order.spec.fence), sexton_model::Fence { epoch: 9, ..order.spec.fence });
    let stale = Refusal::Stale { job, fence: older };
    for (fence, why) in [(older, stale), (never, Refusal::NeverGiven { job, fence: never })] {
        let from = order.spec.instance.clone();
        let event = Event::Outcome { job, from, fence, outcome: right_answer(&order) };
        let refused = on.one(id, event).await.unwrap_err();
        assert_eq!(refused, NotDone::Refused(why));
    }
    let from = instance("dns.main");
    let fence = order.spec.fence;
    let event = Event::Outcome { job, from: from.clone(), fence, outcome: right_answer(&order) };
    assert_eq!(on.one(id, event).await.unwrap_err(), NotDone::Refused(Refusal::NotAsked { job, from }));
    let after = on.view(id).await;
    assert_eq!(after.deletion, before.deletion);
    assert_eq!(after.audit.len(), before.audit.len());
}

pub async fn a_duplicated_outcome_is_taken_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    let event = Event::Outcome {
        job: order.spec.job,
        from: order.spec.instance.clone(),
        fence: order.spec.fence,
        outcome: right_answer(&order),
    };
    let twice =
        vec![Intent { deletion: id, event: event.clone() }, Intent { deletion: id, event: event.clone() }];
    let results = on.ledger.run(twice).await.unwrap();
    assert_eq!(named(results[0].as_ref().unwrap().dispatch.as_ref().unwrap()).0, "notifier.announce");
    assert!(matches!(results[1], Err(NotDone::Refused(Refusal::Stale { .. }))), "{:?}", results[1]);
    let before = on.view(id).await.deletion;
    assert!(matches!(on.one(id, event).await, Err(NotDone::Refused(Refusal::Stale { .. }))));
    assert_eq!(on.view(id).await.deletion, before);
}

pub async fn a_lease_that_ran_out_is_dispatched_again_under_a_greater_fence(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    let (job, fence) = (order.spec.job, order.spec.fence);
    assert_eq!(
        on.one(id, Event::LeaseOver { job, fence }).await.unwrap_err(),
        NotDone::Refused(Refusal::NotYet(job))
    );
    assert_eq!(on.ledger.to_wake(10).await.unwrap(), []);
    let lease = on.job(id, JobKind::Stage(Stage::Announce)).await.state.out().unwrap().lease_until;
    on.until(lease).await;
    let woken = on.ledger.to_wake(10).await.unwrap();
    assert_eq!(woken, [Intent { deletion: id, event: Event::LeaseOver { job, fence } }]);
    let again = on.ledger.run(woken).await.unwrap().remove(0).unwrap().dispatch.unwrap();
    assert!(again.spec.fence > fence);
    assert_eq!((again.spec.mode, again.spec.attempts), (Mode::Inspect, 0), "nobody had begun");
    assert!(matches!(
        on.answer(&order, right_answer(&order)).await,
        Err(NotDone::Refused(Refusal::Stale { .. }))
    ));
    assert!(on.answer(&again, right_answer(&again)).await.unwrap().dispatch.is_some());
}

pub async fn fences_grow_over_all_dispatches(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut last = sexton_model::Fence::default();
    for round in 0..3 {
        let (one, two) = (on.doomed(&format!("a{round}")).await, on.doomed(&format!("b{round}")).await);
        let mut open = vec![(one, Stage::Announce), (two, Stage::Announce)];
        while let Some((id, stage)) = open.pop() {
            let mut next = on.claim(id, stage).await.unwrap().dispatch;
            while let Some(order) = next {
                assert!(order.spec.fence > last, "{} after {last}", order.spec.fence);
                last = order.spec.fence;
                next = on.answer(&order, right_answer(&order)).await.unwrap().dispatch;
            }
            if stage == Stage::Announce {
                open.insert(0, (id, Stage::Soft));
            }
        }
        let cancel = Event::Cancel { by: actor("ops"), reason: "wanted".into() };
        let first = on.one(one, cancel).await.unwrap().dispatch;
        if let Some(order) = &first {
            assert!(order.spec.fence > last);
        }
        on.play_restore(one, first).await;
        let now = on.view(one).await;
        let ordered = now.audit.iter().filter_map(|row| row.event.ordered).max().unwrap();
        assert!(ordered > last, "a restore's fences are greater, too");
        last = ordered;
    }
    drop(on);
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("c").await;
    let order = on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    assert!(order.spec.fence > last, "also after it was opened again");
}

pub async fn a_reopened_ledger_goes_on(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let facts = on.ledger.facts().await.unwrap();
    let id = on.doomed("web01").await;
    let order = on.play_to(id, |name, _| name == "dns.withdraw").await.unwrap();
    let before = on.view(id).await;
    drop(on);
    let on = Stagehand::new(fixture).await;
    let again = on.ledger.facts().await.unwrap();
    assert_eq!((again.ledger, again.epoch, again.day), (facts.ledger, facts.epoch, facts.day));
    assert_eq!(on.view(id).await.deletion, before.deletion);
    let next = on.answer(&order, right_answer(&order)).await.unwrap().dispatch.unwrap();
    assert_eq!(named(&next), ("dns.withdraw".to_owned(), Mode::Perform));
    on.play(Some(next), &mut Vec::new(), |_, _| false).await;
    assert!(on.play_to(id, |_, _| false).await.is_none());
    assert_eq!(on.status(id).await, RecordStatus::Recycled);
}

pub async fn the_first_manifest_wins(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    let capture =
        on.play_to(id, |name, mode| (name, mode) == ("hypervisor.stop", Mode::Capture)).await.unwrap();
    let done =
        |value| Outcome::Done { presence: Presence::Present, evidence: String::new(), finding: Some(value) };
    let perform = on.answer(&capture, done(json!({"running": true}))).await.unwrap().dispatch.unwrap();
    assert_eq!(perform.manifest, Some(json!({"running": true})));
    // A capture that is answered late, or twice, finds the thing already stopped.
    let event = Event::Outcome {
        job: capture.spec.job,
        from: capture.spec.instance.clone(),
        fence: capture.spec.fence,
        outcome: done(json!({"running": false})),
    };
    assert!(on.one(id, event).await.is_err());
    on.answer(&perform, right_answer(&perform)).await.unwrap();
    let cancel = Event::Cancel { by: actor("ops"), reason: "wanted".into() };
    on.one(id, cancel).await.unwrap();
    // The order that was out (the next capture) is answered; then the stop is undone with the first manifest.
    let running = on.job(id, JobKind::Stage(Stage::Soft)).await;
    let fence = running.state.out().unwrap().fence;
    let event = Event::Outcome {
        job: running.id,
        from: instance("dns.main"),
        fence,
        outcome: done(json!({"manifest": "dns"})),
    };
    // On a slow machine the deadline of the order is over already, and the restore begins at once.
    let undo = match on.one(id, event).await.unwrap().dispatch {
        Some(undo) => undo,
        None => on.wake(id, JobKind::Restore).await.dispatch.unwrap(),
    };
    assert_eq!(named(&undo), ("hypervisor.stop".to_owned(), Mode::Undo));
    assert_eq!(undo.manifest, Some(json!({"running": true})));
}

pub async fn one_bad_item_fails_alone(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, two) = (on.doomed("one").await, on.doomed("two").await);
    let nobody = DeletionId(4711);
    for id in [one, two] {
        let due = on.job(id, JobKind::Stage(Stage::Announce)).await;
        if let JobState::Scheduled { due_at: Some(at) } = due.state {
            on.until(at).await;
        }
    }
    let claim = |id, stage| Intent { deletion: id, event: Event::Claim { job: job_id(id, stage) } };
    let batch = vec![
        claim(one, Stage::Announce),
        claim(nobody, Stage::Announce),
        claim(one, Stage::Hard),
        claim(two, Stage::Announce),
    ];
    let results = on.ledger.run(batch).await.unwrap();
    assert!(results[0].as_ref().unwrap().dispatch.is_some());
    assert_eq!(results[1].as_ref().unwrap_err(), &NotDone::NoSuchDeletion(nobody));
    assert!(matches!(results[2], Err(NotDone::Refused(Refusal::NotInState { .. }))));
    assert!(results[3].as_ref().unwrap().dispatch.is_some());
    assert_eq!(on.state(one, Stage::Announce).await, StateName::Running);
    assert_eq!(on.state(two, Stage::Announce).await, StateName::Running);
    assert!(on.ledger.run(Vec::new()).await.unwrap().is_empty());
}

/// A few hundred events drawn by a small generator: rights and wrongs, cancels, holds, retries.
pub async fn remembered_equals_stored_after_a_random_workload(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let mut ids = Vec::new();
    for n in 0..24 {
        ids.push(on.doomed(&format!("vm{n}")).await);
    }
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut out = Vec::new();
    for round in 0..60 {
        let mut batch: Vec<Intent> = Vec::new();
        for job in on.ledger.due(64).await.unwrap() {
            batch.push(Intent { deletion: job.deletion(), event: Event::Claim { job } });
        }
        batch.extend(on.ledger.to_wake(64).await.unwrap());
        for order in std::mem::take(&mut out) {
            let order: sexton_ledger::Dispatch = order;
            let outcome = match draw(12) {
                0 => Outcome::failed("broken"),
                1 => Outcome::refused("not this one"),
                2 => Outcome::spared("busy"),
                _ => right_answer(&order),
            };
            let (job, fence, from) = (order.spec.job, order.spec.fence, order.spec.instance.clone());
            let event = match draw(20) {
                0 => Event::Progress { job, from, fence, performer: draw(u64::MAX) },
                _ => Event::Outcome { job, from, fence, outcome },
            };
            if matches!(event, Event::Progress { .. }) {
                out.push(order);
            }
            batch.push(Intent { deletion: job.deletion(), event });
        }
        let deletion = ids[draw(ids.len() as u64) as usize];
        let by = actor("ops");
        batch.push(Intent {
            deletion,
            event: match draw(4) {
                0 => Event::Cancel { by, reason: "wanted".into() },
                1 => Event::PlaceHold { by, reason: "legal".into() },
                2 => Event::ReleaseHold { by, hold: draw(20) as i64 },
                _ => Event::Retry { by },
            },
        });
        for decided in on.ledger.run(batch).await.unwrap().into_iter().flatten() {
            out.extend(decided.dispatch);
        }
        if round % 10 == 9 {
            fixture.compare().await.unwrap();
        }
    }
    let mut resources = HashSet::new();
    for id in ids {
        assert_eq!(on.ledger.verify_chain(id).await.unwrap(), Ok(()));
        let view = on.view(id).await;
        let locking = view.deletion.jobs.iter().filter(|job| job.state.name().locks()).count();
        assert!(locking <= 1, "{id} holds {locking} locks");
        assert!(resources.insert(view.deletion.record.resource.id.clone()));
    }
}

pub async fn what_cannot_be_read_fails_alone(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (one, spoilt, two) = (on.doomed("one").await, on.doomed("spoilt").await, on.doomed("two").await);
    for id in [one, spoilt, two] {
        let job = on.job(id, JobKind::Stage(Stage::Announce)).await;
        if let JobState::Scheduled { due_at: Some(at) } = job.state {
            on.until(at).await;
        }
    }
    drop(on);
    fixture.execute("INSERT INTO holds (deletion_id, id, body) VALUES (2, 7, 'not a hold')").await;
    assert_eq!(spoilt, DeletionId(2));
    let on = Stagehand::new(fixture).await;
    let batch = [one, spoilt, two]
        .map(|deletion| Intent { deletion, event: Event::Claim { job: job_id(deletion, Stage::Announce) } });
    let results = on.ledger.run(batch.to_vec()).await.unwrap();
    assert!(results[0].as_ref().unwrap().dispatch.is_some());
    assert!(matches!(&results[1], Err(NotDone::Corrupt(id, _)) if *id == spoilt), "{:?}", results[1]);
    assert!(results[2].as_ref().unwrap().dispatch.is_some());
    let alone = on.ledger.run(vec![batch[1].clone()]).await.unwrap();
    assert!(matches!(&alone[..], [Err(NotDone::Corrupt(..))]), "{alone:?}");
}

pub async fn no_lease_starves_what_is_held_or_blocked(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let by = actor("ops");
    let (held, blocked) = (on.doomed("held").await, on.doomed("blocked").await);
    let order = on.play_to(blocked, |name, _| name == "hypervisor.stop").await.unwrap();
    for id in [held, blocked] {
        on.one(id, Event::PlaceHold { by: by.clone(), reason: "wait".into() }).await.unwrap();
    }
    on.claim(held, Stage::Announce).await.unwrap();
    on.answer(&order, right_answer(&order)).await.unwrap();
    let mut leases = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        let id = on.doomed(name).await;
        leases.push(on.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap().spec.job);
    }
    drop(on);
    // All of it is long over.
    fixture.execute("UPDATE jobs SET wake_at = 1 WHERE state IN (1, 3)").await;
    fixture.execute("UPDATE jobs SET due_at = 1 WHERE state = 2").await;
    let limits = Limits { look_again_ms: 0, ..options().limits };
    let on = Stagehand::with(fixture, Options { limits, ..options() }).await;
    let woken = on.ledger.to_wake(4).await.unwrap();
    let jobs: Vec<_> = woken
        .iter()
        .map(|intent| match &intent.event {
            Event::LeaseOver { job, .. } | Event::Recheck { job } => *job,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(jobs.len(), 4, "{woken:?}");
    assert_eq!(jobs.iter().filter(|job| leases.contains(job)).count(), 2);
    assert!(jobs.contains(&job_id(held, Stage::Announce)) && jobs.contains(&job_id(blocked, Stage::Soft)));
    // Those two are gone through in rounds: this look finds the end of each, and the next begins anew.
    assert_eq!(on.ledger.to_wake(100).await.unwrap().len(), 6);
    assert_eq!(on.ledger.to_wake(100).await.unwrap().len(), 8);
}

/// A record of `vm/web01`, and the claim that would take a second lock on it: a job of another record has it.
pub async fn second_lock(fixture: &dyn Fixture) -> (Stagehand, Intent) {
    let on = Stagehand::new(fixture).await;
    let first = on.doomed("web01").await;
    on.claim(first, Stage::Announce).await.unwrap();
    // As if the first were over, though its job is not.
    fixture.execute("UPDATE deletions SET live = (1 = 0), status = 2, ended_at = 1").await;
    drop(on);
    let on = Stagehand::new(fixture).await;
    let wanted = on.wanted(&"vm/web01".parse().unwrap()).await;
    let second = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    let claim = Intent { deletion: second, event: Event::Claim { job: job_id(second, Stage::Announce) } };
    (on, claim)
}

/// Two records of one resource are never live at once, so nothing that is decided comes to this: the table itself
/// refuses a second lock on a resource, whoever asks for it.
pub async fn the_table_itself_refuses_a_second_lock(fixture: &dyn Fixture) {
    let (on, claim) = second_lock(fixture).await;
    let second = claim.deletion;
    match on.ledger.run(vec![claim]).await {
        Ok(results) => assert!(results[0].is_err(), "{results:?}"),
        Err(LedgerError::Store { .. }) => {}
        Err(other) => panic!("{other}"),
    }
    assert_eq!(on.state(second, Stage::Announce).await, StateName::Scheduled);
    assert_eq!(on.view(second).await.audit.len(), 1, "nothing was decided");
    // As whoever writes past the ledger would park that job.
    let parked = "UPDATE jobs SET state = 6, locks = (1 = 1), queued = (1 = 0), wants = NULL, reason = 'by hand' \
                  WHERE id = (SELECT max(deletion_id) * 8 FROM jobs)";
    let refused = fixture.attempt(parked).await.unwrap_err();
    let named = ["the_lock", "UNIQUE constraint failed: jobs.resource"];
    assert!(named.iter().any(|named| refused.contains(named)), "{refused}");
}
