//! Where whoever does something waits for the world to let it go on: between any two effects.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sexton_model::Timestamp;
use tokio::sync::oneshot;

/// An attempt at a request that stalls does so for so long, in milliseconds: for longer than it holds the key of its request, and by
/// enough that whoever asks again has it done.
pub const STALLED_MS: u64 = 90_000;

tokio::task_local! {
    /// Which handler of which coordinator this is.
    pub static HANDLER: Handler;
    /// The number of the request for which it lets a batch go.
    pub static APPROVES: u64;
}

/// A handler that a coordinator has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Handler {
    /// Of which process.
    pub process: usize,
    /// Its number in the run.
    pub number: u64,
    /// What it does.
    pub doing: &'static str,
}

/// Somebody at a gate.
#[derive(Debug)]
struct Waiting {
    process: usize,
    handler: Option<Handler>,
    at: &'static str,
    /// It hangs until then; nothing if it only waits for its turn.
    not_before: Option<Timestamp>,
    open: oneshot::Sender<()>,
}

/// All gates of a run.
#[derive(Debug, Default)]
pub struct Gates {
    waiting: Mutex<BTreeMap<u64, Waiting>>,
    next: AtomicU64,
    /// Handlers whose processes die, after so many moments more.
    doomed: Mutex<BTreeMap<Handler, u32>>,
    /// Handlers that stall, after so many moments more.
    stalling: Mutex<BTreeMap<Handler, u32>>,
    /// Those whose processes have died, and that the world has not taken away yet.
    dead: Mutex<BTreeSet<Handler>>,
    /// Requests for which a batch was to go in what was committed since the world has asked last, whatever came of it.
    approving: Mutex<BTreeSet<u64>>,
    /// Counts everything that goes on, so that quiet can be told.
    pub moves: AtomicU64,
}

impl Gates {
    /// Wait here, at least until `not_before`.
    pub async fn wait(self: &Arc<Self>, process: usize, at: &'static str, not_before: Timestamp) {
        self.stand(process, at, Some(not_before)).await;
    }

    /// Wait until everybody has come to where they wait: whoever has sent something and goes to another thread would come
    /// back sooner or later than those who have heard it, as the machine has it.
    pub async fn turn(self: &Arc<Self>, process: usize) {
        self.stand(process, "a turn", None).await;
    }

    async fn stand(self: &Arc<Self>, process: usize, at: &'static str, not_before: Option<Timestamp>) {
        let handler = HANDLER.try_get().ok();
        let (open, opened) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        self.held().insert(number, Waiting { process, handler, at, not_before, open });
        self.moved();
        let _place = Place { gates: self, number };
        opened.await.ok();
        self.moved();
    }

    /// Something happened.
    pub fn moved(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
    }

    /// The process of this handler dies at the so manyth moment from now at which it could.
    pub fn doom(&self, handler: Handler, moments: u32) {
        locked(&self.doomed).insert(handler, moments);
    }

    /// A handler has come to such a moment. Whether its process dies there: then it does nothing more.
    pub fn dies(&self, handler: Handler) -> bool {
        if !comes(&self.doomed, handler) {
            return false;
        }
        locked(&self.dead).insert(handler);
        self.moved();
        true
    }

    /// This handler stalls at the so manyth moment from now at which it could be stopped.
    pub fn stall(&self, handler: Handler, moments: u32) {
        locked(&self.stalling).insert(handler, moments);
    }

    /// A handler has come to such a moment. Whether it stalls there, for [`STALLED_MS`].
    pub fn stalls(&self, handler: Handler) -> bool {
        comes(&self.stalling, handler)
    }

    /// Whose processes have died since this was asked last.
    pub fn take_dead(&self) -> BTreeSet<Handler> {
        std::mem::take(&mut *locked(&self.dead))
    }

    /// Whoever asks has committed something.
    pub fn committed(&self) {
        if let Ok(request) = APPROVES.try_get() {
            locked(&self.approving).insert(request);
        }
    }

    /// For which requests a batch was to go in what was committed since this was asked last.
    pub fn take_approving(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *locked(&self.approving))
    }

    /// Who could go on now, ascending.
    pub fn open_to(&self, now: Timestamp, frozen: impl Fn(usize) -> bool) -> Vec<u64> {
        let held = self.held();
        let free =
            held.iter().filter(|(_, one)| one.not_before.is_some_and(|at| at <= now) && !frozen(one.process));
        free.map(|(number, _)| *number).collect()
    }

    /// When the next one that hangs could go on.
    pub fn next_end(&self, now: Timestamp, frozen: impl Fn(usize) -> bool) -> Option<Timestamp> {
        let held = self.held();
        held.values()
            .filter(|one| !frozen(one.process))
            .filter_map(|one| one.not_before)
            .filter(|at| *at > now)
            .min()
    }

    /// Let the first one go on that only waits for its turn. Whether there is one.
    pub fn next_turn(&self) -> bool {
        let first = self.held().iter().find(|(_, one)| one.not_before.is_none()).map(|(number, _)| *number);
        first.is_some_and(|number| self.open(number).is_some())
    }

    /// Let it go on; where it was, and whose it is.
    pub fn open(&self, number: u64) -> Option<(usize, &'static str)> {
        let one = self.held().remove(&number)?;
        one.open.send(()).ok();
        Some((one.process, one.at))
    }

    /// Whether this handler waits at a gate, or does nothing more.
    pub fn holds(&self, handler: Handler) -> bool {
        let waits = self.held().values().any(|one| one.handler == Some(handler));
        waits || locked(&self.dead).contains(&handler)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<u64, Waiting>> {
        locked(&self.waiting)
    }
}

/// One moment less of a handler; whether that was the last one.
fn comes(left: &Mutex<BTreeMap<Handler, u32>>, handler: Handler) -> bool {
    let mut left = locked(left);
    let Some(moments) = left.get_mut(&handler) else { return false };
    *moments = moments.saturating_sub(1);
    let comes = *moments == 0;
    if comes {
        left.remove(&handler);
    }
    comes
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Place<'a> {
    gates: &'a Gates,
    number: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gates.held().remove(&self.number);
    }
}
