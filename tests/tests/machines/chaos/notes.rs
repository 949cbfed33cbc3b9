//! What a run keeps of itself, told as it goes and written to a file.
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sexton_model::{DeletionId, Timestamp};

use crate::glimpse::Part;

/// What is known of a run besides what the job table says.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// From when to when nobody had accepted yet that the job table was put back.
    pub reviews: Vec<(Timestamp, Timestamp)>,
    /// From when to when everything was paused.
    pub pauses: Vec<(Timestamp, Timestamp)>,
    /// What may have been approved.
    pub approved: BTreeSet<DeletionId>,
}

pub struct Notes {
    began: Instant,
    history: Option<Mutex<File>>,
    faults: AtomicUsize,
    looks: AtomicUsize,
    glimpses: AtomicUsize,
    /// How often each part was shown.
    shown: Mutex<BTreeMap<Part, usize>>,
    over: AtomicBool,
    mistakes: Mutex<BTreeSet<String>>,
    lost: Mutex<BTreeSet<String>>,
    parked: Mutex<BTreeSet<String>>,
    known: Mutex<Known>,
}

/// A thread that has panicked has said why.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by whoever breaks things: if that fails, it is over.
pub struct OverIfPanicking<'a>(pub &'a Notes);

impl Drop for OverIfPanicking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_over();
        }
    }
}

impl Notes {
    /// The history is written there, if it is wanted.
    pub fn begin(history: Option<&Path>) -> Self {
        let history = history.map(|history| File::create(history).unwrap());
        Self {
            began: Instant::now(),
            history: history.map(Mutex::new),
            faults: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            glimpses: AtomicUsize::new(0),
            shown: Mutex::default(),
            over: AtomicBool::new(false),
            mistakes: Mutex::default(),
            lost: Mutex::default(),
            parked: Mutex::default(),
            known: Mutex::default(),
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn say(&self, what: impl AsRef<str>) {
        let line = format!("{:>7.1} s: {}", self.elapsed().as_secs_f64(), what.as_ref());
        println!("{line}");
        if let Some(history) = &self.history {
            writeln!(lock(history), "{line}").unwrap();
        }
    }

    /// One more fault begins.
    pub fn count_fault(&self) {
        self.faults.fetch_add(1, Ordering::Relaxed);
    }

    pub fn faults(&self) -> usize {
        self.faults.load(Ordering::Relaxed)
    }

    /// The job table was looked at once more while things broke.
    pub fn count_look(&self) {
        self.looks.fetch_add(1, Ordering::Relaxed);
    }

    pub fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }

    /// The subsystems were asked once more while things broke, and showed whether these parts are there.
    pub fn count_glimpse(&self, shown: impl Iterator<Item = Part>) {
        self.glimpses.fetch_add(1, Ordering::Relaxed);
        let mut all = lock(&self.shown);
        for part in shown {
            *all.entry(part).or_default() += 1;
        }
    }

    /// How often they were asked.
    pub fn glimpses(&self) -> usize {
        self.glimpses.load(Ordering::Relaxed)
    }

    /// How often each part was shown; a part that never was is missing.
    pub fn shown(&self) -> BTreeMap<Part, usize> {
        lock(&self.shown).clone()
    }

    /// Nothing is left to be deleted, or it was given up.
    pub fn set_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Something is not as it must be. Told once, however often it is seen.
    pub fn mistake(&self, what: String) {
        if lock(&self.mistakes).insert(what.clone()) {
            self.say(format!("MISTAKE: {what}"));
        }
    }

    pub fn mistakes(&self, all: Vec<String>) {
        all.into_iter().for_each(|what| self.mistake(what));
    }

    pub fn all_mistakes(&self) -> Vec<String> {
        lock(&self.mistakes).iter().cloned().collect()
    }

    /// Machines of whose records decisions were lost.
    pub fn lose(&self, machines: BTreeSet<String>) {
        lock(&self.lost).extend(machines);
    }

    pub fn lost(&self) -> BTreeSet<String> {
        lock(&self.lost).clone()
    }

    /// A job waits for a person.
    pub fn parked(&self, what: String) {
        if lock(&self.parked).insert(what.clone()) {
            self.say(format!("parked: {what}"));
        }
    }

    pub fn all_parked(&self) -> Vec<String> {
        lock(&self.parked).iter().cloned().collect()
    }

    /// The job table was put back at the first moment, and accepted at the second.
    pub fn reviewed(&self, back: Timestamp, accepted: Timestamp) {
        lock(&self.known).reviews.push((back, accepted));
    }

    /// Everything was paused from the first moment to the second one.
    pub fn paused(&self, from: Timestamp, until: Timestamp) {
        lock(&self.known).pauses.push((from, until));
    }

    /// Somebody is about to approve these.
    pub fn approve(&self, deletions: impl Iterator<Item = DeletionId>) {
        lock(&self.known).approved.extend(deletions);
    }

    pub fn known(&self) -> Known {
        lock(&self.known).clone()
    }
}
