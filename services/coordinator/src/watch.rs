//! How a coordinator is doing: whether it can work, and what it has counted, for whoever watches it.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};
use sexton_bus::Bus;
use sexton_ledger::{ALARMS_PAGE, AlarmFilter, Health, Ledger, LedgerError};
use sexton_model::alarm::AlarmKind;
use sexton_model::job::StateName;
use sexton_service::Watched;

use crate::archiver;
use crate::engine::{Counters, Engine};
use crate::hindrance::Hindrance;

/// The job table is not asked for its figures more often than this, however many read them.
const FIGURES_EVERY: Duration = Duration::from_secs(5);
/// Upper bounds of how many intents a batch has.
const BATCH_BOUNDS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
/// Upper bounds of how long a batch takes, in seconds: from a commit on a fast disk to a lock that is waited for.
const BATCH_BOUNDS_S: [f64; 11] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What is measured of each batch.
#[derive(Debug)]
pub(crate) struct Batches {
    size: Histogram<u64>,
    duration: Histogram<f64>,
}

impl Batches {
    fn new(meter: &Meter) -> Self {
        Self {
            size: meter
                .u64_histogram("sexton.batch.size")
                .with_boundaries(BATCH_BOUNDS.to_vec())
                .with_description("Events decided in one transaction")
                .build(),
            duration: meter
                .f64_histogram("sexton.batch.duration")
                .with_unit("s")
                .with_boundaries(BATCH_BOUNDS_S.to_vec())
                .with_description("How long a transaction that decides took")
                .build(),
        }
    }

    pub(crate) fn decided(&self, size: usize, took: Duration) {
        self.size.record(size as u64, &[]);
        self.duration.record(took.as_secs_f64(), &[]);
    }
}

/// One coordinator, watched from outside.
pub struct Condition {
    engine: Arc<Engine>,
    bus: Arc<dyn Bus>,
    figures: Arc<Figures>,
}

/// What the job table last said.
#[derive(Debug, Default)]
struct Figures(Mutex<Option<(Instant, Figure)>>);

#[derive(Debug)]
struct Figure {
    health: Health,
    /// Alarms that are open.
    alarms: BTreeMap<AlarmKind, u64>,
}

impl Figures {
    fn fresh(&self) -> bool {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.as_ref().is_some_and(|(at, _)| at.elapsed() < FIGURES_EVERY)
    }

    fn set(&self, figure: Option<Figure>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figure.map(|f| (Instant::now(), f));
    }

    fn show(&self, show: impl FnOnce(&Health)) {
        self.show_all(|figure| show(&figure.health));
    }

    fn show_all(&self, show: impl FnOnce(&Figure)) {
        if let Some((_, figure)) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            show(figure);
        }
    }
}

impl Condition {
    /// Begin to measure `engine`, which publishes on `bus`, and show all of it to the meter of the process.
    pub fn new(engine: Arc<Engine>, bus: Arc<dyn Bus>) -> Self {
        let meter = opentelemetry::global::meter("sexton");
        engine.measure(Batches::new(&meter));
        let figures = Arc::<Figures>::default();
        show_counters(&meter, &engine);
        show_hindrances(&meter, &engine);
        show_figures(&meter, &figures);
        show_archive(&meter, &engine);
        let lost = Arc::downgrade(&bus);
        meter
            .u64_observable_counter("sexton.broker.reconnects")
            .with_description("Connections to the broker that were built again after a loss")
            .with_callback(move |counter| {
                if let Some(bus) = lost.upgrade() {
                    counter.observe(bus.reconnects(), &[KeyValue::new("consumer", "coordinator")]);
                }
            })
            .build();
        Self { engine, bus, figures }
    }
}

/// Ready means that it serves the API and takes messages. Under review, or without a witness, it does: see
/// [`crate::hindrance`].
#[async_trait]
impl Watched for Condition {
    async fn hindered(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if let Err(error) = self.engine.ledger.facts().await {
            reasons.push(format!("coordinator: the job table does not answer: {error}"));
        }
        if let Err(error) = self.bus.healthy().await {
            reasons.push(format!("coordinator: {error}"));
        }
        reasons
    }

    async fn about_to_be_read(&self) {
        if !self.figures.fresh() {
            // Figures of a job table that does not answer are missing rather than old.
            self.figures.set(figure(&*self.engine.ledger).await.ok());
        }
    }
}

async fn figure(ledger: &dyn Ledger) -> Result<Figure, LedgerError> {
    let health = ledger.health().await?;
    // No more are ever open than one page has.
    let open = ledger.alarms(AlarmFilter { ended: false, before: None, limit: ALARMS_PAGE }).await?;
    let mut alarms = AlarmKind::ALL.map(|kind| (kind, 0)).into_iter().collect::<BTreeMap<_, _>>();
    for view in open.items {
        *alarms.entry(view.standing.alarm.kind).or_default() += 1;
    }
    Ok(Figure { health, alarms })
}

fn show_counters(meter: &Meter, engine: &Arc<Engine>) {
    type Of = fn(&Counters) -> &AtomicU64;
    let shown: [(&str, &str, Of); 6] = [
        ("sexton.decisions", "Events decided", |c| &c.decided),
        ("sexton.decisions.refused", "Events that meant nothing any more: late, repeated, or raced", |c| {
            &c.refused
        }),
        ("sexton.orders.given", "Orders given", |c| &c.ordered),
        ("sexton.messages.rejected", "Messages not accepted", |c| &c.rejected),
        ("sexton.rejections.disbelieved", "Rejections that were not accepted themselves", |c| &c.disbelieved),
        ("sexton.messages.unpublished", "Messages that no broker confirmed; leases repair it", |c| {
            &c.unpublished
        }),
    ];
    for (name, about, of) in shown {
        let engine = Arc::downgrade(engine);
        meter
            .u64_observable_counter(name)
            .with_description(about)
            .with_callback(move |counter| {
                if let Some(engine) = engine.upgrade() {
                    let label = KeyValue::new("consumer", "coordinator");
                    counter.observe(of(&engine.counters).load(Ordering::Relaxed), &[label]);
                }
            })
            .build();
    }
}

fn show_archive(meter: &Meter, engine: &Arc<Engine>) {
    type Of = fn(&archiver::Counters) -> &AtomicU64;
    let shown: [(&str, &str, Of); 2] = [
        ("sexton.archive.records", "Records that were archived", |c| &c.archived),
        (
            "sexton.archive.refused",
            "Times that a record could not be archived; the log says which and why",
            |c| &c.refused,
        ),
    ];
    for (name, about, of) in shown.into_iter().filter(|_| engine.archiver().is_some()) {
        let engine = Arc::downgrade(engine);
        meter
            .u64_observable_counter(name)
            .with_description(about)
            .with_callback(move |counter| {
                let Some(engine) = engine.upgrade() else { return };
                if let Some(archiver) = engine.archiver() {
                    let label = KeyValue::new("consumer", "coordinator");
                    counter.observe(of(&archiver.counters).load(Ordering::Relaxed), &[label]);
                }
            })
            .build();
    }
}

fn show_hindrances(meter: &Meter, engine: &Arc<Engine>) {
    let engine = Arc::downgrade(engine);
    meter
        .u64_observable_gauge("sexton.coordinator.hindered")
        .with_description(
            "1 if nothing is ordered for this reason: review (sexton review), witness (it cannot be kept); \
             nothing more signed of the audit trail: checkpoints; or older holidays count: calendar (sexton health says why)",
        )
        .with_callback(move |gauge| {
            let Some(engine) = engine.upgrade() else { return };
            let hindrances = engine.hindrances();
            for label in Hindrance::LABELS {
                let hindered = hindrances.iter().any(|hindrance| hindrance.label() == label);
                gauge.observe(u64::from(hindered), &[KeyValue::new("reason", label)]);
            }
        })
        .build();
}

fn show_figures(meter: &Meter, figures: &Arc<Figures>) {
    let of = figures.clone();
    meter
        .u64_observable_gauge("sexton.jobs")
        .with_description("Jobs by state; parked ones wait for a person")
        .with_callback(move |gauge| {
            of.show(|health| {
                for state in StateName::ALL {
                    let count = health.jobs.get(&state).copied().unwrap_or(0);
                    gauge.observe(count, &[KeyValue::new("state", state.word())]);
                }
            });
        })
        .build();
    let of = figures.clone();
    meter
        .f64_observable_gauge("sexton.oldest.due")
        .with_unit("s")
        .with_description("How long the job that was due first has waited to be claimed; 0 if none waits")
        .with_callback(move |gauge| {
            of.show(|health| {
                let waited_ms = health.oldest_due.map_or(0, |due| health.now.ms_since(due));
                gauge.observe(waited_ms as f64 / 1e3, &[]);
            });
        })
        .build();
    let of = figures.clone();
    meter
        .u64_observable_gauge("sexton.credit.used")
        .with_description("Orders that are out, by instance")
        .with_callback(move |gauge| {
            of.show(|health| {
                for (instance, (_, out)) in &health.instances {
                    gauge.observe(*out, &[KeyValue::new("consumer", instance.to_string())]);
                }
            });
        })
        .build();
    let of = figures.clone();
    meter
        .f64_observable_gauge("sexton.pulse.age")
        .with_unit("s")
        .with_description("Since an instance was last heard of")
        .with_callback(move |gauge| {
            of.show(|health| {
                for (instance, (pulse_at, _)) in &health.instances {
                    let age_s = health.now.ms_since(*pulse_at) as f64 / 1e3;
                    gauge.observe(age_s, &[KeyValue::new("consumer", instance.to_string())]);
                }
            });
        })
        .build();
    let of = figures.clone();
    meter
        .u64_observable_gauge("sexton.pauses")
        .with_description("Pauses in force")
        .with_callback(move |gauge| of.show(|health| gauge.observe(health.pauses.len() as u64, &[])))
        .build();
    let of = figures.clone();
    meter
        .u64_observable_gauge("sexton.alarms")
        .with_description("Alarms that are open, by kind; sexton alarms says what they are about")
        .with_callback(move |gauge| {
            of.show_all(|figure| {
                for (kind, open) in &figure.alarms {
                    gauge.observe(*open, &[KeyValue::new("kind", kind.word())]);
                }
            });
        })
        .build();
}
