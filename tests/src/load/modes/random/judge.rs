//! What is wrong with an answer, if anything.

use protocol::error::Code;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::call::Call;
use crate::load::http::{Answer, Media};

/// What a refusal says, and by which code. Reports on many jobs have lists in its place.
#[derive(Deserialize)]
struct Refusal {
    error: Option<String>,
    code: Code,
    not_found: Option<IgnoredAny>,
    lost: Option<IgnoredAny>,
}

impl Refusal {
    fn says_something(&self, status: u16) -> bool {
        let says_why = self.error.as_ref().is_some_and(|error| !error.trim().is_empty())
            || self.not_found.is_some()
            || self.lost.is_some();
        says_why && self.code.status() == status
    }
}

/// A status that no call should have.
pub(super) fn of_status(status: u16) -> Option<String> {
    const EXPECTED: [u16; 18] =
        [200, 201, 204, 302, 400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 421, 422, 503, 507];
    (!EXPECTED.contains(&status)).then(|| format!("status {status}"))
}

pub(super) fn complaint(call: &Call, answer: &Answer<'_>) -> Option<String> {
    let shown = |what: &str| Some(format!("{what} {}", answer.describe()));
    if of_status(answer.status).is_some() {
        return shown("answered");
    }
    // People who ask for the root are sent to the dashboard.
    if call.method == "HEAD" || matches!(answer.status, 204 | 302) {
        let typed = answer.status == 204 && answer.media != Media::None;
        return if typed || !answer.body.is_empty() { shown("more than a head:") } else { None };
    }
    if answer.status < 400 {
        return if reads::<IgnoredAny>(answer).is_some() { None } else { shown("not readable:") };
    }
    match reads::<Refusal>(answer) {
        Some(refusal) if refusal.says_something(answer.status) => None,
        _ => shown("a refusal without a word:"),
    }
}

fn reads<'a, T: Deserialize<'a>>(answer: &Answer<'a>) -> Option<T> {
    match answer.media {
        Media::Json => serde_json::from_slice(answer.body).ok(),
        Media::Msgpack => rmp_serde::from_slice(answer.body).ok(),
        // The log of a job as it was printed.
        Media::Other => serde_json::from_slice(b"{\"error\":\"\"}").ok(),
        Media::None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(method: &'static str, status: u16, media: Media, body: &[u8]) -> bool {
        let call = Call {
            method,
            pattern: "/",
            path: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            stream: false,
        };
        complaint(&call, &Answer { status, media, closes: false, body }).is_none()
    }

    #[test]
    fn answers_as_they_should_be_and_not() {
        assert!(judged("GET", 200, Media::Json, b"{\"a\":1}"));
        assert!(judged("GET", 200, Media::Msgpack, b"\x81\xa1a\x01"));
        assert!(judged("HEAD", 404, Media::Json, b""));
        assert!(judged("POST", 204, Media::None, b""));
        assert!(judged("POST", 404, Media::Json, b"{\"error\":\"x\",\"code\":\"no_route\"}"));
        assert!(judged("POST", 422, Media::Json, b"{\"code\":\"not_done\",\"not_found\":[]}"));
        assert!(judged("POST", 503, Media::Json, b"{\"error\":\"x\",\"code\":\"busy\"}"));
        assert!(!judged("GET", 200, Media::Json, b"{\"a\":"));
        assert!(!judged("GET", 200, Media::Msgpack, b"\x81\xa1a"));
        assert!(!judged("GET", 200, Media::None, b"x"));
        assert!(!judged("HEAD", 200, Media::Json, b"{}"));
        assert!(!judged("POST", 204, Media::Json, b""));
        assert!(!judged("POST", 404, Media::Json, b""));
        assert!(!judged("POST", 404, Media::Json, b"{\"error\":\" \",\"code\":\"no_route\"}"));
        assert!(!judged("POST", 404, Media::Json, b"{\"error\":\"x\"}"));
        assert!(!judged("POST", 404, Media::Json, b"{\"error\":\"x\",\"code\":\"busy\"}"));
        assert!(!judged("POST", 404, Media::Other, b"no"));
        assert!(!judged("POST", 500, Media::Json, b"{\"error\":\"x\",\"code\":\"store_unreadable\"}"));
        assert!(!judged("POST", 408, Media::Json, b"{\"error\":\"x\",\"code\":\"body_timeout\"}"));
    }
}
