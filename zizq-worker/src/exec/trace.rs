//! The trace context of an attempt (W3C Trace Context): where it comes from.

use protocol::job::DeliveredJob;
use protocol::trace::{PARENT, STATE, Trace};
use serde_json::Value;

/// The trace context of a job: its member `trace`, or else `traceparent` and `tracestate` of its payload, where producers
/// put them whose client knows no `trace`.
pub(super) fn of(job: &DeliveredJob) -> Option<Box<Trace>> {
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
