//! Waiting for a system that runs in this process. It tells nobody here when it has got somewhere: so it is asked, again
//! and again, for a bounded time. Nothing else in the tests of this program waits for time to pass.
use std::time::{Duration, Instant};

/// Nothing here takes as long, even on a busy machine: all of one test together takes some seconds.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks: each is a read of the job table, or a request.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Look until there is an answer; or fail, with what the last look said instead.
pub async fn wait_for<T>(mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(missing) => assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {missing}"),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
