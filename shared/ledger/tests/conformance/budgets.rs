//! Budgets: what is due is admitted, or frozen together; and what a person approves goes on.
mod lifting;
mod turns;

use sexton_ledger::{Admitted, Approval, BatchView, NotDone, Options};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::{CannotApprove, Written};
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::decide::{Event, Refusal};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, JobId, Timestamp};

pub use self::lifting::*;
pub use self::turns::*;

use super::Fixture;
use super::cancel::cancel;
use super::stage::{Stagehand, actor, job_id, options};

pub fn policy(text: &str) -> Options {
    let written: Written = toml::from_str(text).unwrap();
    let policy = Policy { budgets: Some(written.budgets().unwrap()), ..Policy::default() };
    Options { policy, ..options() }
}

impl Stagehand {
    /// So many records whose announcement is due.
    async fn all_due(&self, names: &[&str]) -> Vec<DeletionId> {
        let mut ids = Vec::new();
        for name in names {
            let id = self.doomed(name).await;
            let job = self.job(id, JobKind::Stage(Stage::Announce)).await;
            if let JobState::Scheduled { due_at: Some(due_at) } = job.state {
                self.until(due_at).await;
            }
            ids.push(id);
        }
        ids
    }

    /// The same, and something stops each of them.
    async fn all_held(&self, names: &[&str]) -> Vec<DeletionId> {
        let ids = self.all_due(names).await;
        for id in &ids {
            assert_eq!(self.try_to_announce(*id).await, Ok(false));
        }
        ids
    }

    async fn try_to_announce(&self, id: DeletionId) -> Result<bool, NotDone> {
        let claimed = self.one(id, Event::Claim { job: announce(id) }).await?;
        Ok(claimed.dispatch.is_some())
    }

    async fn admit(&self, ids: &[DeletionId]) -> Admitted {
        self.ledger.admit(ids.iter().map(|id| announce(*id)).collect()).await.unwrap()
    }

    async fn batch(&self, batch: i64) -> BatchView {
        self.ledger.batch(batch).await.unwrap().unwrap()
    }

    async fn approve(&self, batch: i64, digest: &str, by: &str) -> Result<Vec<JobId>, NotDone> {
        let (digest, by, reason) = (digest.to_owned(), actor(by), "all of them are empty".to_owned());
        self.ledger.approve(Approval { batch, digest, by, reason }).await.unwrap()
    }

    async fn frozen_in(&self, id: DeletionId) -> Option<i64> {
        match self.job(id, JobKind::Stage(Stage::Announce)).await.state {
            JobState::Held { by: Blocker::Budget { frozen, .. }, .. } => Some(frozen.batch),
            _ => None,
        }
    }
}

fn announce(id: DeletionId) -> JobId {
    job_id(id, Stage::Announce)
}

fn not_admitted(id: DeletionId) -> Result<bool, NotDone> {
    Err(NotDone::Refused(Refusal::NotAdmitted(announce(id))))
}

pub async fn over_the_limit_not_one_begins(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let ids = on.all_due(&["web01", "web02", "web03"]).await;
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, not_admitted(*id), "nobody has looked yet");
    }
    // Whoever names one is answered for all that are due with it.
    let admitted = on.admit(&ids[..1]).await;
    let [row] = admitted.frozen.as_slice() else { panic!("{admitted:?}") };
    assert_eq!((row.waiting, row.exceeded.members, row.exceeded.alone()), (3, 3, true));
    assert_eq!(on.ledger.batches().await.unwrap(), std::slice::from_ref(row));
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(false));
        assert_eq!(on.frozen_in(*id).await, Some(row.batch));
    }
    assert!(on.ledger.due(10).await.unwrap().is_empty(), "what is frozen is not due");
    assert_eq!(on.admit(&ids).await, Admitted::default(), "it is frozen once");
    assert_eq!(on.admit(&[]).await, Admitted::default(), "and waiting does not help");
    let chain = on.ledger.verify_chains(None, 10).await.unwrap();
    assert_eq!(chain.broken, []);
}

pub async fn what_fits_begins_and_slow_drips_count(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 3")).await;
    for name in ["web01", "web02", "web03"] {
        let ids = on.all_due(&[name]).await;
        assert_eq!(on.admit(&ids).await, Admitted::default());
        assert_eq!(on.try_to_announce(ids[0]).await, Ok(true), "{name}");
    }
    let ids = on.all_due(&["web04", "web05"]).await;
    let admitted = on.admit(&ids).await;
    assert_eq!((admitted.frozen.len(), admitted.frozen[0].exceeded.used), (1, 3));
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(false));
    }
    let late = on.all_due(&["web06"]).await;
    assert_eq!(on.admit(&late).await.frozen.len(), 1, "a batch of its own");
    // A day later there is room for two, since one is of today: the older batch goes, and the newer one waits.
    fixture.execute("DELETE FROM admitted WHERE bucket < (SELECT max(bucket) FROM admitted)").await;
    fixture.execute("UPDATE admitted SET count = 1").await;
    let admitted = on.admit(&[]).await;
    assert_eq!(admitted.again, ids.iter().map(|id| announce(*id)).collect::<Vec<_>>());
    assert_eq!(on.ledger.batches().await.unwrap().len(), 1);
    for id in &ids {
        on.one(*id, Event::Recheck { job: announce(*id) }).await.unwrap();
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
    assert_eq!(on.admit(&[]).await, Admitted::default());
    fixture.execute("DELETE FROM admitted").await;
    assert_eq!(on.admit(&[]).await.again, [announce(late[0])]);
}

pub async fn many_that_come_one_by_one_are_a_crowd(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 3")).await;
    let mut waiting = Vec::new();
    for number in 1..=7 {
        let name = format!("web0{number}");
        let ids = on.all_due(&[name.as_str()]).await;
        let frozen = on.admit(&ids).await.frozen;
        assert_eq!(on.try_to_announce(ids[0]).await, Ok(number <= 3), "{name}");
        for row in frozen {
            // So many as fit tomorrow may wait for it; the seventh is one too many.
            assert_eq!(row.exceeded.alone(), number == 7, "{name}: {}", row.exceeded);
            waiting.push(row);
        }
    }
    assert_eq!(waiting.iter().map(|row| row.waiting).collect::<Vec<_>>(), [1, 1, 1, 1]);
    fixture.execute("DELETE FROM admitted").await;
    assert_eq!(on.admit(&[]).await, Admitted::default(), "a day later nothing of it begins by itself");
    let late = on.all_due(&["web08"]).await;
    assert_eq!(on.admit(&late).await.frozen.len(), 1, "nobody overtakes");
    for row in &waiting[..2] {
        let digest = on.batch(row.batch).await.digest();
        assert_eq!(on.approve(row.batch, &digest, "boss").await.map(|jobs| jobs.len()), Ok(1));
    }
    assert_eq!(on.admit(&[]).await.again.len(), 3, "the others fit");
    assert_eq!(on.ledger.batches().await.unwrap(), []);
}

pub async fn what_was_held_is_one_crowd_in_however_many_pieces(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let ids = on.all_due(&["web01", "web02", "web03", "web04", "web05"]).await;
    let mut holds = Vec::new();
    for id in &ids {
        let place = Event::PlaceHold { by: actor("legal"), reason: "a lawsuit".into() };
        holds.push(on.one(*id, place).await.unwrap().audit_seq);
        assert_eq!(on.try_to_announce(*id).await, Ok(false), "it is held");
    }
    let release = async |range: std::ops::Range<usize>| {
        for (id, hold) in ids[range.clone()].iter().zip(&holds[range]) {
            on.one(*id, Event::ReleaseHold { hold: *hold, by: actor("legal") }).await.unwrap();
        }
    };
    release(0..3).await;
    assert_eq!(on.admit(&ids[..1]).await.frozen[0].waiting, 3);
    release(3..5).await;
    let [last] = &on.admit(&ids[3..4]).await.frozen[..] else { panic!("two fit, and begin") };
    assert_eq!((last.waiting, last.exceeded.members, last.exceeded.alone()), (2, 5, true));
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(false));
    }
}

pub async fn a_crowd_is_one_wherever_the_pieces_end(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let ids = on.all_held(&["web01", "web02", "web03", "web04", "web05"]).await;
    on.ceiling(None, Some(Ceiling::Announce)).await.unwrap();
    let look = async |ids: &[DeletionId]| {
        for id in ids {
            on.one(*id, Event::Recheck { job: announce(*id) }).await.unwrap();
        }
    };
    look(&ids[..2]).await;
    assert_eq!(on.state(ids[1], Stage::Announce).await, StateName::Scheduled);
    assert_eq!(on.state(ids[2], Stage::Announce).await, StateName::Held, "nobody has looked at it yet");
    // The first two would fit, and are two of five.
    let admitted = on.admit(&ids[..2]).await;
    let [row] = admitted.frozen.as_slice() else { panic!("a piece of it begins: {admitted:?}") };
    assert_eq!((row.waiting, row.exceeded.members, row.exceeded.alone()), (5, 5, true));
    assert_eq!(on.admit(&[]).await, Admitted::default(), "nor does it begin by itself");
    look(&ids[2..]).await;
    for id in &ids[..2] {
        assert_eq!(on.try_to_announce(*id).await, Ok(false));
    }
    for id in &ids {
        assert_eq!(on.frozen_in(*id).await, Some(row.batch), "it is one batch");
    }
    assert_eq!(on.ledger.begun().await.unwrap().into_values().sum::<u64>(), 0);
    // Whoever approves it approves all of it.
    let digest = on.batch(row.batch).await.digest();
    assert_eq!(on.approve(row.batch, &digest, "boss").await.map(|jobs| jobs.len()), Ok(5));
    look(&ids[..]).await;
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
}

pub async fn what_is_still_held_by_a_ceiling_is_of_no_crowd(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    on.all_held(&["web01", "web02", "web03"]).await;
    // What passes by an override, or became due before, stands in line while the others are rightly held.
    let ids = on.all_due(&["web04", "web05"]).await;
    assert_eq!(on.admit(&ids).await, Admitted::default(), "they fit");
    on.ceiling(None, Some(Ceiling::Announce)).await.unwrap();
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
}

pub async fn what_has_not_begun_in_time_asks_anew_and_is_charged_once(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let ids = on.all_due(&["web01", "web02"]).await;
    assert_eq!(on.admit(&ids).await, Admitted::default());
    fixture.execute("UPDATE admissions SET good_until = 1").await;
    assert_eq!(on.try_to_announce(ids[0]).await, not_admitted(ids[0]), "it was too long ago");
    assert_eq!(on.admit(&ids[..1]).await, Admitted::default(), "nobody is charged twice");
    assert_eq!(fixture.count("SELECT CAST(sum(count) AS BIGINT) FROM admitted").await, 2);
    for id in &ids {
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
}

pub async fn an_approval_is_of_exactly_one_set_and_by_somebody_else(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1")).await;
    let ids = on.all_due(&["web01", "web02", "web03"]).await;
    let batch = on.admit(&ids).await.frozen[0].batch;
    for id in &ids {
        on.try_to_announce(*id).await.unwrap();
    }
    let seen = on.batch(batch).await;
    assert_eq!(seen.members.iter().map(|member| member.job).collect::<Vec<_>>(), {
        ids.iter().map(|id| announce(*id)).collect::<Vec<_>>()
    });
    let refused = |why: CannotApprove| Err(NotDone::Approval(why));
    assert_eq!(
        on.approve(batch, &seen.digest(), "platform").await,
        refused(CannotApprove::Requested { by: actor("platform"), resource: "vm/web01".parse().unwrap() }),
        "it requested them"
    );
    // One leaves: it is another set.
    on.one(ids[0], cancel()).await.unwrap();
    let smaller = on.batch(batch).await;
    assert_eq!(smaller.row.waiting, 2);
    assert_eq!(
        on.approve(batch, &seen.digest(), "boss").await,
        refused(CannotApprove::OtherSet { batch, digest: smaller.digest() })
    );
    assert_eq!(on.frozen_in(ids[1]).await, Some(batch), "nothing was let go");
    let jobs = on.approve(batch, &smaller.digest(), "boss").await.unwrap();
    assert_eq!(jobs, [announce(ids[1]), announce(ids[2])]);
    assert_eq!(
        on.approve(batch, &smaller.digest(), "boss").await,
        refused(CannotApprove::NoSuchBatch(batch)),
        "it is used once"
    );
    for id in &ids[1..] {
        on.one(*id, Event::Recheck { job: announce(*id) }).await.unwrap();
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
    assert_eq!(on.state(ids[0], Stage::Announce).await, StateName::Cancelled);
    // What was approved is beside the budget.
    let next = on.all_due(&["web04"]).await;
    assert_eq!(on.admit(&next).await, Admitted::default());
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn an_approval_runs_out(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1")).await;
    let ids = on.all_due(&["web01", "web02"]).await;
    let batch = on.admit(&ids).await.frozen[0].batch;
    let digest = on.batch(batch).await.digest();
    on.approve(batch, &digest, "boss").await.unwrap();
    fixture.execute("UPDATE admissions SET good_until = 1").await;
    assert_eq!(on.try_to_announce(ids[0]).await, not_admitted(ids[0]));
    let again = on.admit(&ids).await;
    assert_eq!(again.frozen.len(), 1, "whoever still wants it approves it anew");
    assert_ne!(again.frozen[0].batch, batch);
}

pub async fn what_is_announced_is_told_by_scope_and_moment(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1")).await;
    let ids = on.all_due(&["web01", "web02"]).await;
    let due = |job: sexton_model::job::Job| match job.state {
        JobState::Scheduled { due_at: Some(due_at) } => due_at,
        other => panic!("{other:?}"),
    };
    let first = due(on.job(ids[0], JobKind::Stage(Stage::Announce)).await);
    let second = due(on.job(ids[1], JobKind::Stage(Stage::Announce)).await);
    let announced = async |from: Timestamp, to: Timestamp| {
        on.ledger.announced(&"vm".parse().unwrap(), from, to).await.unwrap()
    };
    let scope = || "tenants/acme".parse().unwrap();
    assert_eq!(announced(first, first).await, [(ids[0], scope(), first)]);
    let mut both = announced(first, second).await;
    both.sort();
    assert_eq!(both, [(ids[0], scope(), first), (ids[1], scope(), second)]);
    assert_eq!(announced(second.plus_ms(1), Timestamp::MAX).await, []);
    let images = on.ledger.announced(&"image".parse().unwrap(), first, second).await.unwrap();
    assert_eq!(images, []);
    on.admit(&ids[..1]).await;
    on.one(ids[0], cancel()).await.unwrap();
    assert_eq!(
        announced(first, second).await,
        [(ids[1], scope(), second)],
        "what is cancelled is not announced"
    );
    // Frozen, and so held: it is due now, whenever it was due.
    assert_eq!(on.try_to_announce(ids[1]).await, Ok(false));
    assert_eq!(announced(first, second).await, []);
    on.until(second.plus_ms(1)).await;
    let [(held, _, at)] = announced(second.plus_ms(1), Timestamp::MAX).await[..] else {
        panic!("it is held")
    };
    assert!(held == ids[1] && at > second);
    assert_eq!(on.ledger.announced(&"image".parse().unwrap(), first, Timestamp::MAX).await.unwrap(), []);
}

/// Of soft, which is not counted, only what has waited for long is: what is due now waits neither for it nor with it.
pub async fn what_has_piled_up_is_counted_whatever_its_stage(fixture: &dyn Fixture) {
    let counts_hard = || policy("a_day = 1\nstages = [\"hard\"]");
    let on = Stagehand::with(fixture, counts_hard()).await;
    let mut ids = Vec::new();
    for name in ["web01", "web02", "fresh"] {
        let id = on.doomed(name).await;
        let first = on.claim(id, Stage::Announce).await.unwrap().dispatch;
        on.play(first, &mut Vec::new(), |_, _| false).await;
        ids.push(id);
    }
    drop(on);
    // Two minutes are many days here.
    let long = "UPDATE jobs SET due_at = due_at - 120000000 WHERE id % 8 = 1 \
         AND deletion_id < (SELECT max(deletion_id) FROM jobs)";
    fixture.execute(long).await;
    let on = Stagehand::with(fixture, counts_hard()).await;
    let soft = |id: DeletionId| job_id(id, Stage::Soft);
    let [one, other, fresh] = ids.try_into().unwrap();
    for id in [one, other] {
        let refused = on.claim(id, Stage::Soft).await.unwrap_err();
        assert_eq!(refused, NotDone::Refused(Refusal::NotAdmitted(soft(id))));
    }
    let frozen = on.ledger.admit(vec![soft(one)]).await.unwrap().frozen;
    let [row] = frozen.as_slice() else { panic!("{frozen:?}") };
    assert_eq!((row.group.stage, row.waiting, row.exceeded.alone()), (Stage::Soft, 2, true));
    for id in [one, other] {
        assert!(on.claim(id, Stage::Soft).await.unwrap().dispatch.is_none());
        assert_eq!(on.state(id, Stage::Soft).await, StateName::Held);
    }
    assert!(on.claim(fresh, Stage::Soft).await.unwrap().dispatch.is_some(), "it is of today");
    on.one(other, cancel()).await.unwrap();
    assert_eq!(on.ledger.admit(Vec::new()).await.unwrap().again, [soft(one)], "as many as may");
    on.one(one, Event::Recheck { job: soft(one) }).await.unwrap();
    assert!(on.claim(one, Stage::Soft).await.unwrap().dispatch.is_some());
    let counted: Vec<(Stage, u64)> =
        on.ledger.begun().await.unwrap().into_iter().map(|(group, count)| (group.stage, count)).collect();
    assert_eq!(counted, [(Stage::Soft, 1)]);
}

/// Another coordinator, or this one once it was started again, has other budgets.
pub async fn what_is_frozen_stays_so_whatever_is_counted_by_now(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let ids = on.all_due(&["web01", "web02", "web03"]).await;
    let batch = on.admit(&ids[..1]).await.frozen[0].batch;
    assert_eq!(on.try_to_announce(ids[0]).await, Ok(false));
    drop(on);
    let stays = async |on: &Stagehand| {
        for id in &ids {
            let why = on.one(*id, Event::Recheck { job: announce(*id) }).await.unwrap_err();
            assert_eq!(why, NotDone::Refused(Refusal::NotYet(announce(*id))));
            assert_eq!(on.frozen_in(*id).await, Some(batch));
        }
    };
    // Its stage is counted no more, and its numbers are still there: by them it is judged.
    let on = Stagehand::with(fixture, policy("a_day = 2\nstages = [\"purge\"]")).await;
    for id in &ids[1..] {
        assert_eq!(on.try_to_announce(*id).await, Ok(false), "nobody has looked at it since it was frozen");
    }
    stays(&on).await;
    assert_eq!(on.admit(&[]).await, Admitted::default());
    drop(on);
    // There are no numbers: what waits fits, and that is written down before any of it begins.
    let on = Stagehand::with(fixture, policy("none = true")).await;
    stays(&on).await;
    assert_eq!(on.admit(&[]).await.again, ids.iter().map(|id| announce(*id)).collect::<Vec<_>>());
    assert_eq!(on.ledger.batches().await.unwrap(), []);
    assert_eq!(
        fixture.count("SELECT count(*) FROM ledger_audit WHERE body LIKE '%\"what\":\"fits\"%'").await,
        1
    );
    for id in &ids {
        on.one(*id, Event::Recheck { job: announce(*id) }).await.unwrap();
        assert_eq!(on.try_to_announce(*id).await, Ok(true));
    }
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn a_batch_that_everybody_left_ends(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1")).await;
    let ids = on.all_due(&["web01", "web02"]).await;
    let batch = on.admit(&ids).await.frozen[0].batch;
    for id in &ids {
        on.one(*id, cancel()).await.unwrap();
    }
    assert_eq!(on.admit(&[]).await, Admitted::default());
    assert_eq!(on.ledger.batches().await.unwrap(), []);
    assert_eq!(on.ledger.batch(batch).await.unwrap(), None);
}

pub async fn later_stages_are_counted_by_themselves(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 1\nstages = [\"hard\"]")).await;
    let (one, other) = (on.doomed("web01").await, on.doomed("web02").await);
    for id in [one, other] {
        for stage in [Stage::Announce, Stage::Soft] {
            let first = on.claim(id, stage).await.unwrap().dispatch;
            on.play(first, &mut Vec::new(), |_, _| false).await;
        }
    }
    let hard = |id| job_id(id, Stage::Hard);
    for id in [one, other] {
        let refused = on.claim(id, Stage::Hard).await.unwrap_err();
        assert_eq!(refused, NotDone::Refused(Refusal::NotAdmitted(hard(id))));
    }
    let admitted = on.ledger.admit(vec![hard(one)]).await.unwrap();
    assert_eq!(admitted.frozen[0].group.stage, Stage::Hard);
    assert!(on.claim(one, Stage::Hard).await.unwrap().dispatch.is_none());
    // Until the end of cancel one cancel brings everything back, from a frozen batch too.
    on.one(one, cancel()).await.unwrap();
    assert_eq!(on.state(one, Stage::Hard).await, StateName::Cancelled);
}
