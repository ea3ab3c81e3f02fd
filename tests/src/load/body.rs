//! Bodies of requests, in JSON and in MessagePack.

use anyhow::Result;
use clap::ValueEnum;
use memchr::memmem;
use serde_json::{Map, Value};

use super::frames::Delivery;
use super::template::{Template, payload};

/// The format of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Body {
    /// application/json
    #[default]
    Json,
    /// application/msgpack
    Msgpack,
}

impl Body {
    /// What to say in `Content-Type`.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Msgpack => "application/msgpack",
        }
    }

    /// An enqueue of some jobs: `queue` and `members` go into each. A bulk, or a single job.
    pub(super) fn enqueue(
        self,
        (queue, members): (&str, &Map<String, Value>),
        payload_bytes: usize,
        jobs: u32,
        bulk: bool,
    ) -> Result<Template> {
        let payload: Value = serde_json::from_str(&payload(payload_bytes))?;
        let mut job = serde_json::json!({"queue": queue, "type": "load", "payload": payload});
        if let Some(job) = job.as_object_mut() {
            job.extend(members.clone());
        }
        let job = match self {
            Self::Json => serde_json::to_vec(&job)?,
            Self::Msgpack => rmp_serde::to_vec_named(&job)?,
        };
        let (head, between, tail) = match self {
            _ if !bulk => (Vec::new(), &b""[..], &b""[..]),
            Self::Json => (b"{\"jobs\":[".to_vec(), &b","[..], &b"]}"[..]),
            Self::Msgpack => ([&b"\x81\xa4jobs\xdd"[..], &jobs.to_be_bytes()].concat(), &b""[..], &b""[..]),
        };
        Ok(Template::new(&head, &job, between, tail, jobs))
    }

    /// How many jobs an answer to an enqueue confirms.
    pub(super) fn confirmed(self, answer: &[u8]) -> usize {
        match self {
            Self::Json => memmem::find_iter(answer, b"\"id\":\"").count(),
            Self::Msgpack => memmem::find_iter(answer, b"\xa2id\xb9").count(),
        }
    }

    /// The body of `POST /jobs/success`: with leases where the server gave any, which it does for all or for none.
    pub(super) fn write_successes(self, body: &mut Vec<u8>, jobs: &[Delivery]) {
        let leases = jobs.first().is_some_and(|job| job.lease.is_some());
        match self {
            Self::Json => write_json(body, jobs, leases),
            Self::Msgpack => write_msgpack(body, jobs, leases),
        }
    }
}

fn write_json(body: &mut Vec<u8>, jobs: &[Delivery], leases: bool) {
    body.extend_from_slice(if leases { b"{\"jobs\":[" } else { b"{\"ids\":[" });
    for job in jobs {
        let (before, after): (&[u8], &[u8]) = if leases { (b"{\"id\":\"", b"\"") } else { (b"\"", b"\",") };
        body.extend_from_slice(before);
        body.extend_from_slice(&job.id);
        body.extend_from_slice(after);
        if let Some(lease) = &job.lease {
            body.extend_from_slice(b",\"lease\":\"");
            body.extend_from_slice(lease);
            body.extend_from_slice(b"\"},");
        }
    }
    body.pop();
    body.extend_from_slice(b"]}");
}

fn write_msgpack(body: &mut Vec<u8>, jobs: &[Delivery], leases: bool) {
    body.extend_from_slice(if leases { b"\x81\xa4jobs\xdd" } else { b"\x81\xa3ids\xdd" });
    body.extend_from_slice(&u32::try_from(jobs.len()).unwrap_or(u32::MAX).to_be_bytes());
    for job in jobs {
        body.extend_from_slice(if leases { b"\x82\xa2id\xb9" } else { b"\xb9" });
        body.extend_from_slice(&job.id);
        if let Some(lease) = &job.lease {
            body.extend_from_slice(b"\xa5lease\xb0");
            body.extend_from_slice(lease);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Body, bytes: &[u8]) -> Value {
        match body {
            Body::Json => serde_json::from_slice(bytes).unwrap(),
            Body::Msgpack => rmp_serde::from_slice(bytes).unwrap(),
        }
    }

    #[test]
    fn enqueues() {
        let members = json!({"ready_at": 5}).as_object().unwrap().clone();
        for body in [Body::Json, Body::Msgpack] {
            let mut bulk = body.enqueue(("q-@@@@@@@@@@", &members), 100, 2, true).unwrap();
            let value = read(body, bulk.stamp(7));
            assert_eq!(value["jobs"].as_array().unwrap().len(), 2);
            assert_eq!(value["jobs"][1]["queue"], "q-0000000008");
            assert_eq!(value["jobs"][1]["payload"]["n"], "0000000008");
            assert_eq!(value["jobs"][1]["ready_at"], 5);
            let mut single = body.enqueue(("q", &Map::new()), 40, 1, false).unwrap();
            assert_eq!(read(body, single.stamp(1))["queue"], "q");
        }
    }

    #[test]
    fn successes() {
        let job = |lease| Delivery { n: 0, id: [b'1'; 25], lease };
        let (id, lease) = ("1".repeat(25), "2".repeat(16));
        for body in [Body::Json, Body::Msgpack] {
            let value = |lease| {
                let mut bytes = Vec::new();
                body.write_successes(&mut bytes, &[job(lease), job(lease)]);
                read(body, &bytes)
            };
            assert_eq!(value(None), json!({"ids": [id, id]}));
            let one = json!({"id": id, "lease": lease});
            assert_eq!(value(Some([b'2'; 16])), json!({"jobs": [one, one]}));
        }
    }

    #[test]
    fn confirmations() {
        let id = "0123456789abcdefghijklmno";
        let answer = json!({"jobs": [{"id": id}, {"id": id}]});
        assert_eq!(Body::Json.confirmed(answer.to_string().as_bytes()), 2);
        assert_eq!(Body::Msgpack.confirmed(&rmp_serde::to_vec_named(&answer).unwrap()), 2);
    }
}
