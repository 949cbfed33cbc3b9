//! Healthy time: heartbeats, the outages between them, and stages that begin as much later.
use std::collections::BTreeSet;

use sexton_ledger::{Intent, Limits, NotDone, Options};
use sexton_model::belts::Policy;
use sexton_model::belts::budget::Written;
use sexton_model::decide::{Event, Refusal};
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Timestamp};

use super::Fixture;
use super::stage::{Stagehand, job_id, options};

/// Longer than a slow machine takes from one line of a scenario to the next.
const OUTAGE_MS: u64 = 1_500;
const DAY_MS: u64 = 2_000;

/// Nothing is an outage from now on: what there is is what counts. The round over what is held rests.
fn forgiving() -> Options {
    let limits = Limits { look_again_ms: 3_600_000, ..options().limits };
    Options { limits, day: Day::Rehearsal { length_ms: DAY_MS }, ..options() }
}

fn strict() -> Options {
    let limits = Limits { outage_after_ms: Some(OUTAGE_MS / 2), ..forgiving().limits };
    Options { limits, ..forgiving() }
}

/// Nobody says anything for longer than is tolerated, and then somebody does. From then on a machine that is too slow
/// makes outages of its own: what is held by one is held all the longer.
async fn outage(on: Stagehand, fixture: &dyn Fixture, policy: Policy) -> Stagehand {
    on.ledger.heartbeat().await.unwrap();
    drop(on);
    let on = Stagehand::with(fixture, Options { policy, ..strict() }).await;
    on.ledger.heartbeat().await.unwrap();
    on.until(on.now().await.plus_ms(OUTAGE_MS)).await;
    on.ledger.heartbeat().await.unwrap();
    on
}

impl Stagehand {
    /// All of a stage.
    async fn complete(&self, id: DeletionId, stage: Stage) {
        let first = self.claim(id, stage).await.unwrap().dispatch;
        self.play(first, &mut Vec::new(), |_, _| false).await;
        assert_eq!(self.state(id, stage).await, StateName::Done);
    }

    /// Until when an outage holds the job of a stage.
    async fn held_until(&self, id: DeletionId, stage: Stage) -> Timestamp {
        match self.job(id, JobKind::Stage(stage)).await.state {
            JobState::Held { by: Blocker::Outage { until, .. }, .. } => until,
            other => panic!("{stage} is {other:?}"),
        }
    }

    /// Claim hard once it is due, with heartbeats until then: until when it is held, as is reckoned here.
    async fn claim_hard(&self, id: DeletionId) -> Timestamp {
        let JobState::Scheduled { due_at: Some(due_at) } =
            self.job(id, JobKind::Stage(Stage::Hard)).await.state
        else {
            panic!("hard is not scheduled")
        };
        while self.now().await <= due_at {
            self.ledger.heartbeat().await.unwrap();
            self.until(due_at.min(self.now().await.plus_ms(100))).await;
        }
        self.ledger.heartbeat().await.unwrap();
        let healthy = self.ledger.healthy().await.unwrap();
        let ended = self.job(id, JobKind::Stage(Stage::Soft)).await.ended_at.unwrap();
        assert_eq!(due_at, ended.plus_ms(DAY_MS));
        let held = self.one(id, Event::Claim { job: job_id(id, Stage::Hard) }).await.unwrap();
        let until = self.held_until(id, Stage::Hard).await;
        let lost = healthy.lost_us(ended, held.at);
        assert!(lost >= i64::try_from(OUTAGE_MS).unwrap() * 1000, "{lost}");
        assert_eq!((until, held.again_at), (Timestamp(due_at.0 + lost), Some(until)));
        assert!(held.dispatch.is_none());
        self.ledger.heartbeat().await.unwrap();
        until
    }

    /// These are found to be looked at again at that moment or later, but not only in an hour; and they are.
    async fn woken_at(&self, moment: Timestamp, jobs: &[JobId]) {
        let mut missing: BTreeSet<JobId> = jobs.iter().copied().collect();
        // A first round comes too early, if the machine is not slow.
        self.look_again(&mut missing).await;
        self.until(moment).await;
        let from = self.now().await;
        while !missing.is_empty() {
            self.look_again(&mut missing).await;
            let now = self.now().await;
            assert!(now.ms_since(from) < 60_000, "{missing:?} are not looked at again");
            self.until(now.plus_ms(5)).await;
        }
    }

    /// As a coordinator does; what went on is not missing any more.
    async fn look_again(&self, missing: &mut BTreeSet<JobId>) {
        for Intent { deletion, event } in self.ledger.to_wake(64).await.unwrap() {
            let Event::Recheck { job } = &event else { continue };
            self.one(deletion, event.clone()).await.ok();
            let view = self.view(deletion).await;
            if view.deletion.job(*job).is_some_and(|job| job.state.name() == StateName::Scheduled) {
                missing.remove(job);
            }
        }
    }
}

pub async fn what_nobody_could_have_cancelled_in_is_no_grace(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, forgiving()).await;
    let id = on.doomed("web01").await;
    on.complete(id, Stage::Announce).await;
    on.complete(id, Stage::Soft).await;
    let on = outage(on, fixture, Policy::default()).await;
    let job = job_id(id, Stage::Hard);
    on.claim_hard(id).await;
    drop(on);
    let on = Stagehand::with(fixture, forgiving()).await;
    on.one(id, Event::Recheck { job }).await.ok();
    let held = on.job(id, JobKind::Stage(Stage::Hard)).await.state;
    // Unless it took so long to open it that all of it is over by now.
    let mut from = Timestamp(0);
    if let JobState::Held { by: Blocker::Outage { until, .. }, .. } = held {
        from = until;
        let trail = on.view(id).await.audit.len();
        let again = on.one(id, Event::Recheck { job }).await;
        if on.now().await < until {
            assert_eq!(again.unwrap_err(), NotDone::Refused(Refusal::NotYet(job)));
            assert_eq!(on.view(id).await.audit.len(), trail, "it says nothing new");
        }
        if on.state(id, Stage::Hard).await == StateName::Held {
            on.woken_at(until, &[job]).await;
        }
    }
    let claimed = on.one(id, Event::Claim { job }).await.unwrap();
    assert!(claimed.dispatch.is_some() && claimed.at >= from, "{} {from}", claimed.at);
}

pub async fn without_a_heartbeat_no_stage_with_a_grace_begins(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, forgiving()).await;
    let id = on.doomed("web01").await;
    on.complete(id, Stage::Announce).await;
    drop(on);
    let on = Stagehand::with(fixture, strict()).await;
    let beat = on.ledger.healthy().await.unwrap().beat;
    // A checkpoint alone is none: whoever has only begun to start writes it, too.
    on.ledger.checkpoint().await.unwrap();
    assert_eq!(on.ledger.healthy().await.unwrap().beat, beat);
    on.until(beat.plus_ms(OUTAGE_MS)).await;
    assert!(on.claim(id, Stage::Soft).await.unwrap().dispatch.is_none());
    let until = on.held_until(id, Stage::Soft).await;
    // Nor does it pass while nobody says anything.
    on.until(until).await;
    on.one(id, Event::Recheck { job: job_id(id, Stage::Soft) }).await.unwrap();
    let later = on.held_until(id, Stage::Soft).await;
    assert!(later > until, "{later} {until}");
    on.ledger.heartbeat().await.unwrap();
    let ended = on.ledger.healthy().await.unwrap().last().unwrap();
    assert_eq!(ended.began, beat);
    drop(on);
    let on = Stagehand::with(fixture, forgiving()).await;
    let job = job_id(id, Stage::Soft);
    on.one(id, Event::Recheck { job }).await.ok();
    if let Some(until) = on.job(id, JobKind::Stage(Stage::Soft)).await.state.again_at() {
        on.woken_at(until, &[job]).await;
    }
    assert!(on.one(id, Event::Claim { job }).await.unwrap().dispatch.is_some());
}

pub async fn outages_are_kept_over_a_restart(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, strict()).await;
    on.until(on.now().await.plus_ms(OUTAGE_MS)).await;
    on.ledger.heartbeat().await.unwrap();
    let before = on.ledger.healthy().await.unwrap();
    assert_eq!(before.outages.last().map(|last| last.ended), Some(before.beat));
    drop(on);
    let on = Stagehand::with(fixture, strict()).await;
    assert_eq!(on.ledger.healthy().await.unwrap(), before);
    on.until(before.beat.plus_ms(OUTAGE_MS)).await;
    on.ledger.heartbeat().await.unwrap();
    let after = on.ledger.healthy().await.unwrap();
    let (new, old) = after.outages.split_last().unwrap();
    assert_eq!(old, &before.outages[..]);
    assert_eq!((new.began, new.ended), (before.beat, after.beat), "while it was stopped");
}

pub async fn after_an_outage_nothing_bursts(fixture: &dyn Fixture) {
    let written: Written = toml::from_str("a_day = 1\nstages = [\"hard\"]").unwrap();
    let policy = Policy { budgets: Some(written.budgets().unwrap()), ..Policy::default() };
    let options = || Options { policy: policy.clone(), ..forgiving() };
    let on = Stagehand::with(fixture, options()).await;
    let mut ids = Vec::new();
    for name in ["web01", "web02", "web03"] {
        ids.push(on.doomed(name).await);
    }
    for stage in [Stage::Announce, Stage::Soft] {
        for id in &ids {
            on.complete(*id, stage).await;
        }
    }
    let on = outage(on, fixture, policy.clone()).await;
    let jobs: Vec<JobId> = ids.iter().map(|id| job_id(*id, Stage::Hard)).collect();
    let mut last = Timestamp(0);
    for id in &ids {
        last = last.max(on.claim_hard(*id).await);
    }
    assert_eq!(fixture.count("SELECT count(*) FROM admissions").await, 0, "what is held is not counted");
    drop(on);
    // Who starts meanwhile finds when to look.
    let on = Stagehand::with(fixture, options()).await;
    on.woken_at(last, &jobs).await;
    for job in &jobs {
        let refused = on.one(job.deletion(), Event::Claim { job: *job }).await.unwrap_err();
        assert_eq!(refused, NotDone::Refused(Refusal::NotAdmitted(*job)));
    }
    let admitted = on.ledger.admit(vec![jobs[0]]).await.unwrap();
    assert_eq!((admitted.frozen.len(), admitted.frozen[0].waiting), (1, 3), "{admitted:?}");
    for job in &jobs {
        on.one(job.deletion(), Event::Claim { job: *job }).await.unwrap();
        let state = on.job(job.deletion(), JobKind::Stage(Stage::Hard)).await.state;
        assert!(matches!(state, JobState::Held { by: Blocker::Budget { .. }, .. }), "{state:?}");
    }
}
