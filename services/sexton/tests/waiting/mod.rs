//! Waiting for a program that was started: nothing tells its starter when it listens or has got somewhere, so it is
//! asked again and again, for a bounded time.
use std::time::{Duration, Instant};

/// Nothing here takes longer, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Look again and again until `seen`.
pub fn until(what: &str, seen: impl FnMut() -> bool) {
    until_within(PATIENCE, what, seen);
}

/// The same, of what takes longer.
pub fn until_within(patience: Duration, what: &str, mut seen: impl FnMut() -> bool) {
    let began = Instant::now();
    while !seen() {
        assert!(began.elapsed() < patience, "not seen within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
