//! The trace context of an attempt (W3C Trace Context): where it comes from, and the span that is sent for the attempt.

use protocol::job::DeliveredJob;
use protocol::trace::{PARENT, STATE, Trace};
use serde_json::Value;
use zizq_spans::{Kind, Span, Spans, names};

use crate::outcome::{Fact, Outcome, signal_name};
use crate::route::{Route, Tracing};

/// An attempt, and its span if its trace is recorded.
#[derive(Debug)]
pub(super) struct Attempt {
    spans: Spans,
    span: Option<Span>,
}

impl Attempt {
    /// Begins an attempt. From then on the job has the context for all that it starts: that of the span, if there is one.
    pub(super) fn begin(spans: &Spans, route: &Route, job: &mut DeliveredJob) -> Self {
        job.trace = of(job);
        let span = spans.wanted(job.trace.as_deref()).map(|trace| {
            let begin = match route.trace {
                Tracing::Child => Span::below,
                Tracing::Link => Span::apart,
            };
            let mut span = begin(trace, Kind::Consumer, "process", &job.queue);
            span.set(names::OPERATION_TYPE, "process");
            span.set(names::JOB_ID, job.id.to_string());
            span.set(names::JOB_TYPE, job.job_type.to_string());
            span.count(names::ATTEMPT, u64::from(job.attempts) + 1);
            span.count(names::DELIVERY, job.deliveries);
            span
        });
        if let Some(span) = &span {
            job.trace = Some(Box::new(span.context().clone()));
        }
        Self { spans: spans.clone(), span }
    }

    /// Ends the attempt.
    pub(super) fn end(self, fact: &Fact, outcome: &Outcome) {
        let Some(mut span) = self.span else { return };
        match fact {
            Fact::Exit(code) => span.count(names::EXIT_CODE, *code),
            Fact::Signal(number) => span.set(names::SIGNAL, signal_name(*number)),
            Fact::Status { status, .. } => span.count(names::STATUS, status.as_u16()),
            _ => {}
        }
        let (became, error) = match outcome {
            Outcome::Success(_) => ("success", None),
            Outcome::Failure(failure) | Outcome::Suspect(failure) => {
                // What the conventions have for an error of no known kind.
                let error_type = failure.error_type.as_deref().unwrap_or("_OTHER");
                ("failure", Some((error_type, failure.message.as_str())))
            }
            Outcome::BackOff { reason } => ("release", Some((fact.error_type(), reason.as_str()))),
            Outcome::Release { .. } => ("release", None),
            Outcome::Stopped => ("stopped", None),
        };
        span.set(names::OUTCOME, became);
        if let Some((error_type, why)) = error {
            span.fail(error_type, why);
        }
        self.spans.end(span);
    }
}

/// The trace context of a job: its member `trace`, or else `traceparent` and `tracestate` of its payload, where producers
/// put them whose client knows no `trace`.
fn of(job: &DeliveredJob) -> Option<Box<Trace>> {
    job.trace.clone().or_else(|| in_payload(job.payload.get()))
}

fn in_payload(payload: &str) -> Option<Box<Trace>> {
    // Most payloads have none and need no parsing.
    if !payload.contains(PARENT) {
        return None;
    }
    let payload: Value = serde_json::from_str(payload).ok()?;
    let text = |name: &str| payload.get(name)?.as_str().map(str::as_bytes);
    Trace::of_headers([text(PARENT)?], text(STATE)).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_may_have_a_context() {
        const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let read = |payload: &str| {
            let trace = in_payload(&payload.replace("GOOD", GOOD))?;
            Some((trace.parent.to_string() == GOOD, trace.state().map(str::to_owned)))
        };
        assert_eq!(read(r#"{"traceparent": "GOOD"}"#), Some((true, None)));
        assert_eq!(
            read(r#"{"traceparent": "GOOD", "tracestate": "a=b"}"#),
            Some((true, Some("a=b".to_owned())))
        );
        assert_eq!(read(r#"{"traceparent": "GOOD", "tracestate": "a\nb"}"#), Some((true, None)));
        for none in [
            r#"{"traceparent": "nonsense"}"#,
            r#"{"traceparent": 5}"#,
            r#"{"tracestate": "a=b"}"#,
            r#"["traceparent", "GOOD"]"#,
            r#"{"a": {"traceparent": "GOOD"}}"#,
            r#""GOOD""#,
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
