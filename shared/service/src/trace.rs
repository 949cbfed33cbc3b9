//! Spans of traces that cross processes: where a piece of work began, what it belongs to, and how it ended.
//!
//! Spans are made directly rather than from log events, so that what is traced does not hang on what is logged,
//! and so that they cost nothing when no collector is configured: [`start`] returns `None` before anything is
//! computed. Types of the tracing library stop here.
use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceFlags,
    TraceId, TraceState, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracer, Span as SdkSpan};

static TRACER: OnceLock<(SdkTracer, f64)> = OnceLock::new();

thread_local! {
    /// The ids that the next span of this thread is to have.
    static GIVEN: Cell<Option<SpanRef>> = const { Cell::new(None) };
}

/// Where spans go from now on, and which share of the traces is kept. Once per process.
pub(crate) fn install(tracer: SdkTracer, share: f64) {
    // A second telemetry of one process has been refused before.
    let _ = TRACER.set((tracer, share));
}

/// Whether anybody wants traces.
pub fn on() -> bool {
    TRACER.get().is_some()
}

/// Names a span of some process, as W3C trace context does. Only of traces that are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanRef {
    trace: u128,
    span: u64,
}

impl SpanRef {
    /// The span of these ids; `None` if one is zero, or nobody wants this trace: whether a trace is kept follows
    /// from its id, so that all processes agree without asking.
    pub fn wanted(trace: u128, span: u64) -> Option<Self> {
        let (_, share) = TRACER.get()?;
        // The lower half of the id is as good as random.
        #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
        let place = (trace as u64) as f64 / u64::MAX as f64;
        (trace != 0 && span != 0 && place <= *share).then_some(Self { trace, span })
    }

    /// The span that a `traceparent` names; `None` if its trace is not kept, or tracing is off here.
    pub fn parse(traceparent: &str) -> Option<Self> {
        if !on() {
            return None;
        }
        let mut parts = traceparent.split('-');
        let (_version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        let trace = u128::from_str_radix(trace, 16).ok()?;
        let span = u64::from_str_radix(span, 16).ok()?;
        (sampled && trace != 0 && span != 0).then_some(Self { trace, span })
    }

    /// As a W3C `traceparent`.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-01", self.trace, self.span)
    }

    /// Whether both belong to one trace.
    pub fn same_trace(&self, other: &Self) -> bool {
        self.trace == other.trace
    }

    fn context(self) -> SpanContext {
        SpanContext::new(
            TraceId::from(self.trace),
            SpanId::from(self.span),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        )
    }
}

impl fmt::Debug for SpanRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

/// What sort of work a span is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Somebody asked for it and waits.
    Serves,
    /// It sends a message.
    Sends,
    /// It works on a message.
    Receives,
    /// None of these.
    Inner,
}

impl From<Kind> for SpanKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Serves => SpanKind::Server,
            Kind::Sends => SpanKind::Producer,
            Kind::Receives => SpanKind::Consumer,
            Kind::Inner => SpanKind::Internal,
        }
    }
}

/// A span to be.
#[derive(Debug)]
pub struct New {
    /// What is done, such as `order dns.remove`.
    pub name: Cow<'static, str>,
    /// What sort of work it is.
    pub kind: Kind,
    /// When it began.
    pub began: SystemTime,
    /// Spans it has to do with, beside its parent.
    pub links: Vec<SpanRef>,
}

/// Work that is being traced. It ends when this is dropped.
pub struct Span(SdkSpan);

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.at()).finish()
    }
}

/// Begin a span below `parent`. `None` if nobody wants traces.
pub fn start(parent: SpanRef, new: New) -> Option<Span> {
    build(new, &Context::new().with_remote_span_context(parent.context()))
}

/// Begin the first span of a trace, under ids that were chosen for it. `None` if nobody wants traces.
pub fn start_first(at: SpanRef, new: New) -> Option<Span> {
    GIVEN.set(Some(at));
    let span = build(new, &Context::new());
    GIVEN.set(None);
    span
}

fn build(new: New, parent: &Context) -> Option<Span> {
    let (tracer, _) = TRACER.get()?;
    let links = new.links.into_iter().map(|to| Link::with_context(to.context())).collect();
    let builder = SpanBuilder::from_name(new.name)
        .with_kind(new.kind.into())
        .with_start_time(new.began)
        .with_links(links);
    Some(Span(tracer.build_with_context(builder, parent)))
}

impl Span {
    /// Its name for other processes.
    pub fn at(&self) -> SpanRef {
        let context = self.0.span_context();
        SpanRef {
            trace: u128::from_be_bytes(context.trace_id().to_bytes()),
            span: u64::from_be_bytes(context.span_id().to_bytes()),
        }
    }

    /// Say more about it.
    pub fn set(&mut self, key: &'static str, value: impl fmt::Display) {
        self.0.set_attribute(KeyValue::new(key, value.to_string()));
    }

    /// It did not succeed, for this reason.
    pub fn failed(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.0.set_status(Status::error(reason));
    }

    /// It ended then, and not only now.
    pub fn end_at(mut self, when: SystemTime) {
        self.0.end_with_timestamp(when);
    }
}

/// Random ids, but for a first span whose ids were chosen.
#[derive(Debug, Default)]
pub(crate) struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        GIVEN.get().map_or_else(|| self.0.new_trace_id(), |given| TraceId::from(given.trace))
    }

    fn new_span_id(&self) -> SpanId {
        GIVEN.get().map_or_else(|| self.0.new_span_id(), |given| SpanId::from(given.span))
    }
}
