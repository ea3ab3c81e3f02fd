//! Writes jobs in either format, copying the payload without parsing it.

use serde::Serialize;

use crate::job::JobView;
use crate::media::Format;
use crate::page::Pages;
use crate::payload::Payload;

/// Appends a value in `format`. Serializing our own types cannot fail.
pub fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, format: Format, value: &T) {
    let written = match format {
        Format::Json => serde_json::to_writer(out, value).map_err(|e| e.to_string()),
        Format::MessagePack => rmp_serde::encode::write_named(out, value).map_err(|e| e.to_string()),
    };
    debug_assert_eq!(written, Ok(()), "a wire type can be written");
}

/// Appends a job. The payload, if given, becomes its last member without being parsed.
pub fn write_job(out: &mut Vec<u8>, format: Format, job: &JobView<'_>, payload: Option<&Payload>) {
    let start = out.len();
    write(out, format, job);
    if let Some(payload) = payload {
        add_member(out, start, format, "payload", payload);
    }
}

/// As [`write_job`], with the result of the job as one more member, if it has one.
pub fn write_job_with_result(
    out: &mut Vec<u8>,
    format: Format,
    job: &JobView<'_>,
    payload: Option<&Payload>,
    result: Option<&Payload>,
) {
    let start = out.len();
    write_job(out, format, job, payload);
    if let Some(result) = result {
        add_member(out, start, format, "result", result);
    }
}

/// Adds a member to the object that begins at `start` and ends the output.
pub fn add_value<T: Serialize + ?Sized>(
    out: &mut Vec<u8>,
    start: usize,
    format: Format,
    name: &str,
    value: &T,
) {
    if format == Format::MessagePack {
        add_map_entry(out, start);
        write(out, format, name);
        return write(out, format, value);
    }
    out.pop();
    out.push(b',');
    write(out, format, name);
    out.push(b':');
    write(out, format, value);
    out.push(b'}');
}

/// Adds a member to the job that begins at `start` and ends the output.
fn add_member(out: &mut Vec<u8>, start: usize, format: Format, name: &str, value: &Payload) {
    match format {
        Format::Json => {
            out.pop();
            out.extend_from_slice(b",\"");
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(&value.to_format(format));
            out.push(b'}');
        }
        Format::MessagePack => {
            add_map_entry(out, start);
            write(out, format, name);
            out.extend_from_slice(&value.to_format(format));
        }
    }
}

/// Counts one more entry in the header of the MessagePack map at `start`: a job has too few members for `map 32`.
fn add_map_entry(out: &mut Vec<u8>, start: usize) {
    const FIXMAP_14: u8 = 0x8e;
    const FIXMAP_15: u8 = 0x8f;
    const MAP_16: u8 = 0xde;
    match out.get_mut(start..) {
        Some([header @ 0x80..=FIXMAP_14, ..]) => *header += 1,
        Some([FIXMAP_15, ..]) => drop(out.splice(start..=start, [MAP_16, 0, 16])),
        Some([MAP_16, _, low, ..]) => *low += 1,
        _ => debug_assert!(false, "a job is a map"),
    }
}

/// Appends `{"jobs": [...]}`, with each element written by `write_element`, followed by `pages` if given.
pub fn write_jobs<I: ExactSizeIterator>(
    out: &mut Vec<u8>,
    format: Format,
    jobs: I,
    mut write_element: impl FnMut(&mut Vec<u8>, I::Item),
    pages: Option<&Pages>,
) {
    match format {
        Format::Json => {
            out.extend_from_slice(b"{\"jobs\":[");
            for (i, job) in jobs.enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_element(out, job);
            }
            out.push(b']');
            if let Some(pages) = pages {
                out.extend_from_slice(b",\"pages\":");
                write(out, format, pages);
            }
            out.push(b'}');
        }
        Format::MessagePack => {
            out.push(if pages.is_some() { 0x82 } else { 0x81 });
            out.extend_from_slice(b"\xa4jobs\xdd");
            out.extend_from_slice(&u32::try_from(jobs.len()).unwrap_or(u32::MAX).to_be_bytes());
            jobs.for_each(|job| write_element(out, job));
            if let Some(pages) = pages {
                write(out, format, "pages");
                write(out, format, pages);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Batch, Expression, Key, UniqueWhile};
    use crate::id::JobId;
    use crate::job::{Backoff, LastError, Retention, Status};
    use crate::lease::LeaseToken;
    use crate::name::{JobType, QueueName};
    use crate::trace::{Parent, Trace};
    use bytes::Bytes;
    use serde_json::{Value, json};

    /// Every number of members a job can have, so that both forms of the map header are met.
    #[test]
    fn payload_is_spliced_into_jobs_of_any_size() {
        let (queue, job_type) = (QueueName::new("q").unwrap(), JobType::new("t").unwrap());
        let payload = Payload::from_checked(Format::Json, Bytes::from_static(b"{\"x\":[1,2.5]}"));
        let key = Key::new("k").unwrap();
        let (when, fold) = (Expression::new("true").unwrap(), Expression::new("$new").unwrap());
        let batch = Batch { key: key.clone(), when, fold };
        let parent = Parent { trace_id: 1, span_id: 2, flags: 1 };
        let trace = Trace::new(parent);
        let last_error = LastError { error_type: None, message: "m".to_owned(), at: 3 };
        for optional in 0..=18_u32 {
            let has = |i: u32| (optional > i).then_some(u64::from(i));
            let view = JobView {
                id: JobId::from_u128(1),
                job_type: &job_type,
                queue: &queue,
                priority: 1,
                status: Status::Ready,
                ready_at: 5,
                attempts: 0,
                retry_limit: has(0).map(|_| 3),
                backoff: has(1).map(|_| Backoff { base_ms: 1, exponent: 2.0, jitter_ms: 3 }),
                dequeued_at: has(2),
                failed_at: has(3),
                last_error: has(16).map(|_| &last_error),
                completed_at: has(4),
                retention: has(5).map(|_| Retention::default()),
                purge_at: has(6),
                lease: has(7).map(LeaseToken::from_u64),
                lease_expires_at: has(8),
                deliveries: has(9).map(|_| 1),
                duplicate: has(10).map(|_| false),
                folded: None,
                timeout_ms: has(11),
                unique_key: has(12).map(|_| &key),
                unique_while: has(13).map(|_| UniqueWhile::Active),
                budgets: has(14).map(|_| &[][..]),
                batch: has(15).map(|_| &batch),
                trace: has(17).map(|_| &trace),
            };
            let mut bare = serde_json::to_value(&view).unwrap();
            bare["payload"] = json!({"x": [1, 2.5]});
            let (mut text, mut packed) = (Vec::new(), Vec::new());
            write_job(&mut text, Format::Json, &view, Some(&payload));
            write_job(&mut packed, Format::MessagePack, &view, Some(&payload));
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), bare);
            assert_eq!(rmp_serde::from_slice::<Value>(&packed).unwrap(), bare);
        }
    }

    #[test]
    fn lists() {
        for format in [Format::Json, Format::MessagePack] {
            let pages = Pages { this: "/a".to_owned(), next: None, prev: Some("/b".to_owned()) };
            for pages in [None, Some(&pages)] {
                let mut out = Vec::new();
                write_jobs(&mut out, format, [1, 2].into_iter(), |out, n| write(out, format, &n), pages);
                let value: Value = match format {
                    Format::Json => serde_json::from_slice(&out).unwrap(),
                    Format::MessagePack => rmp_serde::from_slice(&out).unwrap(),
                };
                let mut expected = json!({"jobs": [1, 2]});
                if pages.is_some() {
                    expected["pages"] = json!({"self": "/a", "next": null, "prev": "/b"});
                }
                assert_eq!(value, expected);
            }
        }
    }
}
