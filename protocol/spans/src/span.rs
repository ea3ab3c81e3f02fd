//! A span: a piece of work in a trace.

use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use protocol::trace::{Parent, Trace};

use crate::names;

/// What a span is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call that was answered.
    Server,
    /// Something between calls.
    Internal,
    /// A job that was worked on.
    Consumer,
}

/// When something began: by the clock on the wall, and by the one that never steps.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    wall: SystemTime,
    up: Instant,
}

impl Moment {
    #[expect(
        clippy::disallowed_methods,
        reason = "spans are dated by the clock on the wall, in more than milliseconds"
    )]
    pub(crate) fn now() -> Self {
        Self { wall: SystemTime::now(), up: Instant::now() }
    }
}

/// A span that has begun.
#[derive(Debug)]
pub struct Span {
    kind: Kind,
    operation: &'static str,
    queue: String,
    /// Its own context: what lies below it has this as its parent.
    context: Trace,
    parent: Option<u64>,
    link: Option<Trace>,
    began: Moment,
    /// When it ended, if that is known before.
    end: Option<SystemTime>,
    attributes: Vec<KeyValue>,
    error: Option<String>,
}

impl Span {
    /// A span named `OPERATION QUEUE` below a context, which it also links to as what created the job.
    #[must_use]
    pub fn below(trace: &Trace, kind: Kind, operation: &'static str, queue: &str) -> Self {
        let own = Parent { span_id: new_id(fastrand::u64), ..trace.parent };
        Self::new(trace.below(own), Some(trace.parent.span_id), trace, kind, operation, queue)
    }

    /// As [`Self::below`], but the span begins a trace of its own, which only links to the context.
    #[must_use]
    pub fn apart(trace: &Trace, kind: Kind, operation: &'static str, queue: &str) -> Self {
        let own = Parent {
            trace_id: new_id(fastrand::u128),
            span_id: new_id(fastrand::u64),
            flags: trace.parent.flags,
        };
        Self::new(Trace::new(own), None, trace, kind, operation, queue)
    }

    fn new(
        context: Trace,
        parent: Option<u64>,
        creation: &Trace,
        kind: Kind,
        operation: &'static str,
        queue: &str,
    ) -> Self {
        Self {
            kind,
            operation,
            queue: queue.to_owned(),
            context,
            parent,
            // The work on a job names what created it; a call is part of that.
            link: (kind == Kind::Consumer).then(|| creation.clone()),
            began: Moment::now(),
            end: None,
            attributes: Vec::with_capacity(8),
            error: None,
        }
    }

    /// The context for what lies below the span.
    #[must_use]
    pub const fn context(&self) -> &Trace {
        &self.context
    }

    /// Lets it have begun before.
    #[must_use]
    pub fn began(mut self, moment: Option<Moment>) -> Self {
        self.began = moment.unwrap_or(self.began);
        self
    }

    /// Lets it begin and end at these times, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn between(mut self, start: u64, end: u64) -> Self {
        let time = |ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
        self.began.wall = time(start).unwrap_or(self.began.wall);
        self.end = time(end);
        self
    }

    /// Gives it an id that follows from a number, which must not be zero.
    #[must_use]
    pub fn numbered(mut self, number: u64) -> Self {
        /// An odd number: different numbers give different ids, and only zero gives zero.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        self.context.parent.span_id = number.wrapping_mul(SPREAD);
        self
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.push(KeyValue::new(name, value));
    }

    /// As [`Self::set`], for a number.
    pub fn count(&mut self, name: &'static str, number: impl TryInto<i64>) {
        self.set(name, number.try_into().unwrap_or(i64::MAX));
    }

    /// Lets it end as an error of this kind, in words.
    pub fn fail(&mut self, error_type: &str, why: &str) {
        self.set(names::ERROR_TYPE, error_type.to_owned());
        self.error = Some(why.to_owned());
    }

    /// The span as it is sent; it ends now.
    pub(crate) fn finished(mut self, scope: &InstrumentationScope) -> SpanData {
        // A clock that is set meanwhile does not change how long it took.
        let end = self.end.unwrap_or_else(|| self.began.wall + self.began.up.elapsed());
        self.set(names::SYSTEM, names::SYSTEM_ZIZQ);
        self.set(names::OPERATION, self.operation);
        self.set(names::QUEUE, self.queue.clone());
        let mut links = SpanLinks::default();
        links.links.extend(self.link.iter().map(|link| Link::with_context(context(link, true))));
        SpanData {
            span_context: context(&self.context, false),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
            parent_span_is_remote: self.parent.is_some(),
            span_kind: match self.kind {
                Kind::Server => SpanKind::Server,
                Kind::Internal => SpanKind::Internal,
                Kind::Consumer => SpanKind::Consumer,
            },
            name: format!("{} {}", self.operation, self.queue).into(),
            start_time: self.began.wall,
            end_time: end,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: scope.clone(),
        }
    }
}

fn context(trace: &Trace, is_remote: bool) -> SpanContext {
    let Parent { trace_id, span_id, flags } = trace.parent;
    let state = trace.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    SpanContext::new(
        TraceId::from_bytes(trace_id.to_be_bytes()),
        SpanId::from_bytes(span_id.to_be_bytes()),
        TraceFlags::new(flags),
        is_remote,
        state,
    )
}

/// A random id; zero is none.
fn new_id<T: Default + PartialEq>(random: impl Fn(std::ops::RangeFull) -> T) -> T {
    loop {
        let id = random(..);
        if id != T::default() {
            return id;
        }
    }
}
