//! Requests that are built once and stamped with other numbers each time.

/// Digits of a job's number inside of its payload.
pub(super) const DIGITS: usize = 10;
/// What a payload is around the number and the filling.
const AROUND: (&str, &str, &str) = (r#"{"n":""#, r#"","pad":""#, r#""}"#);
/// The shortest payload.
pub(super) const MIN_PAYLOAD_BYTES: usize = AROUND.0.len() + DIGITS + AROUND.1.len() + AROUND.2.len();

/// A whole request with room for the numbers of its jobs.
#[derive(Debug, Clone)]
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of each job stand.
    numbers: Vec<usize>,
}

impl Template {
    /// An enqueue of `jobs` jobs: as a single one where `jobs` is 1 and `bulk` is not asked for.
    pub(super) fn enqueue(host: &str, queue: &str, payload_bytes: usize, jobs: u32, bulk: bool) -> Self {
        let mut body = Vec::new();
        let mut numbers = Vec::with_capacity(jobs as usize);
        if bulk {
            body.extend_from_slice(b"{\"jobs\":[");
        }
        for i in 0..jobs {
            if i > 0 {
                body.push(b',');
            }
            body.extend_from_slice(format!(r#"{{"queue":"{queue}","type":"load","payload":"#).as_bytes());
            numbers.push(body.len() + AROUND.0.len());
            let pad = "x".repeat(payload_bytes - MIN_PAYLOAD_BYTES);
            let (before, between, after) = AROUND;
            body.extend_from_slice(format!("{before}{:0DIGITS$}{between}{pad}{after}}}", 0).as_bytes());
        }
        if bulk {
            body.extend_from_slice(b"]}");
        }
        let mut bytes = post(host, if bulk { "/jobs/bulk" } else { "/jobs" }, "", body.len());
        numbers.iter_mut().for_each(|at| *at += bytes.len());
        bytes.append(&mut body);
        Self { bytes, numbers }
    }

    /// The request, for the jobs `first` and following.
    pub(super) fn stamp(&mut self, first: u32) -> &[u8] {
        for (n, &at) in (first..).zip(&self.numbers) {
            let mut rest = n;
            for digit in self.bytes[at..at + DIGITS].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
        }
        &self.bytes
    }
}

/// The head of a `POST` with a body of JSON. `headers` are more headers, each with its CRLF.
pub(super) fn post(host: &str, path: &str, headers: &str, body: usize) -> Vec<u8> {
    let content = if body > 0 { "content-type: application/json\r\n" } else { "" };
    format!("POST {path} HTTP/1.1\r\nhost: {host}\r\n{headers}{content}content-length: {body}\r\n\r\n")
        .into_bytes()
}

/// A `GET` that accepts a media type.
pub(super) fn get(host: &str, path: &str, accept: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\naccept: {accept}\r\n\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn body(request: &[u8]) -> Value {
        let text = std::str::from_utf8(request).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.ends_with(&format!("content-length: {}", body.len())));
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn stamped_requests() {
        let mut bulk = Template::enqueue("h", "q", 100, 3, true);
        for first in [0, 4_294_967_290] {
            let body = body(bulk.stamp(first));
            for (job, n) in body["jobs"].as_array().unwrap().iter().zip(first..) {
                assert_eq!(job["payload"]["n"].as_str().unwrap().parse(), Ok(n));
                assert_eq!(job["payload"].to_string().len(), 100);
            }
        }
        let mut single = Template::enqueue("h", "q", MIN_PAYLOAD_BYTES, 1, false);
        assert_eq!(body(single.stamp(7))["payload"]["n"], "0000000007");
    }
}
