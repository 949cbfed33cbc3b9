//! A driver that a test holds up.
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::Value;
use sexton_consumer::{Done, Driver, Found, Inspection, Obstacle, Permit, Place, StepContext};
use sexton_model::step::Presence;
use tokio::sync::Notify;

pub const ACTIONS: &str = r#"
subsystem = "backup"
[actions.inspect]
nature = "inspect"
earliest = "announce"
deadline_ms = 60000
longest_call_ms = 1000
about = "looks"
[actions.delete_archives]
nature = "destructive"
earliest = "purge"
deadline_ms = 60000
longest_call_ms = 1000
long = true
about = "deletes"
"#;

/// Deletes a thing; can be made to hang, and says when it began.
#[derive(Default)]
pub struct Archive {
    pub gone: Mutex<bool>,
    /// What an inspection sees.
    pub seen: Mutex<Value>,
    pub performed: AtomicUsize,
    pub hangs: AtomicUsize,
    /// Waits before the change, and asks again.
    pub in_two: AtomicUsize,
    pub waits: Notify,
    pub began: Notify,
    pub go_on: Notify,
    pub panics: AtomicUsize,
}

pub fn taken(counter: &AtomicUsize) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
}

#[async_trait]
impl Driver for Archive {
    async fn inspect(&self, _: &StepContext) -> Result<Inspection, Obstacle> {
        let targets = self.seen.lock().unwrap().clone();
        Ok(Inspection { found: Found::Same, targets, protected: None, evidence: "looked".into() })
    }
    async fn find(&self, _: &StepContext) -> Result<Found, Obstacle> {
        let gone = *self.gone.lock().unwrap();
        Ok(if gone { Found::Absent(Place("memory".into())) } else { Found::Same })
    }
    async fn capture(&self, _: &StepContext) -> Result<Value, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn perform(&self, step: &StepContext, _: Option<&Value>, permit: Permit) -> Result<Done, Obstacle> {
        assert!(!taken(&self.panics), "made to panic");
        if taken(&self.in_two) {
            self.waits.notify_one();
            self.go_on.notified().await;
            permit.again()?;
        }
        *self.gone.lock().unwrap() = true;
        self.performed.fetch_add(1, Ordering::SeqCst);
        step.progress.report(1, 2);
        self.began.notify_one();
        if taken(&self.hangs) {
            self.go_on.notified().await;
        }
        Ok(Done::saw("deleted"))
    }
    async fn undo(&self, _: &StepContext, _: &Value, _: Permit) -> Result<Done, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn presence(&self, _: &StepContext) -> Result<(Presence, String), Obstacle> {
        let gone = *self.gone.lock().unwrap();
        Ok((if gone { Presence::Absent } else { Presence::Present }, "looked".into()))
    }
    async fn restored(&self, _: &StepContext, _: &Value) -> Result<String, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
    async fn check(&self, _: &StepContext) -> Result<Done, Obstacle> {
        Err(Obstacle::Refuse("not asked here".into()))
    }
}
