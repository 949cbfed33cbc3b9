//! The store's clock: on one machine, the process's, kept from going back.
use std::sync::atomic::{AtomicI64, Ordering};

use sexton_model::Timestamp;

use super::surroundings::Around;

/// Microseconds; never earlier than what it said before.
#[derive(Debug, Default)]
pub(super) struct Clock {
    last: AtomicI64,
    around: Around,
}

impl Clock {
    pub(super) fn of(around: Around) -> Self {
        Self { last: AtomicI64::default(), around }
    }

    pub(super) fn now(&self) -> Timestamp {
        let wall = match &self.around.0 {
            Some(around) => around.now().0,
            None => chrono::Utc::now().timestamp_micros(),
        };
        Timestamp(self.last.fetch_max(wall, Ordering::AcqRel).max(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_goes_back() {
        let clock = Clock { last: AtomicI64::new(i64::MAX - 1), ..Clock::default() };
        assert_eq!(clock.now(), Timestamp(i64::MAX - 1));
    }
}
