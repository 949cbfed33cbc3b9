//! From a delivery to its ack: authenticate, decode, perform, answer, and only then ack.
use std::sync::Arc;

use sexton_bus::{Acker, Delivery, Queue};
use sexton_protocol::{DecodeError, Event, Extension, Message, Order, OutcomeReport, Pack, Rejected, Report};
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::attend::Attended;
use crate::courier::{Courier, Post};
use crate::lifeline::Lifeline;
use crate::performer::{Performer, Verdict};
use crate::traced::Traced;

/// Everything a delivery passes through. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) post: Arc<Post>,
    pub(crate) performer: Arc<Performer>,
    pub(crate) courier: Courier,
    pub(crate) extensions: broadcast::Sender<Extension>,
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
}

impl Intake {
    /// Handle one delivery to its end. It stays unacked, and so comes again, if the process stops before.
    pub(crate) async fn handle(self, delivery: Delivery, acker: Acker) {
        let halt = self.post.halt.clone();
        halt.run_until_cancelled_owned(self.handle_whole(delivery, acker)).await;
    }

    async fn handle_whole(self, delivery: Delivery, acker: Acker) {
        let settled = match self.open(&delivery) {
            Ok(pack) => self.perform(pack).await,
            Err((why, reason)) => {
                let queue = Queue::Orders(self.post.instance.clone()).to_string();
                let (id, user) = (delivery.message_id.as_deref(), delivery.user_id.as_deref());
                self.post.reject(why, Rejected::new(&reason, &queue, id, user, &delivery.body)).await
            }
        };
        if settled {
            acker.ack(vec![delivery.tag]).await;
        }
    }

    fn open(&self, delivery: &Delivery) -> Result<Pack<Order>, (&'static str, String)> {
        // Size before proof: an endless body must not cost the time to authenticate it.
        if delivery.body.len() > Order::PACK_MAX_BYTES {
            return Err(("oversized", format!("{} bytes, more than orders may have", delivery.body.len())));
        }
        let (key_id, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.post
            .keyring
            .verify(&self.post.holder, Order::DIRECTION, &delivery.body, key_id, mac)
            .map_err(|error| ("unauthenticated", error.to_string()))?;
        Pack::decode(&delivery.body).map_err(|error| match error {
            DecodeError::TooLarge { .. } => ("oversized", error.to_string()),
            DecodeError::Form(_) | DecodeError::Event { .. } => ("malformed", error.to_string()),
        })
    }

    /// True once every order of the pack is settled.
    async fn perform(&self, pack: Pack<Order>) -> bool {
        let mut waiting = Vec::with_capacity(pack.events.len());
        for event in pack.events {
            let (settle, settled) = oneshot::channel();
            waiting.push(settled);
            self.tasks.spawn(self.clone().one(event, settle));
        }
        let mut all = true;
        for settled in waiting {
            all &= settled.await.is_ok();
        }
        all
    }

    async fn one(self, event: Event<Order>, settle: oneshot::Sender<()>) {
        let order = &event.data;
        let traced = Traced::begin(&event);
        let span = tracing::info_span!(
            "order", job = %order.job, fence = %order.fence, resource = %order.resource,
            action = %order.action, mode = ?order.mode, traceparent = traced.traceparent(),
        );
        // A step that outlives its consumer would act for nobody: its order is delivered again.
        let halt = self.post.halt.clone();
        halt.run_until_cancelled(self.perform_one(&event, traced, settle).instrument(span)).await;
    }

    async fn perform_one(self, event: &Event<Order>, mut traced: Traced, settle: oneshot::Sender<()>) {
        let order = &event.data;
        let Ok(worker) = self.workers.acquire().await else { return };
        self.post.metrics.accepted(order);
        let began_ms = self.post.clock.steady_ms();
        let (lifeline, tether) = Lifeline::new(order.deadline);
        let attended = Attended {
            order,
            traceparent: traced.traceparent().map(str::to_owned),
            post: self.post.clone(),
            courier: self.courier.clone(),
            extensions: self.extensions.subscribe(),
        };
        let mut settle = Some(settle);
        let verdict = tokio::select! {
            biased;
            verdict = self.performer.perform_extendable(order, &lifeline) => verdict,
            () = attended.attend(tether, &mut settle) => return,
        };
        drop(worker);
        let took_ms = self.post.clock.steady_ms().saturating_sub(began_ms);
        let settled = match verdict {
            Verdict::Answer(outcome) => {
                let result = self.post.metrics.answered(&outcome);
                self.post.metrics.ended(order, result, took_ms);
                tracing::debug!(?outcome, "answered");
                let instance = self.post.instance.clone();
                let report = OutcomeReport { job: order.job, fence: order.fence, instance, outcome };
                traced.answered(&report.outcome);
                let answer = self.post.event(Report::Outcome(report)).traced(traced.into_traceparent());
                self.courier.deliver(answer).await
            }
            Verdict::Expired(reason) => {
                traced.dropped(&reason);
                self.post.metrics.ended(order, "expired", took_ms);
                self.drop_one("expired", &reason, event).await
            }
            Verdict::Stale(reason) => {
                traced.dropped(&reason);
                self.post.metrics.ended(order, "stale", took_ms);
                self.drop_one("stale", &reason, event).await
            }
        };
        if let Some(settle) = settle.filter(|_| settled) {
            // Nobody waits any more if the delivery's task was ended.
            let _ = settle.send(());
        }
    }

    async fn drop_one(&self, why: &'static str, reason: &str, event: &Event<Order>) -> bool {
        let queue = Queue::Orders(self.post.instance.clone()).to_string();
        let body = serde_json::to_vec(&event.data).unwrap_or_default();
        self.post.reject(why, Rejected::new(reason, &queue, Some(&event.id), None, &body)).await
    }
}
