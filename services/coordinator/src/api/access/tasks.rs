//! Tasks that go on although their caller has hung up: changes that people ask for, and what is written down of refusals.
//!
//! Contract: a connection that ends drops whatever is worked on in it, wherever that stands; what the job table was asked for by
//! then it decides all the same, and nobody would hear what it has refused. So what changes something is worked on in a task of its
//! own, and so is what is written down. Of changes there are so many at once and no more: the next one waits in its connection, and
//! is forgotten with it. All of them end when the service does.
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Changes that are worked on at once: more than a job table makes at the same time, so that nobody waits here who would not wait
/// there; and few enough that whoever asks and hangs up, again and again, fills no memory.
const CHANGES_MAX: usize = 256;

/// See the module.
pub(super) struct Tasks {
    all: TaskTracker,
    room: Arc<Semaphore>,
    /// The service has ended.
    ended: CancellationToken,
}

impl Tasks {
    pub(super) fn new() -> Self {
        let room = Arc::new(Semaphore::new(CHANGES_MAX));
        Self { all: TaskTracker::new(), room, ended: CancellationToken::new() }
    }

    /// Room for one more change, until it is dropped. Nobody closes it, so it is never nothing.
    pub(super) async fn room(&self) -> Option<OwnedSemaphorePermit> {
        self.room.clone().acquire_owned().await.ok()
    }

    /// Go on with this whether or not somebody waits for it; nothing comes of it if the service ends before.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        self.all.spawn(self.ended.clone().run_until_cancelled_owned(work))
    }

    /// Until each is over, and each that it has begun: no connection begins any more.
    pub(super) async fn over(&self) {
        self.all.close();
        self.all.wait().await;
    }

    /// They end when this is dropped.
    pub(super) fn ending(&self) -> DropGuard {
        self.ended.clone().drop_guard()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_waits_for_room() {
        let tasks = Tasks::new();
        let mut taken = Vec::new();
        for _ in 0..CHANGES_MAX {
            taken.push(tasks.room().await.unwrap());
        }
        assert!(
            tokio::time::timeout(Duration::ZERO, tasks.room()).await.is_err(),
            "there are as many as may be"
        );
        taken.pop();
        assert!(tasks.room().await.is_some());
    }
}
