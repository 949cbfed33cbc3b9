//! From a delivery to its ack: authenticate, decode, perform, answer, and only then ack.
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sexton_bus::{Acker, Delivery, Queue};
use sexton_protocol::{
    Check, DecodeError, Event, Extension, Message, Order, OutcomeReport, Pack, Rejected, Report,
};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::attend::Attended;
use crate::courier::{Courier, Post};
use crate::lifeline::Lifeline;
use crate::performer::{Performer, Verdict};
use crate::settlement::{Settlement, Share};
use crate::traced::Traced;
use crate::under_way::{Turn, UnderWay};

/// Everything a delivery passes through. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intake {
    pub(crate) post: Arc<Post>,
    pub(crate) performer: Arc<Performer>,
    pub(crate) courier: Courier,
    pub(crate) extensions: broadcast::Sender<Extension>,
    pub(crate) workers: Arc<Semaphore>,
    pub(crate) under_way: UnderWay,
    pub(crate) tasks: TaskTracker,
}

impl Intake {
    /// Handle one delivery to its end. It stays unacked, and so comes again, if the process stops before: a step that
    /// outlives its consumer would act for nobody.
    pub(crate) async fn handle(self, delivery: Delivery, acker: Acker) {
        let halt = self.post.halt.clone();
        halt.run_until_cancelled_owned(self.handle_whole(delivery, acker)).await;
    }

    async fn handle_whole(self, delivery: Delivery, acker: Acker) {
        match self.open(&delivery) {
            Ok(pack) => self.perform(pack, Settlement::new(acker, delivery.tag)).await,
            Err((why, reason)) => {
                let queue = Queue::Orders(self.post.instance.clone()).to_string();
                let (id, user) = (delivery.message_id.as_deref(), delivery.user_id.as_deref());
                let rejected = Rejected::new(&reason, &queue, id, user, &delivery.body);
                if self.post.reject(why, rejected).await {
                    acker.ack(vec![delivery.tag]).await;
                }
            }
        }
    }

    fn open(&self, delivery: &Delivery) -> Result<Pack<Order>, (Check, String)> {
        // Size before proof: an endless body must not cost the time to authenticate it.
        if delivery.body.len() > Order::PACK_MAX_BYTES {
            return Err((
                Check::Oversized,
                format!("{} bytes, more than orders may have", delivery.body.len()),
            ));
        }
        let (key_id, mac) = (delivery.key_id.as_deref(), delivery.mac.as_deref());
        self.post
            .keyring
            .verify(&self.post.holder, Order::DIRECTION, &delivery.body, key_id, mac)
            .map_err(|error| (Check::Unauthenticated, error.to_string()))?;
        Pack::decode(&delivery.body).map_err(|error| match error {
            DecodeError::TooLarge { .. } => (Check::Oversized, error.to_string()),
            DecodeError::Form(_) | DecodeError::Event { .. } => (Check::Malformed, error.to_string()),
        })
    }

    /// All orders of a pack, beside one another in this one task: a task for each would cost more than a quick step
    /// itself, and slow ones travel alone.
    async fn perform(&self, pack: Pack<Order>, settlement: Settlement) {
        let shares = settlement.split(pack.events.len());
        let mut running: FuturesUnordered<_> =
            pack.events.iter().zip(shares).map(|(event, share)| self.one(event, share)).collect();
        while running.next().await.is_some() {}
    }

    async fn one(&self, event: &Event<Order>, share: Share) {
        let order = &event.data;
        let traced = Traced::begin(event);
        let span = tracing::info_span!(
            "order", job = %order.job, fence = %order.fence, resource = %order.resource,
            action = %order.action, mode = ?order.mode, traceparent = traced.traceparent(),
        );
        self.perform_one(event, traced, share).instrument(span).await;
    }

    async fn perform_one(&self, event: &Event<Order>, mut traced: Traced, share: Share) {
        let order = &event.data;
        // A step must not run beside itself: what it does twice at once no look before it can prevent.
        let working = match self.under_way.join(order.fence) {
            Turn::First(working) => working,
            Turn::Repeat(settled) => {
                if settled.await.is_ok() {
                    share.settle();
                }
                return;
            }
        };
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
        let mut share = Some(share);
        let verdict = tokio::select! {
            biased;
            verdict = self.performer.perform_extendable(order, &lifeline) => verdict,
            () = attended.attend(tether, &mut share) => return,
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
                self.drop_one(Check::Expired, &reason, event).await
            }
            Verdict::Stale(reason) => {
                traced.dropped(&reason);
                self.post.metrics.ended(order, "stale", took_ms);
                self.drop_one(Check::Stale, &reason, event).await
            }
        };
        if settled {
            working.settled();
            if let Some(share) = share {
                share.settle();
            }
        }
    }

    async fn drop_one(&self, why: Check, reason: &str, event: &Event<Order>) -> bool {
        let queue = Queue::Orders(self.post.instance.clone()).to_string();
        let body = serde_json::to_vec(&event.data).unwrap_or_default();
        self.post.reject(why, Rejected::new(reason, &queue, Some(&event.id), None, &body)).await
    }
}
