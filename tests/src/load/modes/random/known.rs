//! Jobs that were heard of, so that calls are about jobs that there are.

use fastrand::Rng;
use memchr::memmem;

const KEPT: usize = 128;
const ID: usize = 25;
const LEASE: usize = 16;

/// The last ids, and the lease tokens that came with them.
#[derive(Debug, Default)]
pub(super) struct Known {
    jobs: Vec<(String, Option<String>)>,
    next: usize,
}

impl Known {
    /// Reads what an answer tells of jobs, in JSON or in MessagePack.
    pub(super) fn learn(&mut self, body: &[u8]) {
        let mut rest = body;
        let (id_mark, lease_mark): (&[u8], &[u8]) = if body.first() == Some(&b'{') {
            (b"\"id\":\"", b"\"lease\":\"")
        } else {
            (b"\xa2id\xb9", b"\xa5lease\xb0")
        };
        for _ in 0..4 {
            let Some((id, behind)) = text_of(rest, id_mark, ID) else { return };
            let lease = text_of(behind, lease_mark, LEASE);
            self.keep(id, lease.map(|(lease, _)| lease));
            rest = behind;
        }
    }

    fn keep(&mut self, id: String, lease: Option<String>) {
        if self.jobs.len() < KEPT {
            self.jobs.push((id, lease));
        } else {
            self.jobs[self.next % KEPT] = (id, lease);
            self.next += 1;
        }
    }

    /// A job, or one that there never was.
    pub(super) fn job(&self, rng: &mut Rng) -> (String, Option<String>) {
        let known = if self.jobs.is_empty() || rng.u32(..20) == 0 {
            None
        } else {
            Some(rng.usize(..self.jobs.len()))
        };
        known.map_or_else(|| ("0123456789012345678901234".to_owned(), None), |at| self.jobs[at].clone())
    }
}

/// The first word of this length that stands behind a mark, and the bytes after it. A mark inside a payload is passed over.
fn text_of<'a>(mut bytes: &'a [u8], mark: &[u8], len: usize) -> Option<(String, &'a [u8])> {
    loop {
        bytes = &bytes[memmem::find(bytes, mark)? + mark.len()..];
        let text = std::str::from_utf8(bytes.get(..len)?);
        if let Some(text) = text.ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_alphanumeric())) {
            return Some((text.to_owned(), &bytes[len..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_leases_are_found_in_both_formats() {
        let job = serde_json::json!({"id": "a".repeat(ID), "lease": "b".repeat(LEASE)});
        for body in [job.to_string().into_bytes(), rmp_serde::to_vec_named(&job).unwrap()] {
            let mut known = Known::default();
            known.learn(&body);
            assert_eq!(known.jobs, [("a".repeat(ID), Some("b".repeat(LEASE)))]);
        }
        let mut known = Known::default();
        let payload = serde_json::json!({"id": "x", "queue": ["a", "b", "c", "d", "e"]});
        known.learn(serde_json::json!({"a": payload, "id": "a".repeat(ID)}).to_string().as_bytes());
        assert_eq!(known.jobs, [("a".repeat(ID), None)], "what is in a payload is no id");
    }
}
