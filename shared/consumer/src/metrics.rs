//! Plain counters, for the health page and whoever exports them.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sexton_model::step::{Outcome, RetryClass};

/// What one consumer has done since it began.
#[derive(Debug, Default)]
pub struct Metrics {
    accepted: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    spared: AtomicU64,
    refused: AtomicU64,
    reported: AtomicU64,
    republished: AtomicU64,
    rejected: Mutex<BTreeMap<&'static str, u64>>,
}

/// The counters at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Orders taken on.
    pub accepted: u64,
    /// Answered `done`.
    pub done: u64,
    /// Answered `retry`, tried and failed.
    pub failed: u64,
    /// Answered `retry`, not tried.
    pub spared: u64,
    /// Answered `refused`.
    pub refused: u64,
    /// Answers the broker did not confirm at once.
    pub republished: u64,
    /// Messages not accepted, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

impl Metrics {
    /// All counters.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            accepted: read(&self.accepted),
            done: read(&self.done),
            failed: read(&self.failed),
            spared: read(&self.spared),
            refused: read(&self.refused),
            republished: read(&self.republished),
            rejected: self.rejected.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Answers and reports in all: it only grows.
    pub(crate) fn worked(&self) -> u64 {
        let all = [&self.done, &self.failed, &self.spared, &self.refused, &self.reported];
        all.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn reported(&self) {
        self.reported.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn republished(&self) {
        self.republished.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, why: &'static str) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    pub(crate) fn answered(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Done { .. } => &self.done,
            Outcome::Retry { class: RetryClass::Failed, .. } => &self.failed,
            Outcome::Retry { class: RetryClass::Spared, .. } => &self.spared,
            Outcome::Refused { .. } => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
