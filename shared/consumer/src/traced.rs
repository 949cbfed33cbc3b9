//! The span of one step: a child of the order's, and the parent of what its answer brings about.
use std::time::SystemTime;

use sexton_model::step::Outcome;
use sexton_protocol::{Event, Order};
use sexton_service::trace::{self, Kind, New, Span, SpanRef};

/// A step, as whoever follows its deletion sees it. Without traces, what came with the order is handed on.
pub(crate) struct Traced {
    span: Option<Span>,
    traceparent: Option<String>,
}

impl Traced {
    /// The order was taken from the queue.
    pub(crate) fn begin(event: &Event<Order>) -> Self {
        let span = event.traceparent.as_deref().and_then(SpanRef::parse).and_then(|ordered| {
            let order = &event.data;
            let name = format!("{} {}.{}", order.mode.word(), order.instance.subsystem, order.action).into();
            let new = New { name, kind: Kind::Receives, began: SystemTime::now(), links: Vec::new() };
            let mut span = trace::start(ordered, new)?;
            span.set("sexton.deletion", order.deletion);
            span.set("sexton.job", order.job);
            span.set("sexton.resource", &order.resource);
            span.set("sexton.instance", &order.instance);
            span.set("sexton.fence", order.fence);
            span.set("sexton.attempt", order.attempt);
            Some(span)
        });
        let traceparent = match &span {
            Some(span) => Some(span.at().traceparent()),
            None => event.traceparent.clone(),
        };
        Self { span, traceparent }
    }

    /// What messages about the step carry.
    pub(crate) fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    /// The answer is known.
    pub(crate) fn answered(&mut self, outcome: &Outcome) {
        let Some(span) = &mut self.span else { return };
        match outcome {
            Outcome::Done { presence, .. } => {
                span.set("sexton.outcome", "done");
                span.set("sexton.presence", format_args!("{presence:?}"));
            }
            Outcome::Retry { reason, .. } => {
                span.set("sexton.outcome", "retry");
                span.failed(reason.clone());
            }
            Outcome::Refused { reason } => {
                span.set("sexton.outcome", "refused");
                span.failed(reason.clone());
            }
        }
    }

    /// There is no answer.
    pub(crate) fn dropped(&mut self, reason: &str) {
        if let Some(span) = &mut self.span {
            span.failed(reason.to_owned());
        }
    }

    /// The step is over: what its answer carries.
    pub(crate) fn into_traceparent(self) -> Option<String> {
        self.traceparent
    }
}
