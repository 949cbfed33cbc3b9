//! Virtual time: one true clock, and those of the job table and of processes, which may be wrong.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use sexton_consumer::Clock;
use sexton_model::Timestamp;
use tokio::sync::oneshot;

/// 2026-12-01 00:00 UTC, where every run begins.
const BEGIN: i64 = 1_796_083_200_000_000;

/// What passes only when the world says so.
#[derive(Debug)]
pub struct Time {
    now_us: AtomicI64,
    next: AtomicU64,
    sleepers: Mutex<BTreeMap<(i64, u64), Sleeper>>,
}

#[derive(Debug)]
struct Sleeper {
    frozen: Arc<AtomicBool>,
    wake: oneshot::Sender<()>,
}

impl Default for Time {
    fn default() -> Self {
        Self { now_us: AtomicI64::new(BEGIN), next: AtomicU64::default(), sleepers: Mutex::default() }
    }
}

impl Time {
    /// The true moment.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now_us.load(Ordering::SeqCst))
    }

    /// Milliseconds since the run began.
    pub fn since_begin_ms(&self) -> u64 {
        self.now().ms_since(Timestamp(BEGIN))
    }

    /// How long it is since the run began, for whoever measures that.
    pub fn passed(&self) -> Duration {
        Duration::from_millis(self.since_begin_ms())
    }

    /// It is later now; whoever slept until then, and is not frozen, wakes up.
    pub fn advance_to(&self, moment: Timestamp) {
        self.now_us.fetch_max(moment.0, Ordering::SeqCst);
        self.wake();
    }

    /// Wake whoever has slept long enough: those that were frozen meanwhile, too, once they are not.
    pub fn wake(&self) {
        let now = self.now().0;
        let mut sleepers = self.sleepers();
        let due: Vec<_> = sleepers
            .range(..=(now, u64::MAX))
            .filter(|(_, sleeper)| !sleeper.frozen.load(Ordering::SeqCst))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            if let Some(sleeper) = sleepers.remove(&key) {
                sleeper.wake.send(()).ok();
            }
        }
    }

    /// When the next one that is not frozen wakes up.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let sleepers = self.sleepers();
        let mut awake = sleepers.iter().filter(|(_, sleeper)| !sleeper.frozen.load(Ordering::SeqCst));
        awake.next().map(|((at, _), _)| Timestamp(*at))
    }

    async fn sleep(&self, ms: u64, frozen: Arc<AtomicBool>) {
        let (wake, woken) = oneshot::channel();
        let key = (self.now().plus_ms(ms).0, self.next.fetch_add(1, Ordering::SeqCst));
        self.sleepers().insert(key, Sleeper { frozen, wake });
        // Whoever gives up sleeping takes the place away with it.
        let _place = Place { time: self, key };
        woken.await.ok();
    }

    fn sleepers(&self) -> MutexGuard<'_, BTreeMap<(i64, u64), Sleeper>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Place<'a> {
    time: &'a Time,
    key: (i64, u64),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.time.sleepers().remove(&self.key);
    }
}

/// What a clock shows that may be set, and go too fast or too slow.
#[derive(Debug)]
struct Face(Mutex<Going>);

#[derive(Debug, Clone, Copy)]
struct Going {
    /// Since this true moment.
    since: Timestamp,
    /// What it showed then.
    from: Timestamp,
    /// How much it gains, in millionths.
    gains: i64,
}

impl Going {
    fn at(self, now: Timestamp) -> Timestamp {
        let passed = now.0 - self.since.0;
        Timestamp(self.from.0 + passed + passed * self.gains / 1_000_000)
    }
}

impl Face {
    /// A right one.
    fn right(now: Timestamp) -> Self {
        Self(Mutex::new(Going { since: now, from: now, gains: 0 }))
    }

    fn at(&self, now: Timestamp) -> Timestamp {
        self.going().at(now)
    }

    /// At the true moment `now` it is set to be this many milliseconds ahead of it.
    fn set_ahead(&self, now: Timestamp, ms: i64) {
        let mut going = self.going();
        let from = Timestamp(now.0.saturating_add(ms.saturating_mul(1000)));
        *going = Going { since: now, from, ..*going };
    }

    /// From the true moment `now` on it gains so many millionths, or loses them.
    fn drift(&self, now: Timestamp, gains: i64) {
        let mut going = self.going();
        *going = Going { since: now, from: going.at(now), gains };
    }

    fn going(&self) -> MutexGuard<'_, Going> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The job table's clock: it may be set, and go too fast or too slow.
#[derive(Debug)]
pub struct StoreClock {
    time: Arc<Time>,
    face: Face,
    /// The latest that the job table has read since it was opened: for it, time never goes back.
    read_us: AtomicI64,
}

impl StoreClock {
    /// A right one.
    pub fn new(time: Arc<Time>) -> Self {
        let face = Face::right(time.now());
        Self { time, face, read_us: AtomicI64::new(i64::MIN) }
    }

    /// What it shows, read by the job table.
    pub fn read(&self) -> Timestamp {
        let now = self.face();
        self.read_us.fetch_max(now.0, Ordering::SeqCst);
        now
    }

    /// What the job table would take for now.
    pub fn shown(&self) -> Timestamp {
        Timestamp(self.read_us.load(Ordering::SeqCst).max(self.face().0))
    }

    /// The job table was opened anew: it knows nothing of what it has read before.
    pub fn opened(&self) {
        self.read_us.store(i64::MIN, Ordering::SeqCst);
    }

    /// It is set to be this many milliseconds ahead of the truth.
    pub fn set_ahead(&self, ms: i64) {
        self.face.set_ahead(self.time.now(), ms);
    }

    /// From now on it gains so many millionths, or loses them.
    pub fn drift(&self, gains: i64) {
        self.face.drift(self.time.now(), gains);
    }

    fn face(&self) -> Timestamp {
        self.face.at(self.time.now())
    }
}

/// A process's clock: its wall clock may be wrong, and go too fast or too slow, its steady clock may stand still while the machine
/// sleeps.
#[derive(Debug)]
pub struct ProcessClock {
    time: Arc<Time>,
    wall: Face,
    /// What the steady clock has missed, in milliseconds.
    missed_ms: AtomicU64,
    frozen: Arc<AtomicBool>,
    drawn: AtomicU64,
}

impl ProcessClock {
    /// A right one.
    pub fn new(time: Arc<Time>, frozen: Arc<AtomicBool>, salt: u64) -> Self {
        let drawn = AtomicU64::new(salt.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let wall = Face::right(time.now());
        Self { time, wall, missed_ms: AtomicU64::default(), frozen, drawn }
    }

    /// Its wall clock is set to be this many milliseconds ahead of the truth.
    pub fn set_ahead(&self, ms: i64) {
        self.wall.set_ahead(self.time.now(), ms);
    }

    /// From now on its wall clock gains so many millionths, or loses them.
    pub fn drift(&self, gains: i64) {
        self.wall.drift(self.time.now(), gains);
    }

    /// The machine slept for so long: the steady clock knows nothing of it.
    pub fn miss(&self, ms: u64) {
        self.missed_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.wall.at(self.time.now())
    }

    fn steady_ms(&self) -> u64 {
        self.time.since_begin_ms().saturating_sub(self.missed_ms.load(Ordering::SeqCst))
    }

    async fn sleep(&self, ms: u64) {
        self.time.sleep(ms, self.frozen.clone()).await;
    }

    fn random(&self) -> u64 {
        self.drawn.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::SeqCst)
    }
}
