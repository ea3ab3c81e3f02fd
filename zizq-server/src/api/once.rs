//! `Idempotency-Key`: repeats the first answer to a retried call that enqueues jobs.
//!
//! As in [draft-ietf-httpapi-idempotency-key-header](https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).

use std::time::Duration;

use bytes::Bytes;
use protocol::encode;
use protocol::error::{Code, excerpt};
use protocol::id::JobId;
use protocol::media::Format;
use protocol::name::QueueName;
use protocol::payload::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::Xxh3;

use super::enqueue::{Ignored, add_ignored};
use super::refusal::out_of_step;
use super::{App, enqueue, wait};
use crate::access::{Access, Scope};
use crate::engine::command::jobs::{Enqueued, Outcome, Seen};
use crate::engine::command::once::{Once, Repeated};
use crate::http::reply::{self, Answer, Refusal, Success};
use crate::http::request::Request;

/// The longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;
const HEADER: &str = "idempotency-key";

/// Reads the idempotency key of a request, if any, with a fingerprint of the request.
///
/// # Errors
/// 400 for an invalid key.
pub(super) fn of(request: &Request) -> Result<Option<Once>, Refusal> {
    let mut given = request.parts.headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let wrong = |why: String| Refusal::new(Code::InvalidIdempotencyKey, format!("Idempotency-Key: {why}"));
    if given.next().is_some() {
        return Err(wrong("it is given twice".to_owned()));
    }
    let text = String::from_utf8_lossy(value.as_bytes());
    // The draft requires quotes; many clients omit them.
    let text = text.trim();
    let key = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        let bytes = key.len();
        return Err(wrong(format!("it has {bytes} bytes; 1 to {MAX_KEY_BYTES} are expected")));
    }
    if !key.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err(wrong(format!("`{}` has a character that is not printable ASCII", excerpt(key))));
    }
    Ok(Some(Once { key: key.into(), fingerprint: fingerprint(request)? }))
}

fn fingerprint(request: &Request) -> Result<u128, Refusal> {
    let mut hash = Xxh3::new();
    let format = request.body_format()?;
    for part in [request.parts.method.as_str(), request.parts.uri.path(), format.media_type()] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    // Nobody gets the answer to somebody else's call.
    if let Some(token) = request.access().and_then(Access::holder) {
        hash.update(token.as_bytes());
    }
    hash.update(&request.body);
    Ok(hash.digest128())
}

/// The fields read from the stored answer for one job.
#[derive(Deserialize)]
struct Told {
    id: JobId,
    duplicate: bool,
    folded: bool,
    queue: QueueName,
}

fn success(again: &Repeated) -> Success {
    let is_empty = again.jobs.iter().all(Bytes::is_empty);
    if again.created || is_empty { Success::Created } else { Success::Done }
}

/// The jobs of a stored answer, each as JSON.
fn jobs(again: &Repeated) -> Result<Vec<Box<RawValue>>, Refusal> {
    let parts = again.jobs.iter().filter(|part| !part.is_empty()).map(|part| &part[..]);
    let list = [b"[", &parts.collect::<Vec<_>>().join(&b',')[..], b"]"].concat();
    serde_json::from_slice(&list).map_err(|_| out_of_step())
}

fn write(out: &mut Vec<u8>, (format, scope): (Format, &Scope), job: &RawValue, ignored: &[String]) {
    let start = out.len();
    let told = if scope.is_all() { None } else { serde_json::from_str::<Told>(job.get()).ok() };
    if let Some(told) = told.filter(|told| !scope.covers(&told.queue)) {
        enqueue::hidden(out, format, told.id, told.duplicate);
        return add_ignored(out, start, format, ignored);
    }
    let json = Payload::from_checked(Format::Json, Bytes::copy_from_slice(job.get().as_bytes()));
    out.extend_from_slice(&json.to_format(format));
    add_ignored(out, start, format, ignored);
}

pub(super) fn answer_one(request: &Request, again: &Repeated, ignored: &[String]) -> Answer {
    let jobs = jobs(again)?;
    let mut body = Vec::with_capacity(512);
    write(&mut body, (request.format, &request.scope), jobs.first().ok_or_else(out_of_step)?, ignored);
    Ok(reply::bytes(success(again), request.format, body))
}

pub(super) fn answer_bulk((format, scope): (Format, &Scope), again: &Repeated, ignored: &Ignored) -> Answer {
    let jobs = jobs(again)?;
    let mut body = Vec::with_capacity(32 + jobs.len() * 256);
    let write =
        |out: &mut Vec<u8>, (i, job): (usize, &RawValue)| write(out, (format, scope), job, ignored.of(i));
    encode::write_jobs(&mut body, format, jobs.iter().map(|job| &**job).enumerate(), write, None);
    add_ignored(&mut body, 0, format, &ignored.beside);
    Ok(reply::bytes(success(again), format, body))
}

/// Waits for the end of the job of the first call, as the first call did.
pub(super) async fn wait(
    app: &App,
    request: &Request,
    (again, ignored): (&Repeated, &[String]),
    time: Duration,
) -> Answer {
    let told: Told = serde_json::from_slice(&again.jobs.concat()).map_err(|_| out_of_step())?;
    // If the job was deleted in the meantime, return the first answer.
    let ended = wait::for_end(app, told.id, time).await.ok().flatten();
    let now = match ended {
        Some(ended) => ended,
        None => app.reader.job(told.id).await?,
    };
    let Some(Seen { job, queue, status: now }) = now else { return answer_one(request, again, ignored) };
    let outcome = match (told.duplicate, told.folded) {
        (true, _) => Outcome::Duplicate,
        (_, true) => Outcome::Folded,
        _ => Outcome::Created,
    };
    let enqueued = Enqueued { job, queue, status: now, outcome };
    let mut body = Vec::with_capacity(512);
    enqueue::write_ended(&mut body, request, &enqueued);
    add_ignored(&mut body, 0, request.format, ignored);
    Ok(reply::bytes(success(again), request.format, body))
}
