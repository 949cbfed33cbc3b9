//! Waiting for processes and servers. They tell nobody here when they have got somewhere, and be it that they are up
//! again: so they are asked, again and again, for a bounded time. Nothing else in these tests waits for time to pass,
//! but for the pauses between two faults and before a cancel, which are what is tried out.
use std::time::{Duration, Instant};

/// Between two looks: each costs a request, on a machine that is busy.
const LOOK_EVERY: Duration = Duration::from_millis(150);

/// Look until there is an answer; or fail, with what the last look said instead.
pub fn wait_for<T>(patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + patience;
    loop {
        match look() {
            Ok(found) => return found,
            Err(missing) => assert!(Instant::now() < until, "not within {patience:?}: {missing}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Look until `seen`, or fail saying what was waited for.
pub fn wait_until(what: &str, seconds: u64, mut seen: impl FnMut() -> bool) {
    wait_for(Duration::from_secs(seconds), || if seen() { Ok(()) } else { Err(what.to_owned()) });
}
