//! Plain counters, and their export: the counters are always there and cost nothing; what is told apart by
//! action and measured is so only when somebody reads it ([`Metrics::export`]).
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram};
use sexton_bus::Bus;
use sexton_model::Instance;
use sexton_model::step::{Outcome, RetryClass};
use sexton_protocol::Order;

use crate::hearing::Hearing;

/// Upper bounds of the durations of steps, in seconds: from a no-op to the copy of a large disk.
const STEP_BOUNDS_S: [f64; 14] =
    [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0, 3_600.0, 14_400.0];

/// What one consumer has done since it began.
#[derive(Debug, Default)]
pub struct Metrics {
    hearing: OnceLock<Arc<Hearing>>,
    instruments: OnceLock<Instruments>,
    unconfirmed: AtomicI64,
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

    /// Milliseconds since the newest beacon was heard; `None` if none was.
    pub fn beacon_age_ms(&self) -> Option<u64> {
        self.hearing.get().and_then(|hearing| hearing.beacon_age_ms())
    }

    /// Show all of it to the meter of the process, as those of `instance` on `bus`. Once.
    pub fn export(self: &Arc<Self>, instance: &Instance, bus: &Arc<dyn Bus>) {
        let consumer = KeyValue::new("consumer", instance.to_string());
        let meter = opentelemetry::global::meter("sexton");
        let instruments = Instruments {
            consumer: consumer.clone(),
            received: meter
                .u64_counter("sexton.orders.received")
                .with_description("Orders taken on, by action")
                .build(),
            steps: meter
                .u64_counter("sexton.steps")
                .with_description("Steps by action, mode and result: done, failed, spared (no attempt), refused, expired, stale")
                .build(),
            durations: meter
                .f64_histogram("sexton.step.duration")
                .with_unit("s")
                .with_boundaries(STEP_BOUNDS_S.to_vec())
                .with_description("How long steps took, by action and mode")
                .build(),
        };
        if self.instruments.set(instruments).is_err() {
            return;
        }
        self.export_counters(&consumer);
        let (metrics, label) = (Arc::downgrade(self), consumer.clone());
        meter
            .f64_observable_gauge("sexton.beacon.age")
            .with_unit("s")
            .with_description(
                "Since the newest beacon was heard; above 5 nothing is done. Missing: none was heard",
            )
            .with_callback(move |gauge| {
                if let Some(age_ms) = metrics.upgrade().and_then(|metrics| metrics.beacon_age_ms()) {
                    gauge.observe(age_ms as f64 / 1e3, std::slice::from_ref(&label));
                }
            })
            .build();
        let (metrics, label) = (Arc::downgrade(self), consumer.clone());
        meter
            .i64_observable_gauge("sexton.outcomes.unconfirmed")
            .with_description("Answers that the broker has not confirmed yet")
            .with_callback(move |gauge| {
                if let Some(metrics) = metrics.upgrade() {
                    gauge.observe(metrics.unconfirmed.load(Ordering::Relaxed), std::slice::from_ref(&label));
                }
            })
            .build();
        let bus = Arc::downgrade(bus);
        meter
            .u64_observable_counter("sexton.broker.reconnects")
            .with_description("Connections to the broker that were built again after a loss")
            .with_callback(move |counter| {
                if let Some(bus) = bus.upgrade() {
                    counter.observe(bus.reconnects(), std::slice::from_ref(&consumer));
                }
            })
            .build();
    }

    fn export_counters(self: &Arc<Self>, consumer: &KeyValue) {
        let meter = opentelemetry::global::meter("sexton");
        let (metrics, label) = (Arc::downgrade(self), consumer.clone());
        meter
            .u64_observable_counter("sexton.messages.rejected")
            .with_description("Messages not accepted, by reason")
            .with_callback(move |counter| {
                let Some(metrics) = metrics.upgrade() else { return };
                for (why, count) in metrics.counts().rejected {
                    counter.observe(count, &[label.clone(), KeyValue::new("reason", why)]);
                }
            })
            .build();
        let (metrics, label) = (Arc::downgrade(self), consumer.clone());
        meter
            .u64_observable_counter("sexton.outcomes.republished")
            .with_description("Answers published again because the broker had not confirmed them")
            .with_callback(move |counter| {
                if let Some(metrics) = metrics.upgrade() {
                    counter.observe(metrics.counts().republished, std::slice::from_ref(&label));
                }
            })
            .build();
    }

    pub(crate) fn hears(&self, hearing: &Arc<Hearing>) {
        // A consumer runs once.
        let _ = self.hearing.set(hearing.clone());
    }

    /// Answers and reports in all: it only grows.
    pub(crate) fn worked(&self) -> u64 {
        let all = [&self.done, &self.failed, &self.spared, &self.refused, &self.reported];
        all.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn reported(&self) {
        self.reported.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn accepted(&self, order: &Order) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        if let Some(instruments) = self.instruments.get() {
            let action = KeyValue::new("action", order.action.to_string());
            instruments.received.add(1, &[instruments.consumer.clone(), action]);
        }
    }

    /// The step of `order` ended, after so many milliseconds.
    pub(crate) fn ended(&self, order: &Order, result: &'static str, took_ms: u64) {
        let Some(instruments) = self.instruments.get() else { return };
        let action = KeyValue::new("action", order.action.to_string());
        let mode = KeyValue::new("mode", order.mode.word());
        let labels = [instruments.consumer.clone(), action, mode, KeyValue::new("result", result)];
        instruments.durations.record(took_ms as f64 / 1e3, &labels[..3]);
        instruments.steps.add(1, &labels);
    }

    /// An answer begins to wait for the broker; it ends when this is dropped.
    pub(crate) fn unconfirmed(self: &Arc<Self>) -> Unconfirmed {
        self.unconfirmed.fetch_add(1, Ordering::Relaxed);
        Unconfirmed(self.clone())
    }

    pub(crate) fn republished(&self) {
        self.republished.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, why: &'static str) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(why).or_default() += 1;
    }

    /// Returns what the result is called.
    pub(crate) fn answered(&self, outcome: &Outcome) -> &'static str {
        let (counter, name) = match outcome {
            Outcome::Done { .. } => (&self.done, "done"),
            Outcome::Retry { class: RetryClass::Failed, .. } => (&self.failed, "failed"),
            Outcome::Retry { class: RetryClass::Spared, .. } => (&self.spared, "spared"),
            Outcome::Refused { .. } => (&self.refused, "refused"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        name
    }
}

#[derive(Debug)]
struct Instruments {
    consumer: KeyValue,
    received: Counter<u64>,
    steps: Counter<u64>,
    durations: Histogram<f64>,
}

/// An answer that waits for the broker.
pub(crate) struct Unconfirmed(Arc<Metrics>);

impl Drop for Unconfirmed {
    fn drop(&mut self) {
        self.0.unconfirmed.fetch_sub(1, Ordering::Relaxed);
    }
}
