//! The store's clock: on one machine, the process's, kept from going back.
use std::sync::atomic::{AtomicI64, Ordering};

use sexton_model::Timestamp;

/// Microseconds; never earlier than what it said before.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: AtomicI64,
}

impl Clock {
    pub(super) fn now(&self) -> Timestamp {
        let wall = chrono::Utc::now().timestamp_micros();
        Timestamp(self.last.fetch_max(wall, Ordering::AcqRel).max(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let clock = Clock { last: AtomicI64::new(i64::MAX - 1) };
        assert_eq!(clock.now(), Timestamp(i64::MAX - 1));
    }
}
