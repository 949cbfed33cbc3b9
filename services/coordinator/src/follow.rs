//! One trace for each deletion, from the request to the end of its last stage.
//!
//! A deletion lives for weeks, in any number of coordinators, so nobody hands its trace on: the trace's id and
//! that of its first span follow from the ledger's id and the deletion's. Below the first span, which is the
//! request that made the record, stand the orders; below an order its step, which the consumer makes; below the
//! step the decision that its answer led to. An order is linked to the decision that gave it.
//!
//! When nobody wants traces, nothing here is computed.
use std::collections::HashMap;
use std::time::SystemTime;

use ring::digest::{Context, SHA256};
use sexton_ledger::{Decided, Dispatch, Intent, Ledger, NotDone};
use sexton_model::decide::Event;
use sexton_model::plan::Performer;
use sexton_model::{DeletionId, Fence};
use sexton_service::trace::{self, Kind, New, Span, SpanRef};
use tokio::sync::OnceCell;

/// Makes the spans of deletions.
#[derive(Debug, Default)]
pub struct Follow {
    /// The ledger's id, once it was asked for.
    ledger: OnceCell<String>,
}

impl Follow {
    /// The first span of a deletion's trace; `None` if nobody wants it, or the ledger does not say who it is.
    async fn first(&self, ledger: &dyn Ledger, deletion: DeletionId) -> Option<SpanRef> {
        self.ledger_id(ledger).await.and_then(|id| first_of(id, deletion))
    }

    async fn ledger_id(&self, ledger: &dyn Ledger) -> Option<&str> {
        if !trace::on() {
            return None;
        }
        let ask = || async { ledger.facts().await.map(|facts| facts.ledger) };
        self.ledger.get_or_try_init(ask).await.ok().map(String::as_str)
    }

    /// A record was made by a request that came at `began`, as part of the caller's trace if it has one.
    pub async fn made(
        &self,
        ledger: &dyn Ledger,
        deletion: DeletionId,
        began: SystemTime,
        caller: Option<SpanRef>,
    ) {
        let Some(at) = self.first(ledger, deletion).await else { return };
        let links = caller.into_iter().collect();
        let new = New { name: "request delete".into(), kind: Kind::Serves, began, links };
        if let Some(mut span) = trace::start_first(at, new) {
            span.set("sexton.deletion", deletion);
        }
    }

    /// Somebody asks for something about a deletion; ends when it is dropped.
    pub async fn asked(&self, ledger: &dyn Ledger, intent: &Intent, caller: Option<SpanRef>) -> Option<Span> {
        let first = self.first(ledger, intent.deletion).await?;
        let new = New {
            name: format!("request {}", name_of(&intent.event)).into(),
            kind: Kind::Serves,
            began: SystemTime::now(),
            links: caller.into_iter().collect(),
        };
        let mut span = trace::start(first, new)?;
        span.set("sexton.deletion", intent.deletion);
        Some(span)
    }

    /// A batch is about to be decided. `causes` are the spans that led to its intents, in order, as far as any
    /// are known.
    pub(crate) async fn batch(
        &self,
        ledger: &dyn Ledger,
        batch: &[Intent],
        causes: impl Iterator<Item = Option<SpanRef>>,
    ) -> Option<Batch> {
        let id = self.ledger_id(ledger).await?;
        let intents = batch
            .iter()
            .zip(causes.chain(std::iter::repeat(None)))
            .map(|(intent, cause)| {
                let first = first_of(id, intent.deletion)?;
                Some(Followed { event: name_of(&intent.event), first, cause })
            })
            .collect();
        Some(Batch { began: SystemTime::now(), intents })
    }
}

/// The ids follow from who the ledger is and which deletion it is.
fn first_of(ledger: &str, deletion: DeletionId) -> Option<SpanRef> {
    let mut digest = Context::new(&SHA256);
    for part in [b"sexton deletion\0".as_slice(), ledger.as_bytes(), &[0], &deletion.0.to_be_bytes()] {
        digest.update(part);
    }
    let digest = digest.finish();
    let (trace, rest) = digest.as_ref().split_first_chunk::<16>()?;
    let (span, _) = rest.split_first_chunk::<8>()?;
    SpanRef::wanted(u128::from_be_bytes(*trace), u64::from_be_bytes(*span))
}

struct Followed {
    event: &'static str,
    first: SpanRef,
    cause: Option<SpanRef>,
}

/// A batch that is being decided.
pub(crate) struct Batch {
    began: SystemTime,
    intents: Vec<Option<Followed>>,
}

impl Batch {
    /// It was decided: its orders are about to be published.
    pub(crate) fn decided(self, results: &[Result<Decided, NotDone>]) -> Orders {
        let now = SystemTime::now();
        let mut orders = HashMap::new();
        for (followed, result) in self.intents.into_iter().zip(results) {
            let Some(followed) = followed else { continue };
            // What meant nothing to anybody is not worth a span, but for an answer that came too late.
            if result.is_err() && followed.cause.is_none() {
                continue;
            }
            let Some(decision) = followed.decision(self.began, now, result) else { continue };
            if let Ok(Decided { dispatch: Some(dispatch), .. }) = result
                && let Some(order) = order(followed.first, decision, now, dispatch)
            {
                orders.insert(dispatch.spec.fence, order);
            }
        }
        Orders(orders)
    }
}

impl Followed {
    /// Below what led to it. A consumer could name any trace: another one is linked rather than joined.
    fn decision(
        &self,
        began: SystemTime,
        ended: SystemTime,
        result: &Result<Decided, NotDone>,
    ) -> Option<SpanRef> {
        let own = self.cause.filter(|cause| cause.same_trace(&self.first));
        let links = self.cause.filter(|cause| !cause.same_trace(&self.first)).into_iter().collect();
        let name = format!("decide {}", self.event).into();
        let new = New { name, kind: Kind::Inner, began, links };
        let mut span = trace::start(own.unwrap_or(self.first), new)?;
        match result {
            Ok(decided) => {
                span.set("sexton.deletion", decided.deletion);
                span.set("sexton.status", format_args!("{:?}", decided.status));
                span.set("sexton.audit", decided.audit_seq);
            }
            Err(why) => span.failed(why.to_string()),
        }
        let at = span.at();
        span.end_at(ended);
        Some(at)
    }
}

fn order(first: SpanRef, decision: SpanRef, began: SystemTime, dispatch: &Dispatch) -> Option<Span> {
    let spec = &dispatch.spec;
    let step = dispatch.plan.stage(spec.stage).steps.get(usize::from(spec.step))?;
    let Performer::Subsystem { subsystem, action } = &step.performer else { return None };
    let name = format!("order {subsystem}.{action}").into();
    let mut span = trace::start(first, New { name, kind: Kind::Sends, began, links: vec![decision] })?;
    span.set("sexton.job", spec.job);
    span.set("sexton.stage", spec.kind);
    span.set("sexton.instance", &spec.instance);
    span.set("sexton.fence", spec.fence);
    Some(span)
}

/// The orders of a batch while they are published.
#[derive(Default)]
pub(crate) struct Orders(HashMap<Fence, Span>);

impl Orders {
    /// What the order under this fence carries.
    pub(crate) fn traceparent(&self, fence: Fence) -> Option<String> {
        self.0.get(&fence).map(|span| span.at().traceparent())
    }
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Claim { .. } => "claim",
        Event::Proceed { .. } => "proceed",
        Event::Recheck { .. } => "recheck",
        Event::Outcome { .. } => "outcome",
        Event::Progress { .. } => "progress",
        Event::LeaseOver { .. } => "lease over",
        Event::Cancel { .. } => "cancel",
        Event::PlaceHold { .. } => "hold",
        Event::ReleaseHold { .. } => "release",
        Event::Park { .. } => "park",
        Event::Retry { .. } => "retry",
        Event::Waive { .. } => "waive",
        Event::Acknowledge { .. } => "acknowledge",
        Event::Bounced { .. } => "bounced",
        Event::Rescue { .. } => "rescue",
    }
}
