//! How a scheduler is doing, for whoever watches it.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use opentelemetry::metrics::{AsyncInstrument, Meter};
use sexton_bus::Bus;
use sexton_service::Watched;

/// What it has seen and said.
#[derive(Debug, Default)]
pub struct Looks {
    last: Mutex<Option<(Instant, SystemTime)>>,
    due: AtomicU64,
    published: AtomicU64,
    failed: AtomicU64,
}

impl Looks {
    pub(crate) fn saw(&self, due: usize, published: usize) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), SystemTime::now()));
        self.due.store(due as u64, Ordering::Relaxed);
        self.published.fetch_add(published as u64, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    fn last(&self) -> Option<(Instant, SystemTime)> {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One scheduler, watched from outside.
pub struct Condition {
    looks: Arc<Looks>,
    bus: Arc<dyn Bus>,
    every: Duration,
}

impl Condition {
    /// Show what it sees to the meter of the process. It looks each `every`.
    pub fn new(looks: Arc<Looks>, bus: Arc<dyn Bus>, every: Duration) -> Self {
        let meter = opentelemetry::global::meter("sexton");
        show(&meter, &looks);
        Self { looks, bus, every }
    }
}

fn show(meter: &Meter, looks: &Arc<Looks>) {
    let of = looks.clone();
    meter
        .u64_observable_gauge("sexton.due.found")
        .with_description("Jobs that the last look found due")
        .with_callback(move |gauge| gauge.observe(of.due.load(Ordering::Relaxed), &[]))
        .build();
    let of = looks.clone();
    meter
        .u64_observable_counter("sexton.wakeups.published")
        .with_description("Wake-ups that the broker has confirmed")
        .with_callback(move |counter| counter.observe(of.published.load(Ordering::Relaxed), &[]))
        .build();
    let of = looks.clone();
    meter
        .u64_observable_counter("sexton.looks.failed")
        .with_description("Looks at which the job table did not answer")
        .with_callback(move |counter| counter.observe(of.failed.load(Ordering::Relaxed), &[]))
        .build();
    let of = looks.clone();
    meter
        .f64_observable_gauge("sexton.looked.at")
        .with_unit("s")
        .with_description("When what is due was last read, in seconds of Unix time")
        .with_callback(move |gauge: &dyn AsyncInstrument<f64>| {
            let since = of.last().and_then(|(_, at)| at.duration_since(UNIX_EPOCH).ok());
            if let Some(since) = since {
                gauge.observe(since.as_secs_f64(), &[]);
            }
        })
        .build();
}

#[async_trait]
impl Watched for Condition {
    async fn hindered(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        // Three looks that failed, and a little: a slow one is no reason.
        let patience = self.every * 3 + Duration::from_secs(2);
        match self.looks.last() {
            None => reasons.push("scheduler: what is due was not read yet".to_owned()),
            Some((at, _)) if at.elapsed() > patience => {
                reasons
                    .push(format!("scheduler: what is due was last read {} s ago", at.elapsed().as_secs()));
            }
            Some(_) => {}
        }
        if let Err(error) = self.bus.healthy().await {
            reasons.push(format!("scheduler: {error}"));
        }
        reasons
    }
}
