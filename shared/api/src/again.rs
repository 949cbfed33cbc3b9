//! Sending a request again: under which key, and how long.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::header::HeaderValue;
use ring::rand::{SecureRandom, SystemRandom};
use sexton_model::request_key::RequestKey;

/// The header that names a request: the same key is the same request, done once.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";

/// Shortest and longest wait between two attempts.
const WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// How long it is tried again in all after an answer was lost or the job table did not answer: a coordinator that is
/// started anew takes a few seconds. Whoever waits longer wants to know.
const LOST_MOST: Duration = Duration::from_secs(10);
/// And while somebody is at work on it: a coordinator that was killed holds the key for 35 seconds.
const BUSY_MOST: Duration = Duration::from_secs(45);

/// Where the keys of a client's requests come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Option<Arc<Given>>);

#[derive(Debug)]
struct Given {
    key: RequestKey,
    sent: AtomicU32,
}

impl Keys {
    pub(crate) fn of(key: RequestKey) -> Self {
        Self(Some(Arc::new(Given { key, sent: AtomicU32::new(0) })))
    }

    /// The next request's key. None if the system gives no random bytes: then it is sent without one.
    pub(crate) fn next(&self) -> Option<HeaderValue> {
        let key = match &self.0 {
            Some(given) => given.key.nth(given.sent.fetch_add(1, Ordering::Relaxed).saturating_add(1)),
            None => {
                let mut random = [0; 16];
                SystemRandom::new().fill(&mut random).ok()?;
                RequestKey::of_random(u128::from_be_bytes(random))
            }
        };
        HeaderValue::from_str(key.as_str()).ok()
    }
}

/// Why a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Whether it was done is not known.
    Lost,
    /// Somebody is at work on it, and says when to ask again.
    Busy(Duration),
}

/// How often and how long one request has been sent again.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    tried: u32,
    waited: Duration,
}

impl Patience {
    /// Whether it was sent once only.
    pub(crate) fn is_fresh(&self) -> bool {
        self.tried == 0
    }

    /// How long to wait before it is sent again, if it is.
    pub(crate) fn wait(&mut self, why: Why) -> Option<Duration> {
        let (shortest, longest) = WAIT;
        let doubled = shortest.saturating_mul(1 << self.tried.min(10));
        let (wait, most) = match why {
            Why::Lost => (doubled, LOST_MOST),
            Why::Busy(after) => (doubled.max(after), BUSY_MOST),
        };
        let wait = wait.min(longest);
        if self.waited + wait > most {
            return None;
        }
        self.tried += 1;
        self.waited += wait;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_again_for_a_while() {
        let mut patience = Patience::default();
        assert!(patience.is_fresh());
        let waits: Vec<u64> = std::iter::from_fn(|| patience.wait(Why::Lost))
            .map(|wait| u64::try_from(wait.as_millis()).unwrap())
            .collect();
        assert_eq!(waits, [200, 400, 800, 1600, 2000, 2000, 2000]);
        assert!(!patience.is_fresh());
        // Somebody is at work on it after all.
        let busy = Why::Busy(Duration::from_secs(1));
        let more = std::iter::from_fn(|| patience.wait(busy)).count();
        assert_eq!(more, 18);
        assert_eq!(patience.wait(busy), None);
    }

    #[test]
    fn each_request_has_a_key_of_its_own() {
        let random = Keys::default();
        let (one, two) = (random.next().unwrap(), random.next().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 32);
        let given = || Keys::of("script-7".parse().unwrap());
        let (first, again) = (given(), given());
        let keys: Vec<_> = (0..3).map(|_| first.next().unwrap()).collect();
        assert_eq!(keys[0], "script-7");
        assert_ne!(keys[1], keys[2]);
        // A copy of the client goes on, and a second run sends the same ones.
        assert_eq!((0..3).map(|_| again.clone().next().unwrap()).collect::<Vec<_>>(), keys);
    }
}
