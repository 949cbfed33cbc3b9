//! What answers say of a rehearsal, and who is told.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::header::HeaderMap;

/// The header that every answer of a rehearsal carries: how long its day is, in milliseconds.
pub const REHEARSAL: &str = "sexton-rehearsal";

/// What was seen of it by a client and its copies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rehearsal {
    /// How long a day is, in milliseconds, by the last answer that said so; 0 if none did, since no day is as short.
    day_ms: Arc<AtomicU64>,
    tell: Option<fn(u64)>,
}

impl Rehearsal {
    pub(crate) fn told(self, tell: fn(u64)) -> Self {
        Self { tell: Some(tell), ..self }
    }

    pub(crate) fn day_ms(&self) -> Option<u64> {
        Some(self.day_ms.load(Ordering::Relaxed)).filter(|day_ms| *day_ms > 0)
    }

    /// Read the head of an answer; whoever wants to be told is, of the first one.
    pub(crate) fn see(&self, headers: &HeaderMap) {
        let said = headers.get(REHEARSAL).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let Some(day_ms) = said.filter(|day_ms| *day_ms > 0) else { return };
        let before = self.day_ms.swap(day_ms, Ordering::Relaxed);
        if let Some(tell) = self.tell.filter(|_| before == 0) {
            tell(day_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    static TOLD: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn whoever_wants_to_be_told_of_a_rehearsal_is_told_once() {
        let rehearsal = Rehearsal::default().told(|day_ms| {
            TOLD.fetch_add(day_ms, Ordering::Relaxed);
        });
        let see = |said: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(said) = said {
                headers.insert(REHEARSAL, HeaderValue::from_static(said));
            }
            // A copy of the client sees for all of them.
            rehearsal.clone().see(&headers);
            (rehearsal.day_ms(), TOLD.load(Ordering::Relaxed))
        };
        for no_rehearsal in [None, Some("0"), Some("soon")] {
            assert_eq!(see(no_rehearsal), (None, 0));
        }
        assert_eq!(see(Some("500")), (Some(500), 500));
        assert_eq!(see(Some("700")), (Some(700), 500), "the last one is kept, the first one was told");
        assert_eq!(see(None), (Some(700), 500), "a proxy's answer says nothing of it");
    }
}
