//! I15 in the running system: a job table that is set back in time dispatches nothing before it was reviewed.
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sexton_coordinator::{Plans, Witness};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Intent, Ledger, Limits, NewDeletion, NotDone, Options};
use sexton_model::belts::Policy;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::{Due, RecordStatus, Zone};
use sexton_model::job::{Stage, StateName};
use sexton_model::time::{Day, add_days};
use sexton_model::{DeletionId, JobId};
use tokio_util::sync::CancellationToken;

use super::embedded::{Embedded, Kept};
use crate::demo::platform::{self, Platform};
use crate::waiting::wait_for;

const DAY: Day = Day::Rehearsal { length_ms: 400 };

/// `sexton serve`, as far as it matters here.
struct Running {
    embedded: Embedded,
    ledger: Arc<dyn Ledger>,
    shutdown: CancellationToken,
}

async fn start(folder: &Path, platform: &Platform) -> Running {
    let options = Options { day: DAY, limits: Limits::default(), policy: Policy::default() };
    let file = folder.join("sexton.db");
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(&file, options).await.unwrap());
    let witness = Witness::open(&super::beside(&file), ledger.as_ref(), false).await.unwrap();
    let shutdown = CancellationToken::new();
    let both = (ledger.clone(), Arc::new(witness));
    let every = Duration::from_millis(200);
    let embedded =
        Embedded::start(both, Kept::default(), &platform.instances(), Vec::new(), every, shutdown.clone());
    for instance in platform.instances() {
        let (actions, driver) = platform.driver(&instance).unwrap();
        let options = sexton_consumer::Options { pulse_ms: 1_000, ..sexton_consumer::Options::default() };
        drop(embedded.spawn_consumer(&instance, actions, driver, options, Arc::default()));
    }
    Running { embedded, ledger, shutdown }
}

impl Running {
    /// Stop it, and wait until the file is whole and nobody has it open.
    async fn stop(self, folder: &Path) {
        self.shutdown.cancel();
        self.embedded.stopped().await.unwrap();
        drop((self.embedded, self.ledger));
        let lock = std::fs::File::options().write(true).open(folder.join("sexton.db.lock")).unwrap();
        tokio::task::spawn_blocking(move || lock.lock().unwrap()).await.unwrap();
    }

    async fn until(&self, id: DeletionId, stage: Stage, state: StateName) {
        wait_for(async || {
            let view = self.ledger.deletion(id).await.unwrap().unwrap();
            let job = view.deletion.stage_job(stage).unwrap();
            let there = job.state.name() == state;
            if there { Ok(()) } else { Err(format!("{stage} is {state}: it is {:?}", job.state)) }
        })
        .await;
    }
}

async fn doomed(ledger: &dyn Ledger, name: &str) -> DeletionId {
    let plans =
        Plans::of(&platform::catalogue(), &[("plan.toml", include_str!("../demo/plan.toml"))], true).unwrap();
    let zone = Zone("UTC".parse().unwrap());
    let now = ledger.facts().await.unwrap().now;
    let due = Due { date: now.utc().date_naive(), zone, moment: Some(add_days(now, 2, zone.0, DAY)) };
    let new = NewDeletion {
        resource: format!("vm/{name}").parse().unwrap(),
        due,
        gone_by: None,
        by: "ops".parse().unwrap(),
        reason: "contract ended".into(),
        plan: plans.of_kind(&"vm".parse().unwrap()).unwrap().clone(),
    };
    ledger.create(vec![new]).await.unwrap().remove(0).unwrap()
}

/// With what was committed and is not in the file itself yet.
fn copy(from: &Path, to: &Path) {
    let beside = |file: &Path, end: &str| PathBuf::from(format!("{}{end}", file.display()));
    for end in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(beside(to, end));
    }
    std::fs::copy(from, to).unwrap();
    let log = beside(from, "-wal");
    if log.exists() {
        std::fs::copy(log, beside(to, "-wal")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_table_that_is_set_back_dispatches_nothing_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (file, kept) = (folder.join("sexton.db"), folder.join("kept.db"));
    let platform = Platform::create(&folder.join("platform")).unwrap();
    let running = start(folder, &platform).await;
    let by = "ops".parse().unwrap();
    for result in running.ledger.register(platform.resources().unwrap(), &by, true).await.unwrap() {
        result.unwrap();
    }
    let id = doomed(running.ledger.as_ref(), "web01").await;
    running.until(id, Stage::Announce, StateName::Done).await;
    running.stop(folder).await;
    copy(&file, &kept);

    // It goes on: the machine is shut down, and after its grace taken apart.
    let running = start(folder, &platform).await;
    running.until(id, Stage::Hard, StateName::Done).await;
    running.stop(folder).await;
    // What is left of the machine now must not be touched by a job table that believes it is still running.
    let before = platform.describe().unwrap();
    copy(&kept, &file);

    let running = start(folder, &platform).await;
    let review = running.ledger.review().await.unwrap().expect("it is noticed");
    assert_eq!(review.epoch, 2);
    assert!(review.behind.found.fence < review.behind.known.fence);
    let soft = JobId::of(id, Stage::Soft.index());
    let due = running.ledger.deletion(id).await.unwrap().unwrap();
    let due = due.deletion.stage_job(Stage::Soft).unwrap().state.clone();
    assert!(matches!(due, sexton_model::job::JobState::Scheduled { due_at: Some(_) }), "{due:?}");
    let engine = &running.embedded.engine;
    // Its moment has passed long ago: everything that could set it going is called, over several beacons.
    let enough = running.ledger.known().mark.number + 3;
    wait_for(async || {
        let claim = Intent { deletion: id, event: Event::Claim { job: soft } };
        let answer = engine.run(vec![claim]).await.unwrap().remove(0).map(|_| ());
        assert_eq!(answer, Err(NotDone::Refused(Refusal::UnderReview(2))));
        engine.refill().await.unwrap();
        engine.wake().await.unwrap();
        let number = running.ledger.known().mark.number;
        if number >= enough { Ok(()) } else { Err(format!("checkpoint {enough}: the last is {number}")) }
    })
    .await;
    assert_eq!(engine.counters.ordered.load(Ordering::Relaxed), 0);
    assert_eq!(platform.describe().unwrap(), before);

    // It is still so after another start.
    running.stop(folder).await;
    let running = start(folder, &platform).await;
    assert_eq!(running.ledger.review().await.unwrap().map(|r| r.epoch), Some(2));
    assert!(running.ledger.accept_review(2, &by, "looked at the hypervisor").await.unwrap());
    // From here on it does what it believes is right; that the machine is gone already parks it.
    let audit = wait_for(async || {
        let view = running.ledger.deletion(id).await.unwrap().unwrap();
        let parked = view.deletion.jobs.iter().any(|job| job.state.name() == StateName::Parked);
        let over = parked || view.deletion.status == RecordStatus::Recycled;
        if over { Ok(view.audit) } else { Err(format!("it goes on: {:?}", view.deletion.jobs)) }
    })
    .await;
    assert!(audit.iter().any(|row| row.event.ordered.is_some_and(|fence| fence.epoch == 2)));
    running.stop(folder).await;
    platform.stop_everything().await;
}
