//! Who calls when. restic does not wait for a lock: it ends with an error. Several steps of one consumer would keep
//! each other from ending: each final backup takes the repository for itself in the end, and is made again if it
//! cannot. So they take turns here; other writers are met by restic's own locks.
use std::time::Duration;

use sexton_consumer::driver::Obstacle;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::program::Call;

/// How often a call that waits says that it goes on, in seconds, as a running one does.
const TICK_S: u64 = 1;

/// Which lock restic takes for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    /// Others may add at the same time.
    Shared,
    /// Nobody else may write.
    Exclusive,
}

/// The calls of one consumer. First come, first served: who wants the repository alone is not passed by those who
/// would share it.
#[derive(Debug, Default)]
pub(super) struct Turns(RwLock<()>);

/// A turn, over when dropped.
#[derive(Debug)]
#[expect(dead_code, reason = "held, never looked at")]
pub(super) enum Turn<'a> {
    Shared(RwLockReadGuard<'a, ()>),
    Exclusive(RwLockWriteGuard<'a, ()>),
}

impl Turns {
    /// Wait for the turn of `call`, for as long as it may take.
    ///
    /// # Errors
    /// [`Obstacle::Busy`] if it does not come.
    pub(super) async fn take(&self, lock: Lock, call: &Call<'_>) -> Result<Turn<'_>, Obstacle> {
        let turn = async {
            match lock {
                Lock::Shared => Turn::Shared(self.0.read().await),
                Lock::Exclusive => Turn::Exclusive(self.0.write().await),
            }
        };
        let goes_on = async {
            let mut tick = tokio::time::interval(Duration::from_secs(TICK_S));
            loop {
                tick.tick().await;
                if let Some(progress) = call.progress {
                    progress.report(0, 100);
                }
            }
        };
        tokio::select! {
            biased;
            turn = turn => Ok(turn),
            never = goes_on => never,
            () = tokio::time::sleep(call.limit) => Err(Obstacle::Busy(format!(
                "{}: other steps of this consumer have had the repository for {} ms",
                call.what,
                call.limit.as_millis()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(limit_ms: u64) -> Call<'static> {
        let what = "vm/web01: a call".to_owned();
        let limit = Duration::from_millis(limit_ms);
        Call { what, arguments: Vec::new(), stdin: None, limit, progress: None }
    }

    #[tokio::test]
    async fn many_share_and_one_is_alone() {
        let turns = Turns::default();
        let first = turns.take(Lock::Shared, &call(10)).await.unwrap();
        let second = turns.take(Lock::Shared, &call(10)).await.unwrap();
        let busy = turns.take(Lock::Exclusive, &call(10)).await;
        assert!(matches!(busy, Err(Obstacle::Busy(_))), "{busy:?}");
        drop((first, second));
        let alone = turns.take(Lock::Exclusive, &call(10)).await.unwrap();
        for lock in [Lock::Shared, Lock::Exclusive] {
            assert!(matches!(turns.take(lock, &call(10)).await, Err(Obstacle::Busy(_))), "{lock:?}");
        }
        drop(alone);
        turns.take(Lock::Shared, &call(10)).await.unwrap();
    }
}
