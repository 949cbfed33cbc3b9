//! What goes on beside a step: it is reported as begun, its progress is passed on, its extensions come in.
use std::sync::Arc;

use sexton_protocol::{Extension, Order, Progress, Report};
use tokio::sync::broadcast;

use crate::courier::{Courier, Post};
use crate::lifeline::Tether;
use crate::settlement::Share;

/// A step that takes longer is reported as begun, in milliseconds: its lease then counts as an attempt.
const WORTH_REPORTING_MS: u64 = 2_000;
/// Least time between two progress reports of one step, in milliseconds.
const BETWEEN_REPORTS_MS: u64 = 1_000;

/// One step under way.
pub(crate) struct Attended<'a> {
    pub(crate) order: &'a Order,
    pub(crate) traceparent: Option<String>,
    pub(crate) post: Arc<Post>,
    pub(crate) courier: Courier,
    pub(crate) extensions: broadcast::Receiver<Extension>,
}

impl Attended<'_> {
    /// Never returns; drop it when the step has ended. Its share of the delivery is settled at the first extension:
    /// from then on the lease alone covers the order.
    pub(crate) async fn attend(mut self, mut tether: Tether, share: &mut Option<Share>) {
        let nonce = self.post.clock.random();
        if tether.begun.wait_for(|begun| *begun).await.is_err() {
            return std::future::pending().await;
        }
        if !self.order.long {
            self.post.clock.sleep(WORTH_REPORTING_MS).await;
        }
        self.report(nonce, 0, 0);
        if !self.order.long {
            return std::future::pending().await;
        }
        let mut reporting = true;
        let mut quiet_until_ms = self.post.clock.steady_ms() + BETWEEN_REPORTS_MS;
        loop {
            let wait_ms = quiet_until_ms.saturating_sub(self.post.clock.steady_ms());
            let reported = async {
                self.post.clock.sleep(wait_ms).await;
                tether.progress.changed().await
            };
            tokio::select! {
                biased;
                changed = reported, if reporting => {
                    reporting = changed.is_ok();
                    let seen = *tether.progress.borrow_and_update();
                    if let Some((done, total)) = seen.filter(|_| reporting) {
                        self.report(nonce, done, total);
                        quiet_until_ms = self.post.clock.steady_ms() + BETWEEN_REPORTS_MS;
                    }
                }
                extension = self.extensions.recv() => match extension {
                    Ok(extension) if self.is_meant(&extension, nonce) => {
                        let later = |held: &mut sexton_model::Timestamp| {
                            let extended = extension.deadline > *held;
                            *held = (*held).max(extension.deadline);
                            extended
                        };
                        if tether.deadline.send_if_modified(later)
                            && let Some(share) = share.take()
                        {
                            share.settle();
                        }
                    }
                    // Another step's, or some were missed: the next progress asks for another one, early enough.
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
                }
            }
        }
    }

    fn is_meant(&self, extension: &Extension, nonce: u64) -> bool {
        extension.nonce == nonce && extension.fence == self.order.fence && extension.job == self.order.job
    }

    fn report(&self, nonce: u64, done: u64, total: u64) {
        let instance = self.order.instance.clone();
        let progress =
            Progress { job: self.order.job, fence: self.order.fence, instance, nonce, done, total };
        let event = self.post.event(Report::Progress(progress)).traced(self.traceparent.clone());
        self.post.metrics.reported();
        self.courier.mention(event);
    }
}
