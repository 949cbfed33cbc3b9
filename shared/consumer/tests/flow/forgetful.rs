//! A bus that loses confirms.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use sexton_bus::{Bus, Outgoing, PublishError, Queue, Target};
use sexton_testkit::bus::Instead;

use crate::archive::taken;

/// A bus whose confirms of answers get lost a few times: half of those messages arrive all the same.
pub struct Forgetful {
    pub inner: Arc<dyn Bus>,
    pub lost: AtomicUsize,
}

#[async_trait]
impl Instead for Forgetful {
    fn behind(&self) -> &dyn Bus {
        &*self.inner
    }
    async fn publish(&self, messages: Vec<Outgoing>) -> Vec<Result<(), PublishError>> {
        let answers = messages.iter().any(|m| m.target == Target::Queue(Queue::Outcomes));
        if answers && taken(&self.lost) {
            let unconfirmed = PublishError::Unconfirmed { to: "sexton.outcomes".into(), waited_ms: 1 };
            let results = vec![Err(unconfirmed); messages.len()];
            if self.lost.load(Ordering::SeqCst).is_multiple_of(2) {
                self.inner.publish(messages).await;
            }
            return results;
        }
        self.inner.publish(messages).await
    }
}
