//! `POST /jobs/{id}/log`, `GET /jobs/{id}/log`.

use std::sync::Arc;

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use protocol::body::Malformed;
use protocol::error::Code;
use protocol::frame::StreamFormat;
use protocol::job::Status;
use protocol::log::{Line, MAX_LOG_BYTES, Output, parse_lines};
use protocol::media::{Format, negotiate};
use protocol::outcome::LeasedJob;
use serde_json::json;

use super::refusal::no_job;
use super::{App, not_acceptable};
use super::{claim, follow};
use crate::engine::command::jobs::{GetAttempt, Seen};
use crate::http::reply::{self, Answer, Content, Refusal};
use crate::http::request::Request;
use crate::logs::{Attempt, Excerpt, LogError, text};

impl From<LogError> for Refusal {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full => Self::new(Code::DiskFull, error.to_string()),
            LogError::Busy => Self::busy(error.to_string()),
            LogError::Stopped => Self::new(Code::Stopping, error.to_string()),
            LogError::Store(error) => error.into(),
        }
    }
}

const TEXT: &str = "text/plain";
const LINES: &str = StreamFormat::NdJson.content_type();

pub(crate) async fn append(app: &App, request: &Request) -> Answer {
    let is_text = is_text(request)?;
    let mut query = request.query()?;
    let lease = request.lease(&mut query)?;
    query.finish()?;
    if request.body.len() > MAX_LOG_BYTES {
        let size = request.body.len();
        return Err(Refusal::too_large(format!("the body has {size} bytes; the limit is {MAX_LOG_BYTES}")));
    }
    let body = request.body.clone();
    let read = move || if is_text { Ok(read_text(&body)) } else { read_lines(&body) };
    let text = app.work.on(request.body.len(), read).await??;
    let job = LeasedJob { id: request.job_id()?, lease };
    let number = app.engine.ask(GetAttempt(job)).await.map_err(|error| claim::refused(job, error))?;
    if !text.is_empty() {
        app.logs.append(Attempt { id: job.id, number }, text).await?;
    }
    Ok(reply::no_content())
}

/// Whether the body is plain text rather than lines of JSON. A single JSON value also counts as JSON.
fn is_text(request: &Request) -> Result<bool, Refusal> {
    request.is_plain(&[TEXT, LINES])?;
    let content_type = request.header(CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let is = |media_type: &str| essence.eq_ignore_ascii_case(media_type);
    if is(TEXT) {
        return Ok(true);
    }
    if is(LINES) || Format::of_body(Some(&content_type), &request.body) == Some(Format::Json) {
        return Ok(false);
    }
    let error = format!("content-type: `{}` is not supported here", protocol::error::excerpt(&content_type));
    Err(Refusal::unsupported_media_type(error, &[TEXT, LINES]))
}

fn read_text(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len() + 1);
    if !body.is_empty() {
        text::push(&mut text, Output::Stdout, &String::from_utf8_lossy(body));
    }
    text
}

fn read_lines(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::with_capacity(body.len());
    for line in parse_lines(body) {
        let Line { stream, line } = line?;
        text::push(&mut text, stream, &line);
    }
    Ok(text)
}

/// The representation of a log.
#[derive(Clone, Copy)]
enum Shape {
    Value(Format),
    Text,
    Lines,
    Live,
}

const OFFERS: [(&str, Shape); 5] = [
    ("application/msgpack", Shape::Value(Format::MessagePack)),
    ("application/json", Shape::Value(Format::Json)),
    (TEXT, Shape::Text),
    (LINES, Shape::Lines),
    (StreamFormat::EventStream.content_type(), Shape::Live),
];

pub(crate) async fn read(app: &Arc<App>, request: &Request) -> Answer {
    let shape = negotiate(request.accepted.as_deref(), &OFFERS, Shape::Value(Format::Json));
    let shape = shape.ok_or_else(|| not_acceptable(request, &OFFERS.map(|(media_type, _)| media_type)))?;
    let mut query = request.query()?;
    let asked = query.number("attempt", 1, u64::from(u32::MAX))?;
    let asked = asked.map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    query.finish()?;
    let id = request.job_id()?;
    let seen = app.reader.job(id).await?;
    let seen = seen.ok_or_else(|| no_job(id))?;
    let newest = seen.job.attempts.saturating_add(1);
    if let Some(number) = asked.filter(|number| *number > newest) {
        return Err(Refusal::not_found(format!("job `{id}` has no attempt {number} yet")));
    }
    if matches!(shape, Shape::Live) {
        return follow::stream(app, request, &seen, asked).await;
    }
    let running = (seen.status == Status::InFlight).then_some(newest);
    let excerpt = app.logs.read(id, asked.or(running), 0).await?;
    Ok(match shape {
        Shape::Value(format) => shown(format, &seen, &excerpt),
        Shape::Lines => body(LINES, lines(&excerpt.text)),
        Shape::Text | Shape::Live => body("text/plain; charset=utf-8", plain(&excerpt.text)),
    })
}

fn shown(format: Format, seen: &Seen, excerpt: &Excerpt) -> Response<Content> {
    let lines = text::lines(&excerpt.text).map(|(stream, line)| Line { stream, line });
    let lines: Vec<Line<'_>> = lines.collect();
    let mut shown = json!({"id": seen.job.id, "lines": lines});
    if let Some(members) = shown.as_object_mut() {
        members.extend(excerpt.attempt.map(|number| ("attempt".to_owned(), json!(number))));
        if excerpt.missed > 0 {
            members.insert("missed_bytes".to_owned(), json!(excerpt.missed));
        }
    }
    reply::ok(format, &shown)
}

fn lines(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() * 2);
    for (stream, line) in text::lines(text) {
        protocol::encode::write(&mut out, Format::Json, &Line { stream, line });
        out.push(b'\n');
    }
    out
}

fn plain(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    for (_, line) in text::lines(text) {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    out
}

fn body(content_type: &'static str, bytes: Vec<u8>) -> Response<Content> {
    let mut response = Response::new(Content::Whole(bytes));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
